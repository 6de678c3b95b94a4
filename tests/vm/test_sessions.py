"""Sessions of several connections (RFC 7143, 4.2.2.1, 4.2.3.3, 6.3.4, 11.14): order, allegiance, who ends whom. `make check-sessions`:
the races for SECONDS_EACH seconds, SEED=N."""
# vm: --timeout 1800
# group: protocol
import contextlib
import json
import os
import random
import re
import socket
import struct
import threading
import time

import initiator
import leaks
import lio
import pytest
from initiator import (ABORT_TASK, ABORT_TASK_SET, ASYNC, COLD_RESET, FINAL, LOGOUT_RESPONSE, LUN_RESET, NONE, NOP_IN,
                       NOP_OUT, R2T, READ, REJECT, SCSI_RESPONSE, TMF, TMF_RESPONSE, WRITE, pdu)
from legs import CLEARED, NAME, READ_4K, TUR, WRITE_4K, Leg, Session, sessions

READ_1M = bytes.fromhex("28000000000000080000")
WRITE_8K, READ_8K = (bytes([code]) + bytes.fromhex("000000000000001000") for code in (0x2A, 0x28))
pytestmark = pytest.mark.skipif(lio.STOCK, reason="no initiator is known to use several connections with the C modules")
ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))


@pytest.fixture
def target():
    t = lio.IscsiTarget(lio.ramdisk())
    lio.write(t.path / "param/MaxConnections", 4)
    lio.write(t.path / "param/InitialR2T", "No")
    t.patient(NAME)
    return t


def connections(target):
    """CID: state, as the ACL's info says."""
    info = lio.read(target.path / "acls" / NAME / "info")
    return dict(re.findall(r"CID: (\d+)  Connection State: (\w+)", info))


def target_is_off(target):
    return lio.read(target.path / "enable").strip() == "0"


def test_negotiated(target):
    with Session(target, most=8) as s:
        assert s.agreed["MaxConnections"] == "4"
        a, b, c, d = s.with_legs(4)
        for leg in s.legs:
            assert leg.scsi(TUR)[0] == 0
        assert s.add(5, check=False).login_status == 0x0206
        assert s.add(5, check=False, tsih=s.tsih + 1).login_status == 0x020A
    with Session(target, most=1, isid=b"\x80\0\0\0\2\2") as s:
        assert s.agreed["MaxConnections"] == "1"
        assert s.add(2, check=False).login_status == 0x0206
        # And by default, as with the stock modules.
        lio.write(target.path / "param/MaxConnections", 1)
    with Session(target, most=8, isid=b"\x80\0\0\0\2\3") as s:
        assert s.agreed["MaxConnections"] == "1"
    for wrong in "0", "33", "x":
        with pytest.raises(OSError):
            lio.write(target.path / "param/MaxConnections", wrong)


def test_what_is_the_sessions_is_not_negotiated_again(target):
    with Session(target) as s:
        leg = Leg(s, 2, target.portals[0])
        leg.login(target.iqn, cid=2, tsih=s.tsih, keys={"MaxBurstLength": 512, "InitialR2T": "Yes"}, **s.login)
        s.legs.append(leg)
        assert (leg.keys["MaxBurstLength"], leg.keys["InitialR2T"]) == ("Irrelevant", "Irrelevant")
        assert leg.scsi(WRITE_4K, write=b"x" * 4096)[0] == 0
        # Another initiator port, or a session that is not there.
        for name, isid in (NAME, b"\x80\0\0\0\2\x09"), (NAME + "x", s.login["isid"]):
            with initiator.Connection(target.portals[0]) as c:
                assert c.login(target.iqn, name=name, isid=isid, tsih=s.tsih, cid=3, check=False).login_status == 0x020A


def test_commands_are_delivered_in_order(target):
    with Session(target) as s:
        a, b, c, _ = s.with_legs(4)
        first, second, third = s.take(), s.take(), s.take()
        later = b.tur(second), c.tur(third)
        b.quiet()  # an immediate request does not wait
        c.quiet()
        itt = a.tur(first)
        done = a.answer(itt), b.answer(later[0]), c.answer(later[1])
        assert [x.status for x in done] == [0, 0, 0]
        assert done[2].exp_cmd_sn == s.cmd_sn
        # Writes with immediate and unsolicited data wait with all of it; what is read is what was written last.
        for leg, fill in (a, b"1"), (b, b"2"):
            assert leg.scsi(WRITE_4K, write=fill * 4096)[0] == 0
        numbers = [s.take() for _ in range(4)]
        tags = [leg.itt() for leg in s.legs]
        d = s.legs[3]
        d.send(d.command_pdu(READ_4K, 4096, READ, itt=tags[3], numbers=(numbers[3], d.exp_stat_sn), attr=2))
        c.send(c.command_pdu(WRITE_4K, 4096, WRITE, b"c" * 1024, itt=tags[2], numbers=(numbers[2], c.exp_stat_sn), last=False, attr=2))
        c.send(c.data_out_pdu(tags[2], NONE, b"C" * 3072, 1024, 0))
        b.send(b.command_pdu(WRITE_4K, 4096, WRITE, b"b" * 4096, itt=tags[1], numbers=(numbers[1], b.exp_stat_sn), attr=2))
        for leg in b, c, d:
            leg.quiet()
        a.send(a.command_pdu(WRITE_4K, 4096, WRITE, b"a" * 4096, itt=tags[0], numbers=(numbers[0], a.exp_stat_sn), attr=2))
        for leg, itt in zip((a, b, c), tags):
            assert leg.finish(itt)[0] == 0
        assert d.finish(tags[3])[:2] == (0, b"c" * 1024 + b"C" * 3072)


def parked_write(s, *sent):
    """A connection has a write of 8 KiB in two Data-Outs, of which it sends those `sent`, and behind it a command that waits for one more,
    when another brings what was before both. Gives the connections, the write's tag, the tag and the data of the Data-Outs, the number
    that is missing then, and the tag of the command that waits."""
    a, b, *_ = s.with_legs(2)
    a.hears_of_others = False
    assert a.scsi(WRITE_8K, write=b"o" * 8192)[0] == 0
    first, second, third, fourth = (s.take() for _ in range(4))
    itt = b.itt()
    out = [b.data_out_pdu(itt, NONE, fill * 4096, 4096 * n, n, last=n == 1) for n, fill in enumerate((b"1", b"2"))]
    b.send(b.command_pdu(WRITE_8K, 8192, WRITE, itt=itt, numbers=(second, b.exp_stat_sn), last=False))
    waits = b.tur(fourth)
    for n in sent:
        b.send(out[n])
    b.quiet()
    assert a.answer(a.tur(first)).status == 0

    def is_delivered():
        """the write was"""
        itt = a.itt()
        a.send(pdu(NOP_OUT, FINAL, immediate=True, itt=itt, w=(NONE, s.cmd_sn, a.exp_stat_sn)))
        return a.answer(itt).exp_cmd_sn == third

    lio.wait_for(is_delivered)
    return a, b, itt, out, third, waits


@pytest.mark.parametrize("size, times", [(0, 50_000), (1, 50_000), (1024, 65)])
def test_data_that_cannot_be_of_a_command_that_waits(target, size, times):
    """Data-Outs that bring nothing, next to nothing, or more than FirstBurstLength for commands that wait end their connection."""
    with Session(target, most=2) as s:
        a, b = s.with_legs(2)
        a.hears_of_others = False
        assert s.agreed["FirstBurstLength"] == "65536"
        first, *numbers = (s.take() for _ in range(3))
        b.sock.settimeout(60 * lio.SLOW)
        for n in numbers:
            itt = b.itt()
            b.send(b.command_pdu(WRITE_8K, 8192, WRITE, itt=itt, numbers=(n, b.exp_stat_sn), last=False))
            b.send(b"".join(b.data_out_pdu(itt, NONE, bytes(size), i * size, i, last=False) for i in range(times)))
        # It may have been pinged itself meanwhile.
        assert a.ping() or a.ping()
        b.ended()
        # What waited was never received.
        for n in first, *numbers:
            assert a.answer(a.tur(n)).status == 0
        assert a.ping()


@pytest.mark.parametrize("size", [0, 4096])
def test_tag_of_an_aborted_command_that_waited(target, size):
    """What waited and was aborted has nothing to do with the next command that has its tag: that is asked for nothing, and loses nothing."""
    with Session(target, most=2) as s:
        a, b = s.with_legs(2)
        for fill in b"1", b"2":
            first, second, third = s.take(), s.take(), s.take()
            itt = b.itt()
            if size:
                b.send(b.command_pdu(WRITE_8K, 8192, WRITE, itt=itt, numbers=(second, b.exp_stat_sn), last=False))
                b.send(b.data_out_pdu(itt, NONE, b"x" * size, 0, 0, last=False))
            else:
                b.send(b.command_pdu(TUR, itt=itt, numbers=(second, b.exp_stat_sn)))
            b.quiet()
            assert a.tmf(ABORT_TASK, ref_itt=itt, ref_cmd_sn=second) == 0
            assert a.answer(a.tur(first)).status == 0
            b.send(b.command_pdu(WRITE_8K, 8192, WRITE, itt=itt, numbers=(third, b.exp_stat_sn), last=False))
            b.send(b.data_out_pdu(itt, NONE, fill * 8192))
            assert b.answer(itt).status == 0
            assert a.scsi(READ_8K, read=8192)[:2] == (0, fill * 8192)


def test_a_command_that_waits_is_sent_again(target):
    """Above error recovery level 0 a command may be retried that is not acknowledged (RFC 7143, 7.2.1), with its data: it counts once."""
    lio.write(target.path / "acls" / NAME / "attrib/default_erl", 1)
    with Session(target, most=2, keys={"ErrorRecoveryLevel": 1}) as s:
        assert s.agreed["ErrorRecoveryLevel"] == "1"
        a, b = s.with_legs(2)
        first, second = s.take(), s.take()
        itt = b.itt()
        for _ in range(3):
            b.send(b.command_pdu(WRITE_8K, 8192, WRITE, itt=itt, numbers=(second, b.exp_stat_sn), last=False))
            b.send(b.data_out_pdu(itt, NONE, b"d" * 8192))
        b.quiet()
        assert a.answer(a.tur(first)).status == 0
        assert b.answer(itt).status == 0
        b.quiet()
        assert a.scsi(READ_8K, read=8192)[:2] == (0, b"d" * 8192)


def test_data_goes_behind_data_that_waits(target):
    """What of a write's data came before its turn goes first when it has come, whatever waits before that."""
    with Session(target) as s:
        a, b, itt, out, missing, waits = parked_write(s, 0)
        b.send(out[1])
        assert b.finish(itt)[0] == 0
        assert a.answer(a.tur(missing)).status == 0
        assert b.answer(waits).status == 0
        assert a.scsi(READ_8K, read=8192)[:2] == (0, b"1" * 4096 + b"2" * 4096)


def test_data_is_not_there_before_it_has_come(target):
    """The end of a write's data waits, and its beginning has come by half: nothing is written."""
    with Session(target) as s:
        a, b, itt, out, missing, _ = parked_write(s, 1)
        b.send(out[0][:2048])
        lio.pause(0.5)
        assert a.answer(a.tur(missing)).opcode == SCSI_RESPONSE  # which may tell that the write has ended with its connection
        lio.pause(0.5)
        assert not [x for x in b.ended() if x.opcode == SCSI_RESPONSE]  # 7.9: a data PDU was left out
        a.answer(a.tur(missing + 1))  # what waited there was never received
        while (last := a.scsi(READ_8K, read=8192))[0]:
            pass
        assert last[1] == b"o" * 8192


def test_a_malformed_header_takes_no_number(target):
    """11.17: nor a place in the window, whether it would have waited or not; its connection ends."""
    with Session(target) as s:
        a, b, c, _ = s.with_legs(4)
        first, second = s.take(), s.take()
        for leg in a, b, c:
            leg.hears_of_others = False
        for leg, n in (b, second), (c, first):
            leg.send(leg.command_pdu(TUR, itt=leg.itt(), numbers=(n, leg.exp_stat_sn), ahs=b"\0\0\1\0"))
            rejected = leg.next()
            assert (rejected.opcode, rejected.exp_cmd_sn) == (REJECT, first), rejected
            leg.ended()
        later = a.tur(second)
        assert a.answer(a.tur(first)).status == 0
        last = a.answer(later)
        assert (last.status, last.exp_cmd_sn) == (0, s.cmd_sn)
        assert (last.max_cmd_sn - last.exp_cmd_sn + 1) & NONE == 64


def test_the_numbers_of_a_login(target):
    """4.2.2.1: each response of a connection that is added tells of the session's window; none tells of more than that before it is
    known whose it is."""
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a = s.legs[0]
        for _ in range(60):
            a.start(WRITE_4K, 4096, WRITE)
            assert a.receive().opcode == R2T
        a.quiet()
        c = initiator.Connection(target.portals[0])
        c.cmd_sn = s.cmd_sn - 2  # as of an initiator that begins to log in, and goes on with commands
        keys = {"InitiatorName": NAME, "TargetName": target.iqn, "SessionType": "Normal", "AuthMethod": "None"}
        head, rest = initiator.text(list(keys.items())[:1]), initiator.text(list(keys.items())[1:])
        kw = {"csg": initiator.SECURITY, "isid": s.login["isid"], "tsih": s.tsih, "cid": 2}
        steps = [(head, {"transit": False, "more": True, **kw}), (rest, {"nsg": initiator.OPERATIONAL, **kw}),
                 (b"", {**kw, "csg": initiator.OPERATIONAL})]
        for n, (data, how) in enumerate(steps):
            c.send(c.login_pdu(data, **how))
            heard = c.receive()
            assert heard.login_status == 0, heard
            c.exp_stat_sn = heard.stat_sn + 1
            window = (heard.exp_cmd_sn, (heard.max_cmd_sn - heard.exp_cmd_sn + 1) & NONE)
            assert window == ((s.cmd_sn - 2, 0) if n == 0 else (s.cmd_sn, 4)), f"step {n}"
        c.close()


@pytest.mark.parametrize("level", [0, 1])
def test_a_wrong_digest_of_what_waits(target, level):
    """7.8: it costs the command, or is asked for again, when the command's turn has come."""
    lio.write(target.path / "param/ErrorRecoveryLevel", level)
    digest = {"DataDigest": "CRC32C"}
    with Session(target, keys=digest | {"ErrorRecoveryLevel": level}) as s:
        a, b = s.legs[0], s.add(2, keys=digest)
        first, second = s.take(), s.take()
        itt = b.itt()
        b.send(b.command_pdu(WRITE_4K, 4096, WRITE, itt=itt, numbers=(second, b.exp_stat_sn), last=False))
        b.send(b.data_out_pdu(itt, NONE, b"w" * 4096), "data")
        rejected = b.receive()
        assert (rejected.opcode, rejected.reason) == (REJECT, 2), rejected
        assert a.answer(a.tur(first)).status == 0
        status, _, last = b.finish(itt, b"w" * 4096)
        assert (status, last.sense[12:14]) == ((2, b"\x47\x05") if level == 0 else (0, b""))
        assert last.exp_cmd_sn == s.cmd_sn


def test_the_window_is_the_sessions(target):
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        depth = int(target.attrib("default_cmdsn_depth"))
        first = s.take()
        held = [b.tur(s.take()) for _ in range(depth - 1)]
        beyond = b.tur(s.cmd_sn)  # not in the window: ignored
        b.tur(first + 1)  # twice
        b.quiet()
        assert a.answer(a.tur(first)).status == 0
        for itt in held:
            assert b.answer(itt).status == 0
        b.quiet()
        again = b.answer(b.tur(s.take()))
        assert again.status == 0 and again.itt != beyond
        assert again.exp_cmd_sn == s.cmd_sn
        assert (again.max_cmd_sn - again.exp_cmd_sn + 1) & NONE == depth


def test_a_connection_that_is_slow(target):
    """What it does not take of answers leaves the others all of the window."""
    with Session(target, keys={"MaxRecvDataSegmentLength": 65536}) as s:
        a, b, *_ = s.with_legs(2)
        # It has room for little, and takes none of it.
        a.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        depth = int(target.attrib("default_cmdsn_depth"))
        for _ in range(40):
            a.start(READ_1M, 1 << 20, READ)

        def all_answered():
            """the window is whole"""
            answer = b.answer(b.tur(s.take()))
            return (answer.max_cmd_sn - answer.exp_cmd_sn + 1) & NONE == depth and answer.exp_cmd_sn == s.cmd_sn
        lio.wait_for(all_answered)
        # At once: each alone would be answered before the next comes.
        tags = [b.itt() for _ in range(depth)]
        b.send(b"".join(b.command_pdu(TUR, itt=itt, numbers=(s.take(), b.exp_stat_sn)) for itt in tags))
        assert {b.answer(itt).status for itt in tags} == {0}


def test_allegiance(target):
    """Data and status go where the command came; data that comes elsewhere is nobody's."""
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a, b, *_ = s.with_legs(2)
        itt = a.start(WRITE_4K, 4096, WRITE)
        r2t = a.receive()
        assert r2t.opcode == R2T and r2t.itt == itt
        b.answer_r2t(r2t, b"b" * 4096)
        b.quiet()
        a.answer_r2t(r2t, b"a" * 4096)
        assert a.finish(itt)[0] == 0
        assert b.scsi(READ_4K, read=4096)[1] == b"a" * 4096
        # Status numbers are each connection's.
        before = a.exp_stat_sn
        for _ in range(3):
            b.scsi(TUR)
        a.scsi(TUR)
        assert a.exp_stat_sn == (before + 1) & NONE


def test_logouts(target):
    acl = target.path / "acls" / NAME
    with Session(target) as s:
        a, b, c, d = s.with_legs(4)
        assert connections(target) == dict.fromkeys("1234", "TARG_CONN_STATE_LOGGED_IN")
        # Not there; for recovery, without the error recovery level for it.
        assert a.answer(a.log_out(1, 9)).response == 1
        assert a.answer(a.log_out(2, 2)).response == 2
        # Another one.
        itt = a.log_out(1, 2)
        assert a.answer(itt).response == 0
        assert not [x for x in b.ended() if x.opcode != ASYNC]
        # Its own.
        assert c.answer(c.log_out(1, 3, immediate=False)).response == 0
        assert c.ended() == []
        lio.wait_for(lambda: set(connections(target)) == {"1", "4"})
        for leg in a, d:
            assert leg.scsi(TUR)[0] == 0
        # Their numbers are free again.
        b = s.add(2)
        assert b.scsi(TUR)[0] == 0
        # All of it.
        itt = d.log_out(0)
        assert d.answer(itt).response == 0
        for leg in a, b, d:
            leg.ended()
        lio.wait_for(lambda: sessions(target) == 0)
        assert s.add(5, check=False).login_status == 0x020A
    assert acl.exists()
    assert int(lio.read(target.wwn_path / "fabric_statistics/iscsi_logout_stats/normal_logouts")) == 3


def test_two_logouts_at_once(target):
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        tags = {leg: leg.log_out(0) for leg in (a, b)}
        answered = [x.itt for leg in (a, b) for x in leg.ended() if (x.opcode, x.response) == (LOGOUT_RESPONSE, 0)]
        assert answered and set(answered) <= set(tags.values())
        lio.wait_for(lambda: sessions(target) == 0)


def test_a_lost_connection(target):
    """Its commands end, those of others do not; the initiator is told."""
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a, b, c, _ = s.with_legs(4)
        kept = a.start(WRITE_4K, 4096, WRITE)
        r2t = a.receive()
        for _ in range(3):
            b.start(WRITE_4K, 4096, WRITE)
            assert b.receive().opcode == R2T
        b.reset()
        told = a.receive()
        assert (told.opcode, told.bhs[36]) == (ASYNC, 2), told
        assert struct.unpack(">HHH", told.bhs[38:44]) == (2, 2, 0)  # CID, Time2Wait, Time2Retain
        a.answer_r2t(r2t, b"k" * 4096)
        assert a.finish(kept)[0] == 0

        def is_open():
            """what the lost connection had has left the window"""
            last = c.answer(c.tur(s.take()))
            if last.status == 2:
                attentions.append(tuple(last.sense[12:14]))
            return (last.max_cmd_sn - last.exp_cmd_sn + 1) & NONE == 64

        attentions = []
        lio.wait_for(is_open)
        assert attentions == [CLEARED]
        b = s.add(2)
        assert (b.max_cmd_sn - s.cmd_sn + 1) & NONE == 64
        assert b.scsi(READ_4K, read=4096)[1] == b"k" * 4096
    lio.wait_for(lambda: sessions(target) == 0)


def test_what_waited_on_a_lost_connection_was_never_received(target):
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        first, lost, last = s.take(), s.take(), s.take()
        b.tur(lost)
        b.quiet()
        b.reset()
        assert a.receive().opcode == ASYNC
        itt = a.tur(last)
        done = a.answer(a.tur(first)) if a.ping() else None
        assert done.status == 0 and done.exp_cmd_sn == lost
        a.quiet()  # there is a gap
        again = a.tur(lost)
        assert a.answer(again).status == 0
        assert a.answer(itt).exp_cmd_sn == s.cmd_sn


def test_connection_reinstatement(target):
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a, b, *_ = s.with_legs(2)
        for leg in a, b:
            leg.start(WRITE_4K, 4096, WRITE)
            assert leg.receive().opcode == R2T
        new = s.add(2)
        b.ended()
        status, _, last = new.scsi(TUR)
        assert (status, tuple(last.sense[12:14])) == (2, CLEARED)
        assert new.scsi(WRITE_4K, write=b"n" * 4096, immediate=False)[0] == 0
        # Even of the only connection: the session goes on.
        a.log_out(1, 2)
        new.ended()
        only = s.add(1)
        a.ended()
        assert only.scsi(TUR)[0] == 2
        assert only.scsi(READ_4K, read=4096)[1] == b"n" * 4096
        assert sessions(target) == 1


def test_session_reinstatement(target):
    with Session(target) as s:
        s.with_legs(3)
        with Session(target) as new:
            for leg in s.legs:
                leg.ended()
            assert sessions(target) == 1
            assert new.legs[0].scsi(TUR)[0] == 0
            assert s.add(2, check=False).login_status == 0x020A or new.tsih == s.tsih


def test_abort_task_of_another_connection(target):
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a, b, *_ = s.with_legs(2)
        sn = s.cmd_sn
        victim = a.start(WRITE_4K, 4096, WRITE)
        r2t = a.receive()
        assert b.tmf(ABORT_TASK, ref_itt=victim, ref_cmd_sn=sn) == 0
        a.quiet()
        a.answer_r2t(r2t, b"v" * 4096)
        a.quiet()
        # One that has not come counts as received, also if it waits elsewhere.
        first, second, third = s.take(), s.take(), s.take()
        waits, last = a.tur(second), a.tur(third)
        a.quiet()
        assert b.tmf(ABORT_TASK, ref_itt=waits, ref_cmd_sn=second) == 0
        assert b.tmf(ABORT_TASK, ref_itt=0x7777, ref_cmd_sn=first) == 0
        done = a.answer(last)
        assert done.status == 0 and done.exp_cmd_sn == s.cmd_sn
        assert (done.max_cmd_sn - done.exp_cmd_sn + 1) & NONE == 64
        assert b.tmf(ABORT_TASK, ref_itt=0x7777, ref_cmd_sn=first) == 1
        a.quiet()


def test_the_place_of_an_aborted_command(target):
    """What still comes for a command that was aborted, with a wrong digest too, is nothing to the one that has its place."""
    with Session(target, keys={"InitialR2T": "Yes", "DataDigest": "CRC32C"}) as s:
        a, b, *_ = s.with_legs(2)
        itt = a.start(WRITE_4K, 4096, WRITE)
        r2t = a.receive()
        assert (r2t.opcode, r2t.itt) == (R2T, itt), r2t
        # One that waits for its turn, with a part of its data.
        first, second = s.take(), s.take()
        waits = a.itt()
        a.send(a.command_pdu(WRITE_4K, 4096, WRITE, b"2" * 2048, itt=waits, numbers=(second, a.exp_stat_sn)))
        out, a.data_digest = a.digested(a.data_out_pdu(itt, r2t.ttt, b"1" * 4096), "data"), False
        a.send(out[:1000])
        lio.pause(0.5)
        assert b.tmf(ABORT_TASK, ref_itt=itt) == 0
        assert b.answer(b.tur(first)).status == 0
        while a.pong(r2t := a.receive()):
            pass
        assert (r2t.opcode, r2t.itt, r2t.offset) == (R2T, waits, 2048), r2t
        a.send(out[1000:])
        a.data_digest = True
        rejected = a.receive()
        assert (rejected.opcode, rejected.reason) == (REJECT, 2), rejected
        a.answer_r2t(r2t, b"2" * 4096)
        assert a.finish(waits)[0] == 0
        assert b.scsi(READ_4K, read=4096)[1] == b"2" * 4096


def test_a_ping_that_is_cut_off(target):
    """The window becomes no smaller by a request of which a part came before its connection was lost."""
    with Session(target) as s:
        a = s.legs[0]
        a.hears_of_others = False
        for cid in 2, 3:
            b = s.add(cid)
            ping = pdu(NOP_OUT, FINAL, bytes(8192), itt=b.itt(), w=(NONE, *b.numbers()))
            b.send(ping[:1000])
            last = a.answer(a.tur(s.take()))
            assert last.exp_cmd_sn == s.cmd_sn
            b.reset()
            lio.wait_for(lambda: lio.read(target.path / "sessions").count('"cid"') == 1)
        last = a.answer(a.tur(s.take()))
        assert (last.max_cmd_sn - last.exp_cmd_sn + 1) & NONE == int(target.attrib("default_cmdsn_depth"))


@pytest.mark.parametrize("function", [ABORT_TASK_SET, LUN_RESET], ids=["task set", "unit"])
def test_functions_have_an_order(target, function):
    """An immediate function waits for what was sent before it, and its response for what others have still to acknowledge."""
    with Session(target, keys={"InitialR2T": "Yes", "ImmediateData": "No"}) as s:
        a, b, *_ = s.with_legs(2)
        held = b.start(WRITE_4K, 4096, WRITE)
        assert b.receive().opcode == R2T
        missing, stale = s.take(), b.exp_stat_sn
        b.quiet()
        itt = a.itt()
        a.send(pdu(TMF, FINAL | function, immediate=True, itt=itt, w=(NONE, s.cmd_sn, a.exp_stat_sn, 0)))
        a.quiet()
        b.send(b.command_pdu(WRITE_4K, 4096, WRITE, itt=b.itt(), numbers=(missing, stale)))
        came = []
        while not [x for x in came if x.opcode == NOP_IN and x.ttt != NONE]:
            came.append(b.receive())
            assert came[-1].opcode in (R2T, NOP_IN), f"{held:#x}: {came[-1]}"
        a.quiet()  # not yet: b has not acknowledged
        assert b.pong(came[-1])
        done = a.answer(itt)
        assert (done.opcode, done.response) == (TMF_RESPONSE, 0)
        # And what others answer comes after it: not before it is acknowledged.
        later = b.tur(s.take())
        b.quiet()
        assert a.pong(a.receive())
        assert b.answer(later).opcode == SCSI_RESPONSE
        assert [leg.scsi(TUR)[0] for leg in (a, b)] == [0, 0]
        # It has ended what came last, too: nothing is left in the window.
        last = a.answer(a.tur(s.take()))
        assert (last.max_cmd_sn - last.exp_cmd_sn + 1) & NONE == 64


def test_the_session_ends_with_a_word(target):
    for how in "disable", "reset":
        with Session(target) as s:
            a, b, *_ = s.with_legs(2)
            ends = [a, b]
            if how == "disable":
                target.enable(False)
            else:
                assert a.tmf(COLD_RESET, timeout=30) == 0
                ends = [b]
            for leg in ends:
                said = leg.ended()
                assert [(x.opcode, x.bhs[36]) for x in said] == [(ASYNC, 3)], said
            if how == "disable":
                target.enable()
            lio.wait_for(lambda: sessions(target) == 0)


def test_counted(target):
    acl = target.path / "acls" / NAME
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        stats = acl / "fabric_statistics/iscsi_sess_stats"
        before = {n: int(lio.read(stats / n)) for n in ("cmd_pdus", "rsp_pdus", "txdata_octs", "rxdata_octs")}
        for leg in a, b:
            leg.scsi(WRITE_4K, write=bytes(4096))
            leg.scsi(READ_4K, read=4096)
        assert b.answer(b.log_out(1, 2)).response == 0
        a.scsi(TUR)
        now = {n: int(lio.read(stats / n)) for n in before}
        grown = {n: now[n] - before[n] for n in before}
        assert (grown["cmd_pdus"], grown["txdata_octs"], grown["rxdata_octs"]) == (5, 8192, 8192)
        assert grown["rsp_pdus"] >= 5


def test_sent_again_out_of_order(target):
    """At error recovery level 1 what was discarded is sent again in any order, also behind what waits."""
    lio.write(target.path / "param/ErrorRecoveryLevel", 1)
    with Session(target, keys={"ErrorRecoveryLevel": 1}) as s:
        a, b, *_ = s.with_legs(2)
        assert s.agreed["ErrorRecoveryLevel"] == "1"
        first, second, third, fourth = (s.take() for _ in range(4))
        tags = {}
        for sn in fourth, third, second:
            tags[sn] = b.itt()
            b.send(b.command_pdu(WRITE_4K, 4096, WRITE, bytes(1024), itt=tags[sn], numbers=(sn, b.exp_stat_sn), last=False))
            b.send(b.data_out_pdu(tags[sn], NONE, sn.to_bytes(4, "big") * 768, 1024, 0))
        b.quiet()
        assert a.answer(a.tur(first)).status == 0
        assert [b.finish(tags[sn])[0] for sn in (second, third, fourth)] == [0, 0, 0]
        assert a.scsi(READ_4K, read=4096)[1] == bytes(1024) + fourth.to_bytes(4, "big") * 768


def test_functions_of_a_lost_connection(target):
    """The numbers that they took come back to the window."""
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        missing = s.take()
        for _ in range(3):
            itt = b.itt()
            b.send(pdu(TMF, FINAL | ABORT_TASK_SET, itt=itt, w=(NONE, *b.numbers(), 0)))
        b.quiet()
        assert a.answer(a.tur(missing)).status == 0
        b.reset()

        def is_open():
            itt = a.tur(s.take())
            while (last := a.receive()).itt != itt:
                assert last.opcode in (ASYNC, NOP_IN), last
            return (last.max_cmd_sn - last.exp_cmd_sn + 1) & NONE == 64

        # What had not been delivered when the connection went is sent again.
        s.cmd_sn = s.add(2).exp_cmd_sn
        lio.wait_for(is_open)


def test_listed(target):
    with Session(target) as s:
        s.with_legs(2)
        lines = [json.loads(x) for x in lio.read(target.path / "sessions").splitlines()]
        assert [(x["cid"], x["state"], x["MaxConnections"]) for x in lines] == [(1, "logged_in", 4), (2, "logged_in", 4)]
        assert len({x["session"] for x in lines}) == len({x["tsih"] for x in lines}) == 1
        assert len({x["peer"] for x in lines}) == 2


@pytest.mark.parametrize("most", [4, 1])
def test_nobody_joins_a_session_that_is_still_being_made(target, most):
    """Connections that guess the handle of a session before it is told to anyone: the session gets its own connection, and ends."""
    store, port = lio.ramdisk("s1"), b"\x80\0\0\0\2\7"
    target = lio.IscsiTarget(store, iqn="iqn.2003-01.org.example:many", portals=("127.0.0.1:3261",))
    lio.write(target.path / "param/MaxConnections", most)
    for n in range(1, 1000):  # making a session of so many takes its time
        target.lun(store, n)
    said = initiator.text({"InitiatorName": NAME, "TargetName": target.iqn, "MaxConnections": most})
    with Session(target, most, isid=port) as s:
        last = s.tsih
    for _ in range(8):
        lio.wait_for(lambda: sessions(target) == 0)
        with contextlib.ExitStack() as stack:
            first, *others = wires = [stack.enter_context(initiator.Connection(target.portals[0], 40)) for _ in range(13)]
            logins = [c.login_pdu(said, isid=port, tsih=last + 1 + i // 11 if i else 0, cid=i // 2 + 1, itt=i) for i, c in enumerate(wires)]
            for c, login in zip(wires, logins):
                c.send(login[:-1])
            for c, login in zip(wires, logins):
                c.send(login[-1:])
            assert first.receive().login_status == 0
            # Some may have come in behind it.
            assert {c.receive().login_status for c in others} <= {0x020A, 0x0206, 0}
        lio.wait_for(lambda: sessions(target) == 0)
        with Session(target, most, isid=port) as s:
            last = s.tsih


def test_races(target, monkeypatch):
    """Commands on three connections, in turn, while connections are lost, reinstated and logged out, the session is reinstated,
    the group is disabled, at random; then nothing is left."""
    monkeypatch.setattr(Leg, "patience", 2)
    held = leaks.Held() if ARGS else None
    seed = int(ARGS.get("seed", random.randrange(1 << 32)))
    print(f"seed={seed}")
    end = time.monotonic() + int(ARGS.get("seconds", 4 * lio.SLOW))
    rnd, rounds, threads = random.Random(seed), 0, []

    def at_once(what, *args):
        def run():
            with contextlib.suppress(AssertionError, OSError, TimeoutError):
                what(*args)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    while time.monotonic() < end or rounds < 6:
        rounds += 1
        if target_is_off(target):
            target.enable()
        with contextlib.suppress(AssertionError, OSError, TimeoutError), Session(target) as s:
            legs = s.with_legs(3)
            for _ in range(rnd.randrange(1, 4)):
                for i in range(24):
                    leg = legs[i % len(legs)]
                    leg.send(leg.command_pdu(*rnd.choice([(READ_4K, 4096, READ), (WRITE_4K, 4096, WRITE, bytes(4096))])))
                what = rnd.randrange(6)
                if what == 0:
                    legs.pop().reset()
                elif what == 1:
                    s.add(rnd.choice(legs).cid)
                elif what == 2:
                    legs[0].log_out(rnd.randrange(2), rnd.choice(legs).cid)
                elif what == 3:
                    at_once(Session, target)
                elif what == 4:
                    target.enable(False)
                else:
                    at_once(s.add, 2, False)
                    legs[0].reset()
        for t in threads:
            t.join()
    if not target_is_off(target):
        target.enable(False)
    lio.wait_for(lambda: sessions(target) == 0)
    target.enable()
    monkeypatch.undo()
    with Session(target) as s:
        assert s.legs[0].scsi(TUR)[0] == 0
    lio.wait_for(lambda: sessions(target) == 0)
    for leg in Leg.opened:
        leg.close()
    if held:
        leaks.check(held, objects=64)
