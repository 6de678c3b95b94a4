"""Initiators of others. open-iscsi over all that it can negotiate, with verified data: rows that have each pair of values in
`make check`, the whole product in `make check-iscsi-matrix` (LIO_RS_ARGS="all=1"). And libiscsi, QEMU's driver and open-iscsi
side by side on one disk."""
# vm: --timeout 900
# group: portals
import ctypes
import hashlib
import itertools
import os
import random
import re
import threading
import time
from pathlib import Path

import lio
import pytest
import storage
import test_chap

ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))
SIZE = 32 << 20
DIGESTS = ("None", "CRC32C")
OPTIONS = {"InitialR2T": ("Yes", "No"), "ImmediateData": ("Yes", "No"), "HeaderDigest": DIGESTS, "DataDigest": DIGESTS,
           "bursts": ("small", "default", "large"), "chap": ("none", "one-way", "mutual")}
BURSTS = {  # FirstBurstLength, MaxBurstLength, MaxRecvDataSegmentLength of both sides
    "small": (1024, 4096, 1024), "default": (65536, 262144, 65536), "large": (16776192, 16776192, 1 << 20)}
SECRETS = {"username": "client", "password": "of-the-client-16", "username_in": "target", "password_in": "of-the-target-16"}


def product():
    return [dict(zip(OPTIONS, values)) for values in itertools.product(*OPTIONS.values())]


def pairs(row):
    return set(itertools.combinations(row.items(), 2))


def pairwise():
    """Rows of the product in which each pair of values comes together: the row with most of the missing ones first."""
    rows, chosen = product(), []
    random.Random(3).shuffle(rows)  # by which there are 9 rows, the fewest possible
    missing = set().union(*map(pairs, rows))
    while missing:
        chosen.append(max(rows, key=lambda row: len(pairs(row) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


ROWS = product() if ARGS.get("all") else pairwise()


@pytest.fixture(scope="module")
def target():
    store = lio.fileio("matrix", SIZE)
    t = lio.IscsiTarget(store, acls=(lio.initiator_name(),))
    # The outcome is the initiator's choice.
    lio.write(t.path / "param/InitialR2T", "No")
    for name in ("MaxBurstLength", "FirstBurstLength"):
        lio.write(t.path / "param" / name, 16776192)
    yield t
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The target stays; no session does."""
    yield
    if Path("/sys/class/iscsi_session").exists() and os.listdir("/sys/class/iscsi_session"):
        lio.logout()


def configure(target, row):
    """Sets the target up for a row; gives open-iscsi's settings."""
    first, most, segment = BURSTS[row["bursts"]]
    lio.write(target.path / "param/MaxRecvDataSegmentLength", segment)
    auth = target.path / "acls" / lio.initiator_name() / "auth"
    settings = {f"node.session.iscsi.{k}": row[k] for k in ("InitialR2T", "ImmediateData")}
    settings |= {f"node.conn[0].iscsi.{k}": row[k] for k in ("HeaderDigest", "DataDigest")}
    settings |= {"node.session.iscsi.FirstBurstLength": first, "node.session.iscsi.MaxBurstLength": most,
                 "node.conn[0].iscsi.MaxRecvDataSegmentLength": segment}
    keys = {"none": (), "one-way": list(SECRETS)[:2], "mutual": SECRETS}[row["chap"]]
    target.attrib("authentication", int(bool(keys)))
    values = [SECRETS[k] if k in keys else None for k in SECRETS]
    test_chap.set_auth(auth, *values)
    settings |= {"node.session.auth.authmethod": "CHAP" if keys else "None"}
    return settings | {f"node.session.auth.{k}": SECRETS[k] for k in keys}


def login(target, settings):
    """As lio.login, with one call for all settings."""
    lio.start_iscsid()
    node = ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portals[0]]
    lio.run(*node, "-o", "new")
    lio.run(*node, "-o", "update", *itertools.chain(*(("-n", k, "-v", v) for k, v in settings.items())))
    lio.run(*node, "--login", timeout=90)
    return lio.iscsi_disks(target)[0]


def agreed(target):
    """What the session has, as the initiator's kernel says."""
    session = next(s for s in Path("/sys/class/iscsi_session").iterdir() if lio.read(s / "targetname") == target.iqn)
    connection = next(Path("/sys/class/iscsi_connection").glob(f"connection{session.name[7:]}:*"))
    return {name: lio.read((session if (session / name).exists() else connection) / name)
            for name in ("initial_r2t", "immediate_data", "first_burst_len", "max_burst_len", "header_digest", "data_digest",
                         "max_recv_dlength", "max_xmit_dlength", "username", "username_in")}


@pytest.mark.parametrize("row", ROWS, ids=["-".join(r.values()) for r in ROWS])
def test_open_iscsi(target, row):
    """What is written by one command arrives in the file, and is read as it was written, whatever way the data went."""
    disk = login(target, configure(target, row))
    first, most, segment = BURSTS[row["bursts"]]
    got = agreed(target)
    assert got["initial_r2t"] == str(int(row["InitialR2T"] == "Yes"))
    assert got["immediate_data"] == str(int(row["ImmediateData"] == "Yes"))
    assert (int(got["first_burst_len"]), int(got["max_burst_len"])) == (first, most)
    assert int(got["max_recv_dlength"]) == int(got["max_xmit_dlength"]) == segment
    assert (got["header_digest"], got["data_digest"]) == tuple(str(int(row[d] == "CRC32C")) for d in ("HeaderDigest", "DataDigest"))
    assert ("client" in got["username"], "target" in got["username_in"]) == (row["chap"] != "none", row["chap"] == "mutual")
    random_bytes = random.Random(str(row))
    at, written = 0, {}
    for size in (512, 1024, 1536, 4096, 65536, 66048, 262144, 524288):
        at += 512 * random_bytes.randrange(1, 64)
        written[at] = random_bytes.randbytes(size)
        storage.pwrite(disk, at, written[at])
        at += size
    with open("/tmp/matrix.img", "rb") as f:
        for at, data in written.items():
            f.seek(at)
            assert f.read(len(data)) == data, f"{len(data)} bytes at {at} are not what was written"
            assert storage.pread(disk, at, len(data)) == data, f"{len(data)} bytes at {at} are not read as they were written"


# --- side by side ------------------------------------------------------------------------------------------------------------


MIB = 1 << 20
SECONDS = int(ARGS.get("seconds", 6))


class Libiscsi:
    """A session of libiscsi's, which writes; what it reads, its iscsi-md5sum does."""

    def __init__(self, url, name="iqn.2024-01.org.example:libiscsi"):
        self.lib, self.url, self.name = ctypes.CDLL("libiscsi.so.7"), url, name
        for f in ("iscsi_create_context", "iscsi_parse_full_url", "iscsi_write10_sync", "iscsi_get_error"):
            getattr(self.lib, f).restype = ctypes.c_char_p if f == "iscsi_get_error" else ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.iscsi_create_context(name.encode()))
        self.lib.iscsi_set_session_type(self.context, 2)  # ISCSI_SESSION_NORMAL
        portal, iqn, lun = url.removeprefix("iscsi://").split("/")
        self.lun = int(lun)
        assert self.lib.iscsi_set_targetname(self.context, iqn.encode()) == 0
        if self.lib.iscsi_full_connect_sync(self.context, portal.encode(), self.lun):
            raise AssertionError(self.lib.iscsi_get_error(self.context).decode())

    def write(self, at, data):
        task = self.lib.iscsi_write10_sync(self.context, self.lun, ctypes.c_uint32(at // 512), data, ctypes.c_uint32(len(data)), 512,
                                           0, 0, 0, 0, 0)
        assert task, self.lib.iscsi_get_error(self.context).decode()
        status = ctypes.cast(task, ctypes.POINTER(ctypes.c_int))[0]
        assert status == 0, f"status {status:#x}"
        self.lib.scsi_free_scsi_task(ctypes.c_void_p(task))

    def close(self):
        self.lib.iscsi_logout_sync(self.context)
        self.lib.iscsi_destroy_context(self.context)


def libiscsi(url, base, rounds):
    """Writes its part of the disk, and has libiscsi's tools read it."""
    part = bytearray(4 * MIB)
    mine = Libiscsi(url)
    mine.write(base, bytes(part[: MIB])), mine.write(base + MIB, bytes(part[: MIB])), mine.write(base + 2 * MIB, bytes(part[: 2 * MIB]))
    for n in rounds:
        for _ in range(8):
            size, at = 512 * random.randrange(1, 512), 512 * random.randrange(0, 4 * MIB // 512 - 512)
            part[at : at + size] = os.urandom(size)
            mine.write(base + at, bytes(part[at : at + size]))
        out = lio.run("iscsi-md5sum", "-i", mine.name + ":md5", "-o", base, "-l", len(part), url).stdout
        assert hashlib.md5(part).hexdigest() in out, f"libiscsi, round {n}: {out}"
        if n == 0:
            assert f"{SIZE // 512 - 1}" in lio.run("iscsi-readcapacity16", url).stdout
            assert "Vendor:LIO-ORG" in lio.run("iscsi-inq", url).stdout
            assert url.split("/")[3] in lio.run("iscsi-ls", url.rsplit("/", 2)[0]).stdout
    mine.close()
    return base, bytes(part)


def qemu(url, base, rounds):
    """qemu-io writes its part of the disk with patterns that it verifies; qemu-img copies to another disk of the target, and compares."""
    part = bytearray(4 * MIB)
    scratch = url.rsplit("/", 1)[0] + "/1"
    for n in rounds:
        commands = []
        for _ in range(6):
            size, at, byte = 512 * random.randrange(1, 1024), 512 * random.randrange(0, 4 * MIB // 512 - 1024), random.randrange(1, 255)
            part[at : at + size] = bytes([byte]) * size
            commands += ["-c", f"write -P {byte} {base + at} {size}", "-c", f"read -P {byte} {base + at} {size}"]
        p = lio.run("qemu-io", "-f", "raw", "-t", "none", *commands, "-c", "flush", url)
        assert "failed" not in p.stdout and p.stdout.count("wrote") == 6 and p.stdout.count("read ") == 6, f"qemu-io, round {n}: {p.stdout}"
        if n == 0:
            with open("/tmp/qemu.raw", "wb") as f:
                f.write(os.urandom(MIB) + bytes(MIB) + os.urandom(2 * MIB))
            lio.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "/tmp/qemu.raw", scratch)
            assert "identical" in lio.run("qemu-img", "compare", "-f", "raw", "-F", "raw", "/tmp/qemu.raw", scratch).stdout
    # What was never written reads as it was before: the other parts are not touched.
    return base, {at: part[at] for at in range(0, len(part), 512) if part[at]}


def open_iscsi(disk, base, rounds):
    """Writes its part of the disk, and reads it again."""
    part = bytearray(storage.pread(disk, base, 8 * MIB))
    for n in rounds:
        for _ in range(16):
            size, at = 512 * random.randrange(1, 1024), 512 * random.randrange(0, 8 * MIB // 512 - 1024)
            part[at : at + size] = os.urandom(size)
            storage.pwrite(disk, base + at, bytes(part[at : at + size]))
        assert storage.pread(disk, base, len(part)) == part, f"open-iscsi, round {n}"
    return base, bytes(part)


def test_side_by_side():
    """Two targets with one disk, three initiators: each verifies its own part while the others write theirs."""
    disk, scratch = lio.fileio("shared", SIZE), lio.ramdisk("scratch", 4 * MIB)
    a = lio.IscsiTarget(disk, scratch, iqn="iqn.2003-01.org.example:a")
    b = lio.IscsiTarget(disk, scratch, iqn="iqn.2003-01.org.example:b")
    end = time.monotonic() + SECONDS * lio.SLOW
    counts, results, failures = {}, [], []

    def rounds(who):
        n = 0
        while n < 2 or time.monotonic() < end:
            if failures:
                return
            yield n
            n += 1
            counts[who] = n

    def run(f, *args):
        try:
            results.append(f(*args, rounds(f.__name__)))
        except BaseException as e:
            failures.append(e)

    local = login(a, {"node.session.auth.authmethod": "None"})
    url = "iscsi://127.0.0.1:3260/{}/0"
    threads = [threading.Thread(target=run, args=args, daemon=True) for args in (
        (libiscsi, url.format(b.iqn), 0), (qemu, url.format(b.iqn), 8 * MIB), (open_iscsi, local, 16 * MIB))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(300 * lio.SLOW)
    assert not any(t.is_alive() for t in threads), "something hangs"
    if failures:
        raise failures[0]
    print(counts)
    with open("/tmp/shared.img", "rb") as f:
        whole = f.read()
    for base, part in results:
        if isinstance(part, dict):
            assert all(whole[base + at] == byte for at, byte in part.items())
        else:
            assert whole[base : base + len(part)] == part
    assert whole[4 * MIB : 8 * MIB] == bytes(4 * MIB) and whole[12 * MIB : 16 * MIB] == bytes(4 * MIB), "somebody wrote beside his part"
    lio.logout(a)
    lio.clear()
