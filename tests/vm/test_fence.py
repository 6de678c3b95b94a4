"""Fencing by persistent reservations: Debian's fence_scsi, with two nodes that are two initiators over iSCSI."""
import contextlib
import time

import lio
import pytest
import sgio

CONFLICT = 0x18
NODES = ("iqn.2024-01.org.example:one", "iqn.2024-01.org.example:two")
KEYS = ("a1", "b2")


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
