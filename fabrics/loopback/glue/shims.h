/* SPDX-License-Identifier: GPL-2.0 */
/* What the loopback fabric's Rust code sees of its C shims: bindgen reads this file. */
#ifndef LIO_LOOP_SHIMS_H
#define LIO_LOOP_SHIMS_H
#include <linux/types.h>

struct lio_loop_host;
struct page;
struct scatterlist;
struct scsi_cmnd;

/* What a driver does; all in process context. */
struct lio_loop_ops {
	/* Takes the command and returns true, or leaves it with the caller, which tries again. */
	bool (*queue)(void *driver, struct scsi_cmnd *sc);
	/* Whether the command is known to be gone. */
	bool (*abort)(void *driver, u32 id, u64 lun, u64 tag);
	bool (*reset)(void *driver, u32 id, u64 lun, bool target);
	/* Nothing of the host is left. */
	void (*release)(void *driver);
};

/* bus.c */
int lio_loop_start(void);
void lio_loop_stop(void);

/* host.c */
struct lio_loop_host *lio_loop_host_add(const struct lio_loop_ops *ops, void *driver, int *error);
void lio_loop_host_remove(struct lio_loop_host *host);
u32 lio_loop_host_number(struct lio_loop_host *host);
u32 lio_loop_host_depth(struct lio_loop_host *host);
int lio_loop_lun_add(struct lio_loop_host *host, u32 id, u64 lun);
void lio_loop_lun_remove(struct lio_loop_host *host, u32 id, u64 lun);

/* scmd.c */
#define LIO_SCMD_NONE 0
#define LIO_SCMD_READ 1
#define LIO_SCMD_WRITE 2
/* Beside the direction, where the CDB may ask for protection information: it is in memory of its own, or the host's to make. */
#define LIO_SCMD_BESIDE 4
#define LIO_SCMD_MADE 8
u32 lio_scmd_id(struct scsi_cmnd *sc);
u64 lio_scmd_lun(struct scsi_cmnd *sc);
u64 lio_scmd_tag(struct scsi_cmnd *sc);
const u8 *lio_scmd_cdb(struct scsi_cmnd *sc, u32 *len);
u32 lio_scmd_direction(struct scsi_cmnd *sc);
u32 lio_scmd_bytes(struct scsi_cmnd *sc);
struct scatterlist *lio_scmd_sgl(struct scsi_cmnd *sc);
struct scatterlist *lio_scmd_prot_sgl(struct scsi_cmnd *sc);
struct scatterlist *lio_scmd_seg(struct scatterlist *sg, struct page **page, u32 *off, u32 *len);
void lio_scmd_status(struct scsi_cmnd *sc, u8 status, u32 residual);
void lio_scmd_sense(struct scsi_cmnd *sc, const u8 *sense, size_t len);
void lio_scmd_host_byte(struct scsi_cmnd *sc, u8 host_byte);
void lio_scmd_get(struct scsi_cmnd *sc);
void lio_scmd_put(struct scsi_cmnd *sc);
bool lio_scmd_untake(struct scsi_cmnd *sc);

#endif
