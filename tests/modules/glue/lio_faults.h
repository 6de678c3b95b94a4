/* SPDX-License-Identifier: GPL-2.0 */
/* The faults that faults.rs commits. */
#ifndef LIO_FAULTS_H
#define LIO_FAULTS_H

#include <linux/scatterlist.h>

void lio_fault_use_after_free(void);
void lio_fault_out_of_bounds(void);
void lio_fault_sleep_in_atomic(void);
void lio_fault_lock_inversion(void);
void lio_fault_leak(void);
void lio_fault_refcount(void);
void lio_fault_warn(void);
void lio_fault_overflow(void);
void lio_fault_assertion(void);
void lio_fault_racy_add(void);

#endif
