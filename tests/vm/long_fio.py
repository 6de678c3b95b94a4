"""`make check-fio`: fio with crc32c verification on all back ends, over loopback and iSCSI (open-iscsi), all six disks at once:
block sizes from 512 B to 4 MiB with queue depths from 1 to 256, each for 60 s and to the end of its pass."""
import collections
import itertools
import os
import re
import threading
import time
from pathlib import Path

import lio
import pytest

SECONDS = int((re.search(r"seconds=(\d+)", os.environ.get("LIO_RS_ARGS", "")) or [0, 60])[1])
DISKS = list(itertools.product(["loopback", "iscsi"], lio.BACKSTORES))
MIB = 1 << 20
# Block size: how much of each disk is written (the deepest queue of the largest blocks fills it), and how many writes
# lie between a write and its verification, so that what is misplaced has the time to damage a neighbour.
AMOUNT = {512: (8 * MIB, 256), 4096: (32 * MIB, 256), 65536: (128 * MIB, 64), MIB: (512 * MIB, 16), 4 * MIB: (1024 * MIB, 4)}
DEPTHS = [1, 32, 256]


@pytest.fixture(autouse=True)
def tidy(klog):
    """The disks stay for all tests."""
    yield


@pytest.fixture(scope="module")
def disks():
    """All six disks, by name. The initiators' and the target's own limits are above the deepest queue."""
    found = {}
    for fabric, kind in DISKS:
        store = lio.BACKSTORES[kind](f"{fabric}-{kind}", size=1024 * MIB)
        if fabric == "loopback":
            disk = lio.Loopback(store, wwn=f"naa.50014050000000{len(found):02x}").disk()
        else:
            target = lio.IscsiTarget(store, iqn=f"iqn.2003-01.org.example:{kind}", enable=False)
            target.attrib("default_cmdsn_depth", 512)
            target.enable()
            disk = lio.login(target, settings={"node.session.cmds_max": 1024, "node.session.queue_depth": 512})[0]
        assert int(lio.read(sysfs(disk) / "device/queue_depth")) >= max(DEPTHS)
        found[f"{fabric}-{kind}"] = disk
    yield found
    lio.clear()


def sysfs(disk):
    return Path("/sys/block") / os.path.basename(disk)


class InFlight(threading.Thread):
    """The most commands in flight that each disk is seen with."""

    def __init__(self, disks):
        super().__init__(daemon=True)
        self.disks, self.most, self.end = disks, dict.fromkeys(disks, 0), threading.Event()
        self.start()

    def run(self):
        while not self.end.wait(0.2):
            for name, disk in self.disks.items():
                now = sum(map(int, lio.read(sysfs(disk) / "inflight").split()))
                self.most[name] = max(self.most[name], now)


@pytest.mark.parametrize("depth", DEPTHS, ids=lambda v: f"qd{v}")
@pytest.mark.parametrize("bs", AMOUNT)
def test_verified(disks, bs, depth):
    names = list(disks)
    at_once = max(1, min(len(names), 768 * MIB // (bs * depth)))
    wrong = []
    for i in range(0, len(names), at_once):
        wrong += passes(bs, depth, {name: disks[name] for name in names[i : i + at_once]})
    assert not wrong, "\n".join(wrong)


def passes(bs, depth, disks):
    """Passes over all of `disks` at once until SECONDS are over. Gives what is wrong."""
    start, watch, wrong, done = time.monotonic(), InFlight(disks), [], collections.Counter()
    n = 0
    while not wrong and (n == 0 or time.monotonic() - start < SECONDS):
        wrong = one_pass(bs, depth, disks, n, done)
        n += 1
    watch.end.set()
    print(f"\n{bs} B, queue depth {depth}: {n} passes, {time.monotonic() - start:.0f} s")
    for name in disks:
        print(f"  {name:16} {done[name]:7} blocks written and verified, {watch.most[name]:3} in flight at most")
    return wrong


def one_pass(bs, depth, disks, seed, done):
    """Writes each block once, in random order, and verifies each once: while others are written, the rest at the end. (By time,
    fio leaves a number of them unverified that has no bound.)"""
    size, backlog = AMOUNT[bs]
    jobs = [x for name, disk in disks.items() for x in (f"--name={name}", f"--filename={disk}")]
    r = lio.fio_json("--ioengine=libaio", "--direct=1", "--rw=randwrite", f"--bs={bs}", f"--iodepth={depth}", f"--size={size}",
                     f"--randseed={seed + 1}", "--verify=crc32c", "--verify_fatal=1", f"--verify_backlog={backlog}",
                     "--verify_state_save=0", "--serialize_overlap=1", *jobs, timeout=900, check=False)
    ran = {job["jobname"]: job for job in r.get("jobs", [])}
    wrong = [f"{name}: did not run" for name in disks if name not in ran]
    for name, job in ran.items():
        wrote, verified = job["write"]["total_ios"], job["read"]["total_ios"]
        done[name] += verified
        if job["error"]:
            wrong.append(f"{name}: error {job['error']}")
        if not wrote == verified == size // bs:
            wrong.append(f"{name}: {wrote} written, {verified} verified, of {size // bs} blocks")
    return wrong
