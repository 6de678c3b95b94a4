"""The wounds of test_wounds.py that an administrator opens: what he makes, changes and deletes, and when."""
# vm: --timeout 1200
# group: wounds
import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

import failing
import initiator
import leaks
import lio
import pytest
import sgio
import storage
from initiator import LUN_RESET, R2T, READ, WRITE
from test_wounds import GUARD, READ_4K, TUR, WRITE_64K, at_once, honest, in_time, login, sessions, target  # noqa: F401

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the wounds are the C modules'")


def test_a_module_goes_while_a_link_is_being_made():
    """symlink() in a directory that links nothing, which looks up a path on a disk that does not answer, while the module is unloaded."""
    lio.clear(unload=True)
    lio.modprobe("target_core_mod")
    disk = lio.loop_device(16 << 20)
    lio.run("mkfs.ext4", "-q", disk)
    with storage.dm("lookup", f"0 {(16 << 20) // 512} linear {disk} 0\n") as dev:
        with storage.mounted(dev, "/tmp/lookup"):
            os.makedirs("/tmp/lookup/d/e")
        with storage.mounted(dev, "/tmp/lookup"):
            lio.run("dmsetup", "suspend", "--nolockfs", "--noflush", "lookup")
            where = "/sys/kernel/config/target/core/x"
            child = subprocess.Popen(["python3", "-c", f"import os; os.symlink('/tmp/lookup/d/e', '{where}')"], stderr=subprocess.PIPE, text=True)
            gone = None
            try:
                lio.wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "D", GUARD)
                gone = subprocess.Popen(["rmmod", "target_core_mod"])
                time.sleep(2)
                assert gone.poll() is None, "it is gone, and somebody is in its directory"
            finally:
                lio.run("dmsetup", "resume", "--noudevsync", "lookup")
                said = child.communicate(timeout=GUARD)[1]
                if gone:
                    assert gone.wait(GUARD) == 0
            assert child.returncode == 1 and "Operation not permitted" in said or "No such file" in said, said
    assert "target_core_mod" not in lio.loaded()


def test_long_alua_group_names():
    """CVE-2025-39998: a group's path, longer than its buffer. Expected: a group of any name that there can be takes its LUNs and shows
    them; a name of none is refused, at any length."""
    store = lio.ramdisk()
    port = lio.Loopback(store)
    lun = port.path / "lun/lun_0"
    for number, n in enumerate((1, 63, 64, 65, 127, 128, 254, 255), 1):
        name = "g" * n
        for d, file in ((store.path / "alua", "tg_pt_gp_id"), (lio.CORE / "alua/lu_gps", "lu_gp_id")):
            (d / name).mkdir()
            lio.write(d / name / file, number)
        lio.write(lun / "alua_tg_pt_gp", name)
        lio.write(store.path / "alua_lu_gp", name)
        assert lio.read(lun / "alua_tg_pt_gp").startswith(f"TG Port Alias: {name}\n")
        assert lio.read(store.path / "alua_lu_gp") == f"LU Group Alias: {name}\nLU Group ID: {number}"
        assert lio.read(store.path / "alua" / name / "members").endswith("/lun_0")
        assert lio.read(lio.CORE / "alua/lu_gps" / name / "members") == "rd_mcp_0/rd0"
        for d in (store.path / "alua", lio.CORE / "alua/lu_gps"):
            (d / name).rmdir()
    for n in (1, 64, 255, 256, 511, 512, 1024, 4000, 4094, 4096, 8192):
        for f in (lun / "alua_tg_pt_gp", store.path / "alua_lu_gp"):
            with lio.refused(lio.errno.ENODEV, lio.errno.EFBIG):
                lio.write(f, b"g" * n)
    assert lio.read(lun / "alua_tg_pt_gp").startswith("TG Port Alias: default_tg_pt_gp\n")
    assert lio.read(store.path / "alua_lu_gp").startswith("LU Group Alias: default_lu_gp\n")
    assert port.disk()


@pytest.mark.skipif(not failing.here(), reason="only the debug kernel fails allocations on purpose")
def test_device_allocation_fails():
    """CVE-2024-50153: the back end failed to make a device, and what came then used it. Expected: mkdir gives ENOMEM."""
    lio.modprobe("target_core_mod")
    hba = lio.CORE / "rd_mcp_0"
    hba.mkdir()
    empty = leaks.nodes()
    device = str(hba / "d")
    assert failing.each(lambda: os.mkdir(device), lambda: os.rmdir(device)) > 10
    assert not os.path.exists(device) and leaks.nodes() == empty


ODD = ["{}", "0{}", "00{}", "+{}", "-{}", " {}", "{} ", "{}x", "{}.0", "0x{}", "{}\n"]


def test_numbers_at_and_beyond_the_most():
    """CVE-2011-5327: tpgt_32 of loopback was one beyond its table. Expected: the last number works, the next one and all other
    spellings are refused."""
    store = lio.ramdisk()
    last = lio.Loopback(store, tag=31)
    assert lio.read(last.path / "address").endswith(":0:31")
    with sgio.Disk(last.disk()) as d:
        assert d.scsi(READ_4K, read=4096).status == 0
    huge = [2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 31, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**40]
    target = lio.IscsiTarget(store, tag=65535)
    for parent, prefix, most, beyond in ((last.wwn_path, "tpgt_", 31, [32, 33, 255, 65535]), (target.wwn_path, "tpgt_", 65535, []),
                                         (target.path / "lun", "lun_", 65535, []), (lio.CORE, "rd_mcp_", 2**32 - 1, [])):
        for n in beyond + [n for n in huge if n > most]:
            with lio.refused(lio.errno.EINVAL):
                (parent / f"{prefix}{n}").mkdir()
        for odd in ODD[1:]:
            with lio.refused(lio.errno.EINVAL):
                (parent / (prefix + odd.format(7))).mkdir()
        for n in (1, most - 1):
            (parent / f"{prefix}{n}").mkdir()
            (parent / f"{prefix}{n}").rmdir()
    for n in (255, 256, 16383, 16384, 65535):
        target.lun(store, n)
    with initiator.Connection() as c:
        c.login(target.iqn)
        assert c.keys.get("TargetPortalGroupTag", "65535") == "65535"
        for n, wire in ((255, "00ff"), (256, "4100"), (16383, "7fff"), (16384, "d2004000"), (65535, "d200ffff")):
            for _ in range(4):
                c.send(c.command_pdu(TUR, bytes_8_15=bytes.fromhex(wire).ljust(8, b"\0")))
                a = c.receive()
                if a.status == 0:
                    break
            assert a.status == 0, (n, a)


def test_a_lun_unlinked_under_io():
    """The unlinking raced with commands and freed what they used. Expected: commands are answered, with or without the unit; the
    link goes in bounded time, though data of commands never comes; linked again, the unit serves."""
    store = lio.ramdisk()
    target, port = lio.IscsiTarget(store), lio.Loopback(store)
    stop, moved = threading.Event(), [0, 0, 0]

    def busy(i):
        with login(target, i, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as c:
            while not stop.is_set():
                for _ in range(2):
                    c.start(WRITE_64K, 65536, WRITE)  # for which no data comes
                for _ in range(8):
                    c.start(READ_4K, 4096, READ)
                ended = 0
                while ended < 8:
                    a = c.receive(GUARD)
                    if a.opcode == R2T or a.opcode == initiator.SCSI_RESPONSE and a.status == 0x40:
                        continue
                    assert a.status in (0, 2), a
                    ended, moved[i] = ended + 1, moved[i] + (a.status == 0)
                assert c.tmf(LUN_RESET, timeout=GUARD) in (0, 2)

    def local():
        while not stop.is_set():
            dev = lio.scsi_disk(lio.read(port.path / "address") + ":0")
            with contextlib.suppress(OSError, TypeError), sgio.Disk(dev) as d:
                for _ in range(20):
                    moved[2] += d.scsi(READ_4K, read=4096).status == 0

    def unlink():
        try:
            n = 0
            while n < 12 or not all(moved) and n < 200:
                n += 1
                for t in (target, port):
                    link, = lio.links(t.path / "lun/lun_0")
                    start = time.monotonic()
                    link.unlink()
                    assert time.monotonic() - start < GUARD
                    if n % 2:
                        (t.path / "lun/lun_0").rmdir()
                        t.lun(store)
                    else:
                        link.symlink_to(store.path)
        finally:
            stop.set()

    at_once(lambda: busy(0), lambda: busy(1), local, unlink)
    print(f"{moved} commands")
    assert all(moved)
    honest(target)
    with sgio.Disk(port.disk()) as d:
        # The others' last reset may be told of yet.
        assert d.scsi(READ_4K, read=4096).status == 0 or d.scsi(READ_4K, read=4096).status == 0


def test_80_portals_and_targets_deleted_at_once():
    """Deleting many at once took minutes, or locked up. Expected: 80 targets with a portal, a group and a session each are gone
    within a minute, by 8 processes at once."""
    store, n = lio.ramdisk(), 80
    lio.ISCSI.mkdir(exist_ok=True)
    empty = leaks.nodes()
    with in_time("making them", 5 * GUARD):
        targets = [lio.IscsiTarget(store, iqn=f"iqn.2003-01.org.example:t{i}", portals=(f"127.0.0.1:{4000 + i}",)) for i in range(n)]
    with contextlib.ExitStack() as stack:
        all_ = [stack.enter_context(login(t, i)) for i, t in enumerate(targets)]
        for c in all_[::2]:
            c.start(WRITE_64K, 65536, WRITE)
        with in_time("deleting them", 60 * lio.SLOW):
            at_once(*(lambda k=k: [t.delete() for t in targets[k::8]] for k in range(8)))
        for c in all_:
            while (a := c.receive(GUARD)) is not None:
                assert a.opcode in (R2T, initiator.ASYNC, initiator.SCSI_RESPONSE, initiator.NOP_IN), a  # making them takes long
    lio.wait_for(lambda: leaks.nodes() == empty)
    # All of them can be had again at once.
    again = lio.IscsiTarget(store, iqn=targets[0].iqn, portals=[f"127.0.0.1:{4000 + i}" for i in range(n)])
    honest(again)


def test_disabled_and_enabled_again(target):
    """A group that was disabled and enabled took logins and served no I/O. Expected: it serves whenever it says that it is enabled,
    also after many writers at once."""
    stop, served = threading.Event(), [0, 0]

    def use(i):
        while not stop.is_set():
            with contextlib.suppress(OSError, AssertionError), login(target, i) as c:
                while not stop.is_set() and c.scsi(READ_4K, read=4096)[0] == 0:
                    served[i] += 1

    def switch():
        try:
            for _ in range(20):
                target.enable(False)
                assert sessions(target) == 0
                target.enable()
                honest(target)
        finally:
            stop.set()

    at_once(lambda: use(0), lambda: use(1), switch)
    assert all(served), served

    def write(first):
        for i in range(60):
            target.enable((i + first) % 2)

    for _ in range(3):
        at_once(*(lambda k=k: write(k) for k in range(4)))
        if lio.read(target.path / "enable") == "0":
            target.enable()
        honest(target)
        # The group has its identifier, which it would not have if half of it were disabled.
        with lio.refused(lio.errno.EINVAL):
            lio.write(target.path / "rtpi", 77)
