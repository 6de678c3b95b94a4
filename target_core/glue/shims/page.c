// SPDX-License-Identifier: GPL-2.0
/* Pages that carry data: one reference per segment, compound so that any of their bytes may be spliced. */
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/mm.h>
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
