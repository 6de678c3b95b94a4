"""What tshark reads out of the traffic on lo, PDU by PDU, and whether that is what initiator.py has sent and understood."""
import collections
import contextlib
import os
import re
import subprocess

import lio
from initiator import (ASYNC, DATA_IN, DATA_OUT, LOGIN, LOGIN_RESPONSE, LOGOUT, LOGOUT_RESPONSE, NOP_IN, NOP_OUT, R2T, REJECT,
                       SCSI_COMMAND, SCSI_RESPONSE, TEXT, TEXT_RESPONSE, TMF, TMF_RESPONSE)

ERROR = 0x800000  # a severity of Wireshark's


class Capture:
    """dumpcap on lo, as a context manager; then `file` has what was on the wire."""

    def __init__(self, port=3260, file="/tmp/iscsi.pcapng"):
        self.port, self.file = port, file

    def __enter__(self):
        lio.run("ip", "link", "set", "lo", "up")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.file)
        self.dumpcap = subprocess.Popen(["dumpcap", "-q", "-i", "lo", "-B", "64", "-f", f"tcp port {self.port}", "-w", self.file],
                                        stderr=subprocess.PIPE, text=True)
        said = ""
        for line in self.dumpcap.stderr:  # "Capturing on", then "File:", when it does
            said += line
            if line.startswith("File:"):
                return self
        raise AssertionError(f"dumpcap does not start: {said}")

    def __exit__(self, *exc):
        if self.dumpcap.poll() is None:
            self.stop()

    def stop(self):
        # What is in the kernel's buffer: until nothing more comes out of it.
        before, size = None, -1
        while before != size:
            lio.pause(1)
            before, size = size, os.path.getsize(self.file)
        self.dumpcap.terminate()
        self.said = self.dumpcap.communicate(timeout=30 * lio.SLOW)[1]
        if self.said:
            assert re.search(r"packets dropped from interface '?.*: 0|received/dropped on interface '.*': \d+/0", self.said), self.said


# What tshark reads out of each PDU: (its name, first byte, last byte).
LENGTHS = [("iscsi.totalahslength", 4, 4), ("iscsi.datasegmentlength", 5, 7)]
ITT = [("iscsi.initiatortasktag", 16, 19)]
TTT = [("iscsi.targettransfertag", 20, 23)]
ASKS = LENGTHS + ITT + [("iscsi.cmdsn", 24, 27), ("iscsi.expstatsn", 28, 31)]
TELLS = [("iscsi.statsn", 24, 27), ("iscsi.expcmdsn", 28, 31), ("iscsi.maxcmdsn", 32, 35)]
DATA = [("iscsi.datasn", 36, 39), ("iscsi.bufferOffset", 40, 43)]
FIELDS = {
    NOP_OUT: ASKS + TTT,
    SCSI_COMMAND: ASKS + [("iscsi.scsicommand.expecteddatatransferlength", 20, 23)],
    TMF: ASKS + [("iscsi.taskmanfun.referencedtasktag", 20, 23), ("iscsi.refcmdsn", 32, 35)],
    LOGIN: ASKS + [("iscsi.cid", 20, 21), ("iscsi.tsih", 14, 15), ("iscsi.versionmax", 2, 2)],
    TEXT: ASKS + TTT,
    DATA_OUT: LENGTHS + ITT + TTT + [("iscsi.expstatsn", 28, 31)] + DATA,
    LOGOUT: ASKS + [("iscsi.cid", 20, 21)],
    NOP_IN: LENGTHS + ITT + TTT + TELLS,
    SCSI_RESPONSE: LENGTHS + ITT + TELLS + [("iscsi.scsiresponse.response", 2, 2), ("iscsi.scsiresponse.status", 3, 3),
                                            ("iscsi.expdatasn", 36, 39), ("iscsi.scsiresponse.residualcount", 44, 47)],
    TMF_RESPONSE: ITT + TELLS + [("iscsi.taskmanfun.response", 2, 2)],
    LOGIN_RESPONSE: LENGTHS + ITT + TELLS + [("iscsi.tsih", 14, 15), ("iscsi.login.status", 36, 37), ("iscsi.versionmax", 2, 2),
                                             ("iscsi.versionactive", 3, 3)],
    TEXT_RESPONSE: LENGTHS + ITT + TTT + TELLS,
    DATA_IN: LENGTHS + ITT + TELLS + DATA,
    LOGOUT_RESPONSE: LENGTHS + ITT + TELLS + [("iscsi.logout.response", 2, 2), ("iscsi.time2wait", 40, 41)],
    R2T: LENGTHS + ITT + TTT + TELLS + [("iscsi.r2tsn", 36, 39), ("iscsi.bufferOffset", 40, 43), ("iscsi.desireddatalength", 44, 47)],
    ASYNC: LENGTHS + TELLS + [("iscsi.asyncevent", 36, 36), ("iscsi.parameter1", 38, 39), ("iscsi.parameter2", 40, 41),
                              ("iscsi.parameter3", 42, 43)],
    REJECT: LENGTHS + TELLS + [("iscsi.reject.reason", 2, 2), ("iscsi.datasn", 36, 39)],
}
STATUS = [("iscsi.scsiresponse.status", 3, 3)]  # of a Data-In with S
NAMES = sorted({name for fields in FIELDS.values() for name, _, _ in fields})


def fields_of(bhs):
    """What tshark is to read out of a header."""
    opcode = bhs[0] & 0x3F
    return FIELDS[opcode] + (STATUS if opcode == DATA_IN and bhs[1] & 1 else [])


class Frame:
    """A packet: of which connection, which way, the opcodes of its PDUs, their fields in order, and what tshark complains of."""

    def __init__(self, line, port):
        number, stream, source, to, opcodes, *rest = line.split("\t")
        self.number, self.stream = int(number), int(stream)
        self.way = int(int(source) == port)  # 1: from the target
        self.port = int(to if self.way else source)
        malformed, severities, messages, *values = rest
        self.errors = ["malformed"] * bool(malformed) + [
            m for s, m in zip(severities.split(","), messages.split(";")) if s and int(s, 0) >= ERROR]
        self.opcodes = [int(o, 0) for o in opcodes.split(",") if o]
        self.values = {name: [int(v, 0) for v in have.split(",") if v] for name, have in zip(NAMES, values)}

    def differs(self, headers):
        """Takes as many of these headers (a list that is read from its front) as there are PDUs in the frame; gives what tshark reads
        otherwise."""
        opcodes = iter(self.opcodes)
        for opcode in opcodes:
            if not headers:
                return
            bhs = headers.pop(0)
            if opcode != bhs[0] & 0x3F:
                yield f"{bhs.hex()}: opcode {opcode:#x}"
                return
            todo = [bhs]
            if opcode == REJECT:  # tshark reads the rejected header in it, too
                todo.append(None)
                inner = next(opcodes, None)
            for header in todo:
                wanted = fields_of(header) if header else [(n, None, None) for n, _, _ in FIELDS.get(inner, [])]
                for name, a, b in wanted:
                    got = self.values[name].pop(0) if self.values[name] else None
                    if a is not None and got != int.from_bytes(header[a : b + 1], "big"):
                        yield f"{header.hex()}: {name} is {got}"
        if left := [name for name, values in self.values.items() if values]:
            yield f"tshark reads more than there is: {left}"


def dissect(file, port=3260):
    """All frames with PDUs in them, or complaints."""
    columns = ["frame.number", "tcp.stream", "tcp.srcport", "tcp.dstport", "iscsi.opcode", "_ws.malformed", "_ws.expert.severity",
               "_ws.expert.message", *NAMES]
    command = ["tshark", "-n", "-r", file, "-Y", "iscsi || _ws.malformed", "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,",
               "-o", f"iscsi.target_ports:{port}"]
    for name in columns:
        command += ["-e", name]
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300 * lio.SLOW)
    assert p.returncode == 0, p.stderr
    return [Frame(line, port) for line in p.stdout.splitlines()]


def is_strange(bhs):
    """What tshark takes for something else: text with neither F nor C, which 6.4 knows, and functions that 11.5.1 does not."""
    opcode = bhs[0] & 0x3F
    return opcode in (TEXT, TEXT_RESPONSE) and not bhs[1] & 0xC0 or opcode == TMF and bhs[1] & 0x7F > 8


def compare(frames, connections):
    """Complaints: where tshark reads something else than initiator.py has, or finds an error in a frame. `connections` are the
    judge's streams, in their order; what a spoiled one sent is meant to be wrong: there only the target's side counts."""
    said, seen, of_port = [], {}, collections.defaultdict(list)
    for frame in frames:
        seen.setdefault(frame.stream, []).append(frame)
    for _, of in sorted(seen.items()):
        of_port[of[0].port].append(of)  # a port may be used again
    for c in connections:
        if not c.sent or c.spoiled and not c.received:
            continue
        if not of_port[c.port]:
            said.append(f"port {c.port}: tshark sees nothing of it")
            continue
        ways = [[h for h in of if not is_strange(h)] for of in (c.sent, c.received)]
        pieces = [False, False]
        for frame in of_port[c.port].pop(0):
            way = frame.way
            if way == 0 and c.spoiled:
                continue
            where = f"port {c.port}, {'from' if way else 'to'} the target, frame {frame.number}: "
            # tshark reads the pairs of each PDU for itself, where RFC 7143, 6.2 lets them go over several.
            text = ways[way] and frame.opcodes[:1] in ([LOGIN], [LOGIN_RESPONSE], [TEXT], [TEXT_RESPONSE])
            more = bool(text and ways[way][0][1] & 0x40)
            if not (more or text and pieces[way]):
                said += [where + e for e in frame.errors]
            pieces[way] = more
            said += [where + what for what in frame.differs(ways[way])]
        if any(ways) and not c.spoiled or ways[1]:
            said.append(f"port {c.port}: tshark does not see {len(ways[0])} PDUs to the target, {len(ways[1])} from it")
    return said
