"""Hostile iSCSI initiators, to be let loose beside an honest one: sessions that are valid, step by step, and what is done to
one PDU of them on the way. A mutation is chosen out of all that there are for a session, as it was recorded: every byte of
every header, header segment and key with every change of CHANGES, and every PDU with every trick of TRICKS."""
import contextlib
import dataclasses
import itertools
import random
import select
import socket
import struct
import threading
import time
from typing import Callable

import lio
from initiator import (ABORT_TASK, DATA_IN, FINAL, FULL_FEATURE, LOGIN_RESPONSE, LOGOUT, LOGOUT_RESPONSE, LUN_RESET, NONE, NOP_IN,
                       NOP_OUT, OPERATIONAL, R2T, READ, SCSI_RESPONSE, SECURITY, TEXT, TEXT_RESPONSE, TMF, TMF_RESPONSE, WRITE,
                       Connection, pdu, text)

ANSWERED = (SCSI_RESPONSE, DATA_IN)
CHANGES = {"bit 0": lambda b: b ^ 1, "bit 3": lambda b: b ^ 8, "bit 6": lambda b: b ^ 64, "00": lambda b: 0, "01": lambda b: 1,
           "7f": lambda b: 0x7F, "80": lambda b: 0x80, "ff": lambda b: 0xFF, "more": lambda b: b + 1 & 0xFF,
           "less": lambda b: b - 1 & 0xFF}


@dataclasses.dataclass
class Step:
    """PDUs that are sent together, and what ends the wait for their answer."""
    stage: str                  # security: before the login; operational: during it; full; burst: amid a command's data; discovery
    name: str
    make: Callable              # of the connection and the answer before: a list of PDUs
    ends: tuple


# --- valid sessions ---------------------------------------------------------------------------------------------------

def command(cdb, length=0, direction=0, data=b"", lun=0, **kw):
    return lambda c, last: [c.command_pdu(bytes.fromhex(cdb), length, direction, data, lun=lun, **kw)]


def unsolicited(cdb, data, sent):
    """A write with immediate data, and unsolicited data behind it."""
    def make(c, last):
        itt = c.itt()
        first = c.command_pdu(bytes.fromhex(cdb), len(data), WRITE, data[:512], itt=itt, last=False)
        pieces = range(512, sent, 1024)
        return [first] + [c.data_out_pdu(itt, NONE, data[at : min(at + 1024, sent)], at, n, at + 1024 >= sent)
                          for n, at in enumerate(pieces)]
    return make


def burst(data, piece=4096):
    """What the R2T that came asks for."""
    def make(c, r2t):
        if r2t is None or r2t.opcode != R2T:
            return [c.data_out_pdu(c.next_itt, NONE, data[:piece])]
        end, some = r2t.offset + r2t.wanted, []
        for n, at in enumerate(range(r2t.offset, end, piece)):
            some.append(c.data_out_pdu(r2t.itt, r2t.ttt, data[at : min(at + piece, end)], at, n, at + piece >= end))
        return some
    return make


def words(kind, flags=FINAL, data=b"", w=(), immediate=False, lun=0, **kw):
    """A request that is no command; of `w`, None is where CmdSN and ExpStatSN go."""
    def make(c, last):
        numbers = c.numbers(immediate)
        at = w.index(None)
        return [pdu(kind, flags, data, immediate=immediate, lun=lun, itt=c.itt(), w=(*w[:at], *numbers, *w[at + 1 :]), **kw)]
    return make


def login(pairs, csg, nsg, stage):
    return Step(stage, f"login {stage}", lambda c, last: [c.login_pdu(text(pairs(c)), csg, nsg, isid=c.isid)], (LOGIN_RESPONSE,))


OFFERS = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": 65536, "DefaultTime2Wait": 0,
          "DefaultTime2Retain": 0, "ErrorRecoveryLevel": 0}
SESSION = {"InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": 16384, "FirstBurstLength": 4096, "MaxOutstandingR2T": 1,
           "MaxConnections": 1, "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "X-org.example.banana": "yellow"}
DATA = bytes(range(256)) * 128


def normal(shared):
    """A session with a command of each kind; `shared`: the LUN that others use."""
    full = [
        ("TEST UNIT READY", command("000000000000"), ANSWERED), ("TEST UNIT READY", command("000000000000"), ANSWERED),
        ("TEST UNIT READY there", command("000000000000", lun=shared), ANSWERED),
        ("INQUIRY", command("12000000ff00", 255, READ), ANSWERED), ("VPD", command("1201b000ff00", 255, READ), ANSWERED),
        ("REPORT LUNS", command("a00000000000000010000000", 4096, READ), ANSWERED),
        ("READ CAPACITY", command("9e10" + "00" * 8 + "00000020" + "0000", 32, READ), ANSWERED),
        ("MODE SENSE", command("1a003f00ff00", 255, READ), ANSWERED),
        ("READ", command("28000000000000000800", 4096, READ), ANSWERED),
        ("READ there", command("28000000000000002000", 16384, READ, lun=shared), ANSWERED),
        ("WRITE, immediate", command("2a000000000000000400", 2048, WRITE, DATA[:2048]), ANSWERED),
        ("WRITE, unsolicited", unsolicited("2a000000000000000800", DATA[:4096], 4096), ANSWERED),
        ("VERIFY", command("2f000000000000000800"), ANSWERED),
        ("VERIFY of bytes", command("2f020000000000000400", 2048, WRITE, DATA[:2048]), ANSWERED),
        ("WRITE SAME", command("93000000000000000020" + "00000008" + "0000", 512, WRITE, DATA[:512]), ANSWERED),
        ("COMPARE AND WRITE", command("8900" + "00" * 11 + "010000", 1024, WRITE, DATA[:512] * 2), ANSWERED),
        ("UNMAP", command("42000000000000001800", 24, WRITE, bytes.fromhex("00160010") + bytes(11) + b"\x40" + bytes(3) + b"\x08"
                          + bytes(4)), ANSWERED),
        ("a long CDB", command("7f" + "00" * 15, ahs=struct.pack(">HBB", 17, 1, 0) + bytes(16)), ANSWERED),
        ("NOP", words(NOP_OUT, data=b"ping" * 16, w=(NONE, None)), (NOP_IN,)),
        ("immediate NOP", words(NOP_OUT, data=b"ping", immediate=True, w=(NONE, None)), (NOP_IN,)),
        ("text", words(TEXT, data=b"X-org.example.a=1\0", w=(NONE, None)), (TEXT_RESPONSE,)),
        ("ABORT TASK", words(TMF, FINAL | ABORT_TASK, immediate=True, w=(0x1234, None, 1)), (TMF_RESPONSE,)),
        ("LUN RESET", words(TMF, FINAL | LUN_RESET, immediate=True, w=(NONE, None, 0)), (TMF_RESPONSE,)),
        ("TEST UNIT READY", command("000000000000"), ANSWERED),
    ]
    solicited = "2a000000000000004000"
    return [
        login(lambda c: {"InitiatorName": c.name, "InitiatorAlias": "one", "TargetName": c.target, "SessionType": "Normal",
                         "AuthMethod": "CHAP,None"}, SECURITY, OPERATIONAL, "security"),
        login(lambda c: OFFERS | SESSION, OPERATIONAL, FULL_FEATURE, "operational"),
        *(Step("full", *what) for what in full),
        # Two bursts; the second is cut by what is done to the first.
        Step("full", "WRITE, solicited", command(solicited, 32768, WRITE), (R2T, *ANSWERED)),
        Step("burst", "first burst", burst(DATA), (R2T, *ANSWERED)),
        Step("burst", "second burst", burst(DATA), ANSWERED),
        Step("full", "logout", words(LOGOUT, w=(1 << 16, None)), (LOGOUT_RESPONSE,)),
    ]


def discovery(shared):
    return [
        login(lambda c: {"InitiatorName": c.name, "SessionType": "Discovery", "AuthMethod": "None"}, SECURITY, OPERATIONAL, "security"),
        login(lambda c: OFFERS, OPERATIONAL, FULL_FEATURE, "operational"),
        Step("discovery", "SendTargets", words(TEXT, data=b"SendTargets=All\0", w=(NONE, None)), (TEXT_RESPONSE,)),
        Step("discovery", "NOP", words(NOP_OUT, data=b"ping", immediate=True, w=(NONE, None)), (NOP_IN,)),
        Step("discovery", "logout", words(LOGOUT, w=(1 << 16, None)), (LOGOUT_RESPONSE,)),
    ]


# --- what is done to a PDU --------------------------------------------------------------------------------------------

END = {"close", "reset", "stall"}  # what ends a session, between the bytes that are sent


def with_length(p, n):
    return p[:5] + (n & 0xFFFFFF).to_bytes(3, "big") + p[8:]


def tricks():
    """name: function of (PDUs, index, another PDU, rng) that gives what is sent instead: bytes, or how the session ends."""
    def length(change):
        return lambda ps, i, other, rng: [*ps[:i], with_length(ps[i], change(int.from_bytes(ps[i][5:8], "big"))), *ps[i + 1 :]]

    def cut(how):
        return lambda ps, i, other, rng: [*ps[:i], ps[i][: rng.randrange(1, len(ps[i]))], how]

    def halves(ps, i, other, rng):
        at = rng.randrange(1, len(ps[i]))
        return [*ps[:i], ps[i][:at], 0.05, ps[i][at:], *ps[i + 1 :]]

    def splice(ps, i, other, rng):
        at = rng.randrange(1, min(len(ps[i]), len(other)))
        return [*ps[:i], ps[i][:at] + other[at:], *ps[i + 1 :]]

    return {
        "drop": lambda ps, i, other, rng: ps[:i] + ps[i + 1 :],
        "twice": lambda ps, i, other, rng: ps[: i + 1] + ps[i:],
        "fifty times": lambda ps, i, other, rng: ps[:i] + ps[i : i + 1] * 50 + ps[i + 1 :],
        "backwards": lambda ps, i, other, rng: ps[::-1],
        "another before": lambda ps, i, other, rng: [*ps[:i], other, *ps[i:]],
        "another instead": lambda ps, i, other, rng: [*ps[:i], other, *ps[i + 1 :]],
        "garbage before": lambda ps, i, other, rng: [*ps[:i], rng.randbytes(rng.randrange(1, 200)), *ps[i:]],
        "garbage behind": lambda ps, i, other, rng: [*ps[: i + 1], rng.randbytes(rng.randrange(1, 9000)), *ps[i + 1 :]],
        "splice": splice, "in two halves": halves,
        "cut and close": cut("close"), "cut and reset": cut("reset"), "cut and stall": cut("stall"),
        "reset behind": lambda ps, i, other, rng: [*ps[: i + 1], "reset"],
        "stall": lambda ps, i, other, rng: [*ps[:i], "stall"],
        "length + 1": length(lambda n: n + 1), "length - 1": length(lambda n: n - 1), "length + 4": length(lambda n: n + 4),
        "length 0": length(lambda n: 0), "length 16 MiB": length(lambda n: 0xFFFFFF), "length 8 KiB": length(lambda n: 8192),
        "random header": lambda ps, i, other, rng: [*ps[:i], ps[i][:1] + rng.randbytes(47) + ps[i][48:], *ps[i + 1 :]],
    }


TRICKS = tricks()


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What is done to the `index`th PDU of a step: a change to the byte `at`, or a trick."""
    session: str
    step: int
    index: int
    what: str
    at: int = -1

    def apply(self, pdus, other, rng):
        i = min(self.index, len(pdus) - 1)
        if self.at < 0:
            return TRICKS[self.what](pdus, i, other, rng)
        p = pdus[i]
        at = min(self.at, len(p) - 1)
        return [*pdus[:i], p[:at] + bytes([CHANGES[self.what](p[at])]) + p[at + 1 :], *pdus[i + 1 :]]


class Attack:
    """Sessions with a target, each spoilt in one place."""

    def __init__(self, target, shared):
        self.target = target
        self.sessions = {"normal": normal(shared), "discovery": discovery(shared)}
        self.recorded = {name: self.record(name) for name in self.sessions}

    def record(self, name):
        """Plays a session as it should be: what was sent, step by step. Each step must be answered as it should be."""
        sent = []
        with self.connect(0) as c:
            last = None
            for step in self.sessions[name]:
                pdus = step.make(c, last)
                c.send(b"".join(pdus))
                last = answer(c, step.ends, 10)
                assert last not in ("closed", "silent"), f"{step.name}: {last}"
                assert last.opcode != SCSI_RESPONSE or last.status == 0 or step.name in MAY_FAIL, f"{step.name}: {last}"
                sent.append(pdus)
        return sent

    def connect(self, worker):
        c = Connection(self.target.portals[0], timeout=10)
        c.name, c.target = hostile_name(worker), self.target.iqn
        c.isid = b"\x80\0\0" + bytes([worker]) + random.randbytes(2)
        return c

    def mutations(self):
        """All that there are."""
        for name, steps in self.recorded.items():
            for s, pdus in enumerate(steps):
                for i, p in enumerate(pdus):
                    for trick in TRICKS:
                        yield Mutation(name, s, i, trick)
                    # All of a header and of keys; of data, which may be anything, the beginning.
                    is_text = p[0] & 0x3F in (0x03, TEXT)
                    for at, change in itertools.product(range(len(p) if is_text else min(len(p), 48 + p[4] * 4 + 4)), CHANGES):
                        if CHANGES[change](p[at]) != p[at]:
                            yield Mutation(name, s, i, change, at)

    def play(self, mutation, worker, rng, stalled):
        """One session with one mutation: gives what became of it. Connections that stall are appended to `stalled`."""
        c = self.connect(worker)
        try:
            how = self.steps(c, mutation, rng)
        except OSError:
            how = "closed"
        if how == "stall":
            stalled.append(c)
        elif how == "reset" or (how == "silent" and rng.random() < 0.5):
            c.reset()
        else:
            c.close()
        return how

    def steps(self, c, mutation, rng):
        last, wait = None, 3
        others = [p for pdus in self.recorded[mutation.session] for p in pdus]
        for s, step in enumerate(self.sessions[mutation.session]):
            # The login, and what is near.
            if step.stage in ("full", "burst") and abs(s - mutation.step) > 3 and step.name != "logout":
                continue
            pdus = step.make(c, last)
            if s == mutation.step:
                wait = 0.15
                pdus = mutation.apply(pdus, rng.choice(others), rng)
            for p in pdus:
                if p in END:
                    return p
                if isinstance(p, float):
                    time.sleep(p)
                    continue
                c.sock.settimeout(2 * lio.SLOW)
                c.sock.sendall(p)
            last = answer(c, step.ends, wait)
            if isinstance(last, str):
                return last
        return "finished"


MAY_FAIL = ("TEST UNIT READY", "TEST UNIT READY there", "a long CDB")


def hostile_name(worker):
    return f"iqn.2024-01.org.example:hostile-{worker}"


def answer(c, ends, wait):
    """The PDU that ends a step, "closed" or "silent"."""
    end = time.monotonic() + wait * lio.SLOW
    while time.monotonic() < end:
        try:
            a = c.receive(wait)
        except TimeoutError:
            return "silent"
        except OSError:
            return "closed"
        if a is None:
            return "closed"
        if a.opcode in ends and (a.opcode != DATA_IN or a.flags & 1):
            return a
        if a.opcode == LOGIN_RESPONSE and a.login_status:
            return "closed"
    return "silent"


class Workers:
    """Threads that play mutations until they have all been played, or stop() is called."""

    def __init__(self, attack, mutations, seed, n=3):
        self.attack, self.left, self.lock = attack, iter(mutations), threading.Lock()
        self.stopped, self.outcomes, self.errors = threading.Event(), {}, []
        self.threads = [threading.Thread(target=self.run, args=(i, random.Random(f"{seed}-{i}")), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def run(self, worker, rng):
        stalled = []
        while not self.stopped.is_set():
            with self.lock:
                mutation = next(self.left, None)
            if mutation is None:
                break
            try:
                how = self.attack.play(mutation, worker, rng, stalled)
            except Exception as e:  # what cannot be: a mutation that is wrong, a portal that is gone
                how = f"{mutation}: {e!r}"
                self.errors.append(how)
                if len(self.errors) > 10:
                    break
                time.sleep(0.5)
                continue
            with self.lock:
                self.outcomes[how] = self.outcomes.get(how, 0) + 1
            while len(stalled) > 12:
                c = stalled.pop(0)
                c.reset() if rng.random() < 0.5 else c.close()
        for c in stalled:
            with contextlib.suppress(OSError):
                c.close()

    def stop(self):
        self.stopped.set()
        for t in self.threads:
            t.join(60 * lio.SLOW)
        assert not any(t.is_alive() for t in self.threads), "a hostile initiator hangs"
        return sum(self.outcomes.values())


# --- connections without a login ----------------------------------------------------------------------------------------

def forever(c, target):
    """A login request that says that more follows; then the next."""
    return c.login_pdu(text({"InitiatorName": hostile_name(0), f"X-{random.random()}": "x" * 300}), SECURITY, transit=False, more=True)


KINDS = {
    "nothing": lambda c, t: b"",
    "a part of a header": lambda c, t: forever(c, t)[: random.randrange(1, 48)],
    "a part of a text": lambda c, t: with_length(forever(c, t), 8192),
    "a text of 16 MiB": lambda c, t: with_length(forever(c, t), 0xFFFFFF),
    "a text without an end": forever,
    "a large text": lambda c, t: c.login_pdu(b"X-a=" + b"x" * 8100, SECURITY, transit=False) * 4,
    "a session that is not asked for": lambda c, t: c.login_pdu(text({"InitiatorName": hostile_name(9), "TargetName": t.iqn,
                                                                     "SessionType": "Normal"}), SECURITY, transit=False),
}


class HalfOpen:
    """Connections from all over 127.0.0.0/8 that send a part of a login, or nothing, and are never closed from here."""

    def __init__(self, target, rng):
        self.target, self.rng, self.poll = target, rng, select.poll()
        self.open, self.opened, self.refused, self.sent = {}, 0, 0, {}

    def more(self, n):
        """Opens `n` more."""
        for _ in range(n):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            s.bind((f"127.{self.rng.randrange(1, 255)}.{self.rng.randrange(255)}.{self.rng.randrange(1, 255)}", 0))
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", 3260))
            c = Connection.of(s)
            c.begun = False
            c.kind = self.rng.choice(list(KINDS))
            self.open[s.fileno()] = c
            self.poll.register(s.fileno(), select.POLLIN | select.POLLOUT)
            self.opened += 1

    def look(self, ms=0):
        """Sends and takes what there is; forgets the connections that were closed."""
        for fd, event in self.poll.poll(ms):
            c = self.open[fd]
            try:
                if event & (select.POLLERR | select.POLLHUP):
                    raise ConnectionResetError
                if event & select.POLLIN:
                    if not c.sock.recv(65536):
                        raise ConnectionResetError
                    if c.kind == "a text without an end":
                        c.sock.send(KINDS[c.kind](c, self.target))
                if event & select.POLLOUT and not c.begun:
                    c.begun = True
                    self.poll.modify(fd, select.POLLIN)
                    c.sock.send(KINDS[c.kind](c, self.target))
            except BlockingIOError:
                pass
            except OSError:
                self.refused += 1
                self.forget(fd)

    def forget(self, fd):
        self.poll.unregister(fd)
        self.open.pop(fd).close()

    def close_old(self, n):
        """Closes the oldest until `n` are left."""
        for fd in list(self.open)[: max(len(self.open) - n, 0)]:
            self.forget(fd)

    def close(self):
        self.close_old(0)
