// SPDX-License-Identifier: GPL-2.0
/* The bus under which the hosts appear in sysfs: /sys/devices/tcm_loop_0/tcm_loop_adapter_N/hostM. */
#include <linux/device.h>
#include <linux/wait.h>
#include "loop.h"

const struct bus_type lio_loop_bus = {
	.name = "tcm_loop_bus",
};
struct device *lio_loop_root;
atomic_t lio_loop_hosts = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(lio_loop_wait);

int lio_loop_start(void)
{
	int err;

	lio_loop_root = root_device_register("tcm_loop_0");
	if (IS_ERR(lio_loop_root))
		return PTR_ERR(lio_loop_root);
	err = bus_register(&lio_loop_bus);
	if (err)
		root_device_unregister(lio_loop_root);
	return err;
}

void lio_loop_host_gone(void)
{
	if (atomic_dec_and_test(&lio_loop_hosts))
		wake_up_all(&lio_loop_wait);
}

/* A host that was removed goes when its last user in sysfs or elsewhere lets go of it. */
void lio_loop_stop(void)
{
	wait_event_idle(lio_loop_wait, !atomic_read(&lio_loop_hosts));
	bus_unregister(&lio_loop_bus);
	root_device_unregister(lio_loop_root);
}
