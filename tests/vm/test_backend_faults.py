"""What each fault of a back end becomes at an initiator, of either fabric: the status, the sense, and that all is well after it."""
# waits
import collections
import contextlib
import ctypes
import errno
import os
import random
import threading
import time
from pathlib import Path

import lio
import pytest
from faulty import (BLOCK, Blocks, GOOD, NO_SPACE, OFFLINE, PROTECTED, READ_ERROR, SYNCHRONIZE_CACHE, WRITE_ERROR, Device, Local,
                    Remote, both, debug, of_disk, rw, scsi_debug)
from initiator import ABORT_TASK, READ
from storage import MIB, attach, capacity, mounted, pattern

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules say COMMUNICATION FAILURE of each")
BAD = 0x4000  # the block at fault, in the middle of the device
MIDDLE = BAD - 1024, 2048  # a large command around it


@pytest.fixture(autouse=True)
def unmount():
    """Whatever a test has mounted goes with it."""
    with contextlib.ExitStack() as stack:
        yield stack
        lio.clear()


def ext4(stack, device, *options, name="f"):
    """A file system on a device: gives a path in it."""
    lio.run("mkfs.ext4", "-q", *options, device.path)
    stack.enter_context(mounted(device.path, f"/tmp/{device.name}"))
    return f"/tmp/{device.name}/{name}"


def same(*answers):
    """All initiators heard the same."""
    assert len({a.what for a in answers}) == 1, answers
    return answers[0].what


# --- bad blocks -----------------------------------------------------------------------------------------------


def forget(path):
    """Takes a block device's clean pages out of the page cache, also those that a processor has yet to put in its lists (which
    drop_caches leaves)."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def test_bad_blocks():
    """One bad block in a large command fails it, with the block's LBA where the command is about that alone; what is around it
    is good, and so is the block once it is repaired."""
    devices = [Device(f"bad{n}") for n in range(4)]
    paths = [d.path for d in devices]
    stores = [lio.iblock("b", paths[0]), lio.fileio("sync", file=paths[1], hba=1),
              lio.fileio("async", file=paths[2], hba=2, asynchronous=True), lio.fileio("cached", file=paths[3], hba=3, buffered=True)]
    for s in stores:
        s.attrib("emulate_tpu", 1)
    initiators = both(*stores)
    block, around = pattern(BLOCK, 7), pattern(MIB, 9)
    for lun, (store, device) in enumerate(zip(stores, devices)):
        cached = store.name == "cached"
        assert initiators[0].write(MIDDLE[0], around, lun).what == GOOD
        assert initiators[0].flush(lun).what == GOOD
        forget(device.path)
        device.become(device.bad(BAD))
        for i in initiators:
            name = f"{store.name} by {type(i).__name__}"
            # What is before the bad block is in the page cache, and could be lent.
            assert i.read(BAD - 1024, 1000, lun).data == around[:1000 * BLOCK], name
            a = i.read(*MIDDLE, lun)
            assert a.what == READ_ERROR and a.information is None, (name, a)
            a = i.read(BAD, 1, lun)
            assert a.what == READ_ERROR and a.information == BAD, (name, a)
            assert i.scsi(rw(0x8F, *MIDDLE), lun=lun).what == READ_ERROR, name  # VERIFY
            assert i.scsi(rw(0x8F, *MIDDLE, 2), write=around, lun=lun).what == READ_ERROR, name  # with BYTCHK
            assert i.scsi(rw(0x89, BAD, 0)[:13] + b"\1" + bytes(2), write=block * 2, lun=lun).what == READ_ERROR, name  # COMPARE AND WRITE
            assert i.read(BAD - 1024, 1000, lun).data == around[:1000 * BLOCK], name
            if not cached:
                assert i.write(MIDDLE[0], around, lun).what == WRITE_ERROR, name
                a = i.write(BAD, block, lun)
                assert a.what == WRITE_ERROR and a.information == BAD, (name, a)
                assert i.scsi(rw(0x93, BAD - 8, 64), write=block, lun=lun).what == WRITE_ERROR, name  # WRITE SAME
                assert i.scsi(rw(0x93, BAD - 8, 64), write=bytes(BLOCK), lun=lun).what == WRITE_ERROR, name
                assert i.scsi(rw(0x93, BAD - 8, 64, 1), lun=lun).what == WRITE_ERROR, name  # NDOB
                assert i.unmap(BAD - 8, 64, lun).what == WRITE_ERROR, name
            # What was said of these blocks is forgotten when they are written again.
            assert i.flush(lun).what == GOOD, name
            assert i.ready(lun).what == GOOD, name
        device.good()
        for i in initiators:
            assert i.write(MIDDLE[0], around, lun).what == GOOD
            assert i.read(*MIDDLE, lun).data == around
    for i in initiators:
        i.close()


def test_flush(unmount):
    """A flush that fails tells of writes that were acknowledged and are lost: each initiator hears it once, also if another one
    was the first to ask, also after it has logged in again; then all is well, with what is written from then on."""
    disk, file, block = Device("disk"), Device("file", 64 * MIB), Device("block")
    path = ext4(unmount, file, "-O", "^has_journal")
    stores = [lio.iblock("b", disk.path), lio.fileio("f", file=path, hba=1, buffered=True),
              lio.fileio("d", file=block.path, hba=2, buffered=True)]
    local = Local(*stores)
    target = lio.IscsiTarget(*stores, acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
    first, second = Remote(target, 1), Remote(target, 2)
    for lun, device in enumerate((disk, file, block)):
        name, old, new = stores[lun].name, pattern(MIB, 3), pattern(MIB, 4)
        for i in local, first, second:
            assert i.write(0, old, lun).what == GOOD
            assert i.flush(lun).what == GOOD, name
        device.become(device.flakey(0, 3600, "error_writes"))
        if device is not disk:
            assert first.write(0, new, lun).what == GOOD, name
        for i in local, first:
            assert i.flush(lun).what == WRITE_ERROR, name
            assert i.write(8192, new[:4096], lun, fua=True).what == WRITE_ERROR, name
        second.close()
        device.good()
        second = Remote(target, 2)
        told = second.flush(lun)
        assert told.what == WRITE_ERROR, (name, told)
        # The others may hear of what failed since they asked; nobody for ever.
        for i in local, first:
            assert i.flush(lun).what in (GOOD, WRITE_ERROR), name
        for i in local, first, second:
            assert i.flush(lun).what == GOOD, name
        assert first.write(0, new, lun).what == GOOD
        assert same(*(i.flush(lun) for i in (first, second, local))) == GOOD
        lio.write("/proc/sys/vm/drop_caches", 3)
        assert local.read(0, 2048, lun).data == new, name
    for i in local, first, second:
        i.close()


def write_back(path):
    """Writes what the page cache has of a block device, and asks for no flush of it."""
    fd = os.open(path, os.O_RDONLY)
    assert not ctypes.CDLL(None).sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 7)
    os.close(fd)


FLUSHED = {
    "iblock": lio.iblock,
    "fileio": lambda name, path, **kw: lio.fileio(name, file=path, buffered=True, **kw),
    "fileio-async": lambda name, path, **kw: lio.fileio(name, file=path, buffered=True, asynchronous=True, **kw),
}


@pytest.mark.parametrize("kind", FLUSHED)
def test_flush_of_another_initiators_write(unmount, kind):
    """A write that is to be durable fails in its flush, by which the storage has told of what it lost of others' data: these hear of it.
    Where the write itself failed, nothing of others is lost."""
    make = FLUSHED[kind]
    disk, bad = Device("beneath"), Device("bad")
    # A loop device keeps what is written in its page cache, and says once what it could not write back.
    loop = lio.run("losetup", "-f", "--show", disk.path).stdout.strip()
    unmount.callback(lio.run, "losetup", "-d", loop)
    unmount.callback(lio.clear)
    target = lio.IscsiTarget(make("b", loop), make("c", bad.path, hba=1), acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
    first, second = Remote(target, 1), Remote(target, 2)
    for i in first, second:
        assert i.write(0, pattern(MIB), 0).what == GOOD and i.flush(0).what == GOOD
    disk.become(disk.flakey(0, 3600, "error_writes"))
    assert first.write(0, pattern(MIB, 2), 0).what == GOOD
    write_back(loop)
    assert second.write(8192, pattern(4096), 0, fua=True).what == WRITE_ERROR
    disk.good()
    for i in first, second:
        assert i.flush(0).what == WRITE_ERROR
        assert i.flush(0).what == GOOD
    bad.become(bad.bad(BAD))
    assert second.write(BAD, pattern(4096), 1, fua=True).what == WRITE_ERROR
    # In the page cache nobody knows any more whose it was.
    if kind != "fileio":
        assert first.flush(1).what == second.flush(1).what == GOOD
    for i in first, second:
        i.close()


class Forgetful:
    """A disk that keeps writes and flushes back, and then says of them that they have failed."""

    def __init__(self):
        self.below, self.disk = Device("beneath"), Device("forgetful")
        self.disk.below = self.below.path
        self.good()

    def good(self):
        self.below.good()
        self.disk.good()

    def keep_back(self):
        path = self.below.path
        self.disk.become(f"0 {self.disk.sectors} delay {path} 0 0 {path} 0 600000 {path} 0 600000\n")

    def kept(self):
        """the disk keeps something back"""
        return sum(int(n) for n in lio.run("dmsetup", "status", self.disk.name).stdout.split()[4:6])

    def fail(self):
        """What it has kept back fails, what comes next does not."""
        self.below.become(self.below.flakey(0, 3600, "error_writes"))
        self.disk.good()
        self.below.good()


SIMPLE, ORDERED = 1, 2
FUA_READ = rw(0x88, 0, 8, 8)


@pytest.mark.parametrize("cdb, attribute, end", [(SYNCHRONIZE_CACHE, SIMPLE, "abort"), (SYNCHRONIZE_CACHE, SIMPLE, "reset"),
                                                 (SYNCHRONIZE_CACHE, ORDERED, "abort"), (FUA_READ, SIMPLE, "abort")],
                         ids=["abort", "reset", "ordered", "fua-read"])
def test_flush_that_is_not_answered(cdb, attribute, end):
    """A flush is aborted, or its session ends, and then it fails: each initiator hears of that once by its next flush, also its own."""
    storage = Forgetful()
    target = lio.IscsiTarget(lio.iblock("b", storage.disk.path), acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
    first, second = Remote(target, 1), Remote(target, 2)
    for i in first, second:
        assert i.write(0, pattern(MIB)).what == GOOD and i.flush().what == GOOD
    storage.keep_back()
    itt = first.c.start(cdb, *((8 * BLOCK, READ) if cdb is FUA_READ else ()), attr=attribute)
    lio.wait_for(storage.kept)
    answers = []
    function = threading.Thread(target=lambda: answers.append(first.c.tmf(ABORT_TASK, ref_itt=itt, timeout=60)))
    if end == "abort":
        function.start()
    else:
        first.c.reset()
    lio.pause(1)
    storage.fail()
    if end == "abort":
        function.join(60 * lio.SLOW)
        assert answers == [0] and not first.c.seen, (answers, first.c.seen)
    else:
        first = Remote(target, 1)
    for i in first, second:
        assert i.flush().what == WRITE_ERROR
        assert i.flush().what == GOOD
        i.close()


def test_flush_of_a_cache_that_is_turned_off():
    """A write cache is turned off, which takes longer than its administrator waits, and then fails: initiators hear of it."""
    storage = Forgetful()
    store = lio.fileio("f", file=storage.disk.path, buffered=True)
    target = lio.IscsiTarget(store, acls=["iqn.2024-01.org.example:i1"])
    i = Remote(target)
    assert i.write(0, pattern(MIB)).what == GOOD and i.flush().what == GOOD
    storage.keep_back()
    assert i.write(0, pattern(MIB, 2)).what == GOOD
    with lio.refused(errno.EIO):
        store.attrib("emulate_write_cache", 0)

    def flushing():
        """somebody flushes a file"""
        for stack in Path("/proc").glob("[0-9]*/stack"):
            with contextlib.suppress(OSError):
                if "fsync" in stack.read_text():
                    return True
        return False

    assert storage.kept() and flushing()
    storage.fail()
    lio.wait_for(lambda: not flushing())
    assert i.flush().what == WRITE_ERROR
    assert i.flush().what == GOOD
    i.close()


@pytest.mark.parametrize("gone", ["acl", "lun"])
def test_flush_in_demo_mode(gone):
    """An initiator of demo mode has its LUN again, which it had not when others heard that data is lost: it hears of that, too; once, and one
    that was never there does not."""
    disk = Device("disk")
    store = lio.fileio("d", file=disk.path, buffered=True)
    target, local = lio.IscsiTarget(store), Local(store)
    i = Remote(target, 1)
    for one in local, i:
        assert one.write(0, pattern(MIB)).what == GOOD and one.flush().what == GOOD
    disk.become(disk.flakey(0, 3600, "error_writes"))
    assert i.write(0, pattern(MIB, 2)).what == GOOD

    def go():
        if gone == "lun":
            return target.remove_lun()
        i.close()
        lio.wait_for(lambda: b"example" not in (target.path / "dynamic_sessions").read_bytes())
        # Without demo mode, what it has made is forgotten.
        target.attrib("generate_node_acls", 0)
        target.attrib("cache_dynamic_acls", 0)

    def come(i):
        if gone == "lun":
            target.lun(store)
            return i
        target.attrib("generate_node_acls", 1)
        return Remote(target, 1)

    go()
    assert local.flush().what == WRITE_ERROR
    disk.good()
    # It comes twice before it asks.
    for _ in range(2):
        i = come(i)
        go()
    i = come(i)
    assert i.flush().what == WRITE_ERROR
    go()
    i = come(i)
    new = Remote(target, 2)
    assert same(*(one.flush() for one in (local, i, new))) == GOOD
    for one in local, i, new:
        one.close()


def test_flush_behind_its_answer():
    """What a flush with IMMED finds out is told, also if the session ends before the command with which that would have been."""
    disk = Device("disk")
    target = lio.IscsiTarget(lio.fileio("d", file=disk.path, buffered=True), acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
    first, second = Remote(target, 1), Remote(target, 2)
    for answer in GOOD, WRITE_ERROR:
        assert first.write(0, pattern(MIB)).what == GOOD and first.flush().what == GOOD
        disk.become(disk.flakey(0, 3600, "error_writes"))
        assert first.write(0, pattern(MIB, 2)).what == GOOD
        assert first.scsi(bytes([0x35, 2]) + bytes(8)).what == GOOD
        # It is over, then.
        lio.wait_for(lambda: second.flush().what == WRITE_ERROR)
        disk.good()
        if answer == GOOD:
            # Told by the next command, and not again.
            lio.wait_for(lambda: first.ready().what == WRITE_ERROR)
        else:
            first.close()
            first = Remote(target, 1)
        assert first.flush().what == answer
        assert same(first.flush(), second.flush()) == GOOD
    for i in first, second:
        i.close()


def test_flush_of_many_initiators():
    """More initiators have come and gone than a device remembers: one of which it does not know hears once of what may have been its own."""
    disk = Device("disk")
    store = lio.fileio("d", file=disk.path, buffered=True)
    target, local = lio.IscsiTarget(store), Local(store)

    def forget():
        lio.wait_for(lambda: b"example" not in (target.path / "dynamic_sessions").read_bytes())
        # Without demo mode, what it has made is forgotten.
        target.attrib("generate_node_acls", 0)
        target.attrib("cache_dynamic_acls", 0)
        target.attrib("generate_node_acls", 1)

    for n in range(260):
        Remote(target, n & 255, f"iqn.2024-01.org.example:n{n}").close()
    forget()
    disk.become(disk.flakey(0, 3600, "error_writes"))
    assert local.write(0, pattern(MIB)).what == GOOD and local.flush().what == WRITE_ERROR
    disk.good()
    # Who cannot write has nothing to lose when it goes.
    target.attrib("demo_mode_write_protect", 1)
    for answer in WRITE_ERROR, GOOD, GOOD:
        i = Remote(target, 1, "iqn.2024-01.org.example:another")
        assert i.flush().what == answer
        i.close()
        forget()
    local.close()


# --- full, read-only ------------------------------------------------------------------------------------------


def test_full(unmount):
    """A thin volume whose pool is full, a file on a full file system: SPACE ALLOCATION FAILED. Room that is made can be used."""
    meta, pool, disk = Device("meta", 4 * MIB), Device("pooldata", 8 * MIB), Device("full", 32 * MIB)
    lio.modprobe("dm_thin_pool")
    lio.run("dmsetup", "create", "--noudevsync", "pool",
            input=f"0 {pool.sectors} thin-pool {meta.path} {pool.path} 128 0 1 error_if_no_space\n")
    node = lambda n: "/dev/" + lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", n).stdout.strip()
    lio.run("dmsetup", "message", "pool", "0", "create_thin 0")
    lio.run("dmsetup", "create", "--noudevsync", "thin", input=f"0 {32 * MIB // 512} thin {node('pool')} 0\n")
    path = ext4(unmount, disk, "-O", "^has_journal")
    # All blocks of the disk's files but a few are taken.
    lio.run("fallocate", "-l", 20 * MIB, f"{path}.other")
    stores = [lio.iblock("b", node("thin")), lio.fileio("sync", file=path, hba=1),
              lio.fileio("async", file=f"{path}2", hba=2, asynchronous=True)]
    for s in stores:
        s.attrib("emulate_tpu", 1)
    for number, i in enumerate(both(*stores)):
        for lun, store in enumerate(stores):
            name, data = f"{store.name} by {type(i).__name__}", pattern(MIB, 5)
            heard = [i.write(lba, data, lun).what for lba in range(0, 24 * 2048, 2048)]
            assert heard[0] == GOOD and NO_SPACE in heard and set(heard) <= {GOOD, NO_SPACE}, (name, heard)
            last = heard.index(NO_SPACE)
            assert heard[-1] == NO_SPACE and i.scsi(rw(0x93, 23 * 2048, 512), write=data[:512], lun=lun).what == NO_SPACE, name
            assert i.read((last - 1) * 2048, 2048, lun).data == data and i.read(0, 2048, lun).data == data, name
            assert i.ready(lun).what == GOOD
            # As much as an UNMAP may be about.
            for lba in range(2048, 24 * 2048, 2048):
                assert i.unmap(lba, 2048, lun).what == GOOD
            # The pool says so only after it has committed what was given back.
            lio.wait_for(lambda: i.write(2048, data, lun).what == GOOD)
            assert i.read(2048, 2048, lun).data == data, name
            for lba in range(0, 3 * 2048, 2048):
                assert i.unmap(lba, 2048, lun).what == GOOD
        i.close()
    lio.clear()


def test_file_system_that_gives_up(unmount):
    """A file system that becomes read-only by an error below it: WRITE PROTECTED. What was written can be read."""
    device = Device("giveup", 64 * MIB)
    path = ext4(unmount, device, "-e", "remount-ro")
    stores = [lio.fileio("sync", file=path), lio.fileio("cached", file=f"{path}2", hba=1, buffered=True)]
    initiators = both(*stores)
    data = pattern(MIB, 6)
    for lun in range(2):
        assert initiators[0].write(0, data, lun).what == GOOD
        assert initiators[0].flush(lun).what == GOOD
    device.become(device.flakey(0, 3600, "error_writes"))
    for lun in range(2):
        # Blocks that the files do not have yet: the journal must be written.
        heard = [initiators[lun].write(lba, data, lun).what for lba in (4096, 8192)] + [initiators[lun].flush(lun).what]
        assert set(heard) <= {GOOD, WRITE_ERROR, PROTECTED} and {WRITE_ERROR, PROTECTED} & set(heard), heard

    def given_up():
        """the file system is read-only"""
        return initiators[0].write(4096, data, 0).what == PROTECTED

    lio.wait_for(given_up, 30)
    device.good()
    for i in initiators:
        for lun in range(2):
            assert i.write(12288, data, lun).what == PROTECTED
            assert i.read(0, 2048, lun).data == data
        i.close()
    lio.clear()


# --- SCSI disks -----------------------------------------------------------------------------------------------


def test_scsi_disk():
    """Medium errors, transport errors and time-outs of a SCSI disk, in bounded time; the disk is as good as before after each."""
    with scsi_debug(dev_size_mb=64, max_luns=2, max_queue=32) as disks:
        stores = [lio.iblock("b", disks[0]), lio.fileio("f", file=disks[1], hba=1, asynchronous=True)]
        local, target = Local(*stores), lio.IscsiTarget(*stores)
        # Who asks for what at the same time.
        ways = [(local, 0), (local, 1), (Remote(target, 1), 0), (Remote(target, 2), 1)]
        data = pattern(65536, 2)
        for d in disks:
            of_disk(d, "timeout", 2)
            of_disk(d, "eh_timeout", 2)

        def each(do, apart=False, **faults):
            for name, value in faults.items():
                debug(name, value)
            heard = []
            threads = [threading.Thread(target=lambda way=way: heard.append(do(*way))) for way in ways]
            for t in threads:
                t.start()
                if apart:
                    t.join()
            for t in threads:
                t.join()
            assert len(heard) == len(ways)
            debug("opts", 0)
            debug("every_nth", 0)
            for d in disks:
                # The kernel takes a disk offline that does not answer to its resets.
                of_disk(d, "state", "running")
            for i, lun in ways:
                assert i.write(0, data, lun).what == GOOD
                assert i.read(0, 128, lun).data == data
            return heard

        for a in each(lambda i, lun: i.read(0x1230, 64, lun), opts=2):
            assert a.what == READ_ERROR and a.information is None, a
        for a in each(lambda i, lun: i.read(0x1234, 1, lun), opts=2):
            assert a.what == READ_ERROR and a.information == 0x1234, a
        # Each command fails in the same way, however often the disk's driver tries again. One at a time: scsi_debug marks one command as
        # to be spoilt (sdeb_inject_pending), and of two at once the other one is not.
        for a in each(lambda i, lun: i.read(64, 8, lun), apart=True, opts=0x10, every_nth=-1):
            assert a.what == READ_ERROR and a.took < 30 * lio.SLOW, a
        # None is answered, until the kernel gives the disk up.
        for a in each(lambda i, lun: i.write(64, data, lun), opts=4, every_nth=-1):
            assert a.what in (WRITE_ERROR, OFFLINE) and 3 < a.took < 40 * lio.SLOW, a
        # Some are not: nobody hears of it. So seldom that no command is one of them each time that it is tried again, within 12 s.
        def worst(i, lun):
            return max((i.write(64, data, lun) for _ in range(30)), key=lambda a: (a.what != GOOD, a.took))

        heard = each(worst, opts=4, every_nth=50)
        assert all(a.what == GOOD for a in heard) and max(a.took for a in heard) > 1, heard
        for i, _ in ways[1:]:
            i.close()


class Busy:
    """Reads and writes on all LUNs of all initiators, until it is told to stop; keeps what they hear."""

    def __init__(self, *initiators, luns=1, blocks=128, end=32 * MIB // BLOCK):
        self.initiators, self.luns, self.blocks, self.end = initiators, range(luns), blocks, end
        self.over, self.heard, self.slowest, self.failures = threading.Event(), set(), 0, []

    def run(self, i, seed):
        r, data = random.Random(seed), pattern(self.blocks * BLOCK, seed)
        try:
            while not self.over.is_set():
                lba, lun = r.randrange(self.end - self.blocks), r.choice(self.luns)
                a = i.write(lba, data, lun) if r.random() < 0.5 else i.read(lba, self.blocks, lun)
                self.heard.add(a.what)
                self.slowest = max(self.slowest, a.took)
        except BaseException as e:
            self.failures.append(e)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.run, args=(i, n)) for n, i in enumerate(self.initiators)]
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for t in self.threads:
            t.join(120 * lio.SLOW)
        assert not any(t.is_alive() for t in self.threads) and not self.failures, self.failures


def test_removed_under_io():
    """A disk that is pulled out under I/O: each command is answered, NOT READY from then on, and all can be taken apart."""
    with scsi_debug(dev_size_mb=64, max_luns=2) as disks:
        stores = [lio.iblock("b", disks[0]), lio.fileio("f", file=disks[1], hba=1),]
        local, target = Local(*stores), lio.IscsiTarget(*stores)
        initiators = [local, *(Remote(target, n) for n in range(1, 4))]
        with Busy(*initiators, luns=2) as busy:
            lio.pause(1)
            lio.wait_for(lambda: busy.failures or GOOD in busy.heard)
            for d in disks:
                of_disk(d, "delete", 1)
            lio.pause(1)
            lio.wait_for(lambda: busy.failures or OFFLINE in busy.heard)
        assert {GOOD, OFFLINE} <= busy.heard <= {GOOD, OFFLINE, READ_ERROR, WRITE_ERROR}, busy.heard
        assert busy.slowest < 20 * lio.SLOW
        for i in initiators:
            for lun in range(2):
                heard = [i.ready(lun), i.read(0, 8, lun), i.write(0, bytes(4096), lun), i.flush(lun),
                         i.scsi(rw(0x93, 0, 8), write=bytes(512), lun=lun)]
                assert same(*heard) == OFFLINE
            i.close()
        lio.clear()


def test_resized_under_io():
    """A disk that grows under I/O: nothing fails, and its initiators hear of it."""
    with scsi_debug(dev_size_mb=64) as (dev,):
        store = lio.iblock("b", dev)
        disk = attach(store)
        target = lio.IscsiTarget(store)
        watching, initiators = Remote(target, 9), [Remote(target, n) for n in range(1, 4)]
        before = capacity(disk)[0]
        with Busy(*initiators) as busy:
            lio.pause(0.5)
            lio.wait_for(lambda: busy.failures or busy.heard)
            debug("virtual_gb", 1)
            of_disk(dev, "rescan", 1)
            lio.wait_for(lambda: capacity(disk)[0] == 1 << 21)
            lio.pause(0.5)
        assert before == 64 * MIB // BLOCK and busy.heard == {GOOD}, busy.heard
        status, sense, _ = watching.once(bytes(6), 0, b"", 0)
        assert status == 2 and sense[2] & 15 == 6 and sense[12:14] == b"\x2a\x09"
        assert watching.read((1 << 21) - 8, 8).what == GOOD
        for i in (watching, *initiators):
            i.close()
        lio.clear()


# --- coming and going -----------------------------------------------------------------------------------------


def test_flakey():
    """A disk that fails for one second of two: each block holds what was acknowledged last, or one of the writes after it that
    failed; and all is well when the disk is."""
    devices = [Device("flakey0"), Device("flakey1")]
    stores = [lio.iblock("b", devices[0].path), lio.fileio("f", file=devices[1].path, hba=1)]
    local, target = Local(*stores), lio.IscsiTarget(*stores)
    initiators = [local, *(Remote(target, n) for n in range(1, 4))]
    for d in devices:
        d.become(d.flakey(1, 1))
    blocks = [Blocks(i, n, 2, {READ_ERROR, WRITE_ERROR}) for n, i in enumerate(initiators)]
    failures, over = [], threading.Event()

    def use(b):
        try:
            while not over.is_set():
                b.step()
            b.check()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=use, args=(b,)) for b in blocks]
    for t in threads:
        t.start()
    time.sleep(6)
    all_kinds = {GOOD, READ_ERROR, WRITE_ERROR}
    lio.wait_for(lambda: failures or all_kinds <= set().union(*(b.heard.copy() for b in blocks)), 60)
    for d in devices:
        d.good()
    over.set()
    for t in threads:
        t.join(60 * lio.SLOW)
    assert not failures and not any(t.is_alive() for t in threads), failures
    heard = sum((b.heard for b in blocks), collections.Counter())
    print(heard)
    assert set(heard) == all_kinds
    for i in initiators:
        i.close()
