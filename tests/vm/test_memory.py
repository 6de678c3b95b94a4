"""Memory that is short: nothing hangs, commands are done, or fail with a status that has initiators try again, and no data is
wrong. The machine writes back its dirty pages through its own target, as memory that it needs for that."""
# vm: --mem 1G --timeout 600
import contextlib
import os
import random
import subprocess
import sys
import threading
import time

import initiator
import lio
import pytest
from faulty import BLOCK, GOOD, NO_SPACE, Local, Remote, rw
from storage import MIB, attach, mounted, pattern

BUSY, NO_RESOURCES = (8, ""), (2, "B/5503")
STOPS = 60 * lio.SLOW  # seconds: I/O that makes no progress for so long hangs; a guard, no measure
SECONDS = 6

# Takes memory until so few KiB are available, and uses it, so that it is not idle.
HOG = """
import mmap, sys, time
taken = []
def available():
    return int([l for l in open("/proc/meminfo") if l.startswith("MemAvailable")][0].split()[1])
while True:
    if available() > int(sys.argv[1]):
        m = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, len(m), 4096):
            m[at] = 1
        taken.append(m)
    else:
        time.sleep(0.02)
        for m in taken[::8]:
            m[0] = 2
"""


def never_kill(adj=-1000):
    lio.write("/proc/self/oom_score_adj", adj)


@contextlib.contextmanager
def hog(leave=24 << 10):
    """Somebody takes all memory but for so many KiB, again after each time that the kernel kills it. Gives how often that was."""
    killed, over = [], threading.Event()

    def start():
        p = subprocess.Popen([sys.executable, "-c", HOG, str(leave)], preexec_fn=lambda: never_kill(1000))
        with contextlib.suppress(OSError):
            lio.write(f"/proc/{p.pid}/oom_score_adj", 1000)
        return p

    def run():
        p = start()
        while not over.is_set():
            if p.poll() is not None:
                killed.append(p.returncode)
                p = start()
            time.sleep(0.05)
        p.kill()
        p.wait()

    t = threading.Thread(target=run)
    t.start()
    try:
        lio.wait_for(lambda: available() < leave + 8192, 60)
        yield killed
    finally:
        over.set()
        t.join()


def available():
    return int(next(line for line in lio.read("/proc/meminfo").splitlines() if line.startswith("MemAvailable")).split()[1])


@pytest.fixture(autouse=True)
def spared():
    """The kernel kills the hog, not the test."""
    before = lio.read("/proc/self/oom_score_adj")
    never_kill()
    yield
    lio.write("/proc/self/oom_score_adj", before)


def full_file(name, size):
    """A file of the test's that takes all its memory from the start."""
    path = f"/tmp/{name}.img"
    lio.run("dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size // MIB}")
    return path


def loop(path):
    lio.modprobe("loop")
    return lio.run("losetup", "--show", "-f", path).stdout.strip()


def store(kind, stack):
    """A back end of about 100 MiB, whose storage takes all its memory from the start."""
    dev = loop(full_file("loop-memory", 128 * MIB))
    if kind == "iblock":
        return lio.iblock(dev=dev)
    lio.run("mkfs.ext4", "-q", dev)
    stack.enter_context(mounted(dev, "/tmp/below"))
    stack.callback(lio.clear)
    return lio.fileio(file="/tmp/below/f", size=96 * MIB, buffered=True)


class Files:
    """Keeps writing files of a file system, through the page cache, and remembers what is in them."""

    def __init__(self, where, size=4 * MIB, count=16):
        self.where, self.size, self.count = where, size, count
        self.seeds, self.written, self.failure = {}, 0, None

    def run(self, over):
        r = random.Random(1)
        try:
            while not over.is_set():
                n, seed = r.randrange(self.count), r.randrange(1 << 20)
                self.seeds[n] = None
                with open(f"{self.where}/{n}", "wb") as f:
                    for at in range(0, self.size, MIB):
                        f.write(pattern(MIB, seed + at))
                        self.written += MIB
                    if r.random() < 0.3:
                        f.flush()
                        os.fsync(f.fileno())
                self.seeds[n] = seed
        except BaseException as e:
            self.failure = e

    def check(self):
        for n, seed in self.seeds.items():
            if seed is not None:
                with open(f"{self.where}/{n}", "rb") as f:
                    for at in range(0, self.size, MIB):
                        assert f.read(MIB) == pattern(MIB, seed + at), (n, at)


@pytest.mark.parametrize("kind, fabric", [("iblock", "loopback"), ("fileio", "iscsi")])
def test_writing_back_through_itself(kind, fabric):
    """A file system on our own disk, whose dirty pages must be written for memory to become free."""
    with contextlib.ExitStack() as stack:
        s = store(kind, stack)
        if fabric == "loopback":
            disk = attach(s)
        else:
            disk = lio.login(lio.IscsiTarget(s))[0]
        lio.run("mkfs.ext4", "-q", disk)
        with mounted(disk, "/tmp/own"):
            files, over = Files("/tmp/own"), threading.Event()
            with hog() as killed:
                t = threading.Thread(target=files.run, args=(over,))
                t.start()
                end = time.monotonic() + SECONDS
                while (time.monotonic() < end or files.written <= 8 * MIB and time.monotonic() < end + STOPS) and files.failure is None:
                    time.sleep(0.2)
                low = available()
                over.set()
                t.join(STOPS)
                assert not t.is_alive() and files.failure is None, files.failure
            print(f"{kind} {fabric}: {files.written // MIB} MiB written, {low} KiB available, killed {len(killed)} times")
            assert files.written > 8 * MIB
            lio.run("sync", timeout=60)
            lio.write("/proc/sys/vm/drop_caches", 3)
            files.check()
        if fabric == "iscsi":
            lio.logout()


def test_commands():
    """Large commands of many sessions, and logins, while there is no memory for them."""
    target = lio.IscsiTarget(lio.ramdisk(size=64 * MIB), lio.fileio(file=full_file("f0", 64 * MIB), size=64 * MIB))
    local = Remote(target, 1)
    for lun in range(2):
        for lba in range(0, 64 * MIB // BLOCK, 4096):
            assert local.write(lba, bytes(2 * MIB), lun).what == GOOD
    heard, slowest, failures, over, refused = [], [0], [], threading.Event(), []

    def use(n):
        i, r = Remote(target, 10 + n), random.Random(n)
        try:
            while not over.is_set():
                # Each has 16 MiB of its own.
                lba, lun, data = n * 32768 + r.randrange(28) * 1024, r.randrange(2), pattern(2 * MIB, r.randrange(1 << 20))
                a = i.write(lba, data, lun)
                heard.append(a.what)
                slowest[0] = max(slowest[0], a.took)
                if a.what == GOOD:
                    a = i.read(lba, 4096, lun)
                    heard.append(a.what)
                    slowest[0] = max(slowest[0], a.took)
                    assert a.what != GOOD or a.data == data
        except BaseException as e:
            failures.append(e)

    def log_in():
        n = 0
        try:
            while not over.is_set():
                n += 1
                c = initiator.Connection()
                a = c.login(target.iqn, isid=b"\x80\0\0\0\2" + bytes([n % 250]), check=False)
                refused.append(a.login_status if a else None)
                c.close()
        except BaseException as e:
            failures.append(e)

    with hog(20 << 10) as killed:
        threads = [threading.Thread(target=use, args=(n,)) for n in range(4)] + [threading.Thread(target=log_in)]
        for t in threads:
            t.start()
        time.sleep(SECONDS)
        lio.wait_for(lambda: failures or GOOD in heard and 0 in refused, 60)
        over.set()
        for t in threads:
            t.join(60 * lio.SLOW)
        assert not any(t.is_alive() for t in threads) and not failures, failures
    print(f"{ {h: heard.count(h) for h in set(heard)} }, slowest {slowest[0]:.1f} s, logins { {r: refused.count(r) for r in set(refused)} }, "
          f"killed {len(killed)} times")
    assert GOOD in heard and set(heard) <= {GOOD, BUSY, NO_RESOURCES}, set(heard)
    assert set(refused) <= {0, 0x0302, None} and 0 in refused
    assert slowest[0] < STOPS
    for lun in range(2):
        assert local.write(0, pattern(4 * MIB, 5), lun).what == GOOD
        assert local.read(0, 8192, lun).data == pattern(4 * MIB, 5)
    local.close()


def test_ramdisk_beyond_memory():
    """A RAM disk that is larger than the machine's memory is full before that is: its initiator hears so, the machine goes on."""
    i, data, heard = Local(lio.ramdisk(size=4 << 30)), pattern(2 * MIB, 1), []
    while heard[-8:] != [NO_SPACE] * 8 and len(heard) < 1000:
        heard.append(i.write(len(heard) * 4096, data).what)
    full = heard.index(NO_SPACE)
    print(f"full after {full * 2} MiB, {available() // 1024} MiB are available")
    assert set(heard[:full]) == {GOOD} and set(heard[full:]) <= {GOOD, NO_SPACE} and heard[-1] == NO_SPACE
    assert full > 100 and available() > 32 << 10
    for n in 0, full - 1:
        assert i.read(n * 4096, 4096).data == data
    # What can be written already can be written again; what is not there any more is room.
    assert i.write(0, data).what == GOOD
    i.close()
    lio.clear()
    lio.wait_for(lambda: available() > full * 2048)
