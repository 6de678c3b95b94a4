"""Asymmetric logical unit access (SPC-4, 5.15.2): states, transitions and groups, as an initiator, an administrator and targetcli see
them; fail-over by the kernel's own dm-multipath and its ALUA handler."""
# vm: --timeout 1200
import contextlib
import errno
import json
import os
import random
import shutil
import threading
import time

import initiator
import lio
import pytest
from lio import read, refused, wait_for, write
from sgio import Disk, field, say
from storage import dm

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
SERIAL = "11111111-2222-3333-4444-555555555555"
A, B = "iqn.2003-01.org.example:a", "iqn.2003-01.org.example:b"
PORTALS = ("127.0.0.1:3260", "127.0.0.1:3261")
OPTIMIZED, NONOPTIMIZED, STANDBY, UNAVAILABLE, DEPENDENT, OFFLINE, TRANSITION = 0, 1, 2, 3, 4, 14, 15
CHANGED, FAILED = "6/2a06", "6/2a07"
REFUSED = {STANDBY: "2/040b", UNAVAILABLE: "2/040c", OFFLINE: "2/0412", TRANSITION: "2/040a"}
TUR, INQUIRY, LUNS = bytes(6), bytes.fromhex("120000006000"), bytes.fromhex("a00000000000000010000000")
SENSE, MODE, CAPACITY = bytes.fromhex("030000001200"), bytes.fromhex("1a003f00ff00"), bytes.fromhex("25000000000000000000")
CAPACITY16 = bytes.fromhex("9e1000000000000000000000002000 00")
READ, WRITE = bytes.fromhex("28000000000000000800"), bytes.fromhex("2a000000000000000800")
SYNC, OPCODES = bytes.fromhex("35000000000000000000"), bytes.fromhex("a30c00000000000010000000")
DATA = b"alua" * 1024


def rtpg(extended=False, length=4096):
    return bytes([0xA3, 0x2A if extended else 0x0A, 0, 0, 0, 0]) + length.to_bytes(4, "big") + b"\0\0"


def stpg_list(*changes):
    return bytes(4) + b"".join(bytes([state, 0]) + target.to_bytes(2, "big") for target, state in changes)


def stpg(length):
    return b"\xa4\x0a\0\0\0\0" + length.to_bytes(4, "big") + b"\0\0"


class Pair:
    """A device behind two target port groups: group 1 with the port A, group 2 with the port B."""

    def __init__(self, store=None, tag=1):
        self.store = store or lio.ramdisk()
        write(self.store.path / "wwn/vpd_unit_serial", SERIAL)
        self.groups = [self.group(f"group{n}", n) for n in (1, 2)]
        self.targets = [lio.IscsiTarget(self.store, iqn=iqn, portals=(portal,)) for iqn, portal in zip((A, B), PORTALS)]
        for target, name in zip(self.targets, ("group1", "group2")):
            write(target.path / "lun/lun_0/alua_tg_pt_gp", name)

    def group(self, name, number):
        path = self.store.path / "alua" / name
        path.mkdir()
        write(path / "tg_pt_gp_id", number)
        return path

    def state(self, group, state=None):
        if state is None:
            return int(read(self.groups[group] / "alua_access_state"))
        write(self.groups[group] / "alua_access_state", state)

    def set(self, group, name, value):
        write(self.groups[group] / name, value)

    @contextlib.contextmanager
    def nexus(self, port=0, who=1):
        with initiator.session(self.targets[port], name=f"iqn.2024-01.org.example:i{who}", isid=b"\x80\0\0\0\x09" + bytes([who])) as c:
            quiet(c)
            yield c


def attentions(c, lun=0):
    """All unit attentions that wait, taken by REQUEST SENSE, which every state lets through."""
    seen = []
    while True:
        status, data, _ = c.scsi(SENSE, read=18, lun=lun)
        assert status == 0
        if say(data) == "0/0000":
            return seen
        seen.append(say(data))


quiet = attentions


def answer(c, cdb, read=0, write=b"", lun=0):
    """"" or the sense."""
    status, _, a = c.scsi(cdb, read=read, write=write, lun=lun)
    return say(a.sense) if status == 2 else "" if status == 0 else f"status {status:#x}"


def groups(c, extended=False):
    """REPORT TARGET PORT GROUPS: {group: (state, preferred, supported, status, ports)}. Unit attentions that wait are lost."""
    quiet(c)
    status, data, _ = c.scsi(rtpg(extended), read=4096)
    assert status == 0
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    at, found = 8 if extended else 4, {}
    if extended:
        assert data[4] == 0x10
        found["time"] = data[5]
    while at < len(data):
        d = data[at : at + 8]
        ports = [int.from_bytes(data[at + 8 + 4 * n + 2 : at + 12 + 4 * n], "big") for n in range(d[7])]
        found[int.from_bytes(d[2:4], "big")] = (d[0] & 15, d[0] >> 7, d[1], d[5], ports)
        at += 8 + 4 * d[7]
    return found


@pytest.fixture
def pair():
    return Pair()


def test_what_a_port_says_of_its_group(pair):
    with pair.nexus(0) as a, pair.nexus(1) as b:
        for c, number in ((a, 1), (b, 2)):
            data = c.scsi(bytes.fromhex("12018300ff00"), read=255)[1]
            assert b"\x51\x95\0\4\0\0" + number.to_bytes(2, "big") in data, "target port group designator"
            assert c.scsi(INQUIRY, read=96)[1][5] & 0x30 == 0x30
        rtpis = [int(read(t.path / "rtpi"), 0) for t in pair.targets]
        said = groups(a)
        assert said == groups(b) and set(said) == {1, 2}, "the default group has no ports"
        assert [said[n][:4] for n in (1, 2)] == [(OPTIMIZED, 0, 0xCF, 0)] * 2
        assert [said[n][4] for n in (1, 2)] == [[rtpi] for rtpi in rtpis]
        pair.set(1, "preferred", 1)
        pair.set(0, "implicit_trans_secs", 7)
        pair.set(1, "implicit_trans_secs", 9)
        assert groups(a)[2][1] == 1 and groups(a)[1][1] == 0
        assert groups(a, extended=True)["time"] == 7 and groups(b, extended=True)["time"] == 9
        # Shorter than the answer: its length says how long it is.
        status, data, _ = a.scsi(rtpg(length=12), read=12)
        assert status == 0 and len(data) == 12 and int.from_bytes(data[:4], "big") == 24
        for kind, tpgs in ((1, 0x10), (2, 0x20), (0, 0), (3, 0x30)):
            pair.set(0, "alua_access_type", kind)
            assert a.scsi(INQUIRY, read=96)[1][5] & 0x30 == tpgs and b.scsi(INQUIRY, read=96)[1][5] & 0x30 == 0x30


ALWAYS = [(INQUIRY, 96), (LUNS, 16), (SENSE, 18), (rtpg(), 4096)]
TOLD = [(MODE, 255), (CAPACITY, 8), (CAPACITY16, 32)]
MEDIUM = [(TUR, 0), (READ, 4096), (SYNC, 0)]


@ours
@pytest.mark.parametrize("state", [OPTIMIZED, NONOPTIMIZED, STANDBY, UNAVAILABLE, OFFLINE, TRANSITION])
def test_commands_in_each_state(pair, state):
    """SPC-4, 5.15.2.4 and 5.15.2.5. READ CAPACITY in standby, as with the stock modules."""
    pair.set(0, "nonop_delay_msecs", 10)
    no_op = stpg_list((2, OPTIMIZED))
    with pair.nexus(0) as a, pair.nexus(1) as b:
        assert answer(a, WRITE, write=DATA) == ""
        pair.state(0, state)
        assert quiet(a) == quiet(b) == ([CHANGED] if state != OPTIMIZED else [])
        refusal = REFUSED.get(state, "")
        for cdb, length in ALWAYS:
            assert answer(a, cdb, read=length) == "", cdb.hex()
        # PERIPHERAL QUALIFIER 001b: the unit cannot be accessed through this port now.
        for page in ("120000006000", "12018300ff00"):
            data = [c.scsi(bytes.fromhex(page), read=96)[1][0] for c in (a, b)]
            assert data == [0x20 if state == UNAVAILABLE else 0, 0]
        for cdb, length in TOLD + [(OPCODES, 4096)]:
            assert answer(a, cdb, read=length) == ("" if state == STANDBY else refusal), cdb.hex()
        for cdb, length in MEDIUM:
            assert answer(a, cdb, read=length) == refusal, cdb.hex()
        assert answer(a, WRITE, write=bytes(4096)) == refusal
        assert answer(a, stpg(len(no_op)), write=no_op) == ("" if state in (STANDBY, UNAVAILABLE) else refusal)
        assert groups(b)[1][0] == state
        # Nothing of what was refused was done, and the other port is as it was.
        assert b.scsi(READ, read=4096)[1] == (bytes(4096) if not refusal else DATA)
        assert answer(b, TUR) == ""


@ours
def test_attentions(pair):
    """An implicit change is told to every nexus of the logical unit; an explicit one to all but the one that asked (SPC-4, 5.15.2.8)."""
    with pair.nexus(0, 1) as a, pair.nexus(0, 2) as a2, pair.nexus(1, 1) as b:
        pair.state(0, STANDBY)
        assert [quiet(c) for c in (a, a2, b)] == [[CHANGED]] * 3
        pair.state(0, STANDBY)
        assert [quiet(c) for c in (a, a2, b)] == [[]] * 3, "nothing has changed"
        change = stpg_list((1, OPTIMIZED), (2, NONOPTIMIZED))
        assert answer(a, stpg(len(change)), write=change) == ""
        assert [quiet(c) for c in (a, a2, b)] == [[], [CHANGED], [CHANGED]]
        assert groups(a)[1][0] == OPTIMIZED and groups(a)[2][0] == NONOPTIMIZED and groups(a)[1][3] == 1
        assert read(pair.groups[0] / "alua_access_status") == "Altered by Explicit STPG"
        pair.state(0, UNAVAILABLE)
        assert read(pair.groups[0] / "alua_access_status") == "Altered by Implicit ALUA" and groups(b)[1][3] == 2
        quiet(a)
        # Held in a transition, and back: it failed.
        pair.state(1, TRANSITION)
        assert quiet(a) == [CHANGED]
        pair.state(1, NONOPTIMIZED)
        assert quiet(a) == [FAILED] and FAILED in quiet(b)
        # Another group: other designators.
        quiet(a2)
        write(pair.targets[0].path / "lun/lun_0/alua_tg_pt_gp", "group2")
        assert quiet(a) == quiet(a2) == ["6/3f03"]
        assert quiet(b) == []


@ours
def test_wrong_lists(pair):
    with pair.nexus() as a:
        for change, sense, where in [
            (b"", "", None), (bytes(4), "", None), (bytes(3), "5/1a00", None), (bytes(7), "5/1a00", None),
            (stpg_list((1, 5)), "5/2600", (False, 4, 3)), (stpg_list((1, TRANSITION)), "5/2600", (False, 4, 3)),
            (stpg_list((1, DEPENDENT)), "5/2600", (False, 4, 3)), (stpg_list((9, STANDBY)), "5/2600", (False, 6, None)),
            (stpg_list((1, STANDBY), (9, STANDBY)), "5/2600", (False, 10, None)), (stpg_list((99, OFFLINE)), "5/2600", (False, 6, None)),
            (stpg_list((1, STANDBY), (1, OPTIMIZED)), "5/2600", (False, 10, None)),
        ]:
            status, _, r = a.scsi(stpg(len(change)), write=change)
            assert (say(r.sense) if status else "") == sense, change.hex()
            if where:
                assert field(r.sense) == where, change.hex()
        assert pair.state(0) == pair.state(1) == OPTIMIZED, "nothing was done by a list with an error in it"
        status, _, r = a.scsi(stpg(1 << 20))
        assert say(r.sense) == "5/2400" and field(r.sense) == (True, 6, None)
        pair.set(1, "alua_support_standby", 0)
        change = stpg_list((2, STANDBY))
        assert answer(a, stpg(8), write=change) == "5/2600"
        assert groups(a)[2][2] == 0xCB
        pair.set(1, "alua_access_type", 1)
        assert answer(a, stpg(8), write=stpg_list((2, UNAVAILABLE))) == "5/2600", "the administrator's alone"
        pair.set(0, "alua_access_type", 1)
        assert answer(a, stpg(8), write=stpg_list((1, STANDBY))) == "5/2400", "there is no such service action"
        assert a.scsi(b"\xa3\x0c\2\xa4\0\x0a\0\0\0\xff\0\0", read=255)[1][1] & 7 == 1
        pair.set(0, "alua_access_type", 2)
        with refused(errno.EINVAL):
            pair.state(0, STANDBY)


@ours
def test_offline_ports(pair):
    lun = pair.targets[0].path / "lun/lun_0"
    with pair.nexus(0) as a, pair.nexus(1) as b:
        port = groups(a)[1][4][0]
        write(lun / "alua_tg_pt_offline", 1)
        assert quiet(a) == quiet(b) == [CHANGED]
        assert answer(a, TUR) == answer(a, MODE, read=255) == REFUSED[OFFLINE] and answer(a, INQUIRY, read=96) == "" and answer(b, TUR) == ""
        assert "Secondary Access State: Offline" in read(lun / "alua_tg_pt_gp") and read(lun / "alua_tg_pt_status") == "2"
        write(lun / "alua_tg_pt_offline", 0)
        quiet(a), quiet(b)
        assert answer(a, TUR) == ""
        assert answer(b, stpg(8), write=stpg_list((port, OFFLINE))) == ""
        assert read(lun / "alua_tg_pt_offline") == read(lun / "alua_tg_pt_status") == "1"
        assert quiet(a) == [CHANGED] and quiet(b) == [] and answer(a, TUR) == REFUSED[OFFLINE]
        write(lun / "alua_tg_pt_status", 0)
        assert read(lun / "alua_tg_pt_status") == "0"


@ours
def test_transitions_take_their_time(pair):
    """Nobody waits for them, and nothing that goes meanwhile does."""
    pair.set(0, "trans_delay_msecs", 5000)
    with pair.nexus(0) as a, pair.nexus(1) as b:
        start = time.monotonic()
        assert answer(a, stpg(8), write=stpg_list((1, STANDBY))) == ""
        assert answer(a, TUR) == REFUSED[TRANSITION] and groups(b)[1][0] == TRANSITION
        assert answer(b, stpg(8), write=stpg_list((1, OPTIMIZED))) in (CHANGED, REFUSED[TRANSITION])
        with refused(errno.EBUSY):
            pair.state(0, OPTIMIZED)
        wait_for(lambda: pair.state(0) == STANDBY)
        assert time.monotonic() - start > 4.9
        quiet(a), quiet(b)
        assert answer(a, TUR) == REFUSED[STANDBY] and groups(a)[1][3] == 1
    pair.set(0, "trans_delay_msecs", 30000)
    pair.state(0, OPTIMIZED)
    assert pair.state(0) == TRANSITION
    start = time.monotonic()
    pair.groups[0].rmdir()
    lun = pair.targets[0].path / "lun/lun_0"
    assert read(lun / "alua_tg_pt_gp").startswith("TG Port Alias: default_tg_pt_gp\n")
    with pair.nexus(0) as a:
        assert answer(a, TUR) == ""
    # The device goes while a group of its is changing.
    pair.set(1, "trans_delay_msecs", 30000)
    pair.state(1, STANDBY)
    lio.clear()
    assert time.monotonic() - start < 20 * lio.SLOW
    wait_for(lambda: lio.module_refs("target_core_mod") <= len({"iscsi_target_mod", "tcm_loop", "target_core_file", "target_core_iblock"} & lio.loaded()))


@ours
def test_lists_of_two_initiators_at_once(pair):
    """Of two lists that are both answered with GOOD, one is done as a whole after the other: some path is left."""
    numbers = range(1, 201)
    pair.groups += [pair.group(f"group{n}", n) for n in numbers[2:]]
    # Each wants its own half, and begins at its own end.
    wanted = [[OPTIMIZED if (n <= 100) == own else STANDBY for n in numbers] for own in (True, False)]
    lists = [list(zip(numbers, states))[::step] for states, step in zip(wanted, (1, -1))]
    barrier = threading.Barrier(2)

    def let_in(c, changes):
        """The command has passed, and waits for its data: what sends that, and its tag."""
        quiet(c)
        data = stpg_list(*changes)
        itt = c.start(stpg(len(data)), len(data), initiator.WRITE)
        r2t = c.receive()
        assert r2t.opcode == initiator.R2T and r2t.itt == itt

        def go():
            barrier.wait(20 * lio.SLOW)
            c.answer_r2t(r2t, data)
        return threading.Thread(target=go), itt

    for target, who in zip(pair.targets, (1, 2)):
        target.patient(f"iqn.2024-01.org.example:i{who}")
    with contextlib.ExitStack() as stack:
        # Others are told of each change.
        cs = [stack.enter_context(pair.nexus(who % 2 == 0, who)) for who in range(1, 23)][:2]
        neither = stpg_list(*((n, NONOPTIMIZED) for n in numbers))
        for _ in range(20):
            quiet(cs[0])
            assert answer(cs[0], stpg(len(neither)), write=neither) == ""
            sent = [let_in(c, changes) for c, changes in zip(cs, lists)]
            for thread, _ in sent:
                thread.start()
            for thread, _ in sent:
                thread.join()
            assert [c.finish(itt)[0] for c, (_, itt) in zip(cs, sent)] == [0, 0]
            assert [pair.state(n - 1) for n in numbers] in wanted


@ours
def test_a_group_that_is_named_twice(pair):
    pair.set(0, "trans_delay_msecs", 500)
    with pair.nexus(0) as a:
        assert answer(a, stpg(12), write=stpg_list((1, STANDBY), (1, STANDBY))) == ""
        wait_for(lambda: pair.state(0) == STANDBY)


@ours
def test_nonoptimized_commands_are_delayed(pair):
    """Each of those that touch the medium, and side by side; an abort does not wait."""
    pair.state(0, NONOPTIMIZED)
    with pair.nexus(0) as a:
        def took(f):
            start = time.monotonic()
            f()
            return time.monotonic() - start

        assert 0.09 <= took(lambda: a.scsi(READ, read=4096)) < 9 * lio.SLOW
        pair.set(0, "nonop_delay_msecs", 10000)
        assert took(lambda: a.scsi(INQUIRY, read=96)) < 9 * lio.SLOW
        pair.set(0, "nonop_delay_msecs", 2000)
        tags = []

        def many():
            tags.extend(a.start(READ, 4096, initiator.READ) for _ in range(8))
            a.finish_all(tags)

        assert 2 <= took(many) < 12 * lio.SLOW, "they are delayed at the same time"
        pair.set(0, "nonop_delay_msecs", 10000)
        victim = a.start(READ, 4096, initiator.READ)
        time.sleep(0.2)
        assert took(lambda: a.tmf(initiator.ABORT_TASK, ref_itt=victim, timeout=30)) < 9 * lio.SLOW
        a.start(READ, 4096, initiator.READ)
        assert a.ping()
        start = time.monotonic()
        pair.targets[0].remove_lun(0)
        assert time.monotonic() - start < 9 * lio.SLOW
        pair.set(0, "nonop_delay_msecs", 0)


@ours
def test_lu_groups():
    """A change through one device reaches the same group of the others of its LU group (SPC-4, 5.15.2.1)."""
    stores = [lio.ramdisk(f"rd{n}", hba=n) for n in range(3)]
    for s in stores:
        (s.path / "alua/g").mkdir()
        write(s.path / "alua/g/tg_pt_gp_id", 5)
    target = lio.IscsiTarget(*stores)
    for n in range(3):
        write(target.path / f"lun/lun_{n}/alua_tg_pt_gp", "g")
    group = lio.CORE / "alua/lu_gps/both"
    group.mkdir()
    with refused(errno.ENODEV):
        write(stores[0].path / "alua_lu_gp", "both")  # it has no number
    write(group / "lu_gp_id", 3)
    with refused(errno.EINVAL):
        write(group / "lu_gp_id", 4)
    for s in stores[:2]:
        write(s.path / "alua_lu_gp", "both")
    assert read(stores[0].path / "alua_lu_gp") == "LU Group Alias: both\nLU Group ID: 3"
    assert read(group / "members").split() == ["rd_mcp_0/rd0", "rd_mcp_1/rd1"]
    assert read(lio.CORE / "alua/lu_gps/default_lu_gp/members").split() == ["rd_mcp_2/rd2"]
    with initiator.session(target) as c:
        for n in range(3):
            quiet(c, n)
            data = c.scsi(bytes.fromhex("12018300ff00"), read=255, lun=n)[1]
            assert b"\x01\x06\0\4\0\0" + (3 if n < 2 else 0).to_bytes(2, "big") in data, "logical unit group designator"
        write(stores[1].path / "alua/g/alua_access_state", STANDBY)
        assert [quiet(c, n) for n in range(3)] == [[CHANGED], [CHANGED], []]
        assert [answer(c, TUR, lun=n) for n in range(3)] == [REFUSED[STANDBY]] * 2 + [""]
        # On the same I_T nexus, but another logical unit.
        assert answer(c, stpg(8), write=stpg_list((5, OPTIMIZED)), lun=0) == ""
        assert [quiet(c, n) for n in range(3)] == [[], [CHANGED], []]
        assert [answer(c, TUR, lun=n) for n in range(3)] == [""] * 3
        # The next change has to wait until the last one has reached all of them, whoever asks for it.
        write(stores[1].path / "alua/g/trans_delay_msecs", 3000)
        assert answer(c, stpg(8), write=stpg_list((5, STANDBY))) == ""
        assert answer(c, stpg(8), write=stpg_list((5, OPTIMIZED))) == REFUSED[TRANSITION]
        with refused(errno.EBUSY):
            write(stores[0].path / "alua/g/alua_access_state", OPTIMIZED)
        states = lambda: [int(read(s.path / "alua/g/alua_access_state")) for s in stores[:2]]  # noqa: E731
        assert states() == [STANDBY, TRANSITION]
        wait_for(lambda: states() == [STANDBY, STANDBY])
        quiet(c)
        assert answer(c, stpg(8), write=stpg_list((5, OPTIMIZED))) == ""
        wait_for(lambda: states() == [OPTIMIZED, OPTIMIZED])
        write(stores[1].path / "alua_lu_gp", "default_lu_gp")
        assert read(group / "members") == "rd_mcp_0/rd0"
        group.rmdir()
        assert read(stores[0].path / "alua_lu_gp") == "LU Group Alias: default_lu_gp\nLU Group ID: 0"


@ours
def test_segments(pair):
    """lba_map: the logical block dependent state, REPORT REFERRALS, VPD B3 and the bit in VPD 86."""
    path = pair.store.path / "lba_map"
    referrals = bytes.fromhex("9e13") + bytes(8) + (4096).to_bytes(4, "big") + b"\0\0"
    with pair.nexus(0) as a, pair.nexus(1) as b:
        assert answer(a, referrals, read=4096) == "5/2400"
        text = "0 0\n0 999 1:O 2:S\n1000 1999 1:U 2:A\n"
        for wrong in ("0", "0 0\n5 4 1:O", "0 0\n0 1 1:Q", "0 0\n0 1 1:O\n1 2 1:O", "0 4\n0 1 1:O"):
            with refused(errno.EINVAL):
                write(path, wrong)
        assert read(path) == ""
        write(path, text)
        assert read(path) == text.strip()
        assert a.scsi(bytes.fromhex("12018600ff00"), read=255)[1][8] == 0x18  # R_SUP, RTD_SUP
        data = a.scsi(referrals, read=4096)[1]
        assert data[:4] == b"\0\0\0\x38" and len(data) == 60
        assert data[4:32] == bytes.fromhex("00000002 0000000000000000 00000000000003e7 00000001 02000002")
        assert data[32:60] == bytes.fromhex("00000002 00000000000003e8 00000000000007cf 03000001 01000002")
        one = bytearray(referrals)
        one[8:10], one[14] = (1500).to_bytes(2, "big"), 1
        assert a.scsi(bytes(one), read=4096)[1][4:] == data[32:60]
        beyond = bytearray(referrals)
        beyond[2:10] = (1 << 40).to_bytes(8, "big")
        assert answer(a, bytes(beyond), read=4096) == "5/2100"
        assert int(read(pair.groups[0] / "alua_support_lba_dependent")) == 1
        with refused(errno.EINVAL):
            pair.state(0, DEPENDENT)  # only without explicit access
        for n in (0, 1):
            pair.set(n, "alua_access_type", 1)
            pair.state(n, DEPENDENT)
        quiet(a), quiet(b)

        def at(lba, blocks):
            return b"\x28\0" + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"

        for c, lba, blocks, sense in [(a, 0, 8, ""), (b, 0, 8, REFUSED[STANDBY]), (a, 1000, 8, REFUSED[UNAVAILABLE]), (b, 1000, 8, ""),
                                      (a, 996, 8, REFUSED[UNAVAILABLE]), (a, 3000, 8, REFUSED[UNAVAILABLE]), (b, 1992, 8, "")]:
            assert answer(c, at(lba, blocks), read=blocks * 512) == sense, (c is a, lba)
        assert answer(a, TUR) == answer(b, MODE, read=255) == ""
        pair.store.attrib("emulate_tpu", 1)
        unmap = b"\0\x16\0\x10\0\0\0\0" + (1000).to_bytes(8, "big") + (8).to_bytes(4, "big") + bytes(4)
        cdb = b"\x42\0\0\0\0\0\0\0\x18\0"
        assert answer(a, cdb, write=unmap) == REFUSED[UNAVAILABLE] and answer(b, cdb, write=unmap) == ""
        write(path, "64 2\n0 63 1:O 2:U\n64 127 1:U 2:O\n")
        page = a.scsi(bytes.fromhex("1201b300ff00"), read=255)[1]
        assert page[8:16] == bytes.fromhex("0000004000000002")
        assert answer(a, at(128, 64), read=64 * 512) == "" and answer(a, at(192, 8), read=4096) == REFUSED[UNAVAILABLE]
        write(path, "")
        assert read(path) == "" and int(read(pair.groups[0] / "alua_support_lba_dependent")) == 0
        assert answer(a, READ, read=4096) == REFUSED[UNAVAILABLE]
        pair.state(0, OPTIMIZED), pair.state(1, OPTIMIZED)


def metadata_dirs():
    root = read(lio.CFS / "dbroot")
    tpgs, ports = f"{root}/alua/tpgs_{SERIAL}", f"{root}/alua/iSCSI/{A}+1"
    os.makedirs(tpgs, exist_ok=True)
    os.makedirs(ports, exist_ok=True)
    return tpgs, ports


def test_metadata(pair, klog):
    """The files of the stock modules, byte by byte; they outlive the modules, and a tool sets the states again."""
    tpgs, ports = metadata_dirs()
    lun = pair.targets[0].path / "lun/lun_0"
    pair.set(0, "alua_write_metadata", 1)
    write(lun / "alua_tg_pt_write_md", 1)
    pair.state(0, STANDBY)
    assert read(f"{tpgs}/group1") == "tg_pt_gp_id=1\nalua_access_state=0x02\nalua_access_status=0x02"
    with open(f"{tpgs}/group1") as before:
        pair.state(0, OPTIMIZED), pair.state(0, STANDBY)
        # Each is written anew, and takes the place of the one before: a power loss leaves one or the other.
        assert lio.STOCK or before.read().strip() == read(f"{tpgs}/group1") and os.fstat(before.fileno()).st_nlink == 0
    assert os.listdir(tpgs) == ["group1"]
    write(lun / "alua_tg_pt_offline", 1)
    assert read(f"{ports}/lun_0") == "alua_tg_pt_offline=1\nalua_tg_pt_status=0x02"
    with pair.nexus(1) as b:
        assert answer(b, stpg(8), write=stpg_list((1, UNAVAILABLE))) == ""
        wait_for(lambda: read(f"{tpgs}/group1") == "tg_pt_gp_id=1\nalua_access_state=0x03\nalua_access_status=0x01")
    lio.clear(unload=True)
    again = Pair()
    saved = dict(line.split("=") for line in read(f"{tpgs}/group1").splitlines())
    again.state(0, int(saved["alua_access_state"], 0))
    again.set(0, "alua_access_status", int(saved["alua_access_status"], 0))
    with again.nexus(1) as b:
        assert groups(b)[1][0] == UNAVAILABLE and groups(b)[1][3] == 1
    # Where they cannot be written, the change is in force, and the log says so.
    shutil.rmtree(tpgs)
    again.set(0, "alua_write_metadata", 1)
    again.state(0, OPTIMIZED)
    assert again.state(0) == OPTIMIZED
    assert lio.STOCK or klog.has(r"tpgs_.*/group1: an access state is not kept there")
    # Nothing is left of what cannot take its place.
    os.makedirs(f"{tpgs}/group1")
    for state in (STANDBY, OPTIMIZED, STANDBY, UNAVAILABLE, OPTIMIZED):
        again.state(0, state)
    left = os.listdir(tpgs)
    shutil.rmtree(tpgs)
    assert left == ["group1"]


@ours
def test_metadata_of_the_stock_modules():
    """Stock modules, then ours, in one boot: the same file says the same, and is taken over."""
    lio.clear(unload=True)
    texts = []

    def kept(state):
        """the file has this state"""
        return os.path.exists(f"{tpgs}/group1") and f"alua_access_state={state:#04x}" in read(f"{tpgs}/group1")

    for stock in (True, False):
        if stock:
            lio.load_stock("target_core_mod", "iscsi/iscsi_target_mod")
        p = Pair()
        tpgs, _ = metadata_dirs()
        if not stock:
            saved = dict(line.split("=") for line in texts[0].splitlines())
            p.state(0, int(saved["alua_access_state"], 0))
            p.set(0, "alua_access_status", int(saved["alua_access_status"], 0))
        p.set(0, "alua_write_metadata", 1)
        with p.nexus(1) as b:
            if stock:
                assert answer(b, stpg(8), write=stpg_list((1, STANDBY))) == ""
            else:
                assert groups(b)[1][0] == STANDBY and groups(b)[1][3] == 1
                assert answer(b, stpg(8), write=stpg_list((1, OPTIMIZED))) == ""
                wait_for(lambda: kept(OPTIMIZED))
                quiet(b)
                assert answer(b, stpg(8), write=stpg_list((1, STANDBY))) == ""
            wait_for(lambda: kept(STANDBY))
        texts.append(read(f"{tpgs}/group1"))
        os.unlink(f"{tpgs}/group1")
        lio.clear(unload=True)
    assert texts[0] == texts[1]


@ours
def test_sg_tools(pair):
    disks = [lio.login(t)[0] for t in pair.targets]

    def settle():
        """sg_stpg and sg_referrals exit with 0 after a unit attention, and have done nothing."""
        for d in disks:
            with Disk(d) as disk:
                disk.scsi(SENSE, read=18)

    out = lio.run("sg_rtpg", "-d", disks[0]).stdout
    assert "active/optimized" in out and out.count("target port group id") == 2, out
    settle()
    lio.run("sg_stpg", "--tp=2", "--standby", disks[0])
    settle()
    assert pair.state(1) == STANDBY
    assert "standby" in lio.run("sg_rtpg", "-d", disks[0]).stdout
    lio.run("sg_stpg", "--tp=2", "--optimized", disks[1])
    assert pair.state(1) == OPTIMIZED
    settle()
    write(pair.store.path / "lba_map", "0 0\n0 999 1:O 2:S\n1000 1999 1:U 2:A\n")
    out = lio.run("sg_referrals", disks[0]).stdout
    assert "first lba 1000, last lba 1999" in out and "port group 2 state (standby)" in out, out
    assert "User data segment" in lio.run("sg_vpd", "-p", "ref", disks[0]).stdout


def test_saved_and_restored():
    from test_targetcli import forget
    forget()
    store = lio.ramdisk()
    target = lio.IscsiTarget(store, iqn=A)
    group, lun = store.path / "alua/g7", target.path / "lun/lun_0"
    group.mkdir()
    values = {"tg_pt_gp_id": 7, "alua_access_state": 2, "alua_access_type": 1, "preferred": 1, "nonop_delay_msecs": 5, "trans_delay_msecs": 20,
              "implicit_trans_secs": 3, "alua_support_offline": 0, "alua_write_metadata": 0}
    for name, value in values.items():
        write(group / name, value)
    write(lun / "alua_tg_pt_gp", "g7")
    said = lio.run("targetcli", input="saveconfig /tmp/alua.json\nclearconfig confirm=True\nrestoreconfig /tmp/alua.json\nexit\n", timeout=300).stdout
    assert "Configuration restored from /tmp/alua.json" in said and "Could not" not in said and "Traceback" not in said, said
    with open("/tmp/alua.json") as f:
        saved = json.load(f)
    (tpg,) = [g for g in saved["storage_objects"][0]["alua_tpgs"] if g["name"] == "g7"]
    assert {k: tpg[k] for k in values} == values and tpg["alua_access_status"] == 2
    group = next(lio.CORE.glob("rd_mcp_*/rd0")) / "alua/g7"
    shown = {k: read(group / k) for k in values}
    assert shown == {k: "Implicit" if k == "alua_access_type" else str(v) for k, v in values.items()}
    assert read(group / "alua_access_status") == "Altered by Implicit ALUA"
    assert read(lun / "alua_tg_pt_gp").startswith("TG Port Alias: g7\nTG Port Group ID: 7\nTG Port Primary Access State: Standby\n")
    assert read(group / "members").rstrip("\0\n") == f"iSCSI/{A}/tpgt_1/lun_0"
    forget()


@ours
def test_changes_while_all_of_it_goes():
    """Groups, LU groups, LUNs and states come, change and go at once, under commands of two initiators: each call is taken or refused,
    nothing hangs, and all of it can be removed."""
    stores = [lio.ramdisk(f"rd{n}", hba=n) for n in range(2)]
    targets = [lio.IscsiTarget(stores[n % 2], iqn=iqn, portals=(portal,)) for n, (iqn, portal) in enumerate(zip((A, B), PORTALS))]
    stop, wrong, done = threading.Event(), [], {}

    def attack(what):
        def go(rng):
            while not stop.is_set():
                start = time.monotonic()
                try:
                    what(rng)
                except OSError as e:
                    if e.errno not in (errno.EEXIST, errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EBUSY, errno.ENOTEMPTY, errno.ENOSPC, errno.EPERM):
                        wrong.append(f"{what.__name__}: {e}")
                except Exception as e:
                    wrong.append(f"{what.__name__}: {e!r}")
                    return
                if time.monotonic() - start > 20 * lio.SLOW:
                    wrong.append(f"{what.__name__} took {time.monotonic() - start:.0f} s")
                done[what.__name__] = done.get(what.__name__, 0) + 1
        t = threading.Thread(target=go, args=(random.Random(what.__name__),))
        t.start()
        return t

    def groups(rng):
        path = rng.choice(stores).path / f"alua/g{rng.randrange(3)}"
        if rng.random() < 0.5:
            path.mkdir()
            write(path / "tg_pt_gp_id", int(path.name[1:]) + 1)
        else:
            path.rmdir()

    def lu_groups(rng):
        path = lio.CORE / f"alua/lu_gps/l{rng.randrange(2)}"
        kind = rng.randrange(4)
        if kind == 0:
            path.mkdir()
            write(path / "lu_gp_id", int(path.name[1:]) + 1)
        elif kind == 1:
            path.rmdir()
        else:
            write(rng.choice(stores).path / "alua_lu_gp", path.name if kind == 2 else "NULL")

    def join(rng):
        write(rng.choice(targets).path / "lun/lun_0/alua_tg_pt_gp", rng.choice(["g0", "g1", "g2", "NULL"]))

    def change(rng):
        path = rng.choice(stores).path / "alua" / rng.choice(["g0", "g1", "g2", "default_tg_pt_gp"])
        write(path / "trans_delay_msecs", rng.choice([0, 0, 20, 30000]))
        write(path / "nonop_delay_msecs", rng.choice([0, 20, 3000]))
        write(path / "alua_access_state", rng.choice([0, 1, 2, 3, 15]))
        read(path / "members")

    def links(rng):
        n = rng.randrange(2)
        lun = targets[n].path / "lun/lun_0"
        if (lun / "store").is_symlink():
            (lun / "store").unlink()
        else:
            (lun / "store").symlink_to(stores[n].path)

    def offline(rng):
        write(rng.choice(targets).path / "lun/lun_0/alua_tg_pt_offline", rng.randrange(2))

    def initiate(n):
        c = initiator.session(targets[n], isid=b"\x80\0\0\0\x0a" + bytes([n]))

        def go(rng):
            change = stpg_list((rng.randrange(4), rng.choice([0, 1, 2, 3])))
            cdb, kw = rng.choice([(READ, {"read": 4096}), (WRITE, {"write": DATA}), (rtpg(True), {"read": 4096}), (INQUIRY, {"read": 96}),
                                  (stpg(8), {"write": change})])
            status, _, _ = c.scsi(cdb, timeout=60 * lio.SLOW, **kw)
            assert status in (0, 2, 0x40), hex(status)
        go.__name__ = f"initiator{n}"
        return go, c

    sessions = [initiate(n) for n in range(2)]
    threads = [attack(f) for f in (groups, lu_groups, join, change, links, offline, *[go for go, _ in sessions])]
    time.sleep(8 * lio.SLOW)
    stop.set()
    for t in threads:
        t.join(120 * lio.SLOW)
    print(done)
    assert not [t for t in threads if t.is_alive()], "something hangs"
    assert not wrong, wrong[:10]
    assert len(done) == len(threads)
    for _, c in sessions:
        c.close()
    lio.clear()


@ours
def test_bounds(klog):
    store = lio.ramdisk()
    made = []
    with refused(errno.ENOSPC):
        for n in range(300):
            (store.path / f"alua/g{n}").mkdir()
            made.append(n)
    assert len(made) == 255
    assert klog.has("a device has no more groups")
    group = store.path / "alua/g0"
    assert read(group / "tg_pt_gp_id") == ""
    for name in ("alua_access_state", "alua_access_status", "alua_support_standby"):
        with refused(errno.EINVAL):
            write(group / name, 0)
    write(group / "tg_pt_gp_id", 0)
    assert read(group / "tg_pt_gp_id") == "1"
    with refused(errno.EINVAL):
        write(store.path / "alua/g1/tg_pt_gp_id", 1)
    with refused(errno.ERANGE):
        write(group / "nonop_delay_msecs", 10001)


@ours
def test_failover_by_multipath(pair):
    """dm-multipath with the kernel's ALUA handler over two portals, as multipathd sets it up: verified I/O goes on while an administrator
    takes the ports away in turn."""
    lio.modprobe("dm_multipath", "dm_service_time", "scsi_dh_alua")
    for n in (0, 1):
        pair.set(n, "alua_access_type", 1)
    disks = [lio.login(t)[0] for t in pair.targets]
    pair.state(1, STANDBY)
    paths = " ".join(f"service-time 0 1 2 {d} 1 1" for d in disks)
    table = f"0 {lio.blocks(disks[0]) // 512} multipath 1 queue_if_no_path 1 alua 2 1 {paths}"
    result = {}

    def commands():
        return [int(read(t.path / "lun/lun_0/statistics/scsi_tgt_port/in_cmds")) for t in pair.targets]

    def fails_over(good):
        pair.state(1 - good, UNAVAILABLE if good else STANDBY)
        pair.state(good, OPTIMIZED)
        before = commands()

        def served():
            """I/O through the good path"""
            for d in disks:  # what multipathd does when its path checker finds a path usable
                number = os.stat(d).st_rdev
                lio.run("dmsetup", "message", "mp", "0", f"reinstate_path {os.major(number)}:{os.minor(number)}")
            return commands()[good] > before[good] + 100

        wait_for(served, 60, 0.5)

    with dm("mp", table) as disk:
        t = threading.Thread(target=lambda: result.update(lio.fio(
            disk, time_based=None, runtime=None, rw="randwrite", size="16m", verify="crc32c", do_verify=1, rate_iops=300, timeout=300)))
        t.start()
        time.sleep(1)
        for good in (1, 0):
            assert t.is_alive()
            fails_over(good)
        t.join(240 * lio.SLOW)
        assert not t.is_alive()
    assert result["jobs"][0]["error"] == 0 and result["jobs"][0]["write"]["io_bytes"] == 16 << 20
