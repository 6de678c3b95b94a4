// SPDX-License-Identifier: GPL-2.0
/* Work queues of our own. */
#include <linux/export.h>
#include <linux/workqueue.h>
#include "../shims.h"

struct workqueue_struct *lio_workqueue_alloc(const char *name, bool percpu, bool rescuer, u32 max_active)
{
	unsigned int flags = percpu ? WQ_PERCPU : WQ_UNBOUND;

	if (rescuer)
		flags |= WQ_MEM_RECLAIM;
	return alloc_workqueue("%s", flags, max_active, name);
}
EXPORT_SYMBOL_GPL(lio_workqueue_alloc);
