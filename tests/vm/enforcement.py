"""What the reservation of another does to each command, as the standards' tables have it: SPC-4, table 66; SBC-3, table 13; SPC-2, 5.5.1.

The commands are those that the unit itself reports, so that none is forgotten; what is to become of each is written down here."""
import struct

import lio

CONFLICT = 0x18
EXCLUSIVE = {1: "WE", 5: "WE", 7: "WE", 3: "EA", 6: "EA", 8: "EA"}  # type: what others may not

# (operation code, service action): a conflict with neither, with exclusive access alone, with both.
NEITHER = {
    (0x00, None), (0x03, None), (0x12, None), (0x25, None), (0x4D, None), (0x9E, 0x10), (0x9E, 0x13), (0xA0, None),
    (0xA3, 0x05), (0xA3, 0x0A), (0xA3, 0x0E), (0xA3, 0x0F),
    (0x5E, 0), (0x5E, 1), (0x5E, 2), (0x5E, 3),
    (0x5F, 8),  # REPLACE LOST RESERVATION, which is never refused so (SPC-4, 5.13.5.3.2)
}
ACCESS = {
    (0x08, None), (0x28, None), (0xA8, None), (0x88, None), (0x7F, 0x09),  # READ
    (0x2F, None), (0xAF, None), (0x8F, None), (0x7F, 0x0A),  # VERIFY
    (0x34, None), (0x90, None),  # PRE-FETCH
    (0x3E, None), (0x9E, 0x11),  # READ LONG
    (0x37, None), (0xB7, None),  # READ DEFECT DATA
    (0x9E, 0x12), (0x7F, 0x12),  # GET LBA STATUS
    (0x1A, None), (0x5A, None), (0x3C, None), (0x9B, None), (0x1C, None),  # MODE SENSE, READ BUFFER, RECEIVE DIAGNOSTIC RESULTS
    (0xA3, 0x0C), (0xA3, 0x0D), (0x83, 0x10),  # what is supported; POPULATE TOKEN
}
BOTH = {
    (0x0A, None), (0x2A, None), (0xAA, None), (0x8A, None), (0x7F, 0x0B),  # WRITE
    (0x2E, None), (0xAE, None), (0x8E, None), (0x7F, 0x0C),  # WRITE AND VERIFY
    (0x41, None), (0x93, None), (0x7F, 0x0D),  # WRITE SAME
    (0x9C, None), (0x7F, 0x0F), (0x9F, 0x12), (0x7F, 0x11),  # WRITE ATOMIC, WRITE SCATTERED
    (0x3F, None), (0x9F, 0x11), (0x8B, None), (0x7F, 0x0E), (0x89, None), (0x42, None),  # WRITE LONG, ORWRITE, …, UNMAP
    (0x35, None), (0x91, None), (0x1B, None), (0x1E, None), (0x9E, 0x15),  # SYNCHRONIZE CACHE, START STOP UNIT, …
    (0x04, None), (0x48, 0x01), (0x48, 0x02), (0x48, 0x03), (0x48, 0x1F),  # FORMAT UNIT, SANITIZE
    (0x15, None), (0x55, None), (0x4C, None), (0x1D, None), (0x3B, None),  # MODE SELECT, LOG SELECT, SEND DIAGNOSTIC, WRITE BUFFER
    (0xA4, 0x06), (0xA4, 0x0A), (0xA4, 0x0E), (0xA4, 0x0F),  # what is set
    (0x83, 0x00), (0x83, 0x01), (0x83, 0x11), (0x83, 0x1C),  # EXTENDED COPY, WRITE USING TOKEN, COPY OPERATION ABORT
    (0x84, 0x00), (0x84, 0x01), (0x84, 0x03), (0x84, 0x04), (0x84, 0x05), (0x84, 0x06), (0x84, 0x07), (0x84, 0x08),
    (0x16, None), (0x17, None), (0x56, None), (0x57, None),  # RESERVE and RELEASE, of who is not registered (SPC-4, 5.12.3)
    (0x5F, 1), (0x5F, 2), (0x5F, 3), (0x5F, 4), (0x5F, 5),  # PERSISTENT RESERVE OUT, likewise
}
REGISTERS = {(0x5F, 0), (0x5F, 6)}
MOVE = (0x5F, 7)
# What the reservation by RESERVE of another lets pass.
BESIDE_RESERVE = {(0x12, None), (0xA0, None), (0x03, None), (0x17, None), (0x57, None), (0x1E, None)}
# Not for who has access: what would take the disk away, or the reservation.
LEFT_OUT = {(0x04, None), (0x48, 0x01), (0x48, 0x02), (0x48, 0x03), (0x48, 0x1F), (0x1B, None)}

# Fields without which a command is refused for what it is, whoever sends it: PREVENT; MODE of READ and WRITE BUFFER; WR_UNCOR; a number of blocks
# other than zero (WSNZ); PCR.
FIELDS = {(0x1E, None): {4: 1}, (0x3B, None): {1: 2}, (0x3C, None): {1: 2}, (0x3F, None): {1: 0xC0}, (0x9F, 0x11): {1: 0xD1}, (0x41, None): {8: 1},
          (0x93, None): {13: 1}, (0x7F, 0x0D): {31: 1}, (0x4C, None): {1: 2}}
# Commands of which a field counts: (operation code, service action), fields, with what there is a conflict.
VARIANTS = [
    ((0x1B, None), {4: 1}, ""), ((0x1B, None), {4: 3}, ""), ((0x1B, None), {4: 0}, "WE EA"), ((0x1B, None), {4: 2}, "WE EA"),
    ((0x1B, None), {4: 0x11}, "WE EA"), ((0x1E, None), {4: 0}, ""), ((0x1E, None), {4: 1}, "WE EA"),
]


def reported(c):
    """{(operation code, service action): bytes of the CDB} of each command that the unit says it supports"""
    status, data, a = c.scsi(bytes.fromhex("a30c00000000000040000000"), read=16384)
    assert status == 0, a
    rows = {}
    for at in range(4, 4 + int.from_bytes(data[:4], "big"), 8):
        opcode, action, flags, length = struct.unpack(">BxHxBH", data[at : at + 8])
        rows[opcode, action if flags & 1 else None] = length
    return rows


def cdb(row, length, fields):
    """All else zero: no block, no data."""
    c = bytearray(length)
    c[0] = row[0]
    if row[0] == 0x7F:
        c[7], c[8:10] = length - 8, row[1].to_bytes(2, "big")
    elif row[1] is not None:
        c[1] = row[1]
    for at, value in fields.items():
        c[at] = value
    return bytes(c)


def conflicts(row):
    """With which reservations of others: "", "EA", or "WE EA"."""
    assert (row in NEITHER) + (row in ACCESS) + (row in BOTH) + (row in REGISTERS) + (row == MOVE) == 1, f"no such command is known: {row}"
    return "WE EA" if row in BOTH else "EA" if row in ACCESS else ""


def ask(c, row, length, fields=()):
    """Whether there is a conflict."""
    body = bytes(24) if row[0] == 0x5F else b""
    command = bytearray(cdb(row, length, FIELDS.get(row, {}) | dict(fields)))
    if body:
        command[8] = len(body)
    for _ in range(4):
        status, _, a = c.scsi(bytes(command), write=body)
        # A unit attention, such as of what the other has just set, says nothing of reservations.
        if status != 2 or a.sense[2] & 15 != 6:
            break
    # What else is wrong with it may be said.
    assert status in (0, CONFLICT) or status == 2 and a.sense[2] & 15 in (2, 5), (row, a)
    return status == CONFLICT


def check(kind, rows, stranger, registered):
    """Each command, from who is not registered and from who is, while another has a reservation of type `kind`."""
    wrong = []
    for row, length in rows.items():
        if row == MOVE:
            continue  # who may not, is told so when the parameter list is read: test_moving_and_registering_others
        expected = EXCLUSIVE[kind] in conflicts(row)
        if ask(stranger, row, length) != expected:
            wrong.append(("stranger", *row))
        if row[0] in (0x16, 0x17, 0x56, 0x57, 0x5F) or kind > 3 and row in LEFT_OUT:
            continue
        if ask(registered, row, length) != (expected and kind <= 3):
            wrong.append(("registered", *row))
    for row, fields, where in VARIANTS:
        if row in rows and ask(stranger, row, rows[row], fields) != (EXCLUSIVE[kind] in where):
            wrong.append(("stranger", *row, fields))
    assert not wrong, wrong


def check_reserved(rows, stranger):
    """Each command while another has the unit by RESERVE."""
    wrong = [row for row, length in rows.items()
             if ask(stranger, row, length, {4: 0} if row[0] == 0x1E else ()) != (row not in BESIDE_RESERVE)]
    assert not wrong, wrong


def unit(dev):
    """A back end that has every command that any has, where there is no protection information."""
    store = lio.iblock(dev=dev)
    for name in ("emulate_tpu", "emulate_tpws", "removable", "emulate_sanitize", "emulate_write_long"):
        store.attrib(name, 1)
    return store
