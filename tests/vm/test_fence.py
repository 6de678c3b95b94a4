"""Fencing by persistent reservations: Debian's fence_scsi and fence_mpath, with two nodes that are two initiators over iSCSI."""
import contextlib
import struct
import subprocess
import time
from pathlib import Path

import initiator
import lio
import pytest
import sgio

CONFLICT = 0x18
NODES = ("iqn.2024-01.org.example:one", "iqn.2024-01.org.example:two")
KEYS = ("a1", "b2")
PREEMPT_AND_ABORT, IGNORE = 5, 6


@pytest.fixture
def disks():
    """The same disk as each node sees it."""
    back = lio.ramdisk()
    lio.start_iscsid()
    with contextlib.ExitStack() as stack:
        seen = []
        for n, name in enumerate(NODES):
            target = lio.IscsiTarget(back, iqn=f"iqn.2003-01.org.example:f{n}", acls=(name,), portals=(f"127.0.0.1:{3260 + n}",))
            face = ("iscsiadm", "-m", "iface", "-I", f"node{n}")
            lio.run(*face, "-o", "new")
            stack.callback(lio.run, *face, "-o", "delete", check=False)
            lio.run(*face, "-o", "update", "-n", "iface.initiatorname", "-v", name)
            node = ("iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portals[0])
            lio.run(*node, "-I", f"node{n}", "-o", "new")
            lio.run(*node, "--login", timeout=90)
            stack.callback(lio.logout, target)
            seen.append(lio.iscsi_disks(target)[0])
        yield seen


def fence(action, key, disk):
    lio.run("fence_scsi", f"--action={action}", f"--key={key}", f"--devices={disk}")


def write(path):
    """The status of a write, after all unit attentions."""
    end = time.monotonic() + 10 * lio.SLOW
    with sgio.Disk(path) as disk:
        while time.monotonic() < end:
            r = disk.scsi("2a000000000000000100", write=bytes(512))
            if r.status != 2:
                return r.status
            assert sgio.say(r.sense).startswith("6/"), sgio.say(r.sense)
    raise AssertionError("unit attentions without end")


def test_fence_scsi(disks):
    # The last one that joins is the node on which the agent runs.
    for n in (1, 0):
        fence("on", KEYS[n], disks[n])
    assert [write(d) for d in disks] == [0, 0]
    # Once the holder of the reservation is fenced, then, the other way round, its successor.
    for by, other in ((0, 1), (1, 0)):
        fence("off", KEYS[other], disks[by])
        assert write(disks[other]) == CONFLICT
        assert write(disks[by]) == 0
        # The agent has sg_turs take unit attentions, which Debian's sends no command for; a node that restarts has none.
        with sgio.Disk(disks[other]) as disk:
            r = disk.scsi(bytes(6))
            assert (r.status, sgio.say(r.sense)) == (2, "6/2a05") and disk.scsi(bytes(6)).status == 0
        fence("on", KEYS[other], disks[other])
        assert [write(d) for d in disks] == [0, 0]


CONF = """defaults {
	user_friendly_names no
	find_multipaths no
	polling_interval 1
	reservation_key 0xa1
}
overrides {
	no_path_retry fail
}
blacklist {
	devnode "^(loop|ram|dm-|vd|sr|fd|nbd)"
}
"""
STATIC = (b"\x80\0\0\0\7\1", b"\x80\0\0\0\7\2")


@contextlib.contextmanager
def multipathd():
    """Debian's multipathd, and the udevd that it listens to."""
    lio.modprobe("dm_multipath", "dm_service_time", "scsi_dh_alua")
    conf = Path("/etc/multipath.conf")
    conf.write_text(CONF)
    lio.run("/usr/lib/systemd/systemd-udevd", "--daemon")
    daemon = None
    try:
        daemon = subprocess.Popen(["multipathd", "-d", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield
    finally:
        lio.logout()
        if daemon:
            daemon.terminate()
            daemon.wait(30)
        lio.run("multipath", "-F", check=False)
        lio.run("udevadm", "control", "--exit", check=False)
        conf.unlink()


def test_fence_mpath():
    """fence_mpath on a node with two paths under multipathd; the other node is two plain sessions, one through each portal."""
    targets = [lio.IscsiTarget(back, iqn=f"iqn.2003-01.org.example:m{n}", portals=(f"127.0.0.1:{3260 + n}",))
               for back in [lio.ramdisk(serial="11111111-2222-3333-4444-555555555555")] for n in range(2)]
    with multipathd(), contextlib.ExitStack() as stack:
        for target in targets:
            lio.login(target)
        disk = lio.wait_for(lambda: [p for p in Path("/dev/mapper").glob("36001405*")], 60)[0]

        def paths():
            """Both paths are in the map."""
            return len(lio.run("dmsetup", "deps", "-o", "devname", disk).stdout.split("(")) == 3

        lio.wait_for(paths, 60)
        other = [stack.enter_context(initiator.session(target, name=NODES[1], isid=isid)) for target, isid in zip(targets, STATIC)]

        def agent(action, key):
            return lio.run("fence_mpath", f"--action={action}", f"--key={key}", f"--devices={disk}", check=False).returncode

        def may():
            """Whether this node may write, and the other through each of its paths."""
            mine = lio.run("dd", "if=/dev/zero", f"of={disk}", "bs=4k", "count=1", "oflag=direct", check=False).returncode == 0
            return [mine] + [status_of(c) == 0 for c in other]

        assert may() == [True, True, True]
        # Both nodes join; this one takes the reservation.
        for c in other:
            assert pr_out(c, IGNORE, 0, 0xB2) == 0
        assert agent("on", "a1") == 0 and agent("status", "a1") == 0
        assert may() == [True, True, True]
        assert keys(other[0]) == [0xA1, 0xA1, 0xB2, 0xB2], "a registration of each path"
        # The other is fenced, on both of its paths, and let in again.
        assert agent("off", "b2") == 0 and may() == [True, False, False] and keys(other[0]) == [0xA1, 0xA1]
        for c in other:
            assert pr_out(c, IGNORE, 0, 0xB2) == 0
        assert may() == [True, True, True]
        # The other way round: this node holds the reservation, is fenced, and comes back.
        assert pr_out(other[0], PREEMPT_AND_ABORT, 0xB2, 0xA1, kind=5) == 0
        assert may() == [False, True, True] and agent("status", "a1") == 2
        assert agent("on", "a1") == 0 and may() == [True, True, True]


def pr_out(c, action, key, new, kind=0):
    """The status of a PERSISTENT RESERVE OUT, after all unit attentions."""
    return status_of(c, struct.pack(">BBBxxIx", 0x5F, action, kind, 24), struct.pack(">QQ8x", key, new))


def status_of(c, cdb=bytes.fromhex("2a000000000000000100"), data=bytes(512)):
    while (got := c.scsi(cdb, write=data))[0] == 2:
        assert sgio.say(got[2].sense).startswith("6/"), sgio.say(got[2].sense)
    return got[0]


def keys(c):
    status_of(c, bytes(6), b"")
    data = c.scsi(bytes.fromhex("5e000000000000010000"), read=256)[1]
    return sorted(int.from_bytes(data[at : at + 8], "big") for at in range(8, len(data), 8))
