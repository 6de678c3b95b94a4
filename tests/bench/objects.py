"""What objects cost: memory of an idle session, a LUN and a mapped LUN, and the time that configfs takes for many."""
import contextlib
import mmap
import os
import time
from pathlib import Path

import machine
from machine import lio

MEMORY, TIME = "bytes", "ms"


class Named:
    """A target that is not LIO's, as far as a login wants to know it: one LUN, 1."""

    def __init__(self, iqn, portal="127.0.0.1:3260", lun=1):
        self.iqn, self.portals, self.path = iqn, [portal], Path("/tmp/luns")
        (self.path / f"lun/lun_{lun}").mkdir(parents=True, exist_ok=True)


def used():
    """Memory that the kernel has taken for itself, but for what it would give back if caches were dropped. Of slabs the objects
    in use: what is made first would find room in pages that others have begun. What is too large for a slab counts as such, too; stacks of
    threads are in VmallocUsed."""
    lio.write("/proc/sys/vm/drop_caches", 3)
    time.sleep(0.5)
    slabs = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:]]
    free = sum(int(s[14]) * int(s[5]) * mmap.PAGESIZE - int(s[1]) * int(s[3]) for s in slabs)
    m = {line.split(":")[0]: int(line.split()[1]) << 10 for line in Path("/proc/meminfo").read_text().splitlines()}
    return sum(m[k] for k in ("Slab", "Percpu", "VmallocUsed", "PageTables")) - free


def luns(n):
    """n LUNs of one object are made, mapped for an initiator, and removed: (row, value)."""
    t = lio.IscsiTarget(lio.ramdisk("many", 1 << 20, nullio=True), enable=False)
    store, acl = t.path / "lun/lun_0/store", t.path / "acls/iqn.2003-01.org.example:i"
    store = os.readlink(store)
    store = (t.path / "lun/lun_0" / store).resolve()
    acl.mkdir()
    lun, mapped = [t.path / f"lun/lun_{i}" for i in range(1, n + 1)], [acl / f"lun_{i}" for i in range(1, n + 1)]
    memory, start = used(), time.monotonic()
    for path in lun:
        path.mkdir()
        (path / "store").symlink_to(store)
    created, with_luns = time.monotonic() - start, used()
    start = time.monotonic()
    for path, of in zip(mapped, lun):
        path.mkdir()
        (path / "lun").symlink_to(of)
    mapping, with_mapped = time.monotonic() - start, used()
    start = time.monotonic()
    for path in mapped:
        (path / "lun").unlink()
        path.rmdir()
    for path in lun:
        (path / "store").unlink()
        path.rmdir()
    removed = time.monotonic() - start
    machine.clear()
    yield "memory per LUN", (with_luns - memory) / n
    yield "memory per mapped LUN", (with_mapped - with_luns) / n
    yield f"time for {n} LUNs by configfs", (created + mapping + removed) * 1000


def idle_sessions(n):
    """n sessions that do nothing, less their sockets."""
    import long_logins
    t = lio.IscsiTarget(lio.ramdisk())
    for c in [long_logins.Fast(t.iqn, f"iqn.2024-01.org.example:w{i}") for i in range(20)]:
        c.logout()
        c.close()
    with contextlib.suppress(AssertionError):
        lio.wait_for(lambda: long_logins.gone(t), 30)
    pairs = long_logins.pairs(n)
    before = used()
    next(pairs)
    sockets = used() - before
    next(pairs)
    before = used()
    all_of = [long_logins.Fast(t.iqn, f"iqn.2024-01.org.example:i{i}") for i in range(n)]
    yield "memory per idle session", (used() - before - sockets) / n
    for c in all_of:
        c.logout()
        c.close()
    lio.wait_for(lambda: long_logins.gone(t), 60)
    machine.clear()


def measure(which, only, quick, first):
    """(row, value) of each that is wanted. Of the C modules 4,096 LUNs take minutes: the first round has them."""
    machine.load(which)
    if only.search("LUN memory time configfs"):
        yield from luns(4096 if first else 256)
    if only.search("memory per idle session"):
        yield from idle_sessions(100 if quick else 300)
    machine.clear(unload=True)
