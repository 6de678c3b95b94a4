"""What was a security hole or a hang in a C target, by what initiators send, one class a test: ours answers correctly, goes on serving, and is
rid of it all afterwards."""
# vm: --timeout 1800
# group: wounds
import contextlib
import random
import struct
import threading
import time
from pathlib import Path

import failing
import initiator
import leaks
import lio
import pytest
import sgio
from initiator import ABORT_TASK, LUN_RESET, NONE, NOP_OUT, OPERATIONAL, READ, REJECT, SECURITY, WRITE, pdu
from test_pr import transport_id
from test_stuck import Stuck, drain

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the wounds are the C modules'")
TUR, READ_4K, WRITE_64K = bytes(6), bytes.fromhex("28000000000000000800"), bytes.fromhex("2a000000000000008000")
GUARD = 30 * lio.SLOW  # seconds: nothing may take longer; a guard against hangs, no measure
NAME = "iqn.2024-01.org.example:i{}"
WHO = {"InitiatorName": NAME.format(0), "SessionType": "Normal", "AuthMethod": "None"}


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk())


@pytest.fixture
def stuck():
    s = Stuck()
    yield s
    with contextlib.suppress(Exception):
        s.go()
    lio.clear()


def login(target, i=1, **kw):
    return initiator.session(target, name=NAME.format(i), isid=b"\x80\0\0\0\1" + bytes([i]), **kw)


def honest(target, i=99):
    """An initiator is served."""
    with login(target, i) as c:
        status, data, _ = c.scsi(READ_4K, read=4096)
        assert status == 0 and len(data) == 4096
        assert c.logout().response == 0


def sessions(target):
    return int(lio.read(target.wwn_path / "fabric_statistics/iscsi_instance/sessions"))


def all_gone(target):
    def gone():
        """the sessions are gone"""
        return sessions(target) == 0
    lio.wait_for(gone, 40)


@contextlib.contextmanager
def in_time(what, most=GUARD):
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    print(f"{what}: {took:.1f} s")
    assert took < most, f"{what} took {took:.0f} s"


def at_once(*what):
    """Runs functions in threads of their own until all have ended; what one of them fails with comes out."""
    failures = []

    def run(f):
        try:
            f()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(f,), daemon=True) for f in what]
    for t in threads:
        t.start()
    for t in threads:
        t.join(4 * GUARD)
    assert not any(t.is_alive() for t in threads), "something hangs"
    if failures:
        raise failures[0]


def first_login(c, target, **extra):
    return c.login_pdu(initiator.text(WHO | {"TargetName": target.iqn} | extra), SECURITY, OPERATIONAL)


def test_garbage_behind_a_login(target):
    """CVE-2022-50350: bytes behind a login PDU, while the login was at work, hung it for ever. Expected: the login is answered,
    what comes behind it closes the connection or is answered as a PDU, and the next initiator is served."""
    rng = random.Random(50350)
    garbage = [b"\0", b"\xff" * 47, b"\xff" * 48, rng.randbytes(48), rng.randbytes(20000), bytes(48)]
    with in_time("garbage"):
        for junk in garbage:
            for stage, apart, end in ((0, False, "read"), (0, True, "reset"), (1, False, "read"), (1, True, "close"), (1, False, "reset")):
                with initiator.Connection(timeout=GUARD) as c:
                    request = first_login(c, target)
                    if stage:
                        c.send(request)
                        assert c.receive().login_status == 0
                        request = c.login_pdu(initiator.text({"MaxBurstLength": 65536}))
                    if apart:
                        c.send(request)
                        time.sleep(rng.choice([0, 0.001, 0.01]))
                        c.send(junk)
                    else:
                        c.send(request + junk)
                    if end == "reset":
                        c.reset()
                        continue
                    assert c.receive().login_status == 0
                    if end == "read":
                        c.sock.shutdown(1)
                        while c.receive():
                            pass
            # Behind half a login, which waits for the rest.
            with initiator.Connection(timeout=GUARD) as c:
                request = first_login(c, target)
                c.send(request[:60] + junk)
            honest(target)
    all_gone(target)


@pytest.mark.parametrize("stage", [SECURITY, OPERATIONAL])
def test_long_login_keys(target, stage):
    """CVE-2013-2850: an unknown key longer than its buffer overran the heap. Expected: up to 63 bytes it is not understood and the
    login goes on, above that the login fails (RFC 7143, 6.1); a value of any length is bounded by that of the text."""
    for prefix in (b"X-", b"Y#", b"k"):
        for name in (1, 62, 63, 64, 65, 127, 128, 255, 256, 1024, 4096, 8100):
            for value in (0, 255, 256, 4096, 8000, 8191):
                key = (prefix + b"y" * 8192)[:name]
                raw = key + b"=" + b"v" * value + b"\0"
                if name not in (62, 63, 64) and value not in (0, 8191):
                    continue
                with initiator.Connection(timeout=GUARD) as c:
                    c.send(first_login(c, target))
                    c.receive() if stage == OPERATIONAL else c.close()
                    if stage == SECURITY:
                        c.sock = initiator.socket.create_connection(("127.0.0.1", 3260), GUARD)
                        raw = initiator.text(WHO | {"TargetName": target.iqn}) + raw
                    # As many PDUs as it takes, C (continue) set in all but the last.
                    pieces = [raw[i : i + 8192] for i in range(0, len(raw), 8192)]
                    for n, piece in enumerate(pieces):
                        more = n + 1 < len(pieces)
                        c.send(c.login_pdu(piece, csg=stage, nsg=stage + 1 if stage == SECURITY else 3, transit=not more, more=more))
                        a = c.receive()
                        if a is None or a.login_status:
                            break
                    what = f"a key of {name} bytes with {value}: {a}"
                    if name > 63 or len(raw) > 8192:
                        assert a is None or a.login_status >> 8 in (2, 3), what
                    elif value <= 255:
                        assert a.login_status == 0 and (key + b"=NotUnderstood\0") in a.data, what
                    else:
                        assert a is None or a.login_status == 0x0200 or (key + b"=NotUnderstood\0") in a.data, what
    honest(target)
    all_gone(target)


@pytest.mark.parametrize("demanded", [1, 0])
def test_over_long_chap_r(target, demanded):
    """CVE-2018-14633: CHAP_R in hex, longer than its buffer, overran the stack. Expected: the login fails with an authentication
    failure, before the challenge and after it, and the keys, at any length, harm nothing; where nothing is demanded, they are not
    understood."""
    target.attrib("authentication", demanded)
    for digits in (0, 1, 31, 32, 33, 34, 64, 128, 1024, 2048, 4096, 8000):
        for keys in ({"CHAP_A": "5", "CHAP_N": "user", "CHAP_R": "0x" + "a" * digits}, {"CHAP_N": "user", "CHAP_R": "0b" + "A" * digits},
                     {"CHAP_N": "user", "CHAP_R": "0x" + "a" * digits}, {"CHAP_C": "0x" + "f" * digits},
                     {"CHAP_N": "user", "CHAP_R": "0x" + "a" * 32, "CHAP_I": "1", "CHAP_C": "0x" + "f" * digits}):
            for challenged in (False, True):
                with initiator.Connection(timeout=GUARD) as c:
                    c.send(c.login_pdu(initiator.text(WHO | {"TargetName": target.iqn, "AuthMethod": "CHAP" if demanded else "None,CHAP"}),
                                       SECURITY, transit=False))
                    assert c.receive().login_status == 0
                    if challenged and demanded:
                        c.send(c.login_pdu(initiator.text({"CHAP_A": "5"}), SECURITY, transit=False))
                        assert "CHAP_C" in c.receive().text
                    c.send(c.login_pdu(initiator.text(keys), SECURITY, OPERATIONAL))
                    a = c.receive()
                    what = f"{digits} digits, {list(keys)}, {challenged}: {a}"
                    assert a is None or a.login_status in ((0x0201, 0x0200) if demanded else (0, 0x0200)), what
    target.attrib("authentication", 0)
    honest(target)
    all_gone(target)


def test_time2retain_with_commands_pending(stuck):
    """CVE-2023-54184: the Time2Retain timer freed a session whose commands were at the back end. Expected at error recovery level
    0: the session is not kept at all; its commands end with the back end, in their own time, and then nothing is left."""
    target = lio.IscsiTarget(stuck.store)
    lio.write(target.path / "param/DefaultTime2Retain", 2)
    empty = leaks.nodes()
    stuck.stop()
    for i, how in enumerate(("reset", "close")):
        c = initiator.Connection(timeout=GUARD)
        c.login(target.iqn, name=NAME.format(i), keys={"DefaultTime2Retain": 2, "DefaultTime2Wait": 0})
        assert int(c.keys.get("DefaultTime2Retain", 0)) <= 2
        for _ in range(16):
            c.start(READ_4K, 4096, READ)
        for _ in range(16):
            c.start(WRITE_64K, 65536, WRITE, b"x" * 8192)
        drain(c)
        getattr(c, how)()
    time.sleep(4)  # past the time to retain
    assert sessions(target) == 2
    # Others are let in meanwhile.
    with login(target, 50) as c:
        assert c.ping()
    stuck.go()
    all_gone(target)
    honest(target)
    all_gone(target)
    lio.wait_for(lambda: leaks.nodes() == empty)


def test_nopin_timeout_while_it_is_deleted():
    """CVE-2025-38075: the NOP-In timer fired on a connection that was being freed. Expected: whichever comes first ends it."""
    store = lio.ramdisk()
    closed = []  # whether the timer was first
    for round_ in range(2):
        names = [NAME.format(i) for i in range(16)]
        target = lio.IscsiTarget(store, acls=names)
        for n in names:
            for key in ("nopin_timeout", "nopin_response_timeout"):
                lio.write(target.path / "acls" / n / "attrib" / key, 3)
        with contextlib.ExitStack() as stack:
            silent = []

            def one(i):
                time.sleep(0.1 * i)
                c = stack.enter_context(initiator.Connection(timeout=GUARD))
                c.login(target.iqn, name=names[i])
                silent.append(c)
                if i >= (12 if round_ else 16):
                    return
                # 3 s after the last word comes the ping, a second later it is looked whether that has arrived, and 3 s after that is the
                # end: just then it is deleted, a little earlier or later than the one before, as that one came too late or too early.
                assert c.receive(GUARD).opcode == initiator.NOP_IN
                end = time.monotonic() + 1 + 3
                while time.monotonic() < end + 0.04 * (closed.count(False) - closed.count(True)):
                    time.sleep(0.005)
                closed.append(c.is_closed_there())
                path = target.path / "acls" / names[i]
                for m in (path / "lun_0/lun").unlink, (path / "lun_0").rmdir, path.rmdir:
                    m()

            at_once(*(lambda i=i: one(i) for i in range(16)))
            with in_time("deleting the group"):
                target.delete()
            for c in silent:
                for _ in range(4):
                    if c.receive(GUARD) is None:
                        break
                else:
                    raise AssertionError("a session of a deleted group goes on")
    print(f"of {len(closed)} the timer was first for {sum(closed)}")
    assert 0 < sum(closed) < len(closed)
    target = lio.IscsiTarget(store)
    honest(target)


def test_wakeups_of_what_is_freed(target):
    """CVE-2026-23193, CVE-2026-23216: the last user of a session or connection woke who freed it, and then unlocked a lock in what
    was freed. Expected: sessions that end in each way at each moment, while others look at them and end them, do no harm."""
    acls = [target.acl(NAME.format(i)) for i in range(3)]
    stop = time.monotonic() + 8 * lio.SLOW
    done = [0] * 3

    def come_and_go(i):
        rng = random.Random(i)
        while time.monotonic() < stop or done[i] < 4:
            with contextlib.suppress(OSError, AssertionError), initiator.Connection(timeout=GUARD) as c:
                c.login(target.iqn, name=NAME.format(i), isid=b"\x80\0\0\0\4" + bytes([rng.randrange(2)]))
                for _ in range(rng.randrange(6)):
                    c.start(READ_4K, 4096, READ)
                    c.start(WRITE_64K, 65536, WRITE, b"x" * 8192)
                end = rng.randrange(4)
                if end == 0:
                    c.send(pdu(initiator.LOGOUT, itt=c.itt(), w=(1 << 16, *c.numbers())))
                elif end == 1:
                    c.reset()
                elif end == 2:
                    c.send(pdu(initiator.TMF, 0x80 | LUN_RESET, immediate=True, itt=c.itt(), w=(NONE, c.cmd_sn, c.exp_stat_sn, 0)))
                done[i] += 1

    def look():
        while time.monotonic() < stop:
            for acl in acls:
                for f in ("info", "param/MaxBurstLength", "fabric_statistics/iscsi_sess_stats/cmd_pdus", "lun_0/statistics/scsi_att_intr_port/port_ident"):
                    with contextlib.suppress(OSError):
                        (acl / f).read_bytes()
            (target.path / "dynamic_sessions").read_bytes()

    def end():
        depth = 16
        while time.monotonic() < stop:
            depth ^= 48
            for acl in acls:
                lio.write(acl / "cmdsn_depth", depth)
            time.sleep(0.05)

    at_once(*(lambda i=i: come_and_go(i) for i in range(3)), look, end)
    print(f"{done} sessions")
    assert all(n > 3 for n in done)
    all_gone(target)
    honest(target)


def long_cdb(c, cdb, **kw):
    """A command whose CDB goes on in an additional header segment (RFC 7143, 11.2.2.3)."""
    return c.command_pdu(cdb, ahs=struct.pack(">HBB", len(cdb) - 16 + 1, 1, 0) + cdb[16:] if len(cdb) > 16 else b"", **kw)


def answer_to(c):
    a = c.receive()
    return a and (a.opcode, a.status if a.opcode == initiator.SCSI_RESPONSE else None, sgio.say(a.sense) if a.opcode == initiator.SCSI_RESPONSE else "")


def test_long_cdbs(target):
    """CVE-2025-68782: where no memory was left for a CDB above 32 bytes, the error path went on with a pointer that was not one.
    Expected: a CDB of each length is decoded or refused, and the session goes on."""
    c = login(target)
    for n in (16, 17, 20, 31, 32, 33, 34, 63, 64, 128, 200, 255, 256, 257, 259, 260):
        for cdb in (b"\x7f" + bytes(6) + bytes([max(n - 8, 0) & 0xFF]) + b"\0\x09", b"\x7f" + bytes(6) + b"\xff\xff\xff", b"\x00" * 16, b"\xff" * 16, READ_4K):
            c.send(long_cdb(c, cdb.ljust(n, b"\0")))
            got = answer_to(c)
            assert got and (got[0] == REJECT or got[1:] in ((2, "5/2000"), (2, "5/2400"), (2, "5/2500"), (0, ""))), (n, cdb.hex(), got)
    for n in (261, 300, 1000):
        with login(target, 2) as d:
            d.send(long_cdb(d, bytes([0x7F]).ljust(n, b"\0")))
            got = answer_to(d)
            assert got is None or got[0] == REJECT or got[1] == 2, (n, got)
    assert c.scsi(READ_4K, read=4096)[0] == 0
    c.close()
    with sgio.Disk(lio.Loopback(lio.ramdisk("rd1")).disk()) as disk:
        for n in (10, 16, 17, 20, 31, 32):  # the most that SG_IO takes
            r = disk.scsi(b"\x7f" + bytes(6) + bytes([max(n - 8, 0)]) + b"\xff\xff" + bytes(n - 10))
            assert r.status == 2 and sgio.say(r.sense) in ("5/2000", "5/2400"), r
        assert disk.scsi(READ_4K, read=4096).status == 0


@pytest.mark.skipif(not failing.here(), reason="only the debug kernel fails allocations on purpose")
def test_long_cdbs_when_memory_is_short(target):
    """CVE-2025-68782, as it happened: each allocation fails in its turn in the thread that takes the command."""
    def threads():
        return {p for p in Path("/proc").glob("[0-9]*") if (p / "comm").exists() and lio.read(p / "comm").startswith("iscsi")}

    before, c, refused = threads(), login(target), 0
    thread, = threads() - before
    failing.prepare()
    for n in range(1, 12):
        lio.write(thread / "fail-nth", n)
        c.send(long_cdb(c, (b"\x7f" + bytes(6) + b"\xf4\0\x09").ljust(252, b"\0")))
        a = c.receive()
        if a is None:
            refused += 1
            c.close()
            before = threads()
            c = login(target)
            thread, = threads() - before
            continue
        # Of no operation that there is, BUSY, or TASK SET FULL.
        assert a.opcode == initiator.SCSI_RESPONSE and a.status in (2, 8, 0x28), a
        refused += a.status != 2
        lio.write(thread / "fail-nth", 0)
        assert c.ping() and c.scsi(READ_4K, read=4096)[0] == 0
    c.close()
    print(f"{refused} times memory was short")
    assert refused
    honest(target)


def test_addresses_that_wrap():
    """LBA + length beyond 2^64 passed for an address at the start. Expected: LOGICAL BLOCK ADDRESS OUT OF RANGE, and the blocks at
    the start are as they were."""
    store = lio.fileio(size=1 << 20)
    store.attrib("emulate_tpu", 1), store.attrib("emulate_tpws", 1)
    target = lio.IscsiTarget(store)
    disk = sgio.Disk(lio.Loopback(store).disk())
    data = bytes(range(256)) * 16
    assert disk.scsi(b"\x2a" + bytes(7) + b"\x08\0", write=data).status == 0
    c = login(target)
    last = (1 << 20) // 512
    for lba in (2**64 - 1, 2**64 - 4, 2**64 - 8, 2**63, 2**63 - 4, 2**32 - 4, 2**32, 2**55, last, last - 4):
        at = lba.to_bytes(8, "big")
        for n in (8, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000):
            count = n.to_bytes(4, "big")
            cdbs = [(b"\x88\0" + at + count, 4096, b""), (b"\x8a\0" + at + count, 0, data), (b"\x8f\0" + at + count, 0, b""), (b"\x8f\2" + at + count, 0, data),
                    (b"\x91\0" + at + count, 0, b""), (b"\x93\0" + at + count, 0, data[:512]), (b"\x93\x08" + at + count, 0, bytes(512)),
                    (b"\x93\1" + at + count, 0, b"")]
            if n == 8:
                cdbs += [(b"\x89\0" + at + bytes([0, 0, 0, 1]), 0, bytes(1024))] if lba >= last else []
                if lba < 2**32:
                    low = lba.to_bytes(4, "big")
                    cdbs += [(b"\x28\0" + low + b"\0\0\x08\0", 4096, b""), (b"\x2a\0" + low + b"\0\0\x08\0", 0, data),
                             (b"\xa8\0" + low + count + b"\0\0", 4096, b""), (b"\xaa\0" + low + count + b"\0\0", 0, data), (b"\x41\0" + low + b"\0\0\x08\0", 0, data[:512])]
            for cdb, read, write in cdbs:
                cdb = cdb.ljust({0x28: 10, 0x2A: 10, 0x41: 10, 0xA8: 12, 0xAA: 12}.get(cdb[0], 16), b"\0")
                r = disk.scsi(cdb, read=read, write=write)
                # Lengths beyond the transfer limit may be refused for that, and 0 of NDOB is not there on each back end.
                assert r.status == 2 and sgio.say(r.sense) in (("5/2100",) if n == 8 else ("5/2100", "5/2400")), (cdb.hex(), r)
                got = c.scsi(cdb, read=read, write=write)
                assert got[0] == 2 and sgio.say(got[2].sense) in ("5/2100", "5/2400", "6/2a09"), (cdb.hex(), got)
            for body in (at + count + bytes(4), bytes(16) + at + count + bytes(4), struct.pack(">QI4x", 16, 8) + at + count + bytes(4)):
                parameters = struct.pack(">HH4x", len(body) + 6, len(body)) + body
                r = disk.scsi(b"\x42" + bytes(6) + len(parameters).to_bytes(2, "big") + b"\0", write=parameters)
                assert r.status == 2 and sgio.say(r.sense)[:2] == "5/", (body.hex(), r)
    r = disk.scsi(b"\x28" + bytes(7) + b"\x08\0", read=4096)
    assert r.status == 0 and r.data == data
    disk.close()
    c.close()


def test_pr_out_with_malformed_transportids(target):
    """CVE-2026-72084, CVE-2025-38399: TransportIDs and SPEC_I_PT lists whose lengths lie. Expected: refused, nothing registered,
    and the data taken off the wire."""
    ids = {
        "a length far beyond": b"\x45\0\xff\xfc" + b"iqn.x,i,0x1".ljust(60, b"\0"), "a length of 0": b"\x05\0\0\0" + bytes(60),
        "no separator": b"\x45\0\0\x3c" + b"i" * 60, "a separator at the end": b"\x45\0\0\x14" + b"iqn.xxxxxxxxxxx,i,0x",
        "no NUL and too long": b"\x05\0\x01\x00" + b"n" * 256, "another protocol": b"\x06" + bytes(23), "cut off": b"\x05\0\0\x14iqn",
        "a reserved format": b"\xc5\0\0\x14" + b"iqn.x".ljust(20, b"\0"), "nothing but zeros": bytes(64),
    }
    with login(target) as c:
        for action in range(9):
            for length in (0, 1, 23, 25, 28, 48, 512, 65535):
                body = (bytes(16) + b"\0\0\0\0\x08\0\0\0" + struct.pack(">I", 0xFFFFFFF0) + b"\xff" * 65535)[: min(length, 60000)]
                cdb = b"\x5f" + bytes([action, 0, 0, 0]) + struct.pack(">IB", length, 0)
                status, _, a = c.scsi(cdb, write=body)
                assert status == 2 and sgio.say(a.sense)[:6] in ("5/1a00", "5/2400", "5/2600"), (action, length, a)
        for what, wrong in ids.items():
            for action, head in ((0, bytes(15) + b"\1" + b"\0\0\0\0\x08\0\0\0" + struct.pack(">I", len(wrong))),
                                 (7, bytes(15) + b"\1" + struct.pack(">HHI", 0, 1, len(wrong)))):
                cdb = b"\x5f" + bytes([action, 0, 0, 0]) + struct.pack(">IB", len(head + wrong), 0)
                status, _, a = c.scsi(cdb, write=head + wrong)
                # REGISTER AND MOVE is for the registered, before its TransportID counts.
                assert status == 2 and sgio.say(a.sense)[:6] in ("5/1a00", "5/2600"), (what, action, a)
        status, data, _ = c.scsi(bytes.fromhex("5e000000000000002000"), read=32)
        assert status == 0 and data == bytes(8), "registered after all"
        assert c.scsi(READ_4K, read=4096)[0] == 0


def test_spec_i_pt_error_paths():
    """CVE-2025-38399: REGISTER for others whose list is right up to one entry, which the C target left half done. Expected: nobody is
    registered, and all that the list names can be deleted."""
    t = lio.IscsiTarget(lio.ramdisk(), acls=[NAME.format(i) for i in range(1, 4)])
    good = [transport_id(NAME.format(i), b"\x80\0\0\0\1" + bytes([i])) for i in (2, 3)]
    wrong = {"cut off": b"\x45\0\0\x14iqn", "a length beyond the list": b"\x45\0\xff\xfc" + bytes(20),
             "another protocol": b"\x06" + bytes(23)}

    def register(c, ids):
        body = bytes(15) + b"\1" + b"\0\0\0\0\x08\0\0\0" + struct.pack(">I", len(ids)) + ids
        status, _, a = c.scsi(b"\x5f\0\0\0\0" + struct.pack(">IB", len(body), 0), write=body)
        return sgio.say(a.sense) if status == 2 else status

    def registered(c):
        status, data, _ = c.scsi(bytes.fromhex("5e000000000000010000"), read=256)
        assert status == 0
        return int.from_bytes(data[4:8], "big") // 8

    def short(_):
        try:
            heard.append(register(held[0], b"".join(good)))
        except (ConnectionError, AssertionError) as e:
            assert not isinstance(e, AssertionError) or "closed the connection" in str(e), e
            heard.append("closed")
            held[0] = login(t)

    def again():
        if registered(held[0]):
            assert heard[-1] in (0, "closed") and registered(held[0]) == 3
            assert held[0].scsi(bytes.fromhex("5f030000000000001800"), write=bytes(7) + b"\1" + bytes(16))[0] == 0  # CLEAR
        assert registered(held[0]) == 0

    held, heard = [login(t)], []
    for n in range(3):
        for what, entry in wrong.items():
            said = register(held[0], b"".join([*good[:n], entry, *good[n:]]))
            assert said in ("5/1a00", "5/2600"), (what, n, said)
            assert registered(held[0]) == 0, (what, n)
    short(None)
    assert heard == [0]
    again()
    if failing.here():
        with failing.within(failing.text("target_core_mod")):
            print(failing.one_by_one(short, then=again), heard)
        assert heard[-1] == 0 and set(heard) <= {0, 8, 0x28, "2/5503", "B/5503", "5/5504", "closed"} and len(set(heard)) > 1
    held[0].close()
    with in_time("deleting it"):
        for i in (2, 3):
            path = t.path / "acls" / NAME.format(i)
            for lun in lio.dirs(path):
                if lun.name.startswith("lun_"):
                    for link in lio.links(lun):
                        link.unlink()
                    lun.rmdir()
            path.rmdir()
        t.delete()


def test_an_abort_storm(stuck):
    """A host whose commands time out on a slow back end aborts each, resets the unit, and tries again: the C target deadlocked.
    Expected: each function is answered, rightly and in time, no aborted command with good status; then all is as before."""
    target = lio.IscsiTarget(stuck.store)
    target.patient(*map(NAME.format, range(4)))
    hosts = [login(target, i) for i in range(4)]
    answered = []

    def storm(c):
        # What was answered; what a function has ended, and has said so; what a reset may have ended by now.
        sent, ended, gone, doomed = set(), set(), set(), set()
        for round_ in range(2):
            tags = [c.start(READ_4K, 4096, READ) for _ in range(24)] + [c.start(WRITE_64K, 65536, WRITE, b"x" * 8192) for _ in range(8)]
            sent.update(tags)
            aborts, resets = dict.fromkeys(tags, ABORT_TASK), dict.fromkeys((0, 1), LUN_RESET)
            # From the last one on: the resets first, and the other time the aborts.
            todo, waiting = resets | aborts if round_ else aborts | resets, {}
            end = time.monotonic() + 70 * lio.SLOW
            while todo or waiting:
                while todo and len(waiting) < 8:
                    ref, function = todo.popitem()
                    itt = c.itt()
                    waiting[itt] = (ref, function)
                    doomed |= sent if function == LUN_RESET else set()
                    c.send(pdu(initiator.TMF, 0x80 | function, immediate=True, itt=itt, w=(ref or NONE, c.cmd_sn, c.exp_stat_sn, 0)))
                a = c.receive(max(end - time.monotonic(), 1))
                assert a is not None and time.monotonic() < end
                if a.opcode == initiator.TMF_RESPONSE:
                    ref, function = waiting.pop(a.itt)
                    assert a.response in ((0, 1, 255) if function == ABORT_TASK else (0, 255)), a
                    if a.response == 0:
                        gone |= {ref} if function == ABORT_TASK else sent
                    elif a.response == 1:
                        assert ref in ended | gone | doomed, "a task that is there"
                    answered.append(a.response)
                elif a.opcode == REJECT:
                    assert a.reason == 6, a  # too many that are immediate: again
                    itt = struct.unpack(">I", a.data[16:20])[0]
                    todo[waiting[itt][0]] = waiting.pop(itt)[1]
                elif a.opcode == initiator.NOP_IN:
                    c.send(pdu(NOP_OUT, immediate=True, w=(a.ttt, c.cmd_sn, c.exp_stat_sn)))
                else:
                    assert a.itt in sent - gone, f"after what ended it was answered: {a}"
                    if a.opcode == initiator.SCSI_RESPONSE or a.opcode == initiator.DATA_IN and a.flags & 1:
                        assert a.status in (0x40, 2, 0), a
                        ended.add(a.itt)

    def recover():
        time.sleep(6)
        stuck.go()
        time.sleep(2)
        stuck.stop()
        time.sleep(4)
        stuck.go()

    stuck.stop()
    with in_time("the storm", 120 * lio.SLOW):
        at_once(*(lambda c=c: storm(c) for c in hosts), recover)
    print(f"{len(answered)} functions: {sorted((r, answered.count(r)) for r in set(answered))}")
    assert len(answered) == 4 * 2 * 34
    for c in hosts:
        def normal():
            """commands succeed again"""
            return c.scsi(READ_4K, read=4096, timeout=GUARD)[0] == 0
        lio.wait_for(normal)
        assert c.tmf(LUN_RESET, timeout=GUARD) == 0
        c.close()
    all_gone(target)
    honest(target)
