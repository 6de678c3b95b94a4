"""Error recovery level 2 (RFC 7143, 7.1.4.4, 7.2.2, 7.5, 11.5, 11.14): tasks of a connection that has gone are kept, and go on with
another one; so is the session. `make check-sessions`: the races for SECONDS_EACH seconds, SEED=N."""
# group: sessions
import contextlib
import json
import os
import random
import re
import socket
import struct
import time

import initiator
import leaks
import lio
import pytest
from initiator import (ABORT_TASK, ASYNC, DATA_IN, FINAL, LOGOUT, LOGOUT_RESPONSE, LUN_RESET, NONE, R2T, READ, SCSI_RESPONSE, TMF,
                       TMF_RESPONSE, WRITE, pdu)
from legs import CLEARED, NAME, READ_4K, TUR, WRITE_4K, Leg, Session, sessions

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules lose the tasks, and at times the kernel, at level 2")
ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))
COMPLETE, NO_TASK, ALLEGIANT, NOT_SUPPORTED, REJECTED = 0, 1, 3, 4, 255
RECOVERY = 2  # of a logout
LEVEL_2 = {"ErrorRecoveryLevel": 2, "DefaultTime2Retain": 20, "InitialR2T": "Yes", "ImmediateData": "No"}


def prepared(*stores):
    t = lio.IscsiTarget(*stores)
    lio.write(t.path / "param/MaxConnections", 4)
    t.attrib("default_erl", 2)
    t.patient(NAME, luns=range(len(stores)))
    return t


@pytest.fixture
def target():
    return prepared(lio.ramdisk())


def recoverable(target, **kw):
    return Session(target, keys=LEVEL_2 | kw.pop("keys", {}), **kw)


def window(a):
    """How many commands it has room for."""
    return (a.max_cmd_sn - a.exp_cmd_sn + 1) & NONE


def asked(leg, **kw):
    """A write that has been asked for its data: its tag, the R2T."""
    itt = leg.start(WRITE_4K, 4096, WRITE, **kw)
    r2t = leg.next()
    assert (r2t.opcode, r2t.itt) == (R2T, itt), r2t
    return itt, r2t


def lose(leg, other, cid=2):
    """The connection is lost, of which the target tells another one."""
    leg.reset()
    told = other.next()
    assert (told.opcode, told.bhs[36]) == (ASYNC, 2), told
    assert (int.from_bytes(told.bhs[38:40], "big"), int.from_bytes(told.bhs[42:44], "big")) == (cid, 20)


def recover(leg, cid=2):
    """Logs a connection out for recovery."""
    a = leg.answer(leg.log_out(RECOVERY, cid))
    assert (a.opcode, a.response, int.from_bytes(a.bhs[42:44], "big")) == (LOGOUT_RESPONSE, 0, 20), a


def ready(leg):
    """Nothing is to be told of any more."""
    while leg.scsi(TUR)[0]:
        pass


def states(target):
    return {x["cid"]: x["state"] for x in map(json.loads, lio.read(target.path / "sessions").splitlines())}


def test_level(target):
    (target.path / "acls" / NAME / "lun_0/lun").unlink()
    (target.path / "acls" / NAME / "lun_0").rmdir()
    (target.path / "acls" / NAME).rmdir()  # it has a level of its own
    with recoverable(target) as s:
        assert (s.agreed["ErrorRecoveryLevel"], s.agreed["DefaultTime2Retain"]) == ("2", "20")
    for attribute, param, want in (1, 0, "1"), (0, 2, "2"), (0, 1, "1"), (0, 0, "0"):
        target.attrib("default_erl", attribute)
        lio.write(target.path / "param/ErrorRecoveryLevel", param)
        with recoverable(target) as s:
            assert s.agreed["ErrorRecoveryLevel"] == want
            if want != "2":
                assert s.legs[0].reassign(0x77) == NOT_SUPPORTED
                assert s.legs[0].answer(s.legs[0].log_out(RECOVERY, 1)).response == 2
    for wrong in "3", "x":
        with pytest.raises(OSError):
            target.attrib("default_erl", wrong)


def test_what_others_wait_for_is_not_kept_as_long(target):
    """An ORDERED write of a connection that is lost holds other initiators' commands for Time2Retain more at most, whatever Time2Wait is. Who
    goes on with it hears how it ended."""
    for node, value in ("dataout_timeout", 2), ("dataout_timeout_retries", 1):
        lio.write(target.path / "acls" / NAME / "attrib" / node, value)
    keys = {"DefaultTime2Wait": 3600, "DefaultTime2Retain": 4}
    with recoverable(target, keys=keys) as s, initiator.session(target, name=NAME + "x") as other:
        a, b, *_ = s.with_legs(2)
        itt, _ = asked(b, attr=2)
        b.reset()
        assert a.next().opcode == ASYNC
        start = time.monotonic()
        assert other.scsi(TUR, timeout=60)[0] == 0
        took = time.monotonic() - start
        assert 3 < took < 2 + 2 * 2 + 4 + 6 * lio.SLOW, took
        assert a.answer(a.log_out(RECOVERY, 2)).response == 0
        assert a.reassign(itt) == COMPLETE
        status, _, last = a.finish(itt)
        assert (status, last.sense[2] & 15, (last.sense[12], last.sense[13])) == (2, 0xB, CLEARED)


def test_a_write_goes_on(target):
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        itt, r2t = asked(b)
        b.send(b.data_out_pdu(itt, r2t.ttt, b"1" * 1024, 0, 0, last=False))
        b.quiet()
        lose(b, a)
        assert states(target) == {1: "logged_in", 2: "lost"}
        assert a.reassign(itt) == ALLEGIANT  # it was not logged out
        assert a.reassign(0x7777) == NO_TASK
        recover(a)
        assert a.reassign(itt, immediate=False) == REJECTED
        assert a.reassign(itt) == COMPLETE
        r2t = a.receive()
        assert (r2t.opcode, r2t.itt, r2t.data_sn, r2t.offset, r2t.wanted) == (R2T, itt, 1, 1024, 3072), r2t
        assert a.reassign(itt) == ALLEGIANT  # to itself, now
        a.answer_r2t(r2t, b"1" * 1024 + b"2" * 3072)
        status, _, last = a.finish(itt)
        assert (status, window(last)) == (0, 64)
        assert a.scsi(READ_4K, read=4096)[1] == b"1" * 1024 + b"2" * 3072
        assert a.reassign(itt) == NO_TASK
        # Nothing is kept for it any more.
        lio.wait_for(lambda: states(target) == {1: "logged_in"})


def test_a_tag_that_is_used_twice(target):
    """The connection's own command with the tag goes first; the one that is kept has its turn when there is none."""
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        itt, _ = asked(b)
        lose(b, a)
        recover(a)
        a.send(a.command_pdu(WRITE_4K, 4096, WRITE, b"", itt=itt))
        r2t = a.receive()
        assert (r2t.opcode, r2t.itt, r2t.data_sn) == (R2T, itt, 0), r2t
        assert a.reassign(itt) == ALLEGIANT
        a.answer_r2t(r2t, b"1" * 4096)
        assert a.finish(itt)[0] == 0
        assert a.reassign(itt) == COMPLETE
        r2t = a.receive()
        assert (r2t.opcode, r2t.itt, r2t.data_sn) == (R2T, itt, 1), r2t
        a.answer_r2t(r2t, b"2" * 4096)
        assert a.finish(itt)[0] == 0
        assert a.scsi(READ_4K, read=4096)[1] == b"2" * 4096


def test_a_tag_whose_last_response_is_not_acknowledged(target):
    """As one before it was lost. The command that has the tag now is the task, and not the one that was answered."""
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        held, r2t = asked(a)
        before = b.exp_stat_sn
        itt = b.start(TUR)
        assert b.answer(itt).status == 0
        b.exp_stat_sn = before
        b.send(b.command_pdu(READ_4K, 4096, READ, itt=itt, attr=2))  # ORDERED: waits for the write
        b.quiet()
        lose(b, a)
        recover(a)
        assert a.reassign(itt) == COMPLETE
        a.quiet()
        a.answer_r2t(r2t, b"n" * 4096)
        assert a.finish(held)[0] == 0
        assert a.finish(itt)[:2] == (0, b"n" * 4096)


def test_immediate_commands_end(target):
    """7.14: they are not kept, so that an ORDERED command does not wait for them."""
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        itt, _ = asked(b, immediate=True)
        lose(b, a)
        assert tuple(a.scsi(TUR)[2].sense[12:14]) == CLEARED
        ordered = a.start(READ_4K, 4096, READ, attr=2)
        assert a.finish(ordered, timeout=10)[0] == 0
        recover(a)
        assert a.reassign(itt) == NO_TASK


def test_a_read_goes_on(target):
    """What was not acknowledged is sent again: from ExpDataSN on, in PDUs as this connection takes them, then the status."""
    with recoverable(target) as s:
        a = s.legs[0]
        data = bytes(range(256)) * 16
        assert a.scsi(WRITE_4K, write=data, immediate=False)[0] == 0
        cases = (0, 1024, 0, 4), (3, 1024, 1536, 3), (8, 1024, 4096, 0), (9, 512, 0, 8), (5, 512, 2560, 3), (1, 65536, 512, 1)
        for exp_data_sn, segment, begin, pdus in cases:
            b = s.add(2, keys={"MaxRecvDataSegmentLength": 512})
            c = s.add(3, keys={"MaxRecvDataSegmentLength": segment})
            itt = b.start(READ_4K, 4096, READ)
            assert b.finish(itt)[:2] == (0, data)
            lose(b, a)
            recover(a)
            assert c.reassign(itt, exp_data_sn) == COMPLETE
            came = [c.receive() for _ in range(pdus + 1)]
            numbers = [x.data_sn for x in came[:-1]]
            first = exp_data_sn if exp_data_sn <= 8 else 0
            assert numbers == list(range(first, first + pdus)), came
            assert all(x.opcode == DATA_IN and not x.flags & 1 for x in came[:-1])
            assert came[:-1] == [] or came[0].offset == begin
            assert b"".join(x.data for x in came[:-1]) == data[begin:]
            last = came[-1]
            assert (last.opcode, last.itt, last.status, last.data_sn) == (SCSI_RESPONSE, itt, 0, first + pdus)
            c.quiet()  # acknowledges it
            assert c.answer(c.log_out(1, 3)).response == 0
            c.ended()
            lio.wait_for(lambda: states(target) == {1: "logged_in"})


def test_a_status_is_sent_again(target):
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        first = b.start(TUR)
        assert b.finish(first)[0] == 0
        b.quiet()  # acknowledges it
        wrong = b.start(bytes([0xC7]) + bytes(5))
        b.answer(wrong)
        lose(b, a)
        recover(a)
        assert a.reassign(first) == NO_TASK
        expected = a.exp_stat_sn
        assert a.reassign(wrong) == COMPLETE
        again = a.answer(wrong)
        assert (again.status, again.stat_sn, again.sense[12:14]) == (2, expected + 1, b"\x20\x00")
        # It may be lost once more.
        c = s.add(3)
        a.reset()
        told = c.receive()
        assert (told.opcode, told.bhs[36]) == (ASYNC, 2)
        recover(c, 1)
        assert c.reassign(wrong) == COMPLETE
        assert c.answer(wrong).sense == again.sense


def test_commands_at_work(target):
    """They are answered on the connection that goes on with them, whether they end before or after that."""
    with recoverable(target) as s:
        a, b, c, _ = s.with_legs(4)
        held, r2t = asked(a)
        late, early = (b.start(READ_4K, 4096, READ, attr=2) for _ in range(2))  # ORDERED: wait for the write
        b.quiet()
        lose(b, a)
        recover(a)
        assert c.reassign(late) == COMPLETE
        c.quiet()
        a.answer_r2t(r2t, b"w" * 4096)
        assert a.finish(held)[0] == 0
        assert c.finish(late)[:2] == (0, b"w" * 4096)
        assert c.reassign(late) == NO_TASK
        assert c.reassign(early) == COMPLETE
        status, data, last = c.finish(early)
        assert (status, data, window(last)) == (0, b"w" * 4096, 64)
        # Its new connection ends before it does.
        held, r2t = asked(a)
        d = s.legs[3]
        both = [d.start(READ_4K, 4096, READ, attr=2) for _ in range(2)]
        d.quiet()
        lose(d, a, 4)
        recover(a, 4)
        assert [c.reassign(itt) for itt in both] == [0, 0]
        assert a.answer(a.log_out(RECOVERY, 3)).response == 0
        assert a.reassign(both[0]) == COMPLETE
        a.answer_r2t(r2t, b"x" * 4096)
        assert a.finish(held)[0] == 0
        assert a.finish(both[0])[:2] == (0, b"x" * 4096)
        assert a.reassign(both[1]) == COMPLETE
        assert a.finish(both[1])[:2] == (0, b"x" * 4096)


def test_an_answer_that_waits_for_data(target):
    """It leaves the window once, when it is there, and not again with the connection on which it is sent."""
    lio.write(target.path / "param/InitialR2T", "No")
    lio.write(target.path / "acls" / NAME / "cmdsn_depth", 40)
    with recoverable(target, keys={"InitialR2T": "No"}) as s:
        a, b, *_ = s.with_legs(2)
        for cid in 2, 3:
            itt = b.start(bytes([0xC7]) + bytes(9), 4096, WRITE, last=False)
            b.send(b.data_out_pdu(itt, NONE, bytes(1024), last=False))
            b.quiet()
            lose(b, a, cid)
            recover(a, cid)
            assert a.reassign(itt) == COMPLETE
            status, _, last = a.finish(itt)
            assert (status, last.sense[12:14], window(last)) == (2, b"\x20\x00", 40)
            b = s.add(3)


def test_an_answer_that_comes_behind_a_fence():
    """To a command that began elsewhere: it is sent when the function of another connection is acknowledged."""
    target = prepared(lio.ramdisk(), lio.ramdisk("rd1"))
    with recoverable(target) as s:
        a, b, c, d = s.with_legs(4)
        held, r2t = asked(a)
        late = b.start(READ_4K, 4096, READ, attr=2)  # ORDERED: waits for the write
        b.quiet()
        lose(b, a)
        recover(a)
        assert c.reassign(late) == COMPLETE
        itt = d.itt()
        d.send(pdu(TMF, FINAL | LUN_RESET, immediate=True, lun=1, itt=itt, w=(NONE, s.cmd_sn, d.exp_stat_sn, 0)))
        for leg in a, c:
            assert leg.pong(leg.receive())
        done = d.receive()
        assert (done.opcode, done.itt, done.response) == (TMF_RESPONSE, itt, 0), done
        asks = d.receive()  # which it does not acknowledge before all is done
        a.answer_r2t(r2t, b"f" * 4096)
        c.quiet()
        lio.pause(1)
        assert d.pong(asks)
        assert c.finish(late, timeout=5)[:2] == (0, b"f" * 4096)
        assert a.finish(held)[0] == 0


def test_a_logout_while_the_connection_is_lost(target):
    """Whichever is first, what it has can be reassigned."""
    with recoverable(target) as s:
        a = s.legs[0]
        a.hears_of_others = False
        end, n = time.monotonic() + 15 * lio.SLOW, 0
        while time.monotonic() < end or n < 20:
            b = s.add(2)
            itt, _ = asked(b)
            asked(b, immediate=True)
            tag = a.itt()
            logout = pdu(LOGOUT, FINAL | RECOVERY, itt=tag, immediate=True, w=(2 << 16, *a.numbers(True)))
            b.reset()
            wait = time.perf_counter() + n % 20 * 0.0001
            while time.perf_counter() < wait:
                pass
            a.send(logout)
            assert a.answer(tag).response == 0
            assert a.reassign(itt) == COMPLETE, f"round {n}"
            assert a.finish(itt, bytes(4096))[0] == 0
            ready(a)  # the immediate command has ended
            s.legs.remove(b)
            n += 1
        print(f"{n} rounds")


def test_a_window_that_opens_by_a_loss(target):
    """What a lost connection had ends when its time is over. Who waits for the window to open hears of that, and need not ask."""
    lio.write(target.path / "param/DefaultTime2Wait", 0)
    with recoverable(target, keys={"DefaultTime2Retain": 4}) as s:
        a, b, *_ = s.with_legs(2)
        a.hears_of_window = True
        for _ in range(64):
            asked(b)
        a.quiet()
        b.reset()
        heard = a.receive()
        assert (heard.opcode, heard.bhs[36], window(heard)) == (ASYNC, 2, 0), heard
        lio.wait_for(lambda: 2 not in states(target))
        while window(heard) < 64:
            heard = a.receive(5)
        ready(a)


def test_the_session_goes_on(target):
    """Of the only connection, with its number; what had not been delivered was never received."""
    lio.write(target.path / "param/MaxConnections", 1)
    with recoverable(target) as s:
        a = s.legs[0]
        itt, _ = asked(a)
        a.tur(s.take() + 1)  # too early
        a.quiet()
        a.reset()
        lio.wait_for(lambda: states(target) == {1: "lost"})
        assert sessions(target) == 1
        a = s.add(1)
        assert a.exp_cmd_sn == s.cmd_sn - 1
        s.cmd_sn = a.exp_cmd_sn
        assert a.reassign(itt) == COMPLETE
        assert a.finish(itt, b"s" * 4096)[0] == 0
        status, data, last = a.scsi(READ_4K, read=4096)
        assert (status, data, window(last)) == (0, b"s" * 4096, 64)
        # One that is still there is reinstated; a second one may be opened beside it.
        itt, _ = asked(a)
        b = s.add(1)
        a.ended()
        assert b.reassign(itt) == COMPLETE
        assert b.receive().opcode == R2T
        c = s.add(2)
        recover(c, 1)
        b.ended()
        assert c.reassign(itt) == COMPLETE
        assert c.finish(itt, b"t" * 4096)[0] == 0
        # Logged out by itself.
        itt, _ = asked(c)
        recover(c, 2)
        c.ended()
        d = s.add(3)
        assert d.reassign(itt) == COMPLETE
        assert d.finish(itt, b"u" * 4096)[0] == 0
        assert d.answer(d.log_out(0)).response == 0
        d.ended()
    lio.wait_for(lambda: sessions(target) == 0)


def test_what_is_not_reassigned_ends(target):
    lio.write(target.path / "param/DefaultTime2Wait", 0)
    with recoverable(target, keys={"DefaultTime2Retain": 4}) as s:
        a, b, c, _ = s.with_legs(4)
        itt, _ = asked(b)
        b.reset()
        assert a.receive().opcode == ASYNC
        # The time is over.
        lio.wait_for(lambda: 2 not in states(target))
        assert a.reassign(itt) == NO_TASK
        status, _, last = a.scsi(TUR)
        assert (status, tuple(last.sense[12:14]), window(last)) == (2, CLEARED, 64)
        # It is logged out for good.
        itt, _ = asked(c)
        c.reset()
        assert a.receive().opcode == ASYNC
        assert a.answer(a.log_out(1, 3)).response == 0
        assert a.reassign(itt) == NO_TASK
        assert a.scsi(TUR)[0] == 2
        # The session, with its last connection.
        s.legs[3].reset()
        assert a.receive().opcode == ASYNC
        asked(a)
        a.reset()
        assert sessions(target) == 1
        lio.wait_for(lambda: sessions(target) == 0)
        assert s.add(5, check=False).login_status == 0x020A
    # Nothing is kept where the initiator wants nothing kept.
    with recoverable(target, keys={"DefaultTime2Retain": 0}) as s:
        a, b, *_ = s.with_legs(2)
        itt, _ = asked(b)
        b.reset()
        assert a.receive().opcode == ASYNC
        lio.wait_for(lambda: 2 not in states(target))
        assert a.answer(a.log_out(RECOVERY, 2)).response == 1
        assert a.reassign(itt) == NO_TASK


def test_others_end_what_is_kept(target):
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        sn = s.cmd_sn
        itt, _ = asked(b)
        others = [asked(b)[0] for _ in range(2)]
        lose(b, a)
        assert a.tmf(ABORT_TASK, ref_itt=itt, ref_cmd_sn=sn) == 0
        recover(a)
        assert a.reassign(itt) == NO_TASK
        assert a.tmf(LUN_RESET) == 0
        assert [a.reassign(itt) for itt in others] == [NO_TASK] * 2
        while (last := a.scsi(TUR))[0]:
            pass
        assert window(last[2]) == 64
        # 7.14: an immediate command ends with its connection.
        c, d = s.add(3), s.add(4)
        itt, _ = asked(c, immediate=True)
        lose(c, a, 3)
        recover(a, 3)
        assert a.reassign(itt) == NO_TASK
        d.quiet()
        # The administrator ends the session; another one of the port takes its place.
        ready(d)
        asked(d)
        for leg in d, a:
            leg.reset()
        lio.wait_for(lambda: set(states(target).values()) == {"lost"})
        target.enable(False)
        lio.wait_for(lambda: sessions(target) == 0)
        target.enable()
    with recoverable(target) as s:
        asked(s.legs[0])
        s.legs[0].reset()
        lio.wait_for(lambda: states(target) == {1: "lost"})
        with recoverable(target) as new:
            assert sessions(target) == 1 and new.tsih != s.tsih
            assert new.legs[0].scsi(WRITE_4K, write=bytes(4096), immediate=False)[0] == 0


@pytest.mark.parametrize("function", [ABORT_TASK, LUN_RESET], ids=["task", "unit"])
def test_functions_do_not_wait_for_answers_that_are_kept(target, function):
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        held, r2t = asked(a)
        sn = s.cmd_sn
        done = b.start(READ_4K, 4096, READ, attr=2)  # ORDERED: waits for the write
        b.quiet()
        lose(b, a)
        a.answer_r2t(r2t, b"d" * 4096)
        assert a.finish(held)[0] == 0
        lio.pause(0.5)
        assert a.tmf(function, ref_itt=done if function == ABORT_TASK else NONE, ref_cmd_sn=sn, timeout=8) == 0
        recover(a)
        assert a.reassign(done) == NO_TASK
        ready(a)
        status, data, last = a.scsi(READ_4K, read=4096)
        assert (status, data, window(last)) == (0, b"d" * 4096, 64)


def test_what_waited_for_memory_is_asked_again():
    """A read that could not begin, since those before it were not taken; meanwhile others reserve the logical unit."""
    target = prepared(lio.ramdisk("large", 16 << 20))
    with recoverable(target) as s:
        a, b, *_ = s.with_legs(2)
        b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reads = [b.start(bytes.fromhex("28000000000000400000"), 8 << 20, READ) for _ in range(12)]
        time.sleep(1)
        with initiator.session(target, name="iqn.2024-01.org.example:other") as c:
            for action, key, new in (0, 0, 1), (1, 1, 0):  # REGISTER, RESERVE: Exclusive Access
                assert c.scsi(struct.pack(">BBBxxIx", 0x5F, action, 3, 24), write=struct.pack(">QQ8x", key, new))[0] == 0
            lose(b, a)
            recover(a)
            assert a.reassign(reads[-1]) == COMPLETE
            assert a.finish(reads[-1])[0] == 0x18


def test_what_is_kept_makes_room(target):
    """Who loses one connection after the other has what the first ones left ended."""
    lio.write(target.path / "param/MaxConnections", 2)
    with recoverable(target) as s:
        tasks = []
        for _ in range(8):
            leg = s.add(2)
            ready(leg)
            tasks.append(asked(leg)[0])
            leg.reset()
            assert s.legs[0].receive().opcode == ASYNC
        assert list(states(target).values()).count("lost") <= 4
        a = s.legs[0]
        s.add(2)
        done = []
        for itt in tasks:
            done.append(a.reassign(itt))
            if done[-1] == COMPLETE:
                assert a.finish(itt, bytes(4096))[0] == 0
        assert done[0] == NO_TASK and done[-1] == COMPLETE and set(done) == {NO_TASK, COMPLETE}


def test_races(target, monkeypatch):
    """Reads and writes on three connections, which are lost, logged out and reinstated at random, and all tasks go on: what is
    written is read."""
    monkeypatch.setattr(Leg, "patience", 5)
    monkeypatch.setattr(Leg, "hears_of_others", False)
    held = leaks.Held() if ARGS else None
    seed = int(ARGS.get("seed", random.randrange(1 << 32)))
    print(f"seed={seed}")
    end = time.monotonic() + int(ARGS.get("seconds", 4 * lio.SLOW))
    rnd, rounds, went_on = random.Random(seed), 0, 0
    with recoverable(target, keys={"InitialR2T": "No", "ImmediateData": "Yes"}) as s:
        legs = s.with_legs(3)
        while time.monotonic() < end or rounds < 4 or went_on < 4:
            rounds += 1
            victim, other = rnd.sample(range(3), 2)
            data = rnd.randbytes(4096)
            tasks = [legs[victim].start(WRITE_4K, 4096, WRITE, data[: rnd.choice([0, 512, 4096])], attr=2)]
            tasks += [legs[victim].start(READ_4K, 4096, READ, attr=2) for _ in range(rnd.randrange(4))]
            if rnd.randrange(2):
                with contextlib.suppress(TimeoutError):
                    legs[victim].receive(timeout=0.01)
            legs[victim].reset()
            if rnd.randrange(2):
                assert legs[other].answer(legs[other].log_out(RECOVERY, victim + 1)).response == 0
            new = s.add(victim + 1)
            s.legs.remove(new)
            legs[victim] = new
            s.cmd_sn = new.exp_cmd_sn  # what had not come is not sent again
            leg = legs[rnd.choice([victim, other])]
            for n, itt in enumerate(tasks):
                answer = leg.reassign(itt)
                assert answer in (COMPLETE, NO_TASK)
                if answer == COMPLETE:
                    went_on += 1
                    status, got, _ = leg.finish(itt, data)
                    assert (status, got) == (0, b"" if n == 0 else data), f"round {rounds}: task {n}"
        while (last := legs[0].scsi(TUR))[0]:
            pass
        assert window(last[2]) == 64
        assert legs[0].answer(legs[0].log_out(0)).response == 0
    lio.wait_for(lambda: sessions(target) == 0)
    if held:
        leaks.check(held, objects=64)
