"""What initiators can make the target hold or wait for is bounded, and honest ones go on: memory, sessions, connections,
time."""
# vm: --timeout 900
# group: logins
import contextlib
import os
import socket
import subprocess
import time

import initiator
import leaks
import lio
import pytest
from initiator import DATA_IN, R2T, READ, SCSI_RESPONSE, TMF_RESPONSE, WRITE

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the bounds are ours")
MIB = 1 << 20
WRITE_16M = bytes.fromhex("2a000000000000800000")
READ_16M, READ_1M, READ_256K, READ_64K = (b"\x28" + bytes(6) + n.to_bytes(2, "big") + b"\0" for n in (32768, 2048, 512, 128))
BUSY = 8
SOLICITED = {"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": 16776192, "FirstBurstLength": 262144}
UNSOLICITED = SOLICITED | {"InitialR2T": "No", "FirstBurstLength": 16776192}


def available(what="MemAvailable"):
    """A line of /proc/meminfo in bytes."""
    return leaks.meminfo()[what] << 10


def name(i):
    return f"iqn.2024-01.org.example:i{i}"


def isid(i):
    return b"\x80\0\0\0" + i.to_bytes(2, "big")


def attribute(path, key, value=None):
    if value is None:
        return lio.read(path / key)
    lio.write(path / key, value)


def acl_with(target, **values):
    """The first initiator's, with these attributes."""
    acl = target.acl(name(1))
    for key, value in values.items():
        attribute(acl / "attrib", key, value)


@pytest.fixture
def target():
    t = lio.IscsiTarget(lio.ramdisk(size=32 * MIB))
    for key, value in {"MaxRecvDataSegmentLength": 262144, "MaxBurstLength": 16776192, "FirstBurstLength": 16776192}.items():
        lio.write(t.path / "param" / key, value)
    return t


def honest(c, n):
    """Writes and reads, small and large, each checked."""
    for blocks in (8, 128, 2048):
        data = bytes([n % 256]) * (blocks * 512)
        cdb = bytes.fromhex("2a0000000000") + b"\0" + blocks.to_bytes(2, "big") + b"\0"
        itt = c.start(cdb, len(data), WRITE)
        assert c.finish(itt, data, 30)[0] == 0
        status, got, _ = c.scsi(b"\x28" + cdb[1:], read=len(data), timeout=30)
        assert status == 0 and got == data


def test_data_that_never_comes(target):
    """100 sessions, each with 100 WRITEs of 16 MiB of which no byte is sent: 156 GiB."""
    target.attrib("default_cmdsn_depth", 128)
    for i in range(2):
        attribute(target.acl(name(i)) / "attrib", "dataout_timeout", 60)
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(initiator.session(target, name=name(1000), keys=SOLICITED))
        start = least = available()
        honest(good, 0)
        for i in range(100):
            c = stack.enter_context(initiator.session(target, name=name(i % 2), isid=isid(i), keys=SOLICITED))
            c.send(b"".join(c.command_pdu(WRITE_16M, 16 * MIB, WRITE) for _ in range(100)))
            assert c.receive().opcode == R2T
            least = min(least, available())
            if i % 20 == 0:
                honest(good, i)
        least = min(least, available())
        print(f"MemAvailable: {start >> 20} MiB at first, {least >> 20} MiB at least")
        assert start - least < 256 * MIB
        assert lio.read(target.wwn_path / "fabric_statistics/iscsi_instance/sessions") == "101"
        honest(good, 100)


def r2ts(c):
    """The R2Ts that are there, by tag; a ping shows that there are no more."""
    mark, got = c.itt(), {}
    c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))
    while (a := c.receive(30)).itt != mark:
        assert a.opcode == R2T, a
        got[a.itt] = a
    return got


def test_large_writes_take_turns(target):
    """A session is asked for 32 MiB at a time; commands beyond it wait, in order, and all of them succeed."""
    data = bytes(range(256)) * 65536
    acl_with(target, dataout_timeout=60)
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        tags = [c.start(WRITE_16M, 16 * MIB, WRITE) for _ in range(4)]
        got = r2ts(c)
        assert list(got) == tags[:2]
        for i, tag in enumerate(tags):
            r2t = got.pop(tag)
            end = r2t.offset
            while True:
                c.answer_r2t(r2t, data, 262144)
                end += r2t.wanted
                if end == 16 * MIB:
                    break
                while (r2t := c.receive(30)).itt != tag:
                    got[r2t.itt] = r2t
            while (a := c.receive(30)).opcode == R2T:
                got[a.itt] = a
            assert (a.opcode, a.itt, a.status) == (initiator.SCSI_RESPONSE, tag, 0)
            got |= r2ts(c)
            assert list(got) == tags[i + 1 : i + 3]
        status, back, _ = c.scsi(b"\x28" + WRITE_16M[1:], read=16 * MIB, timeout=60)
        assert status == 0 and back == data


def test_data_without_room(target):
    """A session that sends without being asked holds 64 MiB; a command whose data finds no room is answered with BUSY."""
    piece = bytes(262144)
    attribute(target.path / "param", "InitialR2T", "No")
    attribute(target.acl(name(1)) / "attrib", "dataout_timeout", 60)
    start = available()
    with initiator.session(target, name=name(1), keys=UNSOLICITED) as c:
        tags = []
        for _ in range(6):
            tags.append(c.start(WRITE_16M, 16 * MIB, WRITE, last=False))
            c.send(b"".join(c.data_out_pdu(tags[-1], initiator.NONE, piece, n * 262144, n, False) for n in range(63)))
            assert c.ping()
        held = start - available()
        print(f"{held >> 20} MiB less")
        assert held < 128 * MIB
        answers = {}
        for tag in tags:
            c.send(c.data_out_pdu(tag, initiator.NONE, piece[:261120], 63 * 262144, 63))
        while len(answers) < 6:
            a = c.next(30)
            if a.opcode == R2T:
                c.answer_r2t(a, bytes(16 * MIB))
            else:
                answers[a.itt] = a.status
        assert sorted(answers.values()) == [0] * 4 + [BUSY] * 2, answers
        assert c.scsi(bytes(6))[0] == 0


def test_reads_that_are_not_taken():
    """24 sessions, each with 72 READs of 1 MiB of which it takes nothing: 1.7 GiB. What is read for them is bounded; an honest
    initiator's small reads go on, and its large ones once there is memory again. Who reads in the end finds all data there."""
    target = lio.IscsiTarget(lio.iblock(dev=lio.loop_device(32 * MIB)), enable=False)
    target.attrib("default_cmdsn_depth", 128)
    target.enable()
    for i in (1, 1000):
        attribute(target.acl(name(i)) / "attrib", "nopin_timeout", 0)
    data = bytes(range(256)) * 4096
    limit = available("MemTotal") // 8
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(initiator.session(target, name=name(1000)))
        assert good.scsi(b"\x2a" + READ_1M[1:], write=data)[0] == 0
        start = least = available()
        sessions = []
        for i in range(24):
            c = initiator.session(target, name=name(1), isid=isid(i))
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sessions.append(stack.enter_context(c))
            c.tags = [c.start(READ_1M, MIB, READ) for _ in range(72)]
            assert good.scsi(READ_64K, read=65536)[:2] == (0, data[:65536])
        lio.wait_for(lambda: start - available() > limit // 2)
        for _ in range(20):
            least = min(least, available())
            time.sleep(0.1)
        held = start - least
        print(f"{held >> 20} MiB held, of which {limit >> 20} MiB may be")
        # What TCP takes, and each session's own.
        assert limit // 2 < held < limit + 24 * (256 << 10) + 64 * MIB
        for size in (4096, 65536, 262144):
            cdb = b"\x28" + bytes(6) + (size // 512).to_bytes(2, "big") + b"\0"
            for _ in range(10):
                assert good.scsi(cdb, read=size)[:2] == (0, data[:size])
        assert good.scsi(READ_1M, read=MIB)[0] in (0, BUSY)
        # The last waits for the others, and is aborted meanwhile.
        c = sessions[0]
        abort = c.itt()
        c.send(initiator.pdu(initiator.TMF, initiator.FINAL | initiator.ABORT_TASK, immediate=True, itt=abort,
                             w=(c.tags[-1], c.cmd_sn, c.exp_stat_sn, c.cmd_sn)))
        assert answers(c, 72, data) == dict.fromkeys([*c.tags[:-1], abort], 0)
        # Those that came when there was little memory, or none.
        assert set(answers(sessions[23], 72, data).values()) <= {0, BUSY}
        for c in sessions:
            c.reset()
        lio.wait_for(lambda: good.scsi(READ_1M, read=MIB)[0] == 0)
    lio.wait_for(lambda: start - available() < 64 * MIB)


def test_reads_without_room(target):
    """40 sessions, each with a READ of 16 MiB that it does not take: those for which there is no room are answered with BUSY. An
    honest initiator's reads of up to 256 KiB go on."""
    target.acl(name(1))
    attribute(target.acl(name(2)) / "attrib", "nopin_timeout", 0)
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(initiator.session(target, name=name(1)))
        sessions = []
        for i in range(40):
            c = initiator.session(target, name=name(2), isid=isid(i))
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sessions.append(stack.enter_context(c))
            c.start(READ_16M, 16 * MIB, READ)
        lio.wait_for(lambda: good.scsi(READ_16M, read=16 * MIB, timeout=60)[0] == BUSY)
        for _ in range(10):
            assert good.scsi(READ_256K, read=262144)[:2] == (0, bytes(262144))
        assert answers(sessions[0], 1, bytes(16 * MIB)).popitem()[1] == 0
        assert answers(sessions[39], 1, b"").popitem()[1] == BUSY
        for c in sessions:
            c.reset()
        lio.wait_for(lambda: good.scsi(READ_16M, read=16 * MIB, timeout=60)[:2] == (0, bytes(16 * MIB)))


def answers(c, n, data):
    """Takes `n` answers, with what was read: {tag: status, or response of a task management function}."""
    got, said = {}, {}
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    while len(said) < n:
        a = c.receive(60)
        if a.opcode == DATA_IN:
            assert a.data == data[a.offset : a.offset + len(a.data)]
            got[a.itt] = got.get(a.itt, 0) + len(a.data)
        if a.opcode == TMF_RESPONSE:
            said[a.itt] = a.response
        elif a.opcode == SCSI_RESPONSE or a.flags & 1:
            assert a.status or got[a.itt] == len(data)
            said[a.itt] = a.status
    return said


def test_sessions_of_an_initiator(target):
    """64 with a portal group; other initiators get in, and it does when one of its sessions has ended."""
    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(initiator.session(target, name=name(1), isid=isid(i))) for i in range(64)]
        for i in range(64, 67):
            with initiator.Connection() as c:
                assert c.login(target.iqn, name(1), isid=isid(i), check=False).login_status == 0x0302
        with initiator.session(target, name=name(2)) as c:
            assert c.scsi(bytes(6))[0] == 0
        # Reinstatement takes no place.
        stack.enter_context(initiator.session(target, name=name(1), isid=isid(5)))
        mine[7].logout()
        assert mine[7].receive() is None

        def in_again():
            """a login with a free place"""
            c = stack.enter_context(initiator.Connection())
            return c.login(target.iqn, name(1), isid=isid(99), check=False).login_status == 0

        lio.wait_for(in_again)
        assert mine[0].scsi(bytes(6))[0] == 0


def test_data_that_stops(target):
    """dataout_timeout is the time after which a silent initiator's connection ends; retries make it no longer."""
    acl_with(target, dataout_timeout=2, dataout_timeout_retries=15, nopin_timeout=0)
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        start = time.monotonic()
        c.start(WRITE_16M, 16 * MIB, WRITE)
        assert c.receive().opcode == R2T
        assert c.receive(40) is None
        took = time.monotonic() - start
        assert 1.5 < took < 12 * lio.SLOW, took
    lio.wait_for(lambda: attribute(target.wwn_path / "fabric_statistics/iscsi_sess_err", "cxn_errors") == "1")


def test_data_that_stops_within_a_pdu(target):
    """The time counts from the last byte that came, of whatever part of a PDU."""
    acl_with(target, dataout_timeout=6, nopin_timeout=0)
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        itt = c.start(bytes.fromhex("2a000000000000008000"), 65536, WRITE)
        data = c.data_out_pdu(itt, c.receive().ttt, bytes(65536))
        for part in data[:20000], data[20000:30000], data[30000:40000]:
            c.send(part)
            time.sleep(0.7)
        start = time.monotonic() - 0.7
        assert c.receive(40) is None
        took = time.monotonic() - start
        assert 5.5 < took < 12 * lio.SLOW, took


def test_a_request_that_takes_its_time_keeps_data_waiting(target):
    """Nothing comes while another PDU does, be that longer than dataout_timeout."""
    acl_with(target, dataout_timeout=4)
    data = bytes(65536)
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        itt = c.start(bytes.fromhex("2a000000000000008000"), len(data), WRITE)
        r2t = c.receive()
        ping = initiator.pdu(initiator.NOP_OUT, data=bytes(8000), immediate=True, itt=c.itt(), w=(initiator.NONE, *c.numbers(True)))
        for at in range(0, len(ping), 1000):
            c.send(ping[at : at + 1000])
            time.sleep(0.5)
        assert c.receive().opcode == initiator.NOP_IN
        c.answer_r2t(r2t, data)
        assert c.finish(itt)[0] == 0


def test_who_has_not_heard_yet_is_waited_for(target):
    """What asks for data goes behind what is read. Who takes his time to read that has dataout_timeout when he has got so far;
    who does not read at all has not."""
    acl_with(target, dataout_timeout=4, nopin_timeout=0)
    data = bytes(65536)
    cdb = bytes.fromhex("2a000000000000008000")
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

        def begin():
            """Reads, of which some have gone when the write comes."""
            for _ in range(16):
                c.start(READ_1M, MIB, READ)
            time.sleep(1)
            return c.start(cdb, len(data), WRITE)

        itt, left = begin(), 16
        while left:
            a = c.receive()
            assert a is not None, f"closed with {left} reads left"
            assert a.opcode == DATA_IN
            if a.flags & 1:
                left -= 1
                time.sleep(0.5)
        assert c.finish(itt, data)[0] == 0
        begin()
        start = time.monotonic()
        lio.wait_for(c.is_closed_there, timeout=60)
        took = time.monotonic() - start
        assert 3.5 < took < 14 * lio.SLOW, took


def test_who_sends_in_an_order_of_its_own_is_waited_for(target):
    """The data of one command comes for longer than dataout_timeout before that of the one before it does."""
    acl_with(target, dataout_timeout=4)
    data = bytes(65536)
    cdb = bytes.fromhex("2a000000000000008000")
    with initiator.session(target, name=name(1), keys=SOLICITED) as c:
        first, second = c.start(cdb, 65536, WRITE), c.start(cdb, 65536, WRITE)
        asked = r2ts(c)
        assert list(asked) == [first, second]
        for n in range(8):
            time.sleep(0.6)
            c.send(c.data_out_pdu(second, asked[second].ttt, data[:8192], n * 8192, n, n == 7))
        assert c.finish(second)[0] == 0
        c.answer_r2t(asked[first], data)
        assert c.finish(first)[0] == 0


def test_the_statistics_count_what_is_received(target):
    stats = target.acl(name(1)) / "fabric_statistics/iscsi_sess_stats"
    with initiator.session(target, name=name(1), keys={"MaxBurstLength": 65536}) as c:
        before = int(attribute(stats, "rxdata_octs"))
        for _ in range(3):
            assert c.scsi(bytes.fromhex("2a000000000000008000"), write=bytes(65536))[0] == 0
        lio.wait_for(lambda: int(attribute(stats, "rxdata_octs")) == before + 3 * 65536)
        assert int(attribute(stats, "txdata_octs")) < 65536


@pytest.fixture
def hung():
    """A target on a device that answers nothing until release() is called."""
    lio.modprobe("dm-mod")
    dev = lio.loop_device(16 * MIB)
    lio.run("dmsetup", "create", "lio-hung", "--table", f"0 32768 linear {dev} 0")
    node = lio.run("dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", "lio-hung").stdout.strip()
    t = lio.IscsiTarget(lio.iblock(dev=lio.wait_for(lambda: os.path.exists(f"/dev/{node}") and f"/dev/{node}")))
    t.release = lambda: lio.run("dmsetup", "resume", "lio-hung")
    yield t
    t.release()
    lio.clear()


def test_a_back_end_that_does_not_answer(hung):
    """Disabling the group does not wait for it for ever: the session ends by itself when its command comes back."""
    def sessions():
        return attribute(hung.wwn_path / "fabric_statistics/iscsi_instance", "sessions")

    with initiator.session(hung) as c:
        lio.run("dmsetup", "suspend", "--nolockfs", "lio-hung")
        c.start(bytes.fromhex("28000000000000000800"), 4096, initiator.READ)
        assert c.ping()
        start = time.monotonic()
        shell = subprocess.Popen(["sh", "-c", f"echo 0 > {hung.path}/enable"])
        try:
            lio.wait_for(lambda: shell.poll() is not None, 25)
            print(f"disabled in {time.monotonic() - start:.1f} s")
            assert shell.returncode == 0 and sessions() == "1"
            assert "still has commands with the back end" in lio.run("dmesg").stdout
        finally:
            hung.release()
            shell.wait()
        told = c.receive()
        assert (told.opcode, told.bhs[36]) == (initiator.ASYNC, 3) and c.receive() is None
    lio.wait_for(lambda: sessions() == "0")
    hung.enable()
    with initiator.session(hung) as c:
        assert c.scsi(bytes.fromhex("28000000000000000800"), read=4096)[0] == 0


@pytest.mark.skipif(lio.SLOW > 1, reason="the debug kernel's objects are larger")
def test_many_luns_take_little(target):
    """What a LUN that no session has takes is what configfs has for its files, and little more, as seen by an initiator or not."""
    store = (target.path / "lun/lun_0" / os.readlink(target.path / "lun/lun_0/store")).resolve()
    acl = target.path / "acls" / name(0)
    acl.mkdir()

    def slabs():
        lio.write("/proc/sys/vm/drop_caches", 3)
        return available("Slab") + available("Percpu")

    def create(first, n):
        for i in range(first, first + n):
            (target.path / f"lun/lun_{i}").mkdir()
            (target.path / f"lun/lun_{i}/store").symlink_to(store)

    def show(first, n):
        for i in range(first, first + n):
            (acl / f"lun_{i}").mkdir()
            (acl / f"lun_{i}/lun").symlink_to(target.path / f"lun/lun_{i}")

    n = 512
    create(1, 256)  # These fill what slabs had free.
    before = slabs()
    create(257, n)
    created = slabs()
    show(1, n)
    assert (created - before) / n < 14 << 10 and (slabs() - created) / n < 12.5 * 1024
