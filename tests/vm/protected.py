"""Disks with protection information (SBC-4, 4.21), and the commands that transfer it."""
import functools

import initiator
import lio
from sgio import field, information, say

MIB = 1 << 20
SIZE = 8 * MIB
GUARD, APPLICATION, REFERENCE = "1001", "1002", "1003"
ESCAPE = b"\xff" * 8


def be(n, width):
    return (n & (1 << 8 * width) - 1).to_bytes(width, "big")


def table():
    made = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8BB7 if crc & 0x8000 else 0)) & 0xFFFF
        made.append(crc)
    return made


TABLE = table()


@functools.lru_cache(maxsize=None)
def crc(data):
    """CRC-16/T10-DIF: SBC-4, 4.21.4."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ TABLE[value >> 8 ^ byte]
    return value


def pi(data, reference, application=0):
    return be(crc(data), 2) + be(application, 2) + be(reference, 4)


class Cdb:
    """The forms that a command about blocks has."""

    READ, WRITE, VERIFY, WRITE_VERIFY = range(4)
    SHORT = {READ: (0x28, 0xA8, 0x88), WRITE: (0x2A, 0xAA, 0x8A), VERIFY: (0x2F, 0xAF, 0x8F), WRITE_VERIFY: (0x2E, 0xAE, 0x8E)}
    LONG = {READ: 9, VERIFY: 10, WRITE: 11, WRITE_VERIFY: 12}

    @staticmethod
    def ten(what, protect, lba, n, flags=0):
        return bytes([Cdb.SHORT[what][0], protect << 5 | flags]) + be(lba, 4) + b"\0" + be(n, 2) + b"\0"

    @staticmethod
    def twelve(what, protect, lba, n, flags=0):
        return bytes([Cdb.SHORT[what][1], protect << 5 | flags]) + be(lba, 4) + be(n, 4) + b"\0\0"

    @staticmethod
    def sixteen(what, protect, lba, n, flags=0):
        return bytes([Cdb.SHORT[what][2], protect << 5 | flags]) + be(lba, 8) + be(n, 4) + b"\0\0"

    @staticmethod
    def long(what, protect, lba, n, flags=0, reference=0, application=0, mask=0):
        action = Cdb.LONG.get(what, what)
        return (bytes([0x7F, 0, 0, 0, 0, 0, 0, 0x18]) + be(action, 2) + bytes([protect << 5 | flags, 0]) + be(lba, 8)
                + be(reference, 4) + be(application, 2) + be(mask, 2) + be(n, 4))


READ, WRITE, VERIFY, WRITE_VERIFY = range(4)
FORMS = (Cdb.ten, Cdb.twelve, Cdb.sixteen)


class Unit:
    """A disk with protection information, and two sessions."""

    def __init__(self, store, kind, block=512):
        self.store, self.kind, self.block = store, kind, block
        self.own = store.attrib("hw_pi_prot_type") != "0"  # the storage's
        if not self.own:
            store.attrib("block_size", block)
            store.attrib("pi_prot_type", kind)
        self.target = lio.IscsiTarget(store)
        self.c = initiator.session(self.target)
        self.other = initiator.session(self.target, name="iqn.2024-01.org.example:other", isid=b"\x80\0\0\0\0\2")

    def __call__(self, cdb, read=0, write=b""):
        status, data, answer = self.c.scsi(cdb, read, write)
        assert status == 0, (status, say(answer.sense), field(answer.sense))
        assert answer.residual == 0 or cdb[0] in (0x1A, 0xA3)
        return data

    def refused(self, cdb, what, read=0, write=b"", pointer=..., info=...):
        status, _, answer = self.c.scsi(cdb, read, write)
        assert status == 2 and say(answer.sense) == what, (status, answer.sense.hex())
        if pointer is not ...:
            assert field(answer.sense) == pointer, answer.sense.hex()
        if info is not ...:
            assert information(answer.sense) == info, answer.sense.hex()

    def data(self, n, seed=1):
        """`n` blocks, no two of them alike."""
        return [be(seed << 32 | i, 8) * (self.block // 8) for i in range(n)]

    def reference(self, lba):
        """What is generated of it."""
        return lba if self.kind == 1 else 0xFFFFFFFF

    def pi(self, data, lba, application=0):
        return [pi(d, self.reference(lba + i), application) for i, d in enumerate(data)]

    def read(self, lba, n, protect=3):
        """The blocks, and their protection information."""
        form = Cdb.long if self.kind == 2 else Cdb.ten
        got = self(form(READ, protect, lba, n), n * (self.block + 8))
        units = [got[i : i + self.block + 8] for i in range(0, len(got), self.block + 8)]
        return [u[: self.block] for u in units], [u[self.block :] for u in units]

    def write(self, lba, data, tuples, protect=3, **tags):
        form = Cdb.long if self.kind == 2 else Cdb.ten
        self(form(WRITE, protect, lba, len(data), **tags), write=mix(data, tuples))

    def delete(self):
        self.c.close()
        self.other.close()
        self.target.delete()
        self.store.delete()


def mix(data, tuples):
    return b"".join(d + t for d, t in zip(data, tuples))


STORES = {"ramdisk": lio.ramdisk, "fileio": lio.fileio}


def corrupted(data, at=0):
    return [d[:3] + bytes([d[3] ^ 1]) + d[4:] if i == at else d for i, d in enumerate(data)]


def scattered(unit, form, protect, runs, data, tuples=None, tags=None, offset=1):
    """WRITE SCATTERED of `runs`, (LBA, blocks); each with (reference, application, mask) where there are `tags`."""
    each = unit.block + (8 if protect else 0)
    n = offset + len(data)
    if form == 16:
        cdb = bytes([0x9F, 0x12, protect << 5, 0]) + be(offset, 2) + bytes(2) + be(len(runs), 2) + be(n, 4) + b"\0\0"
    else:
        cdb = (bytes([0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x11, protect << 5, 0]) + be(offset, 2) + bytes(2) + be(len(runs), 2) + bytes(10)
               + be(n, 4))
    head = bytes(32)
    for (lba, count), (reference, application, mask) in zip(runs, tags or [(0xDEAD, 0xBEEF, 0xFFFF)] * len(runs)):
        head += be(lba, 8) + be(count, 4) + be(reference, 4) + be(application, 2) + be(mask, 2) + bytes(12)
    return cdb, head.ljust(offset * each, b"\xee") + (mix(data, tuples) if protect else b"".join(data))
