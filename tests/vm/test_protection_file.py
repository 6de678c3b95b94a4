"""The file in which a back end on a file keeps protection information: NAME.protection, beside the file."""
# group: protection
import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import threading
from pathlib import Path

import lio
import pytest
import storage
from faulty import GOOD, WRITE_ERROR, Device, Remote
from protected import ESCAPE, GUARD, MIB, READ, REFERENCE, SIZE, VERIFY, WRITE, Cdb, Unit, be, mix, pi

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C module for iSCSI has it over RDMA alone")


def test_a_flush_of_another_initiators_write():
    """A write that is to be durable is told of protection information that could not be written, which was others' too: these hear of it by
    their flush."""
    device, disk, path = Device("beside"), lio.loop_device(32 * MIB), "/tmp/file/pi.img"
    for dev in device.path, disk:
        lio.run("mkfs.ext4", "-q", "-O", "^has_journal", dev)
    with storage.mounted(device.path, "/tmp/beside"), storage.mounted(disk, "/tmp/file"):
        with open("/tmp/beside/tuples", "wb"):
            pass
        os.symlink("/tmp/beside/tuples", f"{path}.protection")
        store = lio.fileio(size=SIZE, file=path, buffered=True)
        store.attrib("pi_prot_type", 1)
        target = lio.IscsiTarget(store, acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
        first, second = Remote(target, 1), Remote(target, 2)
        for i in first, second:
            assert i.write(0, bytes(4096)).what == GOOD and i.flush().what == GOOD
        device.become(device.flakey(0, 3600, "error_writes"))
        assert first.write(0, b"x" * 4096).what == GOOD
        # It is written back, which fails; and the next durable write is told.
        with open("/tmp/beside/tuples", "rb") as f, contextlib.suppress(OSError):
            os.fsync(f.fileno())
        assert second.write(8, b"y" * 4096, fua=True).what == WRITE_ERROR
        device.good()
        assert first.flush().what == WRITE_ERROR
        assert first.flush().what == GOOD
        assert second.flush().what in (GOOD, WRITE_ERROR) and second.flush().what == GOOD
        for i in first, second:
            i.close()
        lio.clear()


def sector(path, pos):
    """Where the device below a file system has what is at `pos` of a file."""
    with open(path, "rb") as f:
        (block,) = struct.unpack("i", fcntl.ioctl(f, 1, struct.pack("i", pos // 4096)))  # FIBMAP
    assert block
    return block * 8


@pytest.mark.parametrize("buffered", [False, True], ids=["through", "fua"])
def test_durable_writes_at_the_same_time(buffered):
    """Of two durable writes under way, the one whose protection information could not be written is told, though the other one, which is
    told as well, hears of it first."""
    device, path = Device("both"), "/tmp/both/pi.img"
    # With a journal: without one, who writes an inode waits for all of its file.
    lio.run("mkfs.ext4", "-q", "-b", "4096", device.path)
    with storage.mounted(device.path, "/tmp/both"):
        store = lio.fileio(size=SIZE, file=path, buffered=buffered)
        store.attrib("pi_prot_type", 1)
        target = lio.IscsiTarget(store, acls=[f"iqn.2024-01.org.example:i{n}" for n in (1, 2)])
        first, second = Remote(target, 1), Remote(target, 2)
        lbas = 0, 4096  # of different pages of protection information
        for lba in lbas:
            assert first.write(lba, bytes(4096)).what == GOOD
        assert first.flush().what == GOOD
        for lba, other in (lbas, lbas[::-1]):
            data, bad, below = sector(path, lba * 512), sector(f"{path}.protection", lba * 8), device.below
            # The write's data is kept back, its protection information cannot be written.
            faults = {data: f"{data} 8 delay {below} {data} 0 {below} {data} 60000 {below} {data} 0\n", bad: f"{bad} 8 error\n"}
            low, high = sorted(faults)
            device.become(device.linear(0, low) + faults[low] + device.linear(low + 8, high) + faults[high] + device.linear(high + 8))
            answers = []
            writer = threading.Thread(target=lambda: answers.append(first.write(lba, b"x" * 4096, fua=buffered)))
            writer.start()
            try:
                status = lambda: lio.run("dmsetup", "status", "--target", "delay", device.name).stdout.split()  # noqa: E731
                lio.wait_for(lambda: status()[4] == "1")
                with open(f"{path}.protection", "rb") as f, contextlib.suppress(OSError):
                    os.fsync(f.fileno())
                assert second.write(other, b"y" * 4096, fua=buffered).what == WRITE_ERROR
                assert writer.is_alive()
            finally:
                # A file system that is frozen first would wait for what is kept back.
                device.become(device.linear(), "--nolockfs")
                writer.join(60 * lio.SLOW)
            assert [a.what for a in answers] == [WRITE_ERROR]
            for i in first, second:
                assert i.write(lba, b"z" * 4096, fua=buffered).what == GOOD
                assert i.flush().what in (GOOD, WRITE_ERROR) and i.flush().what == GOOD
        for i in first, second:
            i.close()
        lio.clear()


def test_the_file_beside_the_file():
    """It has eight bytes for each block, in the order of the blocks."""
    path = "/tmp/pi.img"
    beside = f"{path}.protection"
    store = lio.fileio(size=SIZE, file=path)
    unit = Unit(store, 1)
    assert os.path.getsize(beside) == SIZE // 512 * 8 and os.stat(beside).st_mode & 0o777 == 0o600
    data = unit.data(3)
    unit(Cdb.ten(WRITE, 0, 5, 3), write=b"".join(data))
    with open(beside, "r+b") as f:
        assert f.read(9 * 8) == ESCAPE * 5 + b"".join(unit.pi(data, 5)) + ESCAPE
        # A bit of the data, of a guard, of a reference tag.
        for file, at, lba, what in ((path, 5 * 512 + 100, 5, GUARD), (beside, 6 * 8, 6, GUARD), (beside, 7 * 8 + 7, 7, REFERENCE)):
            with open(file, "r+b") as g:
                g.seek(at)
                byte = g.read(1)[0]
                g.seek(at)
                g.write(bytes([byte ^ 4]))
                g.flush()
                unit.refused(Cdb.ten(READ, 0, 5, 3), f"B/{what}", 3 * 512, info=lba)
                unit.refused(Cdb.ten(VERIFY, 0, 5, 3), f"B/{what}", info=lba)
                g.seek(at)
                g.write(bytes([byte]))
        # An application tag may be any.
        f.seek(5 * 8 + 2)
        f.write(b"\x12\x34")
        f.flush()
    assert unit(Cdb.ten(READ, 1, 5, 3), 3 * 520) == mix(data, [pi(data[0], 5, 0x1234)] + unit.pi(data, 5)[1:])
    # It is there the next time, also with the other's types; pi_prot_format makes it new.
    unit.delete()
    unit = Unit(lio.fileio(size=SIZE, file=path), 1)
    assert unit.read(5, 1, 1) == (data[:1], [pi(data[0], 5, 0x1234)])
    unit.delete()
    store = lio.fileio(size=SIZE, file=path)
    store.attrib("pi_prot_type", 3)
    store.attrib("pi_prot_format", 1)
    with open(beside, "rb") as f:
        assert f.read() == ESCAPE * (SIZE // 512)
    unit = Unit(store, 3)
    unit(Cdb.ten(WRITE, 0, 5, 1), write=data[0])
    # SANITIZE and growing.
    store.attrib("emulate_sanitize", 1)
    lio.write(store.path / "control", f"fd_dev_size={SIZE + MIB}")
    unit.c.scsi(bytes(6))
    assert unit.read(SIZE // 512, 1, 1) == ([bytes(512)], [ESCAPE])
    unit(bytes([0x48, 1, 0, 0, 0, 0, 0, 0, 8, 0]), write=be(1, 1) + b"\0" + be(4, 2) + b"\1\2\3\4")
    assert unit.read(5, 1, 1) == ([b"\1\2\3\4" * 128], [ESCAPE])
    unit.delete()
    os.unlink(beside)


@pytest.mark.parametrize("how", ["write", "unmap", "same"])
def test_the_file_beside_a_file_that_grows(how):
    """Of blocks that the disk did not have before, nothing is checked, wherever of them something is written first."""
    path, end = "/tmp/pi.img", 2 * SIZE // 512
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.protection")
    store = lio.fileio(size=SIZE, file=path)
    for name in ("emulate_tpu", "emulate_tpws"):
        store.attrib(name, 1)
    unit = Unit(store, 1)
    lio.write(store.path / "control", f"fd_dev_size={2 * SIZE}")
    unit.c.scsi(bytes(6))
    data = unit.data(2)
    if how == "write":
        unit(Cdb.ten(WRITE, 0, end - 2, 2), write=b"".join(data))
    elif how == "unmap":
        unit(bytes.fromhex("42000000000000001800"), write=be(22, 2) + be(16, 2) + bytes(4) + be(end - 2, 8) + be(2, 4) + bytes(4))
    else:
        unit(bytes([0x93, 9]) + be(end - 2, 8) + be(2, 4) + b"\0\0")  # NDOB, UNMAP
    zero = [bytes(512)] * 2
    for _ in range(2):
        for lba in (SIZE // 512, SIZE // 512 + 100, end - 4):
            assert unit.read(lba, 2, 1) == (zero, [ESCAPE] * 2), lba
        assert unit.read(end - 2, 2, 1) == ((data, unit.pi(data, end - 2)) if how == "write" else (zero, [ESCAPE] * 2))
        unit.delete()
        unit = Unit(lio.fileio(size=2 * SIZE, file=path), 1)
    # Somebody has shortened it: as if nothing had been written there.
    os.truncate(f"{path}.protection", 8)
    unit(Cdb.ten(WRITE, 0, end - 2, 2), write=b"".join(data))
    for lba in (1, end - 4):
        assert unit.read(lba, 2, 1)[1] == [ESCAPE] * 2
    assert unit.read(end - 2, 2, 1) == (data, unit.pi(data, end - 2))
    unit.delete()
    os.unlink(f"{path}.protection")


def test_no_room_to_grow():
    """A disk grows with its protection information, or not at all."""
    with storage.mounted("none", "/tmp/small", "-t", "tmpfs", "-o", f"size={SIZE // 64 + 65536}"):
        store = lio.fileio(size=SIZE, file="/tmp/small/f")
        unit = Unit(store, 1)
        with lio.refused(errno.ENOSPC):
            lio.write(store.path / "control", f"fd_dev_size={4 * SIZE}")
        capacity = bytes.fromhex("9e10") + bytes(8) + be(32, 4) + b"\0\0"
        assert unit(capacity, 32)[:8] == be(SIZE // 512 - 1, 8) and f"Size: {SIZE} " in store.info
        # What it took of the room is there again.
        unit(Cdb.ten(WRITE, 0, SIZE // 512 - 1, 1), write=unit.data(1)[0])
        unit.delete()
        lio.clear()


def test_what_does_not_fit_leaves_room_to_others():
    """By a digit too many the protection information would fill the file system; the files of others go on there."""
    with storage.mounted("none", "/tmp/small", "-t", "tmpfs", "-o", "size=128M"):
        store = lio.fileio(size=SIZE, file="/tmp/small/f")
        unit = Unit(store, 1)
        left, over = [], threading.Event()

        def look():
            while not over.is_set():
                of = os.statvfs("/tmp/small")
                left.append(of.f_bavail * of.f_bsize)

        looks = threading.Thread(target=look)
        looks.start()
        try:
            with lio.refused(errno.ENOSPC):
                lio.write(store.path / "control", f"fd_dev_size={16 << 30}")
        finally:
            over.set()
            looks.join()
        assert min(left) > 8 << 20, f"{min(left)} bytes were left"
        assert f"Size: {SIZE} " in store.info
        unit.delete()
        lio.clear()


def test_what_is_seen_while_it_grows():
    """While protection information waits for its disk, the back end's settings can be looked at."""
    device = Device("grows")
    lio.run("mkfs.ext4", "-q", device.path)
    with storage.mounted(device.path, "/tmp/grows"):
        store = lio.fileio(size=SIZE, file="/tmp/grows/f")
        store.attrib("pi_prot_type", 1)
        grows = threading.Thread(target=lio.write, args=(store.path / "control", f"fd_dev_size={2 * SIZE}"))
        lio.run("dmsetup", "suspend", device.name)
        try:
            grows.start()
            stat = Path(f"/proc/self/task/{grows.native_id}/stat")
            lio.wait_for(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "D")
            looks = subprocess.Popen(["cat", store.path / "info"], stdout=subprocess.PIPE, text=True)
            lio.wait_for(lambda: looks.poll() is not None, 10)
            assert f"Size: {SIZE} " in looks.communicate()[0] and grows.is_alive()
        finally:
            lio.run("dmsetup", "resume", device.name)
            grows.join(60 * lio.SLOW)
        assert f"Size: {2 * SIZE} " in store.info
        lio.clear()
