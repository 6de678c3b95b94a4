// SPDX-License-Identifier: GPL-2.0
/* Pages that carry data: one reference per segment, compound so that any of their bytes may be spliced. */
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/shrinker.h>
#include <linux/smp.h>
#include "../shims.h"

struct page *lio_page_alloc(unsigned int order, bool zero, bool atomic)
{
	gfp_t gfp = atomic ? GFP_NOWAIT : GFP_KERNEL;

	if (zero)
		gfp |= __GFP_ZERO;
	/*
	 * An initiator says how much, and more of them than there is memory for may: rather than have processes killed,
	 * or wait for ever where nothing may be written to free memory, its command fails.
	 */
	if (!order && !atomic)
		gfp |= __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	if (order)
		gfp = (gfp | __GFP_COMP | __GFP_NOWARN | __GFP_NORETRY) & ~__GFP_DIRECT_RECLAIM;
	return alloc_pages(gfp, order);
}
EXPORT_SYMBOL_GPL(lio_page_alloc);

/* In one piece, for what cannot take several: harder to get, but never by having processes killed. */
struct page *lio_page_contiguous(unsigned int order)
{
	return alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_RETRY_MAYFAIL | __GFP_NOWARN, order);
}
EXPORT_SYMBOL_GPL(lio_page_contiguous);

/*
 * Pages that carried a command's data, kept for the next one: kernels that clear what they allocate would spend as much
 * on that as the copy into the page costs, and memory that was just used is in the cache. At most so many of each order per
 * CPU, 1152 KiB in all, which go back when memory is short.
 *
 * TCP has what was sent until it is acknowledged, which is after its command has ended: such pages are kept too, in the order
 * in which they came, and are handed out when nobody else has them any more.
 */
static const struct {
	unsigned char at, room;
} pool_part[LIO_PAGE_MAX_ORDER + 1] = { { 0, 64 }, { 64, 16 }, { 80, 16 }, { 96, 16 } };

/* For each order n of them, the oldest being the one at first, round the end of its part of the array. */
struct pool {
	unsigned char first[LIO_PAGE_MAX_ORDER + 1], n[LIO_PAGE_MAX_ORDER + 1];
	struct page *page[112];
};

static DEFINE_PER_CPU(struct pool, pools);

/* The i-th, from the oldest on. */
static struct page **pool_at(struct pool *pool, unsigned int order, unsigned int i)
{
	return &pool->page[pool_part[order].at + (pool->first[order] + i) % pool_part[order].room];
}

static struct page *pool_pop(struct pool *pool, unsigned int order)
{
	struct page *page = *pool_at(pool, order, 0);

	pool->first[order] = (pool->first[order] + 1) % pool_part[order].room;
	pool->n[order]--;
	return page;
}

/*
 * Whether the pool's reference is the only one: then nobody else can get one, and what others did with the page came before they
 * gave theirs back.
 */
static bool page_is_ours(struct page *page)
{
	if (page_count(page) != 1)
		return false;
	smp_acquire__after_ctrl_dep();
	return true;
}

/* The contents are what an earlier command left there. */
struct page *lio_page_reuse(unsigned int order)
{
	struct page *page = NULL;
	unsigned long flags;
	struct pool *pool;

	if (order > LIO_PAGE_MAX_ORDER)
		return NULL;
	local_irq_save(flags);
	pool = this_cpu_ptr(&pools);
	if (pool->n[order]) {
		struct page **newest = pool_at(pool, order, pool->n[order] - 1);
		struct page **oldest = pool_at(pool, order, 0);
		struct page **second = pool_at(pool, order, 1);

		/* The newest, which is in the cache; else what TCP has had longest, but for one that a connection in trouble keeps. */
		if (page_is_ours(*newest)) {
			page = *newest;
			pool->n[order]--;
		} else if (page_is_ours(*oldest)) {
			page = pool_pop(pool, order);
		} else if (pool->n[order] > 2 && page_is_ours(*second)) {
			page = *second;
			*second = pool_pop(pool, order);
		}
	}
	local_irq_restore(flags);
	return page;
}
EXPORT_SYMBOL_GPL(lio_page_reuse);

/* As lio_page_put(), for a page that lio_page_alloc() or lio_page_reuse() gave. Any context. */
void lio_page_retire(struct page *page)
{
	unsigned int order = compound_order(page);
	unsigned long flags;
	struct pool *pool;

	if (order <= LIO_PAGE_MAX_ORDER && !page_is_pfmemalloc(page) && page_to_nid(page) == numa_mem_id()) {
		struct page *oldest = NULL;

		local_irq_save(flags);
		pool = this_cpu_ptr(&pools);
		if (pool->n[order] == pool_part[order].room)
			oldest = pool_pop(pool, order);
		*pool_at(pool, order, pool->n[order]++) = page;
		local_irq_restore(flags);
		page = oldest;
	}
	if (page)
		put_page(page);
}
EXPORT_SYMBOL_GPL(lio_page_retire);

static struct shrinker *pool_shrinker;

static unsigned long pool_pages(int cpu)
{
	unsigned long pages = 0;
	unsigned int order;

	for (order = 0; order <= LIO_PAGE_MAX_ORDER; order++)
		pages += (unsigned long)data_race(per_cpu_ptr(&pools, cpu)->n[order]) << order;
	return pages;
}

static unsigned long pool_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	unsigned long pages = 0;
	unsigned int cpu;

	for_each_online_cpu(cpu)
		pages += pool_pages(cpu);
	return pages ?: SHRINK_EMPTY;
}

static bool pool_has_some(int cpu, void *pages)
{
	return pool_pages(cpu);
}

/*
 * On a CPU that has some, with interrupts off: nothing is freed here, where PREEMPT_RT must not. TCP may have some of them, and
 * does not use this word of theirs.
 */
static void pool_empty(void *pages)
{
	struct pool *pool = this_cpu_ptr(&pools);
	unsigned int order;

	for (order = 0; order <= LIO_PAGE_MAX_ORDER; order++)
		while (pool->n[order])
			llist_add(&pool_pop(pool, order)->pcp_llist, pages);
}

/* All of them, whatever is asked for: they are few. */
static unsigned long pool_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct page *page, *next;
	unsigned long freed = 0;
	LLIST_HEAD(pages);

	on_each_cpu_cond(pool_has_some, pool_empty, &pages, true);
	llist_for_each_entry_safe(page, next, llist_del_all(&pages), pcp_llist) {
		freed += 1UL << compound_order(page);
		put_page(page);
	}
	return freed ?: SHRINK_STOP;
}

/* Before anything retires pages; 0, -ENOMEM, or -EBUSY if it was done. */
int lio_pages_prepare(void)
{
	if (pool_shrinker)
		return -EBUSY;
	pool_shrinker = shrinker_alloc(0, "lio-pages");
	if (!pool_shrinker)
		return -ENOMEM;
	pool_shrinker->count_objects = pool_count;
	pool_shrinker->scan_objects = pool_scan;
	shrinker_register(pool_shrinker);
	return 0;
}
EXPORT_SYMBOL_GPL(lio_pages_prepare);

/* When nothing can retire pages any more. */
void lio_pages_release(void)
{
	unsigned int cpu, order;

	shrinker_free(pool_shrinker);
	pool_shrinker = NULL;
	for_each_possible_cpu(cpu) {
		struct pool *pool = per_cpu_ptr(&pools, cpu);

		for (order = 0; order <= LIO_PAGE_MAX_ORDER; order++)
			while (pool->n[order])
				put_page(pool_pop(pool, order));
	}
}
EXPORT_SYMBOL_GPL(lio_pages_release);

void lio_page_get(struct page *page)
{
	get_page(page);
}
EXPORT_SYMBOL_GPL(lio_page_get);

void lio_page_put(struct page *page)
{
	put_page(page);
}
EXPORT_SYMBOL_GPL(lio_page_put);

void *lio_page_address(struct page *page)
{
	return page_address(page);
}
EXPORT_SYMBOL_GPL(lio_page_address);
