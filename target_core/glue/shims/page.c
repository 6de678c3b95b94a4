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
 * on that as the copy into the page costs, and memory that was just used is in the cache. Half a megabyte per CPU, which
 * goes back when memory is short.
 */
static const unsigned char pool_room[LIO_PAGE_MAX_ORDER + 1] = { 16, 8, 8, 8 };

struct pool {
	unsigned char n[LIO_PAGE_MAX_ORDER + 1];
	struct page *page[LIO_PAGE_MAX_ORDER + 1][16];
};

static DEFINE_PER_CPU(struct pool, pools);

/* The contents are what an earlier command left there. */
struct page *lio_page_reuse(unsigned int order)
{
	struct page *page = NULL;
	unsigned long flags;
	struct pool *pool;

	local_irq_save(flags);
	pool = this_cpu_ptr(&pools);
	if (order <= LIO_PAGE_MAX_ORDER && pool->n[order])
		page = pool->page[order][--pool->n[order]];
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

	/* Nobody else has it who might read, or write, what the next command has there. */
	if (page_count(page) == 1 && order <= LIO_PAGE_MAX_ORDER && !page_is_pfmemalloc(page) &&
	    page_to_nid(page) == numa_mem_id()) {
		local_irq_save(flags);
		pool = this_cpu_ptr(&pools);
		if (pool->n[order] < pool_room[order]) {
			pool->page[order][pool->n[order]++] = page;
			page = NULL;
		}
		local_irq_restore(flags);
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

/* On a CPU that has some, with interrupts off: nothing is freed here, where PREEMPT_RT must not. */
static void pool_empty(void *pages)
{
	struct pool *pool = this_cpu_ptr(&pools);
	unsigned int order;

	for (order = 0; order <= LIO_PAGE_MAX_ORDER; order++)
		while (pool->n[order])
			llist_add(&pool->page[order][--pool->n[order]]->pcp_llist, pages);
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

/* Before anything retires pages; 0 or -ENOMEM. */
int lio_pages_prepare(void)
{
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
	for_each_possible_cpu(cpu) {
		struct pool *pool = per_cpu_ptr(&pools, cpu);

		for (order = 0; order <= LIO_PAGE_MAX_ORDER; order++)
			while (pool->n[order])
				put_page(pool->page[order][--pool->n[order]]);
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
