// SPDX-License-Identifier: GPL-2.0
/*
 * Has each call of a function take longer, for tests of what may happen between two steps: "modprobe lio_slow symbol=NAME ms=300".
 * For VMs alone.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static char *symbol;
module_param(symbol, charp, 0400);
MODULE_PARM_DESC(symbol, "the function");

static unsigned int ms;
module_param(ms, uint, 0400);
MODULE_PARM_DESC(ms, "how much longer, in milliseconds");

/* The processor is busy meanwhile: nobody may sleep here. */
static int lio_slow_handler(struct kprobe *p, struct pt_regs *regs)
{
	mdelay(ms);
	return 0;
}

static struct kprobe lio_slow_probe = { .pre_handler = lio_slow_handler };

static int __init lio_slow_init(void)
{
	if (!symbol)
		return -EINVAL;
	lio_slow_probe.symbol_name = symbol;
	return register_kprobe(&lio_slow_probe);
}
module_init(lio_slow_init);

static void __exit lio_slow_exit(void)
{
	unregister_kprobe(&lio_slow_probe);
}
module_exit(lio_slow_exit);

MODULE_AUTHOR("The lio-rs authors");
MODULE_DESCRIPTION("Makes a function slow");
MODULE_LICENSE("GPL");
