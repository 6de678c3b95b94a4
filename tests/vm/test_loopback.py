"""The loopback fabric's own: names and nexus, its SCSI host's resets, devices that come and go under I/O."""
# vm: --timeout 900
import errno
import subprocess
import time

import lio
import pytest

ours = pytest.mark.skipif(lio.STOCK, reason="the C module does this otherwise")


def test_names(klog):
    lio.modprobe("tcm_loop")
    with lio.refused(errno.EINVAL):
        (lio.LOOPBACK / "eui.1").mkdir(parents=True)
    for wwn, good, bad in [("naa.5001405000000001", "naa.5001405000000002", "iqn.2003-01.org.example:i"),
                           ("iqn.2003-01.org.example:t", "iqn.2003-01.org.example:i", "fc.2100000000000001"),
                           ("fc.2100000000000001", "fc.2100000000000002", "naa.5001405000000002")]:
        tpg = lio.Tpg("loopback", wwn)
        with lio.refused(errno.ENODEV):
            lio.read(tpg.path / "nexus")
        with lio.refused(errno.EINVAL):
            lio.write(tpg.path / "nexus", bad)
        lio.write(tpg.path / "nexus", good)
        assert lio.read(tpg.path / "nexus") == good.removeprefix("fc.")
        with lio.refused(errno.EEXIST):
            lio.write(tpg.path / "nexus", good)
        lio.write(tpg.path / "nexus", "NULL")
        with lio.refused(errno.ENODEV):
            lio.write(tpg.path / "nexus", "NULL")


def test_nexus_stays_while_luns_are_linked():
    loop = lio.Loopback(lio.ramdisk())
    loop.disk()
    with lio.refused(errno.EPERM):
        lio.write(loop.path / "nexus", "NULL")


@ours
def test_devices_appear_when_the_nexus_does():
    tpg = lio.Tpg("loopback", "naa.5001405000000001")
    tpg.lun(lio.ramdisk(), 0)
    lio.write(tpg.path / "nexus", "naa.5001405000000002")
    address = lio.read(tpg.path / "address")
    assert lio.wait_for(lambda: lio.scsi_disk(f"{address}:0"))


def test_offline():
    loop = lio.Loopback(lio.ramdisk())
    dev = loop.disk()
    read = ["dd", f"if={dev}", "of=/dev/null", "bs=4k", "count=1", "iflag=direct"]
    lio.write(loop.path / "transport_status", "offline")
    assert lio.read(loop.path / "transport_status") == "offline"
    assert lio.run(*read, check=False).returncode != 0
    lio.write(loop.path / "transport_status", "online")
    lio.run(*read)


def test_resets_under_io():
    loop = lio.Loopback(lio.ramdisk())
    dev = loop.disk()
    job = subprocess.Popen(["fio", "--name=r", f"--filename={dev}", "--direct=1", "--ioengine=libaio", "--rw=randwrite", "--bs=16k",
                            "--iodepth=32", "--size=16m", "--io_size=64m", "--verify=crc32c", "--verify_fatal=1",
                            "--verify_state_save=0", "--minimal"], stdout=subprocess.DEVNULL)
    done = {"-d": 0, "-t": 0}
    for _ in range(20):
        for how in done:
            # One that is done while nobody writes is not counted.
            done[how] += lio.run("sg_reset", how, dev, check=False).returncode == 0 and job.poll() is None
        time.sleep(0.2)
        if job.poll() is not None:
            break
    assert job.wait(timeout=120 * lio.SLOW) == 0
    assert all(done.values()), done


def test_devices_come_and_go_under_io():
    store = lio.ramdisk()
    loop = lio.Loopback(store)
    for _ in range(10):
        dev = loop.disk()
        job = subprocess.Popen(["fio", "--name=r", f"--filename={dev}", "--direct=1", "--ioengine=libaio", "--rw=randrw", "--bs=16k",
                                "--iodepth=32", "--time_based", "--runtime=30", "--minimal", "--allow_file_create=0"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.7)
        for link in lio.links(loop.path / "lun/lun_0"):
            link.unlink()
        assert job.wait(timeout=60 * lio.SLOW) != 0
        (loop.path / "lun/lun_0").rmdir()
        loop.lun(store, 0)
