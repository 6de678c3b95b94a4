/* SPDX-License-Identifier: GPL-2.0 */
/* What the engine's Rust code sees of its C shims: bindgen reads this file. */
#ifndef LIO_SHIMS_H
#define LIO_SHIMS_H
#include <linux/types.h>

int lio_request_module(const char *name);

#endif
