"""Hostile initiators of every kind (hostile.py), while an honest one's verified I/O goes on, on a unit of its own and on one whose
back end the hostile ones see, too. After each of them nothing is left of them, and a new login works.
15 s of mutated sessions in `make check`; `make check-hostile` makes more of all (LIO_RS_ARGS="seconds=N seed=N")."""
# vm: --timeout 900
import contextlib
import os
import random
import re
import resource
import threading
import time
from pathlib import Path

import hostile
import initiator
import leaks
import lio
import pytest
from initiator import ABORT_TASK, FINAL, LUN_RESET, NONE, R2T, TMF, TMF_RESPONSE, WARM_RESET, WRITE

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do not survive this")
ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))
SECONDS = int(ARGS.get("seconds", 15))
LONG = max(SECONDS // 15, 1)  # how many times as much as in the short form
SEED = int(ARGS.get("seed", random.randrange(1 << 32)))
MIB = 1 << 20
BAD, GOOD = "iqn.2003-01.org.example:bad", "iqn.2003-01.org.example:honest-target"
ME, OTHER = lio.initiator_name(), "iqn.2024-01.org.example:another-honest-one"
OWN, SHARED = 0, 1  # LUNs
# The bounds of limits.rs: logins in progress, bytes of our own for each, and what TCP receives for each at first.
LOGINS, EACH, RECEIVED = 512, 100 << 10, 128 << 10
# Connections that are kept open, and what the client's side of one costs; what the kernel remembers of one that is closed.
OPEN, SOCKET, CLOSED = 1400, 4 << 10, 512
# WRITE SAME (16) of all of the hostile ones' own unit, with UNMAP.
UNMAP_ALL = b"\x93\x08" + bytes(8) + (16 * MIB // 512).to_bytes(4, "big") + bytes(2)
# What fio does to each of the honest initiator's disks: block size, queue depth, bytes.
LOAD = {OWN: ("4k", 8, 16 * MIB), SHARED: ("64k", 4, 16 * MIB)}


class Honest(threading.Thread):
    """open-iscsi with two disks, and fio with verification on both, again and again."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target = target
        self.disks = lio.login(target)
        self.session = self.info()
        self.stopped, self.wrong, self.verified = threading.Event(), [], dict.fromkeys(LOAD, 0)
        self.start()

    def info(self):
        """The target's name for the session, which another login would change."""
        return re.search(r"Session ID: *(\d+)", lio.read(self.target.path / "acls" / ME / "info"))[1]

    def run(self):
        while not self.stopped.is_set() and not self.wrong:
            jobs = [x for lun, (bs, depth, size) in LOAD.items() for x in (
                f"--name=lun{lun}", f"--filename={self.disks[lun]}", f"--bs={bs}", f"--iodepth={depth}", f"--size={size}")]
            try:
                r = lio.fio_json("--ioengine=libaio", "--direct=1", "--rw=randwrite", "--runtime=4", "--time_based", "--verify=crc32c",
                                 "--verify_fatal=1", "--verify_backlog=16", "--verify_state_save=0", "--serialize_overlap=1", *jobs,
                                 timeout=300, check=False)
            except Exception as e:
                self.wrong.append(repr(e))
                return
            jobs = r.get("jobs", [])
            for lun, job in zip(LOAD, jobs):
                self.verified[lun] += job["read"]["io_bytes"]
                if job["error"]:
                    self.wrong.append(f"{job['jobname']}: error {job['error']}")
            if len(jobs) != len(LOAD):
                self.wrong.append("fio did not run")

    def unharmed(self):
        """Fails unless I/O has gone on without an error, in the same session."""
        before = dict(self.verified)
        lio.wait_for(lambda: self.wrong or all(self.verified[lun] > before[lun] for lun in LOAD), 60)
        assert not self.wrong, self.wrong
        assert self.info() == self.session, "the honest session has been reinstated"
        for s in Path("/sys/class/iscsi_session").iterdir():
            assert lio.read(s / "state") == "LOGGED_IN"

    def end(self):
        self.stopped.set()
        self.join(120 * lio.SLOW)
        assert not self.is_alive(), "fio hangs"
        assert not self.wrong, self.wrong
        print(f"the honest initiator verified {sum(self.verified.values()) >> 20} MiB")


@pytest.fixture(scope="module")
def world():
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    lio.run("ip", "link", "set", "lo", "up")
    lio.write("/proc/sys/net/ipv4/tcp_no_metrics_save", 1)  # of ten thousand addresses
    lio.write("/proc/sys/net/ipv4/tcp_max_tw_buckets", 0)  # nor are their ports remembered for a minute
    print(f"seed={SEED} seconds={SECONDS}")
    w = World()
    yield w
    w.honest.end()
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The world stays."""
    yield
    assert not klog.has("detected conn error"), "the honest initiator's connection broke"


class World:
    def __init__(self):
        mine = lio.ramdisk("hostile", size=16 * MIB)
        for a in ("emulate_tpu", "emulate_tpws"):
            mine.attrib(a, 1)
        shared, own = lio.fileio("shared", size=16 * MIB), lio.iblock("own", dev=lio.loop_device(16 * MIB))
        self.bad = lio.IscsiTarget(mine, shared, iqn=BAD)
        for worker in range(4):
            self.bad.acl(hostile.hostile_name(worker), (OWN, SHARED), write_protect=(SHARED,))
        lio.write(self.bad.path / "param/InitialR2T", "No")
        self.bad.attrib("login_timeout", min(5 * lio.SLOW, 30))
        self.good = lio.IscsiTarget(own, shared, iqn=GOOD, acls=[ME, OTHER])
        self.attack = hostile.Attack(self.bad, SHARED)
        self.new_login()
        self.sessions_gone()
        self.honest = Honest(self.good)
        self.threads = connections()

    def new_login(self, patience=15):
        """Another honest initiator logs in and reads; gives how long it took, with what it had to try again."""
        start = time.monotonic()
        while True:
            with contextlib.suppress(OSError, AssertionError), initiator.session(self.good, name=OTHER, isid=b"\x80\0\0\0\x0b\1") as c:
                assert c.scsi(bytes.fromhex("28000000000000000800"), read=4096)[0] == 0
                c.logout()
                break
            assert time.monotonic() - start < patience * lio.SLOW, "an honest initiator is kept out"
            time.sleep(0.1)
        return time.monotonic() - start

    def sessions_gone(self):
        """no session of the hostile ones is left"""
        lio.wait_for(lambda: lio.read(self.bad.wwn_path / "fabric_statistics/iscsi_instance/sessions") == "0", 60)

    def over(self):
        """What a hostile one leaves: nothing. The others go on."""
        self.sessions_gone()
        lio.wait_for(lambda: connections() <= self.threads, 60)
        self.new_login()
        self.honest.unharmed()

    def hostile_session(self, worker=0, **kw):
        isid = b"\x80\0\1" + bytes([worker]) + random.randbytes(2)
        return initiator.session(self.bad, name=hostile.hostile_name(worker), isid=isid, **kw)


def connections():
    """Threads of iSCSI connections."""
    return leaks.threads().get("iscsi_conn", 0)


def available():
    """Bytes that the kernel has not taken for itself, and those that TCP has of the others."""
    m = {k: int(v) << 10 for k, v in re.findall(r"^([\w()]+): +(\d+)", lio.read("/proc/meminfo"), re.M)}
    tcp = int(re.search(r"TCP: .* mem (\d+)", lio.read("/proc/net/sockstat"))[1]) * 4096
    kept = sum(map(int, re.findall(r"^ +count: +(\d+)", lio.read("/proc/zoneinfo"), re.M))) * 4096
    return sum(m[k] for k in ("MemFree", "Buffers", "Cached", "AnonPages", "PageTables")) + kept, tcp


class Held:
    """The most that is held beyond what was at first: by anybody but TCP, and by TCP, in bytes; and threads."""

    def __init__(self):
        self.start, self.own, self.tcp, self.threads = available(), 0, 0, 0

    def look(self):
        free, tcp = available()
        self.own = max(self.own, self.start[0] - free - (tcp - self.start[1]))
        self.tcp = max(self.tcp, tcp - self.start[1])
        self.threads = max(self.threads, connections())

    def __str__(self):
        return f"{self.own >> 10} KiB held, and {self.tcp >> 10} KiB by TCP"


def test_mutated_sessions(world):
    every = list(world.attack.mutations())
    rng = random.Random(SEED)
    rng.shuffle(every)
    start = time.monotonic()
    workers = hostile.Workers(world.attack, every, SEED)
    while time.monotonic() - start < SECONDS and any(t.is_alive() for t in workers.threads):
        time.sleep(0.5)
    n = workers.stop()
    print(f"{n} of {len(every)} mutations in {time.monotonic() - start:.0f} s: {workers.outcomes}")
    assert not workers.errors, workers.errors
    assert n > 20 and len(workers.outcomes) > 2
    world.over()


def test_half_open_logins(world):
    """Ten thousand, or three in the short form, from all over 127.0.0.0/8. 512 at most are let in; what they cost is what limits.rs says; an honest initiator
    that connects amid them is served in bounded time."""
    rng = random.Random(SEED)
    flood = hostile.HalfOpen(world.bad, rng)
    held, times = Held(), []
    stopped = threading.Event()

    def log_in():
        while not stopped.wait(0.5):
            times.append(world.new_login(patience=45))

    honest = threading.Thread(target=log_in, daemon=True)
    honest.start()
    began = time.monotonic()
    while flood.opened < (3_000 if LONG < 2 else 10_000):
        while len(flood.open) > OPEN:
            flood.look(50)
            flood.close_old(OPEN)
        flood.more(50)
        flood.look()
        if flood.opened % 500 == 0:
            held.look()
    for _ in range(20):
        flood.look(50)
    held.look()
    took = time.monotonic() - began
    stopped.set()
    honest.join(60 * lio.SLOW)
    print(f"{flood.opened} connections in {took:.0f} s, {flood.refused} closed by the target; {held.threads} threads at most, {held}; "
          f"{len(times)} honest logins took {max(times, default=0):.2f} s at most")
    flood.close()
    assert not honest.is_alive() and times
    # Those who log in honestly have two at most. Half-open ones stay for as long as a login may take, 15 s, of those that came meanwhile.
    assert min(300, flood.opened / took * 7) < held.threads <= LOGINS + world.threads + 2
    assert held.own < LOGINS * EACH + OPEN * SOCKET + flood.opened * CLOSED
    assert held.tcp < LOGINS * RECEIVED
    world.over()


def test_data_that_never_comes(world):
    """Writes without their data, or with a part of it, in masses; half of them are aborted, and half of the sessions reset."""
    held = Held()

    def attributes(worker, **values):
        for name, value in values.items():
            lio.write(world.bad.path / "acls" / hostile.hostile_name(worker) / "attrib" / name, value)

    for worker in range(3):
        attributes(worker, dataout_timeout=60, nopin_timeout=0)
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(world.hostile_session(i % 3)) for i in range(24 * LONG if LONG < 4 else 96)]
        for c in sessions:
            c.tags = [c.start(bytes.fromhex("2a000000000000080000"), MIB, WRITE) for _ in range(40)]
            r2t = c.receive(30)
            assert r2t.opcode == R2T
            c.send(c.data_out_pdu(r2t.itt, r2t.ttt, bytes(4096), r2t.offset, 0, False))
        world.honest.unharmed()
        held.look()
        print(f"{len(sessions) * 40} MiB announced, {held}")
        assert held.own < len(sessions) * MIB
        for c in sessions:
            for tag in c.tags[::2]:
                tmf(c, ABORT_TASK, tag)
        for c in sessions[::2]:
            c.reset()
        for c in sessions[1::2]:
            assert set(responses(c, 20)) <= {0, 255}
    for worker in range(3):
        attributes(worker, dataout_timeout=3, nopin_timeout=15)
    world.over()


def tmf(c, function, tag=NONE, lun=OWN, ref_cmd_sn=1):
    itt = c.itt()
    c.send(initiator.pdu(TMF, FINAL | function, immediate=True, lun=lun, itt=itt, w=(tag, c.cmd_sn, c.exp_stat_sn, ref_cmd_sn)))
    return itt


def responses(c, n):
    """The responses of `n` task management functions, whatever else comes."""
    got = []
    while len(got) < n:
        a = c.next(30)
        assert a is not None, "the connection was closed"
        if a.opcode == TMF_RESPONSE:
            got.append(a.response)
    return got


def test_aborts_of_what_is_not_there(world):
    rng = random.Random(SEED)
    with world.hostile_session() as c, world.hostile_session(1) as d:
        for _ in range(10 * LONG):
            for session in (c, d):
                for _ in range(40):
                    tmf(session, rng.choice([1, 1, 1, 2, 4]), rng.getrandbits(32), rng.choice([0, 0, 1, 77]), rng.getrandbits(32))
            for session in (c, d):
                # Complete, no such task or unit, and rejected: there are too many at a time.
                assert set(responses(session, 40)) <= {0, 1, 2, 255}
        assert c.ping() and d.ping()
        c.logout(), d.logout()
    world.over()


def test_resets_from_two_sessions_at_once(world):
    """Of the unit that the honest initiator does I/O on, by two others: its commands are aborted and it tries them again."""
    with world.hostile_session() as c, world.hostile_session(1) as d:
        n, end = 0, time.monotonic() + min(8 * LONG, 120)
        while time.monotonic() < end:
            for session in (c, d):
                tmf(session, LUN_RESET if n % 3 else WARM_RESET, lun=SHARED)
            for session in (c, d):
                assert responses(session, 1)[0] in (0, 255)
            n += 2
            time.sleep(0.1)
        print(f"{n} resets")
        c.logout(), d.logout()
    world.over()


def test_nothing_is_left(world):
    """What is held after all of it, once more: no more than before."""
    world.honest.end()

    def again(n):
        workers = hostile.Workers(world.attack, random.Random(SEED + n).sample(list(world.attack.mutations()), n), SEED)
        for t in workers.threads:
            t.join(120 * lio.SLOW)
        workers.stop()
        flood = hostile.HalfOpen(world.bad, random.Random(SEED))
        for _ in range(20):
            flood.more(50)
            flood.look(20)
        flood.close()
        # What mutations have written to the ramdisk, up to all of it, is not left behind by them.
        with world.hostile_session() as c:
            assert lio.wait_for(lambda: c.scsi(UNMAP_ALL, write=bytes(512))[0] == 0)
            c.logout()
        world.sessions_gone()
        lio.wait_for(lambda: connections() <= world.threads, 60)

    # Freed stacks' descriptions stay until the kernel purges them; areas that are in use are compared by their callers.
    leaks.LOOSE["slabs: vmap_area"] = 5000
    again(20)
    before = leaks.Held()
    again(150)
    leaks.check(before, objects=64)
