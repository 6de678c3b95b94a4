"""`make check-rows`: what `make bench` measures, with verification, for ten minutes: each row that has a bound on disks of its own, all
at once."""
import os
import re
import sys
import threading
import time
from pathlib import Path

import lio
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
import machine  # noqa: E402
from rows import BOUND, WRITE  # noqa: E402

SECONDS = int((re.search(r"seconds=(\d+)", os.environ.get("LIO_RS_ARGS", "")) or [0, 600])[1])
VERIFY = ["--ioengine=libaio", "--direct=1", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--group_reporting",
          # blocks are written by one job and read by others
          "--verify_header_seed=0"]


def store(row, name):
    kind = row.setup.store
    if kind == "null_blk":  # which keeps what is written here
        return lio.iblock(name, dev="/dev/nullb0")
    return lio.fileio(name, machine.SIZE, buffered=True) if kind == "fileio" else lio.ramdisk(name, machine.SIZE)


def disks_of(number, row):
    """Its disks, each a unit of its own."""
    names = [f"row{number}-{n}" for n in range(row.setup.sessions)]
    if row.setup.fabric == "loopback":
        return [lio.Loopback(store(row, name), wwn=f"naa.50014050000001{number:02x}").disk() for name in names]
    settings = machine.DIGESTS if row.setup.digests else None
    return [lio.login(lio.IscsiTarget(store(row, name), iqn=f"iqn.2003-01.org.example:{name}"), settings=settings)[0] for name in names]


@pytest.fixture
def disks():
    lio.run("modprobe", "null_blk", "nr_devices=0")
    kept = Path("/sys/kernel/config/nullb/nullb0")
    kept.mkdir()
    for name, value in {"size": 16, "blocksize": 512, "irqmode": 0, "queue_mode": 2, "memory_backed": 1, "power": 1}.items():
        lio.write(kept / name, value)
    yield [disks_of(number, row) for number, row in enumerate(BOUND)]
    lio.clear()
    kept.rmdir()


def work(row, disks, until, result):
    """Passes that write each block once and verify it, or reads of blocks that are verified, until the time is up."""
    share = machine.SIZE // row.jobs
    base = [*VERIFY, f"--bs={row.bs}", f"--iodepth={row.depth}", f"--numjobs={row.jobs}", f"--offset_increment={share}", f"--size={share}"]
    jobs = [x for disk in disks for x in (f"--name={Path(disk).name}", f"--filename={disk}")]
    passes = ["--rw=randwrite", "--verify_backlog=64", "--serialize_overlap=1"]
    try:
        while time.monotonic() < until and not result["error"]:
            reads = row.rw != WRITE and result["verified"]
            left = int(until - time.monotonic()) + 1
            how = ["--rw=randread", "--time_based", f"--runtime={left}"] if reads else passes
            said = lio.fio_json(*base, *how, *jobs, timeout=SECONDS + 600, check=False).get("jobs", [])
            result["error"] += sum(job["error"] for job in said) + (not said)
            wrote, read = (sum(job[what]["total_ios"] for job in said) for what in ("write", "read"))
            result["error"] += 0 if reads else wrote != read
            result["verified"] += read
    except Exception as e:  # a thread's is nobody's
        result["error"] = repr(e)


def test_each_row(disks):
    until = time.monotonic() + SECONDS
    results = [{"verified": 0, "error": 0} for _ in BOUND]
    threads = [threading.Thread(target=work, args=(row, d, until, r)) for row, d, r in zip(BOUND, disks, results)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for row, r in zip(BOUND, results):
        print(f"{row.name:45} {r['verified']:9} blocks verified{', error: ' + str(r['error']) if r['error'] else ''}")
    assert not [row.name for row, r in zip(BOUND, results) if r["error"] or r["verified"] < machine.SIZE // 65536]
