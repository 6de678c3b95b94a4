"""Primary commands about a unit's parameters, its identity and its buffers (SPC-5), by two initiators over iSCSI."""
# vm: --timeout 1200
import re
import time
from pathlib import Path

import initiator
import lio
import pytest
import storage
from sgio import field, say

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
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


# --- mode parameters -------------------------------------------------------------------------------------------


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


def test_what_can_be_changed_and_what_is_there(two):
    assert sense6(two.a, CONTROL, CHANGEABLE).hex() == "0a0a0406384000000000" + "0000"
    assert sense6(two.a, CACHING, CHANGEABLE).hex() == "081204" + "00" * 17
    pages = ok(two.a, "5a08 3fff 000000 0200 00".replace(" ", ""), read=512)[8:]
    seen, at = [], 0
    while at < len(pages):
        sub = bool(pages[at] & 0x40)
        seen.append((pages[at] & 0x3F, pages[at + 1] if sub else 0))
        at += 4 + int.from_bytes(pages[at + 2 : at + 4], "big") if sub else 2 + pages[at + 1]
    assert seen == [(1, 0), (8, 0), (0x0A, 0), (0x0A, 1), (0x1C, 0)]
    for page, sub in seen:
        assert sense6(two.a, page, DEFAULT, sub) == sense6(two.a, page, CURRENT, sub)
    refused(two.a, "1a08ca00ff00", "5/3900", read=255)
    # The number of blocks in the block descriptor is that, not the address of the last one.
    assert ok(two.a, "5a000a0000000000ff00", read=255)[8:16] == be(SIZE // 512, 4) + be(512, 4)


def test_descriptor_sense(two):
    """D_SENSE is the unit's, so of both initiators; the other hears of it."""
    assert refused(two.a, "c0" + "00" * 9, "5/2000")[0] == 0x70
    change(two.a, CONTROL, 2, 4, 4)
    status, _, answer = two.b.scsi(bytes(6))
    assert (status, answer.sense[0], say(answer.sense)) == (2, 0x72, "6/2a01")
    two.quiet(two.a, two.b)
    for c in (two.a, two.b):
        assert refused(c, "1a082e00ff00", "5/2400", (True, 2, 5), read=255)[0] == 0x72
    # REQUEST SENSE says itself which it wants.
    assert ok(two.a, "03000000ff00", read=255)[0] == 0x70
    assert ok(two.a, "03010000ff00", read=255)[0] == 0x72
    change(two.b, CONTROL, 2, 4, 0)
    status, _, answer = two.a.scsi(bytes(6))
    assert (status, answer.sense[0], say(answer.sense)) == (2, 0x70, "6/2a01")


def test_software_write_protect(two):
    data = b"\x5a" * 512
    ok(two.a, write10(7, 1), write=data)
    change(two.a, CONTROL, 4, 8, 8)
    two.attention(two.b, "2a01")
    assert header6(two.a)[2] & 0x80 and header6(two.b)[2] & 0x80
    for c in (two.a, two.b):
        refused(c, write10(7, 1), "7/2700", write=bytes(512))
    assert ok(two.b, "28000000000700000100", read=512) == data
    change(two.b, CONTROL, 4, 8, 0)
    two.attention(two.a, "2a01")
    assert not header6(two.a)[2] & 0x80
    ok(two.a, write10(7, 1), write=bytes(512))


def test_write_cache(two):
    """WCE is the back end's cache, and the attribute."""
    assert two.store.attrib("emulate_write_cache") == "0" and not sense6(two.a, CACHING)[2] & 4
    change(two.a, CACHING, 2, 4, 4)
    two.attention(two.b, "2a01")
    assert two.store.attrib("emulate_write_cache") == "1"
    assert ok(two.a, "1201860040 00".replace(" ", ""), read=64)[6] & 1, "V_SUP"
    assert sense6(two.b, CACHING)[2] & 4 and not sense6(two.b, CACHING, DEFAULT)[2] & 4
    # RTD: the defaults again.
    ok(two.b, "150200000000")
    two.attention(two.a, "2a01")
    assert two.store.attrib("emulate_write_cache") == "0" and not sense6(two.a, CACHING)[2] & 4
    # An administrator's change is told to both.
    two.store.attrib("emulate_write_cache", 1)
    two.attention(two.a, "2a01")
    two.attention(two.b, "2a01")
    assert sense6(two.a, CACHING, DEFAULT)[2] & 4


@pytest.mark.parametrize("two", [lio.ramdisk, lio.iblock], indirect=True, ids=["ramdisk", "iblock"])
def test_write_cache_that_cannot_be_switched(two):
    page = bytearray(sense6(two.a, CACHING))
    assert sense6(two.a, CACHING, CHANGEABLE)[2] == 0
    page[2] ^= 4
    refused(two.a, "15100000 1800".replace(" ", ""), "5/2600", (False, 6, 2), write=bytes(4) + bytes(page))
    two.quiet(two.b)


def test_tas_and_interlock(two):
    """The control page and the attributes are one. TAS decides what the other initiator gets whose command was cleared."""
    assert (two.store.attrib("emulate_tas"), two.store.attrib("emulate_ua_intlck_ctrl")) == ("1", "0")
    change(two.a, CONTROL, 5, 0x40, 0)
    change(two.a, CONTROL, 4, 0x30, 0x20)
    assert (two.store.attrib("emulate_tas"), two.store.attrib("emulate_ua_intlck_ctrl")) == ("0", "1")
    # The unit attention stays until REQUEST SENSE.
    for _ in range(3):
        status, _, answer = two.b.scsi(bytes(6))
        assert (status, say(answer.sense)) == (2, "6/2a01")
    assert say(ok(two.b, "03000000ff00", read=255)) == "6/2a01"
    two.quiet(two.a, two.b)
    # A write of the other initiator waits for its data when the task set is cleared: without TAS no TASK ABORTED.
    itt = two.b.start(write10(0, 8), 4096, initiator.WRITE)
    r2t = two.b.receive()
    assert r2t.opcode == initiator.R2T and r2t.itt == itt
    assert two.a.tmf(initiator.CLEAR_TASK_SET) == 0
    assert say(ok(two.b, "03000000ff00", read=255)) == "6/2f00"
    # A reset brings the defaults back.
    assert two.a.tmf(initiator.LUN_RESET) == 0
    assert (two.store.attrib("emulate_tas"), two.store.attrib("emulate_ua_intlck_ctrl")) == ("1", "0")
    assert sense6_after_reset(two.a)[4] == 0


def waiting(c):
    """A write that gets no data: its R2T."""
    itt = c.start(write10(0, 8), 4096, initiator.WRITE)
    r2t = c.receive()
    assert r2t.opcode == initiator.R2T and r2t.itt == itt
    return r2t


def goes_on(c, r2t):
    """The write takes its data and ends well."""
    c.answer_r2t(r2t, bytes(4096))
    assert c.finish(r2t.itt)[0] == 0


def is_gone(c, r2t):
    """The write is none that could be aborted, and was not answered."""
    assert c.tmf(initiator.ABORT_TASK, ref_itt=r2t.itt) == 1
    assert not [a for a in c.seen if a.itt == r2t.itt]


@pytest.mark.parametrize("two", [lio.fileio], indirect=True)
@pytest.mark.parametrize("qerr", [0b00, 0b01, 0b11])
def test_what_others_do_after_an_error(two, qerr):
    """QERR: nobody is aborted, all in the task set, or those of the initiator whose command failed."""
    change(two.a, CONTROL, 3, 6, qerr << 1)
    if qerr:
        two.attention(two.b, "2a01")
    own, other = waiting(two.a), waiting(two.b)
    # A command that ends well does nothing to others.
    two.quiet(two.a)
    refused(two.a, "c0" + "00" * 9, "5/2000")
    if qerr == 0b00:
        goes_on(two.a, own)
    else:
        is_gone(two.a, own)
    if qerr == 0b01:
        # TAS
        assert two.b.finish(other.itt)[0] == 0x40
        two.quiet(two.b)
    else:
        goes_on(two.b, other)
    two.quiet(two.a)


def test_what_others_hear_after_an_error_without_tas(two):
    change(two.a, CONTROL, 3, 6, 2)
    two.attention(two.b, "2a01")
    change(two.a, CONTROL, 5, 0x40, 0)
    two.attention(two.b, "2a01")
    other = waiting(two.b)
    refused(two.a, "c0" + "00" * 9, "5/2000")
    assert say(ok(two.b, "03000000ff00", read=255)) == "6/2f00"
    is_gone(two.b, other)


def sense6_after_reset(c):
    for _ in range(4):
        status, data, _ = c.scsi(bytes([0x1A, 8, CONTROL, 0, 255, 0]), read=255)
        if status == 0:
            return data[4:]
    raise AssertionError("only unit attentions")


MODE_REFUSALS = {
    # name: (CDB, list, sense, pointer)
    "SP": ("151100000400", "00000000", "5/2400", (True, 1, 0)),
    "no PF": ("150000000400", "00000000", "5/2400", (True, 1, 4)),
    "RTD with a list": ("151200000400", "00000000", "5/2400", (True, 4, None)),
    "a header cut off": ("151000000300", "000000", "5/1a00", None),
    "a page cut off": ("151000000600", "0000000008 12", "5/1a00", None),
    "an unknown page": ("151000000600", "000000000200", "5/2600", (False, 4, 5)),
    "a value that cannot be changed": ("5510000000 000000 1400", "00" * 8 + "0a0a22100040 0000ffff001e", "5/2600", (False, 10, 5)),
    "a reserved value of QERR": ("5510000000 000000 1400", "00" * 8 + "0a0a02140040 0000ffff001e", "5/2600", (False, 11, 2)),
    "a reserved value": ("5510000000 000000 1400", "00" * 8 + "0a0a02101040 0000ffff001e", "5/2600", (False, 12, 5)),
    "another block length": ("151000000c00", "00000008 00000000 00001000", "5/2600", (False, 9, None)),
    "another number of blocks": ("151000000c00", "00000008 00000001 00000200", "5/2600", (False, 4, None)),
}


def test_mode_select_refusals(two):
    before = sense6(two.a, CONTROL), sense6(two.a, CACHING)
    for name, (cdb, data, sense, pointer) in MODE_REFUSALS.items():
        print(name)
        data = bytes.fromhex(data.replace(" ", ""))
        refused(two.a, cdb.replace(" ", ""), sense, pointer, write=data)
    assert (sense6(two.a, CONTROL), sense6(two.a, CACHING)) == before
    # An initiator that sends less than its CDB announces.
    status, _, answer = two.a.scsi(bytes.fromhex("151000001800"), write=bytes(4))
    assert (status, say(answer.sense)) == (2, "5/1a00")
    # No list is no error; nobody hears of what changed nothing.
    ok(two.a, "151000000000")
    select6(two.a, sense6(two.a, CONTROL))
    two.quiet(two.b)


def test_who_may_only_read_changes_nothing():
    """An initiator whose LUN is write protected: no value can be changed, and nothing that it would leave for others."""
    store = lio.fileio(size=SIZE)
    names = ["iqn.2024-01.org.example:reads", "iqn.2024-01.org.example:writes"]
    target = lio.IscsiTarget(store, acls=names)
    lio.write(target.path / f"acls/{names[0]}/lun_0/write_protect", 1)
    with initiator.session(target, name=names[0]) as a, initiator.session(target, name=names[1]) as b:
        assert not any(sense6(a, CONTROL, CHANGEABLE)[2:]) and any(sense6(b, CONTROL, CHANGEABLE)[2:])
        page = bytearray(sense6(a, CONTROL))
        page[4] |= 8
        refused(a, "151000001000", "5/2600", (False, 8, 3), write=bytes(4) + bytes(page))
        for cdb, data in (("150200000000", b""), ("4c024000000000000000", b""), ("3b020000000000000400", b"abcd"),
                          ("a40f000000000000000c0000", bytes(12)), ("a4060000000000000004" + "0000", b"abcd")):
            refused(a, cdb, "7/2700", write=data)
        assert b.scsi(bytes(6))[0] == 0
        ok(b, "a40f000000000000000c0000", write=bytes(12))


SERIAL = "5aved0123456789a"


def saved_file():
    lio.modprobe("target_core_mod")
    return Path(lio.read(lio.CFS / "dbroot")) / f"mode_{SERIAL}"


def set_up(**kw):
    return Two(lio.fileio("f0", size=SIZE, file="/tmp/saved.disk", serial=SERIAL, **kw))


def select_and_save(c, page):
    return ok(c, bytes([0x15, 0x11, 0, 0, 4 + len(page), 0]), write=bytes(4) + page)


def test_saved_values():
    """SP: what is saved is in force after a reset and after the modules were gone; all pages are saved, and nothing else is."""
    saved_file().parent.mkdir(parents=True, exist_ok=True)
    saved_file().unlink(missing_ok=True)
    two = set_up()
    assert sense6(two.a, CONTROL, SAVED)[2:] == sense6(two.a, CONTROL, DEFAULT)[2:] and sense6(two.a, CONTROL)[0] == 0x8A
    change(two.a, CACHING, 2, 4, 4)
    two.attention(two.b, "2a01")
    page = bytearray(sense6(two.a, CONTROL))
    page[2] |= 4
    page[5] &= ~0x40
    select_and_save(two.a, bytes(page))
    assert two.b.scsi(bytes(6))[0] == 2
    assert saved_file().stat().st_mode & 0o777 == 0o600 and not list(saved_file().parent.glob("*.new"))
    # What is not saved is gone with a reset.
    change(two.a, CONTROL, 4, 8, 8)
    assert sense6(two.a, CONTROL)[4] == 8 and sense6(two.a, CONTROL, SAVED)[4] == 0
    assert two.a.tmf(initiator.LUN_RESET) == 0
    assert sense6_after_reset(two.a)[2:6].hex() == "06100000"
    two.a.close()
    two.b.close()
    text = saved_file().read_text()
    lio.clear(unload=True)
    assert saved_file().read_text() == text
    two = set_up()
    assert sense6(two.a, CONTROL)[2:6].hex() == "06100000" and sense6(two.a, CACHING)[2] & 4
    assert sense6(two.a, CONTROL, DEFAULT)[2:6].hex() == "02100040" and not sense6(two.a, CACHING, DEFAULT)[2] & 4
    assert (two.store.attrib("emulate_tas"), two.store.attrib("emulate_write_cache")) == ("0", "1")
    # RTD with SP: the defaults again, and for good.
    ok(two.a, "150300000000")
    assert sense6(two.a, CONTROL, SAVED) == sense6(two.a, CONTROL, DEFAULT) == sense6(two.a, CONTROL)
    # What cannot be saved is not done.
    root = saved_file().parent
    saved_file().unlink()
    saved_file().mkdir()
    page = bytearray(sense6(two.a, CONTROL))
    page[2] |= 4
    refused(two.a, bytes([0x15, 0x11, 0, 0, 4 + len(page), 0]), "4/4400", write=bytes(4) + bytes(page))
    assert sense6(two.a, CONTROL)[2] & 4 == 0
    two.a.close()
    two.b.close()
    saved_file().rmdir()
    for leftover in root.glob("mode_*.new"):
        leftover.unlink()


@pytest.mark.parametrize("bad", ["cut off", "longer", "unknown", "binary", "directory", "empty"])
def test_saved_values_that_are_not(bad):
    """A file that says nothing sensible is left out, and left there; the disk works."""
    good = "page_0a_00=04100000000000000000\n"
    file = saved_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    if bad == "directory":
        file.mkdir()
    else:
        file.write_bytes({"cut off": good[:-3].encode(), "longer": good.encode() * 100, "unknown": b"page_02_00=00\n",
                          "binary": bytes(range(256)), "empty": b""}[bad])
    before = lio.run("dmesg").stdout.count("left out: mode_SERIAL")
    try:
        two = set_up()
        assert sense6(two.a, CONTROL) == sense6(two.a, CONTROL, DEFAULT) == sense6(two.a, CONTROL, SAVED)
        said = [line for line in lio.run("dmesg").stdout.splitlines() if "left out: mode_SERIAL" in line]
        assert (len(said) > before) == (bad != "empty"), said
        two.a.close()
        two.b.close()
        assert file.exists()
    finally:
        file.rmdir() if bad == "directory" else file.unlink()


def test_control_extension(two):
    """TCMOS and SCSIP: whose clock it is. MAXIMUM SENSE DATA LENGTH: sense data is cut off, and says so."""
    # With IALUAE, which is not for initiators to change.
    assert sense6(two.a, CONTROL, CHANGEABLE, 1)[4:7].hex() == "060fff" and sense6(two.a, CONTROL, CURRENT, 1)[4:7].hex() == "070000"
    ok(two.a, "a40f000000000000000c0000", write=bytes(4) + be(1_000_000, 6) + bytes(2))
    two.attention(two.b, "2a10")
    extension = sense6(two.a, CONTROL, CURRENT, 1)

    def to(flags, most=0):
        select6(two.a, extension[:4] + bytes([flags | 1, 0, most]) + extension[7:])
        # What it is about may be cut off.
        assert two.b.scsi(bytes(6))[0] == 2
        two.quiet(two.b)
    to(4)
    origin, now = timestamp(two.a)
    assert origin == 3 and abs(now / 1000 - time.time()) < 5 * lio.SLOW
    refused(two.a, "a40f000000000000000c0000", "5/2400", write=bytes(12))
    to(0)
    assert timestamp(two.a)[0] == 2
    for most, length in ((8, 8), (18, 18), (17, 17), (52, 18)):
        to(6, most)
        status, _, answer = two.b.scsi(b"\xc0" + bytes(9))
        assert (status, len(answer.sense)) == (2, length), most
        assert answer.sense[2] == 0x05 | (0x10 if length < 18 else 0)
    # No fabric carries command duration limits: their pages are not there, and no command has a page.
    for subpage in (3, 4, 5, 7, 8):
        refused(two.a, bytes([0x1A, 8, CONTROL, subpage, 255, 0]), "5/2400", (True, 3, None), read=255)
    for opcode in ("28", "2a", "88", "8a"):
        assert ok(two.a, f"a30c01{opcode}000000000040 0000".replace(" ", ""), read=64)[1] == 3
    # REQUEST SENSE has its own allocation length.
    to(6, 8)
    assert len(ok(two.b, "03000000ff00", read=255)) == 18
    to(6)
    page = extension[:4] + bytes([7, 0, 53]) + extension[7:]
    refused(two.a, bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), "5/2600", (False, 10, 7), write=bytes(4) + page)


# --- priorities -----------------------------------------------------------------------------------------------


def priorities(c, reported=0):
    """{(port, name): priority}"""
    cdb = bytes([0xA3, 0x0E, reported << 6, 0, 0, 0]) + be(1024, 4) + bytes(2)
    data, found, at = ok(c, cdb, read=1024), {}, 4
    assert len(data) == 4 + int.from_bytes(data[:4], "big")
    while at < len(data):
        n = int.from_bytes(data[at + 6 : at + 8], "big")
        transport = data[at + 8 : at + 8 + n]
        assert transport[0] == 0x45 and int.from_bytes(transport[2:4], "big") == n - 4
        found[int.from_bytes(data[at + 2 : at + 4], "big"), transport[4:].rstrip(b"\0").decode()] = data[at]
        at += 8 + n
    return found


def set_priority(which, priority, port=0, name=""):
    text = name.encode() + b"\0"
    transport = b"\x45\0" + be(len(text) + -len(text) % 4, 2) + text + bytes(-len(text) % 4) if name else b""
    body = bytes([priority, 0]) + be(port, 2) + bytes(2) + be(len(transport), 2) + transport
    return bytes([0xA4, 0x0E, which << 6, 0, 0, 0]) + be(len(body), 4) + bytes(2), body


def test_priorities(two):
    """Each initiator's own, another's, all of them; who is set hears of it; the initial one is a mode parameter; a reset ends it."""
    a, b = two.a, two.b
    (own, none), = priorities(a).items()
    (other, _), = priorities(b).items()
    assert none == 0 and own != other and own[0] == other[0] and other[1].startswith("iqn.2024-01.org.example:other,i,0x")
    assert priorities(a, 1) == {}

    def to(c, *what):
        cdb, body = set_priority(*what)
        ok(c, cdb, write=body)
    to(a, 0, 3)
    two.quiet(b)
    assert priorities(a) == priorities(a, 1) == {own: 3} and priorities(b) == {other: 0}
    to(a, 1, 15, *other)
    two.attention(b, "2a08")
    assert priorities(b) == {other: 15} and priorities(b, 1) == {own: 3, other: 15}
    # By the initial priority, where none was set: none was set here.
    extension = sense6(a, CONTROL, CURRENT, 1)
    to(b, 0, 0)
    select6(a, extension[:5] + bytes([7]) + extension[6:])
    status, _, answer = b.scsi(bytes(6))
    assert (status, say(answer.sense)) == (2, "6/2a01")
    two.attention(b, "2a08")
    assert priorities(b) == {other: 7} and priorities(b, 1) == {own: 3} and priorities(a) == {own: 3}
    to(b, 2, 0)
    two.attention(a, "2a08")
    assert priorities(a) == {own: 7} and priorities(a, 1) == {}
    # A port that is not there; all ports of an initiator; a list that is cut off.
    for what, at in (((1, 1, other[0] + 1, other[1]), 2), ((1, 1, own[0], "iqn.2024-01.org.example:nobody"), 12)):
        cdb, body = set_priority(*what)
        refused(a, cdb, "5/2600", (False, at, None), write=body)
    refused(a, "a40e40000000000000040000", "5/1a00", write=bytes(4))
    refused(a, "a40e00000000000000000000", "5/1a00")
    refused(a, "a30e80000000000001000000", "5/2400", (True, 2, 7), read=256)
    to(a, 0, 9)
    cdb = bytes([0xA3, 0x0E, 0, 0, 0, 0]) + be(8, 4) + bytes(2)
    assert ok(a, cdb, read=8)[4:] == bytes([9, 0]) + be(own[0], 2)
    # It does not end with the session, nor does it need one.
    absent = (own[0], "iqn.2024-01.org.example:other,i,0x800000000077")
    to(a, 1, 4, *other)
    to(a, 1, 5, *absent)
    b.close()
    assert priorities(a, 1) == {own: 9, other: 4, absent: 5}
    two.b = b = initiator.session(two.target, name="iqn.2024-01.org.example:other")
    assert priorities(b) in ({other: 4}, {(own[0], next(iter(priorities(b)))[1]): 0})
    assert a.tmf(initiator.LUN_RESET) == 0
    for c in (a, b):
        assert c.scsi(bytes(6))[0] == 2
        two.quiet(c)
    assert priorities(a, 1) == {} and set(priorities(a).values()) == {0}


# --- log pages -------------------------------------------------------------------------------------------------


def log_page(c, page, control=1, subpage=0, pointer=0):
    cdb = bytes([0x4D, 0, control << 6 | page, subpage, 0]) + be(pointer, 2) + be(512, 2) + b"\0"
    data = ok(c, cdb, read=512)
    assert len(data) == 4 + int.from_bytes(data[2:4], "big")
    return data


def counters(c, page, **kw):
    data, found, at = log_page(c, page, **kw), {}, 4
    assert data[0] & 0x3F == page
    while at < len(data):
        n = data[at + 3]
        found[int.from_bytes(data[at : at + 2], "big")] = int.from_bytes(data[at + 4 : at + 4 + n], "big")
        at += 4 + n
    return found


def test_log_counters(two):
    assert log_page(two.a, 0)[4:] == bytes([0, 2, 3, 5, 0x0D, 0x0E, 0x19, 0x2F])
    assert log_page(two.a, 0, subpage=0xFF)[4:].hex() == "000000ff0200030005000d000d010e0019002f00"
    before = counters(two.a, 2)[5]
    ok(two.a, write10(0, 8), write=bytes(4096))
    assert counters(two.b, 2) == {5: before + 4096, 6: 0}
    before = counters(two.a, 3)[5]
    ok(two.b, "28000000000000000800", read=4096)
    assert counters(two.a, 3)[5] == before + 4096
    before5 = counters(two.a, 5)[5]
    ok(two.a, "2f000000000000001000")
    assert counters(two.a, 5) == {5: before5 + 8192, 6: 0}
    # The pointer, and the default values.
    assert counters(two.a, 2, pointer=6) == {6: 0}
    assert counters(two.a, 2, control=3) == {5: 0, 6: 0}
    refused(two.a, "4d004200000007 00ff00".replace(" ", ""), "5/2400", (True, 5, None), read=255)
    # A reset of one page's: the other initiator hears of it.
    ok(two.a, "4c02420000000000" + "0000")
    two.attention(two.b, "2a02")
    assert counters(two.a, 2) == {5: 0, 6: 0} and counters(two.a, 3)[5] == before + 4096
    ok(two.b, "4c02400000000000" + "0000")
    two.attention(two.a, "2a02")
    assert counters(two.a, 3) == {5: 0, 6: 0}
    # The administrator's statistics are not the log.
    assert int(lio.read(two.store.path / "statistics/scsi_lu/num_cmds")) > 10
    ok(two.a, "4c00420000000000" + "0000")
    two.quiet(two.b)


def test_general_statistics(two):
    """Commands and blocks of the medium, by all initiators; what they take is known while an administrator has it measured."""
    def now(c, control=1):
        data = log_page(c, 0x19, control)
        assert data[:8].hex() == "9900005c00010240" and data[72:76].hex() == "00020208" and data[84:].hex() == "000303080000000600000001"
        return [int.from_bytes(data[at : at + 8], "big") for at in (*range(8, 72, 8), 76)]
    before = now(two.a)
    ok(two.a, write10(0, 8), write=bytes(4096))
    ok(two.a, write10(8, 1), write=bytes(512))
    ok(two.b, "28000000000000000800", read=4096)
    ok(two.b, bytes(6))
    assert [n - b for n, b in zip(now(two.b), before)] == [1, 2, 9, 8, 0, 0, 0, 0, 0]
    assert now(two.a, control=3) == [0] * 9
    began = time.monotonic()
    lio.write(two.target.path / "lun/lun_0/statistics/latency/enable", 1)
    for lba in range(4):
        ok(two.a, write10(lba, 1), write=bytes(512))
    time.sleep(1)
    _, _, _, _, reads, writes, _, _, idle = now(two.a)
    took = (time.monotonic() - began) * 1e6
    assert reads == 0 and 0 < writes < took - 1e6 and 1e6 <= idle < took - writes
    # It is reset, and is none that a list sets.
    ok(two.b, "4c00d9000000000000" + "00")
    two.attention(two.a, "2a02")
    assert now(two.a)[:8] == [0] * 8
    refused(two.a, "4c004000000000000800", "5/2600", (False, 0, 5), write=bytes.fromhex("1900000400030300"))


def test_log_lists(two):
    """Nobody knows a temperature. How often the unit was started after a stop is counted, and not reset."""
    assert log_page(two.a, 0x0D)[4:].hex() == "0000030200ff" and log_page(two.a, 0x0D, subpage=1)[4:].hex() == "000003080080808080800000"
    assert log_page(two.a, 0x0D, subpage=0xFF)[4:].hex() == "0d000d010dff"
    assert counters(two.a, 0x0E) == {4: 0}
    for _ in range(2):
        ok(two.a, "1b0000000000")
        for _ in range(2):
            ok(two.a, "1b0000000100")
    ok(two.a, "4c02400000000000" + "0000")
    assert counters(two.a, 0x0E) == {4: 2}


def test_informational_exceptions(two):
    """TEST makes one; MRIE 6h has REQUEST SENSE tell of it."""
    assert log_page(two.a, 0x2F)[4:].hex() == "000003040000ff00"
    change(two.a, 0x1C, 2, 4, 4)
    two.attention(two.b, "2a01")
    assert log_page(two.b, 0x2F)[4:].hex() == "000003045dffff00"
    assert say(ok(two.b, "03000000ff00", read=255)) == "0/0000"
    change(two.a, 0x1C, 3, 15, 6)
    two.attention(two.b, "2a01")
    for c in (two.a, two.b):
        assert say(ok(c, "03000000ff00", read=255)) == "0/5dff"
    two.quiet(two.a, two.b)
    ok(two.a, "150200000000")
    assert say(ok(two.a, "03000000ff00", read=255)) == "0/0000"


def test_a_medium_that_fails():
    """Errors are counted, make an informational exception, and fail the self-test."""
    under = lio.loop_device(16 << 20)
    with storage.dm("primary", f"0 64 linear {under} 0\n64 64 error\n128 32640 linear {under} 128") as bad:
        two = Two(lio.iblock(dev=bad))
        ok(two.a, "1d0000000000")
        refused(two.a, "28000000004000000100", "3/1100", read=512)
        assert counters(two.a, 3)[6] == 1 and counters(two.a, 2)[6] == 0
        refused(two.a, write10(64, 1), "3/0c00", write=bytes(512))
        assert counters(two.a, 2)[6] == 1
        refused(two.a, "1d0400000000", "4/3e03")
        assert counters(two.a, 5)[6] == 1
        assert log_page(two.b, 0x2F)[8:10] == b"\x5d\0"
        ok(two.a, "4c02400000000000" + "0000")
        assert log_page(two.a, 0x2F)[8:10] == bytes(2)


# --- timestamp, identifying information, task management functions ---------------------------------------------


def timestamp(c):
    data = ok(c, "a30f00000000000000ff0000", read=255)
    assert data[:2] == b"\0\x0a" and len(data) == 12
    return data[2], int.from_bytes(data[4:10], "big")


def test_timestamp(two):
    origin, now = timestamp(two.a)
    assert origin == 3 and abs(now / 1000 - time.time()) < 5 * lio.SLOW
    ok(two.a, "a40f000000000000000c0000", write=bytes(4) + be(1_000_000, 6) + bytes(2))
    two.attention(two.b, "2a10")
    origin, now = timestamp(two.b)
    assert origin == 2 and 1_000_000 <= now < 1_000_000 + 20_000 * lio.SLOW
    time.sleep(0.2)
    assert timestamp(two.a)[1] >= now + 150
    ok(two.a, "a40f00000000000000000000")
    refused(two.a, "a40f000000000000000b0000", "5/1a00", write=bytes(11))
    refused(two.a, "a40f000000000000000c0000", "5/2600", (False, 0, None), write=b"\1" + bytes(11))
    two.quiet(two.b)


def identifying(c, kind):
    data = ok(c, "a305" + "00" * 4 + "00000200" + f"{kind << 1:02x}00", read=512)
    assert int.from_bytes(data[2:4], "big") == len(data) - 4
    return data[4:]


def set_identifying(c, kind, data):
    ok(c, bytes.fromhex("a406" + "00" * 4) + be(len(data), 4) + bytes([kind << 1, 0]), write=data)


def test_identifying_information(two):
    file = two.store.path / "wwn/pd_text_id_info"
    assert identifying(two.a, 0x7F).hex() == "0000004004000100"
    assert identifying(two.a, 0) == identifying(two.a, 2) == b""
    set_identifying(two.a, 0, b"\0\1\2" * 21)
    two.attention(two.b, "3f05")
    assert identifying(two.b, 0) == b"\0\1\2" * 21
    # The text is the administrator's, too.
    set_identifying(two.b, 2, "rack 7, grün".encode() + b"\0")
    two.attention(two.a, "3f05")
    assert lio.read(file) == "rack 7, grün"
    lio.write(file, "rack 8")
    two.attention(two.a, "3f05")
    two.attention(two.b, "3f05")
    assert identifying(two.a, 2) == b"rack 8\0"
    with lio.refused():
        lio.write(file, "x" * 256)
    lio.write(file, "x" * 255)
    two.attention(two.a, "3f05")
    assert identifying(two.a, 2) == b"x" * 255 + b"\0"
    refused(two.a, bytes.fromhex("a406" + "00" * 4) + be(65, 4) + b"\0\0", "5/2400", (True, 6, None), write=bytes(65))
    refused(two.a, bytes.fromhex("a406" + "00" * 4) + be(4, 4) + b"\4\0", "5/2600", (False, 3, None), write=b"abcd")


def test_task_management_functions(two):
    """What is reported is what there is: QUERY TASK is not an iSCSI function of this level."""
    assert ok(two.a, "a30d0000000000000010" + "0000", read=16).hex() == "da000000"
    data = ok(two.a, "a30d8000000000000010" + "0000", read=16)
    assert data.hex() == "da00000c01000000" + be(300, 4).hex() + "00000000"
    for function in (initiator.ABORT_TASK_SET, initiator.CLEAR_TASK_SET, initiator.LUN_RESET, initiator.WARM_RESET):
        assert two.a.tmf(function) == 0


# --- diagnostics and buffers -----------------------------------------------------------------------------------


def test_diagnostics(two):
    ok(two.a, "1d0400000000")
    ok(two.a, "1d0000000000")
    assert ok(two.a, "1c0100 00ff00".replace(" ", ""), read=255).hex() == "0000000100"
    ok(two.a, "1d1000000400", write=bytes(4))
    assert ok(two.a, "1c000000ff00", read=255).hex() == "0000000100"
    refused(two.a, "1d1000000400", "5/2600", (False, 0, None), write=b"\x40\0\0\0")
    refused(two.a, "1da000000000", "5/2400", (True, 1, 7))
    refused(two.a, "1c0140 00ff00".replace(" ", ""), "5/2400", (True, 2, None), read=255)


def test_buffers(two):
    assert ok(two.a, "3c030000000000000400", read=4) == be(65536, 4)
    assert ok(two.a, "3c0b0000000000000400", read=4) == be(4096, 4)
    assert ok(two.a, "3c030100000000000400", read=4) == bytes(4)
    assert ok(two.a, "3c020000000000001000", read=16) == bytes(16)
    whole = bytes(range(256)) * 256
    ok(two.a, bytes.fromhex("3b0200000000") + be(65536, 3) + b"\0", write=whole)
    ok(two.b, bytes.fromhex("3b020000fffe") + be(2, 3) + b"\0", write=b"zz")
    got = ok(two.b, bytes.fromhex("3c0200000000") + be(1 << 20, 3) + b"\0", read=1 << 20)
    assert got == whole[:-2] + b"zz"
    refused(two.a, bytes.fromhex("3b020000ffff") + be(2, 3) + b"\0", "5/2400", (True, 6, None), write=b"zz")
    # The echo buffer: first nothing, then what was written, and no more of it.
    refused(two.a, "3c0a0000000000100000", "5/2c00", read=4096)
    ok(two.a, "3b0a0000000000000500", write=b"hello")
    assert ok(two.b, "3c0a0000000000100000", read=4096) == b"hello"
    # Microcode is not taken.
    refused(two.a, "3b050000000000001000", "5/2400", (True, 1, 4), write=bytes(16))


# --- identity --------------------------------------------------------------------------------------------------


def test_ports(two):
    """Page 88h has each port that leads to the disk, with its identifier and its name."""
    other = lio.IscsiTarget(two.store, iqn="iqn.2003-01.org.example:second", portals=("127.0.0.1:3261",), tag=7)
    data = ok(two.a, "12018808 0000".replace(" ", ""), read=2048)
    assert len(data) == 4 + int.from_bytes(data[2:4], "big")
    ports, at = {}, 4
    while at < len(data):
        n = int.from_bytes(data[at + 10 : at + 12], "big")
        designator = data[at + 12 : at + 12 + n]
        assert designator[:3].hex() == "539800" and data[at + 6 : at + 8] == b"\0\0"
        ports[int.from_bytes(data[at + 2 : at + 4], "big")] = designator[4:].rstrip(b"\0").decode()
        at += 12 + n
    assert sorted(ports.values()) == [f"{other.iqn},t,0x0007", f"{two.target.iqn},t,0x0001"]
    # The port that this command came through is one of them, by the same identifier as in page 83h.
    page = ok(two.a, "12018301 0000".replace(" ", ""), read=256)
    at = page.index(bytes.fromhex("51940004"))
    assert ports[int.from_bytes(page[at + 6 : at + 8], "big")].startswith(two.target.iqn)
    assert ok(two.a, "120187 00ff00".replace(" ", ""), read=255).hex() == "008700043fff0000"


# --- sg3_utils -------------------------------------------------------------------------------------------------


def test_sg3_utils():
    store = lio.fileio(size=SIZE, serial="11111111-2222-3333-4444-555555555555")
    disk = lio.Loopback(store).disk()

    def tool(*cmd, status=0):
        p = lio.run(*cmd, check=False)
        assert p.returncode == status, f"{cmd}: {p.returncode}\n{p.stdout}"
        return p.stdout

    out = tool("sg_vpd", "-a", disk)
    assert "Mode page policy VPD page:" in out and "SCSI ports VPD page:" in out
    assert re.search(r"Policy page code: 0x3f, +subpage code: 0xff.*Policy: shared", tool("sg_vpd", "-p", "mpp", disk), re.S)
    assert "naa.5001405000000001,t,0x0001" in tool("sg_vpd", "-p", "sp", disk)
    out = tool("sg_modes", "-a", disk)
    assert ">> Control, page_control: current" in out and ">> Caching, page_control: current" in out
    out = tool("sg_logs", "-a", disk)
    assert "Write error counter log page" in out and "Informational exceptions log page" in out
    assert re.search(r"number of read commands = \d+", tool("sg_logs", "-p", "0x19", disk), re.I)
    out = tool("sg_opcodes", disk)
    for name in ("Mode select(10)", "Log sense", "Send diagnostic", "Write buffer", "Report timestamp", "Set timestamp",
                 "Report identifying information", "Report supported task management functions"):
        assert name.lower() in out.lower(), name
    assert "Logical unit reset" in tool("sg_opcodes", "-t", disk)
    assert "long" in tool("sg_opcodes", "-t", "--repd", disk).lower()
    assert "GOOD status" in tool("sg_senddiag", "-t", disk)
    assert "0x00  Supported diagnostic pages" in tool("sg_senddiag", "-l", disk)
    assert "BUFFER CAPACITY: 65536" in tool("sg_read_buffer", "-m", "desc", disk)
    tool("sg_write_buffer", "-m", "data", "-i", "0", "-l", "512", "-I", "/dev/zero", disk)
    tool("sg_test_rwbuf", "--quick", disk)
    tool("sg_timestamp", "--milliseconds=1234567890123", disk)
    assert tool("sg_timestamp", disk).startswith("12345678")
    lio.run("bash", "-c", f"printf abc | sg_ident --set {disk}")
    assert "abc" in tool("sg_ident", "--ascii", disk)
    assert "No additional sense information" in tool("sg_requests", disk)
    # sg_wr_mode of sg3_utils 1.48 refuses each --contents: sg_raw it is.
    page = bytes.fromhex("0a0a06100040 0000ffff001e")
    assert lio.sg_raw(disk, "55100000000000001400", data=bytes(8) + page)[2] == 0
    assert re.search(r"^ 00 +8a 0a 06 10", tool("sg_modes", "-p", "0xa", disk), re.M)
    assert "Descriptor format" in tool("sg_raw", "-r", "255", disk, *"1a 08 2e 00 ff 00".split(), status=5)
    # There is no enclosure.
    assert lio.run("sg_ses", "-p", "2", disk, check=False).returncode != 0
    # Linux switches the cache by MODE SELECT.
    cache = next(Path(f"/sys/block/{Path(disk).name}/device/scsi_disk").iterdir()) / "cache_type"
    assert (lio.read(cache), store.attrib("emulate_write_cache")) == ("write through", "0")
    lio.write(cache, "write back")
    assert (lio.read(cache), store.attrib("emulate_write_cache")) == ("write back", "1")
    lio.write(cache, "write through")
    assert store.attrib("emulate_write_cache") == "0"
