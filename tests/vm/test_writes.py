"""WRITE SCATTERED, WRITE ATOMIC, ORWRITE (32) and WRITE LONG over iSCSI; what they wrote is looked at through another path."""
# vm: --timeout 300
# group: blocks
import errno
from pathlib import Path

import faulty
import initiator
import libiscsi
import lio
import pytest
import storage
import test_order
from initiator import WRITE
from sgio import information, say
from test_blocks import Unit, be, data_of, sixteen, ten
from test_blocks import long as long_cdb
from test_fileio import ext4  # noqa: F401

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do not have these")
MIB = 1 << 20
SIZE = 16 * MIB
TRACE = Path("/sys/kernel/tracing")


@pytest.fixture(params=[("ramdisk", 512), ("fileio", 4096), ("iblock", 512)], ids=str)
def unit(request):
    kind, block = request.param
    return Unit(lio.BACKSTORES[kind](size=SIZE), block)


def short(offset, ranges, n, flags=0):
    return bytes([0x9F, 0x12, flags, 0]) + be(offset, 2) + bytes(2) + be(ranges, 2) + be(n, 4) + b"\0\0"


def long(offset, ranges, n, flags=0):
    return bytes([0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x11, flags, 0]) + be(offset, 2) + bytes(2) + be(ranges, 2) + bytes(10) + be(n, 4)


def parameters(unit, runs, data, offset=1):
    """The header and the LBA range descriptors (SBC-4, 5.55.2), then the data."""
    head = bytes(32) + b"".join(be(lba, 8) + be(n, 4) + bytes(20) for lba, n in runs)
    return head.ljust(offset * unit.block, b"\xee") + data


@pytest.mark.parametrize("form, at", [(short, (4, 8, 10)), (long, (12, 16, 28))], ids=["16", "32"])
def test_write_scattered(unit, form, at):
    runs = [(100, 3), (7, 1), (50, 0), (SIZE // unit.block - 2, 2)]
    data = data_of(unit, 6)
    unit(form(1, 4, 7), write=parameters(unit, runs, data))
    assert unit.look(99, 5) == bytes(unit.block) + data[: 3 * unit.block] + bytes(unit.block)
    assert unit.look(6, 3) == bytes(unit.block) + data[3 * unit.block : 4 * unit.block] + bytes(unit.block)
    assert unit.look(SIZE // unit.block - 2, 2) == data[4 * unit.block :]
    # More before the data than the descriptors need.
    again = data_of(unit, 4, 2)
    unit(form(3, 1, 5), write=parameters(unit, [(100, 2)], again[: 2 * unit.block], offset=3))
    assert unit.look(100, 3) == again[: 2 * unit.block] + data[2 * unit.block : 3 * unit.block]
    # Runs that take several operations, as far as the storage takes so much at once.
    n = min(3 * MIB // unit.block, int(unit.store.attrib("hw_max_sectors")) - 1)
    much = data_of(unit, n, 3)
    unit(form(1, 2, n + 1), write=parameters(unit, [(1000, n - 1), (200, 1)], much))
    assert unit.look(1000, n - 1) + unit.look(200, 1) == much
    # Nothing to do is no error; the offset does not count then.
    unit(form(0, 0, 7))
    unit(form(0, 4, 0))

    # One run that is wrong, and nothing is written of any.
    before = unit.look(0, 300)
    data = data_of(unit, 6, 9)
    for wrong, what in (([(100, 2), (SIZE // unit.block - 1, 2)], "5/2100"), ([(100, 2), (7, 5)], "B/1a00"), ([(100, 2), (7, 3)], "B/1a00")):
        unit.refused(form(1, 2, 7), what, write=parameters(unit, wrong, data))
    unit.refused(form(0, 1, 7), "5/2400", (True, at[0], None), write=parameters(unit, [(100, 2)], data))
    unit.refused(form(8, 1, 7), "5/2400", (True, at[0], None), write=parameters(unit, [(100, 2)], data))
    # Descriptors that reach into the data.
    too_many = unit.block // 32
    unit.refused(form(1, too_many, 7), "5/2400", (True, at[1], None), write=parameters(unit, [(100, 2)], data))
    unit.refused(form(1, 1, 1 << 20), "5/2400", (True, at[2], None), write=parameters(unit, [(100, 2)], data))
    unit.refused(form(1, 1, 7, flags=0x20), "5/2400", write=parameters(unit, [(100, 2)], data))
    # Less data than the CDB says.
    unit.refused(form(1, 1, 7), "5/0e03", write=parameters(unit, [(100, 2)], data[: 3 * unit.block]))
    assert unit.look(0, 300) == before


# Commands that write block 9, by the flags in their CDBs, and how often they bring it; 0: behind a list of where it goes.
WITH_FUA = {
    "write 10": (lambda flags: ten(0x2A, flags, 9, 1), 1),
    "write 32": (lambda flags: long_cdb(0x0B, flags, 9, 1), 1),
    "write scattered 16": (lambda flags: short(1, 1, 2, flags), 0),
    "write scattered 32": (lambda flags: long(1, 1, 2, flags), 0),
    "orwrite 16": (lambda flags: sixteen(0x8B, flags, 9, 1), 1),
    "orwrite 32": (lambda flags: long_cdb(0x0E, flags, 9, 1), 1),
    "compare and write": (lambda flags: bytes([0x89, flags]) + be(9, 8) + b"\0\0\0\1\0\0", 2),
}


@pytest.mark.parametrize("name", WITH_FUA)
def test_fua(ext4, name):
    """With FUA it is on the disk when it is answered: that has been flushed. Without, it has not."""
    mount, dev = ext4
    unit = Unit(lio.fileio(file=f"{mount}/f", size=SIZE, buffered=True))
    cdb, times = WITH_FUA[name]
    data = data_of(unit, 1, 5)
    send = times * data if times else parameters(unit, [(9, 1)], data)
    unit(ten(0x2A, 0, 9, 1), write=data)

    def flushed(flags):
        before = storage.flushes(dev)
        unit(cdb(flags), write=send)
        return storage.flushes(dev) - before

    # The file system flushes by itself, too, now and then.
    assert min(flushed(0) for _ in range(3)) == 0
    assert flushed(0x08) >= 1
    assert min(flushed(0) for _ in range(3)) == 0
    assert unit.look(9, 1) == data


def test_in_its_place():
    """ORDERED, and a unit that is erased or stopped: as for any other write (SAM-5, 8.6; SBC-4, 4.11)."""
    store = lio.ramdisk(size=SIZE)
    for name in "emulate_tpu", "emulate_sanitize":
        store.attrib(name, 1)
    unit = Unit(store)
    data = data_of(unit, 8)
    scattered = parameters(unit, [(64, 4), (2, 4)], data)
    unit.target.patient(*test_order.NAMES)
    with test_order.sessions(unit.target, 2) as (a, b):
        older = test_order.stalled(a)  # the blocks from 64 on
        ordered = b.start(short(1, 2, 9), len(scattered), WRITE, scattered, attr=test_order.ORDERED)
        test_order.waits(b)
        newer = test_order.read(a, lba=64)
        test_order.waits(a, b)
        test_order.feed(a, older, 7)
        assert b.finish(ordered)[0] == 0
        assert a.finish(newer)[1] == data[: 4 * 512] + storage.pattern(4096, 7)[4 * 512 :]
        assert unit.look(2, 4) == data[4 * 512 :]
        # SANITIZE waits for one whose data is still to come, which is told that it is not written.
        itt = b.start(short(1, 2, 9), len(scattered), WRITE)
        r2t = b.receive()
        sanitize = a.start(bytes([0x48, 2]) + bytes(8))
        test_order.waits(a, b)
        unit.refused(short(1, 2, 9), "2/041b", write=scattered)
        b.answer_r2t(r2t, scattered)
        status, _, answer = b.finish(itt)
        assert status == 2 and say(answer.sense) == "2/041b"
        assert a.finish(sanitize, timeout=30)[0] == 0
        assert unit.look(0, 80) == bytes(80 * 512)
    unit(bytes.fromhex("1b 00 00 00 00 00"))
    unit.refused(short(1, 2, 9), "2/0402", write=scattered)
    unit(bytes.fromhex("1b 00 00 00 01 00"))
    assert unit.look(0, 80) == bytes(80 * 512)


def test_which_run_failed():
    """INFORMATION is the number of the first run that is not written, from 1 on (SBC-4, 4.35.3)."""
    device = faulty.Device("bad", SIZE)
    unit = Unit(lio.iblock(dev=device.path))
    data = data_of(unit, 6)
    device.become(device.bad(304))
    send = [(100, 2), (7, 1), (0, 0), (308, 1), (300, 1), (9, 1)]
    sense = unit.refused(short(1, len(send), 7), "3/0c00", write=parameters(unit, send, data))
    assert information(sense) == 4
    assert unit.look(100, 2) + unit.look(7, 1) == data[: 3 * 512]
    device.good()
    unit(short(1, len(send), 7), write=parameters(unit, send, data))
    assert unit.look(308, 1) == data[3 * 512 : 4 * 512]


def test_limits(unit):
    """Page B7h says how much one WRITE SCATTERED may bring."""
    page = unit(bytes([0x12, 1, 0xB7, 0, 255, 0]), read=255)
    most = int.from_bytes(page[24:28], "big")
    assert page[:4] == b"\0\xb7\0\x3c" and page[4:24] == bytes(20) and not any(page[28:64]) and most
    unit.refused(short(1, 1, most + 1), "5/2400", (True, 10, None), write=bytes(unit.block))
    if most * unit.block <= 16 * MIB and most < SIZE // unit.block:
        data = data_of(unit, most - 1)
        unit(short(1, 1, most), write=parameters(unit, [(0, most - 1)], data))
        assert unit.look(most - 9, 8) == data[-8 * unit.block :]


def test_write_atomic_where_nothing_is(unit):
    """No back end but one whose storage has it says that it has, and none takes it for a plain write."""
    unit.refused(atomic(0, 8), "5/2000", write=data_of(unit, 8))
    assert [unit.store.attrib(f"atomic_{name}") for name in ("max_len", "alignment", "granularity")] == ["0"] * 3
    assert int.from_bytes(unit(bytes([0x12, 1, 0xB0, 0, 64, 0]), read=64)[44:56], "big") == 0


def atomic(lba, n, flags=0, boundary=0):
    return bytes([0x9C, flags]) + be(lba, 8) + be(boundary, 2) + be(n, 2) + b"\0\0"


def atomic_32(lba, n):
    return bytes([0x7F, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0F, 0, 0]) + be(lba, 8) + bytes(8) + be(n, 4)


def atomically(blocks=64):
    """A disk that writes atomically: so many blocks at most, in fours."""
    return storage.scsi_debug(dev_size_mb=16, delay=0, atomic_wr=1, atomic_wr_max_length=blocks, atomic_wr_align=4, atomic_wr_gran=4)


def test_write_atomic():
    with atomically() as disk:
        store = lio.iblock(dev=disk)
        unit = Unit(store)
        limits = [int(store.attrib(f"atomic_{name}")) for name in ("max_len", "alignment", "granularity")]
        assert limits == [64, 4, 4]
        b0 = unit(bytes([0x12, 1, 0xB0, 0, 64, 0]), read=64)
        assert [int.from_bytes(b0[at : at + 4], "big") for at in (44, 48, 52, 56, 60)] == [64, 4, 4, 0, 0]
        data = data_of(unit, 64)
        sent = opcodes(lambda: unit(atomic(128, 64), write=data))
        assert "WRITE_ATOMIC_16" in sent, sent
        assert unit.look(127, 66) == bytes(512) + data + bytes(512)
        unit(atomic_32(4, 4), write=data_of(unit, 4, 5))
        assert unit.look(4, 4) == data_of(unit, 4, 5)
        unit(atomic(4, 0))
        with open(disk, "rb") as f:
            f.seek(128 * 512)
            assert f.read(len(data)) == data
        data = data_of(unit, 68, 7)
        unit.refused(atomic(128, 68), "5/2400", (True, 12, None), write=data)
        unit.refused(atomic(128, 6), "5/2400", (True, 12, None), write=data[: 6 * 512])
        unit.refused(atomic(130, 4), "5/2400", (True, 2, None), write=data[: 4 * 512])
        unit.refused(atomic(128, 4, boundary=4), "5/2400", (True, 11, 2), write=data[: 4 * 512])
        unit.refused(atomic(16 * MIB // 512 - 4, 8), "5/2100", write=data[: 8 * 512])
        # A part is not all of it.
        unit.refused(atomic(128, 8), "5/0e03", write=data[: 4 * 512])
        assert unit.look(128, 64) == data_of(unit, 64)


def test_libiscsi_on_what_writes_atomically():
    """libiscsi's tests of the command, which skip on other disks. They write 256 blocks at most, in steps of the granularity."""
    with atomically(blocks=256) as disk:
        target = lio.IscsiTarget(lio.iblock(dev=disk))
        results = libiscsi.run(target, lio.TOP / "out/check/libiscsi-atomic.log", tests="SCSI.WriteAtomic16")
        assert len(results) == 6, results
        assert set(results.values()) == {"pass"}, results


def opcodes(f):
    """What the kernel sends to disks while `f` runs, as its SCSI tracepoint has it."""
    event = TRACE / "events/scsi/scsi_dispatch_cmd_start/enable"
    if not TRACE.joinpath("trace").exists():
        lio.run("mount", "-t", "tracefs", "tracefs", TRACE)
    lio.write(TRACE / "trace", "")
    lio.write(event, 1)
    try:
        f()
        return TRACE.joinpath("trace").read_text()
    finally:
        lio.write(event, 0)


SET, CLEAR = 0, 1
MISMATCH = "5/2c0c"


def orwrite(lba, n, bmop=SET, policy=0, expected=0, new=0):
    return bytes([0x7F, 0, bmop, policy, 0, 0, 0, 0x18, 0, 0x0E, 0, 0]) + be(lba, 8) + be(expected, 4) + be(new, 4) + be(n, 4)


def test_orwrite_32(unit):
    """Bits are set, and cleared with a new generation (SBC-4, 4.27)."""
    a, b = data_of(unit, 3), data_of(unit, 3, 77)
    def both(f): return bytes(f(x, y) for x, y in zip(a, b))
    unit(sixteen(0x8A, 0, 5, 3), write=a)
    unit(orwrite(5, 3), write=b)
    assert unit.look(5, 3) == both(lambda x, y: x | y)
    unit(sixteen(0x8A, 0, 5, 3), write=a)
    unit(orwrite(5, 3, CLEAR, 7, new=4), write=b)
    assert unit.look(4, 5) == bytes(unit.block) + both(lambda x, y: x & y) + bytes(unit.block)
    # The generation is 4 now, also for ORWRITE (16), which stands for 0, and for other initiators.
    before = unit.look(5, 3)
    for cdb in (orwrite(5, 3), sixteen(0x8B, 0, 5, 3), orwrite(5, 3, CLEAR, 7, new=9)):
        unit.refused(cdb, MISMATCH, write=b)
    status, _, answer = unit.other.scsi(orwrite(5, 3, expected=3), write=b)
    assert (status, say(answer.sense)) == (2, MISMATCH)
    # Of policy 2, what is of the previous generation is discarded, and GOOD.
    unit(orwrite(5, 0, CLEAR, 2, expected=4, new=5))
    unit(orwrite(5, 3, expected=4), write=b)
    unit.refused(orwrite(5, 3), MISMATCH, write=b)
    assert unit.look(5, 3) == before
    unit(orwrite(5, 3, expected=5), write=b)
    assert unit.look(5, 3) == b
    # A logical unit reset changes nothing of that; a target reset begins anew.
    assert unit.c.tmf(initiator.LUN_RESET) == 0
    settle(unit)
    unit.refused(orwrite(5, 3), MISMATCH, write=b)
    assert unit.c.tmf(initiator.WARM_RESET) == 0
    settle(unit)
    unit(orwrite(5, 3), write=b)
    unit(sixteen(0x8B, 0, 5, 3), write=b)
    unit.refused(orwrite(5, 3, CLEAR, 1), "5/2400", (True, 3, 3), write=b)
    unit.refused(orwrite(5, 3, 2), "5/2400", (True, 2, 2), write=b)
    unit.refused(orwrite(SIZE // unit.block - 1, 2), "5/2100", write=b[: 2 * unit.block])
    unit.refused(orwrite(5, 3), "5/0e03", write=b[: unit.block])


def settle(unit):
    """Takes the unit attentions."""
    for c in (unit.c, unit.other):
        while c.scsi(bytes(6))[0]:
            pass


def mark(lba, flags=0x40):
    return bytes([0x9F, 0x11 | flags]) + be(lba, 8) + bytes(6)


BAD = "3/1114"


def test_write_long(unit):
    """A block that WRITE LONG marks cannot be read until it is written again (SBC-4, 4.18.2)."""
    n, data = unit.block, data_of(unit, 16)
    unit.refused(mark(20), "5/2400", (True, 1, 4))
    unit.refused(bytes([0x3F, 0x40]) + be(20, 4) + bytes(4), "5/2000")
    assert not unit(bytes([0x12, 1, 0x86, 0, 64, 0]), read=64)[6] & 0x08
    unit.store.attrib("emulate_write_long", 1)
    assert unit(bytes([0x12, 1, 0x86, 0, 64, 0]), read=64)[6] & 0x08, "WU_SUP"
    unit(sixteen(0x8A, 0, 16, 16), write=data)
    unit(mark(20))
    unit(bytes([0x3F, 0xC0]) + be(30, 4) + bytes(4))
    for _ in range(2):
        for cdb, read, write in ((sixteen(0x88, 0, 16, 16), 16 * n, b""), (sixteen(0x8F, 0, 16, 16), 0, b""),
                                 (sixteen(0x8F, 2, 16, 16), 0, data), (orwrite(20, 1), 0, data[:n]),
                                 (bytes([0x89, 0]) + be(20, 8) + b"\0\0\0\1\0\0", 0, data[4 * n : 5 * n] * 2)):
            sense = unit.refused(cdb, BAD, read=read, write=write)
            assert information(sense) == 20
        status, got, answer = unit.other.scsi(sixteen(0x88, 0, 16, 16), 16 * n)
        # Nothing came of the blocks before it, and the residual says so.
        assert (status, say(answer.sense), got, answer.residual) == (2, BAD, b"", 16 * n)
    assert unit.look(16, 4) + unit.look(21, 9) + unit.look(31, 1) == data[: 4 * n] + data[5 * n : 14 * n] + data[15 * n :]
    # Each kind of writing makes it good.
    unit(sixteen(0x8A, 0, 18, 4), write=data[: 4 * n])
    assert unit.look(16, 14) == data[: 2 * n] + data[: 4 * n] + data[6 * n : 14 * n]
    unit(sixteen(0x93, 0, 30, 1), write=bytes(n))
    assert unit.look(30, 1) == bytes(n)
    writes = [(sixteen(0x8E, 2, 40, 4), data[: 4 * n]), (short(1, 1, 5), parameters(unit, [(40, 4)], data[: 4 * n])),
              (sixteen(0x8A, 0, 40, 4), data[: 4 * n]), (sixteen(0x93, 0, 40, 4), data[:n])]
    for cdb, write in writes:
        unit(mark(42))
        unit.refused(sixteen(0x88, 0, 42, 1), BAD, read=n)
        unit(cdb, write=write)
        unit.look(40, 4)
    # ORWRITE and COMPARE AND WRITE read first.
    unit(mark(42))
    unit.refused(orwrite(40, 4), BAD, write=data[: 4 * n])
    # What is wrong with the command.
    unit.refused(mark(42, 0), "5/2400", (True, 1, 6))
    unit.refused(mark(42, 0x60), "5/2400", (True, 1, 5))
    unit.refused(mark(SIZE // n), "5/2100")
    unit.refused(bytes([0x9E, 0x15]) + bytes(14), "5/2400", (True, 1, 4))  # BACKGROUND CONTROL: there is nothing of the kind
    # No more than there is room for; a reset and other sessions keep them, FORMAT UNIT ends them.
    for lba in range(255):
        unit(mark(1000 + lba))
    unit.refused(mark(2000), "5/5503")
    assert unit.c.tmf(initiator.LUN_RESET) == 0
    settle(unit)
    assert information(unit.refused(sixteen(0x88, 0, 990, 100), BAD, read=100 * n)) == 1000
    unit(sixteen(0x8A, 0, 1000, 255), write=data_of(unit, 255))
    assert unit.look(990, 300)
    unit.store.attrib("emulate_sanitize", 1)
    unit(bytes([4, 0, 0, 0, 0, 0]))
    lio.wait_for(lambda: unit.status(bytes(6)) == 0)
    assert unit.look(40, 4) == bytes(4 * n)


def read_long(lba, length, flags=0):
    return bytes([0x3E, flags]) + be(lba, 4) + b"\0" + be(length, 2) + b"\0"


def read_long_16(lba, length, flags=0):
    return bytes([0x9E, 0x11]) + be(lba, 8) + bytes(2) + be(length, 2) + bytes([flags, 0])


def test_read_long(unit):
    """What is in a block, also where WRITE LONG has marked it, and how long it is (SBC-3, 5.19 and 5.20)."""
    n, data = unit.block, data_of(unit, 3)
    unit.refused(read_long(20, n), "5/2000", read=n)
    unit.refused(read_long_16(20, n), "5/2400", (True, 1, 4), read=n)
    unit.store.attrib("emulate_write_long", 1)
    unit(sixteen(0x8A, 0, 20, 3), write=data)
    unit(mark(21))
    for form, at, pblock, correct in ((read_long, 7, 4, 2), (read_long_16, 12, 2, 1)):
        for flags in (0, correct, pblock):
            assert unit(form(20, n, flags), read=n) == data[:n]
            unit(form(20, 0, flags))
        # It cannot be corrected, but read.
        assert unit(form(21, n), read=n) == data[n : 2 * n]
        assert information(unit.refused(form(21, n, correct), BAD, read=n)) == 21
        for length in (1, n - 1, n + 8, 0xFFFF):
            sense = unit.refused(form(20, length), "5/2400", (True, at, None), read=length)
            assert sense[2] & 0x20 and information(sense) == (length - n) % (1 << 32)
        unit.refused(form(SIZE // n, n), "5/2100", read=n)
        unit.refused(form(20, n, 8), "5/2400", read=n)
        # An initiator that takes less.
        status, got, answer = unit.c.scsi(form(20, n), 100)
        assert (status, got, answer.residual) == (0, data[:100], 100 - n)
    unit.refused(sixteen(0x88, 0, 21, 1), BAD, read=n)


@pytest.mark.parametrize("lowest", [0, 2])
def test_read_long_of_a_physical_block(lowest):
    """PBLOCK: all of the physical block that the logical one is in, wherever physical blocks begin."""
    with storage.scsi_debug(dev_size_mb=16, delay=0, physblk_exp=3, lowest_aligned=lowest) as disk:
        unit = Unit(lio.iblock(dev=disk))
        unit.store.attrib("emulate_write_long", 1)
        capacity = unit(bytes([0x9E, 0x10]) + bytes(8) + be(32, 4) + bytes(2), read=32)
        assert capacity[13] & 15 == 3 and int.from_bytes(capacity[14:16], "big") & 0x3FFF == lowest
        data = data_of(unit, 64)
        unit(sixteen(0x8A, 0, 0, 64), write=data)
        last = SIZE // 512 - 1
        for form, pblock in (read_long, 4), (read_long_16, 2):
            for lba in (16, 20, 23, 24):
                first = (lba - lowest) // 8 * 8 + lowest
                assert unit(form(lba, 4096, pblock), read=4096) == data[first * 512 : (first + 8) * 512]
                assert unit(form(lba, 512), read=512) == data[lba * 512 : (lba + 1) * 512]
            sense = unit.refused(form(20, 512, pblock), "5/2400", read=512)
            assert sense[2] & 0x20 and information(sense) == (512 - 4096) % (1 << 32)
            if lowest:  # what there is of the first and of the last one
                assert unit(form(0, lowest * 512, pblock), read=lowest * 512) == data[: lowest * 512]
                assert len(unit(form(last, (8 - lowest) * 512, pblock), read=4096 - lowest * 512)) == 4096 - lowest * 512


def test_bad_blocks_as_linux_sees_them():
    """The kernel's disk driver gives its reader an error, and no data that it did not read."""
    store = lio.ramdisk(size=SIZE)
    store.attrib("emulate_write_long", 1)
    port = lio.Loopback(store)
    disk = port.disk(0)
    data = storage.pattern(MIB, 3)
    storage.pwrite(disk, 0, data)
    lio.run("sg_write_long", "--wr_uncor", "--cor_dis", "--16", "--lba=100", disk)
    assert storage.pread(disk, 0, 4096) == data[:4096]
    with pytest.raises(OSError) as failed:
        storage.pread(disk, 96 * 512, 4096)
    assert failed.value.errno in (errno.EIO, errno.ENODATA)
    assert "should be 512" in lio.run("sg_read_long", "--lba=100", "--xfer_len=520", disk, check=False).stdout
    lio.run("sg_read_long", "--lba=100", "--xfer_len=512", "--out=/tmp/long", disk)
    assert Path("/tmp/long").read_bytes() == data[100 * 512 : 101 * 512]
    storage.pwrite(disk, 0, data)
    assert storage.pread(disk, 0, MIB) == data
