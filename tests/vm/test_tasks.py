"""Task management and unit attentions, by the Python initiator: commands waiting for data, at the back end, queued."""
# vm: --timeout 1800
# group: trees
import contextlib
import time

import initiator
import lio
import pytest
from initiator import ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, DATA_IN, LUN_RESET, R2T, SCSI_RESPONSE, WARM_RESET, WRITE, READ
from sgio import say
from test_stuck import Stuck

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
TUR = bytes(6)
WRITE_64K = bytes.fromhex("2a000000000000008000")
WRITE_BEYOND = bytes.fromhex("2a007ffffff000002000")
VERIFY_4K = bytes.fromhex("2f000000000000000800")
READ_4K = bytes.fromhex("28000000000000000800")
SOLICITED = {"InitialR2T": "Yes", "ImmediateData": "No"}
ISIDS = [b"\x80\0\0\0\1" + bytes([i]) for i in range(8)]


NAMES = [f"iqn.2024-01.org.example:i{i}" for i in range(3)]


def exported(*stores):
    """A target of these stores, whose initiators may keep data back for a while."""
    t = lio.IscsiTarget(*stores)
    t.patient(*NAMES, luns=range(len(stores)))
    return t


@pytest.fixture
def target():
    return exported(lio.ramdisk())


@contextlib.contextmanager
def sessions(target, n=1):
    """n sessions of different initiators."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(initiator.session(target, name=NAMES[i], isid=ISIDS[i], keys=SOLICITED))
               for i in range(n)]


def waiting(c, n=1, lun=0):
    """Starts n writes that get no data: the tags of their R2Ts, by the commands' tags."""
    tags = [c.start(WRITE_64K, 65536, WRITE, lun=lun) for _ in range(n)]
    r2ts = {}
    while len(r2ts) < n:
        a = c.next()
        assert a.opcode == R2T, a
        r2ts[a.itt] = a
    assert set(r2ts) == set(tags)
    return r2ts


def attention(c, lun=0):
    """The unit attention that waits, "" if none."""
    status, _, a = c.scsi(TUR, lun=lun)
    return say(a.sense) if status == 2 else ""


def quiet(c):
    """Nothing more comes: a ping is answered at once and by nothing else before."""
    assert c.ping()


def test_abort_a_task_that_waits_for_data(target):
    with sessions(target) as (c,):
        r2ts = waiting(c, 3)
        victim = sorted(r2ts)[1]
        assert c.tmf(ABORT_TASK, ref_itt=victim, timeout=30) == 0
        assert not [a for a in c.seen if a.itt == victim], "an aborted command is not answered"
        quiet(c)
        # Data that were on their way are dropped; the other two go on.
        for itt, r2t in r2ts.items():
            if itt != victim:
                c.answer_r2t(r2t, b"d" * 65536)
        done = {c.next().itt for _ in range(2)}
        assert done == set(r2ts) - {victim}
        assert attention(c) == ""


def test_data_for_an_aborted_task(target):
    with sessions(target) as (c,):
        (itt, r2t), = waiting(c).items()
        c.send(c.data_out_pdu(itt, r2t.ttt, b"d" * 4096, 0, 0, False))
        assert c.tmf(ABORT_TASK, ref_itt=itt, timeout=30) == 0
        c.send(c.data_out_pdu(itt, r2t.ttt, b"d" * 4096, 4096, 1, False))
        # Dropped, or rejected: in any case the next initiator is served.
    with sessions(target) as (c,):
        assert c.scsi(TUR)[0] == 0


@contextlib.contextmanager
def unsolicited(target, n=1):
    """n sessions that send data unasked."""
    lio.write(target.path / "param/InitialR2T", "No")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(initiator.session(target, name=NAMES[i], isid=ISIDS[i], keys={"FirstBurstLength": 16384})) for i in range(n)]


@ours
@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, LUN_RESET], ids=["task", "set", "reset"])
def test_abort_of_a_task_whose_status_waits(target, function):
    """An error that would be told when all data has come is told at once, before the function's response: no more data comes."""
    with unsolicited(target) as (c,):
        for waits in False, True:
            itt = c.start(WRITE_BEYOND, 16384, WRITE, b"d" * 4096, last=False)
            if waits:
                quiet(c)
                quiet(c)
            assert c.tmf(function, ref_itt=itt, timeout=20) == 0
            assert [(a.opcode, a.itt, a.status) for a in c.seen] == [(SCSI_RESPONSE, itt, 2)]
            # What was on its way is dropped.
            c.send(c.data_out_pdu(itt, initiator.NONE, b"d" * 4096, 4096, 0, False))
            quiet(c)
            while attention(c):
                pass


@ours
def test_reset_by_another_of_a_task_whose_status_waits(target):
    with unsolicited(target, 2) as (a, b):
        itt = b.start(WRITE_BEYOND, 16384, WRITE, b"d" * 4096, last=False)
        quiet(b)
        quiet(b)
        assert a.tmf(LUN_RESET, timeout=20) == 0
        status, _, x = b.finish(itt)
        assert status == 2 and say(x.sense) == "5/2100"
        assert attention(b).startswith("6/29")


def test_abort_task_set(target):
    with sessions(target, 2) as (a, b):
        mine, theirs = waiting(a, 4), waiting(b, 2)
        assert a.tmf(ABORT_TASK_SET, timeout=30) == 0
        assert not [x for x in a.seen if x.itt in mine]
        for r2t in theirs.values():
            b.answer_r2t(r2t, b"d" * 65536)
        assert sorted(b.next().itt for _ in range(2)) == sorted(theirs)
        assert attention(a) == "" and attention(b) == ""


def ended(c, tags):
    """What the commands with these tags were answered with, each at most once."""
    got = {}
    mark = c.itt()
    c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))
    while True:
        a = c.receive(30)
        assert a is not None
        if a.itt == mark:
            return got
        if a.opcode == SCSI_RESPONSE and a.itt in tags:
            assert a.itt not in got
            got[a.itt] = a.status


@pytest.mark.parametrize("tas", [1, 0])
@pytest.mark.parametrize("function,attentions", [(CLEAR_TASK_SET, ("6/2f00",)), (LUN_RESET, ("6/2903", "6/2900"))],
                         ids=["clear-task-set", "lun-reset"])
def test_what_others_see(function, attentions, tas):
    """Their commands end with TASK ABORTED; where TAS is 0, a unit attention alone tells of it (SAM-5, 5.6)."""
    store = lio.ramdisk()
    store.attrib("emulate_tas", tas)
    target = exported(store)
    with sessions(target, 3) as (a, b, c):
        mine, theirs = waiting(a, 2), waiting(b, 3)
        assert a.tmf(function, timeout=30) == 0
        if not lio.STOCK:
            # It has lost nothing.
            assert attention(c) in (attentions if function == LUN_RESET else ("",))
        assert not [x for x in a.seen if x.itt in mine]
        got = ended(b, theirs)
        assert set(got.values()) <= {0x40}
        assert len(got) == (3 if tas else 0)
        if not lio.STOCK or function == LUN_RESET:
            assert attention(b) in (attentions if function == LUN_RESET or not tas else ("",))
        assert attention(b) == ""
        assert attention(a) in ("",) + (attentions if function == LUN_RESET else ())
        for c in (a, b):
            assert c.scsi(READ_4K, read=4096)[0] == 0


def test_target_reset(target):
    with sessions(target, 2) as (a, b):
        mine, theirs = waiting(a, 2), waiting(b, 2)
        response = a.tmf(WARM_RESET, timeout=30)
        if response in (5, 6, 255):
            assert lio.STOCK
            return
        assert response == 0
        assert set(ended(b, theirs).values()) <= {0x40} and not [x for x in a.seen if x.itt in mine]
        assert attention(b).startswith("6/29") and attention(b) == ""


def test_abort_an_answered_task(target):
    with sessions(target) as (c,):
        itt = c.start(TUR)
        assert c.finish(itt)[0] == 0
        assert c.tmf(ABORT_TASK, ref_itt=itt, ref_cmd_sn=c.cmd_sn - 1, timeout=30) in (0, 1)
        quiet(c)


@pytest.fixture
def stopped():
    """A target on an iblock object whose device can be stopped."""
    s = Stuck()
    s.target = lio.IscsiTarget(s.store)
    yield s
    s.go()
    lio.clear()


def slow_device():
    """the delayed device's node"""
    name = lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", "lio-slow").stdout.strip()
    return f"/dev/{name}" if lio.os.path.exists(f"/dev/{name}") else None


@pytest.fixture
def slow():
    """A target on an iblock object whose device takes 1.5 s for everything."""
    lio.modprobe("dm-delay")
    dev = lio.loop_device(16 << 20)
    lio.run("dmsetup", "create", "lio-slow", "--table", f"0 32768 delay {dev} 0 1500")
    yield lio.IscsiTarget(lio.iblock(dev=lio.wait_for(slow_device)))
    lio.clear()


@pytest.mark.parametrize("function", [ABORT_TASK, ABORT_TASK_SET, LUN_RESET], ids=["task", "set", "reset"])
def test_abort_at_the_back_end(stopped, function):
    """The function waits for what the device has; the command is not answered."""
    with sessions(stopped.target, 2) as (c, other):
        stopped.stop()
        start = time.monotonic()
        tags = [c.start(READ_4K, 4096, READ) for _ in range(4)]
        foreign = other.start(READ_4K, 4096, READ)
        quiet(other)
        itt = c.itt()
        c.send(initiator.pdu(initiator.TMF, initiator.FINAL | function, immediate=True, itt=itt,
                             w=(tags[0], c.cmd_sn, c.exp_stat_sn, 0)))
        quiet(c)
        stopped.go()
        before = []
        while (a := c.next(60)).opcode != initiator.TMF_RESPONSE:
            before.append(a)
        took = time.monotonic() - start
        assert (a.itt, a.response) == (itt, 0)
        seen = [a.itt for a in before if a.opcode in (SCSI_RESPONSE, DATA_IN)]
        assert tags[0] not in seen and took < 30 * lio.SLOW
        if function == ABORT_TASK:
            left = [t for t in tags[1:] if t not in seen]
            for _ in left:
                a = c.next(30)
                while a.opcode == DATA_IN and not a.flags & 1:
                    a = c.next(30)
                assert a.itt in left
        else:
            assert not seen
        quiet(c)
        if function == LUN_RESET:
            assert set(ended(other, [foreign]).values()) <= {0x40}
            assert attention(other).startswith("6/29")
        else:
            assert other.finish(foreign, timeout=30)[0] == 0
        assert c.scsi(READ_4K, read=4096, timeout=30)[0] in (0, 2)
        assert c.scsi(READ_4K, read=4096, timeout=30)[0] == 0


@ours
def test_abort_at_the_back_end_while_data_comes(stopped):
    """Data that the command does not want is not waited for when it has been aborted."""
    stopped.target.patient(NAMES[0])
    with unsolicited(stopped.target) as (c,):
        stopped.stop()
        itt, function = c.start(VERIFY_4K, 16384, WRITE, b"d" * 4096, last=False), c.itt()
        quiet(c)
        c.send(initiator.pdu(initiator.TMF, initiator.FINAL | ABORT_TASK, immediate=True, itt=function,
                             w=(itt, c.cmd_sn, c.exp_stat_sn, 0)))
        quiet(c)
        stopped.go()
        a = c.next(60)
        assert (a.opcode, a.itt, a.response) == (initiator.TMF_RESPONSE, function, 0)
        # Were the command there still, this would be rejected.
        c.send(c.data_out_pdu(itt, initiator.NONE, b"d" * 4096, 12288, 7))
        quiet(c)


def test_abort_while_queued(slow):
    """Many more than the device takes at once; the session is logged out of, too, while they run."""
    with sessions(slow) as (c,):
        tags = [c.start(READ_4K, 4096, READ) for _ in range(40)]
        assert c.tmf(ABORT_TASK, ref_itt=tags[-1], timeout=60) in (0, 1)
        assert c.tmf(ABORT_TASK_SET, timeout=60) == 0
        quiet(c)
    with sessions(slow) as (c,):
        [c.start(READ_4K, 4096, READ) for _ in range(20)]
        c.reset()
    with sessions(slow) as (c,):
        assert c.scsi(READ_4K, read=4096, timeout=30)[0] == 0


@ours
def test_reported_luns_data_has_changed():
    target = lio.IscsiTarget(lio.ramdisk())
    with sessions(target, 2) as (a, b):
        target.lun(lio.ramdisk("rd1", 1 << 20), 1)
        assert attention(a) == "6/3f0e" and attention(a) == ""
        assert b.scsi(bytes.fromhex("120000006000"), read=96)[0] == 0, "INQUIRY goes before unit attentions"
        # REPORT LUNS is served, and clears it (SPC-4, 5.8.6).
        status, data, _ = b.scsi(bytes.fromhex("a00000000000000001000000"), read=256)
        assert status == 0 and int.from_bytes(data[:4], "big") == 16
        assert attention(b) == ""
        target.remove_lun(1)
        assert attention(a) == "6/3f0e"
        status, _, x = a.scsi(TUR, lun=1)
        assert status == 2 and say(x.sense) == "5/2500"


def test_wrong_lun(target):
    with sessions(target) as (c,):
        status, _, a = c.scsi(TUR, lun=200)
        assert status == 2 and say(a.sense) == "5/2500"
        status, data, _ = c.scsi(bytes.fromhex("120000006000"), read=96, lun=200)
        assert status == 0 and data[0] == 0x7F


def test_write_protect():
    target = lio.IscsiTarget(lio.ramdisk())
    lio.write(target.path / "attrib/demo_mode_write_protect", 1)
    with sessions(target) as (c,):
        status, _, a = c.scsi(WRITE_64K, write=bytes(65536))
        assert status == 2 and say(a.sense) == "7/2700"
        status, mode, _ = c.scsi(bytes.fromhex("1a003f00ff00"), read=255)
        assert status == 0 and mode[2] & 0x80
        assert c.scsi(READ_4K, read=4096)[0] == 0
        for cdb in ("35000000000000000000", "93000000000000000000000000010000"):
            status, _, a = c.scsi(bytes.fromhex(cdb), write=bytes(512) if cdb[0] == "9" else b"")
            assert status == 0 if cdb[0] == "3" else say(a.sense) == "7/2700"


def test_session_reinstatement(target):
    """The same initiator and ISID again: the old connection ends, its commands with it (RFC 7143, 6.3.5)."""
    old = initiator.session(target, name=NAMES[0], keys=SOLICITED)
    waiting(old, 3)
    new = initiator.session(target, name=NAMES[0], keys=SOLICITED)
    assert lio.STOCK or len(lio.read(target.path / "sessions").splitlines()) == 1
    assert new.tsih != 0
    while (a := old.receive(30)) is not None:
        assert a.opcode != SCSI_RESPONSE or a.status == 0x40
    assert new.scsi(READ_4K, read=4096)[0] == 0
    new.close()
    old.close()


def test_lost_connection(target):
    """A TCP reset with commands in every stage: they are gone, and nothing is held."""
    for _ in range(5):
        with sessions(target) as (c,):
            waiting(c, 5)
            [c.start(READ_4K, 4096, READ) for _ in range(5)]
            c.reset()
    with sessions(target) as (c,):
        assert c.scsi(READ_4K, read=4096)[0] == 0


def test_flooded_with_commands(target):
    """More than any window: each that is in the window is answered; TASK SET FULL and BUSY are answers, too."""
    with sessions(target) as (c,):
        n = min((c.max_cmd_sn - c.cmd_sn + 1) & initiator.NONE, 4096)
        tags = [c.start(READ_4K, 4096, READ) for _ in range(n)]
        got = {}
        while len(got) < n:
            a = c.receive(60)
            assert a is not None
            if a.opcode == SCSI_RESPONSE or a.opcode == DATA_IN and a.flags & 1:
                got[a.itt] = a.status
        assert set(got) == set(tags) and set(got.values()) <= {0, 0x28, 0x08}
        assert attention(c) == ""
