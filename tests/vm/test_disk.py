"""A disk works: each back end through each fabric, data verified, formatted and checked."""
# vm: --timeout 1200
import errno
import os

import lio
import pytest
import storage

SIZE = 32 << 20


@pytest.fixture(params=["loopback", "iscsi"])
def disk(request, backstore):
    """A disk on each back end through each fabric."""
    if request.param == "loopback":
        return lio.Loopback(backstore).disk()
    return lio.login(lio.IscsiTarget(backstore))[0]


def test_size_and_data(disk, tmp_path):
    assert lio.blocks(disk) == SIZE
    data = os.urandom(SIZE)
    (tmp_path / "data").write_bytes(data)
    lio.run("dd", f"if={tmp_path}/data", f"of={disk}", "bs=1M", "oflag=direct")
    lio.run("blockdev", "--flushbufs", disk)
    lio.run("cmp", "-n", str(SIZE), f"{tmp_path}/data", disk)


@pytest.mark.parametrize("bs", ["512", "4k", "64k", "1m"])
def test_verified_random_writes(disk, bs):
    lio.fio(disk, rw="randwrite", bs=bs, iodepth=16, verify="crc32c", verify_fatal=1, do_verify=1, size="2m" if bs == "512" else "8m",
            time_based=None, runtime=None, seconds=60)


def test_file_system(disk):
    os.makedirs("/mnt/t", exist_ok=True)
    lio.run("mkfs.ext4", "-q", disk)
    lio.run("mount", disk, "/mnt/t")
    try:
        lio.run("cp", "-r", "/etc", "/mnt/t/")
        lio.run("sync", "-f", "/mnt/t")
    finally:
        lio.run("umount", "/mnt/t")
    lio.run("fsck.ext4", "-f", "-n", disk)
    lio.run("mount", "-o", "ro", disk, "/mnt/t")
    try:
        lio.run("diff", "-r", "--no-dereference", "/etc", "/mnt/t/etc")
    finally:
        lio.run("umount", "/mnt/t")


def test_the_data_outlives_the_session(backstore):
    target = lio.IscsiTarget(backstore)
    disk = lio.login(target)[0]
    lio.run("dd", "if=/dev/urandom", "of=/tmp/data", "bs=1M", "count=4")
    lio.run("dd", "if=/tmp/data", f"of={disk}", "bs=1M", "oflag=direct")
    lio.logout(target)
    disk = lio.login(target)[0]
    lio.run("cmp", "-n", str(4 << 20), "/tmp/data", disk)
    lio.logout(target)
    # Another fabric sees the same.
    lio.run("cmp", "-n", str(4 << 20), "/tmp/data", lio.Loopback(backstore).disk())


@pytest.mark.skipif(lio.STOCK, reason="there a RAM disk's capacity changes, and what it has does not")
def test_ramdisk_resize():
    """rd_pages is the size of an enabled RAM disk, too; what it gets is empty, what is left stays."""
    b = lio.ramdisk(size=8 << 20)
    disk = storage.attach(b)
    lio.run("dd", "if=/dev/urandom", f"of={disk}", "bs=1M", "count=8", "oflag=direct")
    kept = storage.pread(disk, 0, 1 << 20)
    assert storage.capacity(disk) == (16384, 512)
    # The initiator is told: CAPACITY DATA HAS CHANGED (SBC-4 4.10).
    lio.write(b.path / "control", "rd_pages=1024")
    _, status, sense = storage.scsi(disk, "00 00 00 00 00 00")
    assert (status, sense) == (2, (6, 0x2A, 0x09))
    assert storage.capacity(disk) == (8192, 512)
    lio.write(b.path / "control", "rd_pages=4096")
    assert storage.capacity(disk) == (32768, 512)
    assert "PAGES/PAGE_SIZE: 4096*4096" in b.info
    name = disk.removeprefix("/dev/")
    lio.write(f"/sys/block/{name}/device/rescan", "1")
    assert lio.blocks(disk) == 16 << 20
    assert storage.pread(disk, 0, 1 << 20) == kept
    assert not any(storage.pread(disk, 4 << 20, 1 << 20))
    for wrong, error in ("rd_pages=0", errno.EINVAL), ("rd_nullio=1", errno.EBUSY):
        with lio.refused(error):
            lio.write(b.path / "control", wrong)
    assert storage.capacity(disk) == (32768, 512)


def test_several_targets_and_groups():
    """Discovery shows each target and portal group; each group has its own disks."""
    stores = [lio.ramdisk(f"r{n}", size=(n + 1) << 20) for n in range(3)]
    one, two = "iqn.2003-01.org.example:one", "iqn.2003-01.org.example:two"
    targets = [lio.IscsiTarget(stores[0], iqn=one, portals=("127.0.0.1:3260",)),
               lio.IscsiTarget(stores[1], iqn=one, portals=("127.0.0.1:3261",), tag=2),
               lio.IscsiTarget(stores[2], iqn=two, portals=("127.0.0.1:3260", "[::1]:3260"))]
    assert sorted(lio.discover()) == [("127.0.0.1:3260", one), ("127.0.0.1:3260", two), ("127.0.0.1:3261", one),
                                      ("[::1]:3260", two)]
    for n, t in enumerate(targets):
        disk = lio.login(t, t.portals[-1])[0]
        assert lio.blocks(disk) == (n + 1) << 20
        lio.logout(t)
