// SPDX-License-Identifier: GPL-2.0
/* Wait queues. */
#include <linux/export.h>
#include <linux/wait.h>
#include "../shims.h"

void lio_wait_init(struct wait_queue_head *wait)
{
	init_waitqueue_head(wait);
}
EXPORT_SYMBOL_GPL(lio_wait_init);

bool lio_wait_active(struct wait_queue_head *wait)
{
	return wq_has_sleeper(wait);
}
EXPORT_SYMBOL_GPL(lio_wait_active);
