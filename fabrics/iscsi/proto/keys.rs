// SPDX-License-Identifier: GPL-2.0

//! The keys of RFC 7143, 13, and of RFC 7144 and 7145, in one table: who may say what, when, in which form, how often,
//! and what comes of it. What is read, checked and answered follows from the rows, and so does `KEYS.md`.
//!
//! Not in it, and so answered with NotUnderstood: the keys of authentication methods (12) while theirs is not agreed on,
//! and all private ones. CHAP's are read by [`crate::login::chap`], as are the values of AuthMethod.

mod form;
#[cfg(test)]
mod page;

pub use form::{address, Form};

/// A key of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the keys'.
pub enum Id {
    AuthMethod,
    HeaderDigest,
    DataDigest,
    MaxConnections,
    SendTargets,
    TargetName,
    InitiatorName,
    TargetAlias,
    InitiatorAlias,
    TargetAddress,
    TargetPortalGroupTag,
    InitialR2T,
    ImmediateData,
    MaxRecvDataSegmentLength,
    MaxBurstLength,
    FirstBurstLength,
    DefaultTime2Wait,
    DefaultTime2Retain,
    MaxOutstandingR2T,
    DataPDUInOrder,
    DataSequenceInOrder,
    ErrorRecoveryLevel,
    SessionType,
    TaskReporting,
    ISCSIProtocolLevel,
    NodeArchitecture,
    IFMarker,
    OFMarker,
    IFMarkInt,
    OFMarkInt,
    RDMAExtensions,
    TargetRecvDataSegmentLength,
    InitiatorRecvDataSegmentLength,
    ISERHelloRequired,
    MaxOutstandingUnexpectedPDUs,
    MaxAHSLength,
    TaggedBufferForSolicitedDataOnly,
}

/// How the two sides come to a value: 6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One side says, the other takes note; no answer.
    Text(Form),
    /// One side says a number.
    Declared(Range),
    /// The smaller number.
    Min(Range),
    /// The larger number.
    Max(Range),
    /// Yes if either says Yes.
    Or(bool),
    /// Yes if both say Yes.
    And(bool),
    /// The first of the offered values that the responder knows; here the one that this target knows, which is
    /// the default too.
    List(&'static str),
    /// The first of the offered values that the portal group allows (13.1); None by default.
    Digest,
    /// It is of no use here, as it is obsolete (13.25) or belongs to another transport: what it is answered with.
    Unused(&'static str),
    /// The same for one that has no answer.
    Unheard,
}

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Smallest.
    pub min: u32,
    /// Largest.
    pub max: u32,
    /// What holds when nobody says anything.
    pub default: u32,
}

/// When a key may be used: 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// IO: in a login phase only.
    Login,
    /// LO: in the login phase of a session's first connection only.
    Leading,
    /// ALL: in the login phase and in full feature phase.
    All,
    /// FFPO: in full feature phase only.
    FullFeature,
}

/// Who may send a key, answers aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The initiator.
    Initiator,
    /// The target.
    Target,
    /// Both.
    Both,
}

/// How often a key may be said by the same side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Often {
    /// Once in a login.
    Login,
    /// Once in a negotiation, which is a stage of a login, or a text sequence (6.2, 6.4).
    Negotiation,
    /// As often as there is something to say.
    Any,
}

/// Where in a connection's life a key comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The login of a session's first connection.
    LeadingLogin,
    /// The login of another.
    OtherLogin,
    /// Full feature phase.
    FullFeature,
}

/// In which stages of a login a key may be used: 6.3.2, 6.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum In {
    /// SecurityNegotiation.
    Security,
    /// LoginOperationalNegotiation.
    Operational,
    /// Both.
    Any,
}

/// What a value holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// SW: the session.
    Session,
    /// CO: the connection.
    Connection,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Which it is.
    pub id: Id,
    /// Its name on the wire.
    pub name: &'static str,
    /// How it is negotiated.
    pub kind: Kind,
    /// When.
    pub usage: Use,
    /// By whom.
    pub sender: Sender,
    /// In which stages.
    pub stage: In,
    /// What for.
    pub scope: Scope,
    /// How often.
    pub often: Often,
    /// It means something in a discovery session; else it is answered with Irrelevant there.
    pub discovery: bool,
}

const fn range(min: u32, max: u32, default: u32) -> Range {
    Range { min, max, default }
}

/// The length of a data segment or burst: 13.12 to 13.14.
const fn length(default: u32) -> Range {
    range(512, 0x00ff_ffff, default)
}

macro_rules! table {
    ($($name:literal $id:ident: $kind:expr, $usage:ident, $sender:ident, $stage:ident, $scope:ident, $often:ident, $discovery:expr;)+) => {
        /// The table.
        pub static KEYS: &[Key] = &[
            $(Key {
                id: Id::$id,
                name: $name,
                kind: $kind,
                usage: Use::$usage,
                sender: Sender::$sender,
                stage: In::$stage,
                scope: Scope::$scope,
                often: Often::$often,
                discovery: $discovery,
            },)+
        ];
    };
}

#[rustfmt::skip]
mod rows {
    use super::*;
    use Kind::*;

    const YES: bool = true;
    const NO: bool = false;

    table! {
    // name                            id                                kind                                         use          sender     stage        scope       often        discovery
    "AuthMethod"                       AuthMethod:                       Text(Form::Words),                           Login,       Both,      Security,    Connection, Login,       YES;
    "HeaderDigest"                     HeaderDigest:                     Digest,                                      Login,       Both,      Operational, Connection, Login,       YES;
    "DataDigest"                       DataDigest:                       Digest,                                      Login,       Both,      Operational, Connection, Login,       YES;
    "MaxConnections"                   MaxConnections:                   Min(range(1, 65_535, 1)),                    Leading,     Both,      Operational, Session,    Login,       NO;
    "SendTargets"                      SendTargets:                      Text(Form::Targets),                         FullFeature, Initiator, Any,         Session,    Negotiation, YES;
    "TargetName"                       TargetName:                       Text(Form::Name),                            Login,       Initiator, Any,         Session,    Login,       YES;
    "InitiatorName"                    InitiatorName:                    Text(Form::Name),                            Login,       Initiator, Any,         Session,    Login,       YES;
    "TargetAlias"                      TargetAlias:                      Text(Form::Local),                           All,         Target,    Any,         Session,    Negotiation, YES;
    "InitiatorAlias"                   InitiatorAlias:                   Text(Form::Local),                           All,         Initiator, Any,         Session,    Negotiation, YES;
    "TargetAddress"                    TargetAddress:                    Text(Form::Address),                         All,         Target,    Any,         Session,    Any,         YES;
    "TargetPortalGroupTag"             TargetPortalGroupTag:             Text(Form::Tag),                             Login,       Target,    Any,         Session,    Login,       YES;
    "InitialR2T"                       InitialR2T:                       Or(true),                                    Leading,     Both,      Operational, Session,    Login,       NO;
    "ImmediateData"                    ImmediateData:                    And(true),                                   Leading,     Both,      Operational, Session,    Login,       NO;
    "MaxRecvDataSegmentLength"         MaxRecvDataSegmentLength:         Declared(length(8_192)),                     All,         Both,      Operational, Connection, Negotiation, YES;
    "MaxBurstLength"                   MaxBurstLength:                   Min(length(262_144)),                        Leading,     Both,      Operational, Session,    Login,       NO;
    "FirstBurstLength"                 FirstBurstLength:                 Min(length(65_536)),                         Leading,     Both,      Operational, Session,    Login,       NO;
    "DefaultTime2Wait"                 DefaultTime2Wait:                 Max(range(0, 3_600, 2)),                     Leading,     Both,      Operational, Session,    Login,       YES;
    "DefaultTime2Retain"               DefaultTime2Retain:               Min(range(0, 3_600, 20)),                    Leading,     Both,      Operational, Session,    Login,       YES;
    "MaxOutstandingR2T"                MaxOutstandingR2T:                Min(range(1, 65_535, 1)),                    Leading,     Both,      Operational, Session,    Login,       NO;
    "DataPDUInOrder"                   DataPDUInOrder:                   Or(true),                                    Leading,     Both,      Operational, Session,    Login,       NO;
    "DataSequenceInOrder"              DataSequenceInOrder:              Or(true),                                    Leading,     Both,      Operational, Session,    Login,       NO;
    "ErrorRecoveryLevel"               ErrorRecoveryLevel:               Min(range(0, 2, 0)),                         Leading,     Both,      Operational, Session,    Login,       YES;
    "SessionType"                      SessionType:                      Text(Form::OneOf(&["Normal", "Discovery"])), Leading,     Initiator, Any,         Session,    Login,       YES;
    "TaskReporting"                    TaskReporting:                    List("RFC3720"),                             Leading,     Both,      Operational, Session,    Login,       NO;
    "iSCSIProtocolLevel"               ISCSIProtocolLevel:               Min(range(0, 31, 1)),                        Leading,     Both,      Operational, Session,    Login,       NO;
    "X#NodeArchitecture"               NodeArchitecture:                 Text(Form::Words),                           Leading,     Both,      Any,         Session,    Login,       YES;
    "IFMarker"                         IFMarker:                         Unused("No"),                                Login,       Both,      Operational, Connection, Login,       YES;
    "OFMarker"                         OFMarker:                         Unused("No"),                                Login,       Both,      Operational, Connection, Login,       YES;
    "IFMarkInt"                        IFMarkInt:                        Unused("Reject"),                            Login,       Both,      Operational, Connection, Login,       YES;
    "OFMarkInt"                        OFMarkInt:                        Unused("Reject"),                            Login,       Both,      Operational, Connection, Login,       YES;
    // RFC 7145, 6: without RDMA none of them is used.
    "RDMAExtensions"                   RDMAExtensions:                   And(false),                                  Leading,     Both,      Operational, Session,    Login,       NO;
    "TargetRecvDataSegmentLength"      TargetRecvDataSegmentLength:      Unused("Irrelevant"),                        Login,       Both,      Operational, Connection, Login,       NO;
    "InitiatorRecvDataSegmentLength"   InitiatorRecvDataSegmentLength:   Unused("Irrelevant"),                        Login,       Both,      Operational, Connection, Login,       NO;
    "iSERHelloRequired"                ISERHelloRequired:                Unheard,                                     Leading,     Initiator, Operational, Session,    Login,       YES;
    "MaxOutstandingUnexpectedPDUs"     MaxOutstandingUnexpectedPDUs:     Unheard,                                     Leading,     Both,      Operational, Session,    Login,       YES;
    "MaxAHSLength"                     MaxAHSLength:                     Unheard,                                     Leading,     Both,      Operational, Session,    Login,       YES;
    "TaggedBufferForSolicitedDataOnly" TaggedBufferForSolicitedDataOnly: Unheard,                                     Leading,     Target,    Operational, Session,    Login,       YES;
    }
}
pub use rows::KEYS;

impl Id {
    /// Its bit in a set of keys.
    #[must_use]
    pub fn bit(self) -> u64 {
        1u64.wrapping_shl(u32::from(self as u8))
    }

    /// Its row.
    #[must_use]
    pub fn key(self) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.id == self)
    }

    /// Its name; the table has a row for each, so that it is never empty.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.key().map_or("", |key| key.name)
    }
}

impl Key {
    /// Whether an initiator may say it of its own in this phase.
    ///
    /// ```text
    /// phase             IO   LO   ALL  FFPO
    /// leading login     yes  yes  yes  no
    /// another login     yes  no   yes  no
    /// full feature      no   no   yes  yes
    /// ```
    #[must_use]
    pub const fn may_come(&self, phase: Phase) -> bool {
        if matches!(self.sender, Sender::Target) {
            return false;
        }
        match self.usage {
            Use::Login => !matches!(phase, Phase::FullFeature),
            Use::Leading => matches!(phase, Phase::LeadingLogin),
            Use::All => true,
            Use::FullFeature => matches!(phase, Phase::FullFeature),
        }
    }
}

/// The row for a key's name as it came; names are compared byte by byte (6.1).
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.as_bytes() == name)
}

/// Whether a value is one of those that only answers have: 6.2.
#[must_use]
pub fn is_answer(value: &[u8]) -> bool {
    matches!(value, b"NotUnderstood" | b"Irrelevant" | b"Reject")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_there_once() {
        for (at, key) in KEYS.iter().enumerate() {
            assert_eq!(key.id as usize, at, "rows are in the order of Id");
            assert_eq!(find(key.name.as_bytes()), Some(key));
            assert_eq!(key.id.name(), key.name);
            assert!(key.name.len() <= crate::text::KEY_MAX);
        }
        assert_eq!(
            KEYS.len(),
            Id::TaggedBufferForSolicitedDataOnly as usize + 1
        );
        assert!(KEYS.len() <= 64, "sets of keys have 64 bits");
        assert_eq!(find(b"initialr2t"), None);
    }

    #[test]
    fn defaults_are_in_range() {
        for key in KEYS {
            if let Kind::Min(r) | Kind::Max(r) | Kind::Declared(r) = key.kind {
                assert!(r.min <= r.default && r.default <= r.max, "{}", key.name);
            }
        }
    }
}
