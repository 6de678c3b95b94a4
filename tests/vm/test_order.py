"""Task attributes (SAM-5 8.6): ORDERED, HEAD OF QUEUE and SIMPLE commands of several initiators. What is older is kept waiting by its data
not being sent."""
# vm: --timeout 900
# group: tasks
import contextlib
import socket
import threading
import time

import initiator
import lio
import pytest
from faulty import rw
from initiator import ABORT_TASK, LUN_RESET, R2T, READ, SCSI_RESPONSE, WRITE
from sgio import say
from storage import pattern

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules count a command when its data is there")
SIMPLE, ORDERED, HEAD, ACA = 1, 2, 3, 4
TUR = bytes(6)
BUSY, TASK_SET_FULL, TASK_ABORTED = 8, 0x28, 0x40
BLOCK = 4096


NAMES = [f"iqn.2024-01.org.example:i{i}" for i in range(3)]


def exported(*stores):
    """A target of these stores, whose initiators may keep data back for a while."""
    t = lio.IscsiTarget(*stores)
    t.patient(*NAMES, luns=range(len(stores)))
    return t


@pytest.fixture
def target():
    return exported(lio.ramdisk(), lio.iblock())


@contextlib.contextmanager
def sessions(target, n):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(initiator.session(target, name=NAMES[i], isid=b"\x80\0\0\0\1" + bytes([i]))) for i in range(n)]


def stalled(c, lun=0, lba=64, attr=SIMPLE):
    """A write that waits for its data: its R2T, to be answered by `feed`."""
    itt = c.start(rw(0x8A, lba, 8), BLOCK, WRITE, lun=lun, attr=attr)
    a = c.next()
    assert a.opcode == R2T and a.itt == itt, a
    return a


def feed(c, r2t, value=0):
    c.answer_r2t(r2t, pattern(BLOCK, value))
    # What waits for it is answered behind it.
    while (a := c.receive()).itt != r2t.itt:
        assert c.pong(a), a
    assert a.opcode == initiator.SCSI_RESPONSE and a.status == 0, a


def write(c, value, attr, lun=0, lba=0):
    return c.start(rw(0x8A, lba, 8), BLOCK, WRITE, pattern(BLOCK, value), lun=lun, attr=attr)


def read(c, attr=SIMPLE, lun=0, lba=0):
    return c.start(rw(0x88, lba, 8), BLOCK, READ, lun=lun, attr=attr)


def waits(*connections):
    """Nothing is answered but the pings."""
    for c in connections:
        assert c.ping()


def reads(c, itt, value):
    status, data, _ = c.finish(itt)
    assert (status, data) == (0, pattern(BLOCK, value))


@pytest.mark.parametrize("lun", [0, 1])
def test_ordered_waits_and_others_wait_for_it(target, lun):
    """Of three initiators: what is older is not kept by it, what is newer is, and HEAD OF QUEUE is not kept at all."""
    with sessions(target, 3) as (a, b, c):
        older, also_older = stalled(a, lun), stalled(c, lun, 72)
        # One after the other over different connections: each is there when the ping behind it is answered.
        first = write(b, 1, ORDERED, lun)
        waits(b)
        newer = read(c, lun=lun)
        waits(c)
        second = write(b, 2, ORDERED, lun)
        waits(b)
        newest = read(a, lun=lun)
        waits(b, c, a)
        assert c.finish(c.start(TUR, attr=HEAD, lun=lun))[0] == 0
        feed(a, older)
        waits(b, c)
        feed(c, also_older)
        assert b.finish(first)[0] == 0
        reads(c, newer, 1)
        assert b.finish(second)[0] == 0
        reads(a, newest, 2)
        # Without any ORDERED command it goes on as before.
        older = stalled(a, lun)
        reads(b, read(b, lun=lun), 2)
        feed(a, older)


def test_restricted_reordering():
    """Writes are processed in order, whatever comes first (SPC-4, 7.5.8)."""
    store = lio.ramdisk()
    target = exported(store)
    qam = bytes([0x1A, 8, 0x0A, 0, 16, 0])
    with sessions(target, 2) as (a, b):
        assert a.scsi(qam, read=16)[1][7] & 0xF0 == 0x10
        with lio.refused():
            store.attrib("emulate_rest_reord", 1)  # while it is exported
        older = stalled(a)
        assert a.finish(write(a, 9, SIMPLE, lba=64))[0] == 0
        feed(a, older, 1)
    target.delete()
    store.attrib("emulate_rest_reord", 1)
    target = exported(store)
    with sessions(target, 2) as (a, b):
        assert a.scsi(qam, read=16)[1][7] & 0xF0 == 0
        for value in range(3):
            older = stalled(a)
            newer = write(a, value, SIMPLE, lba=64)
            waits(a)
            newest = read(a, lba=64)
            waits(a)
            assert b.finish(b.start(TUR, attr=HEAD))[0] == 0
            feed(a, older, 9)
            assert a.finish(newer)[0] == 0
            reads(a, newest, value)
        # Reads do not wait for each other, nor does a write keep them from beginning that were there before it.
        reads(b, read(b, lba=64), 2)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("attr", [ORDERED, SIMPLE])
def test_data_at_a_trickle(attr, size):
    """A write whose data comes in PDUs of a byte, or of none, holds other initiators' commands no longer than README.md says: an ORDERED one,
    or one that such a one of another initiator waits for."""
    target = lio.IscsiTarget(lio.ramdisk())
    with sessions(target, 3) as (a, b, c):
        r2t, over = stalled(a, attr=attr), threading.Event()

        def trickle():
            for n in range(60):
                if over.wait(2):
                    break
                a.send(a.data_out_pdu(r2t.itt, r2t.ttt, bytes(size), n * size, n, last=False))

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            start = time.monotonic()
            tags = b.start(TUR, attr=ORDERED), c.start(TUR)
            waits(b)
            assert b.finish(tags[0], timeout=60)[0] == 0 and c.finish(tags[1])[0] == 0
            took = time.monotonic() - start
        finally:
            over.set()
            thread.join()
        # dataout_timeout, and once more with its retries.
        assert took < 3 + 3 * 6 + 6 * lio.SLOW, took
        assert size == 0 or took > 15, took
        while a.receive(30) is not None:
            pass


MIB = 1 << 20


def impatient(target):
    """The first initiator's data has little time: how long it may keep others waiting, where it does not move a MiB in a second."""
    for node, value in ("dataout_timeout", 2 * lio.SLOW), ("dataout_timeout_retries", 1):
        lio.write(target.path / "acls" / NAMES[0] / "attrib" / node, value)
    return 2 * 2 * lio.SLOW


@pytest.mark.parametrize("others", [False, True])
def test_slow_data_of_many_writes(others):
    """32 MiB are asked for at once, and come in turn; so does a write that waits for them. Each is done when nearly all has come, and has
    the time for that, where other initiators wait, too."""
    store = lio.ramdisk()
    store.attrib("emulate_rest_reord", 1)
    target = exported(store)
    lio.write(target.path / "param/InitialR2T", "No")
    span = impatient(target)
    takes = 1.5 * span + 3
    with sessions(target, 2) as (a, b):
        cdb, data = rw(0x8A, 0, MIB // 512), pattern(MIB, 1)
        tags = [a.start(cdb, MIB, WRITE) for _ in range(32)]
        behind = a.start(cdb, MIB, WRITE, last=False)
        asked, left, n = [a.next() for _ in tags], {*tags, behind}, 0
        waiting = b.start(TUR) if others else None
        start = time.monotonic()
        while left:
            p = asked.pop(0) if asked else a.next()
            assert p, (n, time.monotonic() - start)
            if p.opcode == R2T:
                a.answer_r2t(p, data, 65536)
                n += 1
                if n == 96:
                    a.send(a.data_out_pdu(behind, initiator.NONE, data[:65536]))
                time.sleep(max(0, start + takes * n / 512 - time.monotonic()))
            else:
                assert (p.opcode, p.status) == (SCSI_RESPONSE, 0), p
                left.remove(p.itt)
        assert time.monotonic() - start > span + 1
        assert not others or b.finish(waiting, timeout=60)[0] == 0
        assert a.scsi(TUR)[0] == 0


def test_r2t_behind_reads(target):
    """Others wait for a write whose R2T goes behind reads that the initiator takes slowly: that has time for what it has to take first."""
    span = impatient(target)
    takes = (span + 8) / 0.6  # it goes behind most of them
    with sessions(target, 2) as (a, b):
        for _ in range(32):
            a.start(rw(0x88, 0, MIB // 512), MIB, READ)
        itt, n = a.start(rw(0x8A, 0, 8), BLOCK, WRITE), 0
        waits_for_it = b.start(TUR, attr=ORDERED)
        start = time.monotonic()
        while (p := a.next()).itt != itt:
            n += 1
            time.sleep(max(0, start + takes * n / 512 - time.monotonic()))
        assert p.opcode == R2T and time.monotonic() - start > span + 1, (n, p)
        a.answer_r2t(p, bytes(BLOCK))
        while (p := a.next()).itt != itt:
            pass
        assert (p.opcode, p.status) == (SCSI_RESPONSE, 0), p
        assert b.finish(waits_for_it)[0] == 0


def test_each_logical_unit_by_itself(target):
    with sessions(target, 2) as (a, b):
        older = stalled(a, 0)
        first = write(b, 1, ORDERED, 0)
        waits(b)
        assert b.finish(b.start(TUR, attr=ORDERED, lun=1))[0] == 0
        feed(a, older)
        assert b.finish(first)[0] == 0


@pytest.mark.parametrize("lun", [0, 1])
def test_in_a_row(target, lun):
    """Writes and reads of one block, each write ORDERED, without waiting for answers, by three initiators at once."""
    failures = []

    def go(c, n):
        try:
            for _ in range(4):
                started, data = [], {}
                for value in range(10):
                    started += [(write(c, n * 100 + value, ORDERED, lun, n * 8), None), (read(c, SIMPLE, lun, n * 8), n * 100 + value)]
                answers = {}
                while len(answers) < len(started):
                    x = c.receive()
                    if not c.pong(x):
                        if x.opcode != SCSI_RESPONSE:
                            data.setdefault(x.itt, bytearray()).extend(x.data)
                        if x.opcode == SCSI_RESPONSE or x.flags & 1:
                            answers[x.itt] = x.status
                for itt, value in started:
                    assert answers[itt] == 0 and (value is None or data[itt] == pattern(BLOCK, value)), (itt, value, answers[itt])
        except BaseException as e:
            failures.append(repr(e))

    with sessions(target, 3) as all_:
        threads = [threading.Thread(target=go, args=(c, n)) for n, c in enumerate(all_)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * lio.SLOW)
        assert not any(t.is_alive() for t in threads) and not failures, failures


def test_aborted(target):
    """One that waits is aborted at once, and those that waited for it go on."""
    with sessions(target, 3) as (a, b, c):
        older = stalled(a)
        waiting = write(b, 1, ORDERED)
        waits(b)
        newer = c.start(TUR)
        waits(b, c)
        assert b.tmf(ABORT_TASK, ref_itt=waiting, timeout=10) == 0
        assert not b.seen and c.finish(newer)[0] == 0
        feed(a, older)
        # Neither the first nor the last of several: the order of the rest stays.
        older = stalled(a)
        tags = [write(b, value, ORDERED) for value in (1, 2, 3)]
        assert b.tmf(ABORT_TASK, ref_itt=tags[1], timeout=10) == 0
        newer = read(c)
        waits(c, b)
        feed(a, older)
        assert {x.status for x in b.finish_all((tags[0], tags[2])).values()} == {0}
        reads(c, newer, 3)


@pytest.mark.parametrize("end", ["close", "reset", "logout"])
def test_session_ends(target, end):
    """With the session that sent it an ORDERED command goes, or with that which it waits for."""
    with sessions(target, 3) as (a, b, c):
        stalled(a)
        write(b, 1, ORDERED)
        waits(b)
        newer = c.start(TUR)
        waits(c)
        getattr(b, end)()
        assert c.finish(newer, timeout=20)[0] == 0
        ordered = c.start(TUR, attr=ORDERED)
        waits(c)
        getattr(a, end)()
        assert c.finish(ordered, timeout=20)[0] == 0


def test_reset(target):
    """A LUN reset ends all that waits, and the next commands wait for nothing."""
    with sessions(target, 3) as (a, b, c):
        stalled(a)
        for value in range(5):
            write(b, value, ORDERED)
            b.start(TUR)
        waits(b)
        assert c.tmf(LUN_RESET, timeout=20) == 0
        assert c.scsi(TUR)[0] == 2 and c.scsi(TUR)[0] == 0


def test_too_many(target):
    """64 are held; what is more is answered with TASK SET FULL."""
    with sessions(target, 3) as (a, b, c):
        older = stalled(a)
        held = [(b, b.start(TUR, attr=ORDERED)) for _ in range(40)]
        waits(b)
        tags = [c.start(TUR, attr=ORDERED) for _ in range(40)]
        held += [(c, tag) for tag in tags[:24]]
        full = [c.next() for _ in range(16)]
        assert {x.itt: x.status for x in full} == dict.fromkeys(tags[24:], TASK_SET_FULL)
        waits(b, c)
        feed(a, older)
        for of in b, c:
            assert {a.status for a in of.finish_all(tag for who, tag in held if who is of).values()} == {0}
        assert b.finish(b.start(TUR, attr=ORDERED))[0] == 0


@pytest.fixture
def interlocked():
    store = lio.ramdisk()
    store.attrib("emulate_ua_intlck_ctrl", 2)
    return exported(store)


def test_too_many_is_told_of_again(interlocked):
    """UA_INTLCK_CTRL 11b: the next command is told of TASK SET FULL, by a unit attention that stays until REQUEST SENSE."""
    def request_sense(of):
        status, data, _ = of.finish(of.start(bytes.fromhex("03000000ff00"), 255, READ, attr=HEAD))
        assert status == 0
        return say(data)

    with sessions(interlocked, 3) as (a, b, c):
        older = stalled(a)
        held = [(b, b.start(TUR, attr=ORDERED)) for _ in range(40)]
        waits(b)
        tags = [c.start(TUR, attr=ORDERED) for _ in range(30)]
        held += [(c, tag) for tag in tags[:24]]
        full = {of.itt: of.status for of in (c.next() for _ in tags[24:])}
        assert full == {tags[24]: TASK_SET_FULL} | dict.fromkeys(tags[25:], 2)
        for _ in range(3):
            status, _, answer = c.scsi(TUR)
            assert (status, say(answer.sense)) == (2, "6/2c08")
        assert request_sense(c) == "6/2c08" and request_sense(c) == request_sense(b) == "0/0000"
        feed(a, older)
        for of in b, c:
            assert {a.status for a in of.finish_all(tag for who, tag in held if who is of).values()} == {0}


def test_the_lun_goes():
    """A LUN is unlinked while commands of it wait for an ORDERED one, and that for a write without data."""
    target = lio.IscsiTarget(lio.ramdisk(), lio.iblock())  # one that an ACL shows cannot be
    with sessions(target, 2) as (a, b):
        stalled(a)
        write(b, 1, ORDERED)
        b.start(TUR)
        waits(b)
        target.remove_lun(0)
        left = [b.next(), b.next()]
        assert {x.status for x in left} == {TASK_ABORTED}
        assert b.scsi(TUR, lun=1)[0] in (0, 2)


@pytest.mark.parametrize("what", ["lun", "mapped"])
def test_what_goes_does_not_wait_for_others(what):
    """What waits for another initiator's ORDERED command through another LUN of the device is answered at once when its own LUN goes."""
    store = lio.ramdisk()
    target = lio.IscsiTarget(store, store)
    target.patient(NAMES[0], luns=(0, 1))
    other = target.acl(NAMES[1])
    with sessions(target, 2) as (a, b):
        ordered = stalled(a, lun=1, attr=ORDERED)
        held = [b.start(TUR), read(b)]
        waits(b)
        begun = time.monotonic()
        for link in lio.links(other / "lun_0" if what == "mapped" else target.path / "lun/lun_0"):
            link.unlink()
        assert {b.receive(timeout=20).itt for _ in held} == set(held)
        assert time.monotonic() - begun < 20 * lio.SLOW
        # The ORDERED one goes on, and nothing waits for what has gone.
        feed(a, ordered)
        a.scsi(TUR, lun=1)  # it hears of other LUNs
        reads(a, read(a, lun=1, lba=64), 0)


@pytest.fixture
def erasable():
    store = lio.ramdisk()
    for name in "emulate_tpu", "emulate_sanitize":
        store.attrib(name, 1)
    return exported(store)


def test_sanitize_is_ordered(erasable):
    """SANITIZE waits for what was admitted, and that for an ORDERED SANITIZE: neither waits for the other for ever."""
    with sessions(erasable, 3) as (a, b, c):
        older = stalled(a)
        sanitize = b.start(bytes([0x48, 2]) + bytes(8), attr=ORDERED)
        waits(b)
        newer, written = read(c, lba=64), write(c, 7, SIMPLE, lba=8)
        waits(c)
        feed(a, older, 9)
        assert b.finish(sanitize, timeout=30)[0] == 0
        status, data, _ = c.finish(newer)
        assert (status, data) == (0, bytes(BLOCK))
        assert c.finish(written)[0] == 0
        reads(c, read(c, lba=8), 7)


def test_ordered_behind_sanitize(erasable):
    """A SIMPLE SANITIZE that waits for its parameter list, and an ORDERED command of another initiator behind it."""
    with sessions(erasable, 2) as (a, b):
        pattern_list = bytes([1, 0, 0, 4]) + b"\xa5\x5a\xa5\x5a"
        sanitize = a.start(bytes([0x48, 1, 0, 0, 0, 0, 0, 0, len(pattern_list), 0]), len(pattern_list), WRITE)
        r2t = a.receive()
        assert r2t.opcode == R2T and r2t.itt == sanitize
        ordered = read(b, ORDERED)
        waits(b)
        a.answer_r2t(r2t, pattern_list)
        assert a.finish(sanitize, timeout=30)[0] == 0
        status, data, _ = b.finish(ordered)
        assert (status, data) == (0, b"\xa5\x5a" * (BLOCK // 2))


def test_written_while_it_is_sanitized(erasable):
    """What was held while an ORDERED SANITIZE began in the background: refused while that lasts, or written when it is over."""
    with sessions(erasable, 3) as (a, b, c):
        older = stalled(a)
        sanitize = b.start(bytes([0x48, 0x82]) + bytes(8), attr=ORDERED)
        waits(b)
        newer = write(c, 7, SIMPLE)
        waits(c)
        feed(a, older)
        assert b.finish(sanitize)[0] == 0
        status, _, answer = c.finish(newer)
        assert status == 0 or (status, say(answer.sense)) == (2, "2/041b")
        lio.wait_for(lambda: b.scsi(TUR)[0] == 0)
        status, data, _ = b.finish(read(b))
        assert (status, data) in [(0, pattern(BLOCK, 7)), (0, bytes(BLOCK))]
        assert status or (data == bytes(BLOCK)) == (answer.status == 2)


def test_aca_is_refused(target):
    with sessions(target, 1) as (a,):
        status, _, answer = a.finish(a.start(TUR, attr=ACA))
        assert status == 2 and answer.sense[2] & 15 == 5


READ_16M = rw(0x88, 0, 0)[:10] + (32768).to_bytes(4, "big") + bytes(2)


@contextlib.contextmanager
def greedy(target, **kw):
    """A session that has asked for as much as is read for one at a time."""
    with initiator.session(target, name=NAMES[0], isid=b"\x80\0\0\0\2\0", **kw) as c:
        yield c, lambda: [c.start(READ_16M, 16 << 20, READ) for _ in range(4)]


@pytest.fixture
def large():
    return exported(lio.ramdisk(size=32 << 20))


@pytest.mark.parametrize("attr", [SIMPLE, ORDERED])
def test_who_waits_for_memory_holds_up_nobody(large, attr):
    """An initiator that does not read what it has asked for, and asks for more."""
    with greedy(large) as (c, ask), sessions(large, 3) as (_, b, d):
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask()
        c.start(READ_16M, 16 << 20, READ, attr=attr)
        time.sleep(1)
        for _ in range(3):
            assert b.scsi(TUR, timeout=10 * lio.SLOW)[0] == 0
            assert d.finish(d.start(TUR, attr=ORDERED), timeout=10 * lio.SLOW)[0] == 0


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("attr", [SIMPLE, ORDERED])
def test_memory_is_behind_what_waits_for_it(attr, delayed):
    """A command that needs memory when its data has come, and reads behind it that have it all: one of them gives way. Also where all of them
    have to wait before they are in the task set."""
    store = lio.ramdisk(size=32 << 20)
    large = exported(store)
    if delayed:
        # Active/NonOptimized
        lio.write(store.path / "alua/default_tg_pt_gp/alua_access_state", 1)
    cdb = rw(0x89, 0, 0)[:13] + b"\1" + bytes(2)

    def begin(**kw):
        r2t = c.start(cdb, 1024, WRITE, **kw) and c.next()
        assert r2t.opcode == R2T, r2t
        return r2t

    with greedy(large, keys={"ImmediateData": "No", "InitialR2T": "Yes"}) as (c, ask):
        first = begin(attr=attr)
        behind = {SIMPLE: ORDERED, ORDERED: SIMPLE}[attr]
        tags = [c.start(READ_16M, 16 << 20, READ, attr=behind) for _ in range(4)]
        assert c.ping()
        c.answer_r2t(first, bytes(1024))
        # The target's own pings go on, whatever else does not.
        end, answers = time.monotonic() + 60 * lio.SLOW, {}
        while len(answers) < 5:
            assert time.monotonic() < end, answers
            a = c.receive()
            if not c.pong(a) and (a.opcode == SCSI_RESPONSE or a.flags & 1):
                answers[a.itt] = a.status
        assert answers[first.itt] in (0, BUSY) and all(answers[t] == 0 for t in tags), answers
        # Later, it is done.
        again = begin()
        c.answer_r2t(again, bytes(1024))
        assert c.finish(again.itt)[0] == 0
