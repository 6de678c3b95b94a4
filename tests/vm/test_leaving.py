"""A write that is with the disk when its initiator goes, or its logical unit is taken away from that, or while others change who may write: who is
told that nothing of it is at work any more is told so afterwards (SAM-5 7; SPC-4 5.12.11.4.5)."""
# vm: --timeout 600
# group: tasks
import contextlib
import struct
import threading

import initiator
import lio
import pytest
from faulty import rw
from initiator import ABORT_TASK, CLEAR_TASK_SET, LUN_RESET, NONE, READ, SCSI_RESPONSE, WARM_RESET, WRITE
from test_turns import BLOCK, HELD, compare_and_write, disk, filled, holds, start, write

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules forget such commands")
NAME = "iqn.2024-01.org.example:python"
OTHER = "iqn.2024-01.org.example:other"
ORDERED = 2
REGISTER, RESERVE, PREEMPT, PREEMPT_AND_ABORT = 0, 1, 4, 5


def reserve_out(c, action, key=0, new=0):
    """Of the type Write Exclusive, Registrants Only."""
    return c.scsi(struct.pack(">BBBxxIx", 0x5F, action, 5, 24), write=struct.pack(">QQ8x", key, new))[0]


def left_behind(t, **kw):
    """An initiator has gone whose write the disk has."""
    c = initiator.session(t)
    if kw:
        assert reserve_out(c, REGISTER, **kw) == 0
    write(c, 3)
    t.has_write()
    c.reset()
    # Its connection has ended there, the write has not.
    lio.pause(1)


@pytest.mark.parametrize("function", [LUN_RESET, CLEAR_TASK_SET])
def test_functions(function):
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        left_behind(t)
        assert holds(d) == 0
        t.let_go()
        assert d.tmf(function, timeout=60) == 0
        while d.scsi(bytes(6))[0]:
            pass  # it hears of the reset
        assert holds(d) == 3


def test_preempting():
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        assert reserve_out(d, REGISTER, new=2) == 0
        left_behind(t, new=1)
        assert holds(d) == 0
        t.let_go()
        assert reserve_out(d, PREEMPT_AND_ABORT, 2, 1) == 0
        assert holds(d) == 3


def test_comparing():
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        left_behind(t)
        t.let_go()
        assert d.finish(compare_and_write(d, 0, 1), timeout=60)[0] == 2
        assert holds(d) == 3


def test_a_reservation_is_asked_for_when_the_turn_comes():
    """COMPARE AND WRITE waits for a write; a reservation that is made meanwhile keeps it from writing. On a device that can be asked without
    waiting: what its workers begin is asked anyway."""
    with disk(write=HELD, above=True) as t, initiator.session(t) as c, initiator.session(t, name=OTHER) as d:
        for who, key in ((c, 1), (d, 2)):
            assert reserve_out(who, REGISTER, new=key) == 0
        older = write(d, 3)
        t.has_write()
        waits = compare_and_write(c, 3, 4)
        assert c.ping()
        assert reserve_out(d, PREEMPT, 2, 1) == 0 and reserve_out(d, RESERVE, 2) == 0
        t.let_go()
        # The write is answered first, or was: it is what was waited for.
        assert c.finish(waits, timeout=60)[0] == 0x18
        assert d.finish(older, timeout=60)[0] == 0
        assert holds(d) == 3
        # It has given up its turn.
        assert d.finish(compare_and_write(d, 3, 5), timeout=60)[0] == 0
        assert holds(d) == 5


def sees(c):
    """Whether there is a logical unit, after what it has to tell."""
    while True:
        status, _, a = c.scsi(bytes(6))
        if status == 0 or a.sense[2] & 0xF != 6:
            return status == 0


@contextlib.contextmanager
def a_mapping_removed(t, **kw):
    """A write is at work of an initiator that had the LUN under two numbers, from which that of the write is taken away."""
    path = t.acl(NAME)
    (path / "lun_1").mkdir()
    (path / "lun_1/lun").symlink_to(t.path / "lun/lun_0")
    with initiator.session(t, name=NAME) as c:
        if kw:
            assert reserve_out(c, REGISTER, **kw) == 0
        write(c, 3)
        t.has_write()
        (path / "lun_0/lun").unlink()
        yield c


@contextlib.contextmanager
def a_lun_unlinked(t, **kw):
    """A write is at work through another port, whose LUN is taken away from there: that waits for it."""
    store = next(d for d in (t.path / "lun/lun_0").iterdir() if d.is_symlink()).resolve()
    other = lio.IscsiTarget(iqn="iqn.2003-01.org.example:t2", portals=("127.0.0.1:3261",))
    (other.path / "lun/lun_0").mkdir()
    (other.path / "lun/lun_0/store").symlink_to(store)
    with initiator.session(other, name=NAME) as c:
        if kw:
            assert reserve_out(c, REGISTER, **kw) == 0
        write(c, 3)
        t.has_write()
        removes = threading.Thread(target=other.remove_lun)
        removes.start()
        lio.wait_for(lambda: not sees(c))
        lio.pause(0.5)
        try:
            yield c
        finally:
            removes.join()
    other.delete()


taken_away = pytest.mark.parametrize("taken_away", [a_mapping_removed, a_lun_unlinked])


@taken_away
@pytest.mark.parametrize("function", [LUN_RESET, CLEAR_TASK_SET])
def test_functions_and_a_lun_taken_away(taken_away, function):
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d, taken_away(t):
        assert holds(d) == 0
        t.let_go()
        assert d.tmf(function, timeout=60) == 0
        while d.scsi(bytes(6))[0]:
            pass  # it hears of the reset
        assert holds(d) == 3


@taken_away
def test_preempting_and_a_lun_taken_away(taken_away):
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        assert reserve_out(d, REGISTER, new=2) == 0
        with taken_away(t, new=1):
            assert holds(d) == 0
            t.let_go()
            assert reserve_out(d, PREEMPT_AND_ABORT, 2, 1) == 0
            assert holds(d) == 3


@taken_away
def test_comparing_and_a_lun_taken_away(taken_away):
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d, taken_away(t):
        assert holds(d) == 0
        t.let_go()
        assert d.finish(compare_and_write(d, 0, 1), timeout=60)[0] == 2
        assert holds(d) == 3


@taken_away
def test_an_ordered_command_and_a_lun_taken_away(taken_away):
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d, taken_away(t):
        assert holds(d) == 0
        t.let_go()
        status, data, _ = d.finish(d.start(rw(0x88, 0, 1), BLOCK, READ, attr=ORDERED), timeout=60)
        assert (status, data) == (0, filled(3))


@pytest.mark.parametrize("function", [WARM_RESET, ABORT_TASK])
def test_its_own_functions_and_all_mappings_removed(function):
    """The initiator sees nothing of the device any more: its function is answered when its write is gone, of which it has heard before."""
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        mapped = t.acl(NAME) / "lun_0/lun"
        with initiator.session(t, name=NAME) as c:
            number = c.cmd_sn
            older = write(c, 3)
            t.has_write()
            mapped.unlink()
            assert holds(d) == 0
            t.let_go()
            assert c.tmf(function, ref_itt=older if function == ABORT_TASK else NONE, ref_cmd_sn=number, timeout=60) == 0
            assert [a.status for a in c.seen if a.itt == older and a.opcode == SCSI_RESPONSE] == [0x40]
            assert holds(d) == 3


def test_a_number_that_is_anothers_by_now():
    """The initiator has another logical unit under that number, whose commands are none of the first one's."""
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d:
        t.patient(NAME)
        another, mapped = lio.ramdisk("another"), t.path / "acls" / NAME / "lun_0"
        t.lun(another, 1)
        with initiator.session(t, name=NAME) as c:
            older = write(c, 3)
            t.has_write()
            (mapped / "lun").unlink()
            (mapped / "lun").symlink_to(t.path / "lun/lun_1")
            assert sees(c)
            newer = c.start(rw(0x8A, 0, 1), BLOCK, WRITE)
            r2t = c.receive()
            assert r2t.itt == newer
            t.let_go()
            assert d.tmf(LUN_RESET, timeout=60) == 0
            while d.scsi(bytes(6))[0]:
                pass
            assert holds(d) == 3
            c.answer_r2t(r2t, filled(4))
            last = c.finish_all([older, newer])
            assert (last[older].status, last[newer].status) == (0x40, 0)
            assert holds(c) == 4


def test_numbers_that_come_and_go():
    """Mapped and unmapped again and again, each time with a command, while one command does not end: what ends is forgotten, and that one is
    still waited for."""
    with disk(write=HELD) as t, initiator.session(t, name=OTHER) as d, a_mapping_removed(t) as c:
        mapped = t.path / "acls" / NAME / "lun_0/lun"
        for _ in range(3):
            mapped.symlink_to(t.path / "lun/lun_0")
            assert sees(c)
            waits = c.start(rw(0x8A, 8, 1), BLOCK, WRITE)
            assert c.receive().itt == waits
            mapped.unlink()
            assert c.finish(waits)[0] == 0x40
            assert not sees(c)
        assert holds(d) == 0
        t.let_go()
        assert d.tmf(CLEAR_TASK_SET, timeout=60) == 0
        while d.scsi(bytes(6))[0]:
            pass
        assert holds(d) == 3


@contextlib.contextmanager
def slow(function, ms):
    """A function of the engine takes so much longer, by the end of its name."""
    symbols = [line.split()[2] for line in lio.read("/proc/kallsyms").splitlines()]
    if "register_kprobe" not in symbols:
        pytest.skip("this kernel has no kprobes")
    lio.run("modprobe", "lio_slow", f"symbol={next(s for s in symbols if s.endswith(function))}", f"ms={ms}")
    try:
        yield
    finally:
        lio.run("rmmod", "lio_slow")


@contextlib.contextmanager
def taken_away_beside(begin):
    """Another session, after the LUN was taken away from an initiator while what `begin` has begun was about to be done."""
    t = lio.IscsiTarget(lio.ramdisk())
    mapped = t.acl(NAME) / "lun_0/lun"
    with initiator.session(t, name=NAME) as c, initiator.session(t, name=OTHER) as d:
        with slow("emulate2pr6answer", 4000):
            itt = begin(c)
            lio.pause(1.5)
            mapped.unlink()
        c.finish(itt, timeout=30)
        yield d


def test_a_registration_while_a_mapping_is_removed():
    register = struct.pack(">BBBxxIx", 0x5F, REGISTER, 0, 24), struct.pack(">QQ8x", 0, 1)
    with taken_away_beside(lambda c: start(c, *register)) as d:
        read_keys = struct.pack(">BBxxxxxHx", 0x5E, 0, 8)
        assert d.scsi(read_keys, read=8)[1][4:] == bytes(4)


def test_a_reservation_while_a_mapping_is_removed():
    with taken_away_beside(lambda c: c.start(bytes([0x16, 0, 0, 0, 0, 0]))) as d:
        assert d.finish(write(d, 1))[0] == 0
