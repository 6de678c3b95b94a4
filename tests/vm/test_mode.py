"""Mode parameters (SPC-5 7.5, SBC-4 6.5): what they change, who hears of it, what is saved; by two initiators over iSCSI."""
# vm: --timeout 1200
# group: primary
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import initiator
import lio
import pytest
from faulty import Device
from sgio import say
from storage import mounted
from units import (CACHING, CHANGEABLE, CONTROL, CURRENT, DEFAULT, SAVED, SIZE, Two, be,
                   change, collect, enabled, groups, header6, ok, refused, select6, sense6, timestamp, two, write10)  # noqa: F401

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")


def test_what_can_be_changed_and_what_is_there(two):
    assert sense6(two.a, CONTROL, CHANGEABLE).hex() == "0a0a0406384000000000" + "0000"
    assert sense6(two.a, CACHING, CHANGEABLE).hex() == "081204" + "00" * 17
    pages = ok(two.a, "5a08 3fff 000000 1000 00".replace(" ", ""), read=4096)[8:]
    seen, at = [], 0
    while at < len(pages):
        sub = bool(pages[at] & 0x40)
        seen.append((pages[at] & 0x3F, pages[at + 1] if sub else 0))
        at += 4 + int.from_bytes(pages[at + 2 : at + 4], "big") if sub else 2 + pages[at + 1]
    assert seen == [(1, 0), (8, 0), (0x0A, 0), (0x0A, 1), (0x0A, 5), (0x1C, 0)]
    # MODE SENSE (6) has those that it has room for.
    seen.remove((0x0A, 5))
    assert len(sense6(two.a, 0x3F, subpage=0xFF)) == sum(len(sense6(two.a, page, subpage=sub)) for page, sub in seen)
    refused(two.a, "1a080a05ff00", "5/2400", (True, 3, None), read=255)
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
        file.write_bytes({"cut off": good[:-3].encode(), "longer": good.encode() * 200, "unknown": b"page_02_00=00\n",
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


def test_what_an_administrator_sets_while_values_are_saved():
    """Neither undoes the other, and the administrator does not wait for the file."""
    slow = Device("mode-root")
    lio.run("mkfs.ext4", "-q", "-O", "^has_journal", slow.path)
    with mounted(slow.path, saved_file().parent), ThreadPoolExecutor(1) as pool:
        two = set_up()
        change(two.a, CACHING, 2, 4, 4)
        two.attention(two.b, "2a01")
        page = bytearray(sense6(two.a, CONTROL))
        page[2] |= 4
        # Flushes wait.
        slow.become(f"0 {slow.sectors} delay {slow.below} 0 0 {slow.below} 0 0 {slow.below} 0 600000\n")
        try:
            saving = pool.submit(select_and_save, two.a, bytes(page))
            lio.wait_for(lambda: lio.run("dmsetup", "status", slow.name).stdout.split()[5] != "0")
            two.store.attrib("emulate_write_cache", 0)
            assert not saving.done()
        finally:
            slow.good()
        saving.result()
        while two.a.scsi(bytes(6))[0]:
            pass
        assert two.store.attrib("emulate_write_cache") == "0"
        for control in (CURRENT, SAVED):
            assert sense6(two.a, CONTROL, control)[2] & 4 and not sense6(two.a, CACHING, control)[2] & 4
        (line,) = [line for line in saved_file().read_text().splitlines() if line.startswith("page_08_00=")]
        assert not int(line[11:13], 16) & 4
        two.a.close()
        two.b.close()
        lio.clear()


def test_groups(two):
    """IC_ENABLE of groups 1 to 31 is all that can be changed of the IO advice hints grouping page, and is as other values are."""
    plain = bytearray(1040)
    plain[:4] = bytes.fromhex("4a05040c")
    for group in range(64):
        plain[16 + 16 * group] = 0x40
    assert groups(two.a) == groups(two.a, DEFAULT) == plain
    mask = groups(two.a, CHANGEABLE)
    assert enabled(mask) == set(range(1, 32)) and sum(mask[4:]) == 31
    collect(two.a, 1, 5, 31)
    two.attention(two.b, "2a01")
    assert enabled(groups(two.b)) == {1, 5, 31} and groups(two.b, DEFAULT) == plain
    # The same again is no change.
    collect(two.a, 1, 5, 31)
    two.quiet(two.b)
    before = groups(two.a)
    # Group 0, one without a log page, hints that would be valid, a cache segment, a stream, ACDLU, a frequency, what is reserved.
    for at, flip, bit in ((16, 1, 0), (16 + 16 * 32, 1, 0), (16 + 16 * 63, 1, 0), (32, 0x40, 6), (32, 2, 1), (32, 4, 2), (36, 0x80, 7),
                          (37, 0x40, 6), (47, 1, 0), (15, 1, 0)):
        page = bytearray(before)
        page[at] ^= flip
        refused(two.a, bytes([0x55, 0x10, 0, 0, 0, 0, 0]) + be(8 + len(page), 2) + b"\0", "5/2600", (False, 8 + at, bit),
                write=bytes(8) + bytes(page))
    refused(two.a, "55100000000000040000", "5/1a00", write=bytes(8) + before[:1016])
    assert groups(two.a) == before
    two.quiet(two.b)
    assert two.a.tmf(initiator.LUN_RESET) == 0
    for c in (two.a, two.b):
        while c.scsi(bytes(6))[0]:
            pass
    assert groups(two.a) == plain


def test_saved_groups():
    """What is saved of groups is in force after the modules were gone; saved text of before there were groups still is."""
    file = saved_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    two = set_up()
    collect(two.a, 2, 30, save=True)
    collect(two.a, 3)
    assert (enabled(groups(two.a)), enabled(groups(two.a, SAVED))) == ({3}, {2, 30})
    for c in (two.a, two.b):
        c.close()
    lio.clear(unload=True)
    two = set_up()
    assert (enabled(groups(two.a)), enabled(groups(two.a, SAVED)), enabled(groups(two.a, DEFAULT))) == ({2, 30}, {2, 30}, set())
    # They are collected, too, which nobody selected since.
    ok(two.a, "28000000000002000800", read=4096)
    assert int.from_bytes(ok(two.a, "4d005902000000020000", read=512)[8:16], "big") == 1
    for c in (two.a, two.b):
        c.close()
    lines = file.read_text().splitlines(keepends=True)
    older = [line for line in lines if not line.startswith("page_0a_05=")]
    assert len(older) == len(lines) - 1
    lio.clear(unload=True)
    file.write_text("".join(older).replace("page_0a_00=02", "page_0a_00=06"))
    two = set_up()
    assert sense6(two.a, CONTROL)[2] & 4 and enabled(groups(two.a)) == set()
    for c in (two.a, two.b):
        c.close()
    file.unlink()


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
    for subpage in (3, 4, 7, 8):
        refused(two.a, bytes([0x1A, 8, CONTROL, subpage, 255, 0]), "5/2400", (True, 3, None), read=255)
    for opcode in ("28", "2a", "88", "8a"):
        assert ok(two.a, f"a30c01{opcode}000000000040 0000".replace(" ", ""), read=64)[1] == 3
    # REQUEST SENSE has its own allocation length.
    to(6, 8)
    assert len(ok(two.b, "03000000ff00", read=255)) == 18
    to(6)
    page = extension[:4] + bytes([7, 0, 53]) + extension[7:]
    refused(two.a, bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), "5/2600", (False, 10, 7), write=bytes(4) + page)
