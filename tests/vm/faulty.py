"""Initiators of both fabrics that see the same devices, and devices whose faults come and go."""
import collections
import contextlib
import os
import random
import time
from pathlib import Path

import initiator
import lio
import sgio
import storage

TEST_UNIT_READY = bytes(6)
SYNCHRONIZE_CACHE = bytes([0x35]) + bytes(9)
BLOCK = 512
# What an initiator hears: (status, "KEY/ASCASCQ").
GOOD = (0, "")
READ_ERROR, WRITE_ERROR = (2, "3/1100"), (2, "3/0c00")
NO_SPACE, PROTECTED, OFFLINE = (2, "7/2707"), (2, "7/2700"), (2, "2/0412")


class Heard:
    """An answer: its status and sense, the INFORMATION field, the data, the seconds that it took."""

    def __init__(self, status, sense, data, took):
        self.what, self.information, self.data, self.took = (status, sgio.say(sense)), sgio.information(sense), data, took

    def __repr__(self):
        return f"{self.what} {self.information} after {self.took:.1f} s"


class Initiator:
    """Commands to the LUNs of one target; unit attentions are told to nobody."""

    def scsi(self, cdb, read=0, write=b"", lun=0):
        start = time.monotonic()
        for _ in range(8):
            status, sense, data = self.once(bytes(cdb), read, write, lun)
            if not sgio.say(sense).startswith("6/"):
                break
        return Heard(status, sense, data, time.monotonic() - start)

    def read(self, lba, blocks=1, lun=0):
        return self.scsi(rw(0x88, lba, blocks), read=blocks * BLOCK, lun=lun)

    def write(self, lba, data, lun=0, fua=False):
        return self.scsi(rw(0x8A, lba, len(data) // BLOCK, fua << 3), write=data, lun=lun)

    def flush(self, lun=0):
        return self.scsi(SYNCHRONIZE_CACHE, lun=lun)

    def ready(self, lun=0):
        return self.scsi(TEST_UNIT_READY, lun=lun)

    def unmap(self, lba, blocks, lun=0):
        data = bytes([0, 22, 0, 16]) + bytes(4) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4)
        return self.scsi(bytes.fromhex("42000000000000001800"), write=data, lun=lun)


class Local(Initiator):
    """This machine, through loopback."""

    def __init__(self, *stores):
        self.port = lio.Loopback(*stores)
        self.disks = [sgio.Disk(storage.generic(self.port.disk(n))) for n in range(len(stores))]

    def once(self, cdb, read, write, lun):
        r = self.disks[lun].scsi(cdb, read, write)
        assert not r.host, r
        return r.status, r.sense, r.data

    def close(self):
        for d in self.disks:
            d.close()


class Remote(Initiator):
    """An iSCSI session."""

    def __init__(self, target, i=1, name=None):
        self.c = initiator.session(target, name=name or f"iqn.2024-01.org.example:i{i}", isid=b"\x80\0\0\0\1" + bytes([i]))

    def once(self, cdb, read, write, lun):
        status, data, a = self.c.scsi(cdb, read, write, lun, timeout=90)
        return status, a.sense if status == 2 else b"", data

    def close(self):
        self.c.close()


def both(*stores):
    """An initiator of each fabric."""
    return Local(*stores), Remote(lio.IscsiTarget(*stores))


def rw(opcode, lba, blocks, flags=0):
    return bytes([opcode, flags]) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)


class Blocks:
    """64 places on each LUN that one initiator alone writes: each holds what was acknowledged last, or one of the writes since then
    that failed."""

    def __init__(self, initiator, number, luns, allowed):
        self.initiator, self.first, self.luns, self.allowed = initiator, number * 4096, luns, {GOOD, *allowed}
        self.random, self.may_hold, self.heard = random.Random(number), {}, collections.Counter()

    def step(self):
        """One command."""
        at = lba, lun = self.first + self.random.randrange(64) * 8, self.random.randrange(self.luns)
        held = self.may_hold.setdefault(at, {bytes(4096)})
        if self.random.random() < 0.5:
            data = storage.pattern(4096, self.random.randrange(1 << 20))
            self.may_hold[at] = held | {data}
            heard = self.initiator.write(lba, data, lun)
            if heard.what == GOOD:
                self.may_hold[at] = {data}
        else:
            heard = self.initiator.read(lba, 8, lun)
            assert heard.what != GOOD or heard.data in held, (heard, at)
        assert heard.what in self.allowed, (heard, at)
        self.heard[heard.what] += 1

    def check(self):
        """Everything can be read, and is what it should be."""
        for (lba, lun), held in self.may_hold.items():
            heard = self.initiator.read(lba, 8, lun)
            assert heard.what == GOOD and heard.data in held, (heard, lba, lun)


class Device:
    """A loop device under a device-mapper table that can be changed under I/O."""

    def __init__(self, name, size=32 * storage.MIB, table=None):
        self.name, self.sectors = name, size // 512
        self.below = lio.loop_device(size)
        lio.modprobe("dm_mod", "dm_flakey", "dm_delay")
        lio.run("dmsetup", "create", "--noudevsync", name, input=table(self) if table else self.linear())
        self.path = "/dev/" + lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", name).stdout.strip()
        lio.wait_for(lambda: os.path.exists(self.path))

    def linear(self, start=0, end=None):
        end = self.sectors if end is None else end
        return f"{start} {end - start} linear {self.below} {start}\n"

    def bad(self, lba, blocks=8):
        """Errors at these blocks."""
        return self.linear(0, lba) + f"{lba} {blocks} error\n" + self.linear(lba + blocks)

    def flakey(self, up, down, *features):
        """What fails for `down` of each `up + down` seconds."""
        words = " ".join(features)
        return f"0 {self.sectors} flakey {self.below} 0 {up} {down} {len(words.split())} {words}\n"

    def delay(self, seconds):
        return f"0 {self.sectors} delay {self.below} 0 {seconds * 1000}\n"

    def become(self, table, *how):
        storage.reload(self.name, table, *how)

    def good(self):
        self.become(self.linear())


@contextlib.contextmanager
def scsi_debug(**parameters):
    """The kernel's simulated disks: gives their paths, in order of their LUNs."""
    with storage.scsi_debug(**parameters):
        base = Path("/sys/bus/pseudo/drivers/scsi_debug")
        luns = parameters.get("max_luns", 1)

        def found():
            """scsi_debug's disks"""
            names = [d.name for d in sorted(base.glob("adapter*/host*/target*/*:*/block/*"))]
            return len(names) == luns and all(os.path.exists(f"/dev/{n}") for n in names) and names

        yield [f"/dev/{n}" for n in lio.wait_for(found)]


def debug(name, value):
    """Sets how scsi_debug behaves from now on."""
    lio.write(f"/sys/bus/pseudo/drivers/scsi_debug/{name}", value)


def of_disk(dev, name, value):
    """An attribute of a SCSI disk."""
    lio.write(f"/sys/block/{os.path.basename(dev)}/device/{name}", value)
