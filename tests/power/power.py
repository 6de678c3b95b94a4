#!/usr/bin/env python3
"""Cuts the power of a VM at random while an initiator in it writes, again and again, and checks after each restart that
what was acknowledged as durable is there. One line for each kind of disk. Run by scripts/check-power in the reference root.

Every kind has a disk of its own (disk.py), all of which lose the power together. A round goes on from a saved state of the
booted machine: it finds the disks as the last cut left them, has the targets read them out, writes, and is cut."""
import argparse
import asyncio
import collections
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import disk as nbd  # noqa: E402
from checker import RECORD, Checker, records  # noqa: E402
from machine import Machine, initramfs  # noqa: E402

WORKERS = 2
SECTORS = WORKERS * 24 * 13
GUARD = 180  # seconds for a round to come to its cut; a guard against hangs, no measure
WRITING = 1.5  # seconds at most from the moment at which all write to the cut
FILE = "fd_dev_name=FILE,fd_dev_size=SIZE"
TPU = "emulate_tpu=1"
# bus, options of QEMU's device, the block that is lost as one, file in an ext4 (- for none), plugin, control, attributes, WCE
Kind = collections.namedtuple("Kind", "bus options block file plugin control attributes wce")
FUA = ",dpofua=on"  # the guest sends it; QEMU 10 makes a write and a flush of it
PAGE = ",physical_block_size=4096"
KINDS = {
    "fileio, ext4": Kind("scsi", FUA + PAGE, 4096, "f", "fileio", FILE, TPU, 0),
    "fileio, ext4, buffered": Kind("scsi", PAGE, 4096, "f", "fileio", FILE + ",fd_buffered_io=1", TPU, 1),
    "fileio, ext4, buffered, WCE off": Kind("scsi", FUA + PAGE, 4096, "f", "fileio", FILE + ",fd_buffered_io=1",
                                            TPU + ",emulate_write_cache=0", 0),
    "fileio, ext4, async": Kind("scsi", FUA + PAGE, 4096, "f", "fileio", FILE + ",fd_async_io=1", TPU, 0),
    "fileio, ext4, async, buffered": Kind("scsi", FUA + PAGE, 4096, "f", "fileio", FILE + ",fd_async_io=1,fd_buffered_io=1", TPU, 1),
    "fileio, device": Kind("scsi", FUA, 512, "-", "fileio", FILE, "-", 0),
    "fileio, device, buffered": Kind("scsi", "", 512, "-", "fileio", FILE + ",fd_buffered_io=1", "-", 1),
    "fileio, device, async": Kind("scsi", FUA, 512, "-", "fileio", FILE + ",fd_async_io=1", "-", 0),
    "iblock, device with FUA": Kind("scsi", FUA, 512, "-", "iblock", "udev_path=FILE", "-", 1),
    "iblock, device without FUA": Kind("vda", "", 512, "-", "iblock", "udev_path=FILE", "-", 1),
    "iblock, device without a cache": Kind("scsi", ",write-cache=off", 512, "-", "iblock", "udev_path=FILE", "-", 0),
}


def image(kind, stage):
    if kind.file == "-":
        return bytes(SECTORS * 512)
    path = stage / "ext4"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", path, "16M"], check=True)
    data = path.read_bytes()
    path.unlink()
    return data


class Booted:
    """The saved state of the machine that every round goes on from."""

    def __init__(self, args, stage):
        self.args, self.stage, self.state = args, stage, stage / "state"
        lines = [f"{n} {k.bus} {k.file} {k.plugin} {k.control} {k.attributes} {int(k.file != '-')}\n" for n, k in enumerate(KINDS.values())]
        self.image = initramfs(stage, args.release, args.modules, lines)

    def machine(self, state=None):
        return Machine(self.stage, self.args.kernel, self.image, self.stage / "nbd", [(k.bus, k.options) for k in KINDS.values()], state)

    async def boot(self):
        vm = self.machine()
        await vm.start()
        await vm.save(self.state)


class Test:
    """Disks of all kinds, and what they have to hold. `lies`: they flush nothing, which must be found."""

    def __init__(self, booted, rng, lies=False):
        self.booted, self.rng, self.lies = booted, rng, lies
        self.kinds = list(KINDS.values())
        ignores = ("flush", "fua") if lies else ()
        self.disks = [nbd.Disk(image(k, booted.stage), k.block, random.Random(rng.random()), ignores) for k in self.kinds]
        self.checkers = [Checker(bool(k.wce)) for k in self.kinds]
        self.wrong = [[] for _ in self.kinds]
        self.lost = [0] * len(self.kinds)
        self.cuts = 0
        self.server = nbd.Server(self.disks)

    async def run(self, rounds):
        socket = self.booted.stage / "nbd"
        socket.unlink(missing_ok=True)
        await self.server.start(socket)
        start = time.monotonic()
        if not self.booted.state.exists():
            await self.booted.boot()
            await self.server.cut()
            print(f"power: booted and saved in {time.monotonic() - start:.1f} s", flush=True)
            start = time.monotonic()
        # The last one only reads.
        for i in range(1, rounds + 2):
            await self.round(i, i <= rounds)
            if i % 20 == 0 or i > rounds:
                print(f"power: {i} rounds, {(time.monotonic() - start) / i:.1f} s each", flush=True)
        self.server.listener.close()

    async def round(self, number, writes):
        vm = self.booted.machine(self.booted.state)
        try:
            await vm.start()
            # Odd kinds by loopback and even ones by iSCSI, and the other way round the next time.
            loopback = sum(1 << n for n in range(len(self.kinds)) if (n + number) % 2)
            await vm.go(number, self.rng.randrange(1 << 31), loopback, SECTORS, WORKERS)
            await self.told(vm, "VE", 1)  # all has been read
            if writes and self.lies:
                await self.told(vm, "DS", 5)
            elif writes:
                await asyncio.sleep(self.rng.random() * WRITING)
        finally:
            self.server.freeze()
            await vm.kill()
            cut = await self.server.cut()
        self.read_console(vm.console)
        self.lost = [a + b for a, b in zip(self.lost, cut)]
        self.cuts += writes
        streams = [[] for _ in self.kinds]
        for r in records(vm.log.read_bytes()):
            streams[r[1]].append(r)
        for n, (stream, checker) in enumerate(zip(streams, self.checkers)):
            found = [r for r in stream if r[0] in "RZX"]
            for line in checker.verified(found):
                self.wrong[n].append(f"round {number}: {line}")
            for line in checker.told([r for r in stream if r[0] not in "RZX"], number):
                self.wrong[n].append(f"round {number}: {line}")

    async def told(self, vm, what, enough):
        """Waits until each disk's writers have told `what` so many times."""
        end, done = time.monotonic() + GUARD, {}
        while len(done) < len(self.kinds) or min(done.values()) < enough:
            if time.monotonic() > end or vm.process.returncode is not None:
                raise RuntimeError(f"{what} was told of {len(done)} of {len(self.kinds)} disks\n" + tail(vm.console) +
                                   tail(self.booted.stage / "qemu"))
            await asyncio.sleep(0.02)
            data = vm.log.read_bytes() if vm.log.exists() else b""
            done = collections.Counter(r[1] for r in records(data) if r[0] in what)

    def read_console(self, console):
        text = console.read_text(errors="replace")
        with open(self.booted.args.console, "a") as f:
            f.write(text)
        if self.lies:
            return  # no file system has to bear with that
        patterns = Path("scripts/kernel-reports").read_text().splitlines() + ["power: .*", "EXT4-fs error", "JBD2: .*(?i:error|corrupt)"]
        for line in text.splitlines():
            if re.search("|".join(patterns), line):
                raise RuntimeError(f"the kernel reported (the log is in {self.booted.args.console}):\n{line}")

    def report(self):
        """A line for each kind. Gives how many passed and failed."""
        passed = 0
        for n, name in enumerate(KINDS):
            a, d = self.checkers[n].acknowledged, self.disks[n]
            # A test in which nothing could have been lost shows nothing.
            wrong = self.wrong[n] or ([] if a["D"] and d.served["writes"] else ["nothing was written"])
            print(f"power, {name}: {'FAILED' if wrong else 'ok'} ({self.cuts} cuts; acknowledged: {a['D']} durable, {a['W']} cached, "
                  f"{a['S']} flushes; the disk: {d.served['writes']} writes, {d.served['fua']} with FUA, {d.served['flushes']} "
                  f"flushes, {self.lost[n]} blocks lost)")
            for line in wrong[:10]:
                print(f"    {line}")
            if len(wrong) > 10:
                print(f"    and {len(wrong) - 10} more")
            passed += not wrong
        return passed, len(KINDS) - passed


    def report_lies(self):
        missed = [name for name, wrong in zip(KINDS, self.wrong) if not wrong]
        print(f"power, disks that lie are found out: {f'FAILED: not {missed}' if missed else 'ok'}")
        return int(not missed), int(bool(missed))


def tail(path):
    return "".join(path.read_text(errors="replace").splitlines(keepends=True)[-30:]) if path.exists() else ""


async def run(args, stage):
    rng = random.Random(args.seed)
    booted = Booted(args, stage)
    print(f"power: seed={args.seed} rounds={args.rounds}", flush=True)
    test, liar = Test(booted, rng), Test(booted, rng, lies=True)
    await test.run(args.rounds)
    passed, failed = test.report()
    await liar.run(1)
    found, missed = liar.report_lies()
    return passed + found, failed + missed


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--kernel", required=True)
    p.add_argument("--release", required=True)
    p.add_argument("--modules", help="our modules' root; without it, the stock ones")
    p.add_argument("--console", required=True)
    args = p.parse_args()
    if not args.modules:
        # The C module's reads of that kind use what they have freed, and the kernel falls.
        for name in [n for n in KINDS if n.startswith("fileio, ext4, async")]:
            del KINDS[name]
    with tempfile.TemporaryDirectory(prefix="power.") as stage:
        try:
            passed, failed = asyncio.run(run(args, Path(stage)))
        except RuntimeError as e:
            print(f"power: {e}")
            passed, failed = 0, 1
    print(passed, failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
