"""Primary commands about a unit's priorities, logs, identity and buffers (SPC-5), by two initiators over iSCSI."""
# vm: --timeout 1200
# group: primary
import re
import time
from pathlib import Path

import initiator
import lio
import pytest
import storage
from sgio import say
from units import CONTROL, CURRENT, SIZE, Two, be, change, collect, ok, refused, select6, sense6, timestamp, two, write10  # noqa: F401

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")


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
    assert priorities(b) == {other: 4}
    assert a.tmf(initiator.LUN_RESET) == 0
    for c in (a, b):
        assert c.scsi(bytes(6))[0] == 2
        two.quiet(c)
    assert priorities(a, 1) == {} and set(priorities(a).values()) == {0}


# --- identity --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lio.ramdisk, lio.fileio, lio.iblock])
def test_what_the_administrator_calls_it(kind):
    """Names, company and whether it rotates, as they are written before it is exported, are what an initiator sees."""
    store = kind(size=SIZE, serial="0a1b2c3d-4e5f-6789-abcd-ef0123456789")
    for name, value in {"vendor_id": "ACME", "product_id": "Disk of mine", "revision": "7.1", "company_id": "0xabcdef"}.items():
        lio.write(store.path / "wwn" / name, value)
    for rotates in (1, 0):
        store.attrib("is_nonrot", 1 - rotates)
        target = lio.IscsiTarget(store)
        with initiator.session(target) as c:
            assert ok(c, "120000006000", read=96)[8:36] == b"ACME    Disk of mine    7.1 "
            page = ok(c, "12018300ff00", read=255)
            assert page[1] == 0x83 and page[4:8] == bytes([1, 3, 0, 16]), "binary, NAA, of the logical unit"
            assert page[8:24].hex() == "6abcdef" + "0a1b2c3d4e5f6789abcdef012"
            # MEDIUM ROTATION RATE (SBC-4, 6.6.2): not reported, or none.
            assert ok(c, "1201b100ff00", read=255)[4:6] == (b"\0\0" if rotates else b"\0\1")
        target.delete()


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
    assert log_page(two.a, 0, subpage=0xFF)[4:].hex() == (
        "000000ff0200030005000d000d010e001900" + "".join(f"19{group:02x}" for group in range(1, 32)) + "2f00")
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
    lio.write(two.target.path / "lun/lun_0/latency", 1)
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


def grouped(op, lba, n, group):
    """READ or WRITE (10) of a group."""
    return bytes([op, 0]) + be(lba, 4) + bytes([group]) + be(n, 2) + b"\0"


def test_group_statistics(two):
    """Of the groups that the mode page names commands and blocks of the medium are counted as in general, by GROUP NUMBER."""
    def now(c, group, control=1):
        data = log_page(c, 0x19, control, subpage=group)
        assert data[:8].hex() == f"d9{group:02x}003400010230"
        return [int.from_bytes(data[at : at + 8], "big") for at in range(8, 56, 8)]
    assert ok(two.a, "120186004000", read=64)[5] & 0x10, "GROUP_SUP"
    for group in (1, 31):
        assert now(two.a, group) == [0] * 6
    for group in (32, 63):
        refused(two.a, bytes([0x4D, 0, 0x59, group, 0, 0, 0, 2, 0, 0]), "5/2400", (True, 3, None), read=512)
    # Nothing is collected by itself.
    ok(two.a, grouped(0x2A, 0, 8, 5), write=bytes(4096))
    assert now(two.a, 5) == [0] * 6
    collect(two.a, 5, 6)
    two.attention(two.b, "2a01")
    ok(two.a, grouped(0x2A, 0, 8, 5), write=bytes(4096))
    ok(two.a, grouped(0x2A, 8, 1, 5), write=bytes(512))
    ok(two.b, grouped(0x28, 0, 8, 5), read=4096)
    ok(two.b, bytes([0x88]) + bytes(9) + be(2, 4) + bytes([6, 0]), read=1024)
    # Other groups, none, and what transfers nothing of the medium.
    for group in (0, 4, 7, 32, 63):
        ok(two.a, grouped(0x28, 0, 1, group), read=512)
    ok(two.a, "2f000000000005000800")
    ok(two.a, "35000000000005000000")
    assert (now(two.b, 5), now(two.b, 6)) == ([1, 2, 9, 8, 0, 0], [1, 0, 0, 2, 0, 0])
    assert now(two.a, 5, control=3) == now(two.a, 4) == now(two.a, 7) == [0] * 6
    began = time.monotonic()
    lio.write(two.target.path / "lun/lun_0/latency", 1)
    ok(two.a, grouped(0x28, 0, 1, 6), read=512)
    lio.write(two.target.path / "lun/lun_0/latency", 0)
    *counts, reads, writes = now(two.a, 6)
    assert counts == [2, 0, 0, 3] and 0 < reads < (time.monotonic() - began) * 1e6 and writes == 0
    # A group is reset for itself; all are with all that is counted; none is set by a list.
    before = log_page(two.a, 0x19)
    ok(two.a, "4c02590500000000" + "0000")
    two.attention(two.b, "2a02")
    assert now(two.a, 5) == [0] * 6 and now(two.a, 6)[0] == 2 and log_page(two.a, 0x19)[8:16] == before[8:16]
    ok(two.a, grouped(0x28, 0, 8, 5), read=4096)
    assert now(two.a, 5) == [1, 0, 0, 8, 0, 0]
    ok(two.b, "4c02400000000000" + "0000")
    two.attention(two.a, "2a02")
    assert now(two.a, 5) == now(two.a, 6) == [0] * 6
    refused(two.a, "4c004000000000003800", "5/2600", (False, 0, 6), write=bytes.fromhex("d905003400010230") + bytes(48))
    # What is not wanted any more stays, and nothing is added.
    ok(two.a, grouped(0x28, 0, 8, 5), read=4096)
    collect(two.a)
    two.attention(two.b, "2a01")
    ok(two.a, grouped(0x28, 0, 8, 5), read=4096)
    assert now(two.a, 5) == [1, 0, 0, 8, 0, 0]


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


def test_timestamp(two):
    origin, now = timestamp(two.a)
    assert origin == 3 and abs(now / 1000 - time.time()) < 20 * lio.SLOW
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
    assert re.search(r"log page \(9\).*number of read commands = (0x)?0$", tool("sg_logs", "-p", "0x19,9", disk), re.S | re.M)
    assert re.search(r"^ 10 +40 00 00 00", tool("sg_modes", "-p", "0xa,5", disk), re.M)
    assert re.search(r"^ 20 +01 00 00 00", tool("sg_modes", "-c", "1", "-p", "0xa,5", disk), re.M)
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
