// SPDX-License-Identifier: GPL-2.0
/* Counters that each CPU keeps for itself. */
#include <linux/export.h>
#include <linux/percpu.h>
#include "../shims.h"

void *lio_percpu_alloc(size_t counters)
{
	return (void *)(unsigned long)__alloc_percpu(counters * sizeof(u64), sizeof(u64));
}
EXPORT_SYMBOL_GPL(lio_percpu_alloc);

void lio_percpu_free(void *p)
{
	free_percpu((void __percpu *)(unsigned long)p);
}
EXPORT_SYMBOL_GPL(lio_percpu_free);

void lio_percpu_add(void *p, u64 value)
{
	this_cpu_add(*(u64 __percpu *)(unsigned long)p, value);
}
EXPORT_SYMBOL_GPL(lio_percpu_add);

u64 lio_percpu_sum(void *p)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr((u64 __percpu *)(unsigned long)p, cpu));
	return sum;
}
EXPORT_SYMBOL_GPL(lio_percpu_sum);
