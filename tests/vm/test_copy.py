"""Third-party copy (SPC-4, 5.17): EXTENDED COPY between all back ends, what it may touch and what not, and what becomes of a long one."""
# vm: --timeout 900
import contextlib
import threading
import time

import copying
import leaks
import libiscsi
import lio
import pytest
from copying import PIECE, blocks, copy_of, cscd, extent, limit, naa, nexus, store
from faulty import GOOD, Device, rw
from initiator import ABORT_TASK, CLEAR_TASK_SET, LUN_RESET, SCSI_RESPONSE, WRITE
from sgio import information, say
from storage import dm, generic, pattern, reload

pytestmark = pytest.mark.skipif(lio.STOCK, reason="what the C modules do is in tests/libiscsi")
MIB = 1 << 20
NOT_REACHABLE, UNREACHABLE, WRONG_TYPE, INEXACT, DEVICE_FAILED = "a/0d02", "a/0804", "a/0d03", "a/260a", "a/0d01"


@pytest.mark.parametrize("kinds", ["ramdisk fileio", "iblock ramdisk", "fileio iblock", "fileio fileio"])
def test_copies_between_back_ends(kinds):
    stores = [store(kind, f"s{n}") for n, kind in enumerate(kinds.split())]
    with nexus(*stores) as (n, c):
        data = n.fill(64, 3 * MIB + 512, 1)
        before = n.fill(1, 4 * MIB, 2, lun=1)
        many = len(data) // 512
        # Blocks of the source and of the destination, and bytes; a mebibyte is copied at once.
        assert n.copy(c, [blocks(0, 1, many, 64, 100)]) == ""
        n.holds(100, data, lun=1)
        n.holds(1, before[: 99 * 512], lun=1)
        n.holds(100 + many, before[(99 + many) * 512 :], lun=1)
        # By a command to the other unit, from the first one, in two segments the second of which copies what the first one wrote.
        assert n.copy(c, [blocks(0, 1, 8, 64, 0, dc=True), blocks(1, 0, 8, 0, 20000)], lun=1) == ""
        n.holds(20000, data[:4096])
        # Within one.
        assert n.copy(c[:1], [blocks(0, 0, many, 64, 30000)]) == ""
        n.holds(30000, data)
        n.holds(64, data)
        # Nothing at all.
        assert n.copy(c, []) == n.copy([], []) == n.copy(c, [blocks(0, 1, 0, 5, 5)]) == ""
        assert n.scsi(copying.extended_copy(0)).what == GOOD


def test_blocks_of_different_sizes():
    small, large = store(), store("fileio", "s1", enable=False)
    lio.write(large.path / "attrib/block_size", 4096)
    lio.write(large.path / "enable", 1)
    with nexus(small, large) as (n, c):
        data = n.fill(16, 2 * MIB, 3)
        assert n.copy(c, [blocks(0, 1, len(data) // 512, 16, 7)]) == ""
        n.holds(7, data, lun=1, block=4096)
        assert n.copy(c, [blocks(1, 0, 16, 9, 10000, dc=True)]) == ""
        n.holds(10000, data[8192 : 8192 + 16 * 512])
        for segment in [blocks(0, 1, 7, 0, 0), blocks(1, 0, 7, 0, 0, dc=True)]:
            assert n.copy(c, [segment]) == INEXACT
            assert copy_of(n.sense)[:2] == (0, 10) and information(n.sense) == 7


@pytest.mark.parametrize("kind", ["ramdisk", "fileio", "iblock"])
def test_bytes_at_any_place(kind):
    """Neither end on a block's boundary: what lies around it stays."""
    with nexus(store(), store(kind, "s1")) as (n, c):
        data = n.fill(0, 4 * MIB, 4)
        for count, from_byte, to_byte in [(1, 511, 0), (100, 500, 500), (2 * MIB + 77, 3, 509), (1024, 0, 0), (513, 1, 511)]:
            before = n.fill(0, 3 * MIB, count, lun=1)
            assert n.copy(c, [extent(0, 1, count, 10, 20, from_byte, to_byte)]) == ""
            at, start = 20 * 512 + to_byte, 10 * 512 + from_byte
            n.holds(0, before[:at] + data[start : start + count] + before[at + count :], lun=1)
        assert n.copy(c, [extent(0, 1, 1, 0, 0, 512, 0)]) == "a/2600"
        assert copy_of(n.sense) == (0, 28, None, "")


def test_what_is_told():
    with nexus(store(), store(name="s1")) as (n, c):
        p = n.receive(copying.OPERATING_PARAMETERS)
        assert len(p) == int.from_bytes(p[:4], "big") + 4 and p[44:] == b"\x02\x0a\xe4"
        most = int.from_bytes(p[16:20], "big")
        assert n.copy(c, [extent(0, 1, most + 1, 0, 0)]) == "a/2600"
        # No copy with this identifier; then one, which is told of once.
        assert n.receive(copying.LID1_STATUS, 7) == "5/2400"
        n.fill(0, MIB, 5)
        assert n.copy(c, [blocks(0, 1, 8, 0, 0), blocks(0, 1, 16, 0, 0)], list_id=7, usage=copying.DISCARD) == ""
        # No segment holds data for who asks.
        assert n.receive(copying.LID1_DATA, 7) == bytes(4) and n.receive(copying.LID1_DATA, 8) == "5/2400"
        assert n.receive(copying.LID1_STATUS, 7).hex() == "00000008" "01" "0002" "00" "00003000"
        assert n.receive(copying.LID1_STATUS, 7) == "5/2400"
        assert n.receive(copying.LID1_DETAILS, 7) == bytes(4)
        # One that fails in its second segment.
        assert n.copy(c, [blocks(0, 1, 8, 0, 0), blocks(0, 1, 16, 0, 1 << 40)], list_id=7, usage=0) == "a/0000"
        assert copy_of(n.sense) == (1, 20, "destination", "5/2100") and information(n.sense) == 16
        kept = n.sense
        assert n.receive(copying.LID1_STATUS, 7).hex() == "00000008" "02" "0001" "00" "00001000"
        details = n.receive(copying.LID1_DETAILS, 7)
        assert details[56] == 2 and details[60:] == kept and int.from_bytes(details[:4], "big") == len(details) - 4
        assert n.receive(copying.LID1_DETAILS, 7) == bytes(4)
        # Those without an identifier are not told of, nor are those of another unit, nor any after a reset.
        assert n.copy(c, [blocks(0, 1, 8, 0, 0)]) == "" and n.receive(copying.LID1_STATUS, 0) == "5/2400"
        assert n.copy(c, [blocks(0, 1, 8, 0, 0)], list_id=9, usage=0) == "" and n.receive(copying.LID1_STATUS, 9, lun=1) == "5/2400"
        assert n.c.tmf(LUN_RESET) == 0
        n.ready()
        assert n.receive(copying.LID1_STATUS, 9) == "5/2400"


def test_list_identifiers_of_four_bytes():
    with nexus(store(), store(name="s1")) as (n, c):
        data = n.fill(0, MIB, 15)
        for segment, what in [(blocks(0, 1, 16, 0, 8), ""), (blocks(0, 1, 16, 0, 1 << 20), "a/0000")]:
            p = copying.parameters_lid4(c, [segment], list_id=0x01020304, usage=copying.DISCARD)
            assert n.scsi(copying.extended_copy(len(p), 1), write=p).what[1].lower() == what
            sense = n.sense
            told = n.scsi(copying.receive_lid4(copying.LID4_STATUS, 0x01020304), read=512).data
            assert told[4:6] == bytes([1, 2 if what else 1]) and told[15] == 0
            assert int.from_bytes(told[16:24], "big") == (0 if what else 8192) and told[32:] == sense
            data4 = n.scsi(copying.receive_lid4(copying.LID4_DATA, 0x01020304), read=512).data
            assert data4[4:] == told[4:] + bytes(4) and int.from_bytes(data4[:4], "big") == len(data4) - 4
        n.holds(8, data[:8192], lun=1)
        # Another header than that of its list identifier.
        p = copying.parameters(c, [blocks(0, 1, 16, 0, 8)])
        assert n.scsi(copying.extended_copy(len(p), 1), write=p).what[1] == "5/2600"


def test_it_can_be_off():
    s = store()
    with nexus(s) as (n, c):
        inquiry = bytes([0x12, 0, 0, 0, 96, 0])
        pages = bytes([0x12, 1, 0, 0, 96, 0])
        assert n.scsi(inquiry, read=96).data[5] & 8 and 0x8F in n.scsi(pages, read=96).data[4:]
        assert s.attrib("emulate_3pc") == "1"
        s.attrib("emulate_3pc", 0)
        assert not n.scsi(inquiry, read=96).data[5] & 8 and 0x8F not in n.scsi(pages, read=96).data[4:]
        assert n.copy(c, []) == n.receive(copying.OPERATING_PARAMETERS) == "5/2000"
        s.attrib("emulate_3pc", 1)
        assert n.copy(c, []) == ""


def test_only_what_the_nexus_may():
    """What this I_T nexus does not see cannot be reached, and what it may not write is not written; whatever others may."""
    stores = [store(), store(name="s1"), store("fileio", "s2"), store(name="s3")]
    target = lio.IscsiTarget(*stores[:3])
    other = lio.IscsiTarget(stores[3], iqn="iqn.2003-01.org.example:t2", portals=("127.0.0.1:3261",))
    assert other
    names = [f"iqn.2024-01.org.example:i{i}" for i in (1, 2)]
    target.attrib("generate_node_acls", 0)
    target.acl(names[0], [0, 1], write_protect=[1])
    target.acl(names[1], [0, 1, 2])
    c = [cscd(naa(s)) for s in stores]
    with nexus(target=target) as (a, _), nexus(target=target, i=2) as (b, _):
        for n, luns in [(a, 2), (b, 3)]:
            for lun in range(luns):
                n.ready(lun)
        data, kept = b.fill(0, MIB, 6), b.fill(0, MIB, 7, lun=1)
        segment = [blocks(0, 1, 16, 0, 0)]
        assert a.copy(c[:2], segment) == DEVICE_FAILED
        assert copy_of(a.sense) == (0, None, "destination", "7/2700") and information(a.sense) == 16
        b.holds(0, kept, lun=1)
        # It may read there.
        assert a.copy(c[:2], [blocks(1, 0, 16, 0, 100)]) == ""
        b.holds(100, kept[: 16 * 512])
        for n, unseen in [(a, 2), (a, 3), (b, 3)]:
            assert n.copy([c[0], c[unseen]], segment) == NOT_REACHABLE and copy_of(n.sense) == (0, 6, None, "")
            assert n.copy([c[unseen], c[0]], segment) == NOT_REACHABLE and copy_of(n.sense) == (0, 4, None, "")
        assert b.copy([c[0], c[2]], segment) == ""
        b.holds(0, data[: 16 * 512], lun=2)
        # What is named and not used matters to nobody.
        assert a.copy([c[0], c[3]], [blocks(0, 0, 8, 0, 64)]) == ""
        # A stopped unit.
        assert b.scsi(bytes.fromhex("1b0000000000"), lun=1).what == GOOD
        assert b.copy(c[:2], segment) == DEVICE_FAILED and copy_of(b.sense)[2:] == ("destination", "2/0402")
        assert b.scsi(bytes.fromhex("1b0000000100"), lun=1).what == GOOD
        assert b.copy(c[:2], segment) == ""


def test_reservations_of_others():
    """What a reservation keeps this I_T nexus from, it does not do by a copy either."""
    stores = [store(), store(name="s1")]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, c), nexus(*stores, target=target, i=2) as (other, _):

        def reserve(action, kind):
            keys = (bytes(8) + bytes([1] * 8) if action == 0 else bytes([1] * 8) + bytes(8)) + bytes(8)
            assert other.scsi(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0]), write=keys, lun=1).what == GOOD

        reserve(0, 0)
        for kind, may_read in [(1, True), (3, False)]:
            reserve(1, kind)
            assert n.copy(c, [blocks(0, 1, 8, 0, 0)]) == DEVICE_FAILED and copy_of(n.sense) == (0, 6, None, "")
            assert n.copy(c, [blocks(1, 0, 8, 0, 0)]) == ("" if may_read else DEVICE_FAILED)
            # By a command to the unit that is reserved: RESERVATION CONFLICT.
            data = copying.parameters(c, [blocks(0, 0, 8, 0, 64)])
            assert n.scsi(copying.extended_copy(len(data)), write=data, lun=1).what[0] == 0x18
            assert other.copy(c, [blocks(0, 1, 8, 0, 0)]) == ""
            reserve(2, kind)
        assert n.copy(c, [blocks(0, 1, 8, 0, 0)]) == ""


def test_what_is_wrong_with_the_list():
    with nexus(store()) as (n, (c,)):
        segment = [blocks(0, 0, 8, 0, 64)]
        name = c[8:24]
        for wrong in [cscd(name, flags=0x20), cscd(name[:15]), cscd(name, kind=2), cscd(name, code_set=2), cscd(name, association=1)]:
            assert n.copy([wrong], segment) == NOT_REACHABLE
        # LU ID TYPE is obsolete; DISK BLOCK LENGTH may say nothing.
        assert n.copy([cscd(name, block=0)], segment) == n.copy([cscd(name, flags=0xC0)], segment) == ""
        assert n.copy([cscd(name, block=4096)], segment) == n.copy([cscd(name, flags=1)], segment) == WRONG_TYPE
        assert n.copy([c], [blocks(0, 1, 8, 0, 64)]) == UNREACHABLE and copy_of(n.sense) == (0, 6, None, "")
        assert n.copy([c], [blocks(9, 0, 8, 0, 64)]) == UNREACHABLE and copy_of(n.sense) == (0, 4, None, "")
        for from_lba, to_lba, side, field in [(65529, 0, "source", 12), (0, 65529, "destination", 20)]:
            assert n.copy([c], [blocks(0, 0, 8, from_lba, to_lba)]) == "a/0000"
            assert copy_of(n.sense) == (0, field, side, "5/2100")
        assert n.copy([c] * 17, segment) == "5/2606" and n.copy([c], segment * 65) == "5/2608"
        assert n.copy([b"\xe0" + c[1:]], segment) == "5/2607" and n.copy([c], [b"\x03" + segment[0][1:]]) == "5/2609"


@pytest.mark.parametrize("how", ["abort", "operation abort", "reset", "drop", "source", "destination", "manager", "unmap", "reset destination", "sanitize"])
def test_the_end_of_a_long_copy(how):
    """A copy of 24 s ends in much less when it is to; what it was copying between is free then."""
    stores = [store(name=f"s{n}") for n in range(3)]
    stores[2].attrib("emulate_sanitize", 1)
    stores[2].attrib("emulate_tpu", 1)
    # A LUN of which an ACL has a link cannot be removed.
    acls = ["iqn.2024-01.org.example:i1", "iqn.2024-01.org.example:i2"] if how == "unmap" else ()
    target = lio.IscsiTarget(*stores, acls=acls)
    with nexus(*stores, target=target) as (n, c), nexus(*stores, target=target, i=2) as (other, _):
        limit(target, MIB, lun=1)
        start = time.monotonic()
        # Through LUN 0, from LUN 1 to LUN 2.
        itt = n.start(c, [extent(1, 2, 24 * MIB, 0, 0)], list_id=3, usage=0)
        # It is known before it has copied anything.
        assert isinstance(n.receive(copying.LID1_STATUS, 3), bytes)
        n.fill(8, 4096, 9)
        lio.wait_for(lambda: int.from_bytes(n.receive(copying.LID1_STATUS, 3)[8:12], "big"))
        assert n.receive(copying.LID1_STATUS, 3)[4] == 0
        # Not a second one of its name.
        assert n.copy(c, [], list_id=3, usage=0) == "5/0016"
        if how == "abort":
            assert n.c.tmf(ABORT_TASK, ref_itt=itt) == 0
            assert n.receive(copying.LID1_STATUS, 3)[4] == 2
        elif how == "operation abort":
            abort = n.c.start(copying.operation_abort(3))
            seen = {}
            while len(seen) < 2:
                a = n.c.receive()
                if not n.c.pong(a):
                    seen[a.itt] = a
            assert say(seen[itt].sense).lower() == "a/2f02" and seen[abort].status == 0
            assert n.receive(copying.LID1_STATUS, 3)[4] == 2
            assert n.scsi(copying.operation_abort(3)).what == (2, "5/2400")
        elif how == "reset":
            assert n.c.tmf(LUN_RESET) == 0
        elif how == "drop":
            n.c.reset()
        elif how in ("source", "destination"):
            target.remove_lun(1 if how == "source" else 2)
            status, _, a = n.c.finish(itt)
            assert status == 2 and say(a.sense).lower() == NOT_REACHABLE
            assert copy_of(a.sense)[1] == (4 if how == "source" else 6) and 0 < information(a.sense) < 24 * MIB
        elif how == "manager":
            target.remove_lun(0)
        elif how == "unmap":
            for link in lio.links(target.path / "acls/iqn.2024-01.org.example:i1/lun_2"):
                link.unlink()
            assert say(n.c.finish(itt)[2].sense).lower() == NOT_REACHABLE
        elif how == "reset destination":
            assert other.c.tmf(LUN_RESET, lun=2) == 0
            _, _, a = n.c.finish(itt)
            assert say(a.sense).lower() == DEVICE_FAILED and copy_of(a.sense)[2:] == ("destination", "6/2903")
        else:
            assert other.scsi(bytes.fromhex("48020000000000000000"), lun=2).what == GOOD
            _, _, a = n.c.finish(itt)
            assert say(a.sense).lower() == DEVICE_FAILED and copy_of(a.sense)[2] == "destination"
            other.holds(0, bytes(8 * MIB), lun=2)
        assert time.monotonic() - start < 12 * lio.SLOW
    target.delete()
    for s in stores:
        s.delete()


def test_disks_that_fail():
    """The end that failed says why, as it would to an initiator's own command; what was copied before is."""
    device = Device("copied")
    stores = [store(), store("iblock", "s1", dev=device.path)]
    with nexus(*stores) as (n, c):
        data = n.fill(0, 4 * MIB, 14)
        device.become(device.bad(5000))
        assert n.copy(c, [blocks(0, 1, 8, 0, 0), extent(0, 1, 4 * MIB, 0, 1000)]) == DEVICE_FAILED
        assert copy_of(n.sense) == (1, None, "destination", "3/0c00")
        left = information(n.sense)
        assert left % 512 == 0 and 4 * MIB - 4000 * 512 <= left <= 4 * MIB
        device.good()
        n.holds(0, data[:4096], lun=1)
        n.holds(1000, data[: 4 * MIB - left], lun=1)
        device.become(device.bad(5000))
        assert n.copy(c, [blocks(1, 0, 8, 4999, 0)]) == DEVICE_FAILED
        assert copy_of(n.sense) == (0, None, "source", "3/1100") and information(n.sense) == 8
        device.good()
        assert n.copy(c, [blocks(1, 0, 8, 4999, 0)]) == ""


def test_a_limit_that_goes():
    """A copy that waits for a limit does not wait for what it would have had to with it."""
    stores = [store(), store("fileio", "s1")]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, c):
        data = n.fill(0, 4 * MIB, 14)
        limits = target.path / "lun/lun_1/limits"
        lio.write(limits, f"bytes_per_second={1 << 14}")
        n.start(c, [extent(0, 1, 4 * MIB, 0, 0)])
        time.sleep(2)
        lio.write(limits, "bytes_per_second=0")
        start = time.monotonic()
        answer = n.c.next(120)
        assert (answer.opcode, answer.status) == (SCSI_RESPONSE, 0) and time.monotonic() - start < 10 * lio.SLOW
        n.holds(0, data, lun=1)


def test_crosswise_with_ordered_commands():
    """Copies both ways, by commands to both units, with ORDERED ones and writes between them: all of it ends, and each block holds what
    one of them wrote, or what was there."""
    stores = [store(), store("fileio", "s1")]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (a, c), nexus(*stores, target=target, i=2) as (b, _):
        data = a.fill(0, 4 * MIB, 10)
        written = [pattern(4096, turn) for turn in range(6)]
        failed = []

        def go(n, lun):
            for turn in range(6):
                pending = [n.start(c, [extent(lun, 1 - lun, 2 * MIB, 0, 0)], lun=lun, attr=attr) for attr in (1, 2, 1)]
                pending.append(n.c.start(rw(0x8A, 0, 8), 4096, WRITE, written[turn], lun=1 - lun, attr=2))
                while pending:
                    answer = n.c.next(60)
                    if answer.opcode == SCSI_RESPONSE:
                        pending.remove(answer.itt)
                        if answer.status:
                            failed.append(say(answer.sense))
                    else:
                        n.c.answer_r2t(answer, written[turn])

        threads = [threading.Thread(target=go, args=args) for args in [(a, 0), (b, 1)]]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * lio.SLOW)
            assert not t.is_alive()
        assert not failed
        for lun, beyond in (0, data[2 * MIB :]), (1, bytes(2 * MIB)):
            a.holds(4096, beyond, lun=lun)
            for lba in range(0, 4096, 1024):
                heard = a.scsi(rw(0x88, lba, 1024), read=PIECE, lun=lun)
                assert heard.what == GOOD
                for at in range(0, PIECE, 512):
                    place = lba * 512 + at
                    may = {bytes(512), data[place : place + 512], *(w[place : place + 512] for w in written if place < 4096)}
                    assert heard.data[at : at + 512] in may, (lun, place)


def test_no_more_than_there_may_be():
    """Sixteen of a unit and 32 in all, each of which holds a mebibyte or two; more are BUSY."""
    stores = [store(name=f"s{n}") for n in range(3)]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, c), nexus(*stores, target=target, i=2) as (m, _):
        limit(target, 64 << 10)

        def free():
            return leaks.meminfo()["MemAvailable"] << 10

        before = free()
        # A session has no more at work than 64 MiB of memory for what it reads: two of them.
        for s, lun in [(n, 1), (m, 2)]:
            for _ in range(18):
                s.start(c, [extent(0, 1, 32 * MIB, 0, 0)], lun=lun)
            refused = [s.c.next() for _ in range(2)]
            assert all(a.opcode == SCSI_RESPONSE and a.status == copying.BUSY for a in refused)
        m.start(c, [extent(0, 1, 32 * MIB, 0, 0)])
        assert m.c.receive().status == copying.BUSY
        assert n.c.ping() and m.c.ping()
        assert before - free() < 160 * MIB
        for lun in (1, 2):
            assert n.c.tmf(LUN_RESET, lun=lun) == 0
        limit(target, 0)
        n.ready(1)
        assert n.copy(c, [blocks(0, 1, 8, 0, 0)]) == ""


def test_what_is_asked_for_by_tools():
    """sg3_utils, through open-iscsi."""
    lio.modprobe("sg")
    target = lio.IscsiTarget(store(), store("fileio", "s1"))
    disks = lio.login(target)
    sg = {n: generic(disk) for n, disk in disks.items()}
    try:
        data = pattern(8 * MIB, 11)
        with open(disks[0], "r+b") as f:
            f.write(data)
        lio.run("blockdev", "--flushbufs", disks[0])
        out = lio.run("sg_xcopy", f"if={sg[0]}", f"of={sg[1]}", "bs=512", "count=16384", "seek=8")
        assert "16384 blocks" in out.stdout, out.stdout
        lio.run("blockdev", "--flushbufs", disks[1])
        with open(disks[1], "rb") as f:
            assert f.read(len(data) + 4096) == bytes(4096) + data
        out = lio.run("sg_copy_results", "--params", sg[0]).stdout
        for what in ["Copy from block device to block device", "Copy block device with offset to block device with offset",
                     "Maximum segment length: 33554432 bytes"]:
            assert what in out, out
        out = lio.run("sg_vpd", "--page=tpc", sg[0]).stdout
        assert "rod token features" in out.lower(), out
    finally:
        lio.logout(target)


def test_libiscsi():
    """Each of libiscsi's tests of copies runs, and passes."""
    target = lio.IscsiTarget(store("fileio", size=libiscsi.SIZE))
    results = {}
    for suite in ("ExtendedCopy", "ReceiveCopyResults"):
        results |= libiscsi.run(target, lio.TOP / f"out/check/libiscsi-{suite}.log", tests=f"SCSI.{suite}")
    assert len(results) == 9 and set(results.values()) == {"pass"}, {t: r for t, r in results.items() if r != "pass"}


def test_files_of_one_file_system_share_blocks(tmp_path):
    """On a file system that can, a copy takes no space; on others, and where the file is shorter than its disk, it is a copy all the
    same."""
    lio.modprobe("loop", "xfs")
    image, at = tmp_path / "image", tmp_path / "at"
    image.touch()
    lio.os.truncate(image, 320 * MIB)
    at.mkdir()
    lio.run("mkfs.xfs", "-q", "-m", "reflink=1", image)
    lio.run("mount", "-o", "loop", image, at)
    try:
        (at / "f0").touch()
        lio.os.truncate(at / "f0", 9 * MIB)
        stores = [store("fileio", f"s{n}", file=at / f"f{n}", size=64 * MIB, buffered=True) for n in range(2)]
        with nexus(*stores) as (n, c):
            data = n.fill(2048, 8 * MIB, 12)

            def free():
                lio.run("sync", "-f", at)
                f = lio.os.statvfs(at)
                return f.f_bavail * f.f_bsize

            before = free()
            assert n.copy(c, [extent(0, 1, 8 * MIB, 2048, 4096)]) == ""
            n.holds(4096, data, lun=1)
            assert before - free() < MIB
            # Written afterwards, each is itself.
            new = n.fill(2048, MIB, 13)
            n.holds(4096, data, lun=1)
            n.holds(2048, new)
            # Behind the end of the source's file, and with parts of blocks.
            assert n.copy(c, [extent(0, 1, 2 * MIB, 18432 - 2048, 0), extent(0, 1, MIB, 2048, 20000, 7, 9)]) == ""
            n.holds(0, data[7 * MIB :] + bytes(MIB), lun=1)
            whole = n.scsi(rw(0x88, 20000, 1000), read=512000, lun=1).data
            assert whole[9:] == (new[7:] + data[MIB : MIB + 7])[: 512000 - 9]
        lio.clear()
    finally:
        lio.run("umount", at)


HELD = 600_000  # ms: until it is let go


@contextlib.contextmanager
def onto_slow(read=0, write=0):
    """Two initiators that see a RAM disk and a disk that takes so many milliseconds to read, and to write; what lets go all that it holds."""
    lio.modprobe("dm_mod", "dm_delay")
    below = lio.loop_device(32 * MIB)
    with dm("slow", f"0 65536 delay {below} 0 {read} {below} 0 {write}") as path:
        stores = [store(), store("iblock", "s1", dev=path)]
        target = lio.IscsiTarget(*stores)
        with nexus(*stores, target=target) as (n, c), nexus(*stores, target=target, i=2) as (other, _):
            fast = "slow", f"0 65536 linear {below} 0"
            let_go = threading.Timer(8, reload, fast)
            try:
                yield n, c, other, let_go
            finally:
                let_go.cancel()
                if let_go.is_alive():
                    let_go.join()
                reload(*fast)
        target.delete()


def first(n, lba=0):
    return n.read(lba, lun=1).data


def at_work(n):
    """What was sent before is at the disk, or waits."""
    assert n.c.ping()
    time.sleep(1)


@pytest.mark.parametrize("how", ["preempt", "reset", "clear"])
def test_nothing_is_written_after_the_answer(how):
    """What is answered when the commands before it are gone: what a copy of another unit's command has at work is gone, too."""
    with onto_slow(write=HELD) as (n, c, other, let_go):
        data = n.fill(0, MIB, 15)
        for who, action, kind, own, other_key in [(n, 0, 0, 0, 1), (other, 0, 0, 0, 2), (other, 1, 5, 2, 0)]:
            assert reserve_out(who, action, kind, own, other_key) == GOOD
        # A copy that another unit's command has begun goes on after CLEAR TASK SET, with what comes next.
        places = [lba * 2048 for lba in range(1 if how == "clear" else 4)]
        itt = n.start(c, [extent(0, 1, MIB, 0, lba) for lba in places])
        at_work(n)
        let_go.start()
        if how == "preempt":
            assert reserve_out(other, 5, 5, 2, 1) == GOOD
        else:
            assert other.c.tmf(LUN_RESET if how == "reset" else CLEAR_TASK_SET, lun=1, timeout=60) == 0
        at_once = [first(other, lba) for lba in places]
        let_go.join()
        status, _, a = n.c.finish(itt, timeout=60)
        assert (status, say(a.sense).lower()) == ((0, "") if how == "clear" else (2, DEVICE_FAILED))
        assert [first(other, lba) for lba in places] == at_once == [data[:512]] + [bytes(512)] * (len(places) - 1)


def reserve_out(n, action, kind, key, other_key):
    keys = key.to_bytes(8, "big") + other_key.to_bytes(8, "big") + bytes(8)
    return n.scsi(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0]), write=keys, lun=1).what


def compare_and_write(n, old, new):
    """Begins it for the first block of the slow disk."""
    cdb = rw(0x89, 0, 0)[:13] + b"\1" + bytes(2)
    return n.c.start(cdb, 1024, WRITE, old * 512 + new * 512, lun=1)


def test_compare_and_write_beside_a_copy():
    """What a copy writes does not come between the two either (SBC-4 5.3)."""
    with onto_slow(read=3000, write=3000) as (n, c, other, _):
        data = n.fill(0, 512, 16)
        tag = compare_and_write(other, b"\0", b"\1")
        at_work(other)
        assert n.copy(c, [blocks(0, 1, 1, 0, 0)]) == ""
        # What it compared is what was there before the copy, so it was written before the copy.
        assert other.c.finish(tag, timeout=60)[0] == 0
        assert first(n) == data
    with onto_slow(write=HELD) as (n, c, other, let_go):
        data = n.fill(0, 512, 17)
        itt = n.start(c, [blocks(0, 1, 1, 0, 0)])
        at_work(n)
        let_go.start()
        status, _, a = other.c.finish(compare_and_write(other, b"\0", b"\1"), timeout=60)
        assert (status, say(a.sense).lower()) == (2, "e/1d00")
        assert n.c.finish(itt, timeout=60)[0] == 0 and first(n) == data
        let_go.join()


def test_aborted_while_another_has_its_turn():
    """A copy that has not begun to write ends at once."""
    with onto_slow(read=HELD) as (n, c, other, let_go):
        tag = compare_and_write(other, b"\0", b"\1")
        at_work(other)
        itt = n.start(c, [blocks(0, 1, 1, 0, 0)])
        at_work(n)
        assert n.c.tmf(ABORT_TASK, ref_itt=itt) == 0
        let_go.start()
        assert other.c.finish(tag, timeout=60)[0] == 0
        assert first(n) == b"\1" * 512
        let_go.join()


def test_a_write_of_a_block_that_is_copied_to_in_part():
    """What is written meanwhile stays, where the copy does not write."""
    with onto_slow(read=3000, write=3000) as (n, c, other, _):
        data = n.fill(0, 512, 18)
        itt = n.start(c, [extent(0, 1, 256, 0, 0, 0, 256)])
        at_work(n)
        assert other.write(0, b"\7" * 512, lun=1).what == GOOD
        assert n.c.finish(itt, timeout=60)[0] == 0
        now = first(n)
        assert now[:256] == b"\7" * 256 and now[256:] in (b"\7" * 256, data[:256])
