// SPDX-License-Identifier: GPL-2.0

//! What a change of mode parameters asks for (SPC-4, 5.10 and 6.11; SBC-3, 6.5.5).

use lio_scsi::{mode::Values, sense::Asc};

/// What follows from a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The other I_T nexuses are told: MODE PARAMETERS CHANGED.
    pub tell: bool,
    /// The write cache is to be switched on or off.
    pub write_cache: Option<bool>,
    /// What is in the write cache is to be on the medium before the change is reported as done: the cache was switched off
    /// (SBC-3, 6.5.5), or nothing is written from now on (SWP).
    pub flush: bool,
}

impl Change {
    /// The change from `before` to `after`.
    pub fn new(before: &Values, after: &Values) -> Self {
        let off = before.write_cache && !after.write_cache;
        let protected = !before.software_write_protect && after.software_write_protect;
        Self {
            tell: before != after,
            write_cache: (before.write_cache != after.write_cache).then_some(after.write_cache),
            flush: off || protected,
        }
    }
}

/// The values after a reset (SPC-4, 5.10): the saved ones, or else the defaults. Nothing is flushed then, so a write cache that an initiator switched on
/// stays on: if it read as off, nobody would know that acknowledged data is still in it.
pub fn reset(current: &Values, kept: &Values) -> Values {
    Values {
        write_cache: current.write_cache || kept.write_cache,
        ..*kept
    }
}

/// The informational exception that there is (SPC-4, 7.5.11): a real one where commands failed at the medium, `errors` of them
/// since the log's counters were reset; otherwise the one that TEST asks for.
pub fn exception(errors: u64, values: &Values) -> Option<Asc> {
    if errors != 0 {
        Some(Asc::FAILURE_PREDICTION)
    } else {
        values
            .exception_test
            .then_some(Asc::FAILURE_PREDICTION_TEST)
    }
}

#[cfg(test)]
mod tests {
    use super::{exception, reset, Change};
    use lio_scsi::{
        groups::Groups,
        mode::{ErrorPolicy, Extension, Interlock, Values},
        pi,
        provisioning::Thresholds,
        sense::Asc,
    };

    const PLAIN: Values = Values {
        write_cache: false,
        descriptor_sense: false,
        errors: ErrorPolicy::Continue,
        interlock: Interlock::Clear,
        software_write_protect: false,
        task_aborted_status: true,
        report_exceptions: false,
        exception_test: false,
        unchecked_if_zero: false,
        thresholds: Thresholds::OFF,
        extension: Extension::DEFAULT,
        application: pi::ApplicationTags::DEFAULT,
        groups: Groups::NONE,
    };

    #[test]
    fn changes() {
        let cached = Values {
            write_cache: true,
            ..PLAIN
        };
        let protected = Values {
            software_write_protect: true,
            ..PLAIN
        };
        let other = Values {
            descriptor_sense: true,
            ..PLAIN
        };
        let of = |tell, write_cache, flush| Change {
            tell,
            write_cache,
            flush,
        };
        for (before, after, expected) in [
            (PLAIN, PLAIN, of(false, None, false)),
            (PLAIN, cached, of(true, Some(true), false)),
            (cached, PLAIN, of(true, Some(false), true)),
            (PLAIN, protected, of(true, None, true)),
            (protected, PLAIN, of(true, None, false)),
            (PLAIN, other, of(true, None, false)),
        ] {
            assert_eq!(Change::new(&before, &after), expected);
        }
    }

    #[test]
    fn exceptions() {
        let test = Values {
            exception_test: true,
            ..PLAIN
        };
        assert_eq!(exception(0, &PLAIN), None);
        assert_eq!(exception(0, &test), Some(Asc::FAILURE_PREDICTION_TEST));
        for values in [PLAIN, test] {
            assert_eq!(exception(1, &values), Some(Asc::FAILURE_PREDICTION));
        }
    }

    #[test]
    fn a_reset_never_needs_a_flush() {
        for bits in 0..8u8 {
            let current = Values {
                write_cache: bits & 1 != 0,
                software_write_protect: bits & 2 != 0,
                ..PLAIN
            };
            let default = Values {
                write_cache: bits & 4 != 0,
                ..PLAIN
            };
            let after = reset(&current, &default);
            assert!(!Change::new(&current, &after).flush);
            assert!(!after.software_write_protect);
        }
    }
}
