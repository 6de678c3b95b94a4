// SPDX-License-Identifier: GPL-2.0
/* Files: opening, reading and writing by bio_vec, page cache look-up. */
#include <linux/blkdev.h>
#include <linux/export.h>
#include <linux/falloc.h>
#include <linux/folio_batch.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/statfs.h>
#include <linux/swap.h>
#include <linux/uio.h>
#include "../shims.h"

/*
 * Work on a file for an initiator that may be this machine itself: memory reclaim must not wait for that very
 * initiator, and the writer must not be throttled for dirty pages that it alone can clean (as the loop driver's).
 */
struct scope {
	unsigned int noio;
	unsigned int throttle;
};

static struct scope scope_enter(void)
{
	struct scope s = {
		.noio = memalloc_noio_save(),
		.throttle = current->flags & PF_LOCAL_THROTTLE,
	};

	current->flags |= PF_LOCAL_THROTTLE;
	return s;
}

static void scope_leave(struct scope s)
{
	current->flags = (current->flags & ~PF_LOCAL_THROTTLE) | s.throttle;
	memalloc_noio_restore(s.noio);
}

/* A kernel thread sees the path from the first process's root. */
static struct file *open_path(const char *path, int flags)
{
	struct file *file;

	if (!tsk_is_kthread(current))
		return filp_open(path, flags, 0600);
	scoped_with_init_fs()
		file = filp_open(path, flags, 0600);
	return file;
}

int lio_file_open(const char *path, bool write, struct file **out)
{
	int flags = O_LARGEFILE | (write ? O_RDWR | O_CREAT : O_RDONLY);
	struct file *file;
	umode_t mode;

	/* Reads must not write: no access time, which only the owner or a privileged process may ask for. */
	file = open_path(path, flags | O_NOATIME);
	if (IS_ERR(file) && PTR_ERR(file) == -EPERM)
		file = open_path(path, flags);
	if (IS_ERR(file))
		return PTR_ERR(file);
	mode = file->f_mapping->host->i_mode;
	if (!S_ISREG(mode) && !S_ISBLK(mode)) {
		filp_close(file, NULL);
		return S_ISDIR(mode) ? -EISDIR : -EINVAL;
	}
	*out = file;
	return 0;
}
EXPORT_SYMBOL_GPL(lio_file_open);

struct file *lio_file_slot_get(struct file **slot)
{
	struct file *file;

	rcu_read_lock();
	file = get_file_rcu((struct file __rcu **)slot);
	rcu_read_unlock();
	return file;
}
EXPORT_SYMBOL_GPL(lio_file_slot_get);

/* With the RCU read lock. */
struct file *lio_file_slot_peek(struct file **slot)
{
	return READ_ONCE(*slot);
}
EXPORT_SYMBOL_GPL(lio_file_slot_peek);

struct file *lio_file_slot_replace(struct file **slot, struct file *file)
{
	return xchg(slot, file);
}
EXPORT_SYMBOL_GPL(lio_file_slot_replace);

u64 lio_file_size(struct file *file)
{
	return i_size_read(file->f_mapping->host);
}
EXPORT_SYMBOL_GPL(lio_file_size);

struct block_device *lio_file_bdev(struct file *file)
{
	struct inode *inode = file->f_mapping->host;

	return S_ISBLK(inode->i_mode) ? I_BDEV(inode) : NULL;
}
EXPORT_SYMBOL_GPL(lio_file_bdev);

unsigned int lio_file_traits(struct file *file)
{
	struct inode *inode = file->f_mapping->host;
	struct super_block *sb = inode->i_sb;
	unsigned int traits = 0;
	bool memory = sb->s_magic == TMPFS_MAGIC && shmem_mapping(inode->i_mapping);

	if (memory)
		traits |= LIO_FILE_MEMORY;
	/* Where the page cache is the file: not on network file systems, nor where there is none (DAX). */
	if (memory || ((sb->s_bdev || S_ISBLK(inode->i_mode)) && (file->f_mode & FMODE_NOWAIT) && !IS_DAX(inode)))
		traits |= LIO_FILE_CACHED;
	if (file->f_mode & FMODE_NOWAIT)
		traits |= LIO_FILE_NOWAIT;
	if (file->f_mode & FMODE_CAN_ODIRECT)
		traits |= LIO_FILE_DIRECT;
	return traits;
}
EXPORT_SYMBOL_GPL(lio_file_traits);

/*
 * Bytes that the file system has left for all its files, as df has them, and those that this file uses. False where that is
 * not known: on what is no file system of this machine, whose answer could take long, and where there is no end to it.
 */
bool lio_file_space(struct file *file, u64 *available, u64 *used)
{
	struct inode *inode = file->f_mapping->host;
	struct super_block *sb = inode->i_sb;
	struct kstatfs st;

	if (!S_ISREG(inode->i_mode) || (!sb->s_bdev && sb->s_magic != TMPFS_MAGIC))
		return false;
	if (vfs_statfs(&file->f_path, &st) || !st.f_blocks)
		return false;
	*available = (u64)st.f_bavail * st.f_bsize;
	*used = (u64)inode_get_bytes(inode);
	return true;
}
EXPORT_SYMBOL_GPL(lio_file_space);

bool lio_file_may_inline(void)
{
	/*
	 * The caller may be submitting from inside another file system or block driver: inside a transaction, or
	 * with bios of its own that wait for it to return. Or it may be a process that must not write large files itself.
	 */
	return !current->journal_info && !current->bio_list && !(current->flags & PF_MEMALLOC) &&
	       rlimit(RLIMIT_FSIZE) == RLIM_INFINITY;
}
EXPORT_SYMBOL_GPL(lio_file_may_inline);

static int kiocb_flags(unsigned int flags)
{
	int ki = 0;

	if (flags & LIO_RW_DSYNC)
		ki |= IOCB_DSYNC;
	if (flags & LIO_RW_CACHED)
		ki |= IOCB_NOWAIT | IOCB_NOIO;
	if (flags & LIO_RW_DIRECT)
		ki |= IOCB_DIRECT;
	if (flags & LIO_RW_WRITE)
		ki |= IOCB_WRITE;
	return ki;
}

ssize_t lio_file_rw(struct file *file, loff_t pos, const struct bio_vec *bv, unsigned long nr, size_t len,
		    size_t skip, unsigned int flags)
{
	struct scope s = scope_enter();
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t n, done = 0;

	init_sync_kiocb(&iocb, file);
	iocb.ki_flags |= kiocb_flags(flags);
	iocb.ki_pos = pos + skip;
	iov_iter_bvec(&iter, flags & LIO_RW_WRITE ? ITER_SOURCE : ITER_DEST, bv, nr, len);
	iov_iter_advance(&iter, skip);
	do {
		if (flags & LIO_RW_WRITE)
			n = vfs_iocb_iter_write(file, &iocb, &iter);
		else
			n = vfs_iocb_iter_read(file, &iocb, &iter);
		/* A write whose data was taken can still fail to become durable: only what is returned counts. */
		if (n > 0)
			done += n;
	} while (n > 0 && iov_iter_count(&iter) && !(flags & LIO_RW_CACHED));
	scope_leave(s);
	/* What was done before the error counts; the error comes back when the rest is tried. */
	return done ?: n;
}
EXPORT_SYMBOL_GPL(lio_file_rw);

ssize_t lio_file_aio(struct kiocb *iocb, struct file *file, loff_t pos, const struct bio_vec *bv,
		     unsigned long nr, size_t len, unsigned int flags, void (*complete)(struct kiocb *, long))
{
	struct scope s = scope_enter();
	struct iov_iter iter;
	ssize_t n;

	init_sync_kiocb(iocb, file);
	iocb->ki_flags |= kiocb_flags(flags);
	iocb->ki_pos = pos;
	iocb->ki_complete = complete;
	iov_iter_bvec(&iter, flags & LIO_RW_WRITE ? ITER_SOURCE : ITER_DEST, bv, nr, len);
	if (flags & LIO_RW_WRITE)
		n = vfs_iocb_iter_write(file, iocb, &iter);
	else
		n = vfs_iocb_iter_read(file, iocb, &iter);
	scope_leave(s);
	return n;
}
EXPORT_SYMBOL_GPL(lio_file_aio);

void lio_file_aio_done(struct kiocb *iocb)
{
	if (iocb->ki_flags & IOCB_WRITE)
		kiocb_end_write(iocb);
}
EXPORT_SYMBOL_GPL(lio_file_aio_done);

/* By sharing blocks where the file system can, else from page cache to page cache. */
ssize_t lio_file_copy(struct file *from, loff_t pos, struct file *to, loff_t at, size_t len)
{
	struct scope s = scope_enter();
	ssize_t n = vfs_copy_file_range(from, pos, to, at, len, 0);

	scope_leave(s);
	return n;
}
EXPORT_SYMBOL_GPL(lio_file_copy);

int lio_file_sync(struct file *file, loff_t start, loff_t end)
{
	struct scope s = scope_enter();
	int ret = vfs_fsync_range(file, start, end, 1);

	scope_leave(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_sync);

u32 lio_file_errors(struct file *file)
{
	return filemap_sample_wb_err(file->f_mapping);
}
EXPORT_SYMBOL_GPL(lio_file_errors);

int lio_file_error_since(struct file *file, u32 since)
{
	return filemap_check_wb_err(file->f_mapping, since);
}
EXPORT_SYMBOL_GPL(lio_file_error_since);

int lio_file_punch(struct file *file, loff_t pos, loff_t len)
{
	struct scope s = scope_enter();
	int ret = vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len);

	scope_leave(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_punch);

int lio_file_truncate(struct file *file, loff_t len)
{
	struct scope s = scope_enter();
	int ret = vfs_truncate(&file->f_path, len);

	scope_leave(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_truncate);

int lio_file_discard(struct file *file, loff_t pos, loff_t len)
{
	struct block_device *bdev = lio_file_bdev(file);
	struct scope s;
	int ret;

	if (!bdev)
		return -EOPNOTSUPP;
	s = scope_enter();
	/* What the page cache holds of the range must not outlive it. */
	ret = filemap_write_and_wait_range(file->f_mapping, pos, pos + len - 1);
	if (!ret)
		ret = invalidate_inode_pages2_range(file->f_mapping, pos >> PAGE_SHIFT,
						    (pos + len - 1) >> PAGE_SHIFT);
	if (!ret)
		ret = blkdev_issue_discard(bdev, pos >> SECTOR_SHIFT, len >> SECTOR_SHIFT, GFP_NOIO);
	scope_leave(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_discard);

/*
 * Whether there is data at pos, as far as the file system tells; returns where that changes, the file's end at most, or an errno.
 * Nobody else uses the file's position.
 */
loff_t lio_file_run(struct file *file, loff_t pos, bool *data)
{
	loff_t next = vfs_llseek(file, pos, SEEK_DATA);

	*data = next == pos;
	if (next == -ENXIO)
		return i_size_read(file->f_mapping->host);
	return *data ? vfs_llseek(file, pos, SEEK_HOLE) : next;
}
EXPORT_SYMBOL_GPL(lio_file_run);

int lio_file_zero(struct file *file, loff_t pos, loff_t len)
{
	struct scope s = scope_enter();
	int ret = vfs_fallocate(file, FALLOC_FL_ZERO_RANGE, pos, len);

	scope_leave(s);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_file_zero);

int lio_file_write_zeroes(struct file *file, loff_t pos, loff_t len)
{
	struct bio_vec bv[16];
	int i;

	for (i = 0; i < ARRAY_SIZE(bv); i++)
		bvec_set_page(&bv[i], ZERO_PAGE(0), PAGE_SIZE, 0);
	while (len > 0) {
		size_t n = min_t(loff_t, len, ARRAY_SIZE(bv) * PAGE_SIZE);
		ssize_t done = lio_file_rw(file, pos, bv, ARRAY_SIZE(bv), n, 0, LIO_RW_WRITE);

		if (done <= 0)
			return done ?: -EIO;
		pos += done;
		len -= done;
		cond_resched();
	}
	return 0;
}
EXPORT_SYMBOL_GPL(lio_file_write_zeroes);

unsigned int lio_file_lend(struct file *file, pgoff_t index, unsigned int nr, struct page **pages)
{
	struct folio_batch batch;
	pgoff_t next = index;
	unsigned int got = 0, i;

	folio_batch_init(&batch);
	filemap_get_folios_contig(file->f_mapping, &next, index + nr - 1, &batch);
	for (i = 0; i < folio_batch_count(&batch); i++) {
		struct folio *folio = batch.folios[i];

		/* The page that asks for more to be read ahead is read the ordinary way, which does that. */
		if (!folio_test_uptodate(folio) || folio_test_readahead(folio) || folio_test_hwpoison(folio) ||
		    folio_test_has_hwpoisoned(folio))
			break;
		folio_mark_accessed(folio);
		while (got < nr && index + got < folio_next_index(folio)) {
			pages[got] = folio_file_page(folio, index + got);
			get_page(pages[got]);
			got++;
		}
	}
	folio_batch_release(&batch);
	return got;
}
EXPORT_SYMBOL_GPL(lio_file_lend);
