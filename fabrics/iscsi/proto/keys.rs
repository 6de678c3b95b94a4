// SPDX-License-Identifier: GPL-2.0

//! The keys of RFC 7143, 13, in one table.
//!
//! Not in it, and so answered with NotUnderstood: the keys of authentication methods (12) while theirs is not agreed on,
//! of iSER (RFC 7145), and all private ones. AuthMethod and CHAP's are read by [`crate::login::chap`].

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
}

/// How the two sides come to a value: 6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One side says, the other takes note; no answer. A text of the kind that the reader of the key knows.
    Text,
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
    /// Obsolete (13.25): what it is answered with.
    Obsolete(&'static str),
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
    /// IO and LO: in a login phase only. With one connection to a session, every login is the leading one.
    Login,
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
    ($($name:literal $id:ident: $kind:expr, $usage:ident, $sender:ident, $stage:ident, $scope:ident, $discovery:expr;)+) => {
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
    // name                     id                        kind                               use       sender     stage        scope       discovery
    "AuthMethod"               AuthMethod:               Text,                              Login,       Both,      Security,    Connection, YES;
    "HeaderDigest"             HeaderDigest:             Digest,                            Login,       Both,      Operational, Connection, YES;
    "DataDigest"               DataDigest:               Digest,                            Login,       Both,      Operational, Connection, YES;
    "MaxConnections"           MaxConnections:           Min(range(1, 65_535, 1)),          Login,       Both,      Operational, Session,    NO;
    "SendTargets"              SendTargets:              Text,                              FullFeature, Initiator, Any,         Session,    YES;
    "TargetName"               TargetName:               Text,                              Login,       Initiator, Any,         Session,    YES;
    "InitiatorName"            InitiatorName:            Text,                              Login,       Initiator, Any,         Session,    YES;
    "TargetAlias"              TargetAlias:              Text,                              All,         Target,    Any,         Session,    YES;
    "InitiatorAlias"           InitiatorAlias:           Text,                              All,         Initiator, Any,         Session,    YES;
    "TargetAddress"            TargetAddress:            Text,                              All,         Target,    Any,         Session,    YES;
    "TargetPortalGroupTag"     TargetPortalGroupTag:     Text,                              Login,       Target,    Any,         Session,    YES;
    "InitialR2T"               InitialR2T:               Or(true),                          Login,       Both,      Operational, Session,    NO;
    "ImmediateData"            ImmediateData:            And(true),                         Login,       Both,      Operational, Session,    NO;
    "MaxRecvDataSegmentLength" MaxRecvDataSegmentLength: Declared(length(8_192)),           All,         Both,      Operational, Connection, YES;
    "MaxBurstLength"           MaxBurstLength:           Min(length(262_144)),              Login,       Both,      Operational, Session,    NO;
    "FirstBurstLength"         FirstBurstLength:         Min(length(65_536)),               Login,       Both,      Operational, Session,    NO;
    "DefaultTime2Wait"         DefaultTime2Wait:         Max(range(0, 3_600, 2)),           Login,       Both,      Operational, Session,    YES;
    "DefaultTime2Retain"       DefaultTime2Retain:       Min(range(0, 3_600, 20)),          Login,       Both,      Operational, Session,    YES;
    "MaxOutstandingR2T"        MaxOutstandingR2T:        Min(range(1, 65_535, 1)),          Login,       Both,      Operational, Session,    NO;
    "DataPDUInOrder"           DataPDUInOrder:           Or(true),                          Login,       Both,      Operational, Session,    NO;
    "DataSequenceInOrder"      DataSequenceInOrder:      Or(true),                          Login,       Both,      Operational, Session,    NO;
    "ErrorRecoveryLevel"       ErrorRecoveryLevel:       Min(range(0, 2, 0)),               Login,       Both,      Operational, Session,    YES;
    "SessionType"              SessionType:              Text,                              Login,       Initiator, Any,         Session,    YES;
    "TaskReporting"            TaskReporting:            List("RFC3720"),                   Login,       Both,      Operational, Session,    NO;
    "iSCSIProtocolLevel"       ISCSIProtocolLevel:       Min(range(0, 31, 1)),              Login,       Both,      Operational, Session,    NO;
    "X#NodeArchitecture"       NodeArchitecture:         Text,                              Login,       Both,      Any,         Session,    YES;
    "IFMarker"                 IFMarker:                 Obsolete("No"),                    Login,       Both,      Operational, Connection, YES;
    "OFMarker"                 OFMarker:                 Obsolete("No"),                    Login,       Both,      Operational, Connection, YES;
    "IFMarkInt"                IFMarkInt:                Obsolete("Reject"),                Login,       Both,      Operational, Connection, YES;
    "OFMarkInt"                OFMarkInt:                Obsolete("Reject"),                Login,       Both,      Operational, Connection, YES;
    }
}
pub use rows::KEYS;

impl Id {
    /// Its bit in a set of keys.
    #[must_use]
    pub fn bit(self) -> u32 {
        1u32.wrapping_shl(u32::from(self as u8))
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
        assert_eq!(KEYS.len(), Id::OFMarkInt as usize + 1);
        assert!(KEYS.len() <= 32, "sets of keys have 32 bits");
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
