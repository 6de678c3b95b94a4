// SPDX-License-Identifier: GPL-2.0
/* SCSI hosts whose commands go to Rust. */
#include <linux/blk-mq.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <scsi/scsi.h>
#include <scsi/scsi_cmnd.h>
#include <scsi/scsi_device.h>
#include <scsi/scsi_host.h>
#include "loop.h"

static unsigned int nr_hw_queues;
module_param(nr_hw_queues, uint, 0644);
MODULE_PARM_DESC(nr_hw_queues, "Hardware queues of a host (0: one for each CPU)");

static unsigned int can_queue = 1024;
module_param(can_queue, uint, 0644);
MODULE_PARM_DESC(can_queue, "Commands in flight on a host");

static unsigned int cmd_per_lun = 1024;
module_param(cmd_per_lun, uint, 0644);
MODULE_PARM_DESC(cmd_per_lun, "Commands in flight for a logical unit");

static struct lio_loop_host *to_host(struct Scsi_Host *sh)
{
	return *(struct lio_loop_host **)shost_priv(sh);
}

/*
 * In the submitter's context, which may be writing pages back to free memory: nothing in here may wait for
 * I/O to get memory.
 */
static enum scsi_qc_status lio_loop_queuecommand(struct Scsi_Host *sh, struct scsi_cmnd *sc)
{
	struct lio_loop_host *host = to_host(sh);
	struct lio_loop_cmd *cmd = scsi_cmd_priv(sc);
	unsigned int noio = memalloc_noio_save();
	bool taken;

	atomic_set(&cmd->users, 1);
	taken = host->ops->queue(host->driver, sc);
	memalloc_noio_restore(noio);
	return taken ? 0 : SCSI_MLQUEUE_HOST_BUSY;
}

/* Whether somebody may still use the memory of a command that was taken. */
static bool is_used(struct scsi_cmnd *sc)
{
	struct lio_loop_cmd *cmd = scsi_cmd_priv(sc);

	return atomic_read(&cmd->users);
}

static bool find_used(struct scsi_cmnd *sc, void *found)
{
	if (!is_used(sc))
		return true;
	*(bool *)found = true;
	return false;
}

static int lio_loop_abort(struct scsi_cmnd *sc)
{
	struct lio_loop_host *host = to_host(sc->device->host);
	u64 tag = blk_mq_unique_tag(scsi_cmd_to_rq(sc));

	if (!host->ops->abort(host->driver, sc->device->id, sc->device->lun, tag))
		return FAILED;
	/* The port may have gone, and with it what knew the command; but its memory may still be the back end's. */
	while (is_used(sc))
		schedule_timeout_idle(HZ / 100 + 1);
	/* See lio_scmd_put(). */
	synchronize_rcu();
	return SUCCESS;
}

static int lio_loop_reset(struct scsi_cmnd *sc, bool target)
{
	struct lio_loop_host *host = to_host(sc->device->host);

	return host->ops->reset(host->driver, sc->device->id, sc->device->lun, target) ? SUCCESS : FAILED;
}

static int lio_loop_device_reset(struct scsi_cmnd *sc)
{
	return lio_loop_reset(sc, false);
}

static int lio_loop_target_reset(struct scsi_cmnd *sc)
{
	return lio_loop_reset(sc, true);
}

/*
 * The midlayer's last resort, which it also comes to without having asked for anything else, once its eh_deadline is over. It takes
 * all commands for its own then: not before the back end has given them back.
 */
static int lio_loop_host_reset(struct scsi_cmnd *sc)
{
	bool found;

	for (;;) {
		found = false;
		scsi_host_busy_iter(sc->device->host, find_used, &found);
		if (!found)
			break;
		schedule_timeout_idle(HZ / 10);
	}
	/* Those whose last user has just gone are being given back: see lio_scmd_put(). */
	synchronize_rcu();
	return SUCCESS;
}

static const struct scsi_host_template lio_loop_template = {
	.module = THIS_MODULE,
	.name = "TCM_Loopback",
	.proc_name = "tcm_loopback",
	.queuecommand = lio_loop_queuecommand,
	.queuecommand_may_block = true,
	.change_queue_depth = scsi_change_queue_depth,
	.eh_abort_handler = lio_loop_abort,
	.eh_device_reset_handler = lio_loop_device_reset,
	.eh_target_reset_handler = lio_loop_target_reset,
	.eh_host_reset_handler = lio_loop_host_reset,
	.skip_settle_delay = 1,
	.this_id = -1,
	.sg_tablesize = 256,
	.sg_prot_tablesize = 256,
	.max_sectors = 0xFFFF,
	.track_queue_depth = 1,
	.cmd_size = sizeof(struct lio_loop_cmd),
};

/* After the SCSI host itself, which holds a reference on its parent device until all of it is gone. */
static void lio_loop_host_release(struct device *dev)
{
	struct lio_loop_host *host = container_of(dev, struct lio_loop_host, dev);

	host->ops->release(host->driver);
	kfree(host);
	lio_loop_host_gone();
}

struct lio_loop_host *lio_loop_host_add(const struct lio_loop_ops *ops, void *driver, int *error)
{
	static atomic_t numbers = ATOMIC_INIT(-1);
	struct lio_loop_host *host = kzalloc(sizeof(*host), GFP_KERNEL);
	struct Scsi_Host *sh;

	if (!host) {
		ops->release(driver);
		*error = -ENOMEM;
		return NULL;
	}
	atomic_inc(&lio_loop_hosts);
	host->ops = ops;
	host->driver = driver;
	host->dev.bus = &lio_loop_bus;
	host->dev.parent = lio_loop_root;
	host->dev.release = lio_loop_host_release;
	*error = dev_set_name(&host->dev, "tcm_loop_adapter_%d", atomic_inc_return(&numbers));
	if (!*error)
		*error = device_register(&host->dev);
	else
		device_initialize(&host->dev);
	if (*error) {
		put_device(&host->dev);
		return NULL;
	}

	sh = scsi_host_alloc(&lio_loop_template, sizeof(struct lio_loop_host *));
	if (!sh) {
		*error = -ENOMEM;
		goto unregister;
	}
	/* It does not look whether there was memory for its names, which scsi_add_host() would call EINVAL. */
	if (!dev_name(&sh->shost_gendev) || !dev_name(&sh->shost_dev)) {
		*error = -ENOMEM;
		goto put;
	}
	*(struct lio_loop_host **)shost_priv(sh) = host;
	/* No scan finds anything by itself: devices are added one by one. */
	sh->max_id = 2;
	sh->max_lun = 0;
	sh->max_channel = 0;
	sh->max_cmd_len = SCSI_MAX_VARLEN_CDB_SIZE;
	/*
	 * With a queue for each CPU commands need no I/O scheduler, and are submitted and completed where they come
	 * from. They share what may be in flight, but not down to what one CPU alone would want.
	 */
	sh->nr_hw_queues = nr_hw_queues ? min(nr_hw_queues, nr_cpu_ids) : num_possible_cpus();
	sh->can_queue = clamp(can_queue, 1U, 4096U);
	if (sh->nr_hw_queues > 1)
		sh->can_queue = min(sh->can_queue, max(sh->can_queue / (int)sh->nr_hw_queues, 128));
	sh->cmd_per_lun = clamp(cmd_per_lun, 1U, 4096U);
	/* Protection information goes through, from the block layer to the logical unit and back. */
	scsi_host_set_prot(sh, SHOST_DIF_TYPE1_PROTECTION | SHOST_DIF_TYPE2_PROTECTION | SHOST_DIF_TYPE3_PROTECTION |
			       SHOST_DIX_TYPE1_PROTECTION | SHOST_DIX_TYPE2_PROTECTION | SHOST_DIX_TYPE3_PROTECTION);
	scsi_host_set_guard(sh, SHOST_DIX_GUARD_CRC);
	host->sh = sh;
	*error = scsi_add_host(sh, &host->dev);
	if (*error)
		goto put;
	return host;
put:
	scsi_host_put(sh);
unregister:
	device_unregister(&host->dev);
	return NULL;
}

void lio_loop_host_remove(struct lio_loop_host *host)
{
	scsi_remove_host(host->sh);
	scsi_host_put(host->sh);
	device_unregister(&host->dev);
}

u32 lio_loop_host_number(struct lio_loop_host *host)
{
	return host->sh->host_no;
}

u32 lio_loop_host_depth(struct lio_loop_host *host)
{
	return host->sh->can_queue * host->sh->nr_hw_queues;
}

int lio_loop_lun_add(struct lio_loop_host *host, u32 id, u64 lun)
{
	/* It is held while a device is removed, as long as that has commands; who waits may be killed. */
	if (mutex_lock_killable(&host->sh->scan_mutex))
		return -EINTR;
	mutex_unlock(&host->sh->scan_mutex);
	return scsi_add_device(host->sh, 0, id, lun);
}

/* Waits for the device's commands; no new ones come. */
void lio_loop_lun_remove(struct lio_loop_host *host, u32 id, u64 lun)
{
	struct scsi_device *sdev = scsi_device_lookup(host->sh, 0, id, lun);

	if (!sdev) {
		/* Somebody else may just be removing it, and waits for its commands. */
		mutex_lock(&host->sh->scan_mutex);
		mutex_unlock(&host->sh->scan_mutex);
		return;
	}
	scsi_remove_device(sdev);
	scsi_device_put(sdev);
}
