// SPDX-License-Identifier: GPL-2.0
/* What the configfs trees show of the system and look up in it, and what bounds are made of. */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/utsname.h>
#include <linux/export.h>
#include <generated/utsrelease.h>
#include "../shims.h"

const char *lio_system_release(void)
{
	return UTS_RELEASE;
}
EXPORT_SYMBOL_GPL(lio_system_release);

const char *lio_system_machine(void)
{
	return init_utsname()->machine;
}
EXPORT_SYMBOL_GPL(lio_system_machine);

u32 lio_system_centiseconds(unsigned long when)
{
	return div_u64((u64)(u32)(when - INITIAL_JIFFIES) * 100, HZ);
}
EXPORT_SYMBOL_GPL(lio_system_centiseconds);

int lio_system_check_dir(const char *name)
{
	struct path path;
	int ret = kern_path(name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &path);

	if (!ret)
		path_put(&path);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_system_check_dir);

u64 lio_system_memory(void)
{
	return (u64)totalram_pages() << PAGE_SHIFT;
}
EXPORT_SYMBOL_GPL(lio_system_memory);
