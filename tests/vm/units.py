"""What the tests of a unit's commands and parameters share: a disk with two initiators, and mode pages as one of them sees and sets them."""
import initiator
import lio
import pytest
from sgio import field, say

MIB = 1 << 20
SIZE = 16 * MIB
CONTROL, CACHING = 0x0A, 0x08
CURRENT, CHANGEABLE, DEFAULT, SAVED = 0, 1, 2, 3


def be(n, width):
    return n.to_bytes(width, "big")


class Two:
    """Two initiators of one disk."""

    def __init__(self, store):
        self.store = store
        self.target = lio.IscsiTarget(store)
        keys = {"InitialR2T": "Yes", "ImmediateData": "Yes"}
        self.a = initiator.session(self.target, keys=keys)
        self.b = initiator.session(self.target, name="iqn.2024-01.org.example:other", keys=keys)

    def attention(self, c, what):
        """The other one's next command ends with this unit attention, and no further one."""
        status, _, answer = c.scsi(bytes(6))
        assert (status, say(answer.sense)) == (2, f"6/{what}"), answer
        self.quiet(c)

    def quiet(self, *cs):
        for c in cs:
            assert c.scsi(bytes(6))[0] == 0


@pytest.fixture
def two(request):
    kind = getattr(request, "param", lio.fileio)
    pair = Two(kind(size=SIZE))
    yield pair
    pair.a.close()
    pair.b.close()


def ok(c, cdb, read=0, write=b""):
    cdb = bytes.fromhex(cdb) if isinstance(cdb, str) else cdb
    status, data, answer = c.scsi(cdb, read=read, write=write)
    assert status == 0, (cdb.hex(), status, answer.sense.hex())
    return data


def refused(c, cdb, what, pointer=..., read=0, write=b""):
    cdb = bytes.fromhex(cdb) if isinstance(cdb, str) else cdb
    status, _, answer = c.scsi(cdb, read=read, write=write)
    assert (status, say(answer.sense)) == (2, what), (cdb.hex(), status, answer.sense.hex())
    if pointer is not ...:
        assert field(answer.sense) == pointer, answer.sense.hex()
    return answer.sense


def sense6(c, page, control=CURRENT, subpage=0):
    """The page, without header and block descriptor."""
    return ok(c, bytes([0x1A, 8, control << 6 | page, subpage, 255, 0]), read=255)[4:]


def groups(c, control=CURRENT):
    """The IO advice hints grouping page, which is too long for MODE SENSE (6)."""
    data = ok(c, bytes([0x5A, 8, control << 6 | CONTROL, 5, 0, 0, 0]) + be(2048, 2) + b"\0", read=2048)
    assert int.from_bytes(data[:2], "big") == len(data) - 2 == 6 + 1040 and data[8:12].hex() in ("4a05040c", "ca05040c")
    return data[8:]


def enabled(page):
    """The groups of which information is collected: IC_ENABLE."""
    return {group for group in range(64) if page[16 + 16 * group] & 1}


def collect(c, *which, save=False):
    """MODE SELECT: of these groups."""
    page = bytearray(groups(c))
    for group in range(64):
        page[16 + 16 * group] = 0x40 | (group in which)
    cdb = bytes([0x55, 0x10 | save, 0, 0, 0, 0, 0]) + be(8 + len(page), 2) + b"\0"
    ok(c, cdb, write=bytes(8) + bytes(page))


def header6(c):
    return ok(c, bytes([0x1A, 8, CONTROL, 0, 255, 0]), read=255)[:4]


def select6(c, page):
    return ok(c, bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), write=bytes(4) + page)


def change(c, page, byte, mask, value):
    """Sets some bits of a page, as an initiator does it."""
    now = bytearray(sense6(c, page))
    now[byte] = now[byte] & ~mask | value
    select6(c, bytes(now))


def write10(lba, n):
    return b"\x2a\0" + be(lba, 4) + b"\0" + be(n, 2) + b"\0"


def timestamp(c):
    data = ok(c, "a30f00000000000000ff0000", read=255)
    assert data[:2] == b"\0\x0a" and len(data) == 12
    return data[2], int.from_bytes(data[4:10], "big")
