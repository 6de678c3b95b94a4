"""iblock: the claim, what reaches the device, its limits, and what its faults become."""
import errno
import os
import re
import threading
from pathlib import Path

import initiator
import lio
import pytest
from storage import (MIB, allocated, attach, capacity, dm, fails, flushes, mounted, pattern, pread, pwrite, reload,
                     rescan, scsi, scsi_debug, unmap, wce, write_same)

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")


def backing(dev):
    return lio.run("losetup", "-nO", "BACK-FILE", dev).stdout.strip()


def test_data():
    disk = attach(lio.iblock())
    for pos, size in (0, 512), (512, 4096), (4096 - 512, 1024), (65536 - 512, 65536), (MIB, 4 * MIB), (9 * MIB + 512, 2 * MIB):
        data = pattern(size, pos)
        pwrite(disk, pos, data)
        assert pread(disk, pos, size) == data, (pos, size)
    end = 32 * MIB - 4096
    pwrite(disk, end, pattern(4096, 9))
    assert pread(disk, end, 4096) == pattern(4096, 9)
    assert pread(disk, 16 * MIB, MIB) == bytes(MIB)


def test_fio():
    disk = attach(lio.iblock())
    lio.run("fio", "--name=v", f"--filename={disk}", "--direct=1", "--ioengine=libaio", "--iodepth=32", "--rw=randrw",
            "--bsrange=512-1m", "--blockalign=512", "--size=24m", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0",
            "--minimal", timeout=180)


def test_info():
    dev = lio.loop_device(32 * MIB)
    b = lio.Backstore("iblock", "b0", [f"udev_path={dev},readonly=0"], enable=False)
    assert b.info.splitlines()[-3:] == [f"          UDEV PATH: {dev}  readonly: 0", "  exclusive: 1", "        Major: 0 Minor: 0"]
    lio.write(b.path / "enable", 1)
    n = os.stat(dev).st_rdev & 255
    assert re.fullmatch(
        rf"Status: \S+  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: \d+\n"
        rf" {{8}}iBlock device: loop{n}  UDEV PATH: {dev}  readonly: 0\n  exclusive: 1\n"
        rf" {{8}}Major: 7 Minor: {n}  CLAIMED: IBLOCK", b.info), b.info


def test_claim(tmp_path):
    """The device is kept from file systems and other claims, for as long as the back end is."""
    dev = lio.loop_device(32 * MIB)
    lio.run("mkfs.ext4", "-q", dev)
    b = lio.iblock(dev=dev)
    assert lio.run("mount", dev, tmp_path, check=False).returncode != 0
    second = lio.Backstore("iblock", "b1", f"udev_path={dev}", hba=1, enable=False)
    with lio.refused(errno.EBUSY):
        lio.write(second.path / "enable", 1)
    lio.write(second.path / "control", "exclusive=0")
    lio.write(second.path / "enable", 1)
    second.delete()
    b.delete()
    with mounted(dev, str(tmp_path)):
        b = lio.Backstore("iblock", "b0", f"udev_path={dev}", enable=False)
        with lio.refused(errno.EBUSY):
            lio.write(b.path / "enable", 1)
        b.delete()
    for _ in range(20):
        lio.iblock(dev=dev).delete()


def test_control_refused():
    b = lio.Backstore("iblock", "b0", enable=False)
    with lio.refused(errno.EINVAL):
        lio.write(b.path / "enable", 1)
    for text in [] if lio.STOCK else ["udev_path=", "readonly=x", "exclusive=x", "nonsense=1"]:
        with lio.refused(errno.EINVAL):
            lio.write(b.path / "control", text)
    for path, error in ("/dev/nothing", errno.ENOENT), ("/tmp", errno.ENOTBLK), ("/dev/null", errno.ENOTBLK):
        lio.write(b.path / "control", f"udev_path={path},force=0,\n")
        with lio.refused(error):
            lio.write(b.path / "enable", 1)


def test_readonly():
    dev = lio.loop_device(32 * MIB)
    pwrite(dev, 0, pattern(MIB))
    b = lio.iblock(dev=dev, readonly=True)
    assert "readonly: 1" in b.info
    disk = attach(b)
    assert pread(disk, 0, MIB) == pattern(MIB)
    assert fails(disk, True) == (2, 7, 0x27, 0)
    assert lio.read(f"/sys/block/{os.path.basename(disk)}/ro") == "1"


def test_read_only_device():
    """A device that can't be written needs readonly=1."""
    dev = lio.loop_device(32 * MIB)
    lio.run("blockdev", "--setro", dev)
    b = lio.Backstore("iblock", "b0", f"udev_path={dev}", enable=False)
    with lio.refused(errno.EACCES):
        lio.write(b.path / "enable", 1)
    lio.write(b.path / "control", "readonly=1")
    lio.write(b.path / "enable", 1)
    b.delete()
    lio.run("blockdev", "--setrw", dev)


def test_discard():
    dev = lio.loop_device(16 * MIB)
    b = lio.iblock(dev=dev)
    b.attrib("emulate_tpu", 1)
    b.attrib("emulate_tpws", 1)
    disk = attach(b)
    data = pattern(8 * MIB)
    pwrite(disk, 0, data)
    before = allocated(backing(dev))
    assert unmap(disk, MIB // 512, 4 * MIB // 512)[0] == 0
    assert allocated(backing(dev)) <= before - 4 * MIB
    assert write_same(disk, 5 * MIB // 512, MIB // 512, unmap=True)[0] == 0
    assert allocated(backing(dev)) <= before - 5 * MIB
    assert pread(disk, MIB, 5 * MIB) == bytes(5 * MIB)
    assert pread(disk, 0, MIB) == data[:MIB]
    lio.run("blkdiscard", "-z", "-o", 6 * MIB, "-l", MIB, disk)
    assert pread(disk, 6 * MIB, MIB) == bytes(MIB)
    assert pread(disk, 7 * MIB, MIB) == data[7 * MIB:]


def test_write_same_on_a_device_without():
    """Zeroes are written where the device has no command for them."""
    lio.modprobe("brd")
    disk = attach(lio.iblock(dev="/dev/ram0"))
    pwrite(disk, 0, pattern(MIB))
    for lba, data, want in (0x10, bytes(512), bytes(32 * 512)), (0x40, pattern(512, 7), pattern(512, 7) * 32):
        assert write_same(disk, lba, 32, data)[0] == 0
        assert pread(disk, lba * 512, 32 * 512) == want
        assert pread(disk, (lba + 32) * 512, 512) == pattern(MIB)[(lba + 32) * 512:][:512]


@ours
def test_flush_reaches_the_device():
    """FUA and SYNCHRONIZE CACHE flush the device below, whose write cache is reported."""
    dev = lio.loop_device(32 * MIB)
    disk = attach(lio.iblock(dev=dev))
    assert lio.read(f"/sys/block/{os.path.basename(dev)}/queue/write_cache") == "write back"
    assert wce(disk)
    write16 = "8a {:02x} 00 00 00 00 00 00 00 08 00 00 00 08 00 00"

    def flushed(cdb, **kw):
        before = flushes(dev)
        _, status, sense = scsi(disk, cdb, **kw)
        assert status == 0, sense
        return flushes(dev) - before

    assert flushed(write16.format(0), data=pattern(4096)) == 0
    assert flushed(write16.format(8), data=pattern(4096)) >= 1
    assert flushed("91 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00") >= 1
    assert flushed("35 00 00 00 00 00 00 00 00 00") >= 1


def test_limits():
    """4096-byte blocks, discard granularity, alignment: as the device below has them."""
    with scsi_debug(sector_size=4096, dev_size_mb=64, lbpu=1, lbpws=1, unmap_granularity=4, unmap_alignment=0) as dev:
        b = lio.iblock(dev=dev)
        q = Path(f"/sys/block/{os.path.basename(dev)}/queue")
        assert b.attrib("block_size") == b.attrib("hw_block_size") == "4096"
        assert int(b.attrib("hw_max_sectors")) == int(lio.read(q / "max_hw_sectors_kb")) // 4
        assert int(b.attrib("unmap_granularity")) == int(lio.read(q / "discard_granularity")) // 4096
        assert b.attrib("is_nonrot") == str(1 - int(lio.read(q / "rotational")))
        disk = attach(b)
        assert capacity(disk) == (16384, 4096)
        pwrite(disk, 8192, pattern(MIB))
        assert pread(disk, 8192, MIB) == pattern(MIB)
        lio.clear()


def test_what_transfers_are_best():
    """Minimum and optimal I/O sizes and physical blocks are those of the device below, in blocks of either size."""
    def queue(dev, what):
        return int(lio.read(f"/sys/block/{os.path.basename(dev)}/queue/{what}"))

    with scsi_debug(dev_size_mb=64, physblk_exp=3, opt_xferlen_exp=6) as dev:
        disk = attach(lio.iblock(dev=dev))
        for what in "minimum_io_size", "optimal_io_size", "physical_block_size":
            assert queue(disk, what) == queue(dev, what), what
        lio.clear()
        if not lio.STOCK:  # they count its physical blocks in blocks of another size
            b = lio.iblock(dev=dev)
            b.attrib("block_size", 4096)
            disk = attach(b)
            assert queue(disk, "logical_block_size") == queue(disk, "physical_block_size") == 4096
            lio.clear()


def test_transfers_that_are_longer_than_the_storage_takes():
    """As Windows and ESXi send them: the block layer splits them."""
    b = lio.iblock()
    count = 7 * MIB // 512
    assert int(b.attrib("hw_max_sectors")) < count
    data = pattern(7 * MIB)
    with initiator.session(lio.IscsiTarget(b)) as c:
        assert c.scsi(bytes.fromhex(f"8a000000000000000000{count:08x}0000"), write=data)[0] == 0
        status, got, _ = c.scsi(bytes.fromhex(f"88000000000000000000{count:08x}0000"), read=len(data))
        assert status == 0 and got == data


@ours
def test_unmapped_blocks_that_are_made_zeroes():
    """UNMAP of more than is made zeroes at once."""
    b = lio.iblock(dev=lio.loop_device(192 * MIB))
    b.attrib("emulate_tpu", 1)
    b.attrib("max_unmap_lba_count", 192 * MIB // 512)
    b.attrib("unmap_zeroes_data", 1)
    disk = attach(b)
    end = 150 * MIB
    for pos in 0, 64 * MIB - 4096, 64 * MIB, 128 * MIB, end - 4096, end:
        pwrite(disk, pos, pattern(4096, pos))
    _, status, sense = scsi(disk, "42 00 00 00 00 00 00 00 18 00", data=bytes.fromhex(f"0016001000000000{0:016x}{end // 512:08x}00000000"))
    assert status == 0, sense
    assert pread(disk, 0, 4096) == pread(disk, 64 * MIB, 4096) == pread(disk, 128 * MIB, 4096) == bytes(4096)
    assert pread(disk, 64 * MIB - 4096, 4096) == pread(disk, end - 4096, 4096) == bytes(4096)
    assert pread(disk, end, 4096) == pattern(4096, end)


@ours
def test_bad_medium():
    dev = lio.loop_device(32 * MIB)
    with dm("lio-bad", f"0 16384 linear {dev} 0\n16384 16384 error\n32768 32768 linear {dev} 32768\n") as bad:
        disk = attach(lio.iblock(dev=bad))
        pwrite(disk, 0, pattern(MIB))
        assert fails(disk, False, 20000) == (2, 3, 0x11, 0)
        assert fails(disk, True, 20000) == (2, 3, 0x0C, 0)
        # Half good, half bad.
        assert fails(disk, False, 16380, 8) == (2, 3, 0x11, 0)
        assert pread(disk, 0, MIB) == pattern(MIB)
        assert pread(disk, 20 * MIB, MIB) == bytes(MIB)
        reload("lio-bad", f"0 65536 linear {dev} 0\n")
        assert fails(disk, False, 20000)[0] == 0
        lio.clear()


@ours
def test_scsi_debug_errors():
    """An unrecovered read error of a real SCSI disk stays one."""
    with scsi_debug(dev_size_mb=64, opts=2, max_queue=32) as dev:
        disk = attach(lio.iblock(dev=dev))
        assert fails(disk, False, 0x1234, 8) == (2, 3, 0x11, 0)
        assert fails(disk, False, 0x2000, 8)[0] == 0
        lio.clear()


@ours
def test_device_gone():
    """A device that was pulled out: NOT READY, and everything can still be taken apart."""
    with scsi_debug(dev_size_mb=64) as dev:
        disk = attach(lio.iblock(dev=dev))
        assert fails(disk, False)[0] == 0
        lio.write(f"/sys/block/{os.path.basename(dev)}/device/delete", 1)
        for write in False, True:
            status, key, *_ = fails(disk, write)
            assert (status, key) == (2, 2), (status, key)
        lio.clear()


@ours
def test_reserved_device():
    """A disk that somebody else has reserved: RESERVATION CONFLICT, as the disk itself says."""
    below = lio.ramdisk(size=8 * MIB)
    disk = lio.Loopback(below).disk()
    owner = initiator.session(lio.IscsiTarget(below))

    def reserve(action, kind, key, new):
        cdb = bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0])
        status, _, answer = owner.scsi(cdb, write=key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(8))
        assert status == 0, answer.sense.hex()

    unit = initiator.session(lio.IscsiTarget(lio.iblock(dev=disk), iqn="iqn.2003-01.org.example:above", portals=("127.0.0.1:3261",)))
    read, write = bytes.fromhex("28000000000000000800"), bytes.fromhex("2a000000000000000800")
    same, data = bytes.fromhex("41000000000000000800"), pattern(4096)
    heard = lambda: [unit.scsi(read, 4096)[0], unit.scsi(write, 0, data)[0], unit.scsi(same, 0, bytes(512))[0]]
    assert heard() == [0] * 3
    reserve(0, 0, 0, 1)
    reserve(1, 3, 1, 0)  # Exclusive Access
    assert heard() == [0x18] * 3
    reserve(3, 0, 1, 0)
    lio.wait_for(lambda: unit.scsi(read, 4096)[0] == 0)  # the disk is told of that
    assert heard() == [0] * 3
    unit.close()
    owner.close()


def test_resize():
    dev = lio.loop_device(16 * MIB)
    disk = attach(lio.iblock(dev=dev))
    assert capacity(disk) == (32768, 512)
    os.truncate(backing(dev), 24 * MIB)
    lio.run("losetup", "-c", dev)
    assert capacity(disk) == (49152, 512)
    rescan(disk)
    pwrite(disk, 23 * MIB, pattern(MIB))
    assert pread(disk, 23 * MIB, MIB) == pattern(MIB)


@ours
def test_shrunk_device():
    """What the device has lost is out of range."""
    dev = lio.loop_device(16 * MIB)
    disk = attach(lio.iblock(dev=dev))
    os.truncate(backing(dev), 8 * MIB)
    lio.run("losetup", "-c", dev)
    assert fails(disk, False, 20000) == (2, 5, 0x21, 0)
    assert capacity(disk) == (16384, 512)


def test_write_cache_attribute():
    """User space restores a 0; a write cache that the device doesn't have can't be turned on."""
    b = lio.iblock()
    b.attrib("emulate_write_cache", 0)
    lio.modprobe("brd")
    b = lio.iblock("b1", dev="/dev/ram0", hba=1)
    with lio.refused(errno.EINVAL):
        b.attrib("emulate_write_cache", 1)


def test_delete_under_io():
    b = lio.iblock()
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
