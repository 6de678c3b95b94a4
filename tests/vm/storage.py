"""What the back ends' tests share: devices that fail, and looking beneath a back end."""
import contextlib
import ctypes
import fcntl
import os
import re
from pathlib import Path

import lio

MIB = 1 << 20


def pattern(size, seed=1):
    """Bytes that name their block: a shifted or stale block is found."""
    return b"".join((seed * 1_000_003 + n).to_bytes(8, "big") * 64 for n in range(size // 512))


def pwrite(dev, pos, data):
    """Writes past the initiator's cache, and waits for the target's answer."""
    fd = os.open(dev, os.O_WRONLY | os.O_DIRECT)
    try:
        _direct(lambda m: os.pwritev(fd, [m], pos), len(data), data)
    finally:
        os.close(fd)


def pread(dev, pos, size):
    fd = os.open(dev, os.O_RDONLY | os.O_DIRECT)
    try:
        return _direct(lambda m: os.preadv(fd, [m], pos), size)
    finally:
        os.close(fd)


def attach(*stores):
    """Exports back ends through loopback: gives their disks, once they can be opened."""
    for n, s in enumerate(stores):
        # Without a serial number no VPD pages are listed, and the initiator does not look for limits.
        lio.write(s.path / "wwn/vpd_unit_serial", f"0000000{n}-2222-3333-4444-555555555555")
    tpg = lio.Loopback(*stores)
    disks = [tpg.disk(n) for n in range(len(stores))]
    for d in disks:
        lio.wait_for(lambda: opens(d))
    return disks[0] if len(disks) == 1 else disks


def opens(dev):
    """the disk can be opened"""
    try:
        os.close(os.open(dev, os.O_RDONLY))
    except OSError:
        return False
    return True


def _direct(what, size, data=None):
    import mmap

    with mmap.mmap(-1, max(size, 4096)) as m:
        if data is not None:
            m[: len(data)] = data
        with memoryview(m) as view, view[:size] as part:
            n = what(part)
        assert n == size, f"{n} of {size} bytes"
        return m[:size]


class _SgIo(ctypes.Structure):
    """struct sg_io_hdr of <scsi/sg.h>"""

    _fields_ = [
        ("interface_id", ctypes.c_int), ("dxfer_direction", ctypes.c_int), ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte), ("iovec_count", ctypes.c_ushort), ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p), ("cmdp", ctypes.c_void_p), ("sbp", ctypes.c_void_p), ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint), ("pack_id", ctypes.c_int), ("usr_ptr", ctypes.c_void_p), ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte), ("msg_status", ctypes.c_ubyte), ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort), ("driver_status", ctypes.c_ushort), ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint), ("info", ctypes.c_uint),
    ]


def scsi(dev, cdb, read=0, data=None):
    """Sends a CDB to a disk: gives (data read, status, (sense key, ASC, ASCQ))."""
    cdb = bytes.fromhex(cdb) if isinstance(cdb, str) else bytes(cdb)
    size = len(data) if data is not None else read
    buffer = ctypes.create_string_buffer(data, size) if data is not None else ctypes.create_string_buffer(max(size, 1))
    command, sense = ctypes.create_string_buffer(cdb, len(cdb)), ctypes.create_string_buffer(96)
    io = _SgIo(interface_id=ord("S"), dxfer_direction=-2 if data is not None else -3 if read else -1,
               cmd_len=len(cdb), mx_sb_len=96, dxfer_len=size, dxferp=ctypes.addressof(buffer),
               cmdp=ctypes.addressof(command), sbp=ctypes.addressof(sense), timeout=60000 * lio.SLOW)
    fd = os.open(generic(dev), os.O_RDWR)
    try:
        fcntl.ioctl(fd, 0x2285, io)
    finally:
        os.close(fd)
    assert not io.host_status, f"host status {io.host_status}"
    return buffer.raw[: size - io.resid], io.status, decode(sense.raw[: io.sb_len_wr])


def fails(dev, write, lba=0, blocks=8, block=512):
    """Reads or writes: gives (status, sense key, ASC, ASCQ)."""
    cdb = bytes([0x8A if write else 0x88, 0]) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
    size = blocks * block
    for _ in range(4):
        _, status, sense = scsi(dev, cdb, **({"data": bytes(size)} if write else {"read": size}))
        if sense[0] != 6:  # a unit attention comes first
            break
    return (status, *sense)


def unmap(dev, lba, blocks):
    """UNMAP of one range: gives (status, sense key, ASC, ASCQ)."""
    data = bytes([0, 22, 0, 16]) + bytes(4) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(4)
    _, status, sense = scsi(dev, "42 00 00 00 00 00 00 00 18 00", data=data)
    return (status, *sense)


def write_same(dev, lba, blocks, data=bytes(512), unmap=False):
    """WRITE SAME(16): gives (status, sense key, ASC, ASCQ)."""
    cdb = bytes([0x93, unmap << 3]) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes(2)
    _, status, sense = scsi(dev, cdb, data=data)
    return (status, *sense)


def generic(dev):
    """The character device of a disk, which can be opened for writing when the disk is write-protected."""
    lio.modprobe("sg")
    base = Path(f"/sys/block/{os.path.basename(dev)}/device/scsi_generic")
    return lio.wait_for(lambda: [f"/dev/{d.name}" for d in base.glob("*") if os.path.exists(f"/dev/{d.name}")])[0]


def rescan(dev):
    """Has the initiator read the capacity again."""
    lio.write(f"/sys/block/{os.path.basename(dev)}/device/rescan", 1)


def decode(sense):
    """(sense key, ASC, ASCQ)"""
    if len(sense) >= 14 and sense[0] & 0x7F in (0x70, 0x71):
        return sense[2] & 15, sense[12], sense[13]
    if len(sense) >= 4 and sense[0] & 0x7F in (0x72, 0x73):
        return sense[1] & 15, sense[2], sense[3]
    return None, None, None


def allocated(path):
    """Bytes that a file takes on its file system."""
    return os.stat(path).st_blocks * 512


def flushes(dev):
    """Flushes that a block device has been asked for."""
    return int(Path(f"/sys/block/{os.path.basename(os.path.realpath(dev))}/stat").read_text().split()[15])


@contextlib.contextmanager
def mounted(dev, where, *options):
    os.makedirs(where, exist_ok=True)
    lio.run("mount", *options, dev, where)
    try:
        yield where
    finally:
        lio.run("umount", where)


@contextlib.contextmanager
def dm(name, table):
    """A device-mapper device; gives its path."""
    lio.modprobe("dm_mod")
    lio.run("dmsetup", "create", "--noudevsync", name, input=table)
    try:
        yield "/dev/" + lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", name).stdout.strip()
    finally:
        lio.clear()
        lio.run("dmsetup", "remove", "--noudevsync", "--retry", name, check=False)


def reload(name, table, *how):
    lio.run("dmsetup", "suspend", "--noflush", *how, name)
    lio.run("dmsetup", "reload", name, input=table)
    lio.run("dmsetup", "resume", "--noudevsync", name)


@contextlib.contextmanager
def scsi_debug(**parameters):
    """The kernel's own simulated disk; gives its path."""
    assert "scsi_debug" not in lio.loaded()
    lio.run("modprobe", "scsi_debug", *(f"{k}={v}" for k, v in parameters.items()))

    def found():
        """scsi_debug's disk"""
        for d in Path("/sys/bus/pseudo/drivers/scsi_debug").glob("adapter*/host*/target*/*:*/block/*"):
            if os.path.exists(f"/dev/{d.name}"):
                return f"/dev/{d.name}"

    try:
        yield lio.wait_for(found)
    finally:
        lio.clear()
        lio.wait_for(lambda: lio.run("rmmod", "scsi_debug", check=False).returncode == 0)


def capacity(dev):
    """READ CAPACITY(16): (blocks, bytes of a block)"""
    got, status, _ = scsi(dev, "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32)
    if status == 2:  # the unit attention
        got, status, _ = scsi(dev, "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32)
    assert status == 0
    return int.from_bytes(got[:8], "big") + 1, int.from_bytes(got[8:12], "big")


def wce(dev):
    """The WCE bit of the caching mode page."""
    got, status, _ = scsi(dev, "1a 08 08 00 ff 00", 255)
    assert status == 0
    return bool(re.search(rb"[\x08\x88]\x12(.)", got[4:], re.S)[1][0] & 4)
