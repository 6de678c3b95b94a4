"""Initiators that do not read what they asked for: they hold up nobody, and cost bounded memory."""
import contextlib
import re
import select
import socket
import time

import initiator
import leaks
import lio
import pytest
from initiator import ABORT_TASK, FINAL, LUN_RESET, NOP_IN, NOP_OUT, NONE, READ, TMF

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
READ_1M = bytes.fromhex("28000000000000080000")
READ_3M = bytes.fromhex("28000000000000180000")
READ_CAPACITY = bytes([0x25] + [0] * 9)


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk())


def stuck(target):
    """A session with 32 MB on their way to it, of which it takes a few KiB."""
    c = initiator.session(target, name="iqn.2024-01.org.example:stuck", isid=b"\x80\0\0\0\2\1")
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(32):
        c.start(READ_1M, 1 << 20, READ)
    time.sleep(1)
    return c


def test_others_are_not_held_up(target):
    with stuck(target), initiator.session(target) as other:
        before = time.monotonic()
        assert other.tmf(LUN_RESET, timeout=10) == 0
        target.remove_lun()
        assert time.monotonic() - before < 10 * lio.SLOW


def test_functions_that_wait_hold_up_no_others(target):
    """Sessions that abort what they do not read, as many times as they may: each function waits, and no worker does."""
    other = lio.IscsiTarget(lio.ramdisk("other", 1 << 20), iqn="iqn.2003-01.org.example:other", portals=("127.0.0.1:3270",))
    with contextlib.ExitStack() as stack:
        for n in range(64):
            c = stack.enter_context(initiator.session(target, name="iqn.2024-01.org.example:stuck", isid=b"\x80\0\0\0\4" + bytes([n])))
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # More than TCP takes.
            tag = c.start(READ_3M, 3 << 20, READ)
            for _ in range(16):
                c.send(initiator.pdu(TMF, FINAL | ABORT_TASK, immediate=True, itt=c.itt(), w=(tag, c.cmd_sn, c.exp_stat_sn, 0)))
        with initiator.session(other) as d:
            assert d.tmf(LUN_RESET, timeout=10 * lio.SLOW) == 0
        # What has ended can log in again: nothing of it waits.
        with initiator.session(other) as d:
            assert d.scsi(READ_CAPACITY, read=8)[0] == 0


def read_4k(i):
    return bytes([0x28, 0, *(8 * i).to_bytes(4, "big"), 0, 0, 8, 0])


def test_what_was_sent_stays():
    """What an initiator takes late is what was read for it, whatever is read for others meanwhile: TCP still had the pages."""
    target = lio.IscsiTarget(lio.iblock(), iqn="iqn.2003-01.org.example:late")
    want = [bytes([i]) * 4096 for i in range(96)]
    cpus = lio.ISCSI / "cpus_allowed_list"
    before = lio.read(cpus)
    lio.write(cpus, "0")
    try:
        with initiator.session(target) as late, initiator.session(target, isid=b"\x80\0\0\0\2\2") as other:
            for i, data in enumerate(want):
                assert other.scsi(bytes([0x2a]) + read_4k(i)[1:], write=data)[0] == 0
            late.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            tags = [late.start(read_4k(i), 4096, READ) for i in range(48)]
            time.sleep(1)
            for i in range(48, 96):
                assert other.scsi(read_4k(i), read=4096)[:2] == (0, want[i])
            answers = late.finish_all(tags)
            assert [answers[t].data[:1] for t in tags] == [d[:1] for d in want[:48]]
            assert [answers[t].data for t in tags] == want[:48]
    finally:
        lio.write(cpus, before)


def available():
    """KiB, with what TCP has: the most of several looks, for others take memory for a moment."""
    def look():
        tcp = int(re.search(r"TCP: .* mem (\d+)", lio.read("/proc/net/sockstat"))[1]) * 4
        return leaks.meminfo()["MemAvailable"] + tcp

    lio.write("/proc/sys/vm/drop_caches", 3)
    looks = []
    for _ in range(8):
        looks.append(look())
        time.sleep(0.3)
    return max(looks)


def flood(stack, target, sessions, request, limit=64 << 20):
    """Sessions send what `request` gives, as long as the target takes it, and read nothing."""
    for n in range(sessions):
        c = stack.enter_context(initiator.session(target, isid=b"\x80\0\0\0\3" + bytes([n])))
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        c.sock.setblocking(False)
        rest, sent = b"", 0
        while sent < limit and select.select([], [c.sock], [], 1)[1]:
            rest = rest or request(c)
            took = c.sock.send(rest)
            rest, sent = rest[took:], sent + took


def test_texts(target):
    """Requests whose answers are four times as long, without reading: what is kept of the answers is bounded."""
    request = initiator.text({f"X-{i}": 1 for i in range(150)})
    start = available()
    with contextlib.ExitStack() as stack:
        flood(stack, target, 4, lambda c: initiator.pdu(initiator.TEXT, data=request, immediate=True, itt=c.itt(),
                                                     w=(NONE, *c.numbers(True))))
        held = start - available()
        print(f"{held} KiB held")
        # 256 KiB of answers, and what a session costs in any case.
        assert held < 4 * 2048, f"{held} KiB held"


@pytest.mark.parametrize("what", ["pings", "commands"])
def test_short_answers(target, what):
    """Answers of a few bytes of data, not read, cost about what their bytes are: TCP counts no more."""
    def request(c):
        if what == "pings":
            return b"".join(initiator.pdu(NOP_OUT, data=b"ping", immediate=True, itt=c.itt(), w=(NONE, c.cmd_sn, c.exp_stat_sn))
                            for _ in range(64))
        return b"".join(c.command_pdu(READ_CAPACITY, 8, READ, immediate=True) for _ in range(64))

    start = available()
    with contextlib.ExitStack() as stack:
        flood(stack, target, 2, request)
        held = start - available()
        print(f"{held} KiB held")
        assert held < 2 * 4096, f"{held} KiB held"


def test_pings(target):
    """8 KiB each, without reading: the target stops taking them in. Read in the end, each has its answer."""
    with initiator.session(target) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.sock.setblocking(False)
        sent = pings = 0
        rest = memoryview(b"")
        while sent < 64 << 20:
            if not rest:
                pings += 1
                rest = memoryview(initiator.pdu(NOP_OUT, data=bytes(8192), immediate=True, itt=pings,
                                                w=(NONE, c.cmd_sn, c.exp_stat_sn)))
            if not select.select([], [c.sock], [], 3)[1]:
                break
            n = c.sock.send(rest)
            sent, rest = sent + n, rest[n:]
        assert sent < 32 << 20
        for itt in range(1, pings + 1):
            a = c.receive(10)
            assert a.opcode == NOP_IN and a.itt == itt and len(a.data) == 8192
            if rest and select.select([], [c.sock], [], 0)[1]:
                rest = rest[c.sock.send(rest) :]
