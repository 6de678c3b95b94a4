"""The guest's side of the benchmark: modules, targets, fio, counters."""
import json
import mmap
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))
import lio  # noqa: E402

TARGET = f"/lib/modules/{os.uname().release}/kernel/drivers/target"
STOCK = [f"{TARGET}/{m}.ko.xz" for m in (
    "target_core_mod", "target_core_file", "target_core_iblock", "loopback/tcm_loop", "iscsi/iscsi_target_mod")]
OURS = ["target_core_mod", "target_core_file", "target_core_iblock", "tcm_loop", "iscsi_target_mod"]
SIZE = 16 << 20
DIGESTS = {"node.conn[0].iscsi.HeaderDigest": "CRC32C", "node.conn[0].iscsi.DataDigest": "CRC32C"}
NULL_BLK = {"gb": 1, "bs": 512, "irqmode": 0, "queue_mode": 2, "nr_devices": 1}


def load(which):
    """Loads one set of modules, the other one being unloaded."""
    lio.modprobe("configfs", "scsi_mod")
    if which == "ours":
        lio.modprobe(*OURS)
    else:
        for path in STOCK:
            deps = lio.run("modinfo", "-F", "depends", path).stdout.strip().split(",")
            lio.modprobe(*[d for d in deps if d and d != "target_core_mod"])
            lio.run("insmod", path)


def null_blk():
    """null_blk's disk."""
    lio.run("modprobe", "null_blk", *[f"{k}={v}" for k, v in NULL_BLK.items()])
    return "/dev/nullb0"


def store(kind, n=0):
    """A back end's object."""
    if kind == "ramdisk":
        return lio.ramdisk(f"bench{n}", SIZE)
    if kind == "fileio":
        return lio.fileio(f"bench{n}", SIZE, buffered=True)
    return lio.iblock(f"bench{n}", dev=null_blk())


def export(setup, address="127.0.0.1"):
    """What a setup has: a loopback port, or iSCSI targets on one portal."""
    if setup.fabric == "loopback":
        return [lio.Loopback(store(setup.store))]
    return [lio.IscsiTarget(store(setup.store, n), iqn=f"iqn.2003-01.org.example:t{n}", portals=(f"{address}:3260",))
            for n in range(setup.sessions)]


def clear(unload=False):
    lio.clear(unload=unload)
    if "null_blk" in lio.loaded():
        lio.run("rmmod", "null_blk")


def fill(disk):
    """Writes every block once, so that all are there before anything is measured."""
    lio.run("dd", "if=/dev/zero", f"of={disk}", "bs=1M", "oflag=direct", f"count={SIZE >> 20}")


def fio(disks, rows, share):
    """One run of fio for all rows, one after the other, each on all the disks: row's name -> (IOPS, mean latency in ns). The work
    of a row is fixed, so that the clock that counts instructions says the same again: 32 MiB, 128 of large blocks, shared by
    the jobs, and of that a `share`."""
    job = ["[global]", "ioengine=libaio", "direct=1", "group_reporting", "norandommap", "randrepeat=1", f"size={SIZE}", ""]
    for r in rows:
        work = int((32 << 20 if r.bs == "4k" else 128 << 20) / len(disks) / r.jobs * share)
        for n, disk in enumerate(disks):
            first = ["stonewall", "new_group"] if n == 0 else []
            job += [f"[{r.name}]", *first, f"filename={disk}", f"bs={r.bs}", f"rw={r.rw}", f"iodepth={r.depth}",
                    f"numjobs={r.jobs}", f"io_size={work}", ""]
    Path("/tmp/bench.fio").write_text("\n".join(job))
    p = subprocess.run(["fio", "--output-format=json", "/tmp/bench.fio"], capture_output=True, text=True,
                       timeout=len(rows) * 60 + 120)
    if p.returncode:
        sys.exit(f"fio on {disks}: {p.stdout[-2000:]}{p.stderr[-2000:]}")
    return {j["jobname"]: (j["read"]["iops"] + j["write"]["iops"], max(j[d]["clat_ns"]["mean"] for d in ("read", "write")))
            for j in json.loads(p.stdout[p.stdout.index("{"):])["jobs"]}


def done(disks):
    """I/Os that these disks have completed."""
    return sum(sum(int(lio.read(f"/sys/block/{Path(d).name}/stat").split()[i]) for i in (0, 4)) for d in disks)


class Soak:
    """A process that takes what nobody else wants of this machine's one processor, and counts how often it went round: what it
    lacks, others had. The kernel's own account of idle time is too coarse for this, and has interrupts wherever they come."""

    def __init__(self):
        self.rounds = mmap.mmap(-1, 8)
        if os.fork() == 0:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            n, rounds = 0, self.rounds
            while True:
                n += 1
                rounds[:] = n.to_bytes(8, "little")
        time.sleep(1)
        begin = time.monotonic_ns(), self.count()
        time.sleep(1)
        self.round = (time.monotonic_ns() - begin[0]) / (self.count() - begin[1])

    def count(self):
        return int.from_bytes(self.rounds[:], "little")

    def spent(self):
        """(ns that others have worked, context switches), both since some time."""
        switches = int(re.search(r"^ctxt (\d+)", Path("/proc/stat").read_text(), re.M)[1])
        return time.monotonic_ns() - self.count() * self.round, switches
