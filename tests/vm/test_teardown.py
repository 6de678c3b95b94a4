"""Deleting and disabling everything at random, and rmmod attempts, while fio runs and initiators come and go: nothing hangs,
nothing is leaked. 15 rounds in `make check`; `make check-teardown` makes 200 (LIO_RS_ARGS="rounds=N seed=N"). With "gentle=1" the
initiators leave the processor to the deletions: more rounds in the same time, in the debug kernel."""
# vm: --timeout 1800
import collections
import contextlib
import itertools
import json
import os
import random
import re
import subprocess
import threading
import time

import initiator
import leaks
import lio

ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))
ROUNDS = int(ARGS.get("rounds", 15))
SEED = int(ARGS.get("seed", random.randrange(1 << 32)))
GENTLE = int(ARGS.get("gentle", 0))
GUARD = 60 * lio.SLOW  # seconds: no operation may take longer; a guard against hangs, no measure
A, B = "iqn.2003-01.org.example:acl", "iqn.2003-01.org.example:demo"
PYTHON = "iqn.2024-01.org.example:python"
ME = lio.initiator_name()
TMFS = {"abort": initiator.ABORT_TASK, "abort set": initiator.ABORT_TASK_SET, "clear set": initiator.CLEAR_TASK_SET,
        "LUN reset": initiator.LUN_RESET, "warm reset": initiator.WARM_RESET, "cold reset": initiator.COLD_RESET}
ENDS = ["logout", "close", "reset", "half"] + list(TMFS)
PLUGINS = {"fileio": "target_core_file", "iblock": "target_core_iblock"}


class World:
    """What exists, and how to take each part away and bring it back."""

    def __init__(self, rng):
        self.rng = rng
        self.stores = {}
        for kind in lio.BACKSTORES:
            self.make_store(kind)
        self.make_loop()
        self.make_acl_target()
        self.make_demo_target()

    def make_store(self, kind):
        if kind == "iblock":
            dev = getattr(self, "dev", None) or lio.loop_device(16 << 20)
            self.dev = dev
            self.stores[kind] = lio.iblock(dev=dev)
        else:
            self.stores[kind] = lio.BACKSTORES[kind](size=16 << 20)

    def all(self):
        return list(self.stores.values())

    def make_loop(self):
        self.loop = lio.Loopback(*self.all())

    def make_acl_target(self):
        self.acl_target = lio.IscsiTarget(*self.all(), iqn=A, acls=[PYTHON, ME])

    def make_demo_target(self):
        self.demo_target = lio.IscsiTarget(*self.all(), iqn=B, portals=("127.0.0.1:3261", "[::1]:3261"))

    def any_target(self):
        return self.rng.choice([self.acl_target, self.demo_target])

    # --- what is done at random --------------------------------------------------------------------------------

    def loop_lun(self):
        n = self.rng.randrange(3)
        self.loop.remove_lun(n)
        yield
        self.loop.lun(self.all()[n], n)

    def iscsi_lun(self):
        n = self.rng.randrange(3)
        t = self.any_target()
        mapped = [m for a in lio.dirs(t.path / "acls") for m in [a / f"lun_{n}"] if m.exists()]
        if mapped and self.rng.random() < 0.5:
            for m in mapped:  # or they go with the LUN that they are linked to
                remove_mapped(m)
        remove_lun(t, n)
        yield
        t.lun(self.all()[n], n)
        for m in mapped:
            if not m.exists():
                m.mkdir()
            if not lio.links(m):
                (m / "lun").symlink_to(t.path / "lun" / f"lun_{n}")

    def mapped_lun(self):
        m = self.acl_target.path / "acls" / self.rng.choice([PYTHON, ME]) / f"lun_{self.rng.randrange(3)}"
        remove_mapped(m)
        yield
        m.mkdir()
        (m / "lun").symlink_to(self.acl_target.path / "lun" / m.name)

    def write_protect(self):
        m = self.acl_target.path / "acls" / PYTHON / "lun_0/write_protect"
        lio.write(m, 1)
        yield
        lio.write(m, 0)

    def acl(self):
        who = self.rng.choice([PYTHON, ME])
        path = self.acl_target.path / "acls" / who
        for m in lio.dirs(path):
            if m.name.startswith("lun_"):
                remove_mapped(m)
        path.rmdir()
        yield
        self.acl_target.acl(who, range(3))

    def disable(self):
        t = self.any_target()
        t.enable(False)
        yield
        t.enable()

    def portal(self):
        t = self.any_target()
        np = t.path / "np" / self.rng.choice(t.portals)
        np.rmdir()
        yield
        np.mkdir()

    def tpg(self):
        t = self.any_target()
        lio.remove_tpg(t.path)
        yield
        self.rebuild(t)

    def target(self):
        t = self.any_target()
        t.delete()
        yield
        self.rebuild(t)

    def rebuild(self, t):
        self.make_acl_target() if t is self.acl_target else self.make_demo_target()

    def loop_target(self):
        self.loop.delete()
        if self.rng.random() < 0.5:
            (lio.CFS / "loopback").rmdir()
            unload("tcm_loop")
        yield
        self.make_loop()

    def iscsi(self):
        """Both targets at once, and the module if its last connection has gone."""
        self.acl_target.delete()
        self.demo_target.delete()
        (lio.CFS / "iscsi").rmdir()
        unload("iscsi_target_mod")
        yield
        self.make_acl_target()
        self.make_demo_target()

    def nexus(self):
        try:
            lio.write(self.loop.path / "nexus", "NULL")
        except OSError:
            return  # refused while it has LUNs, as the stock module does
        yield
        lio.write(self.loop.path / "nexus", "naa.5001405000000002")

    def store(self):
        """A back end, with the LUNs that use it; the attempt without that is refused."""
        kind = self.rng.choice(list(self.stores))
        n, s = list(self.stores).index(kind), self.stores[kind]
        with lio.refused():
            s.path.rmdir()
        self.loop.remove_lun(n)
        for m in lio.dirs(self.acl_target.path / "acls"):
            remove_mapped(m / f"lun_{n}")
        remove_lun(self.acl_target, n)
        remove_lun(self.demo_target, n)
        s.delete()
        if kind in PLUGINS and self.rng.random() < 0.5:
            unload(PLUGINS[kind])
        yield
        self.make_store(kind)
        s = self.stores[kind]
        for t in (self.loop, self.acl_target, self.demo_target):
            t.lun(s, n)
        for a in lio.dirs(self.acl_target.path / "acls"):
            (a / f"lun_{n}").mkdir()
            (a / f"lun_{n}" / "lun").symlink_to(self.acl_target.path / "lun" / f"lun_{n}")

    def rmmod(self):
        for m in ("iscsi_target_mod", "tcm_loop", "target_core_file", "target_core_iblock", "target_core_mod"):
            assert lio.run("rmmod", m, check=False).returncode != 0, f"{m} is in use"
        return
        yield

    ACTIONS = [loop_lun, loop_lun, iscsi_lun, iscsi_lun, mapped_lun, mapped_lun, write_protect, acl, acl, disable, disable, portal, tpg,
               target, loop_target, iscsi, nexus, store, store, rmmod]


def unload(module):
    """What nobody uses any more can go, soon."""
    lio.wait_for(lambda: lio.run("rmmod", module, check=False).returncode == 0, GUARD)


def remove_mapped(m):
    if m.exists():
        for link in lio.links(m):
            link.unlink()
        m.rmdir()


def remove_lun(t, n):
    """A LUN with mapped LUNs linked to it cannot be removed: they go first, as rtslib does it."""
    lun = t.path / "lun" / f"lun_{n}"
    for a in lio.dirs(t.path / "acls"):
        for m in lio.dirs(a):
            if any(link.resolve() == lun for link in lio.links(m)):
                remove_mapped(m)
    t.remove_lun(n)


class Load(threading.Thread):
    """Does something again and again, whatever becomes of it, until stopped."""

    def __init__(self, stop, what):
        super().__init__(daemon=True)
        self.stopped, self.what, self.done, self.failed, self.moved = stop, what, 0, 0, 0
        self.ended, self.hung = collections.Counter(), []
        self.start()

    def run(self):
        while not self.stopped.is_set():
            try:
                self.what(self)
                self.done += 1
            except Exception:  # what it works on vanishes under it: that is the point
                self.failed += 1
                time.sleep(0.1)

    def __str__(self):
        ended = "".join(f", {n} x {name}" for name, n in self.ended.items())
        return f"{self.done} done, {self.failed} failed, {self.moved >> 20} MiB{ended}"


def fio_on(find):
    def go(load):
        dev = find()
        assert dev
        try:
            p = subprocess.run(["fio", "--output-format=json", "--name=l", f"--filename={dev}", "--direct=1", "--ioengine=libaio",
                                "--rw=randrw", "--bsrange=4k-64k", "--iodepth=16", "--runtime=4", "--time_based", "--size=8m", "--allow_file_create=0",
                                *(["--rate_iops=50"] if GENTLE else [])],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=180 * lio.SLOW, text=True)
        except subprocess.TimeoutExpired:
            load.hung.append(f"fio on {dev}")
            raise
        job = json.loads(p.stdout[p.stdout.index("{") :])["jobs"][0]
        load.moved += job["read"]["io_bytes"] + job["write"]["io_bytes"]
        assert p.returncode == 0
    return go


def initiator_on(iqn, portal, isid):
    """A login, reads and writes with some left unanswered, and the end by logout, close or reset."""
    rng = random.Random(isid)
    ends = in_turn(ENDS, rng)

    def go(load):
        time.sleep(GENTLE * 0.3)
        with initiator.Connection(portal, timeout=GUARD // lio.SLOW) as c:
            try:
                talk(load, c)
            except TimeoutError:
                # Who is sent away sees the connection closed; on an open one each request is answered.
                if not c.is_closed_there():
                    load.hung.append(f"{iqn} at {portal}")
                raise

    def talk(load, c):
        c.login(iqn, name=PYTHON, isid=b"\x80\0\0\0\2" + bytes([isid]))
        for _ in range(rng.randrange(1, 30)):
            lun = rng.randrange(3)
            c.scsi(bytes.fromhex("2a000000000000000800"), write=bytes(4096), lun=lun)
            _, got, _ = c.scsi(bytes.fromhex("28000000000000000800"), read=4096, lun=lun)
            load.moved += 2 * len(got)
        # The end: a logout, or commands left alone with a task management function, a reset, a close, or half a PDU.
        end = next(ends)
        if end == "logout":
            assert c.logout()
        else:
            itts = [c.start(bytes.fromhex("2a000000000000008000"), 65536, initiator.WRITE, lun=rng.randrange(3)) for _ in range(5)]
            if end in TMFS:
                c.tmf(TMFS[end], lun=rng.randrange(3), ref_itt=rng.choice(itts) if end == "abort" else initiator.NONE)
            elif end == "half":
                c.send(c.command_pdu(bytes.fromhex("2a000000000000000800"), 4096, initiator.WRITE)[: rng.randrange(1, 48)])
            elif end == "reset":
                c.reset()
        load.ended[end] += 1
    return go


def in_turn(things, rng):
    """Each as often as it is in the list, at random, without end."""
    while True:
        yield from rng.sample(things, len(things))


def rounds(n, rng, log):
    stop = threading.Event()
    world = World(rng)
    lio.login(world.acl_target, settings={"node.session.timeo.replacement_timeout": 3, "node.conn[0].timeo.noop_out_interval": 2,
                                          "node.conn[0].timeo.noop_out_timeout": 3, "node.session.err_timeo.lu_reset_timeout": 5,
                                          "node.session.err_timeo.abort_timeout": 3, "node.session.initial_login_retry_max": 1})

    def open_iscsi_disk():
        host = lio.session_host(A)
        return host and lio.scsi_disk(f"{host}:0:0:{random.randrange(3)}")

    loads = [Load(stop, fio_on(lambda: lio.scsi_disk(lio.read(world.loop.path / "address") + f":{random.randrange(3)}"))),
             Load(stop, fio_on(open_iscsi_disk)),
             Load(stop, initiator_on(A, "127.0.0.1:3260", 1)), Load(stop, initiator_on(B, "127.0.0.1:3261", 2)),
             Load(stop, initiator_on(B, "[::1]:3261", 3))]
    slowest = (0, "")
    try:
        for i, action in enumerate(itertools.islice(in_turn(World.ACTIONS, rng), n)):
            for step, took in enumerate(steps(action(world))):
                slowest = max(slowest, (took, f"round {i} {action.__name__} step {step}"))
                log(f"round {i}: {action.__name__}{' back' if step else ''}: {took:.2f} s")
                assert took < GUARD, f"round {i}: {action.__name__} took {took:.1f} s"
                time.sleep(rng.random() * (0.3 if GENTLE else 0.8))
        if n >= ROUNDS:  # each has had its turn by now, unless the machine stood still
            with contextlib.suppress(AssertionError):
                lio.wait_for(lambda: all(load.moved for load in loads) and not never(loads), 60)
    finally:
        stop.set()
        for load in loads:
            load.join(GUARD * 4)
    hung = [what for load in loads for what in load.hung]
    assert not hung and not any(load.is_alive() for load in loads), f"I/O hangs: {hung}"
    print(f"slowest: {slowest[1]}, {slowest[0]:.2f} s")
    for what, load in zip(("fio on loopback", "fio on open-iscsi", "own initiator", "own initiator", "own initiator, IPv6"), loads):
        print(f"{what}: {load}")
    return loads


def never(loads):
    """The ends that no session has come to: those with a function, answered."""
    return set(ENDS) - set().union(*(load.ended for load in loads))


def steps(generator):
    """How long each part of an action takes. The kernel's log shows where one hangs."""
    while True:
        start = time.monotonic()
        watchdog = threading.Timer(GUARD, lio.write, ("/proc/sysrq-trigger", "w"))
        watchdog.start()
        try:
            next(generator)
        except StopIteration:
            yield time.monotonic() - start
            return
        finally:
            watchdog.cancel()
        yield time.monotonic() - start


def everything_off(empty):
    """Deletes all, unloads all. `empty`: leaks.nodes() of an empty tree."""
    start = time.monotonic()
    lio.run("iscsiadm", "-m", "node", "--logout", check=False, timeout=120)
    lio.run("iscsiadm", "-m", "node", "-o", "delete", check=False)
    lio.clear()

    def nothing_left():
        """no configfs directories are left"""
        return leaks.nodes() == empty

    lio.wait_for(nothing_left)
    for m in lio.MODULES:
        if m in lio.loaded():
            unload(m)
    assert not {m for m in lio.MODULES if m in lio.loaded()}
    assert time.monotonic() - start < 3 * GUARD


def test_random_teardown_under_io():
    def log(line):
        print(line)
        with open("/dev/kmsg", "w") as f:
            f.write(f"teardown: {line}\n")

    log(f"seed={SEED} rounds={ROUNDS}")
    lio.start_iscsid()
    empty = leaks.nodes()
    # What is allocated once and stays: in a long run, by each action.
    long = ROUNDS >= 50
    rounds(len(World.ACTIONS) if long else 2, random.Random(1), log)
    everything_off(empty)
    before = leaks.Held()
    loads = rounds(ROUNDS, random.Random(SEED), log)
    assert all(load.moved for load in loads), "there was no I/O"
    assert not never(loads), f"no session ended by {never(loads)}"
    everything_off(empty)
    leaks.check(before, objects=16 if long else 64)
