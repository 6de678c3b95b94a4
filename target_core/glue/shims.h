/* SPDX-License-Identifier: GPL-2.0 */
/* What the engine's Rust code sees of its C shims: bindgen reads this file. */
#ifndef LIO_SHIMS_H
#define LIO_SHIMS_H
#include <linux/types.h>
#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/percpu-refcount.h>
#include <linux/sbitmap.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

int lio_request_module(const char *name);

/* defer.c: what is dropped after a grace period, or in process context */
struct lio_deferred {
	struct rcu_work work;
	void (*fn)(void *arg);
	void *arg;
};
int lio_defer_start(void);
void lio_defer_stop(void);
void lio_defer_flush(void);
struct lio_deferred *lio_deferred_alloc(void);
void lio_deferred_free(struct lio_deferred *d);
void lio_deferred_queue(struct lio_deferred *d, void (*fn)(void *arg), void *arg);

/* gate.c: a percpu_ref that is closed, waited for, and freed with what it guards */
struct lio_gate {
	struct percpu_ref ref;
	struct wait_queue_head wait;
	struct mutex lock;
	struct work_struct work;
	atomic_t parties;
	bool closing;
	bool closed;
	void (*free)(struct lio_gate *gate);
};
int lio_gate_init(struct lio_gate *gate, void (*free)(struct lio_gate *gate));
void lio_gate_exit(struct lio_gate *gate);
bool lio_gate_tryget(struct lio_gate *gate);
void lio_gate_get(struct lio_gate *gate);
void lio_gate_put(struct lio_gate *gate);
bool lio_gate_is_closing(struct lio_gate *gate);
void lio_gate_close(struct lio_gate *gate);
bool lio_gate_reopen(struct lio_gate *gate);
bool lio_gate_wait(struct lio_gate *gate, u32 timeout_ms);
void lio_gate_release(struct lio_gate *gate);

/* percpu.c */
void *lio_percpu_alloc(size_t counters);
void lio_percpu_free(void *p);
void lio_percpu_add(void *p, u64 value);
u64 lio_percpu_sum(void *p);

/* tags.c */
int lio_tags_init(struct sbitmap *sb, u32 depth);
void lio_tags_free(struct sbitmap *sb);
void lio_tags_put(struct sbitmap *sb, u32 tag);

/* wait.c */
void lio_wait_init(struct wait_queue_head *wait);
bool lio_wait_active(struct wait_queue_head *wait);

/* workqueue.c */
struct workqueue_struct *lio_workqueue_alloc(const char *name, bool percpu, u32 max_active);

#endif
