"""fileio: files of every kind, what reaches the disk and when, and what their faults become."""
import ctypes
import errno
import fcntl
import os
import re
import struct
import threading

import lio
import pytest
import storage
from faulty import Device
from storage import MIB, allocated, attach, capacity, dm, fails, flushes, mounted, pattern, pread, pwrite, scsi, unmap, wce, write_same

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")


def backing(dev):
    return lio.run("losetup", "-nO", "BACK-FILE", dev).stdout.strip()


@pytest.fixture
def ext4():
    """A file system on a loop device: (where it is mounted, the device)."""
    dev = lio.loop_device(96 * MIB)
    lio.run("mkfs.ext4", "-q", "-O", "^has_journal", dev)
    with mounted(dev, "/tmp/ext4"):
        yield "/tmp/ext4", dev
        lio.clear()


KINDS = {
    "tmpfs": {},
    "tmpfs-buffered": {"buffered": True},
    "ext4": {},
    "ext4-buffered": {"buffered": True},
    "ext4-async": {"asynchronous": True},
    "bdev": {},
    "bdev-buffered": {"buffered": True},
    "bdev-async": {"asynchronous": True},
}


@pytest.fixture(params=list(KINDS))
def store(request):
    """A fileio object of each kind, 32 MiB."""
    kind = request.param.split("-")[0]
    if kind == "bdev":
        yield lio.fileio(file=lio.loop_device(32 * MIB), **KINDS[request.param])
    elif kind == "ext4":
        mount, _ = request.getfixturevalue("ext4")
        yield lio.fileio(file=f"{mount}/f", **KINDS[request.param])
    else:
        if os.path.exists("/tmp/f0.img"):
            os.unlink("/tmp/f0.img")
        yield lio.fileio(**KINDS[request.param])


def test_data(store):
    """All sizes and alignments come back as they were written, and what was never written is zero."""
    disk = attach(store)
    data = pattern(4 * MIB)
    pwrite(disk, MIB, data)
    assert pread(disk, MIB, len(data)) == data
    assert pread(disk, 0, MIB) == bytes(MIB)
    for pos, size in (0, 512), (512, 4096), (4096 - 512, 1024), (65536 - 512, 65536), (MIB + 1536, 300 * 1024 - 512):
        data = pattern(size, pos)
        pwrite(disk, pos, data)
        assert pread(disk, pos, size) == data, (pos, size)
        lio.run("sync")
        assert pread(disk, pos, size) == data, (pos, size)
    end = 32 * MIB - 4096
    pwrite(disk, end, pattern(4096, 9))
    assert pread(disk, end, 4096) == pattern(4096, 9)


def test_direct_reads_at_once(ext4):
    """ext4 looks at the request after it has handed it to the device, which may be done with it by then: in the debug kernel
    KASAN tells of a request that was freed."""
    mount, _ = ext4
    disk = attach(lio.fileio(file=f"{mount}/f", asynchronous=True))
    pwrite(disk, 0, pattern(4 * MIB))
    job = lio.fio(disk, seconds=3, rw="randread", bs="4k", iodepth=32, size="4m")["jobs"][0]
    assert job["error"] == 0 and job["read"]["total_ios"] > 0


def test_fio(store):
    """Concurrent I/O, verified."""
    disk = attach(store)
    lio.run("fio", "--name=v", f"--filename={disk}", "--direct=1", "--ioengine=libaio", "--iodepth=32", "--rw=randrw",
            "--bsrange=512-256k", "--bs_unaligned=0", "--blockalign=512", "--size=16m", "--verify=crc32c",
            "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0", "--minimal", timeout=180)


def test_info():
    b = lio.fileio()
    assert re.fullmatch(
        r"Status: \S+  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 16384\n"
        r" {8}TCM FILEIO ID: \d+ {8}File: /tmp/f0.img  Size: 33554432  Mode: O_DSYNC Async: 0", b.info), b.info
    b.delete()
    b = lio.fileio(buffered=True, asynchronous=True)
    assert re.search(r"Mode: Buffered-WCE Async: 1$", b.info), b.info
    assert b.attrib("emulate_write_cache") == "1"


def test_control_refused():
    b = lio.Backstore("fileio", "f0", enable=False)
    for text in "fd_dev_size=x", "fd_buffered_io=2", "fd_dev_size=-1":
        with lio.refused(errno.EINVAL):
            lio.write(b.path / "control", text)
    with lio.refused(errno.EINVAL):
        lio.write(b.path / "enable", 1)
    lio.write(b.path / "control", "fd_dev_name=/tmp/without-size\n")
    with lio.refused(errno.EINVAL):
        lio.write(b.path / "enable", 1)
    lio.write(b.path / "control", "fd_dev_name=/tmp,fd_dev_size=1048576,\n")
    with lio.refused(errno.EISDIR, errno.EINVAL):
        lio.write(b.path / "enable", 1)
    lio.write(b.path / "control", "fd_dev_name=/nowhere/f")
    with lio.refused(errno.ENOENT):
        lio.write(b.path / "enable", 1)
    lio.write(b.path / "control", "fd_dev_name=/tmp/made,fd_dev_size=0x100000,\n")
    lio.write(b.path / "enable", 1)
    assert os.stat("/tmp/made").st_mode & 0o777 == 0o600


@ours
def test_control_refused_ours():
    b = lio.Backstore("fileio", "f0", enable=False)
    for text in "nonsense=1", "fd_async_io=no", "fd_dev_name=", "fd_dev_name=" + "x" * 300, "fd_dev_size=100", "fd_dev_size=0xffffffffffffffff":
        with lio.refused(errno.EINVAL, errno.ENAMETOOLONG):
            lio.write(b.path / "control", text)
    lio.write(b.path / "control", "fd_dev_name=/dev/null,fd_dev_size=1048576")
    with lio.refused(errno.EINVAL):
        lio.write(b.path / "enable", 1)


def test_unmap(ext4):
    """UNMAP gives space back, WRITE SAME of zeroes reads as zeroes."""
    mount, _ = ext4
    b = lio.fileio(file=f"{mount}/f", size=16 * MIB)
    b.attrib("emulate_tpu", 1)
    b.attrib("emulate_tpws", 1)
    disk = attach(b)
    pwrite(disk, 0, pattern(8 * MIB))
    before = allocated(f"{mount}/f")
    assert before >= 8 * MIB
    assert unmap(disk, MIB // 512, 4 * MIB // 512)[0] == 0
    assert allocated(f"{mount}/f") <= before - 4 * MIB + 65536
    assert pread(disk, MIB, 4 * MIB) == bytes(4 * MIB)
    assert pread(disk, 0, MIB) == pattern(8 * MIB)[:MIB]
    assert write_same(disk, 5 * MIB // 512, MIB // 512, unmap=not lio.STOCK)[0] == 0
    assert pread(disk, 5 * MIB, MIB) == bytes(MIB)
    lio.run("blkdiscard", "-z", "-o", 6 * MIB, "-l", MIB, disk)
    assert pread(disk, 6 * MIB, MIB) == bytes(MIB)
    assert pread(disk, 7 * MIB, MIB) == pattern(8 * MIB)[7 * MIB:]


@pytest.mark.parametrize("file", ["tmpfs", "bdev"])
def test_write_same(file):
    b = lio.fileio(file=lio.loop_device(32 * MIB) if file == "bdev" else None)
    disk = attach(b)
    pwrite(disk, 0, pattern(MIB))
    for lba, data, want in (0x10, bytes(512), bytes(32 * 512)), (0x40, pattern(512, 7), pattern(512, 7) * 32):
        assert write_same(disk, lba, 32, data)[0] == 0
        at = lba * 512
        assert pread(disk, at, 32 * 512) == want
        assert pread(disk, at + 32 * 512, 512) == pattern(MIB)[at + 32 * 512:at + 33 * 512]


def test_flush_reaches_the_disk(ext4):
    """What is acknowledged as durable has been flushed to the device below: by FUA, by SYNCHRONIZE CACHE, by O_DSYNC."""
    mount, dev = ext4
    buffered = lio.fileio("f0", file=f"{mount}/f0", buffered=True)
    through = lio.fileio("f1", file=f"{mount}/f1", hba=1)
    cached, synced = attach(buffered, through)
    assert wce(cached) and not wce(synced)
    write16 = "8a {:02x} 00 00 00 00 00 00 00 08 00 00 00 08 00 00"

    def flushed(disk, cdb, **kw):
        before = flushes(dev)
        _, status, sense = scsi(disk, cdb, **kw)
        assert status == 0, sense
        return flushes(dev) - before

    def plain():
        """The least of three: the file system's journal is flushed every five seconds, too."""
        return min(flushed(cached, write16.format(0), data=data) for _ in range(3))

    data = pattern(4096)
    assert plain() == 0
    assert flushed(cached, write16.format(8), data=data) >= 1
    assert plain() == 0
    assert flushed(cached, "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00") >= 1
    assert flushed(synced, write16.format(0), data=data) >= 1


@ours
def test_async_is_durable(ext4):
    """fd_async_io without a write cache is durable too."""
    mount, dev = ext4
    b = lio.fileio(file=f"{mount}/f", asynchronous=True)
    disk = attach(b)
    before = flushes(dev)
    pwrite(disk, 0, pattern(65536))
    assert flushes(dev) > before


@ours
def test_write_cache_off(ext4):
    """A buffered file whose write cache is turned off writes through."""
    mount, dev = ext4
    b = lio.fileio(file=f"{mount}/f", buffered=True)
    b.attrib("emulate_write_cache", 0)
    disk = attach(b)
    assert not wce(disk)
    before = flushes(dev)
    pwrite(disk, 0, pattern(4096))
    assert flushes(dev) > before


@ours
def test_reads_with_fua(ext4):
    """What is read with FUA is on the disk."""
    mount, dev = ext4
    disk = attach(lio.fileio(file=f"{mount}/f", buffered=True))
    pwrite(disk, 0, pattern(65536))
    plain = bytes([0x88, 0]) + bytes(8) + (128).to_bytes(4, "big") + bytes(2)

    def flushed(cdb):
        before = flushes(dev)
        data, status, _ = scsi(disk, cdb, read=65536)
        assert status == 0 and data == pattern(65536)
        return flushes(dev) - before

    # The least of three: the file system's journal is flushed every five seconds, too.
    assert min(flushed(plain) for _ in range(3)) == 0
    assert flushed(b"\x88\x08" + plain[2:]) > 0
    # Of no blocks.
    assert scsi(disk, b"\x88\x08" + bytes(14))[1] == 0


@ours
def test_write_cache_turned_off(ext4):
    """What was written before the write cache was turned off is on the disk then: nobody would flush it any more."""
    mount, dev = ext4
    b = lio.fileio(file=f"{mount}/f", buffered=True)
    disk = attach(b)
    pwrite(disk, 0, pattern(MIB))

    def on_again():
        before = flushes(dev)
        b.attrib("emulate_write_cache", 1)
        return flushes(dev) - before

    # The least of three, as above.
    assert min(on_again() for _ in range(3)) == 0
    before = flushes(dev)
    b.attrib("emulate_write_cache", 0)
    assert flushes(dev) > before
    with open(dev, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert pattern(MIB)[:65536] in f.read()


@ours
@pytest.mark.parametrize("asynchronous", [False, True])
def test_write_cache_turned_off_under_a_write(asynchronous):
    """A write that was under way when the write cache was turned off is on the disk when it is answered."""
    slow = Device("lio-slow")
    b = lio.fileio(file=slow.path, buffered=True, asynchronous=asynchronous)
    disk = attach(b)
    # Past the page cache it waits for its write; else for a read: of the rest of its page.
    below, data = slow.below, pattern(512, 11)
    read, write = (0, 600_000) if asynchronous else (600_000, 0)
    slow.become(f"0 {slow.sectors} delay {below} 0 {read} {below} 0 {write} {below} 0 0\n")
    writer = threading.Thread(target=pwrite, args=(disk, 20 * MIB + 512, data))
    writer.start()
    try:
        # Reads, writes and flushes that are kept back.
        lio.wait_for(lambda: lio.run("dmsetup", "status", slow.name).stdout.split()[3 + asynchronous] == "1")
        b.attrib("emulate_write_cache", 0)
        assert writer.is_alive()
        before = flushes(below)
    finally:
        slow.good()
        writer.join(60)
    assert not writer.is_alive() and flushes(below) > before
    with open(backing(below), "rb") as f:
        f.seek(20 * MIB + 512)
        assert f.read(512) == data
    lio.clear()


@ours
def test_behind_the_end_of_a_file():
    """What a file does not have yet is read past the page cache while a write of what it has is on its way."""
    slow = Device("lio-slow")
    lio.run("mkfs.ext4", "-q", "-O", "^has_journal", slow.path)
    with mounted(slow.path, "/tmp/slow"):
        disk = attach(lio.fileio(file="/tmp/slow/f", size=16 * MIB, asynchronous=True))
        pwrite(disk, 0, pattern(MIB))
        os.truncate("/tmp/slow/f", MIB)
        slow.become(f"0 {slow.sectors} delay {slow.below} 0 0 {slow.below} 0 600000 {slow.below} 0 0\n")
        writer = threading.Thread(target=pwrite, args=(disk, 4096, pattern(4096, 5)))
        writer.start()
        try:
            lio.wait_for(lambda: lio.run("dmsetup", "status", slow.name).stdout.split()[4] != "0")
            assert pread(disk, 8 * MIB, 65536) == bytes(65536)
            assert writer.is_alive()
        finally:
            slow.good()
            writer.join(60)
        lio.clear()


@ours
def test_memory_that_is_not_aligned():
    """A write past the page cache from memory that is not aligned for it, beside another one in the same page that is still on its
    way: neither loses the other's data."""
    slow = Device("lio-slow")
    # A loop device says at once what is not aligned; what is goes on, past its page cache, to where it is delayed.
    loop = lio.run("losetup", "-f", "--show", "--direct-io=on", slow.path).stdout.strip()
    disk = attach(lio.fileio(file=loop, asynchronous=True))
    at, one, two = 20 * MIB // 512, pattern(512, 3), pattern(512, 4)
    memory = ctypes.create_string_buffer(512 + 512 + 16)
    odd = (ctypes.c_char * 512).from_buffer(memory, 512 - ctypes.addressof(memory) % 512 + 16)
    odd.raw = two
    slow.become(f"0 {slow.sectors} delay {slow.below} 0 0 {slow.below} 0 600000 {slow.below} 0 0\n")
    held = lambda n: lambda: lio.run("dmsetup", "status", slow.name).stdout.split()[4] == str(n)  # noqa: E731
    threads = [threading.Thread(target=pwrite, args=(disk, at * 512, one)), threading.Thread(target=unaligned, args=(disk, at + 1, odd))]
    try:
        for n, t in enumerate(threads, 1):
            t.start()
            lio.wait_for(held(n))
    finally:
        slow.good()
        for t in threads:
            t.join(60)
    with open(backing(slow.below), "rb") as f:
        f.seek(at * 512)
        assert f.read(1024) == one + two
    # Reads, too.
    odd.raw = bytes(512)
    unaligned(disk, at + 1, odd, read=True)
    assert odd.raw == two
    lio.clear()
    lio.run("losetup", "-d", loop)


@ours
def test_zeroes_that_are_written():
    """WRITE SAME of zeroes on a file system that has to write them, beside a write past the page cache in the same page that is still on
    its way: that is not lost."""
    slow = Device("lio-slow")
    # FAT16 of 8192 sectors of 4 KiB, each a cluster. It knows nothing of what is past the page cache when it writes there.
    boot = struct.pack("<3s8sHBHBHHBHHHII", b"\xeb\x3c\x90", b"LIO-RS  ", 4096, 1, 1, 1, 128, 8192, 0xF8, 5, 1, 1, 0, 0)
    with open(slow.path, "r+b") as f:
        f.write(boot.ljust(510, b"\0") + b"\x55\xaa" + bytes(4096 - 512) + b"\xf8\xff\xff\xff")
    with mounted(slow.path, "/tmp/slow", "-t", "msdos"):
        disk = attach(lio.fileio(file="/tmp/slow/f", size=16 * MIB, buffered=True, asynchronous=True))
        pwrite(disk, 0, pattern(MIB))
        lio.run("sync")
        lio.write("/proc/sys/vm/drop_caches", 3)
        slow.become(f"0 {slow.sectors} delay {slow.below} 0 0 {slow.below} 0 600000 {slow.below} 0 0\n")
        data = pattern(512, 5)
        threads = [threading.Thread(target=pwrite, args=(disk, 512, data)), threading.Thread(target=write_same, args=(disk, 0, 1))]
        try:
            threads[0].start()
            lio.wait_for(lambda: lio.run("dmsetup", "status", slow.name).stdout.split()[4] != "0")
            threads[1].start()
            # It would end now.
            threads[1].join(2 * lio.SLOW)
            assert threads[0].is_alive()
        finally:
            slow.good()
            for t in threads:
                t.join(60)
        lio.run("sync")
        lio.write("/proc/sys/vm/drop_caches", 3)
        assert pread(disk, 0, 4096) == bytes(512) + data + pattern(4096)[1024:]
        lio.clear()


def unaligned(disk, lba, memory, read=False):
    """READ or WRITE of a block, from or into this very memory."""
    cdb = ctypes.create_string_buffer(bytes([0x28 if read else 0x2A, 0]) + lba.to_bytes(4, "big") + bytes([0, 0, 1, 0]), 10)
    sense = ctypes.create_string_buffer(96)
    io = storage._SgIo(interface_id=ord("S"), dxfer_direction=-3 if read else -2, cmd_len=10, mx_sb_len=96, dxfer_len=512,
                       dxferp=ctypes.addressof(memory), cmdp=ctypes.addressof(cdb), sbp=ctypes.addressof(sense), timeout=300000)
    fd = os.open(disk, os.O_RDWR)
    try:
        fcntl.ioctl(fd, 0x2285, io)
    finally:
        os.close(fd)
    assert not io.status and not io.host_status


@ours
@pytest.mark.parametrize("asynchronous", [False, True])
def test_full(asynchronous):
    """A full file system: DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT; what was there is still there."""
    with mounted("none", "/tmp/small", "-t", "tmpfs", "-o", "size=4m"):
        b = lio.fileio(file="/tmp/small/f", size=32 * MIB, asynchronous=asynchronous)
        disk = attach(b)
        pwrite(disk, 0, pattern(2 * MIB))
        got = {fails(disk, True, lba, 2048) for lba in range(4096, 20480, 2048)}
        assert (2, 7, 0x27, 7) in got, got
        assert got <= {(2, 7, 0x27, 7), (0, None, None, None)}
        assert pread(disk, 0, 2 * MIB) == pattern(2 * MIB)
        lio.clear()


def test_shrunk_file():
    """What a file has lost reads as zeroes."""
    b = lio.fileio()
    disk = attach(b)
    pwrite(disk, 0, pattern(4 * MIB))
    os.truncate("/tmp/f0.img", MIB + 1000)
    want = pattern(4 * MIB)[:MIB + 1000] + bytes(3 * MIB - 1000)
    assert pread(disk, 0, 4 * MIB) == want
    pwrite(disk, 3 * MIB, pattern(4096, 5))
    assert pread(disk, 2 * MIB, MIB) == bytes(MIB)
    assert pread(disk, 3 * MIB, 4096) == pattern(4096, 5)


@ours
@pytest.mark.parametrize("mode", ["", "buffered", "asynchronous"])
def test_bad_medium(mode):
    """A block device that fails: MEDIUM ERROR, and good blocks still work."""
    dev = lio.loop_device(32 * MIB)
    with dm("lio-bad", f"0 16384 linear {dev} 0\n16384 16384 error\n32768 32768 linear {dev} 32768\n") as bad:
        b = lio.fileio(file=bad, **({mode: True} if mode else {}))
        disk = attach(b)
        pwrite(disk, 0, pattern(MIB))
        assert pread(disk, 0, MIB) == pattern(MIB)
        assert fails(disk, False, 20000) == (2, 3, 0x11, 0)
        if mode == "buffered":
            # The cache takes it; the flush has to tell.
            assert fails(disk, True, 20000)[0] == 0
            _, status, sense = scsi(disk, "91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00")
            assert (status, sense[0]) == (2, 3)
        else:
            assert fails(disk, True, 20000) == (2, 3, 0x0C, 0)
        assert pread(disk, 20 * MIB, MIB) == bytes(MIB)
        lio.clear()


@ours
def test_read_only():
    """A file on a read-only file system is a write-protected disk."""
    dev = lio.loop_device(32 * MIB)
    lio.run("mkfs.ext4", "-q", dev)
    with mounted(dev, "/tmp/ro"):
        with open("/tmp/ro/f", "wb") as f:
            f.write(pattern(MIB))
    with mounted(dev, "/tmp/ro", "-o", "ro"):
        disk = attach(lio.fileio(file="/tmp/ro/f", size=MIB))
        assert pread(disk, 0, MIB) == pattern(MIB)
        assert fails(disk, True) == (2, 7, 0x27, 0)
        lio.clear()


def test_block_device_resize():
    """The size of a block device is followed."""
    dev = lio.loop_device(16 * MIB)
    disk = attach(lio.fileio(file=dev))
    assert capacity(disk) == (32768, 512)
    backing = lio.run("losetup", "-nO", "BACK-FILE", dev).stdout.strip()
    os.truncate(backing, 24 * MIB)
    lio.run("losetup", "-c", dev)
    assert capacity(disk) == (49152, 512)


def test_file_resize():
    """The size of a file is what control says."""
    b = lio.fileio(size=16 * MIB)
    disk = attach(b)
    assert capacity(disk) == (32768, 512)
    lio.write(b.path / "control", f"fd_dev_size={24 * MIB}")
    assert capacity(disk) == (49152, 512)
    assert "Size: 25165824" in b.info
    if not lio.STOCK:
        with lio.refused(errno.EBUSY):
            lio.write(b.path / "control", "fd_dev_name=/tmp/other")


def test_delete_under_io():
    """A LUN can go while its file is busy; the file is closed then."""
    b = lio.fileio(asynchronous=True, file=lio.loop_device(32 * MIB))
    tpg = lio.Loopback(b)
    disk = tpg.disk()
    stop = threading.Event()

    def busy():
        n = 0
        while not stop.is_set():
            try:
                pwrite(disk, (n % 64) * 65536, pattern(65536))
                pread(disk, (n % 64) * 65536, 65536)
            except (OSError, AssertionError):
                return
            n += 1

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for t in threads:
        t.start()
    tpg.remove_lun()
    stop.set()
    for t in threads:
        t.join(30)
        assert not t.is_alive()
    tpg.delete()
    b.delete()
