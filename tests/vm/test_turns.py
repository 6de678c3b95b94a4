"""COMPARE AND WRITE (SBC-4 5.3) and ORWRITE (4.27.1) beside other writes of the same blocks, none of which comes between what they read and what
they write. The disk takes its time to read, or to write."""
# vm: --timeout 600
# group: tasks
import contextlib
import threading
import time

import initiator
import lio
import pytest
import storage
from faulty import rw
from initiator import ABORT_TASK, SCSI_RESPONSE, WRITE

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules let other writes come between")
BLOCK = 512
FAR = 8192  # blocks away
MISCOMPARE = (0xE, 0x1D, 0)
HELD = 600_000  # milliseconds: until it is let go


def filled(value):
    return bytes([value]) * BLOCK


@contextlib.contextmanager
def disk(read=0, write=0, above=False):
    """A target whose disk takes so many milliseconds to read, and to write; its `let_go` has it, two seconds later, give back what it holds,
    and take no time any more; `has_write` waits until it holds one. `above`: a loop device on that, which knows REQ_NOWAIT."""

    def writes():
        """the disk has the write"""
        return lio.run("dmsetup", "status", "turns").stdout.split()[4] != "0"

    lio.modprobe("dm_mod", "dm_delay")
    below = lio.loop_device(32 << 20)
    fast, slow = (("turns", f"0 65536 delay {below} 0 {r} {below} 0 {w}") for r, w in ((0, 0), (read, write)))
    with storage.dm(*fast) as dev:
        if above:
            dev = lio.run("losetup", "--show", "-f", "--direct-io=on", dev).stdout.strip()
        store = lio.iblock(dev=dev)
        t = lio.IscsiTarget(store)
        storage.reload(*slow)
        later = threading.Timer(2, storage.reload, fast)
        t.let_go, t.has_write = later.start, lambda: lio.wait_for(writes)
        try:
            yield t
        finally:
            later.cancel()
            if later.is_alive():
                later.join()
            storage.reload(*fast)
        t.delete()
        if above:
            store.delete()
            lio.run("losetup", "-d", dev)


def start(c, cdb, data):
    return c.start(cdb, len(data), WRITE, data)


def write(c, value, lba=0):
    return start(c, rw(0x8A, lba, 1), filled(value))


def write_same(c, value):
    return start(c, rw(0x93, 0, 1), filled(value))


def write_and_verify(c, value):
    return start(c, rw(0x8E, 0, 1), filled(value))


def compare_and_write(c, old, new, lba=0):
    return start(c, rw(0x89, lba, 0)[:13] + b"\1" + bytes(2), filled(old) + filled(new))


def unmap(c, lba):
    return start(c, bytes.fromhex("42000000000000001800"), bytes([0, 22, 0, 16]) + bytes(4) + lba.to_bytes(8, "big") + (8).to_bytes(4, "big") + bytes(4))


def orwrite(c, bits):
    return start(c, rw(0x8B, 0, 1), filled(bits))


def holds(c):
    """What the first block is filled with."""
    status, data, _ = c.scsi(rw(0x88, 0, 1), read=BLOCK)
    assert status == 0 and len(set(data)) == 1
    return data[0]


def answered(c):
    """The tag of the next command that is answered, with GOOD."""
    while c.pong(a := c.receive(30)):
        pass
    assert a.opcode == SCSI_RESPONSE and a.status == 0, a
    return a.itt


@pytest.mark.parametrize("plain", [write, write_same, write_and_verify])
def test_an_older_write_is_done_first(plain):
    with disk(write=1500) as t, initiator.session(t) as c:
        for value, special, result in (3, lambda: compare_and_write(c, 3, 4), 4), (0x11, lambda: orwrite(c, 0x22), 0x33):
            older, newer = plain(c, value), special()
            assert [answered(c), answered(c)] == [older, newer]
            assert holds(c) == result


@pytest.mark.parametrize("plain", [write, write_same, write_and_verify])
def test_a_newer_write_waits_and_one_elsewhere_does_not(plain):
    with disk(read=HELD) as t, initiator.session(t) as c, initiator.session(t, name="iqn.2024-01.org.example:other") as d:
        first = compare_and_write(c, 0, 1)
        assert c.ping()
        newer = plain(c, 5)
        elsewhere = write(c, 6, FAR)
        of_another = plain(d, 7)
        assert answered(c) == elsewhere
        t.let_go()
        assert [answered(c), answered(c)] == [first, newer]
        assert answered(d) == of_another
        assert holds(c) in (5, 7)


def test_an_unmap_elsewhere_is_not_waited_for():
    """As VMFS unmaps while its hosts compare and write their heartbeats. One of the same blocks is."""
    lio.modprobe("dm_mod", "dm_delay")
    below = lio.loop_device(32 << 20)
    with storage.dm("turns", f"0 {FAR} linear {below} 0\n{FAR} {65536 - FAR} delay {below} {FAR} 0 {below} {FAR} 3000") as dev:
        store = lio.iblock(dev=dev)
        store.attrib("emulate_tpu", 1)
        t = lio.IscsiTarget(store)
        with initiator.session(t) as c, initiator.session(t, name="iqn.2024-01.org.example:other") as d:
            written = write(c, 3, FAR)
            assert answered(c) == written
            slow = unmap(c, FAR)
            assert c.ping()
            first = compare_and_write(d, 0, 1)
            assert answered(d) == first and c.ping()
            of_the_same = compare_and_write(c, 0, 4, FAR)
            assert [answered(c), answered(c)] == [slow, of_the_same]
        t.delete()


def test_writes_go_before_the_next_turn():
    """Who compares again and again keeps no other from writing."""
    with disk(read=1000, write=2500) as t, initiator.session(t) as c:
        commands = [compare_and_write(c, 0, 1), write(c, 5), compare_and_write(c, 5, 6)]
        assert c.ping()
        assert [answered(c) for _ in commands] == commands
        assert holds(c) == 6


def test_aborted_while_waiting():
    """A write that waits, and a comparison that waits, end at once, and do nothing."""
    with disk(read=HELD) as t, initiator.session(t) as c:
        first, held, next_one = compare_and_write(c, 0, 1), write(c, 5), compare_and_write(c, 1, 2)
        assert c.ping()
        for tag in held, next_one:
            assert c.tmf(ABORT_TASK, ref_itt=tag) == 0 and c.seen == []
        t.let_go()
        assert answered(c) == first
        assert holds(c) == 1
    with disk(write=HELD) as t, initiator.session(t) as c:
        # It has its turn, and waits for the write before it.
        older, first, held = write(c, 3), compare_and_write(c, 3, 4), write(c, 5)
        assert c.ping()
        assert c.tmf(ABORT_TASK, ref_itt=first) == 0 and c.seen == []
        t.let_go()
        assert {answered(c), answered(c)} == {older, held}
        assert holds(c) == 5


def test_gone_while_waiting():
    """The session ends: what it had waiting writes nothing, and others go on."""
    with disk(read=1500) as t:
        c = initiator.session(t)
        compare_and_write(c, 0, 1)
        for value in 5, 6:
            write(c, value)
            compare_and_write(c, value, 7)
        assert c.ping()
        c.close()
        with initiator.session(t, name="iqn.2024-01.org.example:other") as d:
            assert d.finish(write(d, 9), timeout=60)[0] == 0
            lio.wait_for(lambda: len(lio.read(t.path / "sessions").splitlines()) == 1)
            assert holds(d) == 9


def test_a_write_is_not_lost():
    """One initiator counts up what it finds, another one writes numbers: what that finds behind its own is what was counted from it."""
    t = lio.IscsiTarget(lio.iblock())
    number = lambda n, count: (n.to_bytes(8, "big") + count.to_bytes(8, "big")) * (BLOCK // 16)
    end, counted, failed = time.monotonic() + 8 * min(lio.SLOW, 2), 0, []

    def count():
        nonlocal counted
        with initiator.session(t, name="iqn.2024-01.org.example:counts") as c:
            while time.monotonic() < end:
                status, old, _ = c.scsi(rw(0x88, 0, 1), read=BLOCK)
                n, i = int.from_bytes(old[:8], "big"), int.from_bytes(old[8:16], "big")
                status, _, last = c.scsi(rw(0x89, 0, 0)[:13] + b"\1" + bytes(2), write=old + number(n, i + 1))
                if status == 0:
                    counted += 1
                elif last.sense[2] & 0xF != MISCOMPARE[0]:
                    failed.append(last)

    other = threading.Thread(target=count)
    with initiator.session(t) as c:
        assert c.scsi(rw(0x8A, 0, 1), write=number(0, 0))[0] == 0
        other.start()
        n = 0
        while time.monotonic() < end:
            n += 1
            assert c.scsi(rw(0x8A, 0, 1), write=number(n, 0))[0] == 0
            _, now, _ = c.scsi(rw(0x88, 0, 1), read=BLOCK)
            assert int.from_bytes(now[:8], "big") == n, f"write {n} was lost"
    other.join()
    assert counted and n and not failed, (counted, n, failed)
