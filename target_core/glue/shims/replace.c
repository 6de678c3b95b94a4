// SPDX-License-Identifier: GPL-2.0
/* Files that are replaced as a whole. */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include "../shims.h"

static int write_durably(struct file *file, const void *data, size_t len)
{
	loff_t pos = 0;
	ssize_t n = kernel_write(file, data, len, &pos);

	if (n < 0)
		return n;
	return n < len ? -EIO : vfs_fsync(file, 0);
}

static int rename_within(struct file *dir, const char *from, const char *to)
{
	struct renamedata rd = {
		.mnt_idmap = mnt_idmap(dir->f_path.mnt),
		.old_parent = dir->f_path.dentry,
		.new_parent = dir->f_path.dentry,
	};
	int ret = mnt_want_write(dir->f_path.mnt);

	if (ret)
		return ret;
	ret = start_renaming(&rd, 0, &QSTR(from), &QSTR(to));
	if (!ret) {
		ret = vfs_rename(&rd);
		end_renaming(&rd);
	}
	mnt_drop_write(dir->f_path.mnt);
	return ret;
}

/* For what is not to stay behind a failure; if this fails as well, it does. */
static void unlink_within(struct file *dir, const char *name)
{
	struct mnt_idmap *idmap = mnt_idmap(dir->f_path.mnt);
	struct dentry *dentry;

	if (mnt_want_write(dir->f_path.mnt))
		return;
	dentry = start_removing(idmap, dir->f_path.dentry, &QSTR(name));
	if (!IS_ERR(dentry)) {
		vfs_unlink(idmap, d_inode(dir->f_path.dentry), dentry, NULL);
		end_removing(dentry);
	}
	mnt_drop_write(dir->f_path.mnt);
}

int lio_file_replace(const char *path, const char *temp, const char *name, const void *data, size_t len)
{
	struct file *dir, *file;
	int ret;

	scoped_with_init_fs()
		dir = filp_open(path, O_RDONLY | O_DIRECTORY, 0);
	if (IS_ERR(dir))
		return PTR_ERR(dir);
	file = file_open_root(&dir->f_path, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_LARGEFILE, 0600);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
	} else {
		ret = write_durably(file, data, len);
		filp_close(file, NULL);
		if (!ret)
			ret = rename_within(dir, temp, name);
		if (ret)
			unlink_within(dir, temp);
		else
			ret = vfs_fsync(dir, 0);
	}
	filp_close(dir, NULL);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_replace);

int lio_dir_make(const char *path)
{
	struct dentry *dentry;
	struct path parent;
	struct file *dir;
	int ret;

	scoped_with_init_fs()
		dentry = start_creating_path(AT_FDCWD, path, &parent, LOOKUP_DIRECTORY);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	dentry = vfs_mkdir(mnt_idmap(parent.mnt), d_inode(parent.dentry), dentry, 0700, NULL);
	ret = PTR_ERR_OR_ZERO(dentry);
	path_get(&parent);
	end_creating_path(&parent, dentry);
	if (!ret) {
		/* Without the lock, which it may take itself. */
		dir = dentry_open(&parent, O_RDONLY | O_DIRECTORY, current_cred());
		ret = PTR_ERR_OR_ZERO(dir);
		if (!ret) {
			ret = vfs_fsync(dir, 0);
			fput(dir);
		}
	}
	path_put(&parent);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_dir_make);

ssize_t lio_file_read_whole(const char *path, void *data, size_t len)
{
	struct file *file;
	loff_t pos = 0;
	ssize_t n;

	scoped_with_init_fs()
		file = filp_open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_LARGEFILE, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (!S_ISREG(file_inode(file)->i_mode))
		n = -EINVAL;
	else if (i_size_read(file_inode(file)) > len)
		n = -EFBIG;
	else
		n = kernel_read(file, data, len, &pos);
	filp_close(file, NULL);
	return n;
}
EXPORT_SYMBOL_GPL(lio_file_read_whole);
