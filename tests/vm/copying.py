"""Parameter lists of EXTENDED COPY and its like (SPC-4, 6.4), and what RECEIVE COPY RESULTS and its like answer."""
import contextlib
import uuid

import lio
import sgio
from faulty import GOOD, Remote, rw
from initiator import WRITE
from storage import pattern

EXTENDED_COPY, RECEIVE = 0x83, 0x84
POPULATE, WRITE_USING, LID4_STATUS, TOKEN_INFORMATION = 0x10, 0x11, 0x05, 0x07
DISCARD, NONE = 0b10, 0b11  # LIST ID USAGE
LID4_DATA, ALL_TOKENS = 0x06, 0x08
LID1_STATUS, LID1_DATA, OPERATING_PARAMETERS, LID1_DETAILS = 0x00, 0x01, 0x03, 0x04
BUSY = 0x08
PIECE = 512 << 10  # what each back end takes at once


def naa(store):
    """The NAA designator of a device: what page 83h of any of its LUNs says."""
    serial = lio.read(store.path / "wwn/vpd_unit_serial").split(": ")[1]
    digits = "".join(c for c in serial if c in "0123456789abcdefABCDEF")
    return bytes.fromhex(("6001405" + digits).ljust(32, "0")[:32])


def cscd(name, block=512, flags=0, kind=3, code_set=1, association=0):
    """An identification descriptor CSCD descriptor."""
    head = bytes([0xE4, flags, 0, 0, code_set, association << 4 | kind, 0, len(name)])
    return head + name.ljust(20, b"\0") + bytes([0]) + block.to_bytes(3, "big")


def blocks(source, destination, count, from_lba, to_lba, dc=False, cat=False):
    """Block device to block device."""
    return (bytes([0x02, dc << 1 | cat, 0, 0x18]) + source.to_bytes(2, "big") + destination.to_bytes(2, "big") + bytes(2)
            + count.to_bytes(2, "big") + from_lba.to_bytes(8, "big") + to_lba.to_bytes(8, "big"))


def extent(source, destination, count, from_lba, to_lba, from_byte=0, to_byte=0):
    """Block device with offset to block device with offset."""
    return (bytes([0x0A, 0, 0, 0x1C]) + source.to_bytes(2, "big") + destination.to_bytes(2, "big") + count.to_bytes(4, "big")
            + from_lba.to_bytes(8, "big") + to_lba.to_bytes(8, "big") + from_byte.to_bytes(2, "big") + to_byte.to_bytes(2, "big"))


def parameters(cscds, segments, list_id=0, usage=NONE):
    """The list of EXTENDED COPY(LID1)."""
    c, s = b"".join(cscds), b"".join(segments)
    return bytes([list_id, usage << 3]) + len(c).to_bytes(2, "big") + bytes(4) + len(s).to_bytes(4, "big") + bytes(4) + c + s


def parameters_lid4(cscds, segments, list_id=0, usage=NONE):
    """The list of EXTENDED COPY(LID4)."""
    c, s = b"".join(cscds), b"".join(segments)
    return (bytes([1, usage << 3, 0, 0x20]) + bytes(12) + b"\xff" + bytes(3) + list_id.to_bytes(4, "big") + bytes(18)
            + len(c).to_bytes(2, "big") + len(s).to_bytes(2, "big") + bytes(2) + c + s)


def extended_copy(length, action=0):
    return bytes([EXTENDED_COPY, action]) + bytes(8) + length.to_bytes(4, "big") + bytes(2)


def receive(action, list_id=0, allocation=512):
    return bytes([RECEIVE, action, list_id]) + bytes(7) + allocation.to_bytes(4, "big") + bytes(2)


def copy_of(sense):
    """What sense data in fixed format says of a copy: the segment, the field of it or None, the end that failed or None, and what
    that says."""
    segment = int.from_bytes(sense[10:12], "big")
    field = int.from_bytes(sense[16:18], "big") if sense[15] & 0xA0 == 0xA0 else None
    for side, at in [("source", sense[8]), ("destination", sense[9])]:
        if at:
            assert sense[at] == 2
            return segment, field, side, sgio.say(sense[at + 1 :])
    return segment, field, None, ""


def with_ranges(header, ranges):
    """A parameter list with block device range descriptors behind `header`."""
    body = b"".join(lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4) for lba, count in ranges)
    data = header[2:] + len(body).to_bytes(2, "big") + body
    return len(data).to_bytes(2, "big") + data


def populate(ranges, timeout=0, flags=0, rod_type=0):
    return with_ranges(bytes([0, 0, flags, 0]) + timeout.to_bytes(4, "big") + rod_type.to_bytes(4, "big") + bytes(2), ranges)


def write_using(token, ranges, offset=0, flags=0):
    return with_ranges(bytes([0, 0, flags]) + bytes(5) + offset.to_bytes(8, "big") + token + bytes(6), ranges)


def token_cdb(action, list_id, length):
    return bytes([EXTENDED_COPY, action]) + bytes(4) + list_id.to_bytes(4, "big") + length.to_bytes(4, "big") + bytes(2)


def receive_lid4(action, list_id, allocation=1024):
    return bytes([RECEIVE, action]) + list_id.to_bytes(4, "big") + bytes(4) + allocation.to_bytes(4, "big") + bytes(2)


def operation_abort(list_id):
    return bytes([EXTENDED_COPY, 0x1C]) + list_id.to_bytes(4, "big") + bytes(10)


ZERO_TOKEN = bytes([0xFF, 0xFF, 0, 1, 0, 0, 1, 0xF8]) + bytes(504)


class Nexus(Remote):
    """An iSCSI session that copies."""

    def once(self, cdb, read, write, lun):
        status, self.sense, data = super().once(cdb, read, write, lun)
        return status, self.sense, data

    def copy(self, cscds, segments, lun=0, **kw):
        """EXTENDED COPY: what it is answered with, "" for GOOD."""
        data = parameters(cscds, segments, **kw)
        heard = self.scsi(extended_copy(len(data)), write=data, lun=lun)
        assert heard.what[0] in (0, 2), heard
        return heard.what[1].lower()

    def start(self, cscds, segments, lun=0, attr=1, **kw):
        """The same without waiting: its tag."""
        data = parameters(cscds, segments, **kw)
        return self.c.start(extended_copy(len(data)), len(data), WRITE, data, lun=lun, attr=attr)

    def receive(self, action, list_id=0, lun=0):
        heard = self.scsi(receive(action, list_id), read=512, lun=lun)
        return heard.data if heard.what == GOOD else heard.what[1]

    def populate(self, ranges, list_id=1, lun=0, **kw):
        """POPULATE TOKEN: the token, or what it is refused with."""
        data = populate(ranges, **kw)
        heard = self.scsi(token_cdb(POPULATE, list_id, len(data)), write=data, lun=lun)
        if heard.what != GOOD:
            return heard.what[1].lower()
        told = self.scsi(receive_lid4(TOKEN_INFORMATION, list_id), read=1024, lun=lun).data
        assert told[4:6] == bytes([POPULATE, 1]) and told[15] == 0xF1, told[:32]
        assert int.from_bytes(told[16:24], "big") == sum(n for _, n in ranges)
        assert told[32:36] == b"\0\0\2\2" and len(told) == 38 + 512
        return told[38:]

    def use(self, token, ranges, list_id=2, lun=0, **kw):
        """WRITE USING TOKEN: what it is answered with, "" for GOOD."""
        data = write_using(token, ranges, **kw)
        return self.scsi(token_cdb(WRITE_USING, list_id, len(data)), write=data, lun=lun).what[1].lower()

    def start_use(self, token, ranges, list_id=2, lun=0, **kw):
        """The same without waiting: its tag."""
        data = write_using(token, ranges, **kw)
        return self.c.start(token_cdb(WRITE_USING, list_id, len(data)), len(data), WRITE, data, lun=lun)

    def fill(self, lba, size, seed, lun=0, block=512):
        data = pattern(size, seed)
        for at in range(0, size, PIECE):
            part = data[at : at + PIECE]
            assert self.scsi(rw(0x8A, lba + at // block, len(part) // block), write=part, lun=lun).what == GOOD
        return data

    def holds(self, lba, data, lun=0, block=512):
        for at in range(0, len(data), PIECE):
            part = data[at : at + PIECE]
            heard = self.scsi(rw(0x88, lba + at // block, len(part) // block), read=len(part), lun=lun)
            assert heard.what == GOOD and heard.data == part, (heard, lba, at)


@contextlib.contextmanager
def nexus(*stores, i=1, target=None):
    """A session that sees the stores as LUNs 0, 1, …, and their descriptors."""
    target = target or lio.IscsiTarget(*stores)
    n = Nexus(target, i)
    n.target = target
    try:
        for lun in range(len(stores)):
            n.ready(lun)
        yield n, [cscd(naa(s), int(s.attrib("block_size"))) for s in stores]
    finally:
        n.close()


def store(kind="ramdisk", name="s0", **kw):
    """A back end with a serial number, without which nothing in page 83h tells it from others."""
    return lio.BACKSTORES[kind](name=name, serial=str(uuid.uuid4()), **kw)


def limit(target, bytes_per_second, lun=0):
    lio.write(target.path / f"lun/lun_{lun}/limits", f"bytes_per_second={bytes_per_second}")
