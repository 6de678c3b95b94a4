// SPDX-License-Identifier: GPL-2.0
/*
 * Pages in an xarray, found without a lock as the page cache finds its own: take a reference on what may be
 * the page, then see that it still is.
 */
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/xarray.h>
#include "../shims.h"

/* out[i]: the page at first + i with a reference, or NULL */
void lio_pages_find(struct xarray *xa, unsigned long first, u32 n, struct page **out)
{
	XA_STATE(xas, xa, first);
	struct page *page;
	u32 i;

	rcu_read_lock();
	for (i = 0; i < n; i++) {
		page = i ? xas_next(&xas) : xas_load(&xas);
		if (unlikely(xas.xa_index != first + i)) {
			xas_set(&xas, first + i);
			page = xas_load(&xas);
		}
		while (page) {
			if (!xas_retry(&xas, page)) {
				if (likely(get_page_unless_zero(page))) {
					if (likely(page == xas_reload(&xas)))
						break;
					put_page(page);
				}
				xas_reset(&xas);
			}
			page = xas_load(&xas);
		}
		out[i] = page;
	}
	rcu_read_unlock();
}
EXPORT_SYMBOL_GPL(lio_pages_find);

/* Gives the store a reference on page as the one at index, if it has none there; 0, -EEXIST or another errno. */
int lio_pages_add(struct xarray *xa, unsigned long index, struct page *page)
{
	void *old;

	get_page(page);
	old = xa_cmpxchg(xa, index, NULL, page, GFP_NOIO | __GFP_NOWARN);
	if (!old)
		return 0;
	put_page(page);
	return xa_err(old) ?: -EEXIST;
}
EXPORT_SYMBOL_GPL(lio_pages_add);

/*
 * How many more pages there is memory for. Nothing can take them back, and allocating would go on until every process was
 * killed for them: a sixteenth of the memory, a GiB at most, is left alone.
 */
unsigned long lio_pages_room(void)
{
	long room = si_mem_available() - (long)min(totalram_pages() / 16, SZ_1G >> PAGE_SHIFT);

	return max(room, 0L);
}
EXPORT_SYMBOL_GPL(lio_pages_room);

/* Whether there is memory for more pages. */
bool lio_pages_spare(void)
{
	return lio_pages_room() > 0;
}
EXPORT_SYMBOL_GPL(lio_pages_spare);

/* Takes the pages first..last out; how many those were. Who has found one before may go on using it. */
unsigned long lio_pages_drop(struct xarray *xa, unsigned long first, unsigned long last)
{
	XA_STATE(xas, xa, first);
	struct page *page;
	unsigned long done = 0;

	xas_lock(&xas);
	xas_for_each(&xas, page, last) {
		xas_store(&xas, NULL);
		put_page(page);
		if (++done % 256)
			continue;
		xas_pause(&xas);
		xas_unlock(&xas);
		cond_resched();
		xas_lock(&xas);
	}
	xas_unlock(&xas);
	return done;
}
EXPORT_SYMBOL_GPL(lio_pages_drop);

/*
 * Whether there is a page at first; returns the index, last + 1 at most, up to which that goes on. No more than 65,536 pages that are
 * there are looked at.
 */
unsigned long lio_pages_run(struct xarray *xa, unsigned long first, unsigned long last, bool *there)
{
	unsigned long index = first, end;
	void *page;

	page = xa_find(xa, &index, last, XA_PRESENT);
	*there = page && index == first;
	if (!*there)
		return page ? index : last + 1;
	end = min(last, first + 65535);
	while (index < end && xa_load(xa, index + 1))
		index++;
	return index + 1;
}
EXPORT_SYMBOL_GPL(lio_pages_run);

static bool are_pages(const void *to, const void *from, size_t len)
{
	return !(((unsigned long)to | (unsigned long)from | len) & ~PAGE_MASK);
}

/* A whole page has its own routine, which is the faster one where long string moves are slow to start. */
void lio_copy(void *to, const void *from, size_t len)
{
	if (len == PAGE_SIZE && are_pages(to, from, len))
		copy_page(to, (void *)from);
	else
		memcpy(to, from, len);
}
EXPORT_SYMBOL_GPL(lio_copy);

/* The same where the two may overlap. */
void lio_move(void *to, const void *from, size_t len)
{
	size_t at;

	if (!are_pages(to, from, len) || (to < from + len && from < to + len)) {
		memmove(to, from, len);
		return;
	}
	for (at = 0; at < len; at += PAGE_SIZE)
		copy_page(to + at, (void *)from + at);
}
EXPORT_SYMBOL_GPL(lio_move);
