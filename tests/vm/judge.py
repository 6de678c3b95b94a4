"""Listens to all that initiator.py says and hears, and tells where the target broke a rule of RFC 7143 that holds for every PDU.

    with Judge() as judge: ...; assert not judge.complaints()

The clauses are those beside each check."""
import re

from initiator import (ABORT_TASK, ABORT_TASK_SET, ASYNC, CLEAR_TASK_SET, COLD_RESET, DATA_IN, DATA_OUT, LOGIN, LOGIN_RESPONSE, LOGOUT,
                       LOGOUT_RESPONSE, LUN_RESET, NONE, NOP_IN, NOP_OUT, R2T, READ, REJECT, SCSI_COMMAND, SCSI_RESPONSE, TEXT,
                       TEXT_RESPONSE, TMF, TMF_RESPONSE, WARM_RESET, WRITE, Connection)

ANSWERS = {NOP_IN: NOP_OUT, SCSI_RESPONSE: SCSI_COMMAND, TMF_RESPONSE: TMF, LOGIN_RESPONSE: LOGIN, TEXT_RESPONSE: TEXT,
           DATA_IN: SCSI_COMMAND, LOGOUT_RESPONSE: LOGOUT, R2T: SCSI_COMMAND}
# Bits that are reserved, as (byte, mask); a range of bytes as (first, last).
RESERVED = {
    NOP_IN: [(1, 0x7F), (2, 4), (36, 47)],
    SCSI_RESPONSE: [(1, 0x61), (8, 15)],
    TMF_RESPONSE: [(1, 0x7F), (3, 15), (20, 23), (36, 47)],
    LOGIN_RESPONSE: [(1, 0x30), (20, 23), (38, 47)],
    TEXT_RESPONSE: [(1, 0x3F), (2, 4), (36, 47)],
    DATA_IN: [(1, 0x38), (2, 2)],
    LOGOUT_RESPONSE: [(1, 0x7F), (3, 15), (20, 23), (36, 39), (44, 47)],
    R2T: [(1, 0x7F), (2, 7)],
    ASYNC: [(1, 0x7F), (2, 4), (20, 23), (37, 37), (44, 47)],
    REJECT: [(1, 0x7F), (3, 4), (8, 15), (20, 23), (40, 47)],
}


def word(b, at, n=4):
    return int.from_bytes(b[at : at + n], "big")


def less(a, b):
    """RFC 1982, of 32 bits."""
    return a != b and (b - a) & NONE < 1 << 31


def split(data):
    """The PDUs in what was sent: a list of (header, data), and what is left."""
    pdus = []
    while len(data) >= 48:
        begin, n = 48 + data[4] * 4, word(data, 5, 3)
        if len(data) < begin + n + -n % 4:
            break
        pdus.append((data[:48], data[begin : begin + n]))
        data = data[begin + n + -n % 4 :]
    return pdus, data


class Task:
    """A request that is not answered yet."""

    def __init__(self, bhs, data):
        self.opcode, self.bhs, self.itt = bhs[0] & 0x3F, bhs, word(bhs, 16)
        self.immediate = bool(bhs[0] & 0x40)
        self.cmd_sn, self.lun, self.flags = word(bhs, 24), bhs[8:16], bhs[1]
        self.data = data
        self.length = word(bhs, 20)
        self.data_in = self.r2ts = self.burst = self.read = 0
        self.asked = self.covered = None  # what was asked for by R2T: up to where
        self.open = 0                     # R2Ts that are not fulfilled


class Stream:
    """A connection."""

    def __init__(self, connection):
        self.connection, self.port = connection, connection.sock.getsockname()[1]
        self.sent, self.received, self.said = [], [], []
        self.tasks, self.headers = {}, []
        self.stat_sn = self.exp_cmd_sn = self.max_cmd_sn = None
        self.next_cmd_sn = self.cid = None
        self.full = self.tagged = self.out = False
        self.segment, self.burst, self.outstanding, self.text = 8192, 262144, 1, ""
        self.discovery = False
        self.pending = b""
        self.gone = {}  # tags that a function has ended, until they are used again

    @property
    def spoiled(self):
        """Whether what the initiator sends is meant to be wrong."""
        return getattr(self.connection, "spoiled", False)

    # --- what the initiator does

    def sends(self, data):
        pdus, self.pending = split(self.pending + data)
        for bhs, segment in pdus:
            self.sent.append(bhs)
            opcode, itt = bhs[0] & 0x3F, word(bhs, 16)
            if opcode == DATA_OUT:
                task = self.tasks.get(itt)
                if task and bhs[1] & 0x80 and word(bhs, 20) != NONE:
                    task.open -= 1
                continue
            if opcode in (LOGIN, TEXT):
                self.declares(segment, bhs)
            if itt != NONE:
                if opcode not in (LOGIN, TEXT) or itt not in self.tasks:
                    self.tasks[itt] = Task(bhs, segment)
                else:
                    self.tasks[itt].bhs, self.tasks[itt].flags = bhs, bhs[1]
                self.gone.pop(itt, None)
            if not bhs[0] & 0x40 or opcode == LOGIN:
                n = word(bhs, 24)
                # What is outside of the window does not count.
                if opcode == LOGIN:
                    self.next_cmd_sn, self.cid = n, word(bhs, 20, 2)
                elif self.exp_cmd_sn is not None and not (less(n, self.exp_cmd_sn) or less(self.max_cmd_sn, n) or less(n, self.next_cmd_sn)):
                    self.next_cmd_sn = (n + 1) & NONE

    def declares(self, segment, bhs):
        self.text += segment.decode(errors="replace")
        if bhs[1] & 0x40:
            return
        text, self.text = self.text, ""
        if m := re.search(r"(?:^|\0)MaxRecvDataSegmentLength=(\d+)", text):
            self.declared = int(m[1])
            if (bhs[0] & 0x3F) == LOGIN:
                self.segment = self.declared
        self.discovery |= "SessionType=Discovery" in text

    # --- what the target does

    def wrong(self, what, a):
        self.said.append(f"port {self.port}: {what}: {a}")

    def hears(self, a):
        if a is None:
            return
        self.received.append(a.bhs)
        say = lambda what: self.wrong(what, a)  # noqa: E731
        if a.opcode not in ANSWERS and a.opcode not in (ASYNC, REJECT):
            return say("11.2.1.2: not an opcode of a target")
        if self.out:
            say("11.14: after the logout's response")
        if a.bhs[0] & 0xC0:
            say("11.2.1.1: reserved bits of the opcode")
        if not a.flags & 0x80 and a.opcode not in (LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN):
            say("11: bit F is always 1 here")
        if a.bhs[4]:
            say("11.2.1.5: TotalAHSLength")
        for first, last in RESERVED[a.opcode]:
            bad = a.bhs[first] & last if first == 1 else any(a.bhs[first : last + 1])
            if bad:
                say(f"11: reserved bits in byte {first}")
        if len(a.data) > self.segment:
            say(f"11.7.1, 11.11.6, 13.12: {len(a.data)} bytes, the initiator takes {self.segment}")
        self.numbers(a, say)
        task = self.tasks.get(a.itt)
        if a.opcode in ANSWERS and not (a.opcode == NOP_IN and a.itt == NONE):
            if a.itt in self.gone and task is None:
                return say(f"11.5.1: a task that {self.gone[a.itt]} has ended")
            if task is None or task.opcode != ANSWERS[a.opcode]:
                return say("4.2.5.1, 11.2.1.8: an answer to no request of this connection")
        {NOP_IN: self.nop_in, DATA_IN: self.data_in, R2T: self.r2t, SCSI_RESPONSE: self.scsi, TMF_RESPONSE: self.tmf,
         LOGIN_RESPONSE: self.login, TEXT_RESPONSE: self.texts, LOGOUT_RESPONSE: self.logout, REJECT: self.reject,
         ASYNC: self.asynchronous}[a.opcode](a, task, say)

    def asynchronous(self, a, _task, say):
        if a.itt != NONE or a.bhs[36] > 4:
            say("11.9: an event that the standard has not, or one of FastAbort")
        if a.bhs[36] in (0, 1, 4) and any(a.bhs[38:42]) or a.bhs[36] == 0 and any(a.bhs[42:44]):
            say("11.9.1: a parameter that the event has not")
        if a.bhs[36] in (1, 4) and not any(a.bhs[42:44]):
            say("11.9.1: the initiator has no time")
        if a.bhs[36] != 0 and (any(a.bhs[8:16]) or a.data):
            say("11.9.2, 11.9.4: a logical unit or data, and no SCSI event")
        if a.bhs[36] == 0 and (len(a.data) < 20 or len(a.sense) != len(a.data) - 2):
            say("11.9.4: sense data of a SCSI event")
        if a.bhs[36] == 3 and any(a.bhs[38:40]):
            say("11.9.1: the end of a session names no connection")

    def numbers(self, a, say):
        carries = a.opcode not in (R2T, DATA_IN) and not (a.opcode == NOP_IN and a.itt == NONE) or (
            a.opcode == DATA_IN and a.flags & 1)
        if carries or a.opcode != DATA_IN:
            if self.stat_sn is not None and a.stat_sn != self.stat_sn:
                say(f"4.2.2.2: StatSN {a.stat_sn:#x}, {self.stat_sn:#x} is next")
            if carries:
                self.stat_sn = (a.stat_sn + 1) & NONE
        if less(a.max_cmd_sn, (a.exp_cmd_sn - 1) & NONE):
            say("4.2.2.1: MaxCmdSN below ExpCmdSN - 1")
        if self.exp_cmd_sn is not None:
            if less(a.exp_cmd_sn, self.exp_cmd_sn):
                say("4.2.2.1: ExpCmdSN goes back")
            if less(a.max_cmd_sn, self.max_cmd_sn):
                say("4.2.2.1: MaxCmdSN goes back")
        if self.next_cmd_sn is not None and less(self.next_cmd_sn, a.exp_cmd_sn):
            say(f"4.2.2.1: ExpCmdSN, where {self.next_cmd_sn:#x} was not sent yet")
        self.exp_cmd_sn, self.max_cmd_sn = a.exp_cmd_sn, a.max_cmd_sn

    def acknowledged(self, a, task, say):
        if not task.immediate and not less(task.cmd_sn, a.exp_cmd_sn):
            say("4.2.2.1: a status before the command is acknowledged")

    def nop_in(self, a, task, say):
        if a.itt == NONE:
            if a.data:
                say("11.19: data in a NOP-In that answers nothing")
            return
        if a.ttt != NONE:
            say("11.19: a transfer tag in the answer to a ping")
        if a.data != task.data[: self.segment]:
            say("11.19: not the ping's data")
        del self.tasks[a.itt]

    def data_in(self, a, task, say):
        if a.flags & 0x40:
            say("11.7.2: bit A at error recovery level 0")
        if not a.flags & 0x40 and (a.ttt != NONE or any(a.bhs[8:16])):
            say("11.7.4: LUN or transfer tag without bit A")
        if a.data_sn != task.data_in:
            say(f"4.2.2.4: DataSN {a.data_sn}, not {task.data_in}")
        if not task.flags & READ:
            say("4.2.5.2: data for a command that does not read")
        if a.offset != task.read:
            say(f"13.18, 13.19: offset {a.offset}, not {task.read}")
        task.data_in += 1
        task.read = a.offset + len(a.data)
        task.burst += len(a.data)
        if task.burst > self.burst:
            say(f"11.7.1, 13.13: {task.burst} bytes in a sequence")
        if task.read > task.length:
            say("11.3.4: more than was expected")
        if a.flags & 0x80:
            task.burst = 0
        if a.flags & 1:
            if not a.flags & 0x80:
                say("11.7.3: S without F")
            if a.status not in (0, 4, 0x10, 0x14):
                say("11.7.3: an error's status in a Data-In")
            self.acknowledged(a, task, say)
            self.residual(a, task, say)
            del self.tasks[a.itt]
        elif a.flags & 6:
            say("11.7.3: U or O without S")

    def residual(self, a, task, say):
        if a.flags & 6 == 6:
            say("11.4.1: U and O")
        n = word(a.bhs, 44)
        if not a.flags & 6 and n:
            say("11.4.5.1: a residual without U or O")
        if a.flags & 2 and (n > task.length or n == 0):
            say("11.4.5.2: underflow")
        if task.flags & READ and not task.flags & WRITE and a.status == 0 and task.read + (n if a.flags & 2 else 0) != task.length:
            say(f"11.4.5.2: {task.read} bytes were sent, {task.length} expected, residual {n}")

    def r2t(self, a, task, say):
        if a.data:
            say("11.8.1: data")
        if a.ttt == NONE:
            say("11.8.5: the reserved transfer tag")
        if a.bhs[8:16] != task.lun:
            say("4.2.5.3: not the command's LUN")
        if a.data_sn != task.r2ts:
            say(f"4.2.2.4: R2TSN {a.data_sn}, not {task.r2ts}")
        if not 0 < a.wanted <= self.burst:
            say("11.8.4: Desired Data Transfer Length")
        if task.asked is not None and a.offset != task.asked:
            say("11.8, 13.19: an R2T that does not follow the last one")
        if a.offset + a.wanted > task.length:
            say("11.3.4: more than was expected")
        task.r2ts += 1
        task.asked = a.offset + a.wanted
        task.open += 1
        if task.open > self.outstanding:
            say("13.17: more R2Ts than MaxOutstandingR2T")

    def scsi(self, a, task, say):
        if a.response:
            if a.flags & 0x1E:
                say("11.4.1: flags without a status")
            if word(a.bhs, 36):
                say("11.4.8: ExpDataSN without a status")
        else:
            if word(a.bhs, 36) != task.data_in:
                say(f"11.4.8: ExpDataSN, {task.data_in} Data-Ins were sent")
            if a.status == 2 and not a.sense:
                say("11.4.7: CHECK CONDITION without sense")
            if task.open > 0:
                say("11.4.2: a status while data is expected")
            self.residual(a, task, say)
        self.acknowledged(a, task, say)
        del self.tasks[a.itt]

    def tmf(self, a, task, say):
        if a.data:
            say("11.6.2: data")
        function = task.flags & 0x7F
        if a.response == 0:
            for t in list(self.tasks.values()):
                before = t.immediate or less(t.cmd_sn, task.cmd_sn)
                if t.opcode == SCSI_COMMAND and before and (
                        function == ABORT_TASK and t.itt == task.length
                        or function in (ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET) and t.lun == task.lun
                        or function in (WARM_RESET, COLD_RESET)):
                    self.gone[t.itt] = f"function {function}"
                    del self.tasks[t.itt]
        del self.tasks[a.itt]

    def login(self, a, task, say):
        asked = task.bhs[1]
        if a.bhs[2] or a.bhs[3]:
            say("11.13.1, 11.13.2: a version that is not 0")
        if a.bhs[8:14] != task.bhs[8:14]:
            say("11.13: another ISID")
        final = a.login_status == 0 and a.flags & 0x83 == 0x83
        if word(a.bhs, 14, 2) != word(task.bhs, 14, 2) and not final:
            say("11.13.3: a TSIH before the end of the login")
        if a.login_status:
            if a.flags & 0xC0:
                say("11.13.6: T or C in a refusal")
            if a.bhs[36] == 1 and b"TargetAddress=" not in a.data:
                say("11.13.5: a redirection without TargetAddress")
            return
        if final and word(a.bhs, 14, 2) == 0:
            say("11.13.3: TSIH 0")
        if a.flags & 0x80 and not asked & 0x80:
            say("11.13.6: T where the request has none")
        if a.flags & 0xC0 == 0xC0:
            say("11.13.7: T and C")
        if a.flags & 0x0C != asked & 0x0C:
            say("11.13.7: another stage than the request's")
        if a.flags & 0x80 and a.flags & 3 > asked & 3:
            say("6.3: NSG beyond what was asked for")
        if asked & 0x40 and a.data:
            say("6.2: text in the answer to C")
        if not asked & 0x40 and not self.tagged:
            self.tagged = True
            if b"TargetPortalGroupTag=" not in a.data:
                say("6.3.1: no TargetPortalGroupTag in the first response")
        if m := re.search(rb"(?:^|\0)MaxBurstLength=(\d+)", a.data):
            self.burst = int(m[1])
        if m := re.search(rb"(?:^|\0)MaxOutstandingR2T=(\d+)", a.data):
            self.outstanding = int(m[1])
        if a.data and not a.flags & 0x40 and not a.data.endswith(b"\0"):
            say("6.1: text without its NUL")
        if final:
            self.full = True
            del self.tasks[a.itt]

    def texts(self, a, task, say):
        if a.flags & 0xC0 == 0xC0:
            say("11.11.2: F and C")
        if bool(a.flags & 0x80) != (a.ttt == NONE):
            say("11.11.1: F, or the transfer tag, is wrong")
        if a.flags & 0x80 and not task.flags & 0x80:
            say("6.4: F where the request has none")
        if task.flags & 0x40 and a.data:
            say("6.2: text in the answer to C")
        if a.flags & 0x80:
            self.segment = getattr(self, "declared", self.segment)
            del self.tasks[a.itt]

    def logout(self, a, task, say):
        if a.data:
            say("11.15.2: data")
        # Of the session, or of this connection; the others' logouts end nothing here.
        ends = not task.flags & 0x7F or word(task.bhs, 20, 2) == self.cid
        self.out |= ends and a.response == 0
        del self.tasks[a.itt]

    def reject(self, a, task, say):
        if a.itt != NONE:
            say("11.17: an initiator task tag")
        if a.reason in (0, 1, 0x0B) or a.reason > 0x0C:
            say("11.17.1: a reason that must not be used")
        if a.data[:48] not in self.sent:
            say("11.17.3: not the header of a PDU that was sent")


class Judge:
    """Listens to all connections from now on."""

    def __init__(self):
        self.streams = []

    def __enter__(self):
        judge = self

        def watch(connection, what):
            stream = connection.__dict__.get("stream")
            if stream is None:
                stream = connection.stream = Stream(connection)
                judge.streams.append(stream)
            (stream.sends if isinstance(what, bytes) else stream.hears)(what)

        self.before, Connection.watch = Connection.watch, watch
        return self

    def __exit__(self, *exc):
        Connection.watch = self.before

    def complaints(self):
        said = [line for s in self.streams for line in s.said]
        for s in self.streams:
            s.said = []
        return said
