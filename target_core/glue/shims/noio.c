// SPDX-License-Identifier: GPL-2.0
/* Allocating without I/O. */
#include <linux/export.h>
#include <linux/sched/mm.h>
#include "../shims.h"

unsigned int lio_noio_enter(void)
{
	return memalloc_noio_save();
}
EXPORT_SYMBOL_GPL(lio_noio_enter);

void lio_noio_leave(unsigned int was)
{
	memalloc_noio_restore(was);
}
EXPORT_SYMBOL_GPL(lio_noio_leave);
