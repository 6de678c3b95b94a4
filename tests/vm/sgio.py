"""SCSI commands by the SG_IO ioctl: what sg_raw does, without a process for each."""
import ctypes
import fcntl
import os
import struct

import lio

SG_IO = 0x2285
FORMAT = "@iiBBHIPPPIIiPBBBBHHiII"
NONE, TO_DEV, FROM_DEV = -1, -2, -3


class Result:
    def __init__(self, status, host, driver, sense, data, resid):
        self.status, self.host, self.driver, self.sense, self.data, self.resid = status, host, driver, sense, data, resid

    def __repr__(self):
        return f"Result(status={self.status:#x}, host={self.host:#x}, {say(self.sense)}, {len(self.data)} bytes, resid={self.resid})"


def say(sense):
    """KEY/ASCASCQ of sense data, "" if there are none."""
    if not sense:
        return ""
    if sense[0] & 0x7F >= 0x72:
        return f"{sense[1] & 15:X}/{sense[2]:02x}{sense[3]:02x}"
    return f"{sense[2] & 15:X}/{sense[12]:02x}{sense[13]:02x}"


def field(sense):
    """The field pointer in sense data: (in the CDB, byte, bit or None); None if there is none."""
    if len(sense) < 8:
        return None
    if sense[0] & 0x7F >= 0x72:
        at = 8
        while at < len(sense):
            if sense[at] == 2:
                return pointer(sense[at + 4 : at + 7])
            at += 2 + sense[at + 1]
        return None
    return pointer(sense[15:18]) if len(sense) >= 18 else None


def pointer(s):
    if not s[0] & 0x80:
        return None
    return bool(s[0] & 0x40), int.from_bytes(s[1:3], "big"), s[0] & 7 if s[0] & 8 else None


def information(sense):
    """The INFORMATION field; None if it is not valid."""
    return int.from_bytes(sense[3:7], "big") if sense and sense[0] & 0x80 else None


class Disk:
    """A disk, or its sg node, opened for SG_IO."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def close(self):
        os.close(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def scsi(self, cdb, read=0, write=b"", timeout=60, length=None):
        """One command. `length`: of the transfer that is announced, if not that of the data."""
        cdb = bytes.fromhex(cdb) if isinstance(cdb, str) else bytes(cdb)
        n = length if length is not None else (len(write) or read)
        data = ctypes.create_string_buffer(bytes(write).ljust(n, b"\0") if write else bytes(n), max(n, 1))
        command, sense = ctypes.create_string_buffer(cdb, len(cdb)), ctypes.create_string_buffer(64)
        hdr = bytearray(struct.pack(FORMAT, ord("S"), TO_DEV if write else FROM_DEV if n else NONE, len(cdb), 64, 0, n,
                                    ctypes.addressof(data), ctypes.addressof(command), ctypes.addressof(sense), timeout * 1000 * lio.SLOW,
                                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        fcntl.ioctl(self.fd, SG_IO, hdr)
        f = struct.unpack(FORMAT, hdr)
        status, sense_len, host, driver, resid = f[13], f[16], f[17], f[18], f[19]
        return Result(status, host, driver, sense.raw[:sense_len], b"" if write else data.raw[: max(n - resid, 0)], resid)
