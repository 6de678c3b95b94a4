"""What was acknowledged, and whether it is there: reads what writer.c tells.

Of each sector, what may be found after a cut is the last write that was acknowledged as durable, or a later one, acknowledged
or in flight. Durable are: writes where WCE is 0, writes with FUA, and writes that were acknowledged before a SYNCHRONIZE
CACHE of their range began that has been acknowledged itself (SBC-4, 4.16)."""
import collections
import struct

RECORD = struct.Struct("<cBBBIQQ")
Write = collections.namedtuple("Write", "round worker seq")
NOTHING = Write(0, 0, 0)


def records(data):
    """(type, disk, worker, count, round, lba, seq) of whole records."""
    for r in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        yield (r[0].decode("latin-1"), *r[1:])


class Checker:
    """Of one disk. After each cut: verified() with what was found, then told() with what was acknowledged until the next."""

    def __init__(self, wce):
        self.wce = wce
        self.durable = collections.defaultdict(lambda: NOTHING)
        self.zeroed = set()  # sectors that were unmapped since
        self.last = {}  # worker: what it was told last
        self.round = 0
        self.acknowledged = {"D": 0, "W": 0, "S": 0}

    def verified(self, found):
        """`found`: the records of a whole reading. Gives what is wrong, a line each; what is there counts from now on."""
        wrong = []
        for kind, _, worker, _, round_, lba, seq in found:
            had = self.durable[lba]
            got = Write(round_, worker, seq) if kind == "R" else NOTHING
            why = None
            if kind == "X":
                why = "garbage"
            elif got == had or kind == "Z" and lba in self.zeroed:
                pass
            elif got.round != self.round or had.round == got.round and got.seq < had.seq:
                why = "LOST"
            elif got.seq > self.last.get(worker, 0) + 1:
                why = "was never written"
            if why:
                wrong.append(f"LBA {lba}: {why}: found {got}, acknowledged {had}")
            self.durable[lba] = got
        self.zeroed.clear()
        return wrong

    def told(self, stream, round_):
        """The records of the writers in one round. Gives what they failed with."""
        self.last, self.round, failed = {}, round_, []
        cached = {}  # lba: (place in the stream, write): acknowledged, and not durable
        flushing = {}
        for place, (kind, _, worker, count, _, lba, seq) in enumerate(stream):
            if kind in "DW":
                self.last[worker] = seq
                for n in range(lba, lba + count):
                    if kind == "D":
                        self._durable(n, Write(round_, worker, seq))
                        cached.pop(n, None)
                    else:
                        cached.setdefault(n, []).append((place, Write(round_, worker, seq)))
            elif kind == "s":
                flushing[worker] = place
            elif kind == "S":
                began = flushing.pop(worker)
                for n in list(cached) if not count else range(lba, lba + count):
                    before = [w for at, w in cached.get(n, ()) if at < began]
                    if before:
                        self._durable(n, before[-1])
                        cached[n] = cached[n][len(before) :]
            elif kind == "U":
                for n in range(lba, lba + count):
                    self.zeroed.add(n)
                    cached.pop(n, None)
            elif kind == "C" and bool(count) != self.wce:
                failed.append(f"WCE is {count}")
            elif kind == "E":
                failed.append(f"command {seq:#x} of worker {worker}: status {count:#x}, {lba:#x}" if seq else f"no disk (errno {lba})")
            if kind in self.acknowledged:
                self.acknowledged[kind] += 1
        return failed

    def _durable(self, lba, write):
        self.durable[lba] = write
        self.zeroed.discard(lba)
