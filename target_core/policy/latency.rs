// SPDX-License-Identifier: GPL-2.0

//! Histograms of how long commands take: which bucket a time falls into.

/// Buckets: the first is below a microsecond, each further one goes twice as far, and the last has no end.
pub const BUCKETS: usize = 28;

/// The bucket of a time in nanoseconds.
pub fn bucket(ns: u64) -> usize {
    let micros = ns.checked_div(1000).unwrap_or(0);
    let bits = u64::BITS.saturating_sub(micros.leading_zeros());
    usize::try_from(bits)
        .unwrap_or(BUCKETS)
        .min(BUCKETS.saturating_sub(1))
}

/// The first microsecond that is beyond `bucket`; `None` for the last one, and for those behind it.
pub fn end(bucket: usize) -> Option<u64> {
    if bucket.saturating_add(1) >= BUCKETS {
        return None;
    }
    1u64.checked_shl(u32::try_from(bucket).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_where_the_next_begins() {
        assert_eq!((bucket(0), bucket(999), bucket(1000)), (0, 0, 1));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for at in 0..BUCKETS - 1 {
            let end = end(at).unwrap() * 1000;
            assert_eq!((bucket(end - 1), bucket(end)), (at, at + 1));
        }
        assert_eq!(end(BUCKETS - 1), None);
        assert_eq!(end(usize::MAX), None);
    }
}
