"""A write that is with the disk when its initiator goes, or while others change who may write: who is told that nothing of it is at work any
more is told so afterwards (SAM-5 7; SPC-4 5.12.11.4.5)."""
# vm: --timeout 600
# group: tasks
import struct

import initiator
import lio
import pytest
from initiator import CLEAR_TASK_SET, LUN_RESET
from test_turns import compare_and_write, disk, holds, write

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules forget such commands")
OTHER = "iqn.2024-01.org.example:other"
REGISTER, RESERVE, PREEMPT, PREEMPT_AND_ABORT = 0, 1, 4, 5
SLOW = 5000  # milliseconds to write


def reserve_out(c, action, key=0, new=0):
    """Of the type Write Exclusive, Registrants Only."""
    return c.scsi(struct.pack(">BBBxxIx", 0x5F, action, 5, 24), write=struct.pack(">QQ8x", key, new))[0]


def left_behind(t, **kw):
    """An initiator has gone whose write the disk has."""
    c = initiator.session(t)
    if kw:
        assert reserve_out(c, REGISTER, **kw) == 0
    write(c, 3)
    assert c.ping()
    c.reset()
    # Its connection has ended there, the write has not.
    lio.pause(1)


@pytest.mark.parametrize("function", [LUN_RESET, CLEAR_TASK_SET])
def test_functions(function):
    with disk(write=SLOW) as t, initiator.session(t, name=OTHER) as d:
        left_behind(t)
        assert holds(d) == 0
        assert d.tmf(function, timeout=60) == 0
        while d.scsi(bytes(6))[0]:
            pass  # it hears of the reset
        assert holds(d) == 3


def test_preempting():
    with disk(write=SLOW) as t, initiator.session(t, name=OTHER) as d:
        assert reserve_out(d, REGISTER, new=2) == 0
        left_behind(t, new=1)
        assert holds(d) == 0
        assert reserve_out(d, PREEMPT_AND_ABORT, 2, 1) == 0
        assert holds(d) == 3


def test_comparing():
    with disk(write=SLOW) as t, initiator.session(t, name=OTHER) as d:
        left_behind(t)
        assert d.finish(compare_and_write(d, 0, 1), timeout=60)[0] == 2
        assert holds(d) == 3


def test_a_reservation_is_asked_for_when_the_turn_comes():
    """COMPARE AND WRITE waits for a write; a reservation that is made meanwhile keeps it from writing. On a device that can be asked without
    waiting: what its workers begin is asked anyway."""
    with disk(write=SLOW, above=True) as t, initiator.session(t) as c, initiator.session(t, name=OTHER) as d:
        for who, key in ((c, 1), (d, 2)):
            assert reserve_out(who, REGISTER, new=key) == 0
        older = write(d, 3)
        assert d.ping()
        waits = compare_and_write(c, 3, 4)
        assert c.ping()
        assert reserve_out(d, PREEMPT, 2, 1) == 0 and reserve_out(d, RESERVE, 2) == 0
        # The write is answered first, or was: it is what was waited for.
        assert c.finish(waits, timeout=60)[0] == 0x18
        assert d.finish(older, timeout=60)[0] == 0
        assert holds(d) == 3
        # It has given up its turn.
        assert d.finish(compare_and_write(d, 3, 5), timeout=60)[0] == 0
        assert holds(d) == 5
