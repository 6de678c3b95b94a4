"""Limits that an administrator sets to a LUN or to an initiator's commands, and histograms of how long commands take: new files that the
stock modules do not have."""
# vm: --timeout 900
# group: tasks
import contextlib
import errno
import threading
import time

import initiator
import lio
import pytest
import sgio
import storage
from lio import read, refused, write

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have no such files")
ONE, OTHER = "iqn.2024-01.org.example:one", "iqn.2024-01.org.example:other"
READ, WRITE, INQUIRY = bytes.fromhex("28000000000000000800"), bytes.fromhex("2a000000000000000800"), bytes.fromhex("120000006000")


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk(), acls=[ONE, OTHER])


def login(target, name=ONE):
    return initiator.session(target, name=name, isid=b"\x80\0\0\0\x0b" + bytes([len(name)]))


def took(c, n, cdb=READ, length=4096):
    """Seconds that n commands take which are sent at once."""
    start = time.monotonic()
    tags = [c.start(cdb, length, initiator.READ) for _ in range(n)]
    assert {a.status for a in c.finish_all(tags, timeout=60).values()} <= {0}
    return time.monotonic() - start


def test_commands_per_second(target):
    lun = target.path / "lun/lun_0"
    assert read(lun / "limits") == "iops=0,iops_burst=0,bytes_per_second=0,bytes_burst=0,shares=0"
    with login(target) as c:
        write(lun / "limits", "iops=20,iops_burst=5")
        assert read(lun / "limits") == "iops=20,iops_burst=5,bytes_per_second=0,bytes_burst=0,shares=0"
        assert 1.9 <= took(c, 45 - 1) < 8 * lio.SLOW, "39 of 44 wait for 50 ms each"
        write(lun / "limits", "iops=1")
        assert took(c, 20, INQUIRY, 96) < 10 * lio.SLOW, "what does not touch the medium is not counted"
        write(lun / "limits", "iops=20")
        # Those of another initiator wait with them.
        with login(target, OTHER) as d:
            time.sleep(0.5)
            assert took(c, 5) < 6 * lio.SLOW
            assert took(d, 20) >= 0.45
        # Without the limit those that wait go on.
        write(lun / "limits", "iops=1")
        tags = [c.start(READ, 4096, initiator.READ) for _ in range(16)]
        time.sleep(0.3)
        start = time.monotonic()
        write(lun / "limits", "iops=0")
        assert {a.status for a in c.finish_all(tags, timeout=30).values()} == {0}
        assert time.monotonic() - start < 10 * lio.SLOW
        assert took(c, 50) < 10 * lio.SLOW


def test_bytes_per_second(target):
    lun = target.path / "lun/lun_0"
    with login(target) as c:
        write(lun / "limits", f"bytes_burst={64 << 10}")
        write(lun / "limits", f"bytes_per_second={256 << 10}")
        read_64k = b"\x28\0\0\0\0\0\0\0\x80\0"
        assert 1.7 <= took(c, 8, read_64k, 65536) < 8 * lio.SLOW, "512 KiB, of which 64 KiB are there at once"
        for wrong in ("bytes_per_second=-1", "bytes_per_second=x", f"bytes_per_second={1 << 40}", "1", " ", "iops=1,bytes=1", "iops=1,"):
            with refused(errno.EINVAL, errno.ERANGE):
                write(lun / "limits", wrong)
        assert read(lun / "limits") == f"iops=0,iops_burst=0,bytes_per_second={256 << 10},bytes_burst={64 << 10},shares=0"


def test_bytes_that_nobody_transfers(target):
    """What is read or written counts, not what goes over the network."""
    lun = target.path / "lun/lun_0"
    mib = (1 << 20) // 512
    verify, fetch = (bytes([op, 0, 0, 0, 0, 0, 0]) + mib.to_bytes(2, "big") + b"\0" for op in (0x2F, 0x34))
    same = b"\x93" + bytes(9) + mib.to_bytes(4, "big") + bytes(2)
    with login(target) as c:
        write(lun / "limits", f"bytes_per_second={1 << 20},bytes_burst=512")
        for cdb, *data in (verify,), (fetch,), (same, 512, initiator.WRITE, b"x" * 512):
            start = time.monotonic()
            tags = [c.start(cdb, *data) for _ in range(3)]
            assert {a.status for a in c.finish_all(tags, timeout=60).values()} <= {0, 4}
            assert time.monotonic() - start >= 1.9, f"3 MiB by {cdb.hex()}"
            time.sleep(1)


def test_bytes_of_the_whole_medium(target):
    """A command that touches more than others may transfer counts as the largest of these: nobody waits longer for it."""
    lun, blocks = target.path / "lun/lun_0", (32 << 20) // 512
    with login(target) as c, login(target, OTHER) as d:
        write(lun / "limits", f"bytes_per_second={2 << 20},bytes_burst=512")
        assert c.scsi(b"\x8f" + bytes(9) + blocks.to_bytes(4, "big") + bytes(2))[0] == 0
        answered = time.monotonic()
        took(d, 1)
        assert 5 < time.monotonic() - answered < 14 * lio.SLOW, "16 MiB at 2 MiB a second, and not 32"


def test_one_initiator(target):
    """Its own limit holds it alone; abort and the end of the session do not wait."""
    mapped = target.path / "acls" / ONE / "lun_0"
    with login(target) as c, login(target, OTHER) as d:
        write(mapped / "limits", "iops_burst=1")
        write(mapped / "limits", "iops=10")
        assert took(c, 8) >= 0.65
        write(mapped / "limits", "iops=1")
        assert took(d, 50) < 10 * lio.SLOW
        took(c, 1)
        victims = [c.start(READ, 4096, initiator.READ) for _ in range(20)]
        start = time.monotonic()
        assert c.tmf(initiator.ABORT_TASK, ref_itt=victims[-1], timeout=30) == 0
        assert c.tmf(initiator.LUN_RESET, timeout=30) == 0
        assert time.monotonic() - start < 10 * lio.SLOW
        [c.start(READ, 4096, initiator.READ) for _ in range(20)]
        start = time.monotonic()
    target.delete()
    assert time.monotonic() - start < 12 * lio.SLOW
    assert not mapped.exists()


def test_a_limit_that_is_set_again(target):
    """Those that wait ask again: nobody gets more by it, whoever's limit it is, and nobody waits longer afterwards."""
    lun, one, other = (target.path / p / "limits" for p in ("lun/lun_0", f"acls/{ONE}/lun_0", f"acls/{OTHER}/lun_0"))
    with login(target) as c, login(target, OTHER) as d:
        write(other, "iops=10,iops_burst=1")
        start, n, done = time.monotonic(), 0, 0
        tags = {d.start(READ, 4096, initiator.READ) for _ in range(40)}
        while time.monotonic() < start + 4 * lio.SLOW:
            n += 1
            write(one, f"iops={1000 + n}")
            write(lun, f"bytes_per_second={(1 << 30) + n}")
            write(other, "iops=10,iops_burst=1")
            end = time.monotonic() + 0.3
            while (left := end - time.monotonic()) > 0:
                try:
                    a = d.receive(left)
                except TimeoutError:
                    break
                if a.opcode == initiator.SCSI_RESPONSE or a.flags & 1:
                    tags.remove(a.itt)
                    done += 1
                    tags.add(d.start(READ, 4096, initiator.READ))
        seconds = time.monotonic() - start
        assert n >= 4 and 0.5 * seconds < done / 10 < 1.2 * seconds + 1, (done, seconds)
        # 40 wait, 4 s; and no more than that.
        start = time.monotonic()
        assert {a.status for a in d.finish_all(list(tags), timeout=60).values()} == {0}
        assert took(d, 1) < 3 * lio.SLOW and time.monotonic() - start < 9 * lio.SLOW
        # Less is asked of those that wait, too.
        write(other, "iops=1")
        tags = [d.start(READ, 4096, initiator.READ) for _ in range(30)]
        time.sleep(0.2)
        start = time.monotonic()
        write(other, "iops=100")
        assert {a.status for a in d.finish_all(tags, timeout=60).values()} == {0}
        assert 0.1 < time.monotonic() - start < 8 * lio.SLOW
        assert took(c, 1) < 5 * lio.SLOW


def test_what_does_not_begin_takes_nothing(target):
    """Commands that are aborted while they wait, or refused, leave nothing behind for which other initiators would have to wait."""
    lun = target.path / "lun/lun_0"
    lio.write(target.path / "acls" / ONE / "attrib/dataout_timeout", 60)
    large, mib = b"\x28\0\0\0\0\0\0\x40\0\0", 1 << 20
    with login(target) as c, login(target, OTHER) as d:
        write(lun / "limits", f"bytes_per_second={mib},bytes_burst={64 << 10},iops=1000")

        def other():
            """What others wait for: less than a second for what was begun."""
            assert took(d, 1) < 15 * lio.SLOW

        assert c.finish(c.start(b"\x28\0\0\0\0\0\0\0\x80\0", 65536, initiator.READ))[0] == 0
        # 160 MiB are 160 s, of which one command that begins is 8: of reads that wait, and of writes that wait, or whose data has not come.
        waiting = [c.start(large, 8 * mib, initiator.READ) for _ in range(20)]
        for tag in waiting[:4]:
            assert c.tmf(initiator.ABORT_TASK, ref_itt=tag, timeout=30) == 0
        assert c.tmf(initiator.ABORT_TASK_SET, timeout=30) == 0
        other()
        [c.start(b"\x2a" + large[1:], 8 * mib, initiator.WRITE) for _ in range(20)]
        while (a := c.receive()).opcode != initiator.R2T:
            assert c.pong(a), a
        assert c.tmf(initiator.ABORT_TASK_SET, timeout=30) == 0
        other()
        # Writes that the initiator takes for reads.
        for _ in range(40):
            assert c.finish(c.start(b"\x2a" + large[1:], 8 * mib, initiator.READ))[0] == 2
        other()
        # Reads of which nobody takes more than a block.
        for _ in range(40):
            c.finish(c.start(large, 512, initiator.READ))
        other()
        # A session that ends.
        [c.start(large, 8 * mib, initiator.READ) for _ in range(20)]
        time.sleep(1)
    with login(target, OTHER) as d:
        assert took(d, 1) < 15 * lio.SLOW


def test_what_waits_is_asked_again(target):
    """A write that has to wait is not written when it may not be any more: after a PREEMPT, which aborts nothing, after a change of
    the access state, when the initiator may only read, or when the block is not there any more."""
    mapped, store = target.path / "acls" / ONE / "lun_0", lio.CORE / "rd_mcp_0/rd0"
    state = store / "alua/default_tg_pt_gp/alua_access_state"
    far = b"\x2a\0" + ((31 << 20) // 512).to_bytes(4, "big") + bytes.fromhex("00000800")

    def out(c, action, key, new=0, kind=0):
        return c.scsi(bytes([0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0]), write=key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(8))[0]

    def waits(change, cdb=WRITE):
        """How a write of c's ends that waits while something changes."""
        write(mapped / "limits", "iops=1,iops_burst=1")
        took(c, 1)
        tags = [c.start(cdb, 4096, initiator.WRITE, b"x" * 4096) for _ in range(9)]
        mark, ends = c.itt(), {}
        c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))

        def hear(*wanted):
            while not ends.keys() >= set(wanted):
                a = c.receive(30)
                if a.itt == mark or not c.pong(a):
                    ends[a.itt] = a

        hear(mark)
        change()
        write(mapped / "limits", "iops=0")
        hear(*tags)
        a = ends[tags[-1]]
        return sgio.say(a.sense)[:6] if a.status == 2 else a.status

    with login(target) as c, login(target, OTHER) as d:
        assert waits(lambda: None) == 0
        assert out(c, 0, 0, 1) == out(d, 0, 0, 2) == out(c, 1, 1, kind=5) == 0
        assert waits(lambda: out(d, 4, 2, 1, 5)) == 0x18
        assert c.scsi(bytes(6))[0] == 2 and out(d, 3, 2) == 0
        assert waits(lambda: write(state, 2)) == "2/040b"
        write(state, 0)
        while c.scsi(bytes(6))[0] == 2:
            pass
        assert waits(lambda: write(mapped / "write_protect", 1)) == "7/2700"
        write(mapped / "write_protect", 0)
        assert waits(lambda: write(store / "control", f"rd_pages={(16 << 20) // 4096}"), far) == "5/2100"


# --- limits and the order of commands ------------------------------------------------------------------------

SIMPLE, ORDERED, HEAD = 1, 2, 3
TUR, TASK_ABORTED = bytes(6), 0x40


def heard(c, ends=None):
    """Adds to `ends` what is answered by now: before a ping that is sent behind it all."""
    ends = {} if ends is None else ends
    mark = c.itt()
    c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))
    while (a := c.receive(60)).itt != mark:
        if not c.pong(a):
            ends[a.itt] = a
    return ends


def writes(c, n, fill=b"x", attr=SIMPLE):
    return [c.start(WRITE, 4096, initiator.WRITE, fill * 4096, attr=attr) for _ in range(n)]


def reads(c, n, attr=SIMPLE):
    return [c.start(READ, 4096, initiator.READ, attr=attr) for _ in range(n)]


@pytest.mark.parametrize("what", ["restricted reordering", "ORDERED", "SIMPLE"])
def test_the_limit_of_one_initiator_holds_no_other(what):
    """A device is one task set for all: neither an ORDERED command that waits for a limit keeps those of others waiting, nor does
    an ORDERED one of theirs wait for what does."""
    store = lio.ramdisk()
    store.attrib("emulate_rest_reord", int(what == "restricted reordering"))
    target = lio.IscsiTarget(store, acls=[ONE, OTHER])
    mapped = target.path / "acls" / ONE / "lun_0"
    with login(target) as c, login(target, OTHER) as d:
        write(mapped / "limits", "iops_burst=1,iops=1")
        tags = reads(c, 20, ORDERED) if what == "ORDERED" else writes(c, 20)
        ends = heard(c)
        others = reads(d, 1) + reads(d, 1, ORDERED) + writes(d, 1) + reads(d, 1, HEAD)
        assert {a.status for a in d.finish_all(others, timeout=60).values()} == {0}
        assert len(heard(c, ends)) < 20, "it was answered behind all of the other's, of which each waits for a second"
        write(mapped / "limits", "iops=0")
        ends |= c.finish_all(set(tags) - ends.keys(), timeout=60)
        assert {a.status for a in ends.values()} == {0}


def test_what_one_initiator_sends_keeps_its_order():
    """Writes of one block under a limit, processed in order, and reads between them, each of which shows what was written before it."""
    store = lio.ramdisk()
    store.attrib("emulate_rest_reord", 1)
    target = lio.IscsiTarget(store, acls=[ONE, OTHER])
    mapped = target.path / "acls" / ONE / "lun_0"

    def run(c, change=None):
        tags, data, order = [], {}, []
        for n in range(8):
            tags += writes(c, 1, bytes([n + 1])) + reads(c, 1)
        # What has no limit stays behind those that have.
        tags += [c.start(TUR, attr=ORDERED), c.start(TUR)]
        if change:
            change()
        while len(order) < len(tags):
            a = c.receive(60)
            if c.pong(a):
                continue
            data[a.itt] = data.get(a.itt, b"") + a.data
            if a.opcode == initiator.SCSI_RESPONSE or a.flags & 1:
                assert a.status == 0, a
                order.append(a.itt)
        assert order == tags
        assert [data[tag][:1] for tag in tags[1:16:2]] == [bytes([n + 1]) for n in range(8)]

    with login(target) as c:
        write(mapped / "limits", "iops_burst=1,iops=10")
        run(c)
        # Bytes: what transfers none waits for those that do.
        write(mapped / "limits", "iops=0,bytes_burst=4096,bytes_per_second=32768")
        run(c)
        # Those that wait go on in their order when the limit goes, or is another one.
        write(mapped / "limits", "bytes_per_second=0,iops=1")
        run(c, lambda: write(mapped / "limits", "iops=40"))
        write(mapped / "limits", "iops=1")
        run(c, lambda: write(mapped / "limits", "iops=0"))
        run(c)


def test_ordered_behind_a_write_whose_data_does_not_come(target):
    """A write waits for its limit and then for its data. The same initiator's ORDERED command waits for it, and others for that; another
    initiator's do not, and aborts and the end of the session do not either."""
    mapped = target.path / "acls" / ONE / "lun_0"
    target.patient(ONE)

    def begin(c):
        """Such a write's R2T, when its limit is over, and the tags of an ORDERED command behind it and of one behind that."""
        write(mapped / "limits", "iops_burst=1,iops=1")
        before, ends = reads(c, 3), {}
        itt = c.start(WRITE, 4096, initiator.WRITE)
        tags = [c.start(TUR, attr=ORDERED), c.start(TUR)]
        while (a := c.receive(60)).opcode != initiator.R2T:
            if not c.pong(a):
                ends[a.itt] = a
        assert a.itt == itt
        time.sleep(4)
        assert heard(c, ends).keys() == set(before)
        return a, tags

    with login(target, OTHER) as d:
        with login(target) as c:
            r2t, tags = begin(c)
            others = reads(d, 1, ORDERED) + writes(d, 1)
            assert {a.status for a in d.finish_all(others, timeout=60).values()} == {0}
            assert heard(c) == {}
            c.answer_r2t(r2t, bytes(4096))
            order = []
            while len(order) < 3:
                a = c.next(60)
                assert a.opcode == initiator.SCSI_RESPONSE and a.status == 0, a
                order.append(a.itt)
            assert order == [r2t.itt, *tags]
            # The one behind goes on without the ORDERED one.
            r2t, tags = begin(c)
            assert c.tmf(initiator.ABORT_TASK, ref_itt=tags[0], timeout=30) == 0
            assert [a.itt for a in c.seen] in ([], [tags[1]])
            assert c.seen or c.next(30).itt == tags[1]
            c.answer_r2t(r2t, bytes(4096))
            assert c.next(30).status == 0
            # Or without the write.
            r2t, tags = begin(c)
            assert c.tmf(initiator.ABORT_TASK, ref_itt=r2t.itt, timeout=30) == 0
            left = [a.itt for a in c.seen]
            while len(left) < 2:
                left.append(c.next(30).itt)
            assert left == tags
            begin(c)
            assert c.tmf(initiator.LUN_RESET, timeout=30) == 0
            while c.scsi(TUR)[0] == 2:
                pass
            begin(c)
        # Its session is over.
        while d.scsi(TUR)[0] == 2:
            pass
        assert d.finish(reads(d, 1, ORDERED)[0], timeout=60)[0] == 0


def test_thousands_wait(target):
    """Of five sessions 512 commands each wait for a limit of the LUN: what is aborted, reset, or goes with its session or its LUN is over at
    once, and the rest goes on when the limit goes."""
    lun = target.path / "lun/lun_0"
    write(target.path / "acls" / ONE / "cmdsn_depth", 512)

    def fill(c):
        """As many reads as the session may have; the first may not wait."""
        tags = [c.itt() for _ in range(510)]
        c.send(b"".join(c.command_pdu(READ, 4096, initiator.READ, itt=tag) for tag in tags))
        return set(tags)

    with contextlib.ExitStack() as stack:
        all_ = [stack.enter_context(initiator.session(target, name=ONE, isid=b"\x80\0\0\0\x0b" + bytes([9 + n]))) for n in range(5)]
        write(lun / "limits", "iops_burst=1,iops=1")

        def filled():
            return [(c, fill(c), heard(c)) for c in all_]

        def ended(*statuses):
            for c, tags, ends in waiting:
                ends |= c.finish_all(tags - ends.keys(), timeout=120)
                assert {a.status for a in ends.values()} <= {0, *statuses}

        waiting = filled()
        start = time.monotonic()
        assert all_[0].tmf(initiator.ABORT_TASK_SET, timeout=60) == 0
        waiting.pop(0)
        assert all_[1].tmf(initiator.LUN_RESET, timeout=60) == 0
        waiting.pop(0)
        ended(TASK_ABORTED)
        assert time.monotonic() - start < 60 * lio.SLOW, "of 2,550 each waits for a second"
        for c in all_:
            while c.scsi(TUR)[0]:
                pass
        waiting = filled()
        start = time.monotonic()
        write(lun / "limits", "iops=0")
        ended()
        assert time.monotonic() - start < 60 * lio.SLOW
        write(lun / "limits", "iops=1")
        waiting = filled()
        all_[0].close()
        start = time.monotonic()
    target.delete()
    assert time.monotonic() - start < 60 * lio.SLOW


# --- shares --------------------------------------------------------------------------------------------------


def served(connections, seconds, depths=(60, 60), cdb=READ, length=4096):
    """Commands that each is answered while all keep so many going, once they do."""
    counts = [0] * len(connections)

    def go(n):
        c = connections[n]
        waiting = {c.start(cdb, length, initiator.READ) for _ in range(depths[n])}
        while waiting:
            a = c.receive(timeout=60)
            if c.pong(a) or not a.flags & 1 and a.opcode != initiator.SCSI_RESPONSE:
                continue
            assert a.status == 0
            waiting.remove(a.itt)
            now = time.monotonic()
            if now < end:
                counts[n] += now >= begin
                waiting.add(c.start(cdb, length, initiator.READ))
    # What the first finds free at once is not yet divided.
    begin = time.monotonic() + 1.5 * lio.SLOW
    end = begin + seconds
    threads = [threading.Thread(target=go, args=(n,)) for n in range(len(connections))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return counts


@pytest.fixture
def slow():
    """A disk that takes 400 ms for each command: 40 a second, of 16 at a time."""
    lio.modprobe("dm_mod", "dm_delay")
    with storage.dm("shares", f"0 65536 delay {lio.loop_device(32 << 20)} 0 400") as dev:
        yield lio.IscsiTarget(lio.iblock(dev=dev), acls=[ONE, OTHER])


def test_shares(slow):
    """What a busy disk does is shared as the weights say; one alone has all of it; what waits is aborted at once."""
    one, other = (slow.path / "acls" / name / "lun_0/limits" for name in (ONE, OTHER))
    with login(slow) as c, login(slow, OTHER) as d:
        write(one, "shares=400")
        a, b = served([c, d], 5 * lio.SLOW)
        assert 2.9 < a / b < 6, (a, b)
        write(other, "shares=800")
        a, b = served([c, d], 5 * lio.SLOW)
        assert 1.5 < b / a < 2.8, (a, b)
        # A command priority of Ch halves what the other has by its weight (SAM-5 8.7); a reset ends it.
        assert d.scsi(bytes.fromhex("a40e00000000000000080000"), write=bytes([12]) + bytes(7))[0] == 0
        a, b = served([c, d], 4 * lio.SLOW)
        assert 0.7 < b / a < 1.4, (a, b)
        # Who asks for less than is its own leaves the rest to others.
        a, b = served([c, d], 5 * lio.SLOW, (60, 1))
        assert a > 8 * b > 0, (a, b)
        start = time.monotonic()
        victims = [c.start(READ, 4096, initiator.READ) for _ in range(60)]
        assert c.tmf(initiator.ABORT_TASK, ref_itt=victims[-1], timeout=30) == 0
        assert c.tmf(initiator.LUN_RESET, timeout=30) == 0
        assert time.monotonic() - start < 10 * lio.SLOW
        for of in (c, d):
            while of.scsi(bytes(6))[0]:
                pass
        # Without weights nobody waits, those that do go on.
        tags = [c.start(READ, 4096, initiator.READ) for _ in range(60)]
        write(one, "shares=0")
        write(other, "shares=0")
        assert {a.status for a in c.finish_all(tags, timeout=30).values()} == {0}
        for wrong in ("-1", "x", "1001"):
            with refused(errno.EINVAL, errno.ERANGE):
                write(one, f"shares={wrong}")
        assert read(one) == read(other) and read(one).endswith(",shares=0")
        # Of the LUN goes with the LUN, while commands of it wait.
        write(slow.path / "lun/lun_0/limits", "shares=7")
        [c.start(READ, 4096, initiator.READ) for _ in range(60)]
        start = time.monotonic()
        slow.delete()
        assert time.monotonic() - start < 15 * lio.SLOW


def test_what_is_aborted_has_no_share(slow):
    """Who has a small share does not wait for what was aborted."""
    one, other = (slow.path / "acls" / name / "lun_0/limits" for name in (ONE, OTHER))
    write(one, "shares=1000")
    write(other, "shares=10")
    with login(slow) as c, login(slow, OTHER) as d:
        stop, failed = threading.Event(), []

        def busy():
            try:
                tags = {c.start(READ, 4096, initiator.READ) for _ in range(60)}
                while tags:
                    a = c.receive(timeout=60)
                    if a.itt in tags and (a.flags & 1 or a.opcode == initiator.SCSI_RESPONSE):
                        tags.remove(a.itt)
                        if not stop.is_set():
                            tags.add(c.start(READ, 4096, initiator.READ))
            except BaseException as e:
                failed.append(e)

        t = threading.Thread(target=busy)
        t.start()
        try:
            time.sleep(1.5 * lio.SLOW)
            [d.start(READ, 4096, initiator.READ) for _ in range(60)]
            time.sleep(1)
            assert d.tmf(initiator.ABORT_TASK_SET, timeout=60) == 0
            # One of its commands is served for a hundred of the other's, which are 40 a second.
            assert took(d, 1) < 25 * lio.SLOW
        finally:
            stop.set()
            t.join(120)
        assert not failed and not t.is_alive()


def histogram(path):
    rows = [line.split() for line in read(path / "latency").splitlines()[1:]]
    return {r[0]: [int(n) for n in r[1:]] for r in rows}


def test_histograms(target):
    lun, mapped = target.path / "lun/lun_0", target.path / "acls" / ONE / "lun_0"
    with login(target) as c, login(target, OTHER) as d:
        took(c, 10)
        assert histogram(lun) == histogram(mapped) == {} and read(lun / "latency") == "0"
        write(lun / "latency", 1)
        write(mapped / "latency", 1)
        took(c, 10)
        took(d, 7)
        for _ in range(3):
            assert c.scsi(WRITE, write=bytes(4096))[0] == 0
        assert c.scsi(bytes(6))[0] == 0
        total = [sum(n) for n in zip(*histogram(lun).values())]
        assert total == [17, 3, 1]
        assert [sum(n) for n in zip(*histogram(mapped).values())] == [10, 3, 1]
        # A delay is seen where it belongs.
        before = histogram(lun)
        write(lun / "limits", "iops_burst=1")
        write(lun / "limits", "iops=3")
        took(c, 3)
        late = sum(n[0] for end, n in histogram(lun).items() if end != "more" and int(end[1:]) > 260_000)
        assert late - sum(n[0] for end, n in before.items() if end != "more" and int(end[1:]) > 260_000) >= 2
        write(lun / "latency", 0)
        assert histogram(lun) == {} and histogram(mapped) != {}
        write(lun / "latency", 1)
        assert histogram(lun) == {}, "it begins anew"


def test_histograms_are_read_beside_commands(target):
    lun = target.path / "lun/lun_0"
    over, seen = threading.Event(), []

    def look():
        while not over.is_set():
            seen.append(sum(n[0] for n in histogram(lun).values()))

    with login(target) as c, login(target, OTHER) as d:
        write(lun / "latency", 1)
        looks = threading.Thread(target=look)
        looks.start()
        try:
            lio.wait_for(lambda: seen)
            for _ in range(8):
                tags = {x: [x.start(READ, 4096, initiator.READ) for _ in range(50)] for x in (c, d)}
                for x in tags:
                    assert {a.status for a in x.finish_all(tags[x], timeout=60).values()} == {0}
        finally:
            over.set()
            looks.join(60)
        assert seen == sorted(seen) and len(set(seen)) > 2, seen
        assert [sum(n) for n in zip(*histogram(lun).values())] == [800, 0, 0]


def test_a_disk_under_a_limit():
    """fio at 200 commands a second over loopback, verified, at about that rate."""
    port = lio.Loopback(lio.ramdisk())
    disk = port.disk()
    write(port.path / "lun/lun_0/limits", "iops=200")
    result = lio.fio(disk, seconds=4, rw="randwrite", bs="4k", iodepth=16, size="8m")
    job = result["jobs"][0]
    assert job["error"] == 0
    assert 40 / lio.SLOW < job["write"]["iops"] < 230
