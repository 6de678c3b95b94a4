// SPDX-License-Identifier: GPL-2.0

//! Sense data (SPC-4, 4.5; additional sense codes: SPC-4, annex D.2).

mod copy;

use crate::bytes::Writer;
pub use copy::{CopyFailure, Side};

/// Sense keys (SPC-4, table 48). The discriminant is the key on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Key {
    /// Nothing to report.
    NoSense = 0x0,
    /// The command succeeded after a recovery.
    RecoveredError = 0x1,
    /// The unit cannot be accessed.
    NotReady = 0x2,
    /// A flaw of the medium or of the recorded data.
    MediumError = 0x3,
    /// A hardware failure.
    HardwareError = 0x4,
    /// The CDB or the parameter list asks for what there is not.
    IllegalRequest = 0x5,
    /// A unit attention condition.
    UnitAttention = 0x6,
    /// The medium is protected against this access.
    DataProtect = 0x7,
    /// A copy command was aborted.
    CopyAborted = 0xa,
    /// The unit aborted the command; sending it again may help.
    AbortedCommand = 0xb,
    /// The data sent differs from the data on the medium.
    Miscompare = 0xe,
}

/// An additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asc {
    /// ADDITIONAL SENSE CODE.
    pub code: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub qualifier: u8,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $qualifier:literal;)*) => {
        impl Asc {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, qualifier: $qualifier };)*
        }
    };
}

codes! {
    /// NO ADDITIONAL SENSE INFORMATION
    NONE = 0x00, 0x00;
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE
    NOT_READY = 0x04, 0x00;
    /// LOGICAL UNIT IS IN PROCESS OF BECOMING READY
    BECOMING_READY = 0x04, 0x01;
    /// LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED
    INITIALIZING_COMMAND_REQUIRED = 0x04, 0x02;
    /// LOGICAL UNIT NOT READY, FORMAT IN PROGRESS
    FORMAT_IN_PROGRESS = 0x04, 0x04;
    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS
    SANITIZE_IN_PROGRESS = 0x04, 0x1b;
    /// LOGICAL UNIT NOT READY, MANUAL INTERVENTION REQUIRED
    MANUAL_INTERVENTION_REQUIRED = 0x04, 0x03;
    /// LOGICAL UNIT NOT ACCESSIBLE, ASYMMETRIC ACCESS STATE TRANSITION
    ALUA_TRANSITION = 0x04, 0x0a;
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN STANDBY STATE
    ALUA_STANDBY = 0x04, 0x0b;
    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE
    ALUA_UNAVAILABLE = 0x04, 0x0c;
    /// LOGICAL UNIT NOT READY, OFFLINE
    OFFLINE = 0x04, 0x12;
    /// LOGICAL UNIT COMMUNICATION FAILURE
    COMMUNICATION_FAILURE = 0x08, 0x00;
    /// UNREACHABLE COPY TARGET
    UNREACHABLE_COPY_TARGET = 0x08, 0x04;
    /// WRITE ERROR
    WRITE_ERROR = 0x0c, 0x00;
    /// WRITE ERROR - UNEXPECTED UNSOLICITED DATA
    UNEXPECTED_UNSOLICITED_DATA = 0x0c, 0x0c;
    /// WRITE ERROR - NOT ENOUGH UNSOLICITED DATA
    NOT_ENOUGH_UNSOLICITED_DATA = 0x0c, 0x0d;
    /// THIRD PARTY DEVICE FAILURE
    THIRD_PARTY_DEVICE_FAILURE = 0x0d, 0x01;
    /// COPY TARGET DEVICE NOT REACHABLE
    COPY_TARGET_NOT_REACHABLE = 0x0d, 0x02;
    /// INCORRECT COPY TARGET DEVICE TYPE
    INCORRECT_COPY_TARGET_TYPE = 0x0d, 0x03;
    /// INVALID FIELD IN COMMAND INFORMATION UNIT
    INVALID_FIELD_IN_COMMAND_IU = 0x0e, 0x03;
    /// LOGICAL BLOCK GUARD CHECK FAILED
    GUARD_CHECK_FAILED = 0x10, 0x01;
    /// LOGICAL BLOCK APPLICATION TAG CHECK FAILED
    APPLICATION_TAG_CHECK_FAILED = 0x10, 0x02;
    /// LOGICAL BLOCK REFERENCE TAG CHECK FAILED
    REFERENCE_TAG_CHECK_FAILED = 0x10, 0x03;
    /// UNRECOVERED READ ERROR
    UNRECOVERED_READ_ERROR = 0x11, 0x00;
    /// READ ERROR - FAILED RETRANSMISSION REQUEST
    FAILED_RETRANSMISSION = 0x11, 0x13;
    /// READ ERROR - LBA MARKED BAD BY APPLICATION CLIENT
    LBA_MARKED_BAD = 0x11, 0x14;
    /// PARAMETER LIST LENGTH ERROR
    PARAMETER_LIST_LENGTH = 0x1a, 0x00;
    /// MISCOMPARE DURING VERIFY OPERATION
    MISCOMPARE = 0x1d, 0x00;
    /// INVALID COMMAND OPERATION CODE
    INVALID_OPERATION_CODE = 0x20, 0x00;
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE
    LBA_OUT_OF_RANGE = 0x21, 0x00;
    /// INVALID FIELD IN CDB
    INVALID_FIELD_IN_CDB = 0x24, 0x00;
    /// LOGICAL UNIT NOT SUPPORTED
    LUN_NOT_SUPPORTED = 0x25, 0x00;
    /// INVALID FIELD IN PARAMETER LIST
    INVALID_FIELD_IN_PARAMETER_LIST = 0x26, 0x00;
    /// INVALID RELEASE OF PERSISTENT RESERVATION
    INVALID_RELEASE = 0x26, 0x04;
    /// TOO MANY TARGET DESCRIPTORS
    TOO_MANY_TARGET_DESCRIPTORS = 0x26, 0x06;
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE
    UNSUPPORTED_TARGET_DESCRIPTOR = 0x26, 0x07;
    /// TOO MANY SEGMENT DESCRIPTORS
    TOO_MANY_SEGMENT_DESCRIPTORS = 0x26, 0x08;
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE
    UNSUPPORTED_SEGMENT_DESCRIPTOR = 0x26, 0x09;
    /// UNEXPECTED INEXACT SEGMENT
    UNEXPECTED_INEXACT_SEGMENT = 0x26, 0x0a;
    /// INLINE DATA LENGTH EXCEEDED
    INLINE_DATA_LENGTH = 0x26, 0x0b;
    /// WRITE PROTECTED
    WRITE_PROTECTED = 0x27, 0x00;
    /// SPACE ALLOCATION FAILED WRITE PROTECT
    SPACE_ALLOCATION_FAILED = 0x27, 0x07;
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED
    RESET = 0x29, 0x00;
    /// POWER ON OCCURRED
    POWER_ON = 0x29, 0x01;
    /// SCSI BUS RESET OCCURRED
    BUS_RESET = 0x29, 0x02;
    /// BUS DEVICE RESET FUNCTION OCCURRED
    BUS_DEVICE_RESET = 0x29, 0x03;
    /// DEVICE INTERNAL RESET
    DEVICE_INTERNAL_RESET = 0x29, 0x04;
    /// I_T NEXUS LOSS OCCURRED
    NEXUS_LOSS = 0x29, 0x07;
    /// PARAMETERS CHANGED
    PARAMETERS_CHANGED = 0x2a, 0x00;
    /// MODE PARAMETERS CHANGED
    MODE_PARAMETERS_CHANGED = 0x2a, 0x01;
    /// LOG PARAMETERS CHANGED
    LOG_PARAMETERS_CHANGED = 0x2a, 0x02;
    /// RESERVATIONS PREEMPTED
    RESERVATIONS_PREEMPTED = 0x2a, 0x03;
    /// RESERVATIONS RELEASED
    RESERVATIONS_RELEASED = 0x2a, 0x04;
    /// REGISTRATIONS PREEMPTED
    REGISTRATIONS_PREEMPTED = 0x2a, 0x05;
    /// ASYMMETRIC ACCESS STATE CHANGED
    ALUA_STATE_CHANGED = 0x2a, 0x06;
    /// IMPLICIT ASYMMETRIC ACCESS STATE TRANSITION FAILED
    ALUA_TRANSITION_FAILED = 0x2a, 0x07;
    /// PRIORITY CHANGED
    PRIORITY_CHANGED = 0x2a, 0x08;
    /// CAPACITY DATA HAS CHANGED
    CAPACITY_CHANGED = 0x2a, 0x09;
    /// TIMESTAMP CHANGED
    TIMESTAMP_CHANGED = 0x2a, 0x10;
    /// COMMAND SEQUENCE ERROR
    COMMAND_SEQUENCE_ERROR = 0x2c, 0x00;
    /// PREVIOUS BUSY STATUS
    PREVIOUS_BUSY = 0x2c, 0x07;
    /// PREVIOUS TASK SET FULL STATUS
    PREVIOUS_TASK_SET_FULL = 0x2c, 0x08;
    /// PREVIOUS RESERVATION CONFLICT STATUS
    PREVIOUS_RESERVATION_CONFLICT = 0x2c, 0x09;
    /// ORWRITE GENERATION DOES NOT MATCH
    ORWRITE_GENERATION = 0x2c, 0x0c;
    /// COMMANDS CLEARED BY ANOTHER INITIATOR
    COMMANDS_CLEARED = 0x2f, 0x00;
    /// COMMANDS CLEARED BY POWER LOSS NOTIFICATION
    COMMANDS_CLEARED_BY_POWER_LOSS = 0x2f, 0x01;
    /// COMMANDS CLEARED BY DEVICE SERVER
    COMMANDS_CLEARED_BY_SERVER = 0x2f, 0x02;
    /// FORMAT COMMAND FAILED
    FORMAT_FAILED = 0x31, 0x01;
    /// SANITIZE COMMAND FAILED
    SANITIZE_FAILED = 0x31, 0x03;
    /// THIN PROVISIONING SOFT THRESHOLD REACHED
    SOFT_THRESHOLD_REACHED = 0x38, 0x07;
    /// SAVING PARAMETERS NOT SUPPORTED
    SAVING_NOT_SUPPORTED = 0x39, 0x00;
    /// MEDIUM NOT PRESENT
    MEDIUM_NOT_PRESENT = 0x3a, 0x00;
    /// OPERATION IN PROGRESS
    OPERATION_IN_PROGRESS = 0x00, 0x16;
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED
    MEDIUM_MAY_HAVE_CHANGED = 0x28, 0x00;
    /// MEDIUM REMOVAL PREVENTED
    MEDIUM_REMOVAL_PREVENTED = 0x53, 0x02;
    /// LOGICAL UNIT FAILED SELF-TEST
    SELF_TEST_FAILED = 0x3e, 0x03;
    /// MICROCODE HAS BEEN CHANGED
    MICROCODE_CHANGED = 0x3f, 0x01;
    /// INQUIRY DATA HAS CHANGED
    INQUIRY_CHANGED = 0x3f, 0x03;
    /// DEVICE IDENTIFIER CHANGED
    DEVICE_IDENTIFIER_CHANGED = 0x3f, 0x05;
    /// REPORTED LUNS DATA HAS CHANGED
    REPORTED_LUNS_CHANGED = 0x3f, 0x0e;
    /// INTERNAL TARGET FAILURE
    INTERNAL_TARGET_FAILURE = 0x44, 0x00;
    /// PERSISTENT RESERVATION INFORMATION LOST
    RESERVATION_INFORMATION_LOST = 0x44, 0x01;
    /// PROTOCOL SERVICE CRC ERROR
    PROTOCOL_SERVICE_CRC = 0x47, 0x05;
    /// SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT
    CLEARED_BY_ISCSI_EVENT = 0x47, 0x7f;
    /// DATA PHASE ERROR
    DATA_PHASE_ERROR = 0x4b, 0x00;
    /// SYSTEM RESOURCE FAILURE
    SYSTEM_RESOURCE_FAILURE = 0x55, 0x00;
    /// INSUFFICIENT RESOURCES
    INSUFFICIENT_RESOURCES = 0x55, 0x03;
    /// INSUFFICIENT REGISTRATION RESOURCES
    INSUFFICIENT_REGISTRATION_RESOURCES = 0x55, 0x04;
    /// INSUFFICIENT RESOURCES TO CREATE ROD TOKEN
    INSUFFICIENT_ROD_TOKEN_RESOURCES = 0x55, 0x0d;
    /// FAILURE PREDICTION THRESHOLD EXCEEDED
    FAILURE_PREDICTION = 0x5d, 0x00;
    /// FAILURE PREDICTION THRESHOLD EXCEEDED (FALSE)
    FAILURE_PREDICTION_TEST = 0x5d, 0xff;
    /// SET TARGET PORT GROUPS COMMAND FAILED
    SET_TARGET_PORT_GROUPS_FAILED = 0x67, 0x0a;
}

/// SENSE KEY SPECIFIC data (SPC-4, 4.5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specific {
    /// SKSV is zero.
    None,
    /// Where the wrong field begins.
    Field(FieldPointer),
    /// How far an operation is, in 65,536ths.
    Progress(u16),
    /// More unit attentions happened than could be kept.
    UnitAttentionOverflow,
    /// Nothing; the error is that of an earlier command, which was answered before (SPC-4, 4.5): response codes 71h and 73h.
    Deferred,
    /// A field of the CDB is not the length of what there is: ILI, and the difference in the place of INFORMATION.
    Length(FieldPointer, i32),
    /// Which segment of a copy failed, and why; with COPY ABORTED.
    Copy(CopyFailure),
}

/// A field that was wrong: its first byte and, where known, its leftmost bit (SPC-4, 4.5.2.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPointer {
    /// In the CDB; otherwise in the parameter list.
    pub in_cdb: bool,
    /// The byte, counted from 0.
    pub byte: u16,
    /// The bit, 7 to 0; a whole byte has none.
    pub bit: Option<u8>,
}

/// What sense data says, apart from its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The sense key.
    pub key: Key,
    /// The additional sense code.
    pub asc: Asc,
    /// Sense key specific data.
    pub specific: Specific,
    /// The INFORMATION field: for a direct access device the LBA, or the offset of a miscompare.
    pub information: Option<u64>,
}

macro_rules! senses {
    ($($(#[$doc:meta])* $name:ident = $key:ident, $asc:ident;)*) => {
        impl Sense {
            $($(#[$doc])* pub const $name: Self = Self::new(Key::$key, Asc::$asc);)*
        }
    };
}

senses! {
    /// Nothing to report, as REQUEST SENSE says it.
    NO_SENSE = NoSense, NONE;
    /// The operation code is none that is supported.
    INVALID_OPERATION_CODE = IllegalRequest, INVALID_OPERATION_CODE;
    /// A block beyond the end of the medium.
    LBA_OUT_OF_RANGE = IllegalRequest, LBA_OUT_OF_RANGE;
    /// There is no such logical unit.
    LUN_NOT_SUPPORTED = IllegalRequest, LUN_NOT_SUPPORTED;
    /// The parameter list is cut off inside of a field.
    PARAMETER_LIST_LENGTH = IllegalRequest, PARAMETER_LIST_LENGTH;
    /// Nothing was written to what is to be read.
    COMMAND_SEQUENCE_ERROR = IllegalRequest, COMMAND_SEQUENCE_ERROR;
    /// The default self-test found the unit faulty.
    SELF_TEST_FAILED = HardwareError, SELF_TEST_FAILED;
    /// A reservation was to be released by another scope or type than it has.
    INVALID_RELEASE = IllegalRequest, INVALID_RELEASE;
    /// No registration has room any more.
    INSUFFICIENT_REGISTRATION_RESOURCES = IllegalRequest, INSUFFICIENT_REGISTRATION_RESOURCES;
    /// Saved mode pages were asked for.
    SAVING_NOT_SUPPORTED = IllegalRequest, SAVING_NOT_SUPPORTED;
    /// A write to a unit, or through an ACL, that does not allow it.
    WRITE_PROTECTED = DataProtect, WRITE_PROTECTED;
    /// What persistent reservations there were is not known any more.
    RESERVATION_INFORMATION_LOST = DataProtect, RESERVATION_INFORMATION_LOST;
    /// The back end's store is full.
    SPACE_ALLOCATION_FAILED = DataProtect, SPACE_ALLOCATION_FAILED;
    /// The back end failed to read.
    READ_ERROR = MediumError, UNRECOVERED_READ_ERROR;
    /// The back end failed to write.
    WRITE_ERROR = MediumError, WRITE_ERROR;
    /// VERIFY or COMPARE AND WRITE found a difference.
    MISCOMPARE = Miscompare, MISCOMPARE;
    /// The back end cannot be reached, perhaps only for now: NOT READY has initiators try again.
    COMMUNICATION_FAILURE = NotReady, COMMUNICATION_FAILURE;
    /// The back end's device is gone, or was taken away.
    OFFLINE = NotReady, OFFLINE;
    /// The port's asymmetric access state is just changing.
    ALUA_TRANSITION = NotReady, ALUA_TRANSITION;
    /// The port is in the standby state.
    ALUA_STANDBY = NotReady, ALUA_STANDBY;
    /// The port is in the unavailable state.
    ALUA_UNAVAILABLE = NotReady, ALUA_UNAVAILABLE;
    /// The access state that was asked for could not be had.
    SET_TARGET_PORT_GROUPS_FAILED = HardwareError, SET_TARGET_PORT_GROUPS_FAILED;
    /// An error of the target itself.
    INTERNAL_TARGET_FAILURE = HardwareError, INTERNAL_TARGET_FAILURE;
    /// Memory ran out; another attempt may succeed.
    INSUFFICIENT_RESOURCES = AbortedCommand, INSUFFICIENT_RESOURCES;
    /// Write data came that was not asked for.
    UNEXPECTED_UNSOLICITED_DATA = AbortedCommand, UNEXPECTED_UNSOLICITED_DATA;
    /// Less write data came than was announced.
    NOT_ENOUGH_UNSOLICITED_DATA = AbortedCommand, NOT_ENOUGH_UNSOLICITED_DATA;
    /// A data digest was wrong.
    PROTOCOL_SERVICE_CRC = AbortedCommand, PROTOCOL_SERVICE_CRC;
    /// The command's information unit (PDU, IU) holds a wrong field.
    INVALID_FIELD_IN_COMMAND_IU = IllegalRequest, INVALID_FIELD_IN_COMMAND_IU;
}

/// The two formats of sense data; D_SENSE in the control mode page tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Response code 70h, 18 bytes.
    Fixed,
    /// Response code 72h, 8 bytes and descriptors.
    Descriptor,
}

/// How sense data that goes with a status looks: what the mode pages say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// D_SENSE of the control page.
    pub format: Format,
    /// MAXIMUM SENSE DATA LENGTH of the control extension page; 0 is no limit.
    pub most: u8,
}

impl Style {
    /// As it is by default.
    pub const DEFAULT: Self = Self {
        format: Format::Fixed,
        most: 0,
    };
}

/// Sense data, ready to be sent. At most [`SenseData::MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenseData {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl SenseData {
    /// The longest that is made here.
    pub const MAX: usize = 52;

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl Sense {
    /// Sense data without an INFORMATION field or anything specific to the key.
    pub const fn new(key: Key, asc: Asc) -> Self {
        Self {
            key,
            asc,
            specific: Specific::None,
            information: None,
        }
    }

    /// Key, additional sense code and qualifier, a byte each.
    pub const fn code(&self) -> u32 {
        u32::from_be_bytes([0, self.key as u8, self.asc.code, self.asc.qualifier])
    }

    /// A unit attention condition.
    pub const fn unit_attention(asc: Asc) -> Self {
        Self::new(Key::UnitAttention, asc)
    }

    /// INVALID FIELD IN CDB: the field whose leftmost bit is `bit` (7 to 0) of byte `byte`.
    pub const fn invalid_cdb_bit(byte: u16, bit: u8) -> Self {
        let pointer = FieldPointer {
            in_cdb: true,
            byte,
            bit: Some(bit & 7),
        };
        Self {
            specific: Specific::Field(pointer),
            ..Self::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_CDB)
        }
    }

    /// INVALID FIELD IN CDB: the field of whole bytes that begins at `byte`.
    pub const fn invalid_cdb_byte(byte: u16) -> Self {
        let pointer = FieldPointer {
            in_cdb: true,
            byte,
            bit: None,
        };
        Self {
            specific: Specific::Field(pointer),
            ..Self::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_CDB)
        }
    }

    /// INVALID FIELD IN PARAMETER LIST: the field of whole bytes that begins at `byte` of the list.
    pub const fn invalid_parameter_byte(byte: u16) -> Self {
        let pointer = FieldPointer {
            in_cdb: false,
            byte,
            bit: None,
        };
        Self {
            specific: Specific::Field(pointer),
            ..Self::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_PARAMETER_LIST)
        }
    }

    /// INVALID FIELD IN PARAMETER LIST: the field whose leftmost bit is `bit` (7 to 0) of byte `byte` of the list.
    pub const fn invalid_parameter_bit(byte: u16, bit: u8) -> Self {
        let pointer = FieldPointer {
            in_cdb: false,
            byte,
            bit: Some(bit & 7),
        };
        Self {
            specific: Specific::Field(pointer),
            ..Self::new(Key::IllegalRequest, Asc::INVALID_FIELD_IN_PARAMETER_LIST)
        }
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE, with the first address that is, in the INFORMATION field (SPC-5, 4.4.4).
    pub const fn lba_out_of_range(lba: u64) -> Self {
        Self::LBA_OUT_OF_RANGE.with_information(lba)
    }

    /// The same with `information` in the INFORMATION field.
    pub const fn with_information(self, information: u64) -> Self {
        Self {
            information: Some(information),
            ..self
        }
    }

    /// The bytes in `format`.
    pub fn encode(&self, format: Format) -> SenseData {
        let mut bytes = [0; SenseData::MAX];
        let mut out = Writer::new(&mut bytes);
        match format {
            Format::Fixed => self.write_fixed(&mut out),
            Format::Descriptor => self.write_descriptor(&mut out),
        }
        let len = u8::try_from(out.written()).unwrap_or(0);
        SenseData { bytes, len }
    }

    /// The bytes that go with a status. Those that are left out are told of by SDAT_OVFL (SPC-5, 4.4.2.1 and 4.4.3).
    pub fn encode_with_status(&self, style: Style) -> SenseData {
        let mut data = self.encode(style.format);
        if style.most == 0 || style.most >= data.len {
            return data;
        }
        let (at, overflow) = match style.format {
            Format::Fixed => (2, 0x10),
            Format::Descriptor => (4, 0x80),
        };
        if let Some(byte) = data.bytes.get_mut(at) {
            *byte |= overflow;
        }
        data.len = style.most;
        data
    }

    /// SKSV and the three bytes of the SENSE KEY SPECIFIC field.
    fn specific_bytes(&self) -> Option<[u8; 3]> {
        const SKSV: u8 = 0x80;
        match self.specific {
            Specific::None | Specific::Deferred => None,
            Specific::Field(FieldPointer { in_cdb, byte, bit })
            | Specific::Length(FieldPointer { in_cdb, byte, bit }, _) => {
                let [hi, lo] = byte.to_be_bytes();
                let in_cdb = if in_cdb { 0x40 } else { 0 };
                let bit = bit.map_or(0, |bit| 0x08 | (bit & 7));
                Some([SKSV | in_cdb | bit, hi, lo])
            }
            Specific::Progress(done) => {
                let [hi, lo] = done.to_be_bytes();
                Some([SKSV, hi, lo])
            }
            Specific::UnitAttentionOverflow => Some([SKSV | 0x01, 0, 0]),
            Specific::Copy(failure) => failure.pointer(),
        }
    }

    /// Whether it is about an earlier command, which was answered.
    pub const fn is_deferred(&self) -> bool {
        matches!(self.specific, Specific::Deferred)
    }

    // What the response code has more.
    const fn deferred(&self) -> u8 {
        self.is_deferred() as u8
    }

    // The difference of an incorrect length (ILI).
    const fn difference(&self) -> Option<i32> {
        match self.specific {
            Specific::Length(_, difference) => Some(difference),
            _ => None,
        }
    }

    /// What there is to say of a copy.
    fn copy(&self) -> Option<&CopyFailure> {
        match &self.specific {
            Specific::Copy(failure) => Some(failure),
            _ => None,
        }
    }

    /// Fixed format (SPC-4, 4.5.3): 18 bytes, and what the failed end of a copy has to say.
    fn write_fixed(&self, out: &mut Writer<'_>) {
        // An INFORMATION that does not fit four bytes is left out, with VALID zero.
        const ILI: u8 = 0x20;
        let difference = self.difference();
        let information = match difference {
            // In two's complement.
            Some(difference) => Some(u32::from_be_bytes(difference.to_be_bytes())),
            None => self.information.and_then(|i| u32::try_from(i).ok()),
        };
        let valid = if information.is_some() { 0x80 } else { 0 };
        out.u8(0x70 | self.deferred() | valid);
        out.u8(0);
        out.u8(self.key as u8 | if difference.is_some() { ILI } else { 0 });
        out.be32(information.unwrap_or(0));
        let copy = self.copy();
        out.u8(copy.map_or(0, CopyFailure::fixed_length).saturating_add(10));
        out.put(&copy.map_or([0; 4], CopyFailure::command_specific));
        out.u8(self.asc.code);
        out.u8(self.asc.qualifier);
        out.u8(0);
        out.put(&self.specific_bytes().unwrap_or([0; 3]));
        if let Some(failure) = copy {
            failure.write_fixed(out);
        }
    }

    /// Descriptor format (SPC-4, 4.5.2): 8 bytes, 12 for the INFORMATION, 8 for what is specific to the key, 4 for ILI, 24 for a copy.
    fn write_descriptor(&self, out: &mut Writer<'_>) {
        let specific = self.specific_bytes();
        let difference = self.difference();
        let information = match difference {
            Some(difference) => Some(u64::from_be_bytes(i64::from(difference).to_be_bytes())),
            None => self.information,
        };
        let additional: u8 = match (information, specific) {
            (None, None) => 0,
            (None, Some(_)) => 8,
            (Some(_), None) => 12,
            (Some(_), Some(_)) => 20,
        };
        let copy = self.copy();
        let additional = additional.saturating_add(copy.map_or(0, CopyFailure::descriptors_length));
        let additional = additional.saturating_add(if difference.is_some() { 4 } else { 0 });
        out.u8(0x72 | self.deferred());
        out.u8(self.key as u8);
        out.u8(self.asc.code);
        out.u8(self.asc.qualifier);
        out.fill(0, 3);
        out.u8(additional);
        if let Some(information) = information {
            // Type 00h, additional length 0Ah, VALID.
            out.put(&[0x00, 0x0a, 0x80, 0x00]);
            out.be64(information);
        }
        if let Some(specific) = specific {
            // Type 02h, additional length 06h.
            out.put(&[0x02, 0x06, 0x00, 0x00]);
            out.put(&specific);
            out.u8(0);
        }
        if difference.is_some() {
            // Block commands: type 05h, additional length 02h, ILI.
            out.put(&[0x05, 0x02, 0x00, 0x20]);
        }
        if let Some(failure) = copy {
            failure.write_descriptors(out);
        }
    }
}
