// SPDX-License-Identifier: GPL-2.0
/* Kernel threads, the events they sleep for, and the clock they look at. */
#include <linux/cpumask.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <linux/wait.h>
#include "../shims.h"

struct lio_thread {
	void (*run)(void *arg);
	void *arg;
	struct module *owner;
};

static int lio_thread_main(void *data)
{
	struct lio_thread t = *(struct lio_thread *)data;

	kfree(data);
	t.run(t.arg);
	/* The module that run() lies in may go now; what follows is the kernel's own code. */
	__module_put_and_kthread_exit(t.owner, 0);
	return 0;
}

int lio_thread_spawn(struct module *owner, const char *name, void (*run)(void *arg), void *arg)
{
	struct lio_thread *t = kmalloc(sizeof(*t), GFP_KERNEL);
	struct task_struct *task;

	if (!t)
		return -ENOMEM;
	*t = (struct lio_thread){ .run = run, .arg = arg, .owner = owner };
	if (!try_module_get(owner)) {
		kfree(t);
		return -ENODEV;
	}
	task = kthread_create(lio_thread_main, t, "%s", name);
	if (IS_ERR(task)) {
		module_put(owner);
		kfree(t);
		return PTR_ERR(task);
	}
	wake_up_process(task);
	return 0;
}
EXPORT_SYMBOL_GPL(lio_thread_spawn);

void lio_waker_init(struct lio_waker *w)
{
	init_waitqueue_head(&w->wq);
	atomic_set(&w->events, 0);
}
EXPORT_SYMBOL_GPL(lio_waker_init);

void lio_waker_wake(struct lio_waker *w, unsigned int events)
{
	/* Whoever set the same bits before wakes the sleeper, and it takes all bits when it runs. */
	if ((atomic_fetch_or(events, &w->events) & events) == events)
		return;
	if (wq_has_sleeper(&w->wq))
		wake_up(&w->wq);
}
EXPORT_SYMBOL_GPL(lio_waker_wake);

static unsigned int lio_waker_take(struct lio_waker *w)
{
	return atomic_read(&w->events) ? atomic_xchg(&w->events, 0) & ~LIO_EVENT_TIME : 0;
}

unsigned int lio_waker_wait(struct lio_waker *w, unsigned int ms)
{
	lio_module_left();
	if (!atomic_read(&w->events) && ms) {
		if (ms == LIO_WAIT_FOREVER)
			wait_event_idle(w->wq, atomic_read(&w->events));
		else
			wait_event_idle_timeout(w->wq, atomic_read(&w->events), msecs_to_jiffies(ms));
	}
	return lio_waker_take(w);
}
EXPORT_SYMBOL_GPL(lio_waker_wait);

static void lio_alarm_ring(struct timer_list *t)
{
	struct lio_alarm *a = timer_container_of(a, t, timer);

	lio_waker_wake(a->waker, LIO_EVENT_TIME);
}

/* The waker stays until lio_alarm_end(). */
void lio_alarm_init(struct lio_alarm *a, struct lio_waker *w)
{
	timer_setup(&a->timer, lio_alarm_ring, 0);
	a->waker = w;
}
EXPORT_SYMBOL_GPL(lio_alarm_init);

/*
 * As lio_waker_wait(), for who sleeps often and is mostly woken early: the timer runs on from sleep to sleep, and is set when it
 * would ring too late, or has rung too early.
 */
unsigned int lio_alarm_wait(struct lio_alarm *a, unsigned int ms)
{
	struct lio_waker *w = a->waker;
	unsigned long until;
	unsigned int events;

	if (ms == LIO_WAIT_FOREVER)
		return lio_waker_wait(w, ms);
	lio_module_left();
	until = jiffies + msecs_to_jiffies(ms);
	while (!((events = atomic_read(&w->events)) & ~LIO_EVENT_TIME) && time_before(jiffies, until)) {
		/* Only one that has rung sets the event, and then it does not run; what rings after this sets it again. */
		if (events) {
			atomic_andnot(LIO_EVENT_TIME, &w->events);
			smp_mb__after_atomic();
		}
		if (!timer_pending(&a->timer) || time_after(READ_ONCE(a->timer.expires), until))
			mod_timer(&a->timer, until);
		wait_event_idle(w->wq, atomic_read(&w->events));
	}
	return lio_waker_take(w);
}
EXPORT_SYMBOL_GPL(lio_alarm_wait);

/* Process context. */
void lio_alarm_end(struct lio_alarm *a)
{
	timer_shutdown_sync(&a->timer);
}
EXPORT_SYMBOL_GPL(lio_alarm_end);

__u64 lio_now_ms(void)
{
	return jiffies64_to_msecs(get_jiffies_64());
}
EXPORT_SYMBOL_GPL(lio_now_ms);

/* The calling kernel thread runs on these CPUs from here on. -EINVAL where none of them is online. */
int lio_cpus_run_on(const struct cpumask *m)
{
	return set_cpus_allowed_ptr(current, m);
}
EXPORT_SYMBOL_GPL(lio_cpus_run_on);

bool lio_cpus_any_online(const struct cpumask *m)
{
	return cpumask_intersects(m, cpu_online_mask);
}
EXPORT_SYMBOL_GPL(lio_cpus_any_online);

struct cpumask *lio_cpus_alloc(void)
{
	struct cpumask *m = kzalloc(cpumask_size(), GFP_KERNEL);

	if (m)
		cpumask_copy(m, cpu_possible_mask);
	return m;
}
EXPORT_SYMBOL_GPL(lio_cpus_alloc);

void lio_cpus_free(struct cpumask *m)
{
	kfree(m);
}
EXPORT_SYMBOL_GPL(lio_cpus_free);

int lio_cpus_parse(struct cpumask *m, const char *list)
{
	return cpulist_parse(list, m);
}
EXPORT_SYMBOL_GPL(lio_cpus_parse);

int lio_cpus_print(const struct cpumask *m, char *out, size_t len)
{
	return scnprintf(out, len, "%*pbl", cpumask_pr_args(m));
}
EXPORT_SYMBOL_GPL(lio_cpus_print);
