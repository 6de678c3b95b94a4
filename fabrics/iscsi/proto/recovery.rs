// SPDX-License-Identifier: GPL-2.0

//! SNACK: RFC 7143, 7.1.4, 11.16.

use crate::error::{Error, RejectReason};
use crate::pdu::Snack;
use crate::sn::{DataSn, StatSn};
use crate::wire::{Itt, Ttt};

/// What a SNACK asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Data-In PDUs or, for a write, R2Ts, of a command.
    Data {
        /// The command's tag.
        itt: Itt,
        /// Which ones.
        run: Run,
    },
    /// Responses.
    Status(Run),
    /// Nothing: all data of a command before a number is there.
    Acknowledge {
        /// As in the Data-In PDU that wanted it.
        ttt: Ttt,
        /// The number that is expected next.
        next: DataSn,
    },
    /// All data of a command that is not acknowledged, in PDUs as long as the initiator takes them now.
    Resegment {
        /// The command's tag.
        itt: Itt,
        /// It comes back in the response.
        tag: u32,
    },
}

/// BegRun and RunLength.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    begin: u32,
    length: u32,
}

impl Run {
    /// Which of the numbers from `oldest` up to, not including, `next` these are: how many come before them, and how many they
    /// are.
    ///
    /// # Errors
    /// Some of them were acknowledged, or never sent.
    pub fn within(self, oldest: u32, next: u32) -> Result<(u32, u32), Error> {
        let all = next.wrapping_sub(oldest);
        if self
            == (Run {
                begin: 0,
                length: 0,
            })
        {
            return Ok((0, all));
        }
        const WRONG: Error = Error::reject(
            RejectReason::ProtocolError,
            "11.16: SNACK for what was not sent, or is acknowledged",
        );
        let skip = self.begin.wrapping_sub(oldest);
        let rest = all
            .checked_sub(skip)
            .filter(|&rest| rest > 0)
            .ok_or(WRONG)?;
        match self.length {
            0 => Ok((skip, rest)),
            n if n <= rest => Ok((skip, n)),
            _ => Err(WRONG),
        }
    }
}

/// Reads a SNACK.
///
/// # Errors
/// A field has a value that it may not have.
pub fn read(pdu: &Snack) -> Result<Asked, Error> {
    const WRONG: Error = Error::reject(
        RejectReason::InvalidPduField,
        "11.16: a field of a SNACK that its type does not allow",
    );
    let run = Run {
        begin: pdu.begin,
        length: pdu.length,
    };
    let (tag, none) = (pdu.itt != Itt::NONE, pdu.ttt == Ttt::NONE);
    match pdu.kind & 0x0f {
        0 if tag && none => Ok(Asked::Data { itt: pdu.itt, run }),
        1 if !tag && none => Ok(Asked::Status(run)),
        2 if !tag && !none && run.length == 0 => Ok(Asked::Acknowledge {
            ttt: pdu.ttt,
            next: DataSn(run.begin),
        }),
        3 if tag && run.begin == 0 && run.length == 0 => Ok(Asked::Resegment {
            itt: pdu.itt,
            tag: pdu.ttt.0,
        }),
        _ => Err(WRONG),
    }
}

/// What a SNACK is answered with for which nothing is kept any more.
pub const GONE: Error = Error::reject(
    RejectReason::Snack,
    "11.16: SNACK for what is not kept any more",
);

/// The transfer tag by which data is acknowledged (11.7.4) whose status has this number; no command has its index.
#[must_use]
pub const fn acknowledgement(status: StatSn) -> Ttt {
    Ttt::new(INDEX, status.0)
}

const INDEX: u16 = 0xfffc;

/// The number of the status, of those from `oldest` on, whose data a tag acknowledges.
#[must_use]
pub fn acknowledged(ttt: Ttt, oldest: StatSn) -> Option<StatSn> {
    let ahead = (ttt.0 & 0xffff).wrapping_sub(oldest.0) & 0xffff;
    (ttt.index() == INDEX).then(|| oldest.plus(ahead))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DataLen, Lun};

    fn snack(kind: u8, itt: u32, ttt: u32, begin: u32, length: u32) -> Result<Asked, Error> {
        read(&Snack {
            kind: 0x80 | kind,
            data_len: DataLen::at_most(0),
            lun: Lun::default(),
            itt: Itt(itt),
            ttt: Ttt(ttt),
            exp_stat_sn: StatSn(0),
            begin,
            length,
        })
    }

    #[test]
    fn kinds() {
        const NO: u32 = u32::MAX;
        let run = |begin, length| Run { begin, length };
        let data = Asked::Data {
            itt: Itt(5),
            run: run(1, 2),
        };
        assert_eq!(snack(0, 5, NO, 1, 2), Ok(data));
        assert_eq!(snack(1, NO, NO, 7, 0), Ok(Asked::Status(run(7, 0))));
        let acknowledge = Asked::Acknowledge {
            ttt: Ttt(3),
            next: DataSn(9),
        };
        assert_eq!(snack(2, NO, 3, 9, 0), Ok(acknowledge));
        let again = Asked::Resegment {
            itt: Itt(5),
            tag: 77,
        };
        assert_eq!(snack(3, 5, 77, 0, 0), Ok(again));
        for (kind, itt, ttt, begin, length) in [
            (0, NO, NO, 0, 0),
            (0, 5, 5, 0, 0),
            (1, 5, NO, 0, 0),
            (1, NO, 5, 0, 0),
            (2, 5, 5, 0, 0),
            (2, NO, NO, 0, 0),
            (2, NO, 5, 0, 1),
            (3, NO, 5, 0, 0),
            (3, 5, 5, 1, 0),
            (3, 5, 5, 0, 1),
            (4, 5, NO, 0, 0),
            (15, 5, NO, 0, 0),
        ] {
            let wrong = snack(kind, itt, ttt, begin, length).unwrap_err();
            assert_eq!(wrong.reason, RejectReason::InvalidPduField, "{kind}");
            assert!(!wrong.close);
        }
    }

    #[test]
    fn runs() {
        let run = |begin, length, oldest, next| Run { begin, length }.within(oldest, next).ok();
        assert_eq!(run(0, 0, 5, 9), Some((0, 4)));
        assert_eq!(run(0, 0, 5, 5), Some((0, 0)));
        assert_eq!(run(5, 0, 5, 9), Some((0, 4)));
        assert_eq!(run(6, 2, 5, 9), Some((1, 2)));
        assert_eq!(run(8, 1, 5, 9), Some((3, 1)));
        for wrong in [
            (4, 1),
            (9, 1),
            (8, 2),
            (9, 0),
            (0, 1),
            (u32::MAX, 0),
            (6, u32::MAX),
        ] {
            assert_eq!(run(wrong.0, wrong.1, 5, 9), None, "{wrong:?}");
        }
        // Over the end of the numbers.
        let last = u32::MAX;
        assert_eq!(run(last, 0, last - 1, 2), Some((1, 3)));
        assert_eq!(run(0, 2, last - 1, 2), Some((2, 2)));
        assert_eq!(run(last - 2, 1, last - 1, 2), None);
        assert_eq!(run(2, 1, last - 1, 2), None);
    }

    #[test]
    fn tags_of_acknowledgements() {
        for oldest in [0, 5, 0xfff0, 0x1_0000, u32::MAX - 3, u32::MAX] {
            for ahead in [0, 1, 7, 1000] {
                let status = StatSn(oldest).plus(ahead);
                let ttt = acknowledgement(status);
                assert_eq!(acknowledged(ttt, StatSn(oldest)), Some(status));
                assert_ne!(ttt, Ttt::NONE);
            }
        }
        assert_eq!(acknowledged(Ttt::new(5, 5), StatSn(0)), None);
    }
}
