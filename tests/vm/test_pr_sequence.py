"""Persistent reservations over iSCSI as the model of tests/fuzz has them: tests/sequences/pr.txt, or a longer
one; and what hostile initiators send."""
# group: sequences
import contextlib
import re
import struct

import initiator
import lio
import pytest
from sgio import say
from test_alua_sequence import sequence

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
CONFLICT, MOVE, REGISTER, RESERVE = 0x18, 7, 0, 1
READ, WRITE = bytes.fromhex("28000000000000000100"), bytes.fromhex("2a000000000000000100")
NAMES = [f"iqn.2024-01.org.example:i{i}" for i in range(3)]
ISIDS = [b"\x80\0\0\0\1" + bytes([i]) for i in range(3)]


def transport_id(i):
    """An iSCSI initiator port's, format 01b."""
    name = NAMES[i].encode() + b",i,0x" + ISIDS[i].hex().encode() + b"\0"
    name += bytes(-len(name) % 4)
    return b"\x45\0" + struct.pack(">H", len(name)) + name


def out(c, action, kind, body):
    """PERSISTENT RESERVE OUT: its status, or what the sense says."""
    status, _, a = c.scsi(struct.pack(">BBBxxIx", 0x5F, action, kind, len(body)), write=body)
    return say(a.sense) if status == 2 else status


def basic(key, new, flags=0, ids=None):
    body = struct.pack(">QQ4xB3x", key, new, flags)
    return body if ids is None else body + struct.pack(">I", len(ids)) + ids


def read_in(c, action):
    status, data, a = c.scsi(struct.pack(">BB5xHx", 0x5E, action, 8192), read=8192)
    assert status == 0, a
    return data


def keys(c):
    data = read_in(c, 0)
    generation, length = struct.unpack(">II", data[:8])
    return generation, sorted(struct.unpack(f">{length // 8}Q", data[8 : 8 + length]))


def reservation(c):
    """Type and key; zeros without one."""
    data = read_in(c, 1)
    return (data[21], int.from_bytes(data[8:16], "big")) if data[7] else (0, 0)


def attentions(c):
    """All unit attentions that wait."""
    seen = set()
    while True:
        status, _, a = c.scsi(bytes(6))
        if status == 0:
            return seen
        assert status == 2 and say(a.sense) not in seen, (a, seen)
        seen.add(say(a.sense))


def may(c):
    """Whether it may read and write: two digits."""
    got = [c.scsi(READ, read=512)[0], c.scsi(WRITE, write=bytes(512))[0]]
    assert set(got) <= {0, CONFLICT}, got
    return "".join("1" if status == 0 else "0" for status in got)


def pairs(text):
    """I.P:VALUE, ... as a list of (nexus, value)."""
    items = [item.split(":") for item in text.split(",") if item != "-"]
    return [(tuple(map(int, nexus.split("."))), value) for nexus, value in items]


def play(nexuses, rtpi, line):
    """One command of the sequence: its outcome, and what the model says of it."""
    asked, expected = (part.split() for part in line.split("|"))
    i, t, action, kind, key, new, all_ports, unregister = map(int, asked[:8])
    if action == MOVE:
        ids = transport_id(int(asked[9]))
        body = struct.pack(">QQxBHI", key, new, unregister << 1, rtpi[int(asked[10])], len(ids)) + ids
    elif asked[8] != "-":
        ids = b"".join(transport_id(int(n)) for n in re.findall(r"\d", asked[8]))
        body = basic(key, new, 8 | all_ports << 2, ids)
    else:
        body = basic(key, new, all_ports << 2)
    return nexuses[i, t], out(nexuses[i, t], action, kind, body), expected


@pytest.fixture
def ports():
    """Two portal groups of a target with one disk."""
    disk = lio.ramdisk()
    return [lio.IscsiTarget(disk, portals=(f"127.0.0.1:{3260 + t}",), acls=NAMES, tag=t + 1) for t in range(2)]


@ours
def test_the_model_agrees(ports):
    rtpi = [int(lio.read(port.path / "rtpi"), 0) for port in ports]
    lines = sequence("pr")
    with contextlib.ExitStack() as stack:
        nexuses = {(i, t): stack.enter_context(initiator.session(ports[t], name=NAMES[i], isid=ISIDS[i]))
                   for i in range(3) for t in range(2)}
        for number, line in enumerate(lines, 1):
            c, got, (status, sense, told, registered, kind, key, generation, access) = play(nexuses, rtpi, line)
            assert got == (sense if status == "2" else int(status)), (number, line, got)
            registered = dict(pairs(registered))
            for nexus, other in nexuses.items():
                want = {code for n, code in pairs(told) if n == nexus}
                assert attentions(other) == want, (number, line, nexus)
            assert keys(c) == (int(generation), sorted(map(int, registered.values()))), (number, line)
            assert reservation(c) == (int(kind), int(key)), (number, line)
            if number % 3 == 0:
                assert ",".join(may(nexuses[n]) for n in sorted(nexuses)) == access, (number, line)


@ours
def test_hostile_lists(ports):
    """Lengths and TransportIDs that lie: refused, nobody is registered, the disk is served."""
    good = transport_id(1)
    with initiator.session(ports[0], name=NAMES[0], isid=ISIDS[0]) as c:
        for length, ids in ((0xFFFFFFF0, good), (len(good) - 4, good), (len(good), good[:-4]), (3, b"\5\0\0"),
                            (24, b"\xff" * 24), (24, b"\x45\0\xff\xff" + bytes(20)), (24, b"\x05\0\0\x14" + b"a" * 20),
                            (24, b"\x45\0\0\x14" + b"abcdefghijklmno,i,0x"), (24, b"\x85\0\0\x14iqn.x" + bytes(15))):
            got = out(c, REGISTER, 0, basic(0, 1, 8) + struct.pack(">I", length) + ids)
            assert got in ("5/1a00", "5/2600"), (length, ids, got)
        for size in (1, 23, 25, 28):
            assert out(c, REGISTER, 0, bytes(size)) == "5/1a00", size
        for kind in (0, 2, 4, 9, 0x11):
            assert out(c, REGISTER, 0, basic(0, 1)) == 0 and out(c, RESERVE, kind, basic(1, 0)) == "5/2400", kind
            assert out(c, REGISTER, 0, basic(1, 0)) == 0
        assert keys(c)[1] == [] and may(c) == "11"


@ours
def test_no_more_than_1024_registrations(ports):
    """All of a list or none of it, and nobody else while there are so many."""
    def named(first, end):
        names = (f"iqn.x:{n}".encode() for n in range(first, end))
        return b"".join(b"\5\0\0\x14" + name + bytes(20 - len(name)) for name in names)

    def registered(c):
        return struct.unpack(">I", read_in(c, 0)[4:8])[0] // 8

    with (initiator.session(ports[0], name=NAMES[0], isid=ISIDS[0]) as a,
          initiator.session(ports[0], name=NAMES[1], isid=ISIDS[1]) as b):
        for others in (1024, 1025):
            assert out(a, REGISTER, 0, basic(0, 1, 8, named(0, others))) == "5/5504" and registered(a) == 0, others
        assert out(a, REGISTER, 0, basic(0, 1, 8, named(0, 1023))) == 0 and registered(a) == 1024
        assert out(b, REGISTER, 0, basic(0, 2)) == "5/5504" and registered(b) == 1024
        assert out(a, REGISTER, 0, basic(1, 0)) == 0 and out(b, REGISTER, 0, basic(0, 2)) == 0
        assert out(b, 3, 0, basic(2, 0)) == 0 and registered(b) == 0
