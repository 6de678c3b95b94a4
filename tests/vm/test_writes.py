"""WRITE SCATTERED and WRITE ATOMIC over iSCSI; what they wrote is looked at through another path."""
# vm: --timeout 300
from pathlib import Path

import faulty
import libiscsi
import lio
import pytest
import storage
import test_order
from initiator import WRITE
from sgio import information
from test_blocks import Unit, be, data_of, sixteen

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
    for wrong, what, pointer in (([(100, 2), (SIZE // unit.block - 1, 2)], "5/2100", ...), ([(100, 2), (7, 5)], "B/1a00", ...), ([(100, 2), (7, 3)], "B/1a00", ...)):
        unit.refused(form(1, 2, 7), what, pointer, write=parameters(unit, wrong, data))
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


def test_write_scattered_fua():
    """With FUA it is on the disk when it is answered."""
    unit = Unit(lio.fileio(size=SIZE, buffered=True))
    data = data_of(unit, 2)
    unit(short(1, 2, 3, flags=0x08), write=parameters(unit, [(9, 1), (30, 1)], data))
    assert unit.look(9, 1) + unit.look(30, 1) == data


def test_in_its_place():
    """ORDERED, and a unit that is erased or stopped: as for any other write (SAM-5, 8.6; SBC-4, 4.11)."""
    store = lio.ramdisk(size=SIZE)
    for name in "emulate_tpu", "emulate_sanitize":
        store.attrib(name, 1)
    unit = Unit(store)
    data = data_of(unit, 8)
    scattered = parameters(unit, [(64, 4), (2, 4)], data)
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
        # SANITIZE waits for one whose data is still to come.
        itt = b.start(short(1, 2, 9), len(scattered), WRITE)
        r2t = b.receive()
        sanitize = a.start(bytes([0x48, 2]) + bytes(8))
        test_order.waits(a, b)
        unit.refused(short(1, 2, 9), "2/041b", write=scattered)
        b.answer_r2t(r2t, scattered)
        assert b.finish(itt)[0] == 0
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
