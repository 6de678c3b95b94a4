"""What RFC 7143 asks of a target, rule by rule; tests/iscsi/RFC7143.md says which test shows which. All that is said on the wire
meanwhile is judged by judge.py, and read by tshark."""
# vm: --timeout 900
# group: protocol
import contextlib
import copy
import struct
import time

import capture
import initiator
import judge
import lio
import pytest
from initiator import (ABORT_TASK, ASYNC, CLEAR_TASK_SET, COLD_RESET, DATA_OUT, FINAL, LOGOUT, LOGOUT_RESPONSE,
                       LUN_RESET, NONE, NOP_IN, NOP_OUT, OPERATIONAL, R2T, READ, REJECT, SCSI_COMMAND, SECURITY,
                       SNACK, TEXT, TEXT_RESPONSE, TMF, WRITE, Connection, pdu, text)
from sgio import say

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
TUR, INQUIRY = bytes(6), bytes.fromhex("120000006000")
NAME = "iqn.2024-01.org.example:rfc"
ISID = b"\x80\0\0\0\x71"
R2T_ONLY = {"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": 8192, "FirstBurstLength": 8192}


def read10(lba, blocks):
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write10(lba, blocks):
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


@pytest.fixture(scope="module")
def wire():
    """All that is said from here on, as the judge and tshark hear it."""
    with judge.Judge() as j, capture.Capture() as j.capture:
        yield j


@pytest.fixture(scope="module")
def target(wire):
    t = lio.IscsiTarget(lio.ramdisk(size=16 << 20), lio.ramdisk("rd1", size=8 << 20))
    for name, value in (("InitialR2T", "No"), ("MaxOutstandingR2T", 4)):
        lio.write(t.path / "param" / name, value)
    t.patient(NAME, luns=(0, 1))
    yield t
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The target stays."""
    yield


@pytest.fixture(autouse=True)
def judged(wire):
    """The target kept the rules of judge.py during this test."""
    yield
    said = wire.complaints()
    assert not said, "\n".join(said)


def wrong(c):
    """What this connection sends is meant to be wrong: tshark may complain of it. Gives it back."""
    c.spoiled = True
    return c


@contextlib.contextmanager
def session(target, n=1, name=NAME, **kw):
    """A session of its own."""
    with initiator.session(target, name=name, isid=ISID + bytes([n]), **kw) as c:
        yield c


@pytest.fixture(scope="module")
def shared(target):
    """The session that the tests share which do not spoil it."""
    with session(target, 0x55) as c:
        yield c


def who(target=None, **more):
    pairs = {"InitiatorName": NAME, "AuthMethod": "None"} | more
    return text(pairs | ({"TargetName": target.iqn, "SessionType": "Normal"} if target else {"SessionType": "Discovery"}))


def silent(c):
    """Nothing is on its way: a ping's answer comes first."""
    return c.ping()


# --- login --------------------------------------------------------------------------------------------------------------


def test_another_pdu_before_the_login(target):
    """4.2.4: the connection ends at once, and without a word."""
    for opcode in (NOP_OUT, SCSI_COMMAND, TMF, TEXT, DATA_OUT, LOGOUT, SNACK, 0x1C):
        with wrong(Connection()) as c:
            c.send(pdu(opcode, itt=1, w=(NONE, 1, 0)))
            assert c.receive() is None


def test_another_pdu_during_the_login(target):
    """4.2.4: "invalid during login", then the connection ends."""
    for opcode in (NOP_OUT, SCSI_COMMAND, TMF, TEXT, DATA_OUT, LOGOUT, SNACK):
        with wrong(Connection()) as c:
            c.send(c.login_pdu(who(target), SECURITY, OPERATIONAL))
            assert c.receive().login_status == 0
            c.send(pdu(opcode, itt=5, w=(NONE, 1, 0)))
            assert c.receive().login_status == 0x020B
            assert c.receive() is None


def test_text_goes_over_several_requests(target):
    """6.1, 6.2, 11.12.2: 8192 bytes of text in one negotiation; each piece with C is answered without text and without T."""
    data = who(target)
    n = (8192 - len(data)) // 200
    data += b"".join(b"X-%03d=" % i + b"v" * 193 + b"\0" for i in range(n))
    data += b"X-z=" + b"v" * (8192 - len(data) - 5) + b"\0"
    assert len(data) == 8192
    with Connection() as c:
        for i in range(0, 8192, 2048):
            more = i + 2048 < 8192
            c.send(c.login_pdu(data[i : i + 2048], SECURITY, OPERATIONAL, transit=not more, more=more))
            a = c.receive()
            assert a.login_status == 0
            if more:
                assert not a.data and not a.flags & 0x80
        while a.flags & 0x40:
            c.send(c.login_pdu(b"", SECURITY, OPERATIONAL, transit=False))
            a = c.receive()
        assert b"X-z=NotUnderstood\0" in a.data


def test_tsih_and_stages(target):
    """6.3, 11.13.3, 11.13.6: TSIH is 0 until the last response and differs between sessions; no stage ends unasked."""
    tsihs = set()
    with contextlib.ExitStack() as stack:
        for n in range(3):
            c = stack.enter_context(Connection())
            c.send(c.login_pdu(who(target), SECURITY, transit=False, isid=ISID + bytes([n])))
            a = c.receive()
            assert a.login_status == 0 and a.flags & 0x80 == 0
            assert a.text["TargetPortalGroupTag"] == "1" and a.text["AuthMethod"] == "None"
            c.send(c.login_pdu(b"", SECURITY, OPERATIONAL, isid=ISID + bytes([n])))
            a = c.receive()
            assert a.flags & 0x8F == 0x81
            c.send(c.login_pdu(b"", isid=ISID + bytes([n])))
            while not (a := c.receive()).flags & 0x80:
                c.send(c.login_pdu(text({k: v for k, v in a.text.items() if k != "MaxRecvDataSegmentLength"}), isid=ISID + bytes([n])))
            tsihs.add(struct.unpack(">H", a.bhs[14:16])[0])
    assert len(tsihs) == 3 and 0 not in tsihs


def test_security_stage_straight_to_full_feature_phase(target):
    """6.3.2: the response that ends the login has the TSIH, whatever stage it ends."""
    with Connection() as c:
        c.send(c.login_pdu(who(target), SECURITY, initiator.FULL_FEATURE))
        a = c.receive()
        assert a.flags & 0x83 == 0x83 and a.bhs[14:16] != b"\0\0"
        assert c.ping()


def test_what_the_first_request_says_holds(target):
    """11.12.4, 11.12.6 to 11.12.8: version, TSIH, CID and CmdSN."""
    with Connection() as c:
        c.cmd_sn = 0xFFFFFFF0
        a = c.login(target.iqn, name=NAME, isid=ISID + b"\x20")
        assert a.exp_cmd_sn == 0xFFFFFFF0
    for version_min, status in ((0, 0), (1, 0x0205)):
        with wrong(Connection()) as c:
            c.send(c.login_pdu(who(target), SECURITY, OPERATIONAL, version_max=2, version_min=version_min))
            assert c.receive().login_status == status
    with wrong(Connection()) as c:
        c.send(c.login_pdu(who(target), SECURITY, OPERATIONAL, tsih=0x7ABC))
        assert c.receive().login_status in (0x020A, 0x0206)
        assert c.receive() is None


KEYS = [  # 13: what is offered, and what may be answered
    ("HeaderDigest", "X-unknown,None", "None"), ("DataDigest", "Y#7,None", "None"), ("HeaderDigest", "None,CRC32C", "None"),
    ("MaxConnections", "7", "[1-7]"), ("InitialR2T", "Yes", "Yes"), ("InitialR2T", "No", "Yes|No"), ("ImmediateData", "No", "No"),
    ("ImmediateData", "Yes", "Yes|No"), ("MaxBurstLength", "512", "512"), ("MaxBurstLength", "0x200", "512|0x200"),
    ("FirstBurstLength", "512", "512"), ("DefaultTime2Wait", "3600", "3600"), ("DefaultTime2Retain", "0", "0"),
    ("MaxOutstandingR2T", "1", "1"), ("MaxOutstandingR2T", "65535", "[0-9]+"), ("DataPDUInOrder", "Yes", "Yes"),
    ("DataPDUInOrder", "No", "Yes|No"), ("DataSequenceInOrder", "Yes", "Yes"), ("ErrorRecoveryLevel", "0", "0"),
    ("ErrorRecoveryLevel", "2", "[0-2]"), ("TaskReporting", "RFC3720,ResponseFence", "RFC3720|ResponseFence"),
    ("TaskReporting", "X-unknown,RFC3720,ResponseFence", "RFC3720|ResponseFence"), ("iSCSIProtocolLevel", "1", "1"),
    ("iSCSIProtocolLevel", "31", "[12]"), ("IFMarker", "Yes", "No"), ("OFMarker", "Yes", "No"), ("IFMarkInt", "2048~8192", "Reject"),
    ("OFMarkInt", "2048~8192", "Reject"), ("X-com.example.key", "1", "NotUnderstood"), ("X#NodeArchitecture", "Linux", "|NotUnderstood"),
    ("InitiatorAlias", "tester", "")]


@pytest.mark.parametrize("key,offer,answers", KEYS, ids=[f"{k}={v}" for k, v, _ in KEYS])
def test_each_key(target, key, offer, answers):
    """6.2, 13: answered with the result of its function, and no key of the RFC is not understood."""
    import re
    with Connection() as c:
        c.send(c.login_pdu(who(target), SECURITY, OPERATIONAL))
        assert c.receive().login_status == 0
        c.send(c.login_pdu(text({key: offer}), transit=False))
        a = c.receive()
        assert a.login_status == 0
        assert re.fullmatch(answers, a.text.get(key, "")), a.text
        assert "NotUnderstood" not in a.text.get(key, "") or key.startswith("X")


def test_no_key_twice(target):
    """6.3: an attempt to negotiate again fails the login, with "initiator error". (By default firmware that repeats itself is let in.)"""
    target.attrib("login_keys_workaround", 0)
    try:
        for key, value in (("MaxBurstLength", 65536), ("ErrorRecoveryLevel", 0), ("MaxRecvDataSegmentLength", 8192),
                           ("X#NodeArchitecture", "Linux")):
            for apart in (False, True):
                with wrong(Connection()) as c:
                    c.send(c.login_pdu(who(target), SECURITY, OPERATIONAL))
                    c.receive()
                    if apart:
                        c.send(c.login_pdu(text({key: value}), transit=False))
                        assert c.receive().login_status == 0
                    c.send(c.login_pdu(text([(key, value)] * (1 if apart else 2)), transit=False))
                    assert c.receive().login_status == 0x0200
                    assert c.receive() is None
    finally:
        target.attrib("login_keys_workaround", 1)


def test_a_name_of_223_bytes(target):
    """4.2.7.1"""
    name = "iqn.2024-01.org.example:" + "n" * 199
    assert len(name) == 223
    with session(target, 9, name=name) as c:
        assert c.scsi(TUR)[0] == 0


def test_reserved_fields_are_ignored(target):
    """11: a receiver ignores the bits that are reserved."""
    with wrong(Connection()) as c:
        data = bytearray(c.login_pdu(who(target), SECURITY, OPERATIONAL))
        data[1] |= 0x30
        data[22:24] = b"\xff\xff"
        data[32:48] = b"\xff" * 16
        c.send(bytes(data))
        assert c.receive().login_status == 0
        data = bytearray(c.login_pdu(b""))
        data[0] |= 0x80
        c.send(bytes(data))
        while not (a := c.receive()).flags & 0x80:
            assert a.login_status == 0
            c.send(c.login_pdu(text({k: v for k, v in a.text.items() if k != "MaxRecvDataSegmentLength"})))
        c.scsi(TUR), c.scsi(TUR)

        def spoiled(data, *masks):
            data = bytearray(data)
            for at, mask in masks:
                data[at] |= mask
            c.send(bytes(data))
            return c.receive()

        a = spoiled(pdu(NOP_OUT, FINAL, b"x", immediate=True, itt=c.itt(), w=(NONE, c.cmd_sn, c.exp_stat_sn)), (0, 0x80), (1, 0x7F),
                    (2, 255), (3, 255), *((i, 255) for i in range(32, 48)))
        assert a.opcode == NOP_IN and a.data == b"x"
        assert spoiled(c.command_pdu(TUR), (0, 0x80), (1, 0x18), (2, 255)).status == 0
        assert spoiled(pdu(TMF, FINAL | ABORT_TASK, immediate=True, itt=c.itt(), w=(0x999, c.cmd_sn, c.exp_stat_sn, c.cmd_sn - 1)),
                       (0, 0x80), (2, 255), (3, 255), *((i, 255) for i in range(40, 48))).response == 1
        a = spoiled(pdu(TEXT, FINAL, text({"X-a": 1}), itt=c.itt(), w=(NONE, *c.numbers())), (0, 0x80), (1, 0x3F), (2, 255), (3, 255),
                    *((i, 255) for i in range(32, 48)))
        assert a.text == {"X-a": "NotUnderstood"}
        itt = c.start(write10(0, 8), 4096, WRITE)
        r2t = c.receive()
        a = spoiled(c.data_out_pdu(itt, r2t.ttt, b"d" * 4096), (0, 0xC0), (1, 0x7F), (2, 255), (3, 255), *((i, 255) for i in range(24, 28)),
                    *((i, 255) for i in range(32, 36)), *((i, 255) for i in range(44, 48)))
        assert a.status == 0
        a = spoiled(pdu(LOGOUT, FINAL, itt=c.itt(), w=(1 << 16, *c.numbers())), (0, 0x80), (2, 255), (3, 255),
                    *((i, 255) for i in range(8, 16)), (22, 255), (23, 255), *((i, 255) for i in range(32, 48)))
        assert a.opcode == LOGOUT_RESPONSE and a.response == 0


def fill(c):
    """Starts writes until the window is full; their tags. The window is small: the data of the first one is waited for no longer than
    dataout_timeout."""
    tags, last = [], c.scsi(TUR)[2].max_cmd_sn
    while c.cmd_sn != (last + 1) & NONE:
        tags.append(c.start(write10(0, 8), 4096, WRITE))
        a = c.receive()
        assert a.opcode == R2T and a.max_cmd_sn == last
    return tags


# --- numbers ------------------------------------------------------------------------------------------------------------


def test_immediate_commands_take_no_number(shared):
    """4.2.2.1: and are served with the number that is next."""
    c = shared
    before = c.cmd_sn
    for _ in range(3):
        status, _, a = c.finish(c.start(TUR, immediate=True))
        assert status == 0 and a.exp_cmd_sn == before
    assert c.scsi(TUR)[2].exp_cmd_sn == before + 1


def test_immediate_commands_beside_a_full_window(target):
    """4.2.2.1: an immediate task management function and another immediate command are served at any time."""
    target.attrib("default_cmdsn_depth", 16)
    target.patient(NAME + ":narrow")
    with session(target, 2, name=NAME + ":narrow", keys=R2T_ONLY) as c:
        target.attrib("default_cmdsn_depth", 64)
        tags = fill(c)
        assert c.ping()
        assert c.tmf(ABORT_TASK, ref_itt=tags[0]) == 0


def test_outside_of_the_window_and_twice(target):
    """4.2.2.1: silently ignored."""
    with wrong(Connection()) as c:
        c.login(target.iqn, name=NAME, isid=ISID + b"\x21")
        c.scsi(TUR)
        a = c.scsi(TUR)[2]
        for n in (c.cmd_sn - 1, c.cmd_sn - 100, a.max_cmd_sn + 1, c.cmd_sn + 0x7FFFFFFF, c.cmd_sn - 0x7FFFFFFF):
            c.send(c.command_pdu(TUR, numbers=(n & NONE, c.exp_stat_sn)))
            assert silent(c)


def test_numbers_wrap(target):
    """4.2.2.1: serial arithmetic (RFC 1982), over the end of the numbers."""
    with Connection() as c:
        c.cmd_sn = 0xFFFFFFFC
        c.login(target.iqn, name=NAME, isid=ISID + b"\x22")
        for _ in range(10):
            assert c.scsi(INQUIRY, read=96)[0] in (0, 2)
        assert c.cmd_sn == 6
        tags = [c.start(TUR) for _ in range(8)]
        assert set(c.finish_all(tags)) == set(tags)


def test_a_rejected_command_has_not_been_received(target):
    """7.3: its number is not taken; the gap is plugged by another command, or by the abort of the one that is missing (7.11)."""
    with wrong(Connection()) as c:
        c.login(target.iqn, name=NAME, isid=ISID + b"\x23")
        c.scsi(TUR), c.scsi(TUR)
        n = c.cmd_sn
        c.send(c.command_pdu(read10(0, 1), 512, 0))  # 11.3.1: a length, and no direction
        a = c.receive()
        assert a.opcode == REJECT and a.exp_cmd_sn == n
        c.cmd_sn = n
        assert c.scsi(TUR)[0] == 0
        n = c.cmd_sn
        c.send(c.command_pdu(read10(0, 1), 512, 0, itt=0x4444))
        assert c.receive().opcode == REJECT
        assert c.tmf(ABORT_TASK, ref_itt=0x4444, ref_cmd_sn=n) == 0
        assert c.scsi(TUR)[0] == 0, "the number of the command that is missing counts as received"


def test_the_window_opens_for_who_waits(target):
    """11.4.11: MaxCmdSN changes without an answer (another initiator's reset, TAS 0): a NOP-In tells of it."""
    store = lio.ramdisk("tas", 4 << 20, hba=3)
    store.attrib("emulate_tas", 0)
    t = lio.IscsiTarget(store, iqn="iqn.2003-01.org.example:tas")
    t.attrib("default_cmdsn_depth", 16)
    t.patient(NAME)
    with session(t, 3, keys=R2T_ONLY) as c, session(t, 4, name=NAME + ":other") as other:
        tags = fill(c)
        assert other.tmf(CLEAR_TASK_SET) == 0
        room = 0
        while room < len(tags):
            a = c.receive()
            assert a.opcode == NOP_IN and a.itt == NONE and a.ttt == NONE
            room = (a.max_cmd_sn + 1 - c.cmd_sn) & NONE
        status, _, a = c.scsi(TUR)
        assert status == 2 and say(a.sense) == "6/2f00"


# --- data -----------------------------------------------------------------------------------------------------------------


def test_bursts(target):
    """4.2.5, 11.7, 11.8, 13.10 to 13.19: each way that data goes, whatever was agreed on, by the rules of the judge."""
    data = bytes(i * 7 & 255 for i in range(65536))
    n = 0
    for immediate in ("Yes", "No"):
        for r2t in ("Yes", "No"):
            for burst, first, segment, outstanding in ((8192, 512, 1024, 1), (16384, 16384, 4096, 4), (262144, 65536, 65536, 1)):
                n += 1
                keys = {"InitialR2T": r2t, "ImmediateData": immediate, "MaxBurstLength": burst, "FirstBurstLength": first,
                        "MaxRecvDataSegmentLength": segment, "MaxOutstandingR2T": outstanding}
                with session(target, 0x80 + n, keys=keys) as c:
                    now = min(first, len(data)) if immediate == "Yes" else 0
                    itt = c.start(write10(0, 128), len(data), WRITE, data[:now][:8192], last=r2t == "Yes" or now == first)
                    if r2t == "No" and now < first:
                        sent, sn = min(now, 8192), 0
                        while sent < first:
                            piece = data[sent : min(sent + 8192, first)]
                            c.send(c.data_out_pdu(itt, NONE, piece, sent, sn, sent + len(piece) >= first))
                            sent, sn = sent + len(piece), sn + 1
                    assert c.finish(itt, data)[0] == 0
                    status, got, _ = c.scsi(read10(0, 128), read=65536)
                    assert status == 0 and got == data
                    c.logout()


def test_several_r2ts(target):
    """13.17, 13.19, 11.8: so many R2Ts of a command wait as were agreed on, each with a tag of its own, in order, and are answered in
    order; the next one comes with the first that is."""
    data = bytes(i * 11 & 255 for i in range(65536))
    keys = {"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": 8192, "FirstBurstLength": 8192, "MaxOutstandingR2T": 3}
    with session(target, 17, keys=keys) as c:
        assert c.keys["MaxOutstandingR2T"] == "3"
        itt = c.start(write10(0, 128), len(data), WRITE)
        waiting, seen = [c.receive() for _ in range(3)], []
        c.ping()  # and no fourth
        while waiting:
            r2t = waiting.pop(0)
            assert (r2t.opcode, r2t.offset, r2t.wanted, r2t.data_sn) == (R2T, 8192 * len(seen), 8192, len(seen))
            seen.append(r2t.ttt)
            c.send(c.data_out_pdu(itt, r2t.ttt, data[r2t.offset : r2t.offset + 8192], r2t.offset, 0))
            if len(seen) + len(waiting) < 8:
                waiting.append(c.receive())
        assert len(set(seen)) == 8
        assert c.finish(itt)[0] == 0
        assert c.scsi(read10(0, 128), read=65536)[1] == data


@pytest.mark.parametrize("data", ["None", "CRC32C,None"])
@pytest.mark.parametrize("header", ["None", "CRC32C,None"])
def test_digests(target, header, data):
    """13.1: what is agreed on is used in each PDU; tshark goes by the login's keys."""
    with session(target, 14, keys={"HeaderDigest": header, "DataDigest": data}) as c:
        assert c.scsi(write10(0, 16), write=b"digested" * 1024)[0] == 0
        status, got, _ = c.scsi(read10(0, 16), read=8192)
        assert status == 0 and got == b"digested" * 1024
        assert c.ping(b"odd") and c.logout().response == 0


def test_data_without_bytes(target):
    """11.7.7: a Data-Out without data is taken."""
    with session(target, 5, keys=R2T_ONLY) as c:
        itt = c.start(write10(64, 8), 4096, WRITE)
        r2t = c.receive()
        c.send(c.data_out_pdu(itt, r2t.ttt, b"", 0, 0, False) + c.data_out_pdu(itt, r2t.ttt, b"z" * 4096, 0, 1))
        assert c.finish(itt)[0] == 0
        assert c.scsi(read10(64, 8), read=4096)[1] == b"z" * 4096


def test_a_status_waits_for_the_data(target):
    """11.4.2: an error that is known at once is told when the last of the data has come."""
    with session(target, 6, keys={"InitialR2T": "No", "ImmediateData": "Yes", "FirstBurstLength": 16384}) as c:
        itt = c.start(write10(0x7FFFFFF0, 32), 16384, WRITE, b"d" * 4096, last=False)
        assert silent(c)
        c.send(c.data_out_pdu(itt, NONE, b"d" * 4096, 4096, 0, False))
        assert silent(c)
        c.send(c.data_out_pdu(itt, NONE, b"d" * 8192, 8192, 1, True))
        status, _, a = c.finish(itt)
        assert status == 2 and say(a.sense) == "5/2100"


def test_residuals(shared):
    """11.4.5.2: overflow and underflow, with the number of bytes."""
    c = shared
    assert c.scsi(read10(0, 8), read=4096)[2].residual == 0
    status, data, a = c.finish(c.start(read10(0, 8), 1024, READ))
    assert status == 0 and len(data) == 1024 and a.residual == -3072
    status, data, a = c.finish(c.start(read10(0, 8), 8192, READ))
    assert status == 0 and len(data) == 4096 and a.residual == 4096
    status, _, a = c.finish(c.start(TUR, 512, READ))
    assert status == 0 and a.residual == 512


def test_residuals_of_report_luns(shared):
    """11.4.5.3: what SCSI has cut to the allocation length is no overflow."""
    report = lambda n: bytes.fromhex("a00000000000") + struct.pack(">I", n) + bytes(2)  # noqa: E731
    whole = shared.scsi(report(256), read=256)
    n = len(whole[1])
    assert n == 8 + 16 and whole[2].residual == 256 - n
    status, data, a = shared.finish(shared.start(report(16), 16, READ))
    assert status == 0 and len(data) == 16 and a.residual == 0 and not a.flags & 6
    status, data, a = shared.finish(shared.start(report(16), 64, READ))
    assert status == 0 and len(data) == 16 and a.residual == 48


def test_a_long_cdb(shared):
    """11.2.2.3, 11.3.5: what is beyond 16 bytes comes in a header segment."""
    cdb = struct.pack(">B6xBH2xQIHHI", 0x7F, 0x18, 0x09, 0, 0, 0, 0, 4)  # READ (32)
    status, data, _ = shared.scsi(cdb, read=2048)
    assert status == 2 or len(data) == 2048
    assert status == 0 or say(_.sense) == "5/2000"


def test_sense_comes_with_the_status(shared):
    """11.4.7: autosense."""
    status, _, a = shared.scsi(bytes.fromhex("ff0000000000"))
    assert status == 2 and say(a.sense) == "5/2000" and a.data[:2] == struct.pack(">H", len(a.sense))


# --- task management --------------------------------------------------------------------------------------------------------


def test_functions_about_functions(shared):
    """11.5.1: ABORT TASK of a task management function is rejected."""
    itt = shared.itt()
    shared.send(pdu(TMF, FINAL | ABORT_TASK, immediate=True, itt=itt, w=(itt, shared.cmd_sn, shared.exp_stat_sn, shared.cmd_sn)))
    assert shared.receive().response == 255


def test_a_task_that_is_done(shared):
    """7.11: "task does not exist"."""
    n = shared.cmd_sn
    itt = shared.start(TUR)
    assert shared.finish(itt)[0] == 0
    assert shared.tmf(ABORT_TASK, ref_itt=itt, ref_cmd_sn=n) == 1


def test_reassignment_at_level_0(shared):
    """7.2.2: "task allegiance reassignment not supported"."""
    assert shared.tmf(8, ref_itt=0x999) == 4


def test_what_is_sent_for_an_ended_task_is_discarded(target):
    """4.2.3.3, 10.7: the data that a task management function has made useless are taken and dropped; nothing answers them."""
    with session(target, 7, keys=R2T_ONLY) as c:
        r2ts = [c.start(write10(0, 128), 65536, WRITE) for _ in range(3)] and [c.receive() for _ in range(3)]
        assert c.tmf(LUN_RESET) == 0
        for r2t in r2ts:
            c.answer_r2t(r2t, b"d" * 65536)
        assert silent(c)
        status, _, a = c.scsi(TUR)
        assert status in (0, 2)


def test_cold_reset(target):
    """11.5.1, 11.6.1, 11.9: all connections of all initiators end, after the response; the others are told."""
    t = lio.IscsiTarget(lio.ramdisk("cold", 4 << 20, hba=4), iqn="iqn.2003-01.org.example:cold")
    with session(t, 8) as a, session(t, 9, name=NAME + ":other") as b:
        assert a.tmf(COLD_RESET, timeout=30) == 0
        told = b.receive()
        assert (told.opcode, told.bhs[36]) == (ASYNC, 3)
        assert a.receive() is None and b.receive() is None


def test_what_the_target_asks_for(target):
    """11.9: a logout, a negotiation; and what it tells of logical units. test_asynchronous has the rest."""
    t = lio.IscsiTarget(lio.ramdisk("asks", 4 << 20, hba=5), iqn="iqn.2003-01.org.example:asks")
    for name in "async_logout", "async_negotiation", "async_scsi":
        t.attrib(name, 1 if name == "async_scsi" else 9)
    with session(t, 11) as c:
        t.lun(lio.ramdisk("more", 4 << 20, hba=6), 300)
        lio.write(t.path / "param/TargetAlias", "of late")
        lio.write(lio.CFS / "core/rd_mcp_6/more/alua/default_tg_pt_gp/alua_access_state", 1)
        told = [c.receive() for _ in range(3)]
        assert sorted(a.bhs[36] for a in told) == [0, 0, 4] and all(a.opcode == ASYNC for a in told)
        assert {(a.bhs[8:10].hex(), tuple(a.sense[12:14])) for a in told if not a.bhs[36]} == {("0000", (0x3F, 0x0E)), ("012c", (0x2A, 0x06))}
        itt = c.itt()
        c.send(pdu(TEXT, FINAL, itt=itt, w=(NONE, *c.numbers())))
        assert c.receive().text["TargetAlias"] == "of late"
        t.attrib("login_redirect", "10.0.0.7")
        a = c.receive()
        assert (a.opcode, a.bhs[36], a.bhs[38:43]) == (ASYNC, 1, bytes(5)) and 4 <= a.bhs[43] <= 9, "the time that is left"
        c.send(pdu(LOGOUT, FINAL, itt=c.itt(), immediate=True, w=(0, *c.numbers(True))))
        assert c.receive().opcode == LOGOUT_RESPONSE


# --- NOP, text, logout -----------------------------------------------------------------------------------------------------


def test_pings(target):
    """11.18, 11.19: data comes back, as much of it as the initiator takes; without a tag there is no answer."""
    with session(target, 10, keys={"MaxRecvDataSegmentLength": 512}) as c:
        itt = c.itt()
        c.send(pdu(NOP_OUT, FINAL, b"p" * 700, itt=itt, w=(NONE, *c.numbers())))
        a = c.receive()
        assert a.itt == itt and a.data == b"p" * 512 and a.ttt == NONE
        c.send(pdu(NOP_OUT, immediate=True, w=(NONE, c.cmd_sn, c.exp_stat_sn)))
        assert silent(c)


def test_the_targets_own_pings(target):
    """11.19: no initiator task tag, no data, a transfer tag; answered, the session goes on."""
    t = lio.IscsiTarget(lio.ramdisk("nop", 4 << 20, hba=5), iqn="iqn.2003-01.org.example:nop", acls=[NAME])
    lio.write(t.path / "acls" / NAME / "attrib/nopin_timeout", 3)
    with session(t, 11) as c:
        a = c.receive(15)
        assert a.opcode == NOP_IN and a.itt == NONE and a.ttt != NONE and not a.data
        assert c.pong(a) and c.scsi(TUR)[0] == 0


def test_text_in_full_feature_phase(shared):
    """6.2, 11.10, 11.11: pieces with C are answered without text; the transfer tag says that more may come."""
    c = shared
    itt = c.itt()
    c.send(pdu(TEXT, 0x40, b"X-first=1\0X-sec", itt=itt, w=(NONE, *c.numbers())))
    a = c.receive()
    assert a.opcode == TEXT_RESPONSE and not a.data and a.ttt != NONE and not a.flags & 0xC0
    c.send(pdu(TEXT, FINAL, b"ond=2\0", itt=itt, w=(a.ttt, *c.numbers()), bytes_8_15=a.bhs[8:16]))
    a = c.receive()
    assert a.text == {"X-first": "NotUnderstood", "X-second": "NotUnderstood"} and a.ttt == NONE and a.flags & FINAL
    # Without F, the target leaves the last word to the initiator.
    itt = c.itt()
    c.send(pdu(TEXT, 0, text({"X-first": 1}), itt=itt, w=(NONE, *c.numbers())))
    a = c.receive()
    assert a.text == {"X-first": "NotUnderstood"} and a.ttt != NONE and not a.flags & FINAL
    c.send(pdu(TEXT, FINAL, itt=itt, w=(a.ttt, *c.numbers()), bytes_8_15=a.bhs[8:16]))
    a = c.receive()
    assert not a.data and a.ttt == NONE and a.flags & FINAL


def test_a_negotiation_that_fails_changes_nothing(target):
    """7.12, 6.4: rejected as a protocol error; what was agreed on before holds."""
    with wrong(Connection()) as c:
        c.login(target.iqn, name=NAME, isid=ISID + b"\x24", keys={"MaxRecvDataSegmentLength": 1024})
        c.scsi(TUR), c.scsi(TUR)
        for pairs in ([("MaxRecvDataSegmentLength", 2048), ("MaxBurstLength", 512)],
                      [("MaxRecvDataSegmentLength", 2048), ("MaxRecvDataSegmentLength", 4096)],
                      [("MaxRecvDataSegmentLength", 511)]):
            c.send(pdu(TEXT, FINAL, text(pairs), immediate=True, itt=c.itt(), w=(NONE, *c.numbers(True))))
            a = c.receive()
            assert a.opcode == REJECT and a.reason == 4
            c.stream.declared = 1024
            c.start(read10(0, 8), 4096, READ)
            got = [c.receive() for _ in range(4)]
            assert [len(a.data) for a in got] == [1024] * 4


def test_the_length_of_segments_changes_in_full_feature_phase(target):
    """13.12: MaxRecvDataSegmentLength may be declared again, and holds from then on."""
    with session(target, 12, keys={"MaxRecvDataSegmentLength": 1024}) as c:
        a = c.text_request({"MaxRecvDataSegmentLength": 512})
        assert a.opcode == TEXT_RESPONSE and a.flags & FINAL
        c.start(read10(0, 8), 4096, READ)
        assert [len(c.receive().data) for _ in range(8)] == [512] * 8


def test_logout_ends_what_is_at_work(target):
    """11.14, 11.15: commands that wait for data are not answered; the response is the last word."""
    with session(target, 13, keys=R2T_ONLY) as c:
        for _ in range(3):
            c.start(write10(0, 8), 4096, WRITE)
            assert c.receive().opcode == R2T
        assert c.logout().response == 0
        assert c.receive() is None
    with session(target, 13) as c:
        assert c.logout(reason=1, cid=1).response == 0
        assert c.receive() is None


def test_logout_of_others(shared):
    """11.15.1: a connection that there is not; recovery at level 0."""
    assert shared.logout(reason=1, cid=77).response == 1
    assert shared.logout(reason=2, cid=1).response == 2
    assert shared.ping()


# --- discovery ---------------------------------------------------------------------------------------------------------------


def found(a):
    return [tuple(p.split("=", 1)) for p in a.data.decode().split("\0") if p]


def test_send_targets(target, shared):
    """Appendix C, 13.8: All, one name, and none in a normal session; each with its portal group's tag."""
    hidden = lio.IscsiTarget(lio.ramdisk("hidden", 4 << 20, hba=6), iqn="iqn.2003-01.org.example:hidden", acls=["iqn.2024-01.org:only"])
    hidden.attrib("demo_mode_discovery", 0)
    other = lio.IscsiTarget(lio.ramdisk("shown", 4 << 20, hba=6), iqn="iqn.2003-01.org.example:shown", acls=[NAME])
    address = ("TargetAddress", "127.0.0.1:3260,1")
    with Connection() as c:
        a = c.login(name=NAME, isid=ISID + b"\x30", keys={"ErrorRecoveryLevel": 2})
        assert a.text["ErrorRecoveryLevel"] == "0"  # 7.4.1
        records = found(c.text_request({"SendTargets": "All"}))
        names = [v for k, v in records if k == "TargetName"]
        assert {target.iqn, other.iqn} <= set(names) and hidden.iqn not in names, names
        assert all(pair == address for pair in records if pair[0] == "TargetAddress")
        assert found(c.text_request({"SendTargets": other.iqn})) == [("TargetName", other.iqn), address]
        assert found(c.text_request({"SendTargets": hidden.iqn})) == []
        assert c.logout().response == 0
    for value in ("", target.iqn):
        assert found(shared.text_request({"SendTargets": value})) == [("TargetName", target.iqn), address]
    assert found(shared.text_request({"SendTargets": other.iqn})) == []
    with Connection() as c:  # 7.4.2, appendix C: who may see nothing hears of nothing
        c.login(name="iqn.2024-01.org:nobody", isid=ISID + b"\x31")
        assert hidden.iqn not in str(found(c.text_request({"SendTargets": "All"})))


def test_a_long_list(target):
    """11.11: in pieces that the initiator takes, each with a transfer tag but the last."""
    others = [lio.IscsiTarget(lio.ramdisk(f"l{i}", 4 << 20, hba=7), iqn=f"iqn.2003-01.org.example:{'long' * 40}{i}") for i in range(5)]
    with Connection() as c:
        c.login(name=NAME, isid=ISID + b"\x32", keys={"MaxRecvDataSegmentLength": 512})
        itt, whole, ttt, lun, n, data = c.itt(), b"", NONE, bytes(8), 0, text({"SendTargets": "All"})
        while True:
            c.send(pdu(TEXT, FINAL, data, itt=itt, w=(ttt, *c.numbers()), bytes_8_15=lun))
            a = c.receive()
            whole, n = whole + a.data, n + 1
            if a.flags & FINAL:
                break
            assert a.flags & 0x40 and len(a.data) == 512 and a.ttt != NONE
            ttt, lun, data = a.ttt, a.bhs[8:16], b""
        assert n >= 3 and {o.iqn for o in others} <= set(whole.decode().replace("TargetName=", "").split("\0"))
        c.logout()


def test_discovery_sessions_are_for_discovery(target):
    """4.3: all but SendTargets and the logout is rejected."""
    for bad in (lambda c: c.command_pdu(TUR), lambda c: pdu(TMF, FINAL | LUN_RESET, immediate=True, itt=5, w=(NONE, c.cmd_sn, 0)),
                lambda c: c.data_out_pdu(5, NONE, b"d" * 512)):
        with wrong(Connection()) as c:
            c.login(name=NAME, isid=ISID + b"\x33")
            c.send(bad(c))
            a = c.receive()
            assert a is None or a.opcode == REJECT and a.reason in (4, 9)


# --- a third party -------------------------------------------------------------------------------------------------------------


CDBS = """00 03000000ff00 1200000060 120100ff00 128000 1a003f00ff00 5a003f00000000ff00 4d004200000000ff00 25 9e1000000000000000000000002000
28000000000000000800 a80000000000000000080000 88000000000000000000000000080000 35 9100 a00000000000000001000000 a30a00000000000002000000
a30c00000000000020000000 a30d000000000000010000 5e000000000000ff00 5e010000000000ff00 5e020000000000ff00 34000000000000000800 1b0000000100
9e1200000000000000000000002000 3c0200000000000040 2f000000000000000800 1e 1d04 1c 37000000000000000800""".split()


def test_commands(shared):
    """Commands of all kinds, so that tshark reads them."""
    for cdb in CDBS:
        cdb = bytes.fromhex(cdb)
        length = {0: 6, 1: 10, 2: 10, 4: 16, 5: 12}[cdb[0] >> 5]
        status, _, a = shared.scsi(cdb + bytes(length - len(cdb)), read=4096)
        assert status in (0, 2, 4), a
    for cdb, n in ((write10(0, 8), 4096), (bytes.fromhex("aa000000000000000008 0000"), 4096), (bytes.fromhex("8a000000000000000000000000080000"), 4096),
                   (bytes.fromhex("41000000000000000800"), 512), (bytes.fromhex("42000000000000001800"), 24)):
        status, _, a = shared.scsi(cdb, write=bytes(n))
        assert status in (0, 2), a
    for function in (1, 2, 3, 4, 5, 6, 8, 9):
        assert shared.tmf(function, ref_itt=0x999) in (0, 1, 4, 5)
    shared.scsi(TUR)


def test_chap(target):
    """A login with CHAP in both directions, so that tshark reads it."""
    import test_chap
    t = lio.IscsiTarget(lio.ramdisk("chap", 4 << 20, hba=8), iqn="iqn.2003-01.org.example:chap", acls=[test_chap.NAME])
    t.attrib("authentication", 1)
    test_chap.set_auth(t.path / "acls" / test_chap.NAME / "auth", own_name=test_chap.TARGET, own_secret=test_chap.OWN)
    with test_chap.Login(t) as login:
        login.challenge("7")
        got = login.prove(CHAP_I="17", CHAP_C="0x" + "5a" * 24)
        assert got["CHAP_R"] == login.digest(test_chap.OWN, 17, b"\x5a" * 24)
        login.finish()


def test_tshark_reads_the_same(wire):
    """No frame that is meant to be right has an error or a malformed PDU, and each field reads as initiator.py has it."""
    wire.capture.stop()
    pdus = sum(len(s.sent) + len(s.received) for s in wire.streams)
    start = time.monotonic()
    frames = capture.dissect(wire.capture.file)
    forged = copy.deepcopy(frames)
    said = capture.compare(frames, wire.streams)
    print(f"{len(wire.streams)} connections, {pdus} PDUs, dissected in {time.monotonic() - start:.1f} s")
    assert not said, "\n".join(said[:40])
    assert pdus > 500
    stream = next(s for s in wire.streams if len(s.received) > 5)
    stream.received[5] = stream.received[5][:27] + bytes([stream.received[5][27] ^ 1]) + stream.received[5][28:]
    assert capture.compare(forged, wire.streams), "what is not so would not have been seen"
