/* SPDX-License-Identifier: GPL-2.0 */
/* The queue on which things are freed, and how many are on their way to it. */
#ifndef LIO_DEFER_H
#define LIO_DEFER_H
#include <linux/atomic.h>
#include <linux/workqueue.h>

extern struct workqueue_struct *lio_defer_wq;
extern atomic_t lio_defer_pending;

#endif
