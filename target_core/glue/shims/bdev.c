// SPDX-License-Identifier: GPL-2.0
/* Block devices, and bios. */
#include <linux/bio.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/export.h>
#include "../shims.h"

int lio_bdev_open(const char *path, bool write, void *holder, struct file **out)
{
	blk_mode_t mode = BLK_OPEN_READ | (write ? BLK_OPEN_WRITE : 0);
	struct file *file = bdev_file_open_by_path(path, mode, holder, NULL);

	if (IS_ERR(file))
		return PTR_ERR(file);
	*out = file;
	return 0;
}
EXPORT_SYMBOL_GPL(lio_bdev_open);

void lio_bdev_yield(struct file *file)
{
	bdev_yield_claim(file);
}
EXPORT_SYMBOL_GPL(lio_bdev_yield);

void lio_bdev_limits(struct block_device *bdev, struct lio_bdev_limits *out)
{
	struct request_queue *q = bdev_get_queue(bdev);
	/*
	 * An initiator could not be told of boundaries that it must not cross, whose number is another than those of page B0: of the
	 * storage's own, and of the chunks of a stacked device.
	 */
	bool atomic = bdev_can_atomic_write(bdev) && !queue_atomic_write_boundary_bytes(q) && !q->limits.chunk_sectors;

	*out = (struct lio_bdev_limits) {
		.logical_block = bdev_logical_block_size(bdev),
		.physical_block = bdev_physical_block_size(bdev),
		.alignment_offset = bdev_alignment_offset(bdev),
		.io_min = bdev_io_min(bdev),
		.io_opt = bdev_io_opt(bdev),
		.max_hw_sectors = queue_max_hw_sectors(q),
		.nr_requests = q->nr_requests,
		.max_discard_sectors = bdev_max_discard_sectors(bdev),
		.discard_granularity = bdev_discard_granularity(bdev),
		.discard_alignment = bdev_discard_alignment(bdev),
		.write_zeroes_sectors = bdev_write_zeroes_sectors(bdev),
		.atomic_max = atomic ? queue_atomic_write_unit_max_bytes(q) : 0,
		.atomic_unit = atomic ? queue_atomic_write_unit_min_bytes(q) : 0,
		.major = MAJOR(bdev->bd_dev),
		.minor = MINOR(bdev->bd_dev),
		.rotational = bdev_rot(bdev),
	};
}
EXPORT_SYMBOL_GPL(lio_bdev_limits);

int lio_bdev_name(struct block_device *bdev, char *buf, size_t len)
{
	return scnprintf(buf, len, "%pg", bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_name);

u64 lio_bdev_bytes(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_bytes);

bool lio_bdev_write_cache(struct block_device *bdev)
{
	return bdev_write_cache(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_write_cache);

bool lio_bdev_lacks_fua(struct block_device *bdev)
{
	return bdev_write_cache(bdev) && !bdev_fua(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_lacks_fua);

bool lio_bdev_flushes_for_fua(struct block_device *bdev)
{
	/* Of a device that has no requests of its own it is not known what is below it. */
	return bdev_write_cache(bdev) && !(bdev_fua(bdev) && queue_is_mq(bdev_get_queue(bdev)));
}
EXPORT_SYMBOL_GPL(lio_bdev_flushes_for_fua);

u32 lio_bdev_dma_alignment(struct block_device *bdev)
{
	return bdev_dma_alignment(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_dma_alignment);

u32 lio_bdev_block(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_block);

bool lio_bdev_stable_writes(struct block_device *bdev)
{
	return bdev_stable_writes(bdev);
}
EXPORT_SYMBOL_GPL(lio_bdev_stable_writes);

bool lio_bdev_gone(struct block_device *bdev)
{
	return !disk_live(bdev->bd_disk);
}
EXPORT_SYMBOL_GPL(lio_bdev_gone);

/* Whether a bio may be taken in part: the device has no requests of its own, but hands it on in pieces. */
bool lio_bdev_stacked(struct block_device *bdev)
{
	return !queue_is_mq(bdev_get_queue(bdev));
}
EXPORT_SYMBOL_GPL(lio_bdev_stacked);

/* Whether a bio that is not to wait does not: a driver that may sleep when it takes a request does so all the same. */
bool lio_bdev_nowait(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	return bdev_nowait(bdev) && !(queue_is_mq(q) && q->tag_set->flags & BLK_MQ_F_BLOCKING);
}
EXPORT_SYMBOL_GPL(lio_bdev_nowait);

int lio_bdev_zero(struct block_device *bdev, u64 sector, u64 nr, bool unmap)
{
	return blkdev_issue_zeroout(bdev, sector, nr, GFP_NOIO, unmap ? 0 : BLKDEV_ZERO_NOUNMAP);
}
EXPORT_SYMBOL_GPL(lio_bdev_zero);

void lio_bio_init(struct bio *bio, struct block_device *bdev, unsigned int op, u64 sector,
		  void (*end)(struct bio *))
{
	static const blk_opf_t opf[] = {
		[LIO_BIO_READ] = REQ_OP_READ,
		/* Synchronous, so that write-back throttling leaves it alone: an initiator waits. */
		[LIO_BIO_WRITE] = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE,
		[LIO_BIO_WRITE_FUA] = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | REQ_FUA,
		[LIO_BIO_WRITE_ATOMIC] = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | REQ_ATOMIC,
		[LIO_BIO_WRITE_ATOMIC_FUA] = REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | REQ_ATOMIC | REQ_FUA,
		[LIO_BIO_FLUSH] = REQ_OP_WRITE | REQ_PREFLUSH,
		[LIO_BIO_ANCHOR] = REQ_OP_DISCARD,
	};

	bio_init(bio, op == LIO_BIO_ANCHOR ? NULL : bdev, NULL, 0,
		 opf[op & ~LIO_BIO_NOWAIT] | (op & LIO_BIO_NOWAIT ? REQ_NOWAIT : 0));
	bio->bi_iter.bi_sector = sector;
	bio->bi_end_io = end;
}
EXPORT_SYMBOL_GPL(lio_bio_init);

void lio_bio_set_bvecs(struct bio *bio, const struct bio_vec *bv, unsigned int nr, unsigned int len)
{
	/* The table is its owner's, not the bio's: that is what a cloned bio is. */
	bio->bi_io_vec = (struct bio_vec *)bv;
	bio->bi_vcnt = min_t(unsigned int, nr, USHRT_MAX);
	bio->bi_iter.bi_size = len;
	bio_set_flag(bio, BIO_CLONED);
}
EXPORT_SYMBOL_GPL(lio_bio_set_bvecs);

void lio_bio_discard(struct bio *anchor, struct block_device *bdev, u64 sector, u64 nr)
{
	struct bio *last = NULL;
	struct blk_plug plug;

	blk_start_plug(&plug);
	__blkdev_issue_discard(bdev, sector, nr, GFP_NOIO, &last);
	if (last) {
		bio_chain(last, anchor);
		submit_bio(last);
	}
	blk_finish_plug(&plug);
	bio_endio(anchor);
}
EXPORT_SYMBOL_GPL(lio_bio_discard);

/*
 * The type of T10 protection information that the device has for each logical block, of 8 bytes and with a CRC: 1 with reference
 * tags, else 3; 0 for none.
 */
unsigned int lio_bdev_protection(struct block_device *bdev)
{
	struct blk_integrity *bi = bdev_get_integrity(bdev);

	if (!bi || bi->csum_type != BLK_INTEGRITY_CSUM_CRC || bi->metadata_size != 8 || bi->pi_offset ||
	    1U << bi->interval_exp != bdev_logical_block_size(bdev))
		return 0;
	return bi->flags & BLK_INTEGRITY_REF_TAG ? 1 : 3;
}
EXPORT_SYMBOL_GPL(lio_bdev_protection);

/*
 * Has the bio carry the protection information at `bv`: nobody on its way checks it, as its owner does. -E2BIG if the device does not take
 * it in so many pieces, or in these: it may be given once more then, in one. -ENODEV if the device has none, or another one, any more.
 */
int lio_bio_set_protection(struct bio *bio, const struct bio_vec *bv, unsigned int nr)
{
	struct blk_integrity *bi = bdev_get_integrity(bio->bi_bdev);
	struct bio_integrity_payload *bip = bio_integrity(bio);
	unsigned int i;

	if (!bi)
		return -ENODEV;
	if (bip) {
		bip->bip_vcnt = 0;
		bip->bip_iter.bi_size = 0;
	} else {
		bip = bio_integrity_alloc(bio, GFP_NOIO, nr);
		if (IS_ERR(bip))
			return PTR_ERR(bip);
		bip->bip_flags |= BIP_DISK_NOCHECK;
		bip_set_seed(bip, bio->bi_iter.bi_sector >> (bi->interval_exp - SECTOR_SHIFT));
	}
	for (i = 0; i < nr; i++)
		if (bio_integrity_add_page(bio, bv[i].bv_page, bv[i].bv_len, bv[i].bv_offset) != bv[i].bv_len)
			return -E2BIG;
	return bip->bip_iter.bi_size == bio_integrity_bytes(bi, bio_sectors(bio)) ? 0 : -ENODEV;
}
EXPORT_SYMBOL_GPL(lio_bio_set_protection);

int lio_bio_errno(struct bio *bio)
{
	return blk_status_to_errno(bio->bi_status);
}
EXPORT_SYMBOL_GPL(lio_bio_errno);
