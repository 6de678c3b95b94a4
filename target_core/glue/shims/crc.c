// SPDX-License-Identifier: GPL-2.0
#include <linux/crc-t10dif.h>
#include <linux/crc32.h>
#include <linux/export.h>
#include "../shims.h"

u16 lio_crc_t10dif(u16 crc, const void *data, size_t len)
{
	return crc_t10dif_update(crc, data, len);
}
EXPORT_SYMBOL_GPL(lio_crc_t10dif);

u32 lio_crc32c(u32 crc, const void *data, size_t len)
{
	return crc32c(crc, data, len);
}
EXPORT_SYMBOL_GPL(lio_crc32c);
