// SPDX-License-Identifier: GPL-2.0
/* Modules. */
#include <linux/kmod.h>
#include <linux/export.h>
#include "../shims.h"

int lio_request_module(const char *name)
{
	return request_module("%s", name);
}
EXPORT_SYMBOL_GPL(lio_request_module);
