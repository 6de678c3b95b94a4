// SPDX-License-Identifier: GPL-2.0
/* A SCSI command of the midlayer. */
#include <linux/blk-mq.h>
#include <linux/rcupdate.h>
#include <linux/scatterlist.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include "loop.h"

u32 lio_scmd_id(struct scsi_cmnd *sc)
{
	return sc->device->id;
}

u64 lio_scmd_lun(struct scsi_cmnd *sc)
{
	return sc->device->lun;
}

u64 lio_scmd_tag(struct scsi_cmnd *sc)
{
	return blk_mq_unique_tag(scsi_cmd_to_rq(sc));
}

const u8 *lio_scmd_cdb(struct scsi_cmnd *sc, u32 *len)
{
	*len = min_t(u32, sc->cmd_len, sizeof(sc->cmnd));
	return sc->cmnd;
}

/* Hosts that leave protection information to nobody (DIX of type 0) have two more operations, which this one does not announce. */
static u32 protection(struct scsi_cmnd *sc)
{
	switch (scsi_get_prot_op(sc)) {
	case SCSI_PROT_READ_PASS:
	case SCSI_PROT_WRITE_PASS:
		return LIO_SCMD_BESIDE;
	case SCSI_PROT_READ_STRIP:
	case SCSI_PROT_WRITE_INSERT:
		return LIO_SCMD_MADE;
	default:
		return 0;
	}
}

u32 lio_scmd_direction(struct scsi_cmnd *sc)
{
	switch (sc->sc_data_direction) {
	case DMA_FROM_DEVICE:
		return LIO_SCMD_READ | protection(sc);
	case DMA_TO_DEVICE:
		return LIO_SCMD_WRITE | protection(sc);
	default:
		return LIO_SCMD_NONE;
	}
}

u32 lio_scmd_bytes(struct scsi_cmnd *sc)
{
	return scsi_bufflen(sc);
}

struct scatterlist *lio_scmd_sgl(struct scsi_cmnd *sc)
{
	return scsi_sg_count(sc) ? scsi_sglist(sc) : NULL;
}

struct scatterlist *lio_scmd_prot_sgl(struct scsi_cmnd *sc)
{
	return scsi_prot_sg_count(sc) ? scsi_prot_sglist(sc) : NULL;
}

struct scatterlist *lio_scmd_seg(struct scatterlist *sg, struct page **page, u32 *off, u32 *len)
{
	*page = sg_page(sg);
	*off = sg->offset;
	*len = sg->length;
	return sg_next(sg);
}

void lio_scmd_status(struct scsi_cmnd *sc, u8 status, u32 residual)
{
	sc->result = status;
	scsi_set_resid(sc, residual);
}

void lio_scmd_sense(struct scsi_cmnd *sc, const u8 *sense, size_t len)
{
	memset(sc->sense_buffer, 0, SCSI_SENSE_BUFFERSIZE);
	memcpy(sc->sense_buffer, sense, min_t(size_t, len, SCSI_SENSE_BUFFERSIZE));
}

void lio_scmd_host_byte(struct scsi_cmnd *sc, u8 host_byte)
{
	sc->result = 0;
	set_host_byte(sc, host_byte);
	scsi_set_resid(sc, scsi_bufflen(sc));
}

void lio_scmd_get(struct scsi_cmnd *sc)
{
	struct lio_loop_cmd *cmd = scsi_cmd_priv(sc);

	atomic_inc(&cmd->users);
}

void lio_scmd_put(struct scsi_cmnd *sc)
{
	struct lio_loop_cmd *cmd = scsi_cmd_priv(sc);

	/* Who finds it without users, as a host reset does, waits until the midlayer knows. */
	rcu_read_lock();
	if (atomic_dec_and_test(&cmd->users))
		scsi_done(sc);
	rcu_read_unlock();
}

/* Whether the caller was the only user, and is none now. */
bool lio_scmd_untake(struct scsi_cmnd *sc)
{
	struct lio_loop_cmd *cmd = scsi_cmd_priv(sc);

	return atomic_cmpxchg(&cmd->users, 1, 0) == 1;
}
