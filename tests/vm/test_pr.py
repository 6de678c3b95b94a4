"""Reservations: PERSISTENT RESERVE IN and OUT (SPC-4, 5.12), RESERVE and RELEASE (SPC-2, 5.5), by several initiators over
iSCSI; what they do to other commands; and what outlives sessions, modules, and the change between the stock modules and ours."""
# group: sequences
import shutil
import struct
from pathlib import Path

import enforcement
import faulty
import initiator
import lio
import pytest
import sgio

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE, MOVE, REPLACE = range(9)
KEYS, RESERVATION, CAPABILITIES, FULL = range(4)
TYPES = {1: "Write Exclusive Access", 3: "Exclusive Access", 5: "Write Exclusive Access, Registrants Only",
         6: "Exclusive Access, Registrants Only", 7: "Write Exclusive Access, All Registrants", 8: "Exclusive Access, All Registrants"}
A, B, C = (f"iqn.2024-01.org.example:{x}" for x in "abc")
CONFLICT = 0x18
SERIAL = "0123456789abcdef"
DBROOT = Path("/etc/target")
FILE = DBROOT / f"pr/aptpl_{SERIAL}"
READ = bytes.fromhex("28000000000000000800")
WRITE = bytes.fromhex("2a000000000000000800")
APTPL, ALL_TG_PT, SPEC_I_PT = 1, 4, 8
RELEASED, PREEMPTED, UNREGISTERED = "6/2a04", "6/2a03", "6/2a05"


@pytest.fixture(autouse=True)
def place():
    (DBROOT / "pr").mkdir(parents=True, exist_ok=True)
    FILE.unlink(missing_ok=True)


def store():
    return lio.fileio("f0", file="/tmp/pr.disk", serial=SERIAL)


def make(back=None, **kw):
    return lio.IscsiTarget(back or store(), acls=(A, B, C), **kw)


@pytest.fixture
def target():
    return make()


def isid(n=1):
    return b"\x80\0\0\0\0" + bytes([n])


def login(target, name, **kw):
    return initiator.session(target, name=name, isid=isid(), **kw)


def say(got):
    """GOOD, CONFLICT or what the sense says."""
    status, _, a = got
    return "good" if status == 0 else "conflict" if status == CONFLICT else sgio.say(a.sense)[:6]


def out(c, action, key=0, new=0, kind=0, flags=0, more=b"", move=None):
    if move:
        rtpi, unreg = move
        body = struct.pack(">QQBBHI", key, new, 0, unreg << 1 | flags, rtpi, len(more)) + more
    else:
        body = struct.pack(">QQIBxxx", key, new, 0, flags) + more
    cdb = struct.pack(">BBBxxIx", 0x5F, action, kind, len(body))
    return say(c.scsi(cdb, write=body))


def pr_in(c, action, length=8192):
    status, data, a = c.scsi(struct.pack(">BBxxxxxHx", 0x5E, action, length), read=length)
    assert status == 0, say((status, data, a))
    return data


def keys(c):
    data = pr_in(c, KEYS)
    generation, length = struct.unpack(">II", data[:8])
    assert len(data) == 8 + length
    return generation, sorted(struct.unpack(f">{length // 8}Q", data[8:]))


def reservation(c):
    data = pr_in(c, RESERVATION)
    if len(data) == 8:
        return None
    key, scope = struct.unpack(">Q5xB2x", data[8:])
    return key, scope


def full(c):
    """Of each registration: key, flags, type, port, TransportID."""
    data, at, found = pr_in(c, FULL), 8, []
    assert len(data) == 8 + int.from_bytes(data[4:8], "big")
    while at < len(data):
        key, flags, kind, port, n = struct.unpack(">Q4xBB4xHI", data[at : at + 24])
        found.append((key, flags, kind, port, data[at + 24 : at + 24 + n]))
        at += 24 + n
    return found


def transport_id(name, port=None):
    text = name.encode() + (b",i,0x" + port.hex().encode() if port else b"") + b"\0"
    text += bytes(-len(text) % 4)
    return struct.pack(">BxH", 0x45 if port else 5, max(len(text), 20)) + text.ljust(20, b"\0")


def file(back, name):
    return lio.read(back / "pr" / name)


def pr_dir():
    return lio.CORE / "fileio_0/f0"


def told(c):
    """The unit attention that waits, if one does."""
    return say(c.scsi(bytes(6)))


def quiet(c):
    """Takes the unit attentions that wait."""
    while told(c) != "good":
        pass


def test_registering_reserving_releasing(target):
    a, b = login(target, A), login(target, B)
    assert pr_in(a, CAPABILITIES)[:6] == bytes.fromhex("00089db0ea01") or lio.STOCK
    assert keys(a) == (0, []) and reservation(a) is None
    assert out(a, RESERVE, 0, kind=1) == "conflict" and out(a, REGISTER, 1, 2) == "conflict"
    assert out(a, REGISTER, 0, 0xA) == "good" and out(b, IGNORE, 77, 0xB) == "good"
    assert keys(b) == (2, [0xA, 0xB])
    assert out(a, REGISTER, 0, 0xA1) == "conflict" and out(a, REGISTER, 0xA, 0xA1) == "good"
    assert file(pr_dir(), "res_pr_generation") == "0x00000003"
    for kind in TYPES:
        assert out(a, RESERVE, 0xA, kind=kind) == "conflict" and out(a, RESERVE, 0xA1, kind=kind) == "good"
        assert reservation(b) == (0 if kind > 6 else 0xA1, kind)
        assert out(a, RESERVE, 0xA1, kind=4 - kind if kind < 4 else 1) == "conflict"
        assert out(b, RESERVE, 0xB, kind=kind) == ("good" if kind > 6 else "conflict")
        assert file(pr_dir(), "res_pr_type") == f"SPC-3 Reservation Type: {TYPES[kind]}"
        assert file(pr_dir(), "res_holder") == f"SPC-3 Reservation: iSCSI Initiator: {A},i,0x{isid().hex()}"
        assert out(a, RELEASE, 0xA1, kind=3 if kind == 1 else 1) == "5/2604"
        assert told(b) == "good" and out(a, RELEASE, 0xA1, kind=kind) == "good"
        assert told(b) == (RELEASED if kind > 3 else "good") and told(a) == "good"
        assert reservation(a) is None
    for bad in (0, 2, 4, 9, 0x11):
        assert out(a, RESERVE, 0xA1, kind=bad) == "5/2400"
    lines = file(pr_dir(), "res_pr_registered_i_pts").split("\n")
    assert lines[1:] == [f"iSCSI Node: {n},i,0x{isid().hex()} Key: 0x{k:016x} PRgen: 0x{g:08x}" for n, k, g in ((A, 0xA1, 3), (B, 0xB, 2))]
    assert out(b, CLEAR, 0xB) == "good" and told(a) == PREEMPTED and keys(a) == (4, [])
    for c in (a, b):
        c.close()


def test_a_write_whose_data_comes_late(target):
    """It is not written when others have preempted its initiator meanwhile, though it was there first; nor when only those may read."""
    a, b = login(target, A), login(target, B)
    assert out(a, REGISTER, 0, 0xA) == out(b, REGISTER, 0, 0xB) == "good"
    b.scsi(WRITE, write=b"b" * 4096)

    def late(change):
        itt = a.start(WRITE, 4096, initiator.WRITE)
        r2t = a.next()
        assert r2t.opcode == initiator.R2T and r2t.itt == itt
        change()
        a.answer_r2t(r2t, b"a" * 4096)
        return say(a.finish(itt))

    def preempt():
        assert out(b, RESERVE, 0xB, kind=5) == out(b, PREEMPT, 0xB, 0xA, 5) == "good"

    assert late(lambda: None) == "good" and b.scsi(READ, 4096)[1] == b"a" * 4096
    b.scsi(WRITE, write=b"b" * 4096)
    # The C modules report the unit attention first.
    assert late(preempt) == (UNREGISTERED if lio.STOCK else "conflict") and b.scsi(READ, 4096)[1] == b"b" * 4096
    assert out(b, CLEAR, 0xB) == "good"
    quiet(a)
    assert late(lambda: lio.write(target.path / "acls" / A / "lun_0/write_protect", 1)) == "7/2700" or lio.STOCK
    for c in (a, b):
        c.close()


@ours
def test_what_is_enforced_for_each_command():
    """Each command that the unit reports, for each type: by the tables of SPC-4, SBC-3 and SPC-2."""
    with faulty.scsi_debug(dev_size_mb=32, delay=0, lbpu=1, lbpws=1, atomic_wr=1) as (dev,):
        target = make(enforcement.unit(dev))
        a, b, c = login(target, A), login(target, B), login(target, C)
        rows = enforcement.reported(a)
        assert len(rows) > 90
        assert out(a, REGISTER, 0, 1) == out(b, REGISTER, 0, 2) == "good"
        for kind in TYPES:
            assert out(a, RESERVE, 1, kind=kind) == "good"
            enforcement.check(kind, rows, c, b)
            quiet(a)
            assert reservation(c) == (0 if kind > 6 else 1, kind) and out(a, RELEASE, 1, kind=kind) == "good"
            quiet(b)
        assert out(a, CLEAR, 1) == "good" and told(b) == PREEMPTED
        assert say(a.scsi(b"\x16" + bytes(5))) == "good"
        enforcement.check_reserved(rows, c)
        for who in (a, b, c):
            who.close()
        lio.clear()


@ours
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_enforced(target, kind):
    holder, registered, stranger = login(target, A), login(target, B), login(target, C)
    assert out(holder, REGISTER, 0, 1) == out(registered, REGISTER, 0, 2) == "good"
    assert out(holder, RESERVE, 1, kind=kind) == "good"
    # Service actions of PERSISTENT RESERVE OUT from those without access
    assert out(stranger, RELEASE, 0, kind=kind) == out(stranger, CLEAR) == out(stranger, PREEMPT, 0, 1, kind) == "conflict"
    assert out(stranger, REGISTER, 0, 3) == "good"
    assert say(stranger.scsi(WRITE, write=bytes(4096))) == ("good" if kind > 3 else "conflict")
    # The reservation stays with the holder's port, whatever becomes of its session, but for a new key.
    holder.close()
    assert say(stranger.scsi(WRITE, write=bytes(4096))) == ("good" if kind > 3 else "conflict")
    again = login(target, A)
    assert say(again.scsi(WRITE, write=bytes(4096))) == "good" and out(again, RELEASE, 1, kind=kind) == "good"
    for c in (again, registered, stranger):
        c.close()


@ours
def test_preempting(target):
    target.patient(C)
    a, b, c = login(target, A), login(target, B), login(target, C)
    for who, key in ((a, 1), (b, 2), (c, 3)):
        assert out(who, REGISTER, 0, key) == "good"
    assert out(a, RESERVE, 1, kind=5) == "good"
    # Only a registration, with what its initiator has at work: a write whose data does not come.
    c.start(WRITE, 4096, initiator.WRITE)
    assert c.receive().opcode == initiator.R2T
    assert out(b, PREEMPT_AND_ABORT, 2, 3, 5) == "good" and keys(b)[1] == [1, 2] and reservation(b) == (1, 5)
    a_response = c.receive()
    assert (a_response.opcode, a_response.status) == (initiator.SCSI_RESPONSE, 0x40)
    assert say(c.scsi(WRITE, write=bytes(4096))) == "conflict" and told(c) == UNREGISTERED
    assert out(c, REGISTER, 0, 3) == "good"
    assert out(b, PREEMPT, 2, 99, 5) == "conflict" and out(b, PREEMPT, 2, 0, 5) == "5/2600"
    assert out(b, PREEMPT, 2, 1, 1) == "good"
    # The old holder hears that it is not registered any more, the others that the old reservation is gone.
    assert say(a.scsi(WRITE, write=bytes(4096))) == "conflict" and told(a) == UNREGISTERED
    assert told(c) == RELEASED and told(b) == "good"
    assert keys(a)[1] == [2, 3] and reservation(c) == (2, 1)
    assert say(c.scsi(WRITE, write=bytes(4096))) == "conflict" and say(c.scsi(READ, read=4096)) == "good"
    # All registrants: key 0 means all others.
    assert out(b, RELEASE, 2, kind=1) == "good" and out(b, RESERVE, 2, kind=8) == out(a, REGISTER, 0, 7) == "good"
    assert out(a, PREEMPT, 7, 0, 3) == "good" and keys(a)[1] == [7] and reservation(a) == (7, 3)
    for who in (a, b, c):
        who.close()


@ours
def test_moving_and_registering_others(target):
    back = pr_dir()
    other = lio.Tpg("iscsi", target.iqn, 2)
    (other.path / "lun/lun_5").mkdir()
    (other.path / "lun/lun_5/x").symlink_to(back)
    for name in (A, B):
        other.acl(name, (5,))
    lio.write(other.path / "enable", 1)
    a, b = login(target, A), login(target, B)
    c_id, b_id = transport_id(C, isid()), transport_id(B, isid())
    body = struct.pack(">I", len(c_id + b_id)) + c_id + b_id
    assert out(a, REGISTER, 0, 9, flags=SPEC_I_PT, more=body) == "good"
    assert sorted(x[4] for x in full(a)) == sorted((transport_id(A, isid()), c_id, b_id))
    assert out(b, REGISTER, 9, 8) == "good" and out(a, RESERVE, 9, kind=5) == "good"
    ports = full(a)[0][3]
    assert out(a, MOVE, 9, 0, more=b_id, move=(ports, 1)) == "5/2600"
    assert out(a, MOVE, 9, 5, more=b_id, move=(4711, 1)) == out(a, MOVE, 9, 5, more=transport_id(A, isid()), move=(ports, 1)) == "5/2600"
    assert out(a, MOVE, 9, 5, more=b_id, move=(ports, 1)) == "good"
    assert reservation(a) == (5, 5) and keys(a)[1] == [5, 9]
    assert say(a.scsi(WRITE, write=bytes(4096))) == "conflict" and say(b.scsi(WRITE, write=bytes(4096))) == "good"
    assert out(b, CLEAR, 5) == "good"
    # All target ports: also the one of the other group, where the initiator has access.
    assert out(a, REGISTER, 0, 6, flags=ALL_TG_PT) in ("good", "6/2a03")
    if not full(a):
        assert out(a, REGISTER, 0, 6, flags=ALL_TG_PT) == "good"
    assert [(x[0], x[1]) for x in full(a)] == [(6, 2), (6, 2)] and len({x[3] for x in full(a)}) == 2
    assert out(a, REGISTER, 6, 0, flags=ALL_TG_PT) == "good" and not full(a)
    for c in (a, b):
        c.close()


@ours
def test_reserve_and_release(target):
    a, b = login(target, A), login(target, B)
    for reserve, release in ((b"\x16" + bytes(5), b"\x17" + bytes(5)), (b"\x56" + bytes(9), b"\x57" + bytes(9))):
        assert say(a.scsi(reserve)) == say(a.scsi(reserve)) == "good" and say(b.scsi(reserve)) == "conflict"
        assert file(pr_dir(), "res_type") == "SPC2_RESERVATIONS"
        assert file(pr_dir(), "res_holder") == f"SPC-2 Reservation: iSCSI Initiator: {A}"
        assert say(b.scsi(release)) == "good"
        assert say(b.scsi(READ, read=4096)) == say(b.scsi(bytes(6))) == "conflict" and say(a.scsi(WRITE, write=bytes(4096))) == "good"
        assert say(b.scsi(bytes.fromhex("120000006000"), read=96)) == "good"
        # Persistent ones are not for a unit that is reserved like this, whoever asks (SPC-2, 5.5.1).
        assert out(a, REGISTER, 0, 1) == out(b, REGISTER, 0, 1) == "conflict"
        assert say(a.scsi(release)) == "good" and say(b.scsi(READ, read=4096)) == "good"
    # It ends with the session, and with a reset.
    reserve = b"\x16" + bytes(5)
    assert say(a.scsi(reserve)) == "good"
    a.close()
    lio.wait_for(lambda: say(b.scsi(READ, read=4096)) == "good")
    a = login(target, A)
    assert say(a.scsi(reserve)) == "good" and b.tmf(5) == 0
    told(b)
    assert say(b.scsi(READ, read=4096)) == "good"
    told(a)
    # Beside registrations: a conflict; from those that have access anyway, nothing happens (SPC-4, 5.12.3).
    assert out(a, REGISTER, 0, 1) == "good" and say(a.scsi(reserve)) == say(b.scsi(reserve)) == "conflict"
    assert out(a, RESERVE, 1, kind=1) == "good" and say(a.scsi(reserve)) == "good" and say(b.scsi(reserve)) == "conflict"
    assert file(pr_dir(), "res_type") == "SPC3_PERSISTENT_RESERVATIONS"
    for c in (a, b):
        c.close()


def test_who_may_only_read_takes_it_from_nobody():
    target = lio.IscsiTarget(store(), acls=(A,))
    target.acl(B, write_protect=(0,))
    a, b = login(target, A), login(target, B)
    quiet(a), quiet(b)
    assert out(a, REGISTER, new=1) == "good" and out(a, RESERVE, 1, kind=5) == "good"
    for action, key, new in ((REGISTER, 0, 2), (IGNORE, 0, 2), (RESERVE, 2, 0), (PREEMPT, 2, 1), (CLEAR, 2, 0)):
        assert out(b, action, key, new, kind=5) == "7/2700", action
    assert keys(b)[1] == [1] and reservation(b) == (1, 5)
    # Nor by what is not persistent, which the stock modules let it, nor the path.
    assert out(a, CLEAR, 1) == "good"
    if not lio.STOCK:
        assert say(b.scsi(bytes.fromhex("160000000000"))) == "7/2700"
    groups = bytes.fromhex("a40a00000000000000080000")
    assert say(b.scsi(groups, write=bytes.fromhex("0000000002000000"))) == "7/2700"
    assert say(b.scsi(READ, read=4096)) == say(a.scsi(WRITE, write=bytes(4096))) == "good"


@ours
def test_what_the_administrator_takes_away():
    back = store()
    target = make(back)
    a, b = login(target, A), login(target, B)
    assert out(a, REGISTER, 0, 1) == out(b, REGISTER, 0, 2) == out(a, RESERVE, 1, kind=3) == "good"
    # One of two numbers that an initiator knows the unit by: it is the other one's, too.
    mapped, other = (target.path / "acls" / A / f"lun_{n}" for n in (0, 1))
    other.mkdir()
    (other / "lun").symlink_to(target.path / "lun/lun_0")
    assert a.scsi(READ, read=4096, lun=1)[0] in (0, 2)
    for m in other, mapped:
        before = keys(b)[1], reservation(b), say(b.scsi(WRITE, write=bytes(4096)))
        assert before == ([1, 2], (1, 3), "conflict")
        for link in lio.links(m):
            link.unlink()
    assert keys(b)[1] == [2] and reservation(b) is None and say(b.scsi(WRITE, write=bytes(4096))) == "good"
    b.close()
    a.close()
    target.delete()
    assert file(pr_dir(), "res_pr_registered_i_pts").endswith("None")
    # Without reservations
    back.attrib("emulate_pr", 0)
    target = make(back)
    a = login(target, A)
    assert out(a, REGISTER, 0, 1) == say(a.scsi(b"\x16" + bytes(5))) == "5/2000"
    assert file(pr_dir(), "res_type") == "SPC_RESERVATIONS_DISABLED"
    with lio.refused(lio.errno.EINVAL):
        back.attrib("emulate_pr", 1)
    a.close()
    # An initiator as a whole
    target.delete()
    back.attrib("emulate_pr", 1)
    back.attrib("enforce_pr_isids", 0)
    back.attrib("force_pr_aptpl", 1)
    target = make(back)
    a = login(target, A)
    other = initiator.session(target, name=A, isid=isid(2))
    assert out(a, REGISTER, 0, 1) == "good" and out(other, RESERVE, 1, kind=3) == "good"
    assert say(a.scsi(WRITE, write=bytes(4096))) == "good" and full(a)[0][4] == transport_id(A)
    assert "initiator_sid" not in FILE.read_text() and pr_in(a, CAPABILITIES)[3] & 1
    a.close()
    other.close()


@ours
@pytest.mark.parametrize("how", ["reserved", "registered"])
def test_one_of_two_luns_of_a_unit_is_taken_away(how):
    """What an initiator has that knew the unit by it alone goes with it, though the port has another one."""
    back = store()
    target = lio.IscsiTarget(back, back)
    for name, lun in ((A, 0), (B, 1)):
        mapped = target.path / "acls" / name / "lun_0"
        mapped.parent.mkdir()
        mapped.mkdir()
        (mapped / "lun").symlink_to(target.path / f"lun/lun_{lun}")
    a, b = login(target, A), login(target, B)
    if how == "reserved":
        assert say(a.scsi(b"\x16" + bytes(5))) == "good"
    else:
        assert out(a, REGISTER, 0, 1) == out(b, REGISTER, 0, 2) == out(a, RESERVE, 1, kind=3) == "good"
    assert say(b.scsi(WRITE, write=bytes(4096))) == "conflict"
    for link in lio.links(target.path / "lun/lun_0"):
        link.unlink()
    assert say(b.scsi(WRITE, write=bytes(4096))) == "good"
    assert how == "reserved" or keys(b)[1] == [2] and reservation(b) is None
    a.close()
    # What others have through the LUN that is left stays.
    if how == "registered":
        assert out(b, RESERVE, 2, kind=3) == "good" and reservation(b) == (2, 3)
    b.close()


def restore(back):
    """As rtslib does."""
    tokens = FILE.read_text().split()
    assert tokens[0] == "PR_REG_START:"
    lines = []
    for token in tokens:
        if token == "PR_REG_START:":
            lines = []
        elif token == "PR_REG_END:":
            lio.write(back.path / "pr/res_aptpl_metadata", ",".join(lines))
        else:
            lines.append(token)


def fenced(target):
    """The reservation of A excludes B, and A has it."""
    a, b = login(target, A), login(target, B)
    assert say(b.scsi(WRITE, write=bytes(4096))) == "conflict" and say(a.scsi(WRITE, write=bytes(4096))) == "good"
    assert keys(a)[1] == [0xA, 0xB] and reservation(b) == (0xA, 1)
    a.close()
    b.close()


@ours
def test_registrations_outlive_the_modules():
    target = make()
    a, b = login(target, A), login(target, B)
    assert out(a, REGISTER, 0, 0xA, flags=APTPL) == out(b, REGISTER, 0, 0xB, flags=APTPL) == out(a, RESERVE, 0xA, kind=1) == "good"
    assert file(pr_dir(), "res_aptpl_active") == "APTPL Bit Status: Activated"
    text = FILE.read_text()
    assert text.startswith(f"PR_REG_START: 0\ninitiator_fabric=iSCSI\ninitiator_node={A}\ninitiator_sid={isid().hex()}\nsa_res_key=10\n"
                           "res_holder=1\nres_type=01\nres_scope=00\nres_all_tg_pt=0\nmapped_lun=0\n"
                           f"target_fabric=iSCSI\ntarget_node={target.iqn}\ntpgt=1\nport_rtpi=1\ntarget_lun=0\nPR_REG_END: 0\n")
    assert not list(FILE.parent.glob("*.new"))
    a.close()
    b.close()
    lio.clear(unload=True)
    assert FILE.read_text() == text
    back = store()
    restore(back)
    with lio.refused(lio.errno.EINVAL):
        lio.write(back.path / "pr/res_aptpl_metadata", "initiator_node=x")
    target = make(back)
    fenced(target)
    # What is not to persist any more is forgotten.
    a = login(target, A)
    assert out(a, REGISTER, 0xA, 0xA1) == "good"
    assert FILE.read_text() == "No Registrations or Reservations\0"
    assert out(a, REGISTER, 0xA1, 0xA, flags=APTPL) == "good" and "sa_res_key=11" in FILE.read_text()
    # The folder is made where there is none. What cannot be kept is not done.
    shutil.rmtree(FILE.parent)
    assert out(a, REGISTER, 0xA, 0xA2, flags=APTPL) == "good" and "sa_res_key=162" in FILE.read_text()
    assert FILE.parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(FILE.parent)
    FILE.parent.write_text("")
    assert out(a, REGISTER, 0xA2, 0xA3, flags=APTPL) == "4/4400" and sorted(keys(a)[1]) == [0xB, 0xA2]
    FILE.parent.unlink()
    a.close()


@ours
def test_lost_reservations():
    """A file that is cut off: everybody is refused until one initiator replaces what is lost, or the administrator puts it right."""
    target = make()
    a, b = login(target, A), login(target, B)
    assert out(a, REPLACE, 0, 0xA, kind=1) == "5/2604" and pr_in(a, CAPABILITIES)[2] & 0x80
    assert out(a, REGISTER, 0, 0xA, flags=APTPL) == out(b, REGISTER, 0, 0xB, flags=APTPL) == out(a, RESERVE, 0xA, kind=1) == "good"
    whole = FILE.read_bytes()
    a.close()
    b.close()
    lio.clear(unload=True)
    for content in (whole[:-1], whole[:200], b"", bytes(8192), whole[:-1] + b"x" * (2 << 20)):
        FILE.write_bytes(content)
        back = store()
        if len(content) == len(whole) - 1:
            restore(back)  # All that can be read.
        target = make(back)
        a, b = login(target, A), login(target, B)
        for c in (a, b):
            for cdb, more in ((READ, {"read": 4096}), (WRITE, {"write": bytes(4096)}), (bytes(6), {}), (b"\x16" + bytes(5), {}),
                              (struct.pack(">BBxxxxxHx", 0x5E, KEYS, 8), {"read": 8})):
                assert say(c.scsi(cdb, **more)) == "7/4401", cdb.hex()
            assert out(c, IGNORE, 0, 1) == out(c, CLEAR, 0xA) == "7/4401"
            assert c.scsi(bytes.fromhex("120000002400"), read=36)[0] == 0
            # START STOP UNIT, START
            assert say(c.scsi(bytes.fromhex("1b0000000100"))) == "good"
        # What is wrong replaces nothing.
        assert out(b, REPLACE, 0xB, 0xB1, kind=3) == out(b, REPLACE, 0, 0, kind=3) == "5/2600" and out(b, REPLACE, 0, 1, kind=2) == "5/2400"
        assert say(b.scsi(READ, read=4096)) == "7/4401"
        assert out(b, REPLACE, 0, 0xB1, kind=3, flags=APTPL) == "good"
        assert keys(b) == (0, [0xB1]) and reservation(b) == (0xB1, 3) and say(b.scsi(WRITE, write=bytes(4096))) == "good"
        assert say(a.scsi(READ, read=4096)) == say(a.scsi(WRITE, write=bytes(4096))) == "conflict"
        assert out(a, REPLACE, 0, 0xA, kind=1) == "5/2604"
        assert "sa_res_key=177\n" in FILE.read_text() and FILE.read_bytes().endswith(b"PR_REG_END: 0\n\0")
        a.close()
        b.close()
        lio.clear()
    # What was put right is not lost, nor what is not there at all.
    FILE.write_bytes(whole[:200])
    back = store()
    FILE.write_bytes(whole)
    restore(back)
    target = make(back)
    fenced(target)
    target.delete()
    FILE.unlink()
    a = login(make(back), A)
    assert keys(a)[1] == [] and say(a.scsi(WRITE, write=bytes(4096))) == "good"
    a.close()


@ours
def test_a_name_that_no_file_can_have():
    """The longest serial number: nothing can be kept under it, so nothing is lost, and APTPL is refused."""
    FILE.write_bytes(b"another's")  # something was kept once
    a = login(make(lio.ramdisk(serial="s" * 253)), A)
    assert [told(a) for _ in range(4)][-1] == "good"
    assert say(a.scsi(WRITE, write=bytes(4096))) == say(a.scsi(READ, read=4096)) == "good"
    assert out(a, REGISTER, 0, 1, flags=APTPL).startswith(("4/", "5/")) and keys(a)[1] == []
    assert out(a, REGISTER, 0, 1) == out(a, RESERVE, 1, kind=1) == "good"
    a.close()


@ours
def test_names_that_would_be_more():
    """What is no iSCSI name is not registered: in the file it would be more than a name, which would be lost or say something else."""
    def other(name):
        text = name + b"\0"
        text += bytes(-len(text) % 4)
        return struct.pack(">BxH", 5, max(len(text), 20)) + text.ljust(20, b"\0")

    target = make()
    a, b = login(target, A), login(target, B)
    wrong = [other(name) for name in (b"iqn.x\n", b"iqn.x\xff", b"iqn.x\nres_holder=1\nres_type=03", b"iqn.x,sa_res_key=1", b"iqn.x y")]
    for i in wrong:
        assert out(a, REGISTER, 0, 9, flags=SPEC_I_PT | APTPL, more=struct.pack(">I", len(i)) + i) == "5/2600"
    assert out(a, REGISTER, 0, 0xA, flags=APTPL) == out(b, REGISTER, 0, 0xB, flags=APTPL) == out(a, RESERVE, 0xA, kind=1) == "good"
    for i in wrong:
        assert out(a, MOVE, 0xA, 5, more=i, move=(full(a)[0][3], 0), flags=APTPL) == "5/2600"
    a.close()
    b.close()
    lio.clear()
    back = store()
    restore(back)
    fenced(make(back))


@ours
def test_the_file_of_another_set_up():
    """What is registered first and is not to persist ends what the file has kept of another time: under a serial number that the device
    gets later as well, and where that could not be done at first."""
    other, nothing = FILE.parent / "aptpl_other", "No Registrations or Reservations\0"
    back = store()
    target = make(back)
    a = login(target, A)
    assert out(a, REGISTER, 0, 1, flags=APTPL) == "good"
    whole = FILE.read_bytes()
    assert out(a, REGISTER, 1, 0) == "good" and FILE.read_text() == nothing
    a.close()
    target.delete()
    lio.write(back.path / "wwn/vpd_unit_serial", "other")
    other.write_bytes(whole)
    target = make(back)
    a = login(target, A)
    assert out(a, REGISTER, 0, 2) == "good" and other.read_text() == nothing
    a.close()
    target.delete()
    shutil.rmtree(FILE.parent)
    FILE.parent.write_text("")
    a = login(make(back), A)
    assert out(a, REGISTER, 0, 3) == "good"
    FILE.parent.unlink()
    FILE.parent.mkdir()
    other.write_bytes(whole)
    assert out(a, REGISTER, 3, 4) == "good" and other.read_text() == nothing
    a.close()
    other.unlink()


def load(stock):
    """The stock modules, or ours, while none are loaded."""
    if not stock:
        return lio.modprobe("target_core_mod", "target_core_file", "iscsi_target_mod")
    lio.load_stock("target_core_mod", "target_core_file", "iscsi/iscsi_target_mod")


@ours
def test_registrations_outlive_the_change_of_modules():
    """Made by the stock modules, taken over by ours, changed, and back."""
    lio.clear(unload=True)
    try:
        load(stock=True)
        target = make()
        a, b = login(target, A), login(target, B)
        assert out(a, REGISTER, 0, 0xA, flags=APTPL) == out(b, REGISTER, 0, 0xB1, flags=APTPL) == out(a, RESERVE, 0xA, kind=1) == "good"
        theirs = FILE.read_text()
        a.close()
        b.close()
        lio.clear(unload=True)
        load(stock=False)
        back = store()
        restore(back)
        target = make(back)
        b = login(target, B)
        assert out(b, REGISTER, 0xB1, 0xB, flags=APTPL) == "good"
        b.close()
        fenced(target)
        assert FILE.read_text() == theirs.replace("sa_res_key=177", "sa_res_key=11")
        lio.clear(unload=True)
        load(stock=True)
        back = store()
        restore(back)
        fenced(make(back))
    finally:
        lio.clear(unload=True)


@pytest.mark.skipif(not shutil.which("sg_persist"), reason="sg3_utils are not here")
@ours
def test_sg_persist_over_loopback():
    port = lio.Loopback(lio.ramdisk(serial="fedcba9876543210"))
    disk = port.disk()

    def persist(*options):
        return lio.run("sg_persist", *options, disk).stdout
    persist("--out", "--register", "--param-sark=0xabc")
    persist("--out", "--reserve", "--param-rk=0xabc", "--prout-type=5")
    said = persist("--in", "--read-full-status")
    assert "Key=0xabc" in said and "Write Exclusive, registrants only" in said and "5001405000000002" in said
    assert "key=0xabc" in persist("--in", "--read-reservation").lower()
    persist("--out", "--clear", "--param-rk=0xabc")
    assert "NO registered reservation keys" in persist("--in", "--read-keys")
