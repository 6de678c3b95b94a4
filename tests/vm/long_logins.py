"""Many sessions at once, many logins and logouts in turn, many targets; says what a session costs in memory and a login in time. On its own:
`make check-logins`; STOCK=1 for the C modules' numbers."""
import contextlib
import os
import resource
import select
import socket
import struct
import time

import initiator
import leaks
import lio
import pytest
from test_negotiation import whole

ARGS = dict(a.split("=") for a in os.environ.get("LIO_RS_ARGS", "").split())
SESSIONS, LOGINS, TARGETS = (int(ARGS.get(k, n)) for k, n in (("sessions", 1000), ("logins", 10000), ("targets", 2000)))
KEYS = {"SessionType": "Normal", "HeaderDigest": "None", "DataDigest": "None", "MaxConnections": 1,
        "InitialR2T": "No", "ImmediateData": "Yes", "MaxRecvDataSegmentLength": 65536, "MaxBurstLength": 65536,
        "FirstBurstLength": 65536, "DefaultTime2Wait": 0, "DefaultTime2Retain": 0, "MaxOutstandingR2T": 1, "ErrorRecoveryLevel": 0}
KERNEL = ("KernelStack", "Slab", "VmallocUsed", "Percpu", "PageTables")


def settled():
    """KiB that are free, or are processes' own, once all is given back that can be: the same question gives the same answer. And what the
    kernel has of each kind."""
    leaks.settle()
    leaks.shrink()
    m = leaks.meminfo()
    return sum(m[k] for k in ("MemFree", "Buffers", "Cached", "AnonPages")), {k: m[k] for k in KERNEL}


def less(before, after, n):
    """KiB less for each of n, in all and of each kind."""
    kinds = {k: round((after[1][k] - before[1][k]) / n, 1) for k in KERNEL}
    return round((before[0] - after[0]) / n, 1), kinds


class Fast:
    """A session whose initiator does as little as it can: one login request, one logout request."""

    def __init__(self, iqn, name, isid=b"\x80\0\0\0\0\1"):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Many sockets of one process to one port: none waits for an old one's time.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.settimeout(60 * lio.SLOW)
        self.sock.connect(("127.0.0.1", 3260))
        keys = initiator.text({"InitiatorName": name, "TargetName": iqn} | KEYS)
        flags = 0x80 | initiator.OPERATIONAL << 2 | initiator.FULL_FEATURE
        self.sock.sendall(initiator.pdu(initiator.LOGIN, flags, keys, immediate=True, itt=1, bytes_8_15=isid + bytes(2), w=(1 << 16, 1, 0)))
        self.status = self.receive()[36:38]

    def receive(self):
        """The next PDU that is no ping."""
        while True:
            head = self.take(48)
            n = int.from_bytes(head[5:8], "big")
            self.take(n + -n % 4)
            if not self.pong(head):
                self.acknowledged = int.from_bytes(head[24:28], "big") + 1
                return head

    def pong(self, head):
        """Answers a ping; whether it was one."""
        ttt = int.from_bytes(head[20:24], "big")
        ping = head[0] & 0x3F == initiator.NOP_IN and ttt != initiator.NONE
        if ping:
            self.sock.sendall(initiator.pdu(initiator.NOP_OUT, immediate=True, w=(ttt, 1, self.acknowledged)))
        return ping

    def pump(self):
        """Answers a ping if there is one: whoever is silent for 45 s is taken for dead."""
        # recv() would wait for one, whatever it is told: the socket has a time limit.
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        if waiting.poll(0):
            assert self.pong(self.take(48))

    def take(self, n):
        got = b""
        while len(got) < n:
            piece = self.sock.recv(n - len(got))
            if not piece:
                raise ConnectionResetError
            got += piece
        return got

    def ping(self, itt):
        self.sock.sendall(initiator.pdu(initiator.NOP_OUT, itt=itt, immediate=True, w=(initiator.NONE, 1, self.acknowledged)))
        return self.receive()[0] & 0x3F

    def logout(self):
        self.sock.sendall(initiator.pdu(initiator.LOGOUT, initiator.FINAL, itt=2, immediate=True, w=(0, 1, self.acknowledged)))
        return self.receive()[0] & 0x3F

    def close(self):
        self.sock.close()


@pytest.fixture
def target():
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    t = lio.IscsiTarget(lio.ramdisk())
    lio.write(t.path / "attrib/login_timeout", 30)
    return t


def pairs(n):
    """n TCP connections that nobody serves: what both ends of one cost, and the initiator's own memory."""
    with socket.create_server(("127.0.0.1", 3299), backlog=n) as server:
        ends = []
        for _ in range(n):
            ends += [socket.create_connection(("127.0.0.1", 3299)), server.accept()[0]]
        yield
        for s in ends:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    yield


def sessions(target):
    return int(lio.read(target.wwn_path / "fabric_statistics/iscsi_instance/sessions"))


def gone(target):
    """No connection has a thread any more."""
    return sessions(target) == 0 and not {"iscsi_conn", "iscsi_trx", "iscsi_ttx"} & leaks.threads().keys()


def test_many_sessions(target):
    """All are let in, none is slower than it may be, all answer, and what they cost comes back."""
    # Once, so that what is made once is there.
    for c in [Fast(target.iqn, f"iqn.2024-01.org.example:w{i}") for i in range(20)]:
        assert c.status == b"\0\0"
        c.logout()
        c.close()
    lio.wait_for(lambda: gone(target), 60)
    before = settled()
    gen = pairs(SESSIONS)
    next(gen)
    sockets, _ = less(before, settled(), SESSIONS)
    next(gen)
    before = settled()
    all_of, took = [], 0.0
    for i in range(SESSIONS):
        start = time.monotonic()
        all_of.append(Fast(target.iqn, f"iqn.2024-01.org.example:i{i}"))
        took += time.monotonic() - start
        if i % 100 == 99:
            for c in all_of:
                c.pump()
    good = [c for c in all_of if c.status == b"\0\0"]
    print(f"\n{len(good)} of {SESSIONS} sessions, {took * 1000 / SESSIONS:.1f} ms a login while others stay")
    assert len(good) == SESSIONS
    # The C modules count those of demo mode nowhere.
    assert lio.STOCK or sessions(target) == SESSIONS and len(lio.read(target.path / "sessions").split("\n")) == SESSIONS
    whole, kinds = less(before, settled(), SESSIONS)
    print(f"an idle session: {whole} KiB, {round(whole - sockets, 1)} KiB of them beyond a pair of sockets; {kinds}")
    start = time.monotonic()
    assert all(c.ping(i + 10) == initiator.NOP_IN for i, c in enumerate(good))
    print(f"a ping: {(time.monotonic() - start) * 1000 / SESSIONS:.1f} ms")
    start = time.monotonic()
    assert all(c.logout() == initiator.LOGOUT_RESPONSE for c in good)
    for c in good:
        c.close()
    lio.wait_for(lambda: gone(target), 120)
    print(f"a logout: {(time.monotonic() - start) * 1000 / SESSIONS:.1f} ms")
    left, kinds = less(before, settled(), SESSIONS)
    print(f"kept after them: {left} KiB each; {kinds}")
    if not lio.STOCK:
        assert left < 6  # of slabs those that are used in part


def test_logins_in_turn(target):
    """One after the other; the time of the last thousand is that of the first."""
    took = []
    before = settled()
    for part in range(10):
        start = time.monotonic()
        for i in range(LOGINS // 10):
            c = Fast(target.iqn, f"iqn.2024-01.org.example:i{i % 100}")
            assert c.status == b"\0\0", (part, i, c.status)
            assert c.logout() == initiator.LOGOUT_RESPONSE
            c.close()
        took.append((time.monotonic() - start) * 1000 / (LOGINS // 10))
    lio.wait_for(lambda: gone(target), 60)
    left = before[0] - settled()[0]
    print(f"\n{LOGINS} logins with logouts: {sum(took) / 10:.2f} ms each, thousand by thousand {[round(t, 2) for t in took]}; {left} KiB kept")
    if not lio.STOCK:
        assert took[9] < 1.5 * took[0] and left < 2048


def listed(length):
    """What SendTargets says to a discovery session that takes PDUs of `length` bytes, as a list of pairs; and how many PDUs that were."""
    with initiator.Connection(timeout=120) as c:
        c.login(keys={"MaxRecvDataSegmentLength": length})
        return whole(c, b"SendTargets=All\0")


@pytest.mark.skipif(lio.STOCK, reason="the C modules' list ends with a PDU")
def test_many_targets(target, klog):
    """All of them are listed, by many at once, in a bounded time and within 1 MiB each; beyond that the list is cut, and the log says so;
    the last one lets initiators in as fast as the first."""
    def make(n):
        """Targets of the longest names, with one portal each."""
        for i in range(n):
            wwn = lio.ISCSI / f"iqn.2003-01.org.example:{len(made):05d}".ljust(223, "x")
            (wwn / "tpgt_1").mkdir(parents=True)
            (wwn / "tpgt_1/np/127.0.0.1:3260").mkdir()
            lio.write(wwn / "tpgt_1/attrib/authentication", 0)
            lio.write(wwn / "tpgt_1/attrib/generate_node_acls", 1)
            lio.write(wwn / "tpgt_1/enable", 1)
            made.append(wwn.name)

    def login(iqn):
        start = time.monotonic()
        with contextlib.closing(Fast(iqn, "iqn.2024-01.org.example:many")) as c:
            assert c.status == b"\0\0" and c.logout() == initiator.LOGOUT_RESPONSE
        return time.monotonic() - start

    def remove():
        for name in made:
            lio.write(lio.ISCSI / name / "tpgt_1/enable", 0)
            (lio.ISCSI / name / "tpgt_1/np/127.0.0.1:3260").rmdir()
            (lio.ISCSI / name / "tpgt_1").rmdir()
            (lio.ISCSI / name).rmdir()
        made.clear()

    made, before, start = [], settled(), time.monotonic()
    make(TARGETS)
    took, (each, kinds) = time.monotonic() - start, less(before, settled(), TARGETS)
    print(f"\n{TARGETS} targets: {took * 1000 / TARGETS:.1f} ms and {each} KiB each; {kinds}")
    first, last = ([login(iqn) for _ in range(50)] for iqn in (made[0], made[-1]))
    print(f"a login and logout: {sorted(first)[25] * 1000:.1f} ms at the first of them, {sorted(last)[25] * 1000:.1f} ms at the last")
    assert sorted(last)[25] < 3 * sorted(first)[25] + 0.005
    for length in (8192, 65536):
        start = time.monotonic()
        pairs, pdus = listed(length)
        print(f"{len(pairs)} pairs in {pdus} PDUs of {length} bytes: {(time.monotonic() - start) * 1000:.0f} ms")
        assert [v for k, v in pairs if k == "TargetName"] == [target.iqn, *made]
        assert len(pairs) == 2 * (TARGETS + 1) and pdus == -(-sum(len(k) + len(v) + 2 for k, v in pairs) // length)
    more = (1 << 20) // 250 + 500 - TARGETS
    make(more)
    pairs, _ = listed(65536)
    names = [v for k, v in pairs if k == "TargetName"]
    assert names == [target.iqn, *made][: len(names)] and len(names) < len(made)
    assert (1 << 20) - 512 < sum(len(k) + len(v) + 2 for k, v in pairs) <= 1 << 20
    assert klog.has("the list is cut")
    start, n = time.monotonic(), len(made)
    remove()
    print(f"deleting one: {(time.monotonic() - start) * 1000 / n:.1f} ms")
    # Slabs that are used in part stay; a second time they are not more.
    again = settled()
    left, _ = less(before, again, n)
    make(TARGETS)
    remove()
    more, _ = less(again, settled(), TARGETS)
    print(f"kept after them: {left} KiB each, a second time {more}")
    assert left < each / 10 and more < 1
