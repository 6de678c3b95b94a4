// SPDX-License-Identifier: GPL-2.0
/*
 * While it is loaded, the disk that its parameter names takes protection information in one piece of memory alone, and data in whole
 * pages but for its beginning and its end, as an NVMe SSD does without SGLs: "modprobe lio_one_piece disk=/dev/nvme0n2". For VMs alone.
 */
#include <linux/blkdev.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/sizes.h>

static char *disk = "";
module_param(disk, charp, 0444);
MODULE_PARM_DESC(disk, "the path of a disk");

static struct file *file;
static unsigned short before;
static unsigned long boundary_before;

static int take(unsigned short most, unsigned long boundary)
{
	struct request_queue *q = bdev_get_queue(file_bdev(file));
	struct queue_limits lim = queue_limits_start_update(q);

	before = lim.max_integrity_segments;
	boundary_before = lim.virt_boundary_mask;
	lim.virt_boundary_mask = boundary;
	lim.max_integrity_segments = most;
	return queue_limits_commit_update_frozen(q, &lim);
}

static int __init lio_one_piece_init(void)
{
	int ret;

	file = bdev_file_open_by_path(disk, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = take(1, SZ_4K - 1);
	if (ret)
		bdev_fput(file);
	return ret;
}
module_init(lio_one_piece_init);

static void __exit lio_one_piece_exit(void)
{
	WARN_ON(take(before, boundary_before));
	bdev_fput(file);
}
module_exit(lio_one_piece_exit);

MODULE_AUTHOR("The lio-rs authors");
MODULE_DESCRIPTION("A disk that takes protection information in one piece, and data without gaps");
MODULE_LICENSE("GPL");
