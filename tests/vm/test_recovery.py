"""Error recovery level 1 (RFC 7143, 7.1.4, 11.16): what was lost on the way is sent or asked for again."""
# vm: --timeout 900
# group: protocol
import hashlib
import select
import socket
import struct
import time

import initiator
import lio
import pytest
from initiator import (
    DATA_IN, FINAL, LUN_RESET, NONE, NOP_IN, NOP_OUT, R2T, READ, REJECT, SCSI_RESPONSE, SNACK, TEXT_RESPONSE, TMF_RESPONSE, WRITE, pdu)

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
NAME = "iqn.2024-01.org.example:python"
BOTH = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
TUR = bytes(6)
INVALID = [0xC0] + [0] * 5
READ_8K = bytes.fromhex("28000000000000001000")
WRITE_8K = bytes.fromhex("2a000000000000001000")
READ_128K = bytes.fromhex("28000000000000010000")
DATA, STATUS, DATA_ACK, R_DATA = 0, 1, 2, 3
DATA_DIGEST_ERROR, SNACK_REJECT, PROTOCOL_ERROR, INVALID_DATA_ACK = 2, 3, 4, 8


@pytest.fixture
def target():
    t = lio.IscsiTarget(lio.ramdisk(size=4 << 20), acls=[NAME])
    lio.write(t.path / "param/ErrorRecoveryLevel", 1)
    lio.write(t.path / "param/InitialR2T", "No")
    return t


def session(target, **keys):
    c = initiator.session(target, keys={"ErrorRecoveryLevel": 1, "MaxRecvDataSegmentLength": 2048} | keys)
    assert c.keys["ErrorRecoveryLevel"] == "1"
    return c


def pattern(n, seed=0):
    return bytes((i * 7 + i // 251 + seed) & 0xFF for i in range(n))


def snack(c, kind, begin=0, length=0, itt=NONE, ttt=NONE):
    c.send(pdu(SNACK, FINAL | kind, itt=itt, w=(ttt, 0, c.exp_stat_sn, 0, 0, begin, length)))


def rejected(c, reason, kind=SNACK):
    a, = collect(c, 1)
    assert (a.opcode, a.reason, a.data[0] & 0x3F) == (REJECT, reason, kind), a


def fixed(answer):
    """What must be the same in a replica: all but ExpCmdSN and MaxCmdSN."""
    return answer.bhs[:28] + answer.bhs[36:], hashlib.sha256(answer.data).digest()


def collect(c, n):
    """n PDUs, none of which is acknowledged."""
    before = c.exp_stat_sn
    got = [c.receive() for _ in range(n)]
    c.exp_stat_sn = before
    return got


def test_level(target):
    """13.20: the lesser of both; not above 0 in a discovery session. Above 0 one R2T waits at a time (13.19)."""
    param = target.path / "param/ErrorRecoveryLevel"
    lio.write(target.path / "param/MaxOutstandingR2T", 4)
    for own, offer, want in [(1, 0, 0), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2), (0, 1, 0), (0, 2, 0)]:
        lio.write(param, own)
        assert lio.read(param) == str(own)
        with initiator.Connection(timeout=30) as c:
            c.login(target.iqn, keys={"ErrorRecoveryLevel": offer, "MaxOutstandingR2T": 8})
            assert c.keys["ErrorRecoveryLevel"] == str(want)
            assert c.keys["MaxOutstandingR2T"] == ("1" if want else "4")
            assert lio.read(target.path / "acls" / NAME / "param/ErrorRecoveryLevel") == str(want)
            c.scsi(TUR)
            if not want:
                snack(c, STATUS)
                rejected(c, SNACK_REJECT)
            assert c.ping()
    with lio.refused():
        lio.write(param, 3)
    lio.write(target.path / "param/MaxOutstandingR2T", 1)
    # The ACL's own level, with which it began: the group's at that time.
    lio.write(param, 0)
    target.attrib("default_erl", 1)
    own = target.path / "acls" / NAME / "attrib/default_erl"
    assert lio.read(own) == "0"
    try:
        for level in (0, 1):
            lio.write(own, level)
            assert lio.read(own) == str(level)
            with initiator.Connection(timeout=30) as c:
                c.login(target.iqn, keys={"ErrorRecoveryLevel": 1})
                assert c.keys["ErrorRecoveryLevel"] == str(level)
        for file in (own, target.path / "attrib/default_erl"):
            with lio.refused():
                lio.write(file, 3)
        later = NAME + "-later"
        target.acl(later)
        assert lio.read(target.path / "acls" / later / "attrib/default_erl") == "1"
    finally:
        lio.write(own, 0)
        target.attrib("default_erl", 0)
    with initiator.Connection(timeout=30) as c:
        c.login(name=NAME, keys={"ErrorRecoveryLevel": 1})
        assert c.keys["ErrorRecoveryLevel"] == "0"


@pytest.mark.parametrize("keys", [{}, BOTH], ids=["plain", "digests"])
def test_statuses(target, keys):
    """Responses of all kinds, as they were; no longer than until they are acknowledged."""
    with session(target, **keys) as c:
        first = c.exp_stat_sn
        c.start(TUR)
        c.start(INVALID)
        c.send(pdu(NOP_OUT, FINAL, b"ping!", immediate=True, itt=c.itt(), w=(NONE, c.cmd_sn, c.exp_stat_sn)))
        c.send(pdu(initiator.TMF, FINAL | LUN_RESET, immediate=True, itt=c.itt(), w=(NONE, c.cmd_sn, c.exp_stat_sn)))
        c.send(pdu(initiator.TEXT, FINAL, initiator.text({"SendTargets": ""}), itt=c.itt(), w=(NONE, *c.numbers())))
        sent = sorted(collect(c, 5), key=lambda a: a.stat_sn)
        assert [a.stat_sn for a in sent] == list(range(first, first + 5))
        assert {a.opcode for a in sent} == {SCSI_RESPONSE, NOP_IN, TMF_RESPONSE, TEXT_RESPONSE}
        for begin, length, which in [(first, 0, sent), (0, 0, sent), (first + 1, 2, sent[1:3]), (first + 4, 1, sent[4:])]:
            snack(c, STATUS, begin, length)
            assert [fixed(a) for a in collect(c, len(which))] == [fixed(a) for a in which]
        c.exp_stat_sn = first + 3
        snack(c, STATUS)
        assert [fixed(a) for a in collect(c, 2)] == [fixed(a) for a in sent[3:]]
        for begin, length in [(first + 2, 1), (first + 5, 0), (first + 3, 3), (first - 1, 0)]:
            c.exp_stat_sn = first + 5
            snack(c, STATUS, begin, length)
            rejected(c, PROTOCOL_ERROR)
            first += 1
        assert c.scsi(INVALID)[0] == 2 and c.scsi(TUR)[0] in (0, 2)


def test_what_is_kept_is_bounded(target):
    with session(target) as c:
        first = c.exp_stat_sn
        for _ in range(11):
            for _ in range(100):
                c.send(pdu(NOP_OUT, FINAL, immediate=True, itt=5, w=(NONE, c.cmd_sn, first)))
            collect(c, 100)
        snack(c, STATUS, first, 1)
        rejected(c, SNACK_REJECT)
        c.exp_stat_sn = first
        snack(c, STATUS, first + 1100, 0)
        assert c.receive().opcode == REJECT


@pytest.mark.parametrize("keys", [{}, BOTH], ids=["plain", "digests"])
def test_data(target, keys):
    with session(target, **keys) as c:
        data = pattern(8192)
        c.scsi(WRITE_8K, write=data)
        itt = c.start(READ_8K, 8192, READ)
        *sent, status = collect(c, 5)
        assert [a.opcode for a in sent] == [DATA_IN] * 4 and status.opcode == SCSI_RESPONSE
        assert [a.data_sn for a in sent] == [0, 1, 2, 3] and not any(a.flags & 1 for a in sent)
        assert status.data_sn == 4, "ExpDataSN"
        assert b"".join(a.data for a in sent) == data
        for begin, length, which in [(0, 0, sent), (1, 2, sent[1:3]), (2, 0, sent[2:]), (3, 1, sent[3:]), (0, 1, sent[:1])]:
            snack(c, DATA, begin, length, itt)
            assert [fixed(a) for a in collect(c, len(which))] == [fixed(a) for a in which]
        for begin, length in [(4, 1), (3, 2), (4, 0)]:
            snack(c, DATA, begin, length, itt)
            rejected(c, PROTOCOL_ERROR)
        snack(c, DATA, 0, 0, itt + 100)
        rejected(c, PROTOCOL_ERROR)
        # Acknowledged.
        assert c.scsi(TUR)[0] == 0 and c.scsi(TUR)[0] == 0
        snack(c, DATA, 0, 0, itt)
        rejected(c, PROTOCOL_ERROR)


def test_data_asked_for_while_it_is_still_coming(target):
    """A SNACK that waits until all of its read is with TCP is answered then, with nothing else to come."""
    lio.write(target.path / "acls" / NAME / "attrib/nopin_timeout", 0)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", 3260))
    with initiator.Connection(sock=sock, timeout=60) as c:
        c.login(target.iqn, keys={"ErrorRecoveryLevel": 1, "MaxRecvDataSegmentLength": 8192})
        itt = c.start(bytes.fromhex("28000000000000180000"), 3 << 20, READ)
        first = c.receive()
        assert (first.opcode, first.data_sn) == (DATA_IN, 0)
        snack(c, DATA, 0, 1, itt)
        time.sleep(0.5)
        seen = []
        while not seen or seen[-1].opcode != SCSI_RESPONSE:
            seen.append(c.receive())
        if not any(a.data_sn == 0 for a in seen[:-1]):
            # Nothing else wakes the connection.
            again = c.receive(8 * lio.SLOW)
            assert (again.opcode, again.data_sn, again.data) == (DATA_IN, 0, first.data)


def test_data_ack(target):
    """11.7.4, 11.16: long data asks to be acknowledged; once it is, it is not sent again."""
    with session(target, MaxRecvDataSegmentLength=65536) as c:
        for acks in (True, False):
            itt = c.start(READ_128K, 131072, READ)
            *sent, status = collect(c, 3)
            assert [a.flags & 0x40 for a in sent] == [0, 0x40] and sent[1].ttt != NONE
            assert sent[1].bhs[8:16] == initiator.lun_bytes(0)
            if acks:
                snack(c, DATA_ACK, 1, 0, ttt=sent[1].ttt)
                rejected(c, INVALID_DATA_ACK)
                snack(c, DATA_ACK, 2, 0, ttt=0x1234)
                rejected(c, INVALID_DATA_ACK)
                snack(c, DATA, 1, 1, itt)
                assert fixed(c.receive()) == fixed(sent[1])
                snack(c, DATA_ACK, 2, 0, ttt=sent[1].ttt)
                snack(c, DATA, 0, 0, itt)
                rejected(c, PROTOCOL_ERROR)
            snack(c, STATUS, status.stat_sn, 1)
            assert fixed(c.receive()) == fixed(status)
            assert c.ping()


def test_resegmented_data(target):
    """11.16.1: after MaxRecvDataSegmentLength has changed."""
    with session(target) as c:
        data = pattern(8192, 9)
        c.scsi(WRITE_8K, write=data)
        itt = c.start(READ_8K, 8192, READ)
        *_, status = collect(c, 5)
        before = c.exp_stat_sn
        assert c.text_request({"MaxRecvDataSegmentLength": 1024}).opcode == TEXT_RESPONSE
        c.exp_stat_sn = before
        snack(c, DATA, 0, 0, itt)
        a, = collect(c, 1)
        assert (a.opcode, a.reason) == (REJECT, PROTOCOL_ERROR)
        snack(c, R_DATA, itt=itt, ttt=0x77)
        *sent, again = collect(c, 9)
        assert [(a.opcode, a.data_sn, len(a.data)) for a in sent] == [(DATA_IN, i, 1024) for i in range(8)]
        assert b"".join(a.data for a in sent) == data
        assert (again.opcode, again.stat_sn, again.ttt, again.data_sn) == (SCSI_RESPONSE, status.stat_sn, 0x77, 8)
        # The latest content.
        snack(c, STATUS, status.stat_sn, 1)
        assert [fixed(a) for a in collect(c, 1)] == [fixed(again)]
        snack(c, DATA, 7, 1, itt)
        assert [fixed(a) for a in collect(c, 1)] == [fixed(sent[7])]


def test_r2t(target):
    with session(target) as c:
        data = pattern(8192, 1)
        itt = c.start(WRITE_8K, 8192, WRITE)
        r2t = c.receive()
        for begin, length in [(0, 0), (0, 1)]:
            snack(c, DATA, begin, length, itt)
            assert fixed(c.receive()) == fixed(r2t)
        snack(c, DATA, 1, 0, itt)
        rejected(c, PROTOCOL_ERROR)
        c.send(c.data_out_pdu(itt, r2t.ttt, data[:2048], 0, 0, False))
        snack(c, DATA, 0, 0, itt)
        rejected(c, PROTOCOL_ERROR)
        c.send(c.data_out_pdu(itt, r2t.ttt, data[2048:], 2048, 1, True))
        assert c.finish(itt)[0] == 0
        assert c.scsi(READ_8K, read=8192)[:2] == (0, data)


def recovered(c, itt, data, begin, r2t_sn):
    """A recovery R2T asks for all from `begin` on; it is answered, and the command ends well."""
    r2t = c.receive()
    assert (r2t.opcode, r2t.itt, r2t.data_sn) == (R2T, itt, r2t_sn), r2t
    assert (r2t.offset, r2t.wanted) == (begin, len(data) - begin)
    c.answer_r2t(r2t, data, 2048)
    status, _, a = c.finish(itt)
    # 11.4.8: no Data-In, no ExpDataSN.
    assert (status, a.data_sn) == (0, 0)
    assert c.scsi(READ_8K, read=8192)[:2] == (0, data)


@pytest.mark.parametrize("unsolicited", [False, True])
@pytest.mark.parametrize("how", ["digest", "lost"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_data_out(target, how, unsolicited, at):
    """7.8 a, 7.9: a PDU in the middle of a burst, or the last one, has a wrong digest or does not come."""
    keys = BOTH if how == "digest" else {}
    # What follows it shows what is lost; behind the last one nothing does.
    for node, value in ("dataout_timeout", 4 if how == "lost" and at == 3 else 30), ("dataout_timeout_retries", 2):
        lio.write(target.path / "acls" / NAME / "attrib" / node, value)
    with session(target, **keys) as c:
        data = pattern(8192, 10 + at)
        itt = c.start(WRITE_8K, 8192, WRITE, last=not unsolicited)
        ttt = NONE if unsolicited else c.receive().ttt
        for i in range(4):
            out = c.data_out_pdu(itt, ttt, data[2048 * i : 2048 * (i + 1)], 2048 * i, i, i == 3)
            if i != at:
                c.send(out)
            elif how == "digest":
                c.send(out, "data")
                rejected(c, DATA_DIGEST_ERROR, initiator.DATA_OUT)
        recovered(c, itt, data, 2048 * at, 0 if unsolicited else 1)


def test_data_out_never_comes(target):
    """An unfinished burst is asked for again as often as dataout_timeout_retries says, then the session ends."""
    for node, value in ("dataout_timeout", 4), ("dataout_timeout_retries", 2):
        lio.write(target.path / "acls" / NAME / "attrib" / node, value)
    with session(target) as c:
        data = pattern(8192, 77)
        itt = c.start(WRITE_8K, 8192, WRITE)
        r2t = c.receive()
        c.send(c.data_out_pdu(itt, r2t.ttt, data[:2048], 0, 0, False))
        for n in (1, 2):
            a = c.receive()
            assert (a.opcode, a.data_sn, a.offset, a.wanted) == (R2T, n, 2048, 6144)
        assert c.receive() is None


@pytest.mark.parametrize("how", ["plain", "digest", "immediate"])
def test_data_out_that_takes_its_time(target, how):
    """What is missing is asked for again; not what is coming in, be it for longer than dataout_timeout: the command waits for that."""
    lio.write(target.path / "acls" / NAME / "attrib/dataout_timeout", 4)
    with session(target, **({"DataDigest": "CRC32C"} if how == "digest" else {})) as c:
        assert c.scsi(WRITE_8K, write=bytes(8192))[0] == 0
        data = pattern(8192, 33)
        if how == "immediate":
            out = c.command_pdu(WRITE_8K, 8192, WRITE, data, itt=c.itt())
            itt = c.next_itt
        else:
            itt = c.start(WRITE_8K, 8192, WRITE)
            out = c.data_out_pdu(itt, c.receive().ttt, data)
        if how == "digest":
            # The data is wrong, so all of it is asked for again, once.
            out, c.data_digest = c.digested(out, "data"), False
        for at in range(0, 5000, 500):
            c.send(out[at : at + 500])
            time.sleep(0.5)
        assert not select.select([c.sock], [], [], 0)[0]
        c.send(out[5000:])
        if how == "digest":
            c.data_digest = True
            rejected(c, DATA_DIGEST_ERROR, initiator.DATA_OUT)
            recovered(c, itt, data, 0, 1)
        else:
            assert c.finish(itt)[0] == 0
            assert c.scsi(READ_8K, read=8192)[:2] == (0, data)


def test_discarded_command(target):
    """7.2.1, 7.8: a command with a wrong digest leaves a gap in CmdSN; others wait until it is sent again, and all are executed in
    order; what comes twice is ignored."""
    for start in (1, 0xFFFFFFFE):
        c = initiator.Connection(timeout=30)
        c.cmd_sn = start
        c.login(target.iqn, keys=BOTH | {"ErrorRecoveryLevel": 1})
        for _ in range(3):
            c.scsi(TUR)
        first, second = pattern(8192, 1), pattern(8192, 2)
        number = c.cmd_sn
        lost = c.command_pdu(WRITE_8K, 8192, WRITE, first, itt=0x100)
        c.send(lost, "data")
        a = c.receive()
        assert (a.opcode, a.reason, a.exp_cmd_sn) == (REJECT, DATA_DIGEST_ERROR, number)
        c.send(c.command_pdu(WRITE_8K, 8192, WRITE, second, itt=0x101))
        c.send(c.command_pdu(READ_8K, 8192, READ, itt=0x102))
        assert c.ping() and lio.read(target.path / "acls" / NAME / "info")
        c.send(lost)
        got = []
        while len(got) < 3:
            a = c.receive()
            if a.opcode == SCSI_RESPONSE:
                got.append((a.itt, a.status))
            elif a.opcode == DATA_IN:
                assert a.data == second[a.offset : a.offset + len(a.data)], "the writes were executed in their order"
        assert sorted(got) == [(0x100, 0), (0x101, 0), (0x102, 0)]
        c.send(lost)
        assert c.ping(), "a duplicate is ignored"
        assert c.scsi(READ_8K, read=8192)[:2] == (0, second)
        assert c.logout().opcode == initiator.LOGOUT_RESPONSE
        c.close()


def test_the_order_of_a_gap(target):
    """A command that comes before its turn has no effect until then; a task management function finds the gap."""
    with session(target) as c:
        old, new = pattern(8192, 1), pattern(8192, 2)
        c.scsi(WRITE_8K, write=old)
        n = c.cmd_sn
        c.send(c.command_pdu(WRITE_8K, 8192, WRITE, new, itt=0x101, numbers=(n + 1, c.exp_stat_sn)))
        assert c.ping()
        got = c.start(READ_8K, 8192, READ, immediate=True)
        assert c.finish(got)[:2] == (0, old)
        c.send(c.command_pdu(WRITE_8K, 8192, WRITE, new, itt=0x101, numbers=(n + 1, c.exp_stat_sn)))
        c.send(c.command_pdu(TUR, itt=0x100, numbers=(n, c.exp_stat_sn)))
        assert {c.finish(0x100)[0], c.finish(0x101)[0]} == {0}
        c.cmd_sn = n + 2
        assert c.scsi(READ_8K, read=8192)[:2] == (0, new)


def test_functions_and_a_gap(target):
    """11.5.1: ABORT TASK for a command that was discarded fills the gap; what waits behind it is aborted as well, or goes on."""
    with session(target) as c:
        old, new = pattern(8192, 1), pattern(8192, 2)
        c.scsi(WRITE_8K, write=old)
        n = c.cmd_sn
        for i in (1, 2, 3):
            c.send(c.command_pdu(WRITE_8K if i < 3 else READ_8K, 8192, WRITE if i < 3 else READ, new if i < 3 else b"", itt=0x100 + i,
                                 numbers=(n + i, c.exp_stat_sn)))
        c.cmd_sn = n + 4
        assert c.tmf(initiator.ABORT_TASK, ref_itt=0x101, ref_cmd_sn=n + 1) == 0
        assert c.tmf(initiator.ABORT_TASK, ref_itt=0x102, ref_cmd_sn=n + 2) == 0
        assert c.tmf(initiator.ABORT_TASK, ref_itt=0x100, ref_cmd_sn=n) == 0
        c.given_back = c.seen + c.given_back
        assert c.finish(0x103)[:2] == (0, old)
        n = c.cmd_sn
        c.send(c.command_pdu(WRITE_8K, 8192, WRITE, new, itt=0x201, numbers=(n + 1, c.exp_stat_sn)))
        c.cmd_sn = n + 2
        assert c.tmf(LUN_RESET) == 0
        c.send(c.command_pdu(TUR, itt=0x200, numbers=(n, c.exp_stat_sn)))
        c.finish(0x200)
        assert c.scsi(READ_8K, read=8192)[:2] == (0, old)


def test_verified_io_with_losses(target):
    """Each burst loses something, each read is asked for twice, and all is what it should be."""
    with session(target, **BOTH) as c:
        for n in range(6):
            data = pattern(8192, 40 + n)
            itt = c.start(WRITE_8K, 8192, WRITE)
            r2t, lose = c.receive(), [n % 4]
            for i in range(4):
                out = c.data_out_pdu(itt, r2t.ttt, data[2048 * i : 2048 * (i + 1)], 2048 * i, i, i == 3)
                c.send(out, "data" if i in lose else "")
            rejected(c, DATA_DIGEST_ERROR, initiator.DATA_OUT)
            recovered(c, itt, data, 2048 * lose[0], 1)
            itt = c.start(READ_8K, 8192, READ)
            *sent, _ = collect(c, 5)
            snack(c, DATA, 0, 0, itt)
            assert b"".join(a.data for a in collect(c, 4)) == data == b"".join(a.data for a in sent)
            assert struct.unpack(">I", sent[3].bhs[40:44])[0] == 6144
