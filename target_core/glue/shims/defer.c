// SPDX-License-Identifier: GPL-2.0
/* Work that waits for a grace period, or for process context, and that a module can wait for before it goes. */
#include <linux/export.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include "../shims.h"
#include "defer.h"

struct workqueue_struct *lio_defer_wq;
atomic_t lio_defer_pending = ATOMIC_INIT(0);

int lio_defer_start(void)
{
	if (lio_defer_wq)
		return -EBUSY;
	lio_defer_wq = alloc_workqueue("lio_free", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return lio_defer_wq ? 0 : -ENOMEM;
}
EXPORT_SYMBOL_GPL(lio_defer_start);

void lio_defer_flush(void)
{
	if (!lio_defer_wq)
		return;
	/* What is freed may itself defer something: go on until nothing is left. */
	do {
		rcu_barrier();
		flush_workqueue(lio_defer_wq);
	} while (atomic_read(&lio_defer_pending));
}
EXPORT_SYMBOL_GPL(lio_defer_flush);

void lio_defer_stop(void)
{
	lio_defer_flush();
	destroy_workqueue(lio_defer_wq);
	lio_defer_wq = NULL;
}
EXPORT_SYMBOL_GPL(lio_defer_stop);

static void lio_deferred_run(struct work_struct *work)
{
	struct lio_deferred *d = container_of(to_rcu_work(work), struct lio_deferred, work);

	d->fn(d->arg);
	kfree(d);
	atomic_dec(&lio_defer_pending);
}

struct lio_deferred *lio_deferred_alloc(void)
{
	struct lio_deferred *d;

	if (!lio_defer_wq)
		return NULL;
	d = kzalloc(sizeof(*d), GFP_KERNEL);
	if (d)
		INIT_RCU_WORK(&d->work, lio_deferred_run);
	return d;
}
EXPORT_SYMBOL_GPL(lio_deferred_alloc);

void lio_deferred_free(struct lio_deferred *d)
{
	kfree(d);
}
EXPORT_SYMBOL_GPL(lio_deferred_free);

void lio_deferred_queue(struct lio_deferred *d, void (*fn)(void *arg), void *arg)
{
	d->fn = fn;
	d->arg = arg;
	atomic_inc(&lio_defer_pending);
	queue_rcu_work(lio_defer_wq, &d->work);
}
EXPORT_SYMBOL_GPL(lio_deferred_queue);
