// SPDX-License-Identifier: GPL-2.0
/* Modules. */
#include <linux/kmod.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/export.h>
#include "../shims.h"

int lio_request_module(const char *name)
{
	return request_module("%s", name);
}
EXPORT_SYMBOL_GPL(lio_request_module);

bool lio_module_get(struct module *module)
{
	return try_module_get(module);
}
EXPORT_SYMBOL_GPL(lio_module_get);

/* In a kernel without preemption, a grace period is all that it takes. */
void lio_module_settle(void)
{
	synchronize_rcu_tasks();
}
EXPORT_SYMBOL_GPL(lio_module_settle);

/*
 * The caller is in nobody's code that lio_module_settle() waits for: who always finds something to do never sleeps, and preemption
 * does not count.
 */
void lio_module_left(void)
{
	cond_resched_tasks_rcu_qs();
}
EXPORT_SYMBOL_GPL(lio_module_left);

void lio_module_put(struct module *module)
{
	module_put(module);
}
EXPORT_SYMBOL_GPL(lio_module_put);
