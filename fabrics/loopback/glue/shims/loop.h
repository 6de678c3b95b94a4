/* SPDX-License-Identifier: GPL-2.0 */
/* What the shims share among themselves. */
#ifndef LIO_LOOP_H
#define LIO_LOOP_H
#include <linux/atomic.h>
#include <linux/device.h>
#include "../shims.h"

struct lio_loop_host {
	struct device dev;
	struct Scsi_Host *sh;
	const struct lio_loop_ops *ops;
	void *driver;
};

/* Beside each scsi_cmnd: who still uses it or its memory. The last one completes it. */
struct lio_loop_cmd {
	atomic_t users;
};

extern const struct bus_type lio_loop_bus;
extern struct device *lio_loop_root;
extern atomic_t lio_loop_hosts;
void lio_loop_host_gone(void);

#endif
