"""Each allocation of set-up, login and I/O fails in its turn, then some of all: the operation fails cleanly or succeeds, and the
next succeeds. That nothing is leaked is seen when the modules are unloaded at the end. And requests that fail below back ends."""
# only: debug
# vm: --timeout 900
import collections
import contextlib
import ctypes
import errno
import functools
import os
import select
import threading
import time
import traceback

import failing
import initiator
import leaks
import lio
import pytest
import test_reassign
import test_sessions
from faulty import GOOD, READ_ERROR, WRITE_ERROR, Blocks, Local, Remote, rw, scsi_debug
from initiator import ABORT_TASK, CLEAR_TASK_SET, LUN_RESET, SCSI_RESPONSE, WARM_RESET
from legs import READ_4K, Leg
from sgio import say
from storage import MIB, pattern

pytestmark = pytest.mark.skipif(not failing.here(), reason="the kernel has no fault injection")
ME = "iqn.2024-01.org.example:i{}"
MODULES = ["target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod", "tcm_loop"]
BUSY, TASK_SET_FULL, NO_RESOURCES = (8, ""), (0x28, ""), (2, "B/5503")
SHORT = {BUSY, TASK_SET_FULL, NO_RESOURCES}
# Login statuses (RFC 7143, 11.13.5): target error, service unavailable, out of resources.
NOT_NOW = {0x0300, 0x0301, 0x0302}
libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def insert(module):
    """finit_module(2)"""
    fd = os.open(lio.run("modinfo", "-n", module).stdout.strip(), os.O_RDONLY)

    def do():
        syscall(313, fd, b"", 0)

    return do


def remove(module):
    """delete_module(2), waiting a little for what lets go later"""
    def done():
        with contextlib.suppress(BlockingIOError):
            syscall(176, module.encode(), os.O_NONBLOCK)
            return True

    lio.wait_for(done)


# Without tcm_loop: bus_register() of this kernel, whose first allocation fails, takes its lock class back twice, and lockdep warns.
@pytest.mark.parametrize("module", MODULES[:-1])
def test_module(module):
    """Inserting a module."""
    lio.modprobe(module)
    lio.run("rmmod", module)
    with failing.within(failing.function("do_one_initcall")):
        n = failing.each(insert(module), lambda: remove(module))
    print(f"{module}: {n}")
    assert n > 3
    lio.modprobe(module)


class Setup:
    """Does each step of a set-up with its first allocation failing, its second, …; then as it is."""

    def __init__(self):
        self.steps, self.failed = [], {}

    def step(self, name, do, undo, also=()):
        self.failed[name] = failing.each(do, undo, also)
        do()
        self.steps.append((name, do, undo))

    def mkdir(self, path, also=()):
        self.step(f"mkdir {path.relative_to(lio.CFS)}", lambda: os.mkdir(path), lambda: os.rmdir(path), also)

    def link(self, path, to):
        self.step(f"ln {path.relative_to(lio.CFS)}", lambda: os.symlink(to, path), lambda: os.unlink(path))

    def write(self, path, value, undo=lambda: None):
        self.step(f"write {path.relative_to(lio.CFS)}", lambda: lio.write(path, value), undo)

    def attributes(self, group):
        """Writes to each attribute what it says."""
        for a in sorted(group.iterdir()):
            if a.is_file() and a.stat().st_mode & 0o600 == 0o600:
                value = lio.read(a)
                with contextlib.suppress(OSError):
                    lio.write(a, value)
                    self.write(a, value)

    def undo(self):
        """Takes all away, the last first: that does not fail for want of memory."""
        for name, do, undo in reversed(self.steps):
            if not name.startswith("write"):
                n = failing.each(undo, do)
                assert n == 0, f"undoing {name} failed {n} times"
                undo()


def test_setup():
    """Back ends, iSCSI with an ACL, loopback."""
    lio.modprobe(*MODULES)
    dev, s = lio.loop_device(16 * MIB), Setup()
    # A file system that cannot make a file may say anything.
    lio.run("truncate", "-s", 16 * MIB, "/tmp/alloc.img")
    with failing.within(failing.text("target_core_mod")):
        controls = {"rd_mcp": "rd_pages=4096", "fileio": f"fd_dev_name=/tmp/alloc.img,fd_dev_size={16 * MIB}", "iblock": f"udev_path={dev}"}
        stores = []
        for plugin, control in controls.items():
            hba = lio.CORE / f"{plugin}_0"
            s.mkdir(hba)
            s.mkdir(hba / "d")

            def again(path=hba / "d", control=control):
                os.rmdir(path)
                os.mkdir(path)
                lio.write(path / "control", control)

            s.write(hba / "d/control", control, again)
            s.write(hba / "d/enable", 1, again)
            s.write(hba / "d/wwn/vpd_unit_serial", f"serial-of-{plugin}")
            s.attributes(hba / "d/attrib")
            stores.append(hba / "d")
        s.mkdir(lio.ISCSI)
        s.mkdir(lio.ISCSI / "iqn.2003-01.org.example:t1")
        tpg = lio.ISCSI / "iqn.2003-01.org.example:t1/tpgt_1"
        s.mkdir(tpg)
        for portal in "127.0.0.1:3260", "[::1]:3260":
            # What a socket and bind(2) say where there is no memory.
            s.mkdir(tpg / "np" / portal, also=(errno.ENOBUFS, errno.EADDRINUSE))
        acl = tpg / "acls" / ME.format(1)
        for n, store in enumerate(stores):
            s.mkdir(tpg / f"lun/lun_{n}")
            s.link(tpg / f"lun/lun_{n}/store", store)
        s.mkdir(acl)
        for n in range(3):
            s.mkdir(acl / f"lun_{n}")
            s.link(acl / f"lun_{n}/lun", tpg / f"lun/lun_{n}")
        lio.write(tpg / "attrib/authentication", 0)
        for group in tpg / "attrib", tpg / "param", tpg / "auth", acl / "attrib", acl / "param", acl / "auth":
            if group.exists():
                s.attributes(group)
        s.write(tpg / "enable", 1, lambda: lio.write(tpg / "enable", 0))
        s.mkdir(lio.LOOPBACK)
        s.mkdir(lio.LOOPBACK / "naa.5001405000000001")
        port = lio.LOOPBACK / "naa.5001405000000001/tpgt_1"
        s.mkdir(port)
        s.write(port / "nexus", "naa.5001405000000002", lambda: lio.write(port / "nexus", "NULL"))
        s.mkdir(port / "lun/lun_0")
        s.link(port / "lun/lun_0/store", stores[0])
    print({name: n for name, n in s.failed.items() if n > 3})
    # It serves.
    c = initiator.Connection()
    c.login("iqn.2003-01.org.example:t1", name=ME.format(1))
    for lun in range(3):
        lio.wait_for(lambda: c.scsi(rw(0x88, 0, 8), read=4096, lun=lun)[0] == 0)
    c.close()
    address = lio.read(port / "address")
    assert lio.wait_for(lambda: lio.scsi_disk(f"{address}:0"))
    lio.write(tpg / "enable", 0)
    with failing.within(failing.text("target_core_mod")):
        s.undo()
    assert not lio.ISCSI.exists() and not lio.LOOPBACK.exists() and not list(lio.CORE.glob("*_0"))


@pytest.fixture
def served():
    """A target with a back end of each kind, and what an initiator sees of it without faults."""
    lio.modprobe(*MODULES)
    stores = [lio.ramdisk(), lio.fileio(), lio.iblock()]
    for s in stores:
        s.attrib("emulate_tpu", 1)
    yield stores, lio.IscsiTarget(*stores)
    lio.clear()


def fine(target):
    """A new session is served."""
    i = Remote(target, 77)
    for lun in range(3):
        data = pattern(65536, lun)
        assert i.write(32768, data, lun).what == GOOD  # where no Blocks are
        assert i.read(32768, 128, lun).data == data
    i.c.logout()
    i.close()


def attempt(target, outcomes, discovery=False):
    """A login that may fail as a target without memory has it fail: refused, or the connection closed."""
    try:
        with initiator.Connection() as c:
            try:
                a = c.login(None if discovery else target.iqn, name=ME.format(5), check=False)
            except TimeoutError:
                # TCP without memory for the segment that says so closes a connection in silence (tcp_send_fin).
                assert c.is_closed_there(), "no answer on an open connection"
                a = None
            outcomes.append(a.login_status if a else "closed")
            if a and a.login_status == 0:
                if discovery:
                    a = c.text_request({"SendTargets": "All"})
                    assert a is None or target.iqn in a.data.decode(), a
                else:
                    status = c.scsi(bytes(6))[0]
                    assert status in (0, 2, 8, 0x28), status
    except (ConnectionError, AssertionError) as e:
        if isinstance(e, AssertionError) and "closed the connection" not in str(e):
            raise
        outcomes.append("closed")


@pytest.mark.parametrize("discovery", [False, True])
def test_login(served, discovery):
    """Each allocation of a login or a discovery fails: it is refused or its connection closed, or nobody notices."""
    _, target = served
    fine(target)
    outcomes = []
    with failing.within(failing.text("target_core_mod")):
        n = failing.one_by_one(lambda what: attempt(target, outcomes, discovery), then=lambda: fine(target))
    print(n, {o: outcomes.count(o) for o in outcomes})
    assert sum(n.values()) > 10 and 0 in outcomes and set(outcomes) <= {0, "closed", *NOT_NOW}
    assert {"closed", *NOT_NOW} & set(outcomes)


COMMANDS = {
    "write": lambda i, lun: i.write(0, pattern(MIB, 1), lun),
    "read": lambda i, lun: i.read(0, 2048, lun),
    "flush": lambda i, lun: i.flush(lun),
    "verify": lambda i, lun: i.scsi(rw(0x8F, 0, 2048, 2), write=pattern(MIB, 1), lun=lun),
    "write same": lambda i, lun: i.scsi(rw(0x93, 8192, 512), write=pattern(512, 1), lun=lun),
    "zero": lambda i, lun: i.scsi(rw(0x93, 8192, 512), write=bytes(512), lun=lun),
    "unmap": lambda i, lun: i.unmap(8192, 1024, lun),
    "compare and write": lambda i, lun: i.scsi(rw(0x89, 0, 0)[:13] + b"\1" + bytes(2), write=pattern(512, 1) * 2, lun=lun),
    "inquiry": lambda i, lun: i.scsi(bytes.fromhex("12 01 83 00 ff 00"), read=255, lun=lun),
    "report luns": lambda i, lun: i.scsi(bytes.fromhex("a0 00 00 00 00 00 00 00 10 00 00 00"), read=4096, lun=lun),
    "report opcodes": lambda i, lun: i.scsi(bytes.fromhex("a3 0c 00 00 00 00 00 00 10 00 00 00"), read=4096, lun=lun),
}


@pytest.mark.parametrize("fabric", ["iscsi", "loopback"])
def test_commands(served, fabric):
    """Each allocation of each command fails: the command is to be tried again, or the session ends, and the next succeeds."""
    stores, target = served
    make = (lambda: Local(*stores)) if fabric == "loopback" else (lambda: Remote(target))
    i, ended, heard = [make()], [], []

    def command(do, lun, allowed):
        try:
            a = do(i[0], lun).what
            heard.append(a)
            assert a in allowed, a
        except (ConnectionError, AssertionError) as e:
            if fabric == "loopback" or isinstance(e, AssertionError) and "closed the connection" not in str(e):
                raise
            ended.append(str(e))
            i[0] = make()
        except OSError as e:  # the ioctl's own
            assert e.errno == 12, e

    with failing.within(failing.text("tcm_loop" if fabric == "loopback" else "target_core_mod")):
        for name, do in COMMANDS.items():
            for lun in range(3):
                def again():
                    a = do(i[0], lun)
                    assert a.what == GOOD, (name, lun, a)
                    if name == "read":
                        assert a.data == pattern(MIB, 1)

                again()
                n = failing.one_by_one(lambda _: command(do, lun, {GOOD, *SHORT}), then=again)
                print(f"{name} of {stores[lun].plugin}: {n}")
    print({h: heard.count(h) for h in heard}, f"{len(ended)} sessions ended")
    assert set(heard) & SHORT
    i[0].close()


ERL_1 = {"ErrorRecoveryLevel": 1, "HeaderDigest": "CRC32C", "DataDigest": "CRC32C", "MaxRecvDataSegmentLength": 16384}


def recovered(c):
    """What a session at error recovery level 1 does beside commands: a request before its turn, and data and statuses that are sent
    again. Gives the statuses, and how many SNACKs were rejected."""
    def receive():
        a = c.receive()
        if a is None:
            raise ConnectionResetError
        return receive() if c.pong(a) else a

    data, heard, rejects = pattern(16384, 3), [], 0
    # The second of two comes first.
    sn, _ = c.numbers()
    c.start(rw(0x8A, 0, 32), len(data), initiator.WRITE, data[:8192])
    c.start(bytes(6), numbers=(sn, c.exp_stat_sn))
    while len(heard) < 2:
        a = receive()
        if a.opcode == initiator.R2T:
            c.answer_r2t(a, data)
        else:
            assert a.opcode == initiator.SCSI_RESPONSE, a
            heard.append(a.status)
    before = c.exp_stat_sn
    itt = c.start(rw(0x88, 0, 32), len(data), initiator.READ)
    sent = [receive()]
    while sent[-1].opcode == initiator.DATA_IN:
        sent.append(receive())
    assert sent[-1].opcode == initiator.SCSI_RESPONSE
    heard.append(sent[-1].status)
    if heard == [0, 0, 0]:
        assert sent[0].data == data
    # Of statuses the one alone: a Reject has one, too.
    for kind, tag, run, want in (0, itt, (0, 0), sent[:-1]), (1, initiator.NONE, (before, 1), sent[-1:]):
        if not want:
            continue
        # Not acknowledged.
        c.exp_stat_sn = before
        c.send(initiator.pdu(initiator.SNACK, initiator.FINAL | kind, itt=tag, w=(initiator.NONE, 0, before, 0, 0, *run)))
        for w in want:
            a = receive()
            if a.opcode == initiator.REJECT:
                rejects += 1
                break
            assert (a.opcode, a.data) == (w.opcode, w.data), a
    c.exp_stat_sn = before + 1 + rejects
    return heard, rejects


def test_recovery(served):
    """The same at error recovery level 1, with digests: also what is kept to be sent again may find no memory."""
    _, target = served
    lio.write(target.path / "param/ErrorRecoveryLevel", 1)
    make = functools.partial(initiator.session, target, name=ME.format(1), keys=ERL_1)
    session, heard = [make()], collections.Counter()

    def again():
        assert recovered(session[0]) == ([0, 0, 0], 0)

    def once(_):
        try:
            statuses, rejects = recovered(session[0])
            assert set(statuses) <= {0, 2, 8, 0x28}, statuses
            heard.update(statuses)
            heard["rejected"] += rejects
        except TimeoutError:
            assert session[0].is_closed_there(), "no answer on an open connection"
            heard["closed"] += 1
            session[0] = make()
        except ConnectionError:
            heard["closed"] += 1
            session[0] = make()

    again()
    with failing.within(failing.text("target_core_mod")):
        print(failing.one_by_one(once, then=again), heard)
    assert heard[8] + heard["rejected"] + heard["closed"] > 5
    session[0].close()


def test_functions(served):
    """Each allocation of a task management function fails: it is rejected, or done."""
    _, target = served
    i, answers = Remote(target), []

    def function(code, **kw):
        answers.append(i.c.tmf(code, **kw))

    with failing.within(failing.text("target_core_mod")):
        for code, kw in (ABORT_TASK, {"ref_itt": 1}), (LUN_RESET, {}), (WARM_RESET, {}), (CLEAR_TASK_SET, {}):
            n = failing.one_by_one(lambda _: function(code, **kw), then=lambda: function(code, **kw))
            assert answers[-1] in (0, 1)
            print(code, n)
    assert set(answers) <= {0, 1, 255} and 255 in answers
    assert i.read(0, 8).what == GOOD
    i.close()


def test_functions_of_several_connections(served):
    """The same in a session of two connections, where the response waits for what the other one has to acknowledge: a connection that
    ends for want of memory leaves no thread behind."""
    _, target = served
    lio.write(target.path / "param/MaxConnections", 2)

    def make():
        s = test_sessions.Session(target, most=2, name=ME.format(1))
        s.with_legs(2)
        return s

    def function():
        a, b = held[0].legs
        itt = a.itt()
        a.send(initiator.pdu(initiator.TMF, initiator.FINAL | LUN_RESET, immediate=True, itt=itt,
                             w=(initiator.NONE, held[0].cmd_sn, a.exp_stat_sn)))
        while True:
            ready = [leg for leg in (a, b) if leg.buffer] or select.select([a.sock, b.sock], [], [], 60 * lio.SLOW)[0]
            assert ready, "no answer on an open connection"
            for leg in (leg for leg in (a, b) if leg in ready or leg.sock in ready):
                answer = leg.receive()
                if answer is None:
                    raise ConnectionResetError
                if not leg.pong(answer) and answer.itt == itt:
                    return answer.response

    def once(_):
        try:
            heard.append(function())
        except ConnectionError:
            heard.append("closed")
            for leg in held[0].legs:
                leg.close()

            def gone():
                """its connections' threads are gone"""
                return "iscsi_conn" not in leaks.threads()

            lio.wait_for(gone, 60)
            held[0] = make()

    held, heard = [make()], []
    with failing.within(failing.text("target_core_mod")):
        print(failing.one_by_one(once, then=lambda: once(None)), heard)
    assert heard[-1] == 0 and set(heard) <= {0, 255, "closed"} and len(set(heard)) > 1
    for leg in held[0].legs:
        leg.close()


def test_connection_recovery(served, monkeypatch):
    """At error recovery level 2, a write of a connection that is lost goes on with another one, or the initiator is told that it ends, or
    that one ends; the next one goes on, and no thread is left behind."""
    _, target = served
    target.attrib("default_erl", 2)

    class Short(Exception):
        """There was no memory for it, as the target says."""

    def receive(leg, timeout=None, receive=Leg.receive):
        a = receive(leg, timeout)
        if a is None:
            raise ConnectionResetError
        if a.opcode == SCSI_RESPONSE and (a.status, say(a.sense)) in SHORT:
            raise Short
        return a

    monkeypatch.setattr(Leg, "receive", receive)

    def make():
        s = test_reassign.recoverable(target, name=ME.format(1))
        s.with_legs(2)
        return s

    def go_on():
        a, b = held[0].legs
        data = pattern(4096, heard.total())
        itt, _ = test_reassign.asked(b)
        test_reassign.lose(b, a)
        test_reassign.recover(a)
        response = a.reassign(itt)
        if response in (test_reassign.NO_TASK, test_reassign.REJECTED):
            raise Short
        assert response == test_reassign.COMPLETE
        a.answer_r2t(a.receive(), data)
        assert a.finish(itt)[0] == 0
        status, got, _ = a.scsi(READ_4K, read=4096)
        assert (status, got) == (0, data)
        held[0].legs.pop()
        added = held[0].add(2, check=False)
        if not isinstance(added, Leg):
            assert added.login_status in NOT_NOW, added
            raise Short

    def once(_=None):
        try:
            go_on()
        except (ConnectionError, Short):
            pass
        except TimeoutError:
            assert all(leg.is_closed_there() for leg in held[0].legs), "no answer on an open connection"
        else:
            heard["went on"] += 1
            return
        heard["ended"] += 1
        for leg in held[0].legs:
            leg.close()
        try:
            held[0] = make()
        except (ConnectionError, AssertionError, Short):
            held[0] = make()

    def then():
        before = heard["went on"]
        once()
        if heard["went on"] == before:  # a connection may end for it a little later
            once()
        assert heard["went on"] > before

    held, heard = [make()], collections.Counter()
    for module in "iscsi_target_mod", "target_core_mod":
        with failing.within(failing.text(module)):
            print(module, failing.one_by_one(once, then=then), heard)
    go_on()
    assert heard["ended"] > 5 and heard["went on"] > 1
    for leg in held[0].legs:
        leg.close()

    def gone():
        """its connections' threads are gone"""
        return "iscsi_conn" not in leaks.threads()

    lio.wait_for(gone, 60)


def test_changes_under_io(served):
    """Some of all allocations fail, more and more, while initiators read and write, come and go, and portals and sizes change."""
    stores, target = served
    local = Local(*stores)
    over, failures, outcomes = threading.Event(), [], []

    class Resumed(Remote):
        """Logs in again when the target has ended the session."""

        def __init__(self, n):
            self.n = n
            super().__init__(target, n)

        def once(self, *args):
            try:
                return super().once(*args)
            except (ConnectionError, AssertionError) as e:
                if isinstance(e, AssertionError) and "closed the connection" not in str(e):
                    raise
            while True:
                with contextlib.suppress(ConnectionError, AssertionError, TimeoutError):
                    super().__init__(target, self.n)
                    # Nothing is known of what it was about.
                    return 8, b"", b""
                time.sleep(0.1)

    def repeat(do):
        try:
            while not over.is_set():
                do()
        except BaseException:
            failures.append(traceback.format_exc())

    blocks = [Blocks(i, n, 3, SHORT) for n, i in enumerate([local, *(Resumed(n) for n in range(1, 4))])]
    portal = target.path / "np/127.0.0.1:3277"

    def change():
        for what in (lambda: os.mkdir(portal), lambda: lio.write(stores[1].path / "control", f"fd_dev_size={33 * MIB}"),
                     lambda: lio.write(stores[1].path / "control", f"fd_dev_size={32 * MIB}")):
            with contextlib.suppress(OSError):
                what()
        if portal.exists():
            os.rmdir(portal)
        time.sleep(0.05)

    for percent in 1, 3, 10, 30, 100:
        over.clear()
        before = sum(sum(b.heard.values()) for b in blocks)
        with failing.within(failing.text("target_core_mod")), failing.some(percent):
            threads = [threading.Thread(target=repeat, args=(f,)) for f in
                       [*(b.step for b in blocks), lambda: attempt(target, outcomes), lambda: attempt(target, outcomes, True), change]]
            for t in threads:
                t.start()
            time.sleep(10)
            over.set()
            time.sleep(2)
        for t in threads:
            t.join(60 * lio.SLOW)
        assert not any(t.is_alive() for t in threads) and not failures, failures
        fine(target)
        for b in blocks:
            # A session that has ended unnoticed is begun again first.
            lio.wait_for(lambda: b.initiator.read(0, 8).what == GOOD)
            b.check()
        print(f"{percent} %: {sum(sum(b.heard.values()) for b in blocks) - before} commands, logins {dict((o, outcomes.count(o)) for o in outcomes)}")
    assert set(outcomes) <= {0, "closed", *NOT_NOW}
    for b in blocks:
        b.initiator.close()


def test_requests():
    """Requests fail at the back ends' disks, more and more: read and write errors, and no data is wrong."""
    lio.modprobe("brd")
    knob = failing.DEBUGFS / "fail_make_request"
    with scsi_debug(dev_size_mb=64) as (scsi,):
        disks = [scsi, lio.loop_device(32 * MIB), "/dev/ram0", "/dev/ram1"]
        for d in disks[2:]:
            lio.run("blkdiscard", "-z", "-l", 16 * MIB, d)
        stores = [lio.iblock(f"b{n}", d, hba=n) for n, d in enumerate(disks[:3])] + [lio.fileio("f", file=disks[3])]
        local, target = Local(*stores), lio.IscsiTarget(*stores)
        initiators = [local, Remote(target, 1), Remote(target, 2)]
        blocks = [Blocks(i, n, 4, {READ_ERROR, WRITE_ERROR}) for n, i in enumerate(initiators)]
        for name, value in {"interval": 1, "times": -1, "verbose": 0}.items():
            lio.write(knob / name, value)
        for d in disks:
            lio.write(f"/sys/block/{os.path.basename(d)}/make-it-fail", 1)
        for percent in 1, 10, 50, 100:
            lio.write(knob / "probability", percent)
            for b in blocks:
                for _ in range(100):
                    b.step()
            if percent == 100:
                assert local.flush(0).what == WRITE_ERROR and local.unmap(0, 8, 3).what != GOOD
            lio.write(knob / "probability", 0)
            for b in blocks:
                b.check()
            print(percent, sum((b.heard for b in blocks), collections.Counter()))
        for i in initiators:
            i.close()
        lio.clear()
