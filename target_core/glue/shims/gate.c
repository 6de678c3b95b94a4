// SPDX-License-Identifier: GPL-2.0
/*
 * A gate: a percpu_ref whose entries are tickets. Two parties keep the memory: the owner's handle, and the
 * tickets taken together (until the gate is closed and the last one is back). The later one frees it.
 */
#include <linux/export.h>
#include <linux/jiffies.h>
#include "../shims.h"
#include "defer.h"

/* Few gates are waited for at a time, and many are open: this is of all. */
static DECLARE_WAIT_QUEUE_HEAD(lio_gate_waits);

static void lio_gate_free_work(struct work_struct *work)
{
	struct lio_gate *gate = container_of(work, struct lio_gate, work);

	gate->free(gate);
	atomic_dec(&lio_defer_pending);
}

/* The last ticket is back, in whatever context gave it back. */
static void lio_gate_emptied(struct percpu_ref *ref)
{
	struct lio_gate *gate = container_of(ref, struct lio_gate, ref);

	smp_store_release(&gate->closed, true);
	wake_up_all(&lio_gate_waits);
	if (atomic_dec_and_test(&gate->parties)) {
		atomic_inc(&lio_defer_pending);
		queue_work(lio_defer_wq, &gate->work);
	}
}

int lio_gate_init(struct lio_gate *gate, void (*free)(struct lio_gate *gate))
{
	if (!lio_defer_wq)
		return -ENODEV;
	INIT_WORK(&gate->work, lio_gate_free_work);
	atomic_set(&gate->parties, 2);
	gate->closing = false;
	gate->closed = false;
	gate->free = free;
	return percpu_ref_init(&gate->ref, lio_gate_emptied, 0, GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(lio_gate_init);

void lio_gate_exit(struct lio_gate *gate)
{
	percpu_ref_exit(&gate->ref);
}
EXPORT_SYMBOL_GPL(lio_gate_exit);

bool lio_gate_tryget(struct lio_gate *gate)
{
	return percpu_ref_tryget_live(&gate->ref);
}
EXPORT_SYMBOL_GPL(lio_gate_tryget);

void lio_gate_get(struct lio_gate *gate)
{
	percpu_ref_get(&gate->ref);
}
EXPORT_SYMBOL_GPL(lio_gate_get);

void lio_gate_put(struct lio_gate *gate)
{
	percpu_ref_put(&gate->ref);
}
EXPORT_SYMBOL_GPL(lio_gate_put);

bool lio_gate_is_closing(struct lio_gate *gate)
{
	return READ_ONCE(gate->closing);
}
EXPORT_SYMBOL_GPL(lio_gate_is_closing);

void lio_gate_close(struct lio_gate *gate)
{
	if (!xchg(&gate->closing, true))
		percpu_ref_kill(&gate->ref);
}
EXPORT_SYMBOL_GPL(lio_gate_close);

/* Idle, not uninterruptible: an administrator may well wait for a slow disk, which is no hung task. */
bool lio_gate_wait(struct lio_gate *gate, u32 timeout_ms)
{
	return wait_event_idle_timeout(lio_gate_waits, smp_load_acquire(&gate->closed), msecs_to_jiffies(timeout_ms));
}
EXPORT_SYMBOL_GPL(lio_gate_wait);

/* The owner's handle goes: nobody else can close it now. */
void lio_gate_release(struct lio_gate *gate)
{
	lio_gate_close(gate);
	if (atomic_dec_and_test(&gate->parties)) {
		atomic_inc(&lio_defer_pending);
		queue_work(lio_defer_wq, &gate->work);
	}
}
EXPORT_SYMBOL_GPL(lio_gate_release);
