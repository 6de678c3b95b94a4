"""A back end that does not answer: task management ends in bounded time, so does whatever an administrator does meanwhile, and
all of it is over when the back end answers again."""
# vm: --timeout 1800
# waits
import contextlib
import errno
import struct
import threading
import time

import initiator
import lio
import pytest
import sgio
from initiator import ABORT_TASK, CLEAR_TASK_SET, DATA_IN, LUN_RESET, READ, SCSI_RESPONSE, WARM_RESET, WRITE
from storage import pread

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules wait for ever")
READ_4K = bytes.fromhex("28000000000000000800")
REJECTED = 255
REGISTER, RESERVE, PREEMPT_AND_ABORT = 0, 1, 5
MIDLAYER = 6 * lio.SLOW  # seconds that the initiator's side of loopback waits
GUARD = 30 * lio.SLOW  # seconds: what the administrator's own system calls may take
NAME = "iqn.2024-01.org.example:i{}"


class Stuck:
    """A device that can be stopped, an iblock object on it."""

    def __init__(self, name="lio-stuck"):
        lio.modprobe("dm-mod")
        self.name, self.loop = name, lio.loop_device(16 << 20)
        lio.run("dmsetup", "create", name, "--table", f"0 32768 linear {self.loop} 0")
        self.dev = lio.wait_for(self.node)
        self.store = lio.iblock(name, dev=self.dev)

    def node(self):
        """the device's node"""
        name = lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", self.name).stdout.strip()
        return f"/dev/{name}" if lio.os.path.exists(f"/dev/{name}") else None

    def stop(self):
        lio.run("dmsetup", "suspend", "--nolockfs", "--noflush", self.name)

    def go(self):
        lio.run("dmsetup", "resume", self.name)

    def free(self):
        """nobody has the device open"""
        return lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "open", self.name).stdout.strip() == "0"


@pytest.fixture
def stuck():
    s = Stuck()
    yield s
    with contextlib.suppress(Exception):
        s.go()
    lio.clear()


def login(target, i=1):
    return initiator.session(target, name=NAME.format(i), isid=b"\x80\0\0\0\1" + bytes([i]))


def left_with(stuck, target):
    """An initiator with a READ that the device has, and does not answer."""
    c = login(target)
    stuck.stop()
    c.start(READ_4K, 4096, READ)
    assert c.ping()
    return c


def in_time(what, *args):
    start = time.monotonic()
    result = what(*args)
    took = time.monotonic() - start
    assert took < GUARD, f"{what} took {took:.0f} s"
    return result


def elsewhere():
    """Other directories can be made and removed, and other targets serve."""
    store = lio.ramdisk("other", 1 << 20)
    target = lio.IscsiTarget(store, iqn="iqn.2003-01.org.example:other", portals=("127.0.0.1:3270",))
    c = initiator.session(target)
    assert c.scsi(READ_4K, read=4096)[0] == 0
    c.logout()
    c.close()
    target.delete()
    store.delete()


class Meanwhile:
    """Does things elsewhere again and again, each in bounded time."""

    def __enter__(self):
        self.over, self.times, self.failure = threading.Event(), [], None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.over.is_set():
                start = time.monotonic()
                elsewhere()
                self.times.append(time.monotonic() - start)
                self.over.wait(1)
        except BaseException as e:
            self.failure = e

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join(60 * lio.SLOW)
        assert not self.thread.is_alive() and self.failure is None and self.times, self.failure
        # One wait of a removal may be in it.
        assert max(self.times) < GUARD, self.times


def drain(c):
    """What comes until a ping is answered: the statuses."""
    mark, got = c.itt(), []
    c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))
    while (a := c.receive(30)).itt != mark:
        if not c.pong(a):
            got.append(a.status)
    return got


def registered(c):
    """The keys that READ KEYS tells."""
    data = c.scsi(bytes.fromhex("5e000000000000010000"), read=256)[1]
    return [int.from_bytes(data[at : at + 8], "big") for at in range(8, len(data), 8)]


class Preempting:
    """PREEMPT AND ABORT of an initiator whose command the device has (SPC-4, 5.12.11.4.5): it fails in bounded time, since it cannot say
    that nothing is written any more; the registration is gone all the same."""

    def __init__(self):
        self.stuck = Stuck("lio-preempt")
        target = lio.IscsiTarget(self.stuck.store, iqn="iqn.2003-01.org.example:preempt", portals=("127.0.0.1:3261",))
        self.target = target
        self.victim, self.by = login(target, 5), login(target, 6)
        for c, key in ((self.victim, 1), (self.by, 2)):
            assert self.out(c, REGISTER, 0, key)[0] == 0

    @staticmethod
    def out(c, action, key, new):
        return c.scsi(bytes([0x5F, action, 5, 0, 0, 0, 0, 0, 24, 0]), write=struct.pack(">QQ8x", key, new), timeout=90)

    def keys(self):
        with login(self.target, 7) as c:
            return registered(c)

    def start(self):
        self.stuck.stop()
        self.tag = self.victim.start(READ_4K, 4096, READ)
        assert self.victim.ping()  # the device has it
        self.threads = [threading.Thread(target=f) for f in (self.run, self.end)]
        for t in self.threads:
            t.start()

    def end(self):
        """Of the command that is aborted; pings are answered meanwhile."""
        self.ended = self.victim.finish(self.tag, timeout=120)[0]

    def run(self):
        start = time.monotonic()
        status, _, a = self.out(self.by, PREEMPT_AND_ABORT, 2, 1)
        self.answer, self.took = (status, sgio.say(a.sense)), time.monotonic() - start

    def check(self):
        """Once it has been answered."""
        self.threads[0].join(100 * lio.SLOW)
        assert self.answer == (2, "2/0800") and 25 < self.took < 80 * lio.SLOW, (self.answer, self.took)
        assert self.keys() == [2], "what was preempted stays so"
        self.stuck.go()
        self.threads[1].join(30 * lio.SLOW)
        assert self.ended == 0x40, "TASK ABORTED"
        status, _, a = self.victim.scsi(bytes(6))
        assert (status, sgio.say(a.sense)) == (2, "6/2a05")
        assert self.victim.scsi(READ_4K, read=4096)[0] == 0 and self.out(self.by, PREEMPT_AND_ABORT, 2, 1)[0] == 0x18
        self.victim.close()
        self.by.close()


def test_functions_are_rejected(stuck):
    """Each function that needs what the device has is answered, and no command with it; all goes on with the device. (A preemption on
    another device at the same time.)"""
    preempting = Preempting()
    target = lio.IscsiTarget(stuck.store)
    c = [login(target, i) for i in range(4)]
    preempting.start()
    stuck.stop()
    tags = [x.start(READ_4K, 4096, READ) for x in c]
    assert all(x.ping() for x in c)
    start = time.monotonic()
    answers = {}
    functions = [ABORT_TASK, CLEAR_TASK_SET, LUN_RESET, WARM_RESET]
    def call(i):
        answers[i] = c[i].tmf(functions[i], ref_itt=tags[i], timeout=90)
    with Meanwhile():
        threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    took = time.monotonic() - start
    assert answers == dict.fromkeys(range(4), REJECTED) and 25 < took < 80 * lio.SLOW, (answers, took)
    assert not [a for x in c for a in x.seen if a.opcode in (SCSI_RESPONSE, DATA_IN)]
    preempting.check()
    stuck.go()
    lio.pause(2 * lio.SLOW)
    for x in c:
        # Another initiator's reset was the first to take it, or this one's own.
        assert drain(x) in ([], [0x40])
        assert lio.wait_for(lambda: x.scsi(READ_4K, read=4096, timeout=30)[0] == 0)
        assert x.tmf(LUN_RESET, timeout=30) == 0
        x.close()


def asks(target, **kw):
    """A connection on which the first initiator's login has been sent, and no more."""
    c = initiator.Connection(target.portals[0])
    keys = {"InitiatorName": NAME.format(1), "TargetName": target.iqn, "SessionType": "Normal"}
    c.send(c.login_pdu(initiator.text(keys), isid=b"\x80\0\0\0\1\1", **kw))
    lio.pause(1)
    return c


@pytest.mark.parametrize("what", ["session", "connection"])
def test_logins_that_were_given_up(stuck, what):
    """Of logins that wait for the same session, or connection, to end, the newest one gets in, and no older one after it."""
    target = lio.IscsiTarget(stuck.store)
    for _ in range(3):
        c = login(target)
        joins = {"tsih": c.tsih} if what == "connection" else {}
        stuck.stop()
        c.start(READ_4K, 4096, READ)
        assert c.ping()
        for _ in range(3):
            asks(target, **joins).close()
        d = asks(target, **joins)
        stuck.go()
        a = d.receive(30)
        assert (a.login_status, a.flags & 0x83) == (0, 0x83), a
        while d.scsi(bytes(6))[0]:
            pass
        until = time.monotonic() + 3 * lio.SLOW
        while time.monotonic() < until:
            assert d.ping() and d.scsi(READ_4K, read=4096)[0] == 0
        c.close()
        d.close()


def test_an_older_login_hears_that_it_waits_in_vain(stuck):
    """At once: it need not wait for the device."""
    target = lio.IscsiTarget(stuck.store)
    c = left_with(stuck, target)
    older = asks(target)
    newer = asks(target)
    assert older.receive(5).login_status == 0x0301
    stuck.go()
    assert newer.receive(30).login_status == 0
    for x in c, older, newer:
        x.close()


def test_removing_a_lun(stuck):
    """The link goes, the initiator sees it gone, and the device stays open until it has given back what it has."""
    target = lio.IscsiTarget(lio.ramdisk("rd0"), stuck.store)
    c = login(target)
    stuck.stop()
    tag = c.start(READ_4K, 4096, READ, lun=1)
    assert c.ping()
    with Meanwhile():
        in_time(target.remove_lun, 1)
        in_time(stuck.store.delete)
        assert not stuck.free()
        status, _, a = c.scsi(bytes(6), lun=1)
        assert status == 2 and a.sense[12:14] == b"\x25\0"
    # It can be had again under another device's name, when it is free.
    stuck.go()
    a = c.next(30)
    assert a.itt == tag and a.status == 0x40
    lio.wait_for(stuck.free)
    target.lun(lio.iblock("again", dev=stuck.dev), 1)
    assert lio.wait_for(lambda: c.scsi(READ_4K, read=4096, lun=1)[0] == 0)
    c.close()


def test_ending_sessions(stuck):
    """Disabling, enabling, removing the ACL, the group, everything."""
    target = lio.IscsiTarget(stuck.store, acls=[NAME.format(1), NAME.format(2)])
    c, d = login(target, 1), login(target, 2)
    stuck.stop()
    [c.start(READ_4K, 4096, READ) for _ in range(8)]
    [d.start(READ_4K, 4096, READ) for _ in range(8)]
    assert c.ping() and d.ping()
    with Meanwhile():
        path = target.path / "acls" / NAME.format(2)
        unlink = [link.unlink for m in path.iterdir() if m.name.startswith("lun_") for link in lio.links(m)]
        for u in unlink:
            in_time(u)
        (path / "lun_0").rmdir()
        in_time(path.rmdir)
        in_time(target.enable, False)
        in_time(target.enable, True)
        start = time.monotonic()
        target.delete()
        assert time.monotonic() - start < 3 * GUARD
        in_time(stuck.store.delete)
    assert not stuck.free()
    # The name can be used again at once.
    again = lio.IscsiTarget(lio.ramdisk("rd0"))
    e = login(again)
    assert e.scsi(READ_4K, read=4096)[0] == 0
    stuck.go()
    lio.wait_for(stuck.free)
    e.close()


def test_a_target_made_again_before_its_lun_ends(stuck, klog):
    """What is registered with it stays when the commands of the one that had its name are done at last."""
    target = lio.IscsiTarget(stuck.store)
    c = left_with(stuck, target)
    target.delete()
    again = lio.IscsiTarget(stuck.store)
    holder, other = login(again, 2), login(again, 3)
    assert Preempting.out(holder, REGISTER, 0, 1)[0] == Preempting.out(holder, RESERVE, 1, 0)[0] == 0
    lio.wait_for(lambda: klog.has("/lun_0: removed, but"), 60)
    stuck.go()
    lio.wait_for(lambda: klog.has("/lun_0: its commands are done"), 60)
    assert registered(other) == [1] and other.scsi(write_10(0), write=block(0))[0] == 0x18
    for x in c, holder, other:
        x.close()


def test_a_file_that_does_not_answer_holds_up_no_other(stuck):
    """However many reads wait for one file's disk, another's are done; nor does an administrator who turns its cache off wait for ever."""
    stuck.store.delete()
    stopped = lio.fileio("stopped", file=stuck.dev, buffered=True)
    target = lio.IscsiTarget(stopped)
    target.attrib("default_cmdsn_depth", 512)
    other = lio.IscsiTarget(lio.fileio("other", file=lio.loop_device(16 << 20)), iqn="iqn.2003-01.org.example:other", portals=("127.0.0.1:3270",))
    sessions, d = [login(target, i) for i in range(4)], initiator.session(other)
    stuck.stop()
    tags = [[c.start(READ_4K[:2] + struct.pack(">I", 1024 + 8 * n) + READ_4K[6:], 4096, READ) for n in range(500)] for c in sessions]
    for c in sessions:
        assert c.ping()
    for lba in range(0, 8192, 1024):
        assert in_time(d.scsi, b"\x28\0" + struct.pack(">I", lba) + READ_4K[6:], 4096)[0] == 0
    assert in_time(d.scsi, b"\x2a" + READ_4K[1:], 0, bytes(4096))[0] == 0
    with lio.refused(errno.EIO):
        in_time(stopped.attrib, "emulate_write_cache", 0)
    assert stopped.attrib("emulate_write_cache") == "0"
    stuck.go()
    for c, left in zip(sessions, tags):
        while left:
            a = c.receive(60)
            if not c.pong(a):
                assert a.status == 0 and a.flags & 1, a
                left.remove(a.itt)
    for c in (*sessions, d):
        c.close()


class Full:
    """An iblock object on a device that has four requests and stops answering: what submits a fifth sleeps until it answers. With `above`, on
    one that lies on it, and that knows no way to be asked whether it would."""

    DEPTH = 4

    def __init__(self, stuck, above):
        stuck.store.delete()
        self.stuck, self.above = stuck, above
        # Past the page cache, which would take the writes.
        self.loop = lio.run("losetup", "--show", "-f", "--direct-io=on", stuck.dev).stdout.strip()
        lio.write(f"/sys/block/{self.loop[5:]}/queue/scheduler", "none")
        lio.write(f"/sys/block/{self.loop[5:]}/queue/nr_requests", self.DEPTH)
        assert lio.read(f"/sys/block/{self.loop[5:]}/queue/nr_requests") == str(self.DEPTH)
        self.dev = self.loop
        if above:
            lio.modprobe(f"dm-{above}")
            lio.run("dmsetup", "create", "lio-above", "--table", f"0 32768 {above} {self.loop} 0 3600 0")
            self.dev = "/dev/mapper/lio-above"
            lio.run("dmsetup", "mknodes")
        self.store = lio.iblock("full", dev=self.dev)
        self.other = lio.iblock("other", hba=1)
        self.target = lio.IscsiTarget(self.store, self.other)
        self.target.attrib("default_cmdsn_depth", 512)

    def close(self):
        self.stuck.go()
        lio.clear()
        if self.above:
            lio.wait_for(lambda: lio.run("dmsetup", "remove", "lio-above", check=False) and lio.run("dmsetup", "info", "lio-above", check=False).returncode)
        lio.run("losetup", "-d", self.loop)
        lio.wait_for(lambda: not lio.os.path.exists(f"/sys/block/{self.loop[5:]}/loop"))


@pytest.fixture(params=["", "flakey"])
def full(stuck, request):
    f = Full(stuck, request.param)
    yield f
    f.close()


def block(n, generation=0):
    """4 KiB that are found nowhere else"""
    return struct.pack(">QQ", n, generation) * 256


def read_10(n):
    return b"\x28\0" + struct.pack(">I", 8 * n) + READ_4K[6:]


def write_10(n, fua=False):
    return bytes([0x2A, 8 * fua]) + struct.pack(">I", 8 * n) + READ_4K[6:]


def write_and_verify_10(n):
    return b"\x2e" + write_10(n)[1:]


def write_all(c, first, count, generation=0, cdb=write_10):
    return [c.start(cdb(n), 4096, WRITE, block(n, generation)) for n in range(first, first + count)]


def serves(c, lun=1):
    """The other logical unit does what it is asked to, in the same connection."""
    for n in range(8):
        in_time(c.scsi, write_10(n), 0, block(n, 7), lun)
        assert in_time(c.scsi, read_10(n), 4096, b"", lun)[:2] == (0, block(n, 7))


def test_a_disk_without_requests_holds_up_no_other(full):
    """A disk that takes no more commands: those for another logical unit of the connection are done; and when it goes on, so do its own, each
    of them right, and none twice."""
    c = login(full.target)
    assert all(a.status == 0 for a in c.finish_all(write_all(c, 0, 256)).values())
    full.stuck.stop()
    reads = {c.start(read_10(n), 4096, READ): n for n in range(64)}
    writes = write_all(c, 100, 64, 1) + [c.start(write_10(n, True), 4096, WRITE, block(n, 1)) for n in range(200, 216)]
    writes.append(c.start(bytes.fromhex("35000000000000000000")))
    # Large ones are split on their way; WRITE SAME of zeroes waits for the disk by itself, and so does what is unmapped.
    large = bytes(range(256)) * 1024
    itt = c.start(b"\x2a\0" + struct.pack(">IBHB", 16384, 0, 512, 0), len(large), WRITE, large[:8192])
    same = [c.start(b"\x41\0" + struct.pack(">IBHB", 24576 + 64 * n, 0, 64, 0), 512, WRITE, bytes(512)) for n in range(24)]
    sent = 8192
    while sent < len(large):
        a = in_time(c.receive, 30)
        if not c.pong(a):
            assert a.opcode == initiator.R2T and a.itt == itt, a
            c.answer_r2t(a, large)
            sent += a.wanted
    assert c.ping()
    serves(c)
    with login(full.target, 2) as d:
        serves(d)
    # What has not begun is given up at once, and is not written.
    late = c.start(write_10(250), 4096, WRITE, block(250, 9))
    assert c.ping()
    took = time.monotonic()
    assert c.tmf(ABORT_TASK, ref_itt=late) == 0 and time.monotonic() - took < 10 * lio.SLOW and not c.seen
    full.stuck.go()
    left, data = {*reads, *writes, itt, *same}, {}
    while left:
        a = c.receive(60)
        if c.pong(a):
            continue
        assert a.itt in left and a.status == 0, a
        if a.opcode == DATA_IN:
            data[a.itt] = a.data
        left.remove(a.itt)
    assert all(data[tag] == block(n) for tag, n in reads.items())
    for n in range(256):
        new = 100 <= n < 164 or 200 <= n < 216
        assert c.scsi(read_10(n), 4096)[1] == block(n, int(new)), n
    assert c.scsi(b"\x28\0" + struct.pack(">IBHB", 16384, 0, 512, 0), len(large))[1] == large
    assert c.scsi(READ_4K, 4096)[0] == 0
    c.close()


@pytest.mark.parametrize("cdb", [write_10, write_and_verify_10])
def test_what_waits_for_a_disk_is_asked_again(full, cdb):
    """A reservation that is made while writes wait for the disk to take them holds for those: they are refused, and nothing is written. What
    has begun is not refused: WRITE AND VERIFY verifies what it has written, whatever is reserved meanwhile."""
    asked_again(full.target, full.stuck, cdb)


def asked_again(target, stuck, cdb):
    victim, by = login(target, 1), login(target, 2)
    assert all(a.status == 0 for a in victim.finish_all(write_all(victim, 0, 128)).values())
    for c, key in ((victim, 1), (by, 2)):
        assert Preempting.out(c, REGISTER, 0, key)[0] == 0
    stuck.stop()
    tags = write_all(victim, 0, 128, 1, cdb)
    assert victim.ping()
    # PREEMPT without ABORT, of what holds no reservation, and a reservation of its own: Write Exclusive, Registrants Only.
    assert Preempting.out(by, 4, 2, 1)[0] == 0
    assert Preempting.out(by, 1, 2, 0)[0] == 0
    stuck.go()
    answers = victim.finish_all(tags, 60)
    statuses = [answers[t].status for t in tags]
    assert set(statuses) == {0, 0x18} and statuses.count(0x18) >= 64, statuses
    for n, status in enumerate(statuses):
        assert by.scsi(read_10(n), 4096)[1] == block(n, int(status == 0)), n
    victim.close()
    by.close()


@pytest.fixture
def file(stuck):
    """A target with a file on the device, whose writes are durable: each takes a worker, of which there are 64."""
    stuck.store.delete()
    target = lio.IscsiTarget(lio.fileio("stopped", file=stuck.dev))
    target.attrib("default_cmdsn_depth", 512)
    return target


@pytest.mark.parametrize("cdb", [write_10, write_and_verify_10])
def test_what_waits_for_a_file_is_asked_again(stuck, file, cdb):
    """The same of writes that wait for a worker."""
    asked_again(file, stuck, cdb)


def test_what_waits_for_a_file_is_given_up(stuck, file):
    """Writes that wait for a worker end as soon as they are aborted, or their logical unit goes, and are not written. What is at work ends when
    the disk goes on."""
    c, d = login(file), login(file, 2)
    assert all(a.status == 0 for a in c.finish_all(write_all(c, 0, 128)).values())
    stuck.stop()
    tags = write_all(c, 0, 128, 1)
    assert c.ping()
    for tag in tags[-1], tags[-3]:
        start = time.monotonic()
        assert c.tmf(ABORT_TASK, ref_itt=tag) == 0 and time.monotonic() - start < 10 * lio.SLOW and not c.seen
    left = {*tags} - {tags[-1], tags[-3]}
    late = d.start(write_10(127), 4096, WRITE, block(127, 2))
    assert d.ping()

    def end(until):
        while len(left) > until:
            a = c.receive(60)
            if not c.pong(a):
                assert a.itt in left and a.status == 0x40, a
                left.remove(a.itt)

    in_time(file.remove_lun, 0)
    in_time(end, 64)
    assert in_time(d.finish, late)[0] == 0x40
    stuck.go()
    end(0)
    data = pread(stuck.dev, 0, 128 * 4096)
    generations = [next(g for g in range(3) if data[4096 * n :][:4096] == block(n, g)) for n in range(128)]
    assert generations.count(1) <= 64 and set(generations[124:]) == {0}, generations
    c.close()
    d.close()


def test_removing_a_disk_without_requests(full):
    """What has not begun ends with its logical unit, the rest when the disk goes on; then all can be unloaded."""
    c, d = login(full.target), login(full.target, 2)
    full.stuck.stop()
    left = {*write_all(c, 0, 128, 1)}
    left |= {c.start(b"\x41\0" + struct.pack(">IBHB", 24576 + 64 * n, 0, 64, 0), 512, WRITE, bytes(512)) for n in range(24)}
    assert c.ping()

    def end(until):
        while len(left) > until:
            a = c.receive(60)
            if not c.pong(a):
                assert a.itt in left and a.status == 0x40, a
                left.remove(a.itt)

    with Meanwhile():
        in_time(full.target.remove_lun, 0)
        in_time(full.store.delete)
        # Four requests, and sixteen workers for each of both kinds of waiting.
        in_time(end, full.DEPTH + 32)
        lio.wait_for(lambda: d.scsi(bytes(6), lun=1)[0] == 0)
        serves(d)
    full.stuck.go()
    end(0)
    c.close()
    d.close()
    lio.clear()
    lio.wait_for(lambda: lio.run("rmmod", "target_core_iblock", check=False).returncode == 0)


def test_loopback(stuck):
    """The initiator's own memory is in the device's hands: nothing is finished before it is given back."""
    port = lio.Loopback(stuck.store)
    disk = port.disk()
    lio.write(f"/sys/block/{disk[5:]}/device/timeout", MIDLAYER)
    stuck.stop()
    dd = lio.subprocess.Popen(["dd", f"if={disk}", "of=/dev/null", "bs=64k", "count=4", "iflag=direct"],
                              stdout=lio.subprocess.PIPE, stderr=lio.subprocess.STDOUT)
    lio.wait_for(lambda: any(map(int, lio.read(f"/sys/block/{disk[5:]}/inflight").split())))
    lio.pause(0.5)
    with Meanwhile():
        start = time.monotonic()
        port.delete()
        assert time.monotonic() - start < 3 * GUARD
        in_time(stuck.store.delete)
        # Longer than the midlayer waits before it aborts.
        time.sleep(2 * MIDLAYER)
    assert not stuck.free() and dd.poll() is None
    stuck.go()
    dd.wait(60 * lio.SLOW)
    lio.wait_for(stuck.free, 60)
    port = lio.Loopback(lio.ramdisk("rd0"))
    assert port.disk()


def reading(disk, jobs=4):
    """So many reads that wait for the disk."""
    started = [lio.subprocess.Popen(["dd", f"if={disk}", "of=/dev/null", "bs=4k", "count=1", f"skip={n}", "iflag=direct"],
                                    stdout=lio.subprocess.PIPE, stderr=lio.subprocess.STDOUT) for n in range(jobs)]
    lio.wait_for(lambda: sum(map(int, lio.read(f"/sys/block/{disk[5:]}/inflight").split())) >= jobs)
    return started


def test_loopback_whose_midlayer_waits_no_longer(stuck):
    """After its eh_deadline the midlayer asks for no more aborts: it does not finish what the back end has, all the same."""
    port = lio.Loopback(stuck.store)
    disk = port.disk()
    lio.write(f"/sys/block/{disk[5:]}/device/timeout", MIDLAYER)
    lio.write(f"/sys/class/scsi_host/host{port.host}/eh_deadline", 3)
    stuck.stop()
    jobs = reading(disk)
    time.sleep(4 * MIDLAYER)
    assert not stuck.free() and all(j.poll() is None for j in jobs)
    stuck.go()
    for j in jobs:
        j.wait(60 * lio.SLOW)


def test_loopback_whose_disk_is_being_deleted(stuck):
    """By sysfs, and that waits for its commands: neither does the port's end finish them."""
    port = lio.Loopback(stuck.store)
    disk = port.disk()
    lio.write(f"/sys/block/{disk[5:]}/device/timeout", 3 * MIDLAYER)
    stuck.stop()
    jobs = reading(disk, 2)
    deletes = threading.Thread(target=lio.write, args=(f"/sys/block/{disk[5:]}/device/delete", 1))
    deletes.start()
    lio.pause(1)
    with Meanwhile():
        port.delete()
        in_time(stuck.store.delete)
        time.sleep(5 * MIDLAYER)
    assert not stuck.free() and all(j.poll() is None for j in jobs)
    stuck.go()
    for j in jobs:
        j.wait(60 * lio.SLOW)
    deletes.join(60 * lio.SLOW)
    lio.wait_for(stuck.free, 60)


@pytest.mark.parametrize("asked", [0, 20])
def test_many_initiators_of_a_disk_that_does_not_answer(stuck, asked):
    """The wait for their sessions is had once, not for each ACL that is removed; so is the time in which they are asked to log out."""
    names = [NAME.format(n) for n in range(1, 7)]
    target = lio.IscsiTarget(stuck.store, acls=names)
    target.attrib("async_logout", asked)
    sessions = [login(target, n) for n in range(1, 7)]
    stuck.stop()
    for c in sessions:
        c.start(READ_4K, 4096, READ)
        assert c.ping()
    start = time.monotonic()
    target.enable(False)
    for name in names:
        path = target.path / "acls" / name
        lio.links(path / "lun_0")[0].unlink()
        (path / "lun_0").rmdir()
        path.rmdir()
    assert time.monotonic() - start < GUARD + asked
    stuck.go()
    target.delete()


def test_modules_stay(stuck):
    """Nothing that is still needed is unloaded, and all can be when it is not."""
    target = lio.IscsiTarget(stuck.store)
    c = left_with(stuck, target)
    target.delete()
    stuck.store.delete()
    (lio.CFS / "iscsi").rmdir()
    for m in ("target_core_iblock", "iscsi_target_mod", "target_core_mod"):
        assert lio.run("rmmod", m, check=False, timeout=60).returncode != 0
    stuck.go()
    c.close()
    lio.wait_for(stuck.free)
    lio.wait_for(lambda: lio.run("rmmod", "iscsi_target_mod", check=False, timeout=60).returncode == 0)
    lio.clear(unload=True)
    assert not set(lio.MODULES) & lio.loaded()
