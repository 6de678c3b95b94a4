// SPDX-License-Identifier: GPL-2.0
/* configfs: what is inline, variadic or a macro in its C API. */
#include <linux/configfs.h>
#include <linux/dcache.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/string.h>
#include "../shims.h"

/* Of all that makes up a shared item type; see configfs/item_type.rs. */
static DEFINE_MUTEX(types_mutex);

void lio_configfs_types_lock(void)
{
	mutex_lock(&types_mutex);
}
EXPORT_SYMBOL_GPL(lio_configfs_types_lock);

void lio_configfs_types_unlock(void)
{
	mutex_unlock(&types_mutex);
}
EXPORT_SYMBOL_GPL(lio_configfs_types_unlock);

/* Unlike config_group_init_type_name(), says so when there is no memory for the name. */
int lio_configfs_group_init(struct config_group *group, const char *name, int len,
			    const struct config_item_type *type)
{
	int ret;

	memset(group, 0, sizeof(*group));
	ret = config_item_set_name(&group->cg_item, "%.*s", len, name);
	if (ret)
		return ret;
	group->cg_item.ci_type = type;
	config_group_init(group);
	INIT_LIST_HEAD(&group->group_entry);
	return 0;
}
EXPORT_SYMBOL_GPL(lio_configfs_group_init);

void lio_configfs_subsystem_init(struct configfs_subsystem *subsys)
{
	mutex_init(&subsys->su_mutex);
}
EXPORT_SYMBOL_GPL(lio_configfs_subsystem_init);

void lio_configfs_subsystem_lock(struct configfs_subsystem *subsys)
{
	mutex_lock(&subsys->su_mutex);
}
EXPORT_SYMBOL_GPL(lio_configfs_subsystem_lock);

void lio_configfs_subsystem_unlock(struct configfs_subsystem *subsys)
{
	mutex_unlock(&subsys->su_mutex);
}
EXPORT_SYMBOL_GPL(lio_configfs_subsystem_unlock);

void lio_configfs_add_default(struct config_group *parent, struct config_group *child)
{
	configfs_add_default_group(child, parent);
}
EXPORT_SYMBOL_GPL(lio_configfs_add_default);

/* The default group after @prev, or the first; NULL at the end. */
struct config_group *lio_configfs_next_default(struct config_group *parent, struct config_group *prev)
{
	struct list_head *next = prev ? prev->group_entry.next : parent->default_groups.next;

	if (next == &parent->default_groups)
		return NULL;
	return list_entry(next, struct config_group, group_entry);
}
EXPORT_SYMBOL_GPL(lio_configfs_next_default);

/* Takes the first default group off the list; its reference is the caller's then. */
struct config_group *lio_configfs_pop_default(struct config_group *parent)
{
	struct config_group *child = lio_configfs_next_default(parent, NULL);

	if (child)
		list_del_init(&child->group_entry);
	return child;
}
EXPORT_SYMBOL_GPL(lio_configfs_pop_default);

/* Whether the directory of @item, whose inode is locked, has been removed. */
bool lio_configfs_dead(struct config_item *item)
{
	return IS_DEADDIR(d_inode(item->ci_dentry));
}
EXPORT_SYMBOL_GPL(lio_configfs_dead);
