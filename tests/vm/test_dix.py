"""Protection information from the block layer's hands to the back end and back, through the loopback fabric's host (DIX): made and checked by
the initiator's block layer, checked by the logical unit, kept by the back end; what is wrong on its way or at its end is an error for
who reads or writes, with the sense that says what."""
# group: protection
import contextlib
import errno
import mmap
import os
import random
import re
import uuid
from pathlib import Path

import lio
import pytest
import storage
import uring
from protected import GUARD, READ, REFERENCE, SIZE, STORES, VERIFY, WRITE, Cdb, Unit, corrupted, mix, pi
from test_writes import TRACE

pytestmark = pytest.mark.skipif(lio.STOCK, reason="looked at over iSCSI, where the C module has none")
EILSEQ = -errno.EILSEQ
MIB = 1 << 20


@contextlib.contextmanager
def senses():
    """What commands of SCSI disks end with, as the kernel's tracepoint has it: a list of (key, ASC and ASCQ), filled at the end."""
    found = []
    event = TRACE / "events/scsi/scsi_dispatch_cmd_done/enable"
    if not TRACE.joinpath("trace").exists():
        lio.run("mount", "-t", "tracefs", "tracefs", TRACE)
    TRACE.joinpath("trace").write_text("")  # opened to be cut off, it forgets what was before
    lio.write(event, 1)
    try:
        yield found
        for told in re.findall(r"sense=\(key=(\w+) asc=(\w+) ascq=(\w+)\)", TRACE.joinpath("trace").read_text()):
            key, code, qualifier = [int(word, 0) for word in told]
            if key:
                found.append(f"{key:X}/{code:02x}{qualifier:02x}")
    finally:
        lio.write(event, 0)


def pread(disk, offset, n):
    """Past the page cache."""
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    memory = mmap.mmap(-1, n)
    try:
        assert os.preadv(fd, [memory], offset) == n
        return bytes(memory)
    finally:
        os.close(fd)


def pwrite(disk, offset, data):
    fd = os.open(disk, os.O_WRONLY | os.O_DIRECT)
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    try:
        assert os.pwritev(fd, [memory], offset) == len(data)
    finally:
        os.close(fd)


def profile(disk, name, value=None):
    """A file of the block layer's about protection information."""
    path = Path("/sys/block") / Path(disk).name / "integrity" / name
    if value is not None:
        lio.write(path, value)
    return lio.read(path)


@contextlib.contextmanager
def units(name, kind, block):
    """A unit as iSCSI sees it, and the disk that the loopback fabric makes of it."""
    with contextlib.ExitStack() as stack:
        if name == "iblock":
            below = stack.enter_context(storage.scsi_debug(dev_size_mb=16, sector_size=block, dif=kind, dix=1))
            store = lio.iblock(dev=below, serial=str(uuid.uuid4()))
        else:
            store = STORES[name](size=SIZE, serial=str(uuid.uuid4()))
        unit = Unit(store, kind, block)
        loop = lio.Loopback(store)
        yield unit, loop.disk()
        loop.delete()
        unit.delete()


@pytest.mark.parametrize("name,kind,block", [("ramdisk", 1, 512), ("ramdisk", 2, 512), ("fileio", 3, 4096), ("iblock", 1, 512)])
def test_end_to_end(name, kind, block):
    with units(name, kind, block) as (unit, disk):
        assert profile(disk, "format") == f"T10-DIF-TYPE{'3' if kind == 3 else '1'}-CRC"
        assert profile(disk, "device_is_integrity_capable") == "1"
        # The block layer makes and checks it; of type 2 and 3, what it makes is the initiator's own.
        n = 4096 // block * 4
        data = unit.data(n, 5)
        pwrite(disk, 40 * 4096, b"".join(data))
        lba = 40 * 4096 // block
        reference = (lambda i: lba + i) if kind != 3 else (lambda i: 0)
        made = [pi(d, reference(i)) for i, d in enumerate(data)]
        got, tuples = unit.read(lba, n)
        assert got == data and [t[: 4 if kind == 3 else 8] for t in tuples] == [t[: 4 if kind == 3 else 8] for t in made]
        assert pread(disk, 40 * 4096, n * block) == b"".join(data)
        # Nobody on the way changes it.
        mine = [pi(d, lba + i, application=0x1230 + i) for i, d in enumerate(data)]
        assert uring.write(disk, lba, block, data, mine) == n * block
        assert unit.read(lba, n) == (data, mine) == uring.read(disk, lba, block, n)
        # Much of it, in pieces of memory that are where they are, and in many commands.
        much = random.Random(kind).randbytes(3 * MIB)
        pwrite(disk, 3 * MIB, much)
        assert pread(disk, 3 * MIB, 3 * MIB) == much
        assert unit(Cdb.ten(READ, 0, 3 * MIB // block, 8), 8 * block) == much[: 8 * block]
        on_its_way(unit, disk, block, lba, data, mine)
        at_its_end(unit, disk, block, lba, data, mine)
        by_the_port(unit, disk, block, data)


def on_its_way(unit, disk, block, lba, data, before):
    """What does not go together is not written: the logical unit says so, and the writer hears EILSEQ."""
    other = unit.data(len(data), 6)
    right = [pi(d, lba + i, application=9) for i, d in enumerate(other)]
    wrong = right[:-1] + [bytes([right[-1][0] ^ 1]) + right[-1][1:]]
    cases = [(other, wrong, GUARD), (corrupted(other, 1), right, GUARD)]
    if unit.kind != 3:
        cases.append((other, right[:2] + [right[2][:4] + (lba + 9).to_bytes(4, "big")] + right[3:], REFERENCE))
    for send, tuples, what in cases:
        with senses() as said:
            assert uring.write(disk, lba, block, send, tuples) == EILSEQ
        assert f"B/{what}" in said, said
        assert unit.read(lba, len(data)) == (data, before)
    assert uring.write(disk, lba, block, data, before) == len(data) * block


def at_its_end(unit, disk, block, lba, data, before):
    """A block that was corrupted where it is kept is an error for who reads it, and others are not."""
    unit.write(lba, corrupted(data, 1), before)
    with senses() as said, pytest.raises(OSError) as failed:
        pread(disk, lba * block, len(data) * block)
    assert failed.value.errno == errno.EILSEQ
    assert f"B/{GUARD}" in said, said
    unit.write(lba, data, before)
    assert pread(disk, lba * block, len(data) * block) == b"".join(data)
    if unit.own:
        return
    # If the logical unit does not look, the block layer does.
    unit.write(lba, corrupted(data, 1), before)
    unit.store.attrib("pi_prot_verify", 0)
    with senses() as said, pytest.raises(OSError) as failed:
        pread(disk, lba * block, len(data) * block)
    assert failed.value.errno == errno.EILSEQ
    assert not said
    unit.store.attrib("pi_prot_verify", 1)
    unit.write(lba, data, before)


def by_the_port(unit, disk, block, data):
    """An initiator that wants to know nothing of it leaves it to the host, which makes and drops it."""
    profile(disk, "read_verify", 0)
    profile(disk, "write_generate", 0)
    lba, n = 80 * 4096 // block, len(data)
    pwrite(disk, lba * block, b"".join(data))
    got, tuples = unit.read(lba, n)
    reference = (lambda i: lba + i) if unit.kind != 3 else (lambda i: 0xFFFFFFFF)
    assert (got, tuples) == (data, [pi(d, reference(i)) for i, d in enumerate(data)])
    assert pread(disk, lba * block, n * block) == b"".join(data)
    unit.write(lba, corrupted(data), tuples)
    with senses() as said, pytest.raises(OSError) as failed:
        pread(disk, lba * block, n * block)
    assert failed.value.errno == errno.EILSEQ and f"B/{GUARD}" in said
    profile(disk, "read_verify", 1)
    profile(disk, "write_generate", 1)


@pytest.mark.parametrize("kind", [1, 3])
def test_between_the_host_and_its_initiator(kind):
    """fabric_prot_type: the port has protection information of units that keep none."""
    store = lio.ramdisk(size=SIZE)
    unit = Unit(store, 0)
    loop = lio.Loopback()
    for wrong in (2, 4):
        with lio.refused(errno.EINVAL):
            loop.attrib("fabric_prot_type", wrong)
    loop.attrib("fabric_prot_type", kind)
    assert loop.attrib("fabric_prot_type") == str(kind)
    # The nexus has what there was when it was made.
    nexus = lio.read(loop.path / "nexus")
    lio.write(loop.path / "nexus", "NULL")
    lio.write(loop.path / "nexus", nexus)
    loop.lun(store, 0)
    disk = loop.disk()
    assert profile(disk, "format") == f"T10-DIF-TYPE{kind}-CRC" and profile(disk, "device_is_integrity_capable") == "1"
    data = unit.data(16, 3)
    pwrite(disk, 8192, b"".join(data))
    assert pread(disk, 8192, 8192) == b"".join(data)
    # Over iSCSI there is none.
    assert unit(Cdb.ten(READ, 0, 16, 16), 8192) == b"".join(data)
    unit.refused(Cdb.ten(READ, 1, 16, 1), "5/2400", 520, pointer=(True, 1, 7))
    made = [pi(d, 16 + i if kind == 1 else 0xFFFFFFFF) for i, d in enumerate(data)]
    assert uring.read(disk, 16, 512, 16, uring.CHECK_GUARD) == (data, made)
    other = unit.data(16, 4)
    with senses() as said:
        assert uring.write(disk, 16, 512, other, made) == EILSEQ
    assert f"B/{GUARD}" in said, said
    assert unit(Cdb.ten(READ, 0, 16, 16), 8192) == b"".join(data)
    from sgio import Disk, say

    with Disk(disk) as sg:
        r = sg.scsi(Cdb.ten(READ, 1, 16, 2), 2 * 520)
        assert r.status == 0 and r.data == mix(data[:2], made[:2])
        assert sg.scsi(Cdb.ten(READ, 0, 16, 2), 1024).data == b"".join(data[:2])
        assert say(sg.scsi(Cdb.ten(WRITE, 1, 16, 1), write=other[0] + made[0]).sense) == f"B/{GUARD}"
        assert sg.scsi(Cdb.ten(VERIFY, 1, 16, 2, 2), write=mix(data[:2], made[:2])).status == 0
    loop.delete()
    unit.delete()
