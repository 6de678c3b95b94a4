// SPDX-License-Identifier: GPL-2.0
/* Modules. */
#include <linux/kmod.h>
#include <linux/module.h>
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

void lio_module_put(struct module *module)
{
	module_put(module);
}
EXPORT_SYMBOL_GPL(lio_module_put);
