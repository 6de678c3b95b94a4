"""Malformed iSCSI: each case of malformed.py gets one of the answers that RFC 7143 allows, and then an honest initiator
is served. With STOCK=1, what the stock modules answer is written to tests/iscsi/malformed-stock.txt instead."""
# vm: --timeout 1800
import fnmatch
import random
import socket
import time

import initiator
import lio
import malformed
import pytest

STOCK_RECORD = lio.TOP / "tests/iscsi/malformed-stock.txt"


@pytest.fixture(scope="module")
def target():
    store = lio.ramdisk(size=32 << 20)
    t = lio.IscsiTarget(store)
    t.attrib("login_timeout", 5)
    with initiator.session(t) as c:
        assert c.scsi(bytes.fromhex("2a000000100000000800"), write=b"honest!\n" * 512)[0] == 0
        c.logout()
    yield t
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """Only at the end of all: what conftest.py's would do after each test."""
    yield


def outcome(c, wait):
    """What comes back first; then, where a case asks for it, what comes after that."""
    def one():
        try:
            a = c.receive(wait)
        except TimeoutError:
            return "nothing"
        if a is None:
            return "closed"
        sense = a.sense if a.opcode == initiator.SCSI_RESPONSE else b""
        return {
            initiator.REJECT: lambda: f"reject {a.reason:02x}",
            initiator.LOGIN_RESPONSE: lambda: f"login {a.login_status:04x}" + (" Reject" if b"=Reject\0" in a.data else ""),
            initiator.SCSI_RESPONSE: lambda: f"status {a.status:02x}" + (
                f" {sense[2] & 15:X}/{sense[12]:02x}{sense[13]:02x}" if len(sense) > 13 else "") if a.response == 0
            else f"response {a.response:02x}",
            initiator.TMF_RESPONSE: lambda: f"tmf {a.response:02x}",
            initiator.LOGOUT_RESPONSE: lambda: f"logout {a.response:02x}",
            initiator.TEXT_RESPONSE: lambda: "text" + next((f" {w}" for w in ("NotUnderstood", "Irrelevant", "Reject")
                                                             if f"={w}\0".encode() in a.data), ""),
            initiator.NOP_IN: lambda: "nop",
            initiator.R2T: lambda: "r2t",
            initiator.DATA_IN: lambda: "data",
        }.get(a.opcode, lambda: f"opcode {a.opcode:#x}")()

    return one


def matches(got, patterns):
    return any(fnmatch.fnmatchcase(got, p) for p in patterns)


def play(case, target):
    """Sends a case; gives its outcome."""
    with initiator.Connection(timeout=20) as c:
        c.target = target.iqn
        if case.phase == "full":
            c.login(target.iqn, keys=case.keys)
            c.scsi(bytes(6)), c.scsi(bytes(6))
        elif case.phase == "discovery":
            c.login()
        elif case.phase == "login":
            c.send(c.login_pdu(initiator.text(malformed.WHO | {"TargetName": target.iqn, "AuthMethod": "None"}),
                               initiator.SECURITY, initiator.OPERATIONAL))
            assert c.receive().login_status == 0
        data = case.send(c)
        if data:
            c.send(data)
        # A ping behind it shows in no time that there is no answer, where that is right.
        silent = "ignored" in case.expect
        if silent:
            mark = c.itt()
            c.send(initiator.pdu(initiator.NOP_OUT, immediate=True, itt=mark, w=(initiator.NONE, c.cmd_sn, c.exp_stat_sn)))
        one = outcome(c, 12)
        got = one()
        if silent and got == "nop":
            return "ignored"
        if got in ("login 0000", "text", "r2t") and any(" then " in e for e in case.expect) and got not in case.expect:
            end = time.monotonic() + 20
            after = one()
            while after == got and time.monotonic() < end:
                after = one()
            return f"{got} then {got if after == 'nothing' else after}"
        return got


def honest(target):
    """Login, TEST UNIT READY, and a read of what was written at the start."""
    with initiator.session(target, isid=b"\x80\0\0\0\0\x77", name="iqn.2024-01.org.example:honest") as c:
        assert c.scsi(bytes(6))[0] == 0
        status, data, _ = c.scsi(bytes.fromhex("28000000100000000800"), read=4096)
        assert status == 0 and data == b"honest!\n" * 512
        assert c.logout().response == 0


def batches():
    """The cases by phase and a few dozen at a time, so that one run names all that fail."""
    for phase in ("start", "login", "full", "discovery"):
        cases = [c for c in malformed.CASES if c.phase == phase]
        for i in range(0, len(cases), 40):
            yield pytest.param(cases[i : i + 40], id=f"{phase}-{i // 40}")


@pytest.mark.parametrize("cases", batches())
def test_answered_as_the_rfc_says(target, cases):
    wrong, seen = [], {}
    for case in cases:
        try:
            seen[case.name] = got = play(case, target)
        except (AssertionError, OSError) as e:
            seen[case.name] = got = f"failed: {e}"
        if not matches(got, case.expect):
            wrong.append(f"{case.name} ({case.clause}): {got}, expected {' or '.join(case.expect)}")
        try:
            honest(target)
        except (AssertionError, OSError) as e:
            wrong.append(f"after {case.name}: the honest initiator: {e!r}")
            if "refused" in repr(e):
                break
    if lio.STOCK:
        record(seen, wrong)
    else:
        assert not wrong, "\n".join(wrong)


def record(seen, wrong):
    names = {line.split(" (")[0] for line in wrong}
    STOCK_RECORD.parent.mkdir(exist_ok=True)
    with open(STOCK_RECORD, "a") as f:
        for name, got in seen.items():
            f.write(f"{name}\t{got}{chr(9) + 'not as RFC 7143 says' if name in names else ''}\n")
        for line in wrong:
            if line.startswith("after "):
                f.write(f"{line}\n")


def test_random_bytes(target):
    """Good PDUs with some bytes changed, and bytes that are random altogether."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    r = random.Random(seed)
    for i in range(60):
        with initiator.Connection(timeout=20) as c:
            c.target = target.iqn
            if i % 3:
                c.login(target.iqn)
            for _ in range(r.randrange(1, 8)):
                bad = bytearray(malformed.good(c, r.choice(list(malformed.KINDS.values())), data=r.randbytes(r.choice([0, 0, 4, 512]))))
                for _ in range(r.choice([1, 2, 4, 16])):
                    bad[r.randrange(min(len(bad), 64))] = r.randrange(256)
                c.send(bytes(bad) if r.random() < 0.9 else r.randbytes(r.randrange(1, 3000)))
            if r.random() < 0.5:
                try:
                    while c.receive(0.05):
                        pass
                except (TimeoutError, OSError):
                    pass
            c.reset() if r.random() < 0.3 else None
        if i % 10 == 9:
            honest(target)
    honest(target)


def test_login_in_single_bytes(target):
    with initiator.Connection(timeout=30) as c:
        data = c.login_pdu(initiator.text(malformed.WHO | {"TargetName": target.iqn, "AuthMethod": "None"}),
                           initiator.SECURITY, initiator.OPERATIONAL)
        for b in data:
            c.send(bytes([b]))
        assert c.receive().login_status == 0
        for b in c.login_pdu(b"MaxBurstLength=65536\0"):
            c.send(bytes([b]))
        assert c.receive().login_status == 0
        assert c.ping()
    honest(target)


@pytest.mark.parametrize("sent", [0, 20, 48, 60])
def test_a_login_that_stops_is_ended(target, sent):
    """login_timeout is 5 s; the bound here is only a guard."""
    with initiator.Connection(timeout=30) as c:
        c.target = target.iqn
        c.send(malformed.login()(c)[:sent])
        start = time.monotonic()
        end = c.receive(60)
        if end is not None:
            assert end.opcode == initiator.LOGIN_RESPONSE and end.login_status >> 8 in (2, 3)
            assert c.receive(60) is None
        assert time.monotonic() - start > 2, "no time for a slow initiator"


@pytest.mark.skipif(lio.STOCK, reason="the stock modules serve one login after the other")
def test_idle_connections_keep_nobody_out(target):
    """Hundreds of connections from one address that never log in: another address is served at once."""
    idle = []
    for _ in range(300):
        s = socket.socket()
        s.bind(("127.0.0.9", 0))
        s.settimeout(2)
        try:
            s.connect(("127.0.0.1", 3260))
            s.send(b"\x43\x81")
        except OSError:
            s.close()
            continue
        idle.append(s)
    start = time.monotonic()
    honest(target)
    took = time.monotonic() - start
    for s in idle:
        s.close()
    print(f"{len(idle)} idle connections, the honest initiator took {took:.2f} s")
    assert took < 10 * lio.SLOW, f"{took} s: it waited for the others"
    honest(target)


def test_what_is_left(target):
    """No session, no connection, no thread stays behind."""
    def gone():
        """the sessions are gone"""
        sessions = lio.read(target.wwn_path / "fabric_statistics/iscsi_instance/sessions")
        return sessions == "0"
    lio.wait_for(gone, 40)
