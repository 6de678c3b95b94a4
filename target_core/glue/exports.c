// SPDX-License-Identifier: GPL-2.0
/* Exports the engine's Rust symbols to other modules; the list is generated (see Kbuild). */
#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)
#include "exports_generated.h"
