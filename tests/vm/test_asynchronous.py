"""Asynchronous messages (RFC 7143, 11.9) by which the target asks for a logout (`attrib/async_logout`) or a negotiation
(`attrib/async_negotiation`), or tells of SCSI events (`attrib/async_scsi`). Those of lost connections and ends of sessions: test_sessions."""
# vm: --timeout 900
# group: negotiation
import errno
import json
import os
import re
import select
import struct
import threading
import time

import initiator
import judge
import lio
import pytest
import storage
from initiator import ASYNC, DATA_IN, FINAL, LOGOUT_RESPONSE, NONE, READ, REJECT, SCSI_RESPONSE, TEXT_RESPONSE, WRITE
from legs import NAME, TUR, Session
from test_negotiation import text_pdu

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the stock modules send none")


@pytest.fixture(autouse=True)
def judged():
    """The target kept the rules of judge.py, which knows no numbers that several connections share."""
    with judge.Judge() as j:
        yield
    said = [line for line in j.complaints() if "was not sent yet" not in line]
    assert not said, "\n".join(said)


OTHER = "iqn.2024-01.org.example:other"
SCSI, LOGOUT, SESSION, NEGOTIATE = 0, 1, 3, 4
READ_4K = bytes.fromhex("28000000000000000800")
LUNS_CHANGED, STATE_CHANGED, PREEMPTED = (0x3F, 0x0E), (0x2A, 0x06), (0x2A, 0x05)
GONE = 0x41  # a status that SCSI has not


@pytest.fixture
def target():
    t = lio.IscsiTarget(lio.ramdisk(), acls=(NAME, OTHER, lio.initiator_name()))
    lio.write(t.path / "param/MaxConnections", 4)
    return t


def following(c, timeout=10):
    """The next PDU that is no ping, None when the target has closed the connection."""
    end = time.monotonic() + timeout * lio.SLOW
    while (a := c.receive(timeout)) is not None and c.pong(a):
        assert time.monotonic() < end, "nothing but pings"
    return a


def told(c, timeout=10):
    """The next PDU, an asynchronous message: its event, its three parameters, its logical unit, its sense data's ASC and ASCQ."""
    a = following(c, timeout)
    assert a is not None and a.opcode == ASYNC and a.itt == NONE, a
    if not a.data:
        return a.bhs[36], struct.unpack(">3H", a.bhs[38:44]), None, None
    assert a.sense[0] & 0x7F == 0x70 and a.sense[2] & 0xF == 6
    return a.bhs[36], struct.unpack(">3H", a.bhs[38:44]), a.bhs[9], (a.sense[12], a.sense[13])


def asked_to_go(c, within):
    """The next PDU asks for a logout within so many seconds, or what is left of them."""
    event, (one, two, left), lun, _ = told(c)
    assert (event, one, two, lun) == (LOGOUT, 0, 0, None) and within - 5 <= left <= within, (event, one, two, left)


def until_ping(c):
    """What comes before the answer to a ping."""
    itt, came = c.itt(), []
    c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=itt, w=(NONE, *c.numbers(True))))
    while (a := following(c)).itt != itt:
        came.append(a)
    return came


def in_background(f, *args):
    t = threading.Thread(target=f, args=args)
    t.start()
    return t


def log_out(leg, reason=0):
    """Logs the session out, or the connection; gives what came before the answer."""
    itt, came = leg.log_out(reason, leg.cid), []
    while (a := leg.receive()).itt != itt:
        if not leg.pong(a):
            came.append(a)
    assert (a.opcode, a.response) == (LOGOUT_RESPONSE, 0)
    leg.close()
    return came


def acl_goes(target):
    for m in list((target.path / "acls" / NAME).glob("lun_*")):
        for link in lio.links(m):
            link.unlink()
        m.rmdir()
    (target.path / "acls" / NAME).rmdir()


ENDS = {"disabled": lambda t: t.enable(False), "ACL removed": acl_goes,
        "depth": lambda t: lio.write(t.path / "acls" / NAME / "cmdsn_depth", 16),
        "group redirects": lambda t: t.attrib("login_redirect", "10.0.0.7:3261"),
        "ACL redirects": lambda t: lio.write(t.path / "acls" / NAME / "attrib/login_redirect", "10.0.0.7,permanent")}


@pytest.mark.parametrize("how", ENDS)
def test_asked_to_log_out(target, how):
    """Each connection is; commands are served until then, and nothing is dropped."""
    target.attrib("async_logout", 60)
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        end = in_background(ENDS[how], target)
        for leg in a, b:
            asked_to_go(leg, 60)
        if how != "ACL removed":  # its logical units go first
            assert b.scsi(TUR)[0] == 0
        if how == "disabled":
            assert end.is_alive()
        # One connection for itself, the rest with the session.
        assert not log_out(b, 1)
        assert not log_out(a)
        end.join(30)
        assert not end.is_alive()
    lio.wait_for(lambda: lio.read(target.path / "sessions") == "")


@pytest.mark.parametrize("how", ENDS)
def test_who_does_not_log_out(target, how):
    """The session ends with its time."""
    target.attrib("async_logout", 2)
    with Session(target) as s:
        a, b, *_ = s.with_legs(2)
        start = time.monotonic()
        end = in_background(ENDS[how], target)
        for leg in a, b:
            asked_to_go(leg, 2)
        for leg in a, b:
            event, parameters, *_ = told(leg)
            assert event == SESSION and parameters[0] == 0
            assert leg.ended() == []
        # It had its time: the end may be seen a little before, as clocks are rounded.
        assert time.monotonic() - start > 1.9
        end.join(30)
        assert not end.is_alive()
    lio.wait_for(lambda: lio.read(target.path / "sessions") == "")


def test_asked_while_it_logs_another_out(target):
    """A connection that waits for the end of another one hears of it then."""
    lio.modprobe("dm_mod", "dm_delay")
    with storage.dm("logout", f"0 65536 delay {lio.loop_device(32 << 20)} 0 3000") as dev:
        slow = lio.IscsiTarget(lio.iblock(dev=dev), iqn="iqn.2003-01.org.example:slow", portals=("127.0.0.1:3261",), acls=(NAME,))
        lio.write(slow.path / "param/MaxConnections", 4)
        slow.attrib("async_logout", 60)
        with Session(slow) as s:
            a, b, *_ = s.with_legs(2)
            a.hears_of_others = True
            b.start(READ_4K, 4096, READ)
            b.quiet()
            itt = a.log_out(1, 2)
            assert b.ended() == []  # so the target has read the request, which its command holds up
            slow.attrib("login_redirect", "10.0.0.7")
            assert a.answer(itt).response == 0
            assert told(a)[0] == LOGOUT
            assert not log_out(a)
        slow.delete()


def test_who_is_not_asked(target):
    """Nobody by default, nor where another initiator's logins are redirected, or nobody's any more; a cold reset does not wait."""
    acl = target.path / "acls"
    with initiator.session(target, name=NAME) as c:
        target.attrib("login_redirect", "10.0.0.7")
        target.attrib("login_redirect", "NULL")
        target.attrib("async_logout", 1)
        target.attrib("login_redirect", "NULL")
        lio.write(acl / OTHER / "attrib/login_redirect", "10.0.0.7")
        lio.write(acl / NAME / "attrib/login_redirect", "")
        time.sleep(1.5)
        lio.write(acl / OTHER / "attrib/login_redirect", "")
        assert c.ping() and c.scsi(TUR)[0] == 0
        with Session(target, name=OTHER) as d:
            itt = c.itt()
            c.send(initiator.pdu(initiator.TMF, FINAL | initiator.COLD_RESET, immediate=True, itt=itt, w=(NONE, *c.numbers(True), 0)))
            event, *_ = told(d.legs[0])
            assert event == SESSION and d.legs[0].ended() == []
    target.attrib("async_logout", 0)
    with initiator.session(target, name=NAME) as c:
        target.enable(False)
        assert told(c)[0] == SESSION
    for name, most in (("async_logout", 60), ("async_negotiation", 3600), ("async_scsi", 1)):
        target.attrib(name, most)
        assert target.attrib(name) == str(most)
        for wrong in most + 1, -1, "x", "":
            with lio.refused(errno.EINVAL, errno.ERANGE):
                target.attrib(name, wrong)
        target.attrib(name, 0)


def listed(target):
    return json.loads(lio.read(target.path / "sessions").splitlines()[0])


def say(c, raw=b"", ttt=NONE, flags=FINAL):
    c.send(text_pdu(c, raw, ttt, flags))
    return following(c)


def write_at_once(c, n):
    """Writes n bytes, all of them immediate; the status, or GONE where the PDU is too long."""
    itt = c.start(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, n // 512, 0), n, WRITE, bytes(n))
    a = following(c)
    if a is None or a.opcode == REJECT:
        return GONE
    assert a.itt == itt, a
    return a.status


def test_negotiation_is_asked_for(target):
    param = target.path / "param"
    for key, value in (("MaxRecvDataSegmentLength", 16384), ("FirstBurstLength", 262144), ("MaxBurstLength", 262144), ("TargetAlias", "old")):
        lio.write(param / key, value)
    target.attrib("async_negotiation", 60)
    keys = {"FirstBurstLength": 262144, "MaxBurstLength": 262144, "ImmediateData": "Yes"}
    with initiator.session(target, name=NAME, keys=keys) as c:
        assert c.keys["MaxRecvDataSegmentLength"] == "16384" and write_at_once(c, 16384) == 0
        # What is as it was, and what only a login can change, asks nobody.
        for key, value in (("MaxRecvDataSegmentLength", 16384), ("TargetAlias", "old"), ("MaxBurstLength", 131072)):
            lio.write(param / key, value)
        assert c.ping()
        lio.write(param / "MaxRecvDataSegmentLength", 65536)
        assert told(c) == (NEGOTIATE, (0, 0, 60), None, None)
        # Until then, all is as before. An empty text is enough (11.9.1).
        assert listed(target)["MaxRecvDataSegmentLength"] == 16384
        a = say(c)
        assert (a.opcode, a.flags, a.ttt) == (TEXT_RESPONSE, FINAL, NONE)
        assert a.text == {"MaxRecvDataSegmentLength": "65536", "TargetAlias": "old"}
        assert listed(target)["MaxRecvDataSegmentLength"] == 65536
        assert write_at_once(c, 65536) == 0
        # It was said.
        assert say(c).data == b""
        # In a sequence of several requests once, beside the answer to what the initiator asks for.
        lio.write(param / "TargetAlias", "new, é")
        assert told(c)[0] == NEGOTIATE
        a = say(c, b"X-org.example.unknown=1\0", flags=0)
        assert a.flags == 0 and a.text == {"X-org.example.unknown": "NotUnderstood", "MaxRecvDataSegmentLength": "65536", "TargetAlias": "new, é"}
        # Another change meanwhile is for the next one.
        lio.write(param / "MaxRecvDataSegmentLength", 131072)
        a = say(c, b"SendTargets=\0", ttt=a.ttt)
        assert a.flags == FINAL and set(a.text) == {"TargetName", "TargetAddress"}
        assert told(c)[0] == NEGOTIATE
        # A sequence that is given up is none: the next one has all.
        a = say(c, flags=0)
        assert "131072" in a.text.values()
        assert say(c, b"Nonsense=1\0", ttt=a.ttt).opcode == REJECT
        assert listed(target)["MaxRecvDataSegmentLength"] == 65536
        a = say(c, flags=0)
        assert "131072" in a.text.values()
        assert "131072" in say(c).text.values()  # begins anew
        assert write_at_once(c, 131072) == 0
        # Less: what is on its way may be longer still.
        lio.write(param / "MaxRecvDataSegmentLength", 12288)
        assert told(c)[0] == NEGOTIATE
        assert say(c).text["MaxRecvDataSegmentLength"] == "12288" and listed(target)["MaxRecvDataSegmentLength"] == 12288
        assert write_at_once(c, 131072) == 0
        # Nobody has ever said more.
        assert write_at_once(c, 131584) == GONE


def test_who_comes_later_is_not_asked(target):
    target.attrib("async_negotiation", 60)
    with Session(target) as s:
        a = s.legs[0]
        lio.write(target.path / "param/TargetAlias", "another")
        assert told(a)[0] == NEGOTIATE and say(a).text["TargetAlias"] == "another"
        b = s.add(2)
        assert b.scsi(TUR)[0] == 0
        b.quiet()
        a.quiet()


def test_negotiation_that_takes_its_time(target):
    """What was told in it holds when it ends, however late; nobody is asked for one that goes on."""
    target.attrib("async_negotiation", 3)
    lio.write(target.path / "param/MaxRecvDataSegmentLength", 16384)
    keys = {"FirstBurstLength": 262144, "MaxBurstLength": 262144, "ImmediateData": "Yes"}
    lio.write(target.path / "param/FirstBurstLength", 262144)
    with initiator.session(target, name=NAME, keys=keys) as c:
        lio.write(target.path / "param/MaxRecvDataSegmentLength", 65536)
        assert told(c)[0] == NEGOTIATE
        a = say(c, flags=0)
        while a.opcode == ASYNC:  # it took longer than that to begin
            a = following(c)
        assert "65536" in a.text.values()
        time.sleep(10)  # more than it is asked for three times
        assert silent(c)
        assert say(c, ttt=a.ttt).flags == FINAL
        assert write_at_once(c, 65536) == 0 and listed(target)["MaxRecvDataSegmentLength"] == 65536


def test_negotiation_is_asked_for_again(target, klog):
    """Three times, then the log has it; the session goes on."""
    target.attrib("async_negotiation", 1)
    with initiator.session(target, name=NAME) as c:
        lio.write(target.path / "param/TargetAlias", "another")
        for _ in range(3):
            assert told(c) == (NEGOTIATE, (0, 0, 1), None, None)
        lio.wait_for(lambda: klog.has("no negotiation, though it was asked for"))
        assert c.ping() and c.scsi(TUR)[0] == 0
        assert say(c).data == b""


def silent(c):
    """Nothing comes but the answer to a ping."""
    return c.ping()


def test_scsi_events(target):
    """Each once, on one connection, with its logical unit; the unit attention condition comes as well."""
    store = lio.ramdisk("rd1", 4 << 20)
    target.attrib("async_scsi", 1)
    with Session(target) as s, initiator.session(target, name=OTHER) as other:
        a, b, *_ = s.with_legs(2)

        def event(n=1):
            """What one of the connections hears, once it does; the other hears nothing."""
            if n:
                lio.wait_for(lambda: any(leg.given_back or leg.buffer for leg in (a, b)) or select.select([a.sock, b.sock], [], [], 0)[0])
            time.sleep(0.2 * lio.SLOW)
            heard = []
            for leg in a, b:
                leg.given_back += until_ping(leg)
                while leg.given_back:
                    heard.append(told(leg))
            return heard

        target.lun(store, 7)
        assert event(0) == []  # it is not theirs yet
        mapped = target.path / "acls" / NAME / "lun_7"
        mapped.mkdir()
        (mapped / "lun").symlink_to(target.path / "lun/lun_7")
        assert event() == [(SCSI, (0, 0, 0), 0, LUNS_CHANGED)]
        assert silent(other)
        status, _, last = b.scsi(TUR)
        assert status == 2 and tuple(last.sense[12:14]) == LUNS_CHANGED
        # What changes for all, of the logical unit that it is about.
        while a.scsi(TUR, lun=7)[0]:
            pass
        group = store.path / "alua/default_tg_pt_gp"
        lio.write(group / "alua_access_state", 1)
        [(what, parameters, lun, sense)] = event()
        assert (what, parameters, lun) == (SCSI, (0, 0, 0), 7) and sense == STATE_CHANGED
        lio.write(group / "alua_access_state", 0)
        assert [x[3] for x in event()] == [STATE_CHANGED]
        # Registrations that another initiator takes away: of the one alone who has lost them.
        for c, lun, key in ((a, 0, 1), (other, 0, 2)):
            while c.scsi(TUR, lun=lun)[0]:
                pass
            assert c.scsi(bytes.fromhex("5f000000000000001800"), write=bytes(8) + key.to_bytes(8, "big") + bytes(8), lun=lun)[0] == 0
        assert event(0) == []
        preempt = (2).to_bytes(8, "big") + (1).to_bytes(8, "big") + bytes(8)
        assert other.scsi(bytes.fromhex("5f040500000000001800"), write=preempt)[0] == 0
        [(_, _, lun, sense)] = event()
        assert lun == 0 and sense == PREEMPTED
        assert silent(other)
        # It goes.
        (mapped / "lun").unlink()
        mapped.rmdir()
        assert event() == [(SCSI, (0, 0, 0), 0, LUNS_CHANGED)]
        target.attrib("async_scsi", 0)
        target.remove_lun(7)
        assert event(0) == [] and silent(other)


def test_scsi_events_of_who_does_not_read(target):
    """As many wait as other responses may, a thousand at most; the rest is in the unit attention conditions."""
    target.attrib("async_scsi", 1)
    state = lio.CFS / "core/rd_mcp_0/rd0/alua/default_tg_pt_gp/alua_access_state"
    with initiator.session(target, name=NAME) as c:
        # All that TCP takes, and more.
        for _ in range(60):
            c.start(bytes.fromhex("28000000000000080000"), 1 << 20, READ)
        lio.pause(1)
        for n in range(1500):
            lio.write(state, n % 2)
        with initiator.session(target, name=OTHER) as other:
            assert other.scsi(TUR)[0] == 0
        came = until_ping(c)
        # One of them may report the condition.
        assert sum(a.opcode == SCSI_RESPONSE or a.opcode == DATA_IN and a.flags & 1 for a in came) == 60
        assert 0 < sum(a.opcode == ASYNC for a in came) < 1100


# --- open-iscsi -------------------------------------------------------------------------------------------------------


def test_open_iscsi_looks_again(target):
    """Where its logical units change it has the kernel look at the disks that it has: it sees a new size without being told to."""
    dev = lio.loop_device(8 << 20)
    target.lun(lio.iblock(dev=dev), 1)
    mapped = [target.path / "acls" / lio.initiator_name() / f"lun_{n}" for n in (1, 2)]
    for m in mapped:
        m.mkdir()
    (mapped[0] / "lun").symlink_to(target.path / "lun/lun_1")
    disk = lio.login(target)[1]
    assert lio.blocks(disk) == 8 << 20
    target.attrib("async_scsi", 1)
    os.truncate("/tmp/loop0.img", 12 << 20)
    lio.run("losetup", "-c", dev)
    (mapped[1] / "lun").symlink_to(target.path / "lun/lun_1")
    lio.wait_for(lambda: lio.blocks(disk) == 12 << 20, 30)


def portal_now():
    said = lio.run("iscsiadm", "-m", "session", "-P", "1", check=False).stdout
    at = re.search(r"Current Portal: (\S+),", said)
    return at and at[1]


def test_open_iscsi_moves(target):
    """Its session is moved to another portal group under verified I/O, which notices nothing."""
    store = lio.CFS / "core/rd_mcp_0/rd0"
    other = lio.IscsiTarget(portals=("127.0.0.1:3261",), tag=2)
    lun = other.path / "lun/lun_0"
    lun.mkdir()
    (lun / "store").symlink_to(store)
    other.acl(lio.initiator_name(), (0,))
    other.attrib("generate_node_acls", 0)
    disk = lio.login(target)[0]
    assert portal_now() == "127.0.0.1:3260"
    done = []
    t = in_background(lambda: done.append(lio.fio(disk, seconds=20, timeout=200, rw="randwrite", bs="16k", verify="crc32c", size="16m")))
    time.sleep(3)
    target.attrib("async_logout", 30)
    target.attrib("login_redirect", "127.0.0.1:3261")
    lio.wait_for(lambda: portal_now() == "127.0.0.1:3261", 60)
    t.join()
    assert done
    lio.wait_for(lambda: lio.read(target.path / "sessions") == "" and lio.read(other.path / "sessions"))
    lio.logout()


def test_open_iscsi_negotiates(target):
    """It logs in again, and has what is new."""
    lio.login(target)
    agreed = listed(target)
    target.attrib("async_negotiation", 60)
    lio.write(target.path / "param/MaxRecvDataSegmentLength", 32768)

    def has_new():
        """a session with the new length"""
        now = lio.read(target.path / "sessions")
        return now and json.loads(now.splitlines()[0])["MaxRecvDataSegmentLength"] == 32768

    lio.wait_for(has_new, 60)
    assert agreed["MaxRecvDataSegmentLength"] != 32768
    assert lio.blocks(lio.iscsi_disks(target)[0]) == 32 << 20
