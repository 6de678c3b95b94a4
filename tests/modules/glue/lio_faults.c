// SPDX-License-Identifier: GPL-2.0
/*
 * Commits the fault that its parameter names, then refuses to stay loaded: "modprobe lio_faults fault=leak". One debug
 * kernel or another must tell of each, see tests/vm/detectors.py. For VMs alone.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include "lio_faults.h"

static char *fault = "none";
module_param(fault, charp, 0444);
MODULE_PARM_DESC(fault, "what to do wrong");

static volatile int forty = 40;

static void lio_fault_none(void)
{
}

static void lio_fault_c_use_after_free(void)
{
	volatile char *p = kmalloc(64, GFP_KERNEL);

	kfree((void *)p);
	if (p)
		(void)p[8];
}

static void lio_fault_list(void)
{
	struct list_head head, entry;

	INIT_LIST_HEAD(&head);
	list_add(&entry, &head);
	list_add(&entry, &head);
}

static void lio_fault_sg(void)
{
	struct scatterlist sg[2];

	sg_init_table(sg, 2);
	sg_chain(sg, 2, sg);
	sg_set_page(&sg[1], ZERO_PAGE(0), 512, 0);
}

static void lio_fault_shift(void)
{
	forty = 1 << forty;
}

static void lio_fault_rcu(void)
{
	static int __rcu *pointer;

	(void)rcu_dereference(pointer);
}

static void lio_fault_hung_task(void)
{
	msleep(20000);
}

static void lio_faults_nothing(struct rcu_head *head)
{
}

static void lio_fault_rcu_stall(void)
{
	unsigned long end = jiffies + 20 * HZ;
	struct rcu_head head;

	init_rcu_head_on_stack(&head);
	rcu_read_lock();
	/* Somebody must be waiting for the readers. */
	call_rcu_hurry(&head, lio_faults_nothing);
	while (time_before(jiffies, end))
		cpu_relax();
	rcu_read_unlock();
	rcu_barrier();
	destroy_rcu_head_on_stack(&head);
}

static void lio_fault_soft_lockup(void)
{
	unsigned long end = jiffies + 12 * HZ;

	preempt_disable();
	while (time_before(jiffies, end))
		cpu_relax();
	preempt_enable();
}

static void lio_fault_schedule_in_atomic(void)
{
	preempt_disable();
	schedule_timeout_uninterruptible(1);
	preempt_enable();
}

static unsigned long racy;

static void lio_fault_c_racy_add(void)
{
	racy++;
}

/* By something that no compiler instruments. */
static noinline __no_kcsan void lio_fault_unseen_add(void)
{
	asm volatile("incq %0" : "+m" (racy));
}

static int lio_faults_repeat(void *data)
{
	unsigned long end = jiffies + 5 * HZ;
	void (*step)(void) = data;

	while (time_before(jiffies, end)) {
		step();
		cond_resched();
	}
	return 0;
}

/* Does `here` again and again, and `there` in another thread. */
static void in_two_threads(void (*here)(void), void (*there)(void))
{
	struct task_struct *t = kthread_create(lio_faults_repeat, there, "lio_faults_race");

	if (IS_ERR(t))
		return;
	get_task_struct(t);
	wake_up_process(t);
	lio_faults_repeat(here);
	kthread_stop(t);
	put_task_struct(t);
}

static void lio_fault_race(void)
{
	in_two_threads(lio_fault_racy_add, lio_fault_racy_add);
}

static void lio_fault_c_race(void)
{
	in_two_threads(lio_fault_c_racy_add, lio_fault_c_racy_add);
}

static void lio_fault_unknown_race(void)
{
	in_two_threads(lio_fault_c_racy_add, lio_fault_unseen_add);
}

static const struct {
	const char *name;
	void (*make)(void);
} faults[] = {
	{ "none", lio_fault_none },
	{ "use-after-free", lio_fault_use_after_free },
	{ "c-use-after-free", lio_fault_c_use_after_free },
	{ "out-of-bounds", lio_fault_out_of_bounds },
	{ "sleep-in-atomic", lio_fault_sleep_in_atomic },
	{ "lock-inversion", lio_fault_lock_inversion },
	{ "rcu", lio_fault_rcu },
	{ "leak", lio_fault_leak },
	{ "refcount", lio_fault_refcount },
	{ "warn", lio_fault_warn },
	{ "overflow", lio_fault_overflow },
	{ "assertion", lio_fault_assertion },
	{ "list", lio_fault_list },
	{ "sg", lio_fault_sg },
	{ "shift", lio_fault_shift },
	{ "hung-task", lio_fault_hung_task },
	{ "rcu-stall", lio_fault_rcu_stall },
	{ "soft-lockup", lio_fault_soft_lockup },
	{ "schedule-in-atomic", lio_fault_schedule_in_atomic },
	{ "race", lio_fault_race },
	{ "c-race", lio_fault_c_race },
	{ "unknown-race", lio_fault_unknown_race },
};

struct run {
	void (*make)(void);
	struct completion begun;
};

static int lio_faults_main(void *data)
{
	struct run *run = data;

	complete(&run->begun);
	run->make();
	return 0;
}

static int __init lio_faults_init(void)
{
	struct run run = { };
	struct task_struct *t;
	int i;

	init_completion(&run.begun);
	for (i = 0; i < ARRAY_SIZE(faults); i++)
		if (!strcmp(faults[i].name, fault))
			run.make = faults[i].make;
	if (!run.make)
		return -EINVAL;
	/* Some faults kill who commits them. */
	t = kthread_create(lio_faults_main, &run, "lio_faults");
	if (IS_ERR(t))
		return PTR_ERR(t);
	get_task_struct(t);
	wake_up_process(t);
	/* One that has not begun would be stopped before it does anything; this then waits for its end. */
	wait_for_completion(&run.begun);
	kthread_stop(t);
	put_task_struct(t);
	return -ECANCELED;
}
module_init(lio_faults_init);

MODULE_AUTHOR("The lio-rs authors");
MODULE_DESCRIPTION("Faults that debug kernels must find");
MODULE_LICENSE("GPL");
