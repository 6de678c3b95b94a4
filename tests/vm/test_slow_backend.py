"""A back end that answers each command after a long time (dm-delay): whatever initiators and administrators do meanwhile ends in
bounded time, and all is well when the back end is. 8 s in `make check`; `make check-slow` takes 60 (LIO_RS_ARGS="delay=N")."""
# vm: --timeout 900
# waits
import os
import re
import threading
import time

import initiator
import lio
import pytest
import sgio
from faulty import GOOD, Device, Local, Remote, rw
from initiator import ABORT_TASK, ABORT_TASK_SET, DATA_IN, LUN_RESET, NOP_IN, READ, SCSI_RESPONSE, WRITE
from storage import generic, pattern

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules wait for ever")
DELAY = int(dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", ""))).get("delay", 8))
COMPLETE, REJECTED = 0, 255
PATIENCE = 30  # seconds: after that, functions that are not done are rejected
REINSTATE = 20  # seconds: so long a login waits for the session that it reinstates
SOON = 6 * lio.SLOW  # less than DELAY
BOUND = min(DELAY, PATIENCE) + 2 * SOON  # what waits for commands, or does not any more
FAST = 2  # the LUN that is not slow


class Session(Remote):
    """With commands on their way on both slow LUNs."""

    def __init__(self, target, n):
        super().__init__(target, n)
        self.n, self.tags = n, {}

    def start(self):
        c, lba = self.c, self.n * 128
        data = pattern(4096, self.n)
        for lun in range(2):
            self.tags[lun, "read"] = c.start(rw(0x88, lba + 64, 8), 4096, READ, lun=lun)
            self.tags[lun, "write"] = c.start(rw(0x8A, lba, 8), 4096, WRITE, data, lun=lun)

    def rest(self, *but, seen=()):
        """The statuses of all commands that were started, but for those."""
        left = {tag: key for key, tag in self.tags.items() if key not in but}
        got, seen = {}, list(seen)
        while left:
            a = seen.pop(0) if seen else self.c.receive(DELAY + 60)
            assert a is not None, f"closed, without an answer to {list(left.values())}"
            if a.opcode == SCSI_RESPONSE or a.opcode == DATA_IN and a.flags & 1:
                assert a.itt in left, f"{a} has no command"
                got[left.pop(a.itt)] = a.status
            else:
                assert a.opcode in (DATA_IN, NOP_IN), a
        self.tags = {}
        return got


class Together:
    """Runs functions at the same time; each says how long it may take."""

    def __init__(self):
        self.threads, self.took, self.failures = [], {}, []

    def add(self, bound, what, *args):
        def run():
            start = time.monotonic()
            try:
                what(*args)
            except BaseException as e:
                self.failures.append((what.__name__, repr(e)))
            self.took[what.__name__] = (time.monotonic() - start, bound)

        self.threads.append(threading.Thread(target=run))

    def run(self):
        for t in self.threads:
            t.start()
        for t in self.threads:
            t.join(10 * lio.SLOW + 4 * (DELAY + PATIENCE))
        print({name: f"{took:.1f} s" for name, (took, _) in self.took.items()})
        assert not self.failures, self.failures
        assert not any(t.is_alive() for t in self.threads)
        late = {name: t for name, t in self.took.items() if t[0] > t[1]}
        assert not late, late


@pytest.fixture
def slow():
    """Slow devices, and a target of an iblock and a fileio object on them, and of a RAM disk."""
    devices = [Device("slow0"), Device("slow1")]
    stores = [lio.iblock("b", devices[0].path), lio.fileio("f", file=devices[1].path, hba=1, asynchronous=True), lio.ramdisk()]
    target = lio.IscsiTarget(*stores)
    yield devices, stores, target
    for d in devices:
        d.good()
    lio.clear()


def slow_down(devices):
    for d in devices:
        d.become(d.delay(DELAY))


def all_well(devices, target, *initiators):
    """Reads and writes on all LUNs, of old sessions and of a new one."""
    for d in devices:
        d.good()
    for i in (*initiators, Remote(target, 99)):
        for lun in range(3):
            data = pattern(65536, lun)
            assert i.write(32768, data, lun).what == GOOD
            assert i.read(32768, 128, lun).data == data
        i.close()


def function(s, function, lun, **kw):
    """A task management function: as complete, or rejected because that takes too long. Gives what came before the answer."""
    start = time.monotonic()
    response = s.c.tmf(function, lun=lun, timeout=BOUND + SOON, **kw)
    took = time.monotonic() - start
    assert response == (COMPLETE if took < PATIENCE - 1 else REJECTED), (response, took)
    return s.c.seen


def test_sessions(slow):
    """Aborts, logout, lost and reinstated connections; who does nothing gets the answers."""
    devices, _, target = slow
    s = [Session(target, n) for n in range(7)]
    slow_down(devices)
    for one in s:
        one.start()
    assert all(one.c.ping() for one in s)  # the devices have them
    t = Together()

    def abort_task():
        seen = function(s[0], ABORT_TASK, 0, ref_itt=s[0].tags[0, "read"])
        assert set(s[0].rest((0, "read"), seen=seen).values()) == {0}

    def abort_task_set():
        seen = function(s[1], ABORT_TASK_SET, 1)
        assert set(s[1].rest((1, "read"), (1, "write"), seen=seen).values()) == {0}

    def logout():
        c = s[2].c
        itt = c.itt()
        c.send(initiator.pdu(initiator.LOGOUT, itt=itt, w=(1 << 16, *c.numbers())))
        while (a := c.receive(BOUND)) is not None and a.itt != itt:
            pass
        assert a is not None and a.opcode == initiator.LOGOUT_RESPONSE and a.response == 0

    def again(n):
        """The same session, once more: not before the old one's commands are gone. Each attempt is answered in time."""
        while True:
            start = time.monotonic()
            try:
                new = Session(target, n)
                break
            except (AssertionError, TimeoutError):
                assert time.monotonic() - start < REINSTATE + SOON
        assert new.read(0, 8, FAST).what == GOOD
        return new

    def drop():
        s[3].c.reset()
        s[3] = again(3)

    def reinstate():
        new = again(4)
        while s[4].c.receive(SOON) is not None:
            pass
        s[4] = new

    def ping():
        end = time.monotonic() + min(DELAY, 10) - 2
        while time.monotonic() < end:
            start = time.monotonic()
            assert s[5].c.ping() and s[5].read(0, 8, FAST).what == GOOD
            assert time.monotonic() - start < SOON
            time.sleep(0.2)
        assert set(s[5].rest().values()) == {0}

    def nothing():
        assert set(s[6].rest().values()) == {0}

    for bound, what in ((BOUND + DELAY, abort_task), (BOUND + DELAY, abort_task_set), (SOON, logout), (DELAY + 2 * SOON, drop),
                        (DELAY + 2 * SOON, reinstate), (DELAY + SOON, ping), (DELAY + SOON, nothing)):
        t.add(bound, what)
    t.run()
    for n in (5, 6):
        assert s[n].read(n * 128, 8, 0).data == s[n].read(n * 128, 8, 1).data == pattern(4096, n)
    all_well(devices, target, *(s[n] for n in (0, 1, 3, 4, 5, 6)))


def test_reset_and_removal(slow):
    """A reset of one slow LUN, the removal of the other."""
    devices, stores, target = slow
    s = [Session(target, n) for n in range(3)]
    slow_down(devices)
    for one in s:
        one.start()
    assert all(one.c.ping() for one in s)  # the devices have them
    t, heard = Together(), {}

    def reset():
        seen = function(s[0], LUN_RESET, 0)
        heard[0] = s[0].rest((0, "read"), (0, "write"), seen=seen)

    def remove():
        target.remove_lun(1)
        other = Remote(target, 50)
        assert other.read(0, 8, FAST).what == GOOD
        other.close()

    def wait():
        heard[1] = s[1].rest()

    t.add(BOUND + DELAY, reset)
    t.add(BOUND, remove)
    t.add(DELAY + SOON, wait)
    t.run()
    # Another initiator's reset is told by TASK ABORTED; commands of a LUN that goes are aborted.
    assert {heard[1][0, "read"], heard[1][0, "write"]} == {0x40}
    assert {status for h in heard.values() for (lun, _), status in h.items() if lun == 1} <= {0, 0x40}
    assert s[0].scsi(rw(0x88, 0, 8), read=4096, lun=1).what == (2, "5/2500")
    target.lun(stores[1], 1)
    s[2].rest()
    all_well(devices, target, *s)


def test_initiators_time_out(slow):
    """The SCSI midlayer's own error handling: a command that is not answered in its time comes back, and the disk goes on."""
    devices, stores, target = slow
    local = Local(stores[0])
    remote = sgio.Disk(generic(lio.login(target)[1]))
    slow_down(devices)
    t = Together()

    def command(disk):
        r = disk.scsi(rw(0x88, 4096, 8), read=4096, timeout=3)
        print(r)
        return r.host

    def through_loopback():
        assert command(local.disks[0]) == 3  # DID_TIME_OUT

    def through_iscsi():
        # It may wait for longer while the target answers its pings.
        assert command(remote) in (0, 3)

    # open-iscsi aborts (15 s), resets (30 s), then logs in again.
    t.add(DELAY + 3 * SOON, through_loopback)
    t.add(min(DELAY, 45) + 30 + 3 * SOON, through_iscsi)
    t.run()
    for d in devices:
        d.good()

    def serves():
        """the disk of open-iscsi serves"""
        r = remote.scsi(rw(0x88, 4096, 8), read=4096)
        return r.status == 0 and r.host == 0

    lio.wait_for(serves, 60)
    assert local.read(4096, 8).what == GOOD
    local.close()
    remote.close()
    lio.logout(target)
    all_well(devices, target)
