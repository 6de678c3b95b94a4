"""What the benchmark measures: its rows, and what each is to reach, as (at least, aim) in multiples of the C modules."""
from typing import NamedTuple

READ, WRITE = "randread", "randwrite"


class Setup(NamedTuple):
    """What must stand before fio can run: rows of one setup share it."""
    fabric: str            # loopback, iscsi
    store: str             # ramdisk, fileio (in the page cache), null_blk (by iblock)
    digests: bool = False  # header and data
    sessions: int = 1      # each to a target of its own with one LUN


class Row(NamedTuple):
    setup: Setup
    bs: str
    rw: str
    depth: int = 32
    jobs: int = 2                # for each disk
    throughput: tuple = ()       # (at least, aim)
    cost: tuple = ()

    @property
    def name(self):
        s = self.setup
        more = (" digests" if s.digests else "") + (f" {s.sessions} sessions" if s.sessions > 1 else "")
        depth = f"QD{self.depth}" + (f"x{self.jobs}" if self.jobs > 1 else "")
        return f"{s.fabric} {s.store}{more} {self.bs} {self.rw} {depth}"


ISCSI, LOOPBACK = Setup("iscsi", "ramdisk"), Setup("loopback", "ramdisk")
DIGESTS, EIGHT = ISCSI._replace(digests=True), ISCSI._replace(sessions=8)
BOUND = [
    Row(ISCSI, "4k", READ, throughput=(1.25, 1.5), cost=(1.5, 2.5)),
    Row(ISCSI, "4k", WRITE, throughput=(1.2, 1.4), cost=(1.4, 2.0)),
    Row(ISCSI, "64k", READ, throughput=(1.7, 2.2), cost=(3, 5)),
    Row(ISCSI, "64k", WRITE, throughput=(1.3, 1.6), cost=(1.5, 2.5)),
    Row(DIGESTS, "4k", READ, throughput=(1.2, 1.4), cost=(1.3, 1.8)),
    Row(DIGESTS, "64k", READ, throughput=(1.2, 1.4), cost=(1.3, 1.8)),
    Row(ISCSI, "4k", READ, 1, 1, throughput=(1.2, 1.4), cost=(1.4, 2.0)),
    Row(ISCSI._replace(store="fileio"), "64k", READ, throughput=(1.7, 2.2), cost=(3, 5)),
    Row(ISCSI._replace(store="null_blk"), "4k", READ, throughput=(1.2, 1.4), cost=(1.4, 2.0)),
    # Together they have as many commands outstanding as the first row.
    Row(EIGHT, "4k", READ, 8, 1, throughput=(1.25, 1.6), cost=(1.5, 2.5)),
    Row(LOOPBACK, "4k", READ, throughput=(1.25, 1.5), cost=(1.5, 2.5)),
    Row(LOOPBACK, "4k", WRITE, throughput=(1.25, 1.5), cost=(1.5, 2.5)),
    Row(LOOPBACK, "64k", READ, throughput=(1.15, 1.3), cost=(1.5, 2.5)),
    Row(LOOPBACK, "64k", WRITE, throughput=(1.15, 1.3), cost=(1.5, 2.5)),
]
# The rest of fabric x store x size x direction x depth.
ALSO = [r for s in (LOOPBACK, ISCSI, LOOPBACK._replace(store="fileio"), ISCSI._replace(store="fileio"))
        for bs in ("4k", "64k") for rw in (READ, WRITE) for d, j in ((1, 1), (32, 2))
        if (r := Row(s, bs, rw, d, j)).name not in {b.name for b in BOUND}]
# How it grows; one command at a time is above.
DEPTHS = [Row(s, "4k", READ, d, 1) for s in (LOOPBACK, ISCSI) for d in (4, 16, 64, 256, 1024)]


def grows(row):
    """Whether it tells how cost grows with depth."""
    return row.setup in (LOOPBACK, ISCSI) and row.bs == "4k" and row.rw == READ and row.jobs == 1


def all_rows(first):
    """Those that are measured in a round: all in the first of a run that is not a quick one, then those that have a bound."""
    return BOUND + ALSO + DEPTHS if first else BOUND


def by_setup(rows):
    """Setup -> its rows."""
    out = {}
    for r in rows:
        out.setdefault(r.setup, []).append(r)
    return out
