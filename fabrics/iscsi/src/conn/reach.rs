// SPDX-License-Identifier: GPL-2.0

//! What the initiator has of what is sent to it. An R2T goes behind all that was to be sent before, reads of many megabytes perhaps.

/// How far the initiator has got with what is sent to it, since the connection began.
pub(super) struct Reach {
    /// R2Ts that TCP has taken.
    pub(super) r2ts: u64,
    /// Bytes that TCP has taken.
    pub(super) sent: u64,
    /// Bytes that the initiator has.
    pub(super) got: u64,
}

/// How far the newest R2T of a command has come.
#[derive(Clone, Copy)]
pub(super) enum R2tWay {
    /// There is none, or the initiator has it.
    Arrived,
    /// It goes behind what was to be sent before: it is this one of the connection's.
    Queued(u64),
    /// It was among the bytes that TCP had taken then.
    Sent(u64),
}

impl R2tWay {
    /// Whether the initiator does not have it yet.
    pub(super) fn is_open(&mut self, reach: &Reach) -> bool {
        if let R2tWay::Queued(n) = *self {
            if reach.r2ts < n {
                return true;
            }
            *self = R2tWay::Sent(reach.sent);
        }
        match *self {
            R2tWay::Sent(at) if reach.got < at => true,
            _ => {
                *self = R2tWay::Arrived;
                false
            }
        }
    }
}
