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
