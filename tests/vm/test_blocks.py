"""Commands about blocks beyond reading and writing, over iSCSI; what they did is looked at through another path."""
# vm: --timeout 900
# waits
import ctypes
import mmap
import os
import time

import faulty
import initiator
import lio
import pytest
import storage
from sgio import field, information, say

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have few of these")
MIB = 1 << 20
SIZE = 16 * MIB
PATTERN = bytes(range(256)) * 16


def be(n, width):
    return n.to_bytes(width, "big")


def long(action, flags, lba, n, tags=bytes(8)):
    """A CDB of 32 bytes: SPC-4, 4.2.3."""
    return bytes([0x7F, 0, 0, 0, 0, 0, 0, 0x18]) + be(action, 2) + bytes([flags, 0]) + be(lba, 8) + tags + be(n, 4)


def ten(op, flags, lba, n):
    return bytes([op, flags]) + be(lba, 4) + b"\0" + be(n, 2) + b"\0"


def twelve(op, flags, lba, n):
    return bytes([op, flags]) + be(lba, 4) + be(n, 4) + b"\0\0"


def sixteen(op, flags, lba, n):
    return bytes([op, flags]) + be(lba, 8) + be(n, 4) + b"\0\0"


class Unit:
    """A disk seen by two sessions: what the one does, the other looks at."""

    def __init__(self, store, block=512):
        self.store, self.block = store, block
        store.attrib("block_size", block)
        self.target = lio.IscsiTarget(store)
        self.target.patient("iqn.2024-01.org.example:other")
        self.c = initiator.session(self.target)
        self.other = initiator.session(self.target, name="iqn.2024-01.org.example:other", isid=b"\x80\0\0\0\0\2")

    def __call__(self, cdb, read=0, write=b"", timeout=60):
        status, data, answer = self.c.scsi(cdb, read, write, timeout=timeout)
        assert status == 0, (status, say(answer.sense), field(answer.sense))
        return data

    def status(self, cdb, read=0, write=b""):
        return self.c.scsi(cdb, read, write)[0]

    def refused(self, cdb, what, pointer=..., read=0, write=b""):
        status, _, answer = self.c.scsi(cdb, read, write)
        assert status == 2 and say(answer.sense) == what, (status, answer.sense.hex())
        if pointer is not ...:
            assert field(answer.sense) == pointer, answer.sense.hex()
        return answer.sense

    def look(self, lba, n):
        """Blocks as the other session reads them."""
        status, data, answer = self.other.scsi(sixteen(0x88, 0, lba, n), n * self.block)
        assert status == 0, answer.sense.hex()
        return data


@pytest.fixture(params=["ramdisk", "fileio", "iblock"])
def kind(request):
    return request.param


@pytest.fixture(params=[("ramdisk", 512), ("ramdisk", 4096), ("fileio", 512), ("iblock", 4096)], ids=str)
def unit(request):
    kind, block = request.param
    return Unit(lio.BACKSTORES[kind](size=SIZE), block)


@pytest.fixture
def thin(kind):
    store = lio.BACKSTORES[kind](size=SIZE)
    for attribute in ("emulate_tpu", "emulate_tpws"):
        store.attrib(attribute, 1)
    return Unit(store)


def data_of(unit, n, seed=0):
    """`n` blocks, no two of them alike."""
    return b"".join(be(seed << 32 | i, 8) * (unit.block // 8) for i in range(n))


def test_read_and_write_32(unit):
    data = data_of(unit, 3)
    unit(long(0x0B, 0, 7, 3), write=data)
    assert unit.look(6, 5) == bytes(unit.block) + data + bytes(unit.block)
    # Tags are not looked at without protection information.
    assert unit(long(0x09, 0, 7, 3, b"\xff" * 8), read=3 * unit.block) == data
    last = SIZE // unit.block - 1
    unit.refused(long(0x09, 0, last, 2), "5/2100", read=2 * unit.block)
    unit.refused(long(0x09, 0x20, 0, 1), "5/2400", (True, 10, 7), read=unit.block)
    unit.refused(long(0x01FF, 0, 0, 1), "5/2400", (True, 8, None))
    unit.refused(long(0x09, 0, 0, 1)[:7] + b"\x10" + long(0x09, 0, 0, 1)[8:], "5/2400", (True, 7, None))
    unit.refused(long(0x09, 0, 0, 1)[:16], "5/2400", (True, 16, None))


def test_write_and_verify(unit):
    for form in (ten, twelve, sixteen, long):
        write_and_verify(unit, form)


def write_and_verify(unit, form):
    op = {ten: 0x2E, twelve: 0xAE, sixteen: 0x8E, long: 0x0C}[form]
    verify = {ten: 0x2F, twelve: 0xAF, sixteen: 0x8F, long: 0x0A}[form]
    for bytchk in (0, 2):
        data = data_of(unit, 5, bytchk + 1)
        unit(form(op, bytchk, 3, 5), write=data)
        assert unit.look(3, 5) == data
    unit(form(verify, 2, 3, 5), write=data)
    wrong = bytearray(data)
    wrong[unit.block + 9] ^= 1
    assert information(unit.refused(form(verify, 2, 3, 5), "E/1d00", write=bytes(wrong))) == unit.block + 9
    unit.refused(form(verify, 6, 3, 5), "E/1d00", write=data[: unit.block])
    unit(form(verify, 0, 3, 5))
    flags = 10 if form is long else 1
    unit.refused(form(op, 4, 3, 5), "5/2400", (True, flags, 2), write=data)
    unit.refused(form(op, 6, 3, 5), "5/2400", (True, flags, 2), write=data)
    unit.refused(form(op, 0, SIZE // unit.block - 1, 2), "5/2100", write=data[: 2 * unit.block])
    unit(form(op, 2, 3, 0))
    assert unit.look(3, 5) == data


def test_write_and_verify_reads_back():
    """What storage keeps is compared, not what was sent: one that forgets is found out."""
    unit = Unit(lio.ramdisk(size=SIZE, nullio=True))
    unit(sixteen(0x8E, 0, 0, 1), write=PATTERN[:512])
    unit.refused(sixteen(0x8E, 2, 0, 1), "E/1d00", write=PATTERN[:512])
    unit(sixteen(0x8E, 2, 0, 1), write=bytes(512))


def test_orwrite(unit):
    n = 300 << 10 >> unit.block.bit_length() - 1
    a, b = data_of(unit, n), data_of(unit, n, 101)
    for i in range(0, n, 128):
        unit(sixteen(0x8A, 0, 16 + i, min(128, n - i)), write=a[i * unit.block : (i + 128) * unit.block])
    unit(sixteen(0x8B, 0, 16, n), write=b)
    want = (int.from_bytes(a, "big") | int.from_bytes(b, "big")).to_bytes(len(a), "big")
    got = b"".join(unit.look(16 + i, min(128, n - i)) for i in range(0, n, 128))
    assert got == want
    assert unit.look(15, 1) == bytes(unit.block) == unit.look(16 + n, 1)
    unit(sixteen(0x8B, 0, 0, 0))
    unit.refused(sixteen(0x8B, 0, SIZE // unit.block, 1), "5/2100", write=bytes(unit.block))


def test_orwrites_at_once(kind):
    """Each of two sessions sets bits of its own in one block, many at a time: none is lost."""
    unit = Unit(lio.BACKSTORES[kind](size=SIZE))
    sent = []
    for i in range(64):
        c = (unit.c, unit.other)[i % 2]
        data = bytearray(512)
        data[i // 8] = 1 << i % 8
        data[256 + i] = 0xFF
        sent.append((c, c.start(sixteen(0x8B, 0, 5, 1), 512, initiator.WRITE, bytes(data))))
    for c in (unit.c, unit.other):
        left = {itt for who, itt in sent if who is c}
        while left:
            a = c.receive()
            assert a.itt in left and a.status == 0, a
            left.remove(a.itt)
    assert unit.look(5, 1) == b"\xff" * 8 + bytes(248) + b"\xff" * 64 + bytes(192)


def test_write_same_32(thin):
    thin(sixteen(0x8A, 0, 0, 32), write=PATTERN * 4)
    thin(long(0x0D, 0, 4, 8), write=PATTERN[:256] * 2)
    assert thin.look(0, 16) == PATTERN[:2048] + PATTERN[:256] * 16 + PATTERN[2048:4096]
    # NDOB, with and without UNMAP
    thin(long(0x0D, 1, 6, 2))
    assert thin.look(6, 2) == bytes(1024)
    thin(long(0x0D, 8, 8, 8), write=bytes(512))
    thin.refused(long(0x0D, 0x10, 0, 1), "5/2400", (True, 10, 4), write=bytes(512))
    thin.refused(long(0x0D, 0x18, 0, 1), "5/2400", (True, 10, 4), write=bytes(512))
    thin.refused(long(0x0D, 0, 0, 0), "5/2400", (True, 28, None), write=bytes(512))


def test_pre_fetch(kind):
    unit = Unit(lio.BACKSTORES[kind](size=32 * MIB))
    for form, op in ((ten, 0x34), (sixteen, 0x90)):
        pre_fetch(unit, kind, form, op)


def pre_fetch(unit, kind, form, op):
    # CONDITION MET: all of it is in the cache; a disk behind iblock has none that we know of.
    met = 0 if kind == "iblock" else 4
    for flags in (0, 2):
        assert unit.status(form(op, flags, 0, 100)) == met
    assert unit.status(form(op, 0, 32 * MIB // 512 - 8, 8)) == met
    assert unit.status(form(op, 0, 0, 0)) in (met, 0)
    assert unit.status(form(op, 0, 32 * MIB // 512 - 8, 0)) == met
    unit.refused(form(op, 0, 32 * MIB // 512 - 8, 9), "5/2100")
    unit.refused(form(op, 8, 0, 1), "5/2400", (True, 1, 3))


def test_pre_fetch_fills_the_page_cache():
    lio.modprobe("loop", "ext4")
    dev = lio.loop_device(64 * MIB)
    lio.run("mkfs.ext4", "-q", dev)
    os.makedirs("/tmp/ext4", exist_ok=True)
    lio.run("mount", dev, "/tmp/ext4")
    file = "/tmp/ext4/disk"
    try:
        with open(file, "wb") as f:
            f.write(os.urandom(SIZE))
        unit = Unit(lio.fileio(file=file, size=SIZE))
        lio.run("bash", "-c", "sync; echo 1 > /proc/sys/vm/drop_caches")
        before = resident(file)
        assert before < 64
        assert unit.status(sixteen(0x90, 0, 0, 4 * MIB // 512)) == 4
        assert resident(file) >= before + 4 * MIB // 4096 - 64
        # With IMMED it comes in behind the answer.
        assert unit.status(sixteen(0x90, 2, 8 * MIB // 512, 4 * MIB // 512)) == 4
        lio.wait_for(lambda: resident(file) >= before + 8 * MIB // 4096 - 128)
    finally:
        lio.clear()
        lio.run("umount", "/tmp/ext4")


def test_what_is_read_behind_an_answer_holds_nothing_up():
    """Of a disk that takes half a minute to be read, the cache is written meanwhile; and it is not read for nobody."""
    lio.modprobe("dm_mod", "dm_delay")
    below = lio.loop_device(SIZE)
    with storage.dm("lio-slow-reads", f"0 {SIZE // 512} delay {below} 0 2000 {below} 0 0\n") as disk:
        unit = Unit(lio.fileio(file=disk, size=SIZE, buffered=True))
        lio.run("bash", "-c", "sync; echo 1 > /proc/sys/vm/drop_caches")
        for _ in range(2):
            assert unit.status(sixteen(0x90, 2, 0, SIZE // 512)) == 4
        before = storage.flushes(below)
        unit(ten(0x35, 2, 0, 0))
        lio.wait_for(lambda: storage.flushes(below) > before, 10)
        lio.clear()
        opened = ("dmsetup", "info", "-c", "--noheadings", "-o", "open", "lio-slow-reads")
        lio.wait_for(lambda: lio.run(*opened, check=False).stdout.strip() != "1", 10)


def resident(file):
    """Pages of a file in the page cache: mincore(2)."""
    with open(file, "r+b") as f, mmap.mmap(f.fileno(), SIZE) as m:
        seen = (ctypes.c_ubyte * (SIZE // 4096))()
        address = ctypes.addressof(view := ctypes.c_char.from_buffer(m))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(SIZE), seen) == 0
        del view
        return sum(page & 1 for page in seen)


def descriptors(data):
    """GET LBA STATUS' answer: ([(LBA, blocks, status)], completion condition)."""
    n = int.from_bytes(data[:4], "big") + 4
    assert len(data) <= n and (n - 8) % 16 == 0
    return [(int.from_bytes(data[i : i + 8], "big"), int.from_bytes(data[i + 8 : i + 12], "big"), data[i + 12])
            for i in range(8, len(data), 16)], data[7] >> 1


def test_get_lba_status(thin, kind):
    blocks = SIZE // 512
    status = lambda lba, allocation=4096: descriptors(thin(sixteen(0x9E, 0x12, lba, allocation), read=allocation))
    if kind == "iblock":
        # It does not tell.
        assert status(0) == ([(0, blocks, 0)], 3)
        return
    assert status(0) == ([(0, blocks, 1)], 3)
    thin(sixteen(0x8A, 0, 64, 16), write=PATTERN * 2)
    thin(sixteen(0x8A, 0, 1024, 8), write=PATTERN)
    full = [(0, 64, 1), (64, 16, 0), (80, 944, 1), (1024, 8, 0), (1032, blocks - 1032, 1)]
    assert status(0) == (full, 3)
    assert status(72) == ([(72, 8, 0)] + full[2:], 3)
    assert status(blocks - 1) == ([(blocks - 1, 1, 1)], 3)
    # Only what fits, and at least one.
    assert status(0, 40) == (full[:2], 1)
    assert status(0, 24) == (full[:1], 1)
    data = thin(sixteen(0x9E, 0x12, 0, 16), read=16)
    assert data[:4] == be(20, 4) and len(data) == 16
    thin.refused(sixteen(0x9E, 0x12, blocks, 24), "5/2100", read=24)
    # The long form stops where the initiator wants it to.
    scan = lambda lba, n: descriptors(thin(long(0x12, 0, lba, 4096, be(n, 4) + bytes(4)), read=4096))
    assert scan(0, 0) == (full, 3)
    assert scan(0, 70) == ([(0, 64, 1), (64, 6, 0)], 2)
    assert scan(1030, 2) == ([(1030, 2, 0)], 2)
    thin.refused(long(0x12, 1, 0, 24), "5/2400", (True, 10, 0), read=24)
    # What is unmapped is not there any more.
    thin(bytes.fromhex("42 00 00000000 00 0018 00"), write=bytes([0, 22, 0, 16, 0, 0, 0, 0]) + be(64, 8) + be(16, 4) + bytes(4))
    assert status(0)[0] == [(0, 1024, 1), (1024, 8, 0), (1032, blocks - 1032, 1)]


def test_get_lba_status_of_a_full_unit(unit):
    """Where nothing can be unmapped, everything is mapped."""
    blocks = SIZE // unit.block
    data = unit(sixteen(0x9E, 0x12, 5, 512), read=512)
    assert descriptors(data) == ([(5, blocks - 5, 0)], 3)


def test_start_and_stop(kind):
    unit = Unit(lio.BACKSTORES[kind](size=SIZE))
    tur, stop, start = bytes(6), bytes.fromhex("1b 00 00 00 00 00"), bytes.fromhex("1b 00 00 00 01 00")
    unit(sixteen(0x8A, 0, 0, 1), write=PATTERN[:512])
    unit(stop)
    for cdb, read, write in ((tur, 0, b""), (sixteen(0x88, 0, 0, 1), 512, b""), (sixteen(0x8A, 0, 0, 1), 0, bytes(512)),
                             (ten(0x35, 0, 0, 0), 0, b""), (sixteen(0x9E, 0x12, 0, 24), 24, b"")):
        unit.refused(cdb, "2/0402", read=read, write=write)
        status, _, answer = unit.other.scsi(cdb, read, write)
        assert status == 2 and say(answer.sense) == "2/0402", "all initiators see it stopped"
    unit(bytes.fromhex("12 00 00 00 24 00"), read=36)
    unit(bytes.fromhex("25" + "00" * 9), read=8)
    unit(start)
    unit(tur)
    assert unit.look(0, 1) == PATTERN[:512], "nothing was written meanwhile"
    # Power conditions: there is but one, in which all works.
    for condition in (0x10, 0x20, 0x30, 0x70, 0xA0, 0xB0):
        unit(bytes([0x1B, 0, 0, 0, condition, 0]))
        unit(tur)
    unit.refused(bytes([0x1B, 0, 0, 0, 0x50, 0]), "5/2400", (True, 4, 7))
    # Not removable: nothing is ejected, and nothing prevents that.
    unit.refused(bytes([0x1B, 0, 0, 0, 2, 0]), "5/2400", (True, 4, 1))
    unit.refused(bytes([0x1E, 0, 0, 0, 1, 0]), "5/2000")
    assert unit(bytes.fromhex("12 00 00 00 24 00"), read=36)[1] == 0


def test_immediate_answers():
    """IMMED: the answer comes before the cache is written, and the unit stops when it is."""
    d = faulty.Device("lio-immediate")
    unit = Unit(lio.iblock(dev=d.path))
    tur, start = bytes(6), bytes.fromhex("1b 00 00 00 01 00")
    d.become(d.delay(5))

    def took(cdb):
        begun = time.monotonic()
        unit(cdb)
        return time.monotonic() - begun

    def flushed():
        return storage.flushes(d.below)
    assert took(ten(0x35, 0, 0, 0)) > 4.9
    for form, op in ((ten, 0x35), (sixteen, 0x91)):
        before = flushed()
        assert took(form(op, 2, 0, 0)) < 4.5
        lio.wait_for(lambda: flushed() > before)
    for flags, sense in ((1, "2/0402"), (0, None)):
        assert took(bytes([0x1B, 1, 0, 0, 0, 0])) < 4.5
        unit(tur)
        if flags:
            lio.wait_for(lambda: unit.status(tur) == 2)
            unit.refused(tur, sense)
        else:  # It is started before it has stopped.
            before = flushed()
            unit(start)
            lio.wait_for(lambda: flushed() > before)
            time.sleep(0.5)
        assert took(start) < 4.5
        unit(tur)
    # What goes on is in nobody's way.
    unit(ten(0x35, 2, 0, 0))
    unit(bytes([0x1B, 1, 0, 0, 0, 0]))
    lio.clear()
    # Nobody has it open; clear() may have been able to remove it already.
    free = ("0", "Device does not exist.")
    lio.wait_for(lambda: lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "open", d.name, check=False).stdout.startswith(free))


def test_an_eject_and_a_stop_behind_their_answers():
    """Of both that wait for the cache to be written, neither is forgotten."""
    d = faulty.Device("lio-eject")
    store = lio.iblock(dev=d.path)
    store.attrib("removable", 1)
    unit, tur = Unit(store), bytes(6)
    d.become(d.delay(6))
    unit(ten(0x35, 2, 0, 0))  # they wait for this
    for flags in 2, 0:
        unit(bytes([0x1B, 1, 0, 0, flags, 0]))
    unit(tur)
    lio.wait_for(lambda: unit.status(tur) == 2)
    unit.refused(tur, "2/3a00")


def test_deferred_errors():
    """What fails behind an answer is told with the next command, which is not processed (SPC-4, 4.5)."""
    d = faulty.Device("lio-deferred")
    unit = Unit(lio.fileio(file=d.path, size=32 * MIB, buffered=True))
    tur, stop, flush = bytes(6), bytes([0x1B, 1, 0, 0, 0, 0]), ten(0x35, 2, 0, 0)
    d.become(d.bad(64))

    def lose():
        unit(sixteen(0x8A, 0, 64, 8), write=PATTERN)  # the cache takes it

    def told(cdb):
        """The first answer that says so."""
        answers = []

        def asked():
            answers.append(unit.c.scsi(cdb)[2].sense)
            return answers[-1]
        sense = lio.wait_for(asked)
        assert say(sense) == "3/0c00"
        return sense[0] & 0x7F
    lose()
    unit(flush)
    assert told(tur) == 0x71
    unit(tur)
    # Others hear of it by their own flush.
    status, _, answer = unit.other.scsi(ten(0x35, 0, 0, 0))
    assert (status, say(answer.sense), answer.sense[0] & 0x7F) == (2, "3/0c00", 0x70)
    unit(ten(0x35, 0, 0, 0))
    # In descriptor format; what it comes before is not done.
    page = bytearray(unit(bytes([0x1A, 8, 0x0A, 0, 16, 0]), read=16))
    page[0], page[4], page[6] = 0, 0x0A, page[6] | 4
    unit(bytes([0x15, 0x10, 0, 0, len(page), 0]), write=bytes(page))
    lose()
    unit(flush)
    assert told(tur) == 0x73
    # The unit does not stop then; REQUEST SENSE tells of it, too.
    lose()
    unit(stop)
    lio.wait_for(lambda: say(unit(bytes([3, 0, 0, 0, 64, 0]), read=64)) == "3/0c00")
    unit(tur)
    d.good()
    lose()
    unit(flush)
    unit(stop)
    lio.wait_for(lambda: unit.status(tur) == 2)
    unit.refused(tur, "2/0402")


def test_who_may_only_read_stops_nothing():
    writer, reader = "iqn.2024-01.org.example:writer", "iqn.2024-01.org.example:reader"
    store = lio.ramdisk(size=SIZE)
    store.attrib("emulate_sanitize", 1)
    target = lio.IscsiTarget(store, acls=[writer])
    target.acl(reader, write_protect=(0,))
    w, r = (initiator.session(target, name=name) for name in (writer, reader))
    for cdb in ("1b 00 00 00 00 00", "1b 00 00 00 04 00"):
        status, _, answer = r.scsi(bytes.fromhex(cdb))
        assert status == 2 and say(answer.sense) == "7/2700"
        assert w.scsi(bytes(6))[0] == 0
    for cdb in (bytes([4, 0, 0, 0, 0, 0]), sixteen(0x8E, 0, 0, 1), sixteen(0x8B, 0, 0, 1)):
        status, _, answer = r.scsi(cdb, write=b"" if cdb[0] == 4 else bytes(512))
        assert status == 2 and say(answer.sense) == "7/2700"


def test_removable():
    store = lio.ramdisk(size=SIZE)
    store.attrib("removable", 1)
    unit = Unit(store)
    with lio.refused():
        store.attrib("removable", 0)  # while it is exported
    eject, load, tur = bytes.fromhex("1b 00 00 00 02 00"), bytes.fromhex("1b 00 00 00 03 00"), bytes(6)
    prevent, allow = bytes.fromhex("1e 00 00 00 01 00"), bytes.fromhex("1e 00 00 00 00 00")
    assert unit(bytes.fromhex("12 00 00 00 24 00"), read=36)[1] == 0x80
    assert unit.other.scsi(prevent)[0] == 0
    unit.refused(eject, "5/5302")
    unit(tur)
    # A reset allows it again; so does the end of the session.
    assert unit.other.scsi(allow)[0] == 0 and unit.other.scsi(prevent)[0] == 0
    assert unit.c.tmf(initiator.LUN_RESET) == 0
    while unit.status(tur):
        pass
    unit(eject)
    unit.refused(tur, "2/3a00")
    unit.refused(sixteen(0x88, 0, 0, 1), "2/3a00", read=512)
    unit.refused(bytes.fromhex("25" + "00" * 9), "2/3a00", read=8)
    unit(load)
    unit(tur)
    seen = []
    for _ in range(4):
        status, _, answer = unit.other.scsi(tur)
        seen.append(say(answer.sense) if status else None)
    assert "6/2800" in seen and seen[-1] is None, seen
    assert unit.other.scsi(prevent)[0] == 0
    unit.refused(eject, "5/5302")
    unit.other.logout()
    unit.other.close()
    lio.wait_for(lambda: unit.status(eject) == 0)
    unit(load)


def test_no_defects(unit):
    for lists in (0x18, 0x08, 0x13, 0x1C, 0x05, 0x00):
        assert unit(bytes([0x37, 0, lists, 0, 0, 0, 0, 0, 64, 0]), read=64) == bytes([0, lists, 0, 0])
        assert unit(bytes([0xB7, lists]) + bytes(7) + b"\x40\0\0", read=64) == bytes([0, lists]) + bytes(6)
    unit.refused(bytes([0x37, 0, 0x19, 0, 0, 0, 0, 0, 64, 0]), "5/2400", (True, 2, 2), read=64)


def test_sg3_utils(backstore):
    """The tools that speak of blocks, over loopback."""
    for attribute in ("emulate_tpu", "emulate_tpws"):
        backstore.attrib(attribute, 1)
    disk = lio.Loopback(backstore).disk()
    with open("/tmp/blocks.in", "wb") as f:
        f.write(PATTERN)
    run = lio.run
    run("sg_write_verify", "--in=/tmp/blocks.in", "--lba=8", "--num=8", "--ilen=4096", "--bytchk=1", disk)
    run("sg_write_verify", "--16", "--in=/tmp/blocks.in", "--lba=16", "--num=8", "--ilen=4096", "--bytchk=1", disk)
    run("sg_verify", "--lba=8", "--count=16", disk)
    run("sg_verify", "--16", "--lba=16", "--count=8", "--ndo=4096", "--in=/tmp/blocks.in", disk)
    assert run("sg_verify", "--lba=0", "--count=8", "--ndo=4096", "--in=/tmp/blocks.in", disk, check=False).returncode == 14
    run("sg_write_same", "--32", "--in=/tmp/blocks.in", "--xferlen=512", "--lba=32", "--num=8", disk)
    run("sg_write_x", "--or", "--in=/tmp/blocks.in", "--lba=40", "--num=1", "--bs=512", disk)
    with open(disk, "rb") as f:
        assert f.read(41 * 512) == bytes(4096) + PATTERN * 2 + bytes(4096) + PATTERN[:512] * 9
    out = run("sg_get_lba_status", "--16", "--lba=0", disk).stdout
    first = "mapped" if backstore.plugin == "iblock" else "deallocated"
    assert first in out.lower(), out
    run("sg_start", "--stop", disk)
    assert lio.sg_raw(disk, bytes(6))[2] == 2
    run("sg_start", "--start", disk)
    assert lio.sg_raw(disk, bytes(6))[2] == 0
    backstore.attrib("emulate_sanitize", 1)
    run("sg_sanitize", "--overwrite", "--zero", "--quick", "--wait", disk)
    with open(disk, "rb") as f:
        assert f.read(41 * 512) == bytes(41 * 512)
    run("sg_sanitize", "--block", "--quick", "--wait", disk)
    # By itself it asks once a minute how far it is.
    run("sg_format", "--format", "--quick", *([] if backstore.plugin == "rd_mcp" else ["--wait"]), disk)
    run("sg_unmap", "--lba=8", "--num=8", "--force", disk)


def format_unit(immediate):
    """FORMAT UNIT with the short parameter list."""
    return bytes([4, 0x10, 0, 0, 0, 0]), bytes([0, 2 if immediate else 0, 0, 0])


def overwrite(pattern, count=1, immediate=False, invert=False, ause=False):
    """SANITIZE, OVERWRITE."""
    cdb = bytes([0x48, (0x80 if immediate else 0) | (0x20 if ause else 0) | 1, 0, 0, 0, 0, 0]) + be(len(pattern) + 4, 2) + b"\0"
    return cdb, bytes([(0x80 if invert else 0) | count, 0]) + be(len(pattern), 2) + pattern


def fill(unit, places):
    for lba in places:
        unit(sixteen(0x8A, 0, lba, 4), write=b"\x5a" * 4 * unit.block)


def test_format_unit(unit):
    places = (0, 100, SIZE // unit.block - 4)
    unit.refused(bytes([4, 0, 0, 0, 0, 0]), "5/2000")
    unit.store.attrib("emulate_sanitize", 1)
    for cdb, data in ((bytes(6).replace(b"\0", b"\4", 1), b""), format_unit(False), format_unit(True)):
        fill(unit, places)
        unit(cdb, write=data)
        lio.wait_for(lambda: unit.status(bytes(6)) == 0)
        assert all(unit.look(lba, 4) == bytes(4 * unit.block) for lba in places)
    cdb, _ = format_unit(False)
    unit.refused(cdb, "5/2600", (False, 2, None), write=bytes([0, 0, 0, 8]))
    # PROTECTION FIELD USAGE, by its leftmost bit
    unit.refused(cdb, "5/2600", (False, 0, 2), write=bytes([1, 0, 0, 0]))
    unit.refused(bytes([4, 0x80, 0, 0, 0, 0]), "5/2400", (True, 1, 7))


def test_zeroing_of_a_whole_disk_is_aborted():
    """WRITE SAME of all blocks, where storage has to write the zeroes: what was not begun when it is aborted stays as it was."""
    size = 256 * MIB
    below = lio.loop_device(size)
    lio.modprobe("dm_delay")
    with storage.dm("zeroes", f"0 {size // 512} delay {below} 0 0 {below} 0 2000\n") as disk:
        store = lio.iblock(dev=disk)
        for name, value in {"emulate_write_same_all": 1, "max_write_same_len": size // 512}.items():
            store.attrib(name, value)
        unit = Unit(store)
        last = size // 512 - 1
        for lba in 0, last:
            unit(sixteen(0x8A, 0, lba, 1), write=b"\1" * 512)
        itt = unit.c.start(sixteen(0x93, 0, 0, 0), 512, initiator.WRITE, bytes(512))
        lio.wait_for(lambda: any(map(int, lio.read(f"/sys/block/{os.path.basename(disk)}/inflight").split())))
        assert unit.c.tmf(initiator.ABORT_TASK, ref_itt=itt, timeout=60) == 0
        assert unit.look(0, 1) + unit.look(last, 1) == bytes(512) + b"\1" * 512
        # Over the end of a piece, and all of them.
        at = (64 * MIB - 8192) // 512
        unit(sixteen(0x8A, 0, at - 1, 34), write=b"\2" * 34 * 512)
        unit(sixteen(0x93, 0, at, 32), write=bytes(512))
        assert unit.look(at - 1, 34) == b"\2" * 512 + bytes(32 * 512) + b"\2" * 512
        assert unit.c.finish(unit.c.start(sixteen(0x93, 0, 0, 0), 512, initiator.WRITE, bytes(512)), timeout=60)[0] == 0
        assert unit.look(at, 34) + unit.look(last, 1) == bytes(35 * 512)


def sanitizing_for_nobody():
    """A back end that is being overwritten many times, and its target, without a session."""
    store = lio.iblock(size=256 * MIB)
    store.attrib("emulate_sanitize", 1)
    unit = Unit(store)
    cdb, data = overwrite(b"\x11" * 512, count=31, immediate=True)
    unit(cdb, write=data)
    lio.wait_for(lambda: busy(unit.other))
    unit.c.close(), unit.other.close()
    return store, unit.target


def test_blocks_stay_as_large_as_they_are_while_they_are_sanitized():
    """What is at work for a LUN that has gone finds the blocks that it began with."""
    store, target = sanitizing_for_nobody()
    target.delete()
    with lio.refused():
        store.attrib("block_size", 4096)
    assert store.attrib("block_size") == "512"


@pytest.fixture
def sanitized(thin):
    thin.refused(*overwrite(b"x")[:1], "5/2000", write=overwrite(b"x")[1])
    thin.store.attrib("emulate_sanitize", 1)
    return thin


def test_sanitize(sanitized):
    unit, places = sanitized, (0, 100, SIZE // 512 - 4)
    for pattern, options, want in ((b"\xaa" * 512, {}, b"\xaa"), (b"ab", {"count": 3}, b"ab"), (b"\x0f", {"count": 2, "invert": True}, b"\xf0")):
        fill(unit, places)
        cdb, data = overwrite(pattern, **options)
        unit(cdb, write=data)
        assert all(unit.look(lba, 4) == want * (2048 // len(want)) for lba in places)
    # A pattern that does not fit begins anew with each block.
    cdb, data = overwrite(b"abc")
    unit(cdb, write=data)
    assert unit.look(7, 2) == (b"abc" * 171)[:512] * 2
    # BLOCK ERASE
    unit(bytes([0x48, 2]) + bytes(8))
    assert all(unit.look(lba, 4) == bytes(2048) for lba in places)
    b1 = unit(bytes([0x12, 1, 0xB1, 0, 64, 0]), read=64)
    assert b1[7] >> 6 == 1, "WABEREQ"
    # Nothing has failed.
    unit(bytes([0x48, 0x1F]) + bytes(8))
    for cdb, data in (overwrite(b""), overwrite(b"x" * 513)):
        unit.refused(cdb, "5/2400", (True, 7, None), write=data)
    cdb, data = overwrite(b"x", count=0)
    unit.refused(cdb, "5/2600", (False, 0, None), write=data)
    cdb, data = overwrite(b"xxxx")
    unit.refused(cdb, "5/2600", (False, 2, None), write=data[:2] + be(0, 2) + data[4:])
    # There is no key that could be thrown away.
    unit.refused(bytes([0x48, 3]) + bytes(8), "5/2400")
    unit.store.attrib("emulate_sanitize", 0)
    unit.refused(bytes([0x48, 2]) + bytes(8), "5/2000")


def test_while_it_is_sanitized():
    """SANITIZE goes on, whatever becomes of who asked for it; others hear what is going on."""
    store = lio.iblock(size=256 * MIB)
    store.attrib("emulate_sanitize", 1)
    unit = Unit(store)
    cdb, data = overwrite(b"\x11" * 512, count=8)
    itt = unit.c.start(cdb, len(data), initiator.WRITE, data)
    sense = lio.wait_for(lambda: busy(unit.other))
    assert say(sense) == "2/041b"
    progress = int.from_bytes(sense[16:18], "big")
    assert sense[15] & 0x80
    for cdb, read, write in ((sixteen(0x88, 0, 0, 1), 512, b""), (sixteen(0x8A, 0, 0, 1), 0, bytes(512)), (bytes(6), 0, b""),
                             (bytes.fromhex("1b 00 00 00 01 00"), 0, b""), (bytes([0x48, 2]) + bytes(8), 0, b"")):
        status, _, answer = unit.other.scsi(cdb, read, write)
        assert status == 2 and say(answer.sense) in ("2/041b", "5/2400"), answer.sense.hex()
    assert unit.other.scsi(bytes.fromhex("12 00 00 00 24 00"), 36)[0] == 0
    requested = unit.other.scsi(bytes.fromhex("03 00 00 00 12 00"), 18)[1]
    assert say(requested) == "2/041b" and int.from_bytes(requested[16:18], "big") >= progress
    assert unit.c.tmf(initiator.ABORT_TASK, ref_itt=itt, ref_cmd_sn=0, timeout=30) in (0, 1)
    assert busy(unit.other), "the command is aborted, and not what it began"
    unit.c.close()
    assert unit.other.tmf(initiator.LUN_RESET, timeout=30) == 0
    lio.wait_for(lambda: unit.other.scsi(bytes(6))[0] == 0, timeout=120)
    assert unit.look(0, 1) == unit.look(256 * MIB // 512 - 1, 1) == b"\x11" * 512


def test_what_was_admitted_before_comes_before():
    """A write that still waits for its data when SANITIZE begins is not what the medium holds in the end."""
    store = lio.ramdisk(size=SIZE)
    store.attrib("emulate_sanitize", 1)
    unit = Unit(store)
    late = data_of(unit, 64)
    itt = unit.other.start(sixteen(0x8A, 0, 50, 64), len(late), initiator.WRITE)
    r2t = unit.other.receive()
    cdb, data = overwrite(b"\x22" * 512, immediate=True)
    unit(cdb, write=data)
    for _ in range(3):
        assert say(busy(unit.c)) == "2/041b", "it waits"
        time.sleep(0.3)
    unit.other.answer_r2t(r2t, late)
    status, _, answer = unit.other.finish(itt, late)
    assert status == 2 and say(answer.sense) == "2/041b", "it is told that its data is not there"
    lio.wait_for(lambda: unit.status(bytes(6)) == 0)
    assert unit.look(49, 66) == b"\x22" * 66 * 512


def busy(c):
    """The sense that TEST UNIT READY is answered with, if it is NOT READY."""
    status, _, answer = c.scsi(bytes(6))
    return answer.sense if status == 2 and answer.sense[2] & 15 == 2 else None


def test_a_sanitize_that_fails():
    """Storage that cannot be written: the unit stays unusable until EXIT FAILURE MODE, or another one succeeds."""
    lio.modprobe("loop", "dm_mod")
    dev, sectors = lio.loop_device(SIZE), SIZE // 512
    lio.run("dmsetup", "create", "--noudevsync", "wounded", input=f"0 {sectors} linear {dev} 0\n")
    store = lio.iblock(dev="/dev/" + lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", "wounded").stdout.strip())
    store.attrib("emulate_sanitize", 1)
    unit = Unit(store)
    try:
        table(f"0 8192 linear {dev} 0\n8192 {sectors - 8192} error")
        leave = bytes([0x48, 0x1F]) + bytes(8)
        for ause in (True, False):
            cdb, data = overwrite(b"x", ause=ause)
            unit.refused(cdb, "3/3103", write=data)
            unit.refused(bytes(6), "3/3103")
            unit.refused(sixteen(0x88, 0, 0, 1), "3/3103", read=512)
            unit(bytes.fromhex("12 00 00 00 24 00"), read=36)
            if ause:
                unit(leave)
                unit(bytes(6))
        # What failed without AUSE ends with a SANITIZE without it that succeeds, and by nothing else: SBC-4, 5.30.1.
        unit.refused(leave, "5/2400", (True, 1, 4))
        cdb, data = overwrite(b"x", ause=True)
        unit.refused(cdb, "5/2400", (True, 1, 5), write=data)
        unit.refused(bytes([4, 0, 0, 0, 0, 0]), "3/3103")
        table(f"0 {sectors} linear {dev} 0")
        unit.refused(bytes(6), "3/3103")
        cdb, data = overwrite(b"x")
        unit(cdb, write=data)
        assert unit.look(8192, 1) == b"x" * 512
        table(f"0 8192 linear {dev} 0\n8192 {sectors - 8192} error")
        unit.refused(*format_unit(False)[:1], "3/3101", write=format_unit(False)[1])
        table(f"0 {sectors} linear {dev} 0")
        unit.refused(bytes(6), "3/3101")
        unit(bytes([4, 0, 0, 0, 0, 0]))
        unit(bytes(6))
    finally:
        lio.clear()


def table(text):
    storage.reload("wounded", text + "\n")


def test_deleting_what_is_sanitized(klog):
    """The directory goes away at once, and the work ends."""
    sanitizing_for_nobody()
    lio.clear()
    lio.wait_for(lambda: klog.has("SANITIZE failed"), timeout=30)
    lio.wait_for(lambda: lio.module_refs("target_core_iblock") == 0, timeout=30)
