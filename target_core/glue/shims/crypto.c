// SPDX-License-Identifier: GPL-2.0
/* The kernel's random numbers, hash functions, and ways not to tell secrets. */
#include <crypto/hash.h>
#include <crypto/utils.h>
#include <linux/export.h>
#include <linux/random.h>
#include <linux/string.h>
#include "../shims.h"

void lio_random(void *to, size_t len)
{
	get_random_bytes(to, len);
}
EXPORT_SYMBOL_GPL(lio_random);

void lio_wipe(void *at, size_t len)
{
	memzero_explicit(at, len);
}
EXPORT_SYMBOL_GPL(lio_wipe);

bool lio_equal(const void *a, const void *b, size_t len)
{
	return !crypto_memneq(a, b, len);
}
EXPORT_SYMBOL_GPL(lio_equal);

bool lio_has_hash(const char *name)
{
	return crypto_has_shash(name, 0, 0);
}
EXPORT_SYMBOL_GPL(lio_has_hash);

/* The digest of the parts, one after the other; out_len is how long it has to be. May sleep. */
int lio_hash(const char *name, const struct lio_part *parts, size_t count, u8 *out, size_t out_len)
{
	struct crypto_shash *hash = crypto_alloc_shash(name, 0, 0);
	size_t i;
	int ret;

	if (IS_ERR(hash))
		return PTR_ERR(hash);
	if (crypto_shash_digestsize(hash) != out_len) {
		ret = -EINVAL;
	} else {
		SHASH_DESC_ON_STACK(desc, hash);

		desc->tfm = hash;
		ret = crypto_shash_init(desc);
		for (i = 0; !ret && i < count; i++)
			ret = crypto_shash_update(desc, parts[i].data, parts[i].len);
		if (!ret)
			ret = crypto_shash_final(desc, out);
		shash_desc_zero(desc);
	}
	crypto_free_shash(hash);
	return ret;
}
EXPORT_SYMBOL_GPL(lio_hash);
