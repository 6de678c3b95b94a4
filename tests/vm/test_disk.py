"""A disk works: each back end through each fabric, data verified, formatted and checked."""
# vm: --timeout 1200
import os

import lio
import pytest

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
    lio.fio(disk, rw="randwrite", bs=bs, iodepth=16, verify="crc32c", verify_fatal=1, do_verify=1, size="8m",
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
