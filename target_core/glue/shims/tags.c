// SPDX-License-Identifier: GPL-2.0
/* Tags out of an sbitmap. */
#include <linux/export.h>
#include <linux/sbitmap.h>
#include "../shims.h"

int lio_tags_init(struct sbitmap *sb, u32 depth)
{
	return sbitmap_init_node(sb, depth, -1, GFP_KERNEL, NUMA_NO_NODE, false, true);
}
EXPORT_SYMBOL_GPL(lio_tags_init);

void lio_tags_free(struct sbitmap *sb)
{
	sbitmap_free(sb);
}
EXPORT_SYMBOL_GPL(lio_tags_free);

void lio_tags_put(struct sbitmap *sb, u32 tag)
{
	/* What was done under the tag is done before the tag is free. */
	smp_mb__before_atomic();
	sbitmap_put(sb, tag);
	/* Whoever has begun to wait for tags to be free is seen after this, or sees it. No instruction where atomics are barriers. */
	smp_mb__after_atomic();
}
EXPORT_SYMBOL_GPL(lio_tags_put);
