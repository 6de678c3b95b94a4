"""iblock on an NVMe SSD, as servers have them: two namespaces, of which one keeps protection information."""
# vm: --nvme
# group: protection
import mmap
import os
import uuid
from pathlib import Path

import lio
import pytest
import test_protection
from protected import ESCAPE, GUARD, READ, SIZE, VERIFY, WRITE, Cdb, Unit, be, corrupted, mix
from storage import attach, pattern, pread
from test_writes import TRACE

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C module has no protection information over iSCSI, and no atomic writes")
MIB = 1 << 20


def namespace(number):
    """The disk that is this namespace."""
    if lio.run("modprobe", "nvme", check=False).returncode:
        pytest.skip("this kernel has no NVMe driver")

    def there():
        return [p for p in Path("/sys/block").glob("nvme*n*") if lio.read(p / "nsid") == str(number)]

    return lio.wait_for(there)[0].name


@pytest.fixture
def unit(request):
    disk = namespace(request.param)
    lio.run("blkdiscard", "-f", "-z", f"/dev/{disk}")
    store = lio.iblock(dev=f"/dev/{disk}", serial=str(uuid.uuid4()))
    unit = Unit(store, request.param - 1)
    unit.disk = disk
    yield unit
    unit.delete()


def issued(disk, work):
    """What the block layer gave to the disk meanwhile: (what, first sector, sectors)."""
    event = TRACE / "events/block/block_rq_issue"
    if not event.exists():
        lio.run("mount", "-t", "tracefs", "tracefs", TRACE)
    number = lio.read(f"/sys/block/{disk}/dev").split(":")
    lio.write(event / "filter", f"dev == {int(number[0]) << 20 | int(number[1])}")
    TRACE.joinpath("trace").write_text("")
    lio.write(event / "enable", 1)
    try:
        work()
    finally:
        lio.write(event / "enable", 0)
        lio.write(event / "filter", 0)
    found = []
    for line in TRACE.joinpath("trace").read_text().splitlines():
        if "block_rq_issue:" in line:
            words = line.split("block_rq_issue:")[1].split()
            at = words.index("+")
            found.append((words[1], int(words[at - 1]), int(words[at + 1])))
    return found


@pytest.mark.parametrize("unit", [1], indirect=True)
def test_what_an_ssd_does_by_itself(unit):
    """It is told what is to be flushed, written through, zeroed and given back; nothing is written for it."""
    assert unit.store.attrib("hw_pi_prot_type") == "0"
    data = unit.data(64)
    wrote = issued(unit.disk, lambda: unit(Cdb.ten(WRITE, 0, 128, 64, 8), write=b"".join(data)))
    assert wrote == [("WFS", 128, 64)], wrote
    assert unit(Cdb.ten(READ, 0, 128, 64), 64 * 512) == b"".join(data)
    flushed = issued(unit.disk, lambda: unit(bytes([0x35]) + bytes(9)))
    assert [what for what, *_ in flushed] == ["FF"], flushed
    zeroed = issued(unit.disk, lambda: unit(bytes([0x93, 0x01]) + be(130, 8) + be(16, 4) + bytes(2)))  # NDOB
    assert zeroed and all(what.startswith("W") and (at, n) == (130, 16) for what, at, n in zeroed), zeroed
    assert unit(Cdb.ten(READ, 0, 128, 64), 64 * 512) == b"".join(data[:2]) + bytes(16 * 512) + b"".join(data[18:])
    unit.store.attrib("emulate_tpu", 1)
    unit.c.scsi(bytes(6))
    unmapped = issued(unit.disk, lambda: unit(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), write=be(22, 2) + be(16, 2) + bytes(4) + be(160, 8) + be(8, 4) + bytes(4)))
    assert [(what[0], at, n) for what, at, n in unmapped] == [("D", 160, 8)], unmapped


@pytest.mark.parametrize("unit", [1, 2], indirect=True, ids=["plain", "protection"])
def test_what_it_writes_as_one(unit):
    """As much as the namespace says (NAWUPF), a block here; with its protection information, where there is any."""
    queue = Path("/sys/block") / unit.disk / "queue"
    most = int(lio.read(queue / "atomic_write_unit_max_bytes")) // 512
    assert int(unit.store.attrib("atomic_max_len")) == most > 0
    protect = 1 if unit.kind else 0
    data = unit.data(most + 1, 3)
    tuples = unit.pi(data, 200, application=7)

    def atomic(n, send, tuples):
        cdb = bytes([0x9C, protect << 5]) + be(200, 8) + bytes(2) + be(n, 2) + b"\0\0"
        return cdb, mix(send[:n], tuples) if protect else b"".join(send[:n])

    cdb, sent = atomic(most, data, tuples)
    wrote = issued(unit.disk, lambda: unit(cdb, write=sent))
    assert [(at, n) for _, at, n in wrote] == [(200, most)] and "U" in wrote[0][0], wrote
    assert unit(Cdb.ten(READ, protect, 200, most), len(sent)) == sent
    cdb, sent = atomic(most + 1, data, tuples)
    unit.refused(cdb, "5/2400", write=sent, pointer=(True, 12, None))
    if protect:
        cdb, sent = atomic(most, corrupted(data), tuples)
        unit.refused(cdb, f"B/{GUARD}", write=sent, info=200)
        assert unit.read(200, most) == (data[:most], tuples[:most])


@pytest.mark.parametrize("unit", [2], indirect=True)
def test_what_it_keeps(unit):
    """All that is said of protection information holds where an SSD keeps it."""
    assert [unit.store.attrib(n) for n in ("pi_prot_type", "hw_pi_prot_type")] == ["1", "1"]
    n = 1024  # as after a FORMAT, which QEMU's SSD does not do with protection information
    for lba in range(0, SIZE // 512, n):
        unit.write(lba, [bytes(512)] * n, [ESCAPE] * n)
    for check in test_protection.CHECKS:
        if check not in (test_protection.unmap, test_protection.atomics):
            check(unit)


@pytest.fixture
def one_piece():
    """Has a disk take protection information in one piece of memory alone, and data without gaps."""
    yield lambda disk: lio.run("modprobe", "lio_one_piece", f"disk=/dev/{disk}")
    lio.run("rmmod", "lio_one_piece")


@pytest.mark.parametrize("unit", [2], indirect=True)
def test_memory_in_more_pieces_than_it_takes(one_piece, unit):
    """Protection information in more pieces of memory than an SSD takes is as good as that in one."""
    one_piece(unit.disk)
    assert lio.read(Path("/sys/block") / unit.disk / "queue/max_integrity_segments") == "1"
    # Of so many blocks, no one command transfers the data; it has 10,240 bytes: two pages and one.
    lba, n = 2048, 1280
    data = unit.data(n, 51)
    tuples = unit.pi(data, lba, application=3)
    halves = ((0, n // 2), (n // 2, n))
    for a, b in halves:
        unit(Cdb.ten(WRITE, 1, lba + a, b - a), write=mix(data[a:b], tuples[a:b]))
    for _ in range(8):
        unit(Cdb.ten(VERIFY, 1, lba, n))
    unit.write(lba + n - 1, data[:1], unit.pi(data[1:2], lba + n - 1))
    unit.refused(Cdb.ten(VERIFY, 1, lba, n), f"B/{GUARD}", info=lba + n - 1)
    unit.store.attrib("max_write_same_len", n)
    unit(bytes([0x93, 0x20]) + be(lba, 8) + be(n, 4) + b"\0\0", write=data[0] + tuples[0])
    for a, b in halves:
        assert unit.read(lba + a, b - a, 1) == ([data[0]] * (b - a), unit.pi([data[0]] * (b - a), lba + a, application=3))
    unit(Cdb.ten(VERIFY, 1, lba, n))


def test_memory_with_gaps(one_piece):
    """Data whose memory has gaps inside its blocks is as good as that in whole pages, for an SSD that takes no gaps."""
    disk = namespace(1)
    one_piece(disk)
    assert lio.read(Path("/sys/block") / disk / "queue/virt_boundary_mask") == "4095"
    size, (a, b, c) = 4096 + 512, (100, 412, 4096)
    data = pattern(size, 61)
    path = attach(lio.iblock(dev=f"/dev/{disk}"))
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4 * 4096) as memory, memoryview(memory) as view:
            # The beginnings of three pages.
            with view[:a] as one, view[4096 : 4096 + b] as two, view[8192 : 8192 + c] as three:
                pieces = [one, two, three]
                one[:], two[:], three[:] = data[:a], data[a : a + b], data[a + b :]
                assert os.pwritev(fd, pieces, 0) == size
                assert pread(f"/dev/{disk}", 0, size) == data
                memory[:] = bytes(len(memory))
                assert os.preadv(fd, pieces, 0) == size
                assert b"".join(pieces) == data
    finally:
        os.close(fd)
        lio.clear()
