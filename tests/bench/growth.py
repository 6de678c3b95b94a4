"""How what the target costs grows with what there is: LUNs, sessions, processors. How it grows with depth is a matter of rows.py."""
import contextlib
import os
import resource
from pathlib import Path

import machine
from machine import lio
from rows import ISCSI, LOOPBACK, READ, Row

IO = "ns per I/O"


def upto(n, step):
    """1, and each power of `step` until n, which is the last."""
    out = [1]
    while out[-1] < n:
        out.append(min(out[-1] * step, n))
    return out


def cost(disk, setup, share, depth=32, jobs=2):
    """ns per I/O of small reads."""
    row = Row(setup, "4k", READ, depth, jobs)
    iops, _ = machine.fio([disk], [row], share)[row.name]
    return 1e9 / iops


@contextlib.contextmanager
def last_lun(target, number):
    """The disk of one LUN of many that a session has; the initiator is not told of the others."""
    lio.start_iscsid()
    node = ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portals[0]]
    lio.run(*node, "-o", "new")
    lio.run(*node, "-o", "update", "-n", "node.session.scan", "-v", "manual")
    lio.run(*node, "--login", timeout=90)
    host = lio.wait_for(lambda: lio.session_host(target.iqn))
    lio.write(f"/sys/class/scsi_host/host{host}/scan", f"0 0 {number}")
    yield lio.wait_for(lambda: lio.scsi_disk(f"{host}:0:0:{number}"))
    lio.logout(target)


def luns(counts, share):
    """What a command costs to the last of n LUNs that the session has."""
    t = lio.IscsiTarget(lio.ramdisk("grows", machine.SIZE))
    lio.write(t.path / "attrib/generate_node_acls", 0)
    store = (t.path / "lun/lun_0" / os.readlink(t.path / "lun/lun_0/store")).resolve()
    acl = t.path / "acls" / lio.initiator_name()
    acl.mkdir()
    there = 0
    for n in counts:
        for i in range(there, n):
            lun, mapped = t.path / f"lun/lun_{i}", acl / f"lun_{i}"
            if i:
                lun.mkdir()
                (lun / "store").symlink_to(store)
            mapped.mkdir()
            (mapped / "lun").symlink_to(lun)
        there = n
        with last_lun(t, n - 1) as disk:
            machine.fill(disk)
            yield "LUNs", n, IO, cost(disk, ISCSI, share)
    machine.clear()


def sessions(counts, share):
    """What a command costs where n sessions are there, all but its own idle."""
    import long_logins
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    t = lio.IscsiTarget(lio.ramdisk("grows", machine.SIZE))
    lio.write(t.path / "attrib/login_timeout", 30)
    idle = []
    for n in counts:
        while len(idle) < n - 1:
            idle.append(long_logins.Fast(t.iqn, f"iqn.2024-01.org.example:g{len(idle)}"))
        disk = lio.login(t)[0]
        if n == 1:
            machine.fill(disk)
        yield "sessions", n, IO, cost(disk, ISCSI, share)
        lio.logout(t)
        for c in idle:
            c.pump()
    for c in idle:
        c.logout()
        c.close()
    lio.wait_for(lambda: long_logins.gone(t), 60)
    machine.clear()


def processors(share):
    """The same work on some of the machine's processors."""
    cpus = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*"), key=lambda p: int(p.name[3:]))
    disk = lio.Loopback(lio.ramdisk("grows", machine.SIZE)).disk()
    machine.fill(disk)
    for n in upto(len(cpus), 2):
        for i, cpu in enumerate(cpus[1:], 1):
            lio.write(cpu / "online", int(i < n))
        yield "processors", n, IO, cost(disk, LOOPBACK, share)
    machine.clear()


def measure(which, only, share):
    """(of what, how many, figure, value) of each that is wanted."""
    machine.load(which)
    for of, f in (("LUNs", lambda: luns(upto(4096, 8), share)),
                  ("sessions", lambda: sessions(upto(1000, 10), share)),
                  ("processors", lambda: processors(share))):
        if only.search(f"growth {of}"):
            yield from f()
    machine.clear(unload=True)
