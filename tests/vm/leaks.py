"""What the kernel holds: taken before and after something, the two must be alike. Shows every slab cache, vmalloc's callers,
pages that nothing accounts for, kernel threads, sockets, and the references to modules."""
import collections
import contextlib
import os
import re
import time
from pathlib import Path

import lio

# How many objects more there may be: a kernel that does nothing has some, too.
SLACK = {"slabs": 16, "vmalloc": 0, "threads": 0, "sockets": 2, "memory": 512, "modules": 0}
# Caches of the file system and of processes, connections that TCP remembers for a minute, a processor's spare stacks.
LOOSE = {"slabs: dentry": 2000, "slabs: lsm_inode_cache": 2000, "slabs: radix_tree_node": 200, "slabs: kernfs_node_cache": 200,
         "slabs: vm_area_struct": 200, "slabs: anon_vma": 200, "slabs: anon_vma_chain": 200, "slabs: maple_node": 200,
         "slabs: eventpoll_epi": 200, "slabs: tw_sock_TCP": 1000, "slabs: tw_sock_TCPv6": 1000, "slabs: vmap_area": 500,
         "vmalloc: spare stacks": 8,
         # kmemleak's own, of all the others.
         "slabs: kmemleak_object": 5000, "slabs: kmemleak_scan_area": 5000}


def settle():
    """Has the kernel give back all that it holds for speed alone: also the rest of huge pages of which a process has freed a part."""
    # The huge page of zeroes stays as long as a process that has read one; who makes huge pages of small ones has both for a while.
    huge = Path("/sys/kernel/mm/transparent_hugepage")
    lio.write(huge / "use_zero_page", 0)
    lio.write(huge / "khugepaged/scan_sleep_millisecs", 1 << 30)
    for _ in range(2):
        lio.run("sync")
        lio.write("/proc/sys/vm/drop_caches", 3)
        time.sleep(1.5)  # RCU, and what is freed by work items


class Held:
    """A look at what is held now."""

    def __init__(self):
        settle()
        self.slabs = slabs()
        self.vmalloc = vmalloc()
        self.memory = memory()
        self.threads = threads()
        self.sockets = sockets()
        self.owners = owners()
        self.modules = {line.split()[0]: int(line.split()[2]) for line in lio.read("/proc/modules").splitlines()}

    def more_than(self, before):
        """What there is more of than `before`, beyond the slack or not: {what: (before, now)}."""
        return {what: (old, new) for what, old, new in self.pairs(before) if new > old}

    def pairs(self, before):
        for kind in SLACK:
            now, then = getattr(self, kind), getattr(before, kind)
            for name, new in now.items():
                yield f"{kind}: {name}", then.get(name, 0), new


def check(before, objects=SLACK["slabs"], looks=3):
    """Fails when more is held than `before`, at each of some looks: what is lost stays, what only is late on a slow machine does not.
    `objects`: how many more a slab cache may have."""
    for look in range(looks):
        time.sleep(5 * look)  # as long as kvfree_rcu() waits for more to free
        grown = Held().more_than(before)
        print("more than before: " + ", ".join(f"{what} {old} -> {new}" for what, (old, new) in sorted(grown.items())))
        leaked = {what: (old, new) for what, (old, new) in grown.items() if new - old > slack(what, objects)}
        if not leaked:
            return
    for stack, n in (owners() - before.owners).most_common(8):
        print(f"{n} pages more of\n{stack}")
    raise AssertionError(f"leaked (before, now): {leaked}")


def slack(what, objects):
    kind = what.partition(":")[0]
    if what.startswith("slabs: bio-"):
        return 256 * os.cpu_count()  # the block layer keeps so many free ones (ALLOC_CACHE_MAX)
    return LOOSE.get(what, objects if kind == "slabs" else SLACK[kind])


def shrink():
    """Has the slab caches give back what is free in whole slabs."""
    for cache in Path("/sys/kernel/slab").iterdir():
        if not cache.is_symlink():  # that is an alias
            lio.write(cache / "shrink", 1)


def slabs():
    """Objects in use by cache. What a processor keeps of free ones, up to a hundred or so in each cache that is being used,
    counts as in use: the least of several looks is nearest to the truth, each with that given back before."""
    least = {}
    for _ in range(6):
        shrink()
        for line in lio.read("/proc/slabinfo").splitlines()[2:]:
            name, used = line.split()[:2]
            least[name] = min(least.get(name, int(used)), int(used))
        time.sleep(0.5)  # what waits for RCU
    return least


def vmalloc():
    """Areas by who asked for them. Of stacks those that no thread has: kernel workers come as there is work, and go after five minutes without."""
    callers = collections.Counter()
    for line in lio.read("/proc/vmallocinfo").splitlines():
        callers[line.split()[2].partition("+")[0]] += 1
    callers.pop("unpurged", None)  # is free, but the processors have not been told
    stacks = sum(callers.pop(name, 0) for name in ("kernel_clone", "copy_process"))
    callers["spare stacks"] = stacks - int(lio.read("/proc/loadavg").split()[3].partition("/")[2])
    return dict(callers)


def meminfo():
    """/proc/meminfo in KiB, whose MemFree and MemAvailable here have also the free pages that each processor keeps for itself. To the kernel those
    are in use; they are none or many, as the load was: in a VM of 4 GiB 80 MiB for good, and an eighth of the memory for some seconds."""
    # Each processor has numbers that it has not added to the counters yet, up to a hundred KiB of each kind. What does that gives back some
    # of the pages, too; and what these lines take when they run first is not to be in between: the second look is right.
    for _ in range(2):
        lio.write("/proc/sys/vm/stat_refresh", 1)
        text, zones = lio.read("/proc/meminfo"), lio.read("/proc/zoneinfo")
        m = {k: int(v) for k, v in re.findall(r"^([\w()]+): +(\d+)", text, re.M)}
        # Both from one place, for pages move between them.
        free, kept = (sum(map(int, re.findall(rf"^ +{what} +(\d+)", zones, re.M))) * 4 for what in ("nr_free_pages", "count:"))
        m["MemFree"] = free + kept
        m["MemAvailable"] += kept
    return m


def memory():
    """KiB that nothing accounts for, since they were taken as pages, as data buffers are; and what processors have of their own."""
    m = meminfo()
    # Not KernelStack: stacks are in VmallocUsed. Counted twice, each worker that ends after five minutes without work would look like a leak.
    kinds = ["MemFree", "Buffers", "Cached", "SwapCached", "AnonPages", "Slab", "PageTables", "SecPageTables", "VmallocUsed", "Percpu"]
    kept = 0
    # Where a debug kernel keeps each stack that it has seen, in pools of four pages.
    with contextlib.suppress(FileNotFoundError):
        kept += int(re.search(r"pools: (\d+)", lio.read("/sys/kernel/debug/stackdepot/stats"))[1]) * 16
    # KASAN's shadow, an eighth in whole pages, of areas that are free, but the processors have not been told.
    if os.uname().release.endswith("-debug"):
        for size, who in (line.split()[1:3] for line in lio.read("/proc/vmallocinfo").splitlines()):
            kept += -(-int(size) // 32768) * 4 if who == "unpurged" else 0
    return {"pages": m["MemTotal"] - kept - sum(m.get(k, 0) for k in kinds), "per processor": m["Percpu"]}


def owners():
    """Pages by the stack of calls that took them, to say with a leak; known only where `scripts/vm --debug --append page_owner=on` runs."""
    found, path = collections.Counter(), "/sys/kernel/debug/page_owner_stacks/show_stacks"
    if os.path.exists(path):
        for stack, n in re.findall(r"((?:^ .*\n)+)nr_base_pages: (\d+)", lio.read(path) + "\n", re.M):
            found[stack] += int(n)
    return found


def threads():
    """Kernel threads by name, without the workers that come and go."""
    names = collections.Counter()
    for p in Path("/proc").glob("[0-9]*"):
        try:
            os.readlink(p / "exe")  # a kernel thread has none
        except (FileNotFoundError, ProcessLookupError):
            with contextlib.suppress(OSError):
                names[lio.read(p / "comm")] += 1
    return {name: n for name, n in names.items() if not name.startswith("kworker")}


def sockets():
    """Sockets in use, and TCP's without a file."""
    text = lio.read("/proc/net/sockstat") + lio.read("/proc/net/sockstat6")
    return {"used": int(re.search(r"sockets: used (\d+)", text)[1]), "orphans": int(re.search(r"orphan (\d+)", text)[1])}


def nodes():
    """The configfs directories of our modules that are alive, also those that have left the tree."""
    if lio.STOCK:
        return None
    lio.modprobe("lio_configfs_test")
    n = int(lio.read("/sys/kernel/config/lio_test/live").split()[0])
    lio.run("rmmod", "lio_configfs_test")
    return n
