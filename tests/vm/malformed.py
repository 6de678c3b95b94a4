"""Malformed iSCSI, as a table. Each case is sent by its own connection; what comes back must be one of what RFC 7143
allows, and after each case an honest initiator must be served (test_malformed.py).

A case's outcomes:
  closed      the connection is closed, without an answer
  reject NN   a Reject with that reason (11.17.1); the connection may go on or be closed (7.6, 7.8: error recovery
              level 0 knows no other way back)
  login CCDD  a login response with that status class and detail (11.13.5)
  status NN   a SCSI response with that status; "status 02 K/AABB" with sense key, ASC and ASCQ
  tmf NN      a task management response; logout NN: a logout response; text, nop: a text response, a NOP-In
  ignored     nothing, and the connection serves what comes next
In `expect` an outcome may end in *, for any. What the stock modules do is in tests/iscsi/malformed-stock.txt."""
import dataclasses
import struct
from typing import Callable

from initiator import (ABORT_TASK, DATA_OUT, FINAL, LOGIN, LOGOUT, NONE, NOP_OUT, OPERATIONAL, R2T, READ, SCSI_COMMAND,
                       SECURITY, FULL_FEATURE, SNACK, TEXT, TMF, WRITE, Connection, pdu, text)

TUR = bytes(6)
READ_1 = bytes.fromhex("28000000000000000100")
WRITE_8 = bytes.fromhex("2a000000000000000800")
WRITE_128 = bytes.fromhex("2a000000000000008000")
FORMAT = ("reject 09", "reject 04", "closed")     # 7.6: a header that contradicts itself
PROTOCOL = ("reject 04", "reject 09", "closed")   # 7.8: a PDU that does not fit the state
# 11.4.7.2: data that do not come as agreed end the command, or are rejected, or end the connection.
DATA = (*PROTOCOL, "status 02 B/*")
INITIATOR_ERROR = ("login 0200", "closed")
KINDS = {"nop-out": NOP_OUT, "scsi-command": SCSI_COMMAND, "tmf": TMF, "login": LOGIN, "text": TEXT,
         "data-out": DATA_OUT, "logout": LOGOUT, "snack": SNACK}


@dataclasses.dataclass
class Case:
    name: str
    phase: str                          # start, login, full, discovery
    send: Callable[[Connection], object]  # what it gives, if bytes, is sent
    expect: tuple
    clause: str
    keys: dict = dataclasses.field(default_factory=dict)  # what the session negotiates


CASES = []


def case(name, phase, send, expect, clause, keys=None):
    CASES.append(Case(name, phase, send, (expect,) if isinstance(expect, str) else expect, clause, keys or {}))


def good(c, kind, **kw):
    """A request that fits, but for what `kw` changes."""
    sn = c.numbers()
    imm = kw.pop("immediate", kind in (LOGIN, TMF, NOP_OUT))
    itt = kw.pop("itt", 0x77)
    words = {NOP_OUT: (NONE, *sn), SCSI_COMMAND: (0, *sn, TUR), TMF: (0x1234, *sn, sn[0]), TEXT: (NONE, *sn),
             DATA_OUT: (NONE, 0, sn[1]), LOGOUT: (0, *sn), SNACK: (NONE, 0, sn[1], 0, 0, 0, 0),
             LOGIN: (1 << 16, *sn)}[kind]
    flags = kw.pop("flags", {TMF: FINAL | ABORT_TASK, LOGIN: 0x87}.get(kind, FINAL))
    return pdu(kind, flags, kw.pop("data", b""), immediate=imm and kind != DATA_OUT, itt=itt, w=kw.pop("w", words), **kw)


def half(data, n):
    """Sends the first n bytes and ends the sending side."""
    def send(c):
        import socket
        c.send(data(c)[:n])
        c.sock.shutdown(socket.SHUT_WR)
    return send


# --- lengths, for every PDU type, before, during and after the login ------------------------------------------------
for phase in ("start", "login", "full"):
    for name, kind in KINDS.items():
        first = phase != "full"
        for n, what in ((1, "a byte"), (20, "20 bytes"), (47, "47 bytes")):
            if n == 20 or kind in (LOGIN, SCSI_COMMAND):
                case(f"{phase}: {name} cut after {what}", phase, half(lambda c, k=kind: good(c, k), n), "closed", "7.6")
        case(f"{phase}: {name} cut in its data", phase,
             half(lambda c, k=kind: good(c, k, data=b"x" * 100), 80), ("closed", "login *", "reject *"), "7.6")
        case(f"{phase}: {name} announces 16 MiB", phase,
             lambda c, k=kind: good(c, k, data_len=0xFFFFFF) + bytes(4096),
             ("closed", "login *") if first else ("closed", "reject *"), "13.12")
        case(f"{phase}: {name} with 1020 bytes of header segments that never come", phase,
             half(lambda c, k=kind: good(c, k, ahs_words=255), 48), ("closed", "login *", "reject *"), "11.2.2")
        if kind != SCSI_COMMAND and phase == "full":
            case(f"{phase}: {name} with a header segment", phase,
                 lambda c, k=kind: good(c, k, ahs=bytes.fromhex("0005020000000000")), ("closed", "reject *"), "11.2.2")
    if phase != "full":
        for name, kind in KINDS.items():
            if kind != LOGIN:
                case(f"{phase}: {name} where a login request must be", phase, lambda c, k=kind: good(c, k),
                     ("closed", "login 020b", "login 0200") + (("reject 04",) if phase == "login" else ()),
                     "6.3.1, 11.13.5")
        for op in (0x07, 0x1C, 0x21, 0x3F):
            case(f"{phase}: opcode {op:#04x}", phase, lambda c, o=op: pdu(o, itt=1), ("closed", "login 020b", "login 0200"),
                 "6.3.1")
        case(f"{phase}: 64 KiB of zeros", phase, lambda c: bytes(65536), ("closed", "login *", "reject *"), "6.3.1")
        case(f"{phase}: 64 KiB of ones", phase, lambda c: b"\xff" * 65536, ("closed", "login *", "reject *"), "6.3.1")
        case(f"{phase}: an HTTP request", phase, lambda c: b"GET / HTTP/1.1\r\nHost: " + b"x" * 100 + b"\r\n\r\n",
             ("closed", "login *", "reject *"), "6.3.1")

# --- login requests ----------------------------------------------------------------------------------------------
WHO = {"InitiatorName": "iqn.2024-01.org.example:bad", "SessionType": "Normal"}


def login(pairs=None, raw=None, csg=SECURITY, nsg=OPERATIONAL, target=True, **kw):
    def send(c):
        p = dict(WHO, AuthMethod="None") if pairs is None else dict(pairs)
        if target:
            p.setdefault("TargetName", c.target)
        return c.login_pdu(text(p) + (raw or b""), csg, nsg, **kw)
    return send


case("login: speaks version 1 and above only", "start", login(version_min=1, version_max=2), "login 0205", "11.12.4")
case("login: current stage 2", "start", login(csg=2), INITIATOR_ERROR, "11.12.3")
case("login: current stage is full feature phase", "start", login(csg=3, nsg=3), INITIATOR_ERROR, "11.12.3")
case("login: next stage 2", "start", login(nsg=2), INITIATOR_ERROR, "11.12.3")
case("login: next stage is the current one", "start", login(nsg=SECURITY), INITIATOR_ERROR, "11.12.3")
case("login: goes back a stage", "start", login(csg=OPERATIONAL, nsg=SECURITY), INITIATOR_ERROR, "11.12.3")
case("login: T and C", "start", login(more=True), INITIATOR_ERROR, "11.12.2")
case("login: not immediate", "start", login(immediate=False), (*INITIATOR_ERROR, "login 0000"), "11.12")
case("login: no text at all", "start", lambda c: c.login_pdu(b"", SECURITY, OPERATIONAL), ("login 0207", "login 0200"), "6.3")
case("login: no InitiatorName", "start", login({"SessionType": "Normal"}), ("login 0207", "login 0200"), "6.3")
case("login: no TargetName", "start", login(WHO, target=False), ("login 0207", "login 0200"), "6.3")
case("login: unknown target", "start", login(WHO | {"TargetName": "iqn.2003-01.org.example:nowhere"}), "login 0203",
     "11.13.5")
case("login: TargetName of 1000 bytes", "start", login(WHO | {"TargetName": "iqn." + "x" * 996}),
     ("login 0203", "login 0200", "login 0207"), "4.2.7")
case("login: InitiatorName of 250 bytes", "start", login(WHO | {"InitiatorName": "iqn.2024-01.org:" + "x" * 234}),
     (*INITIATOR_ERROR, "login 0202"), "4.2.7")
case("login: InitiatorName is empty", "start", login(WHO | {"InitiatorName": ""}),
     (*INITIATOR_ERROR, "login 0207", "login 0202"), "4.2.7")
for n in ("../../../etc", "iqn.2024-01.org/x", "iqn.2024-01.org\nx", "iqn.2024-01.org\x7fx"):
    case(f"login: InitiatorName {n!r}", "start", login(WHO | {"InitiatorName": n}), (*INITIATOR_ERROR, "login 0202"), "4.2.7")
case("login: unknown TSIH", "start", login(tsih=0x7777), ("login 020a", "login 0206", "login 0208"), "11.13.5")
case("login: SessionType=Banana", "start", login(WHO | {"SessionType": "Banana"}), ("login 0209", *INITIATOR_ERROR), "13.21")
case("login: only CHAP", "start", login(WHO | {"AuthMethod": "CHAP"}), ("login 0201", "login 0200"), "11.13.5")
case("login: an unknown AuthMethod", "start", login(WHO | {"AuthMethod": "X-none"}), ("login 0201", "login 0200"), "12.1")
case("login: text without =", "start", login(raw=b"banana\0"), INITIATOR_ERROR, "6.1")
case("login: text that begins with =", "start", login(raw=b"=banana\0"), INITIATOR_ERROR, "6.1")
case("login: text without an end", "start", login(raw=b"X-a=b"), (*INITIATOR_ERROR, "login 0000"), "6.1")
case("login: 8 KiB of the letter x", "start", lambda c: c.login_pdu(b"x" * 8192, SECURITY, OPERATIONAL),
     ("login 02*", "closed"), "6.1")
case("login: 8 KiB of NUL", "start", lambda c: c.login_pdu(bytes(8192), SECURITY, OPERATIONAL), ("login 02*", "closed"), "6.1")
case("login: a key of 64 bytes", "start", login(raw=b"X-" + b"k" * 62 + b"=1\0"), (*INITIATOR_ERROR, "login 0000"), "6.1")
case("login: a key of 1000 bytes", "start", login(raw=b"X-" + b"k" * 998 + b"=1\0"), INITIATOR_ERROR, "6.1")
case("login: a value of 7 KiB", "start", login(raw=b"X-k=" + b"v" * 7000 + b"\0"), (*INITIATOR_ERROR, "login 0000"), "6.1")
case("login: 400 unknown keys", "start", login(raw=b"".join(b"X-%d=1\0" % i for i in range(400))),
     (*INITIATOR_ERROR, "login 0000", "login 0302"), "6.1")
case("login: bytes that are not UTF-8", "start", login(raw=b"InitiatorAlias=\xff\xfe\x80\0"),
     (*INITIATOR_ERROR, "login 0000"), "6.1")
case("login: a format string", "start", login(WHO | {"InitiatorAlias": "%s%s%n%p"}), "login 0000", "6.1")
case("login: InitiatorName twice", "start", login(raw=b"InitiatorName=iqn.2024-01.org.example:other\0"), INITIATOR_ERROR,
     "6.2")
case("login: a target's key", "start", login(raw=b"TargetPortalGroupTag=1\0"), (*INITIATOR_ERROR, "login 0000"), "13.9")
case("login: a key of the other stage", "start", login(raw=b"MaxBurstLength=65536\0"), (*INITIATOR_ERROR, "login 0000"), "6.3.3")
case("login: straight to full feature phase, with nothing", "start", login(nsg=FULL_FEATURE), ("login 0000", *INITIATOR_ERROR),
     "6.3")
case("login: data length says more than there is", "start",
     half(lambda c: login(data_len=4000)(c), 200), ("closed", "login *"), "7.6")
case("login: a header segment", "start", login(ahs=bytes.fromhex("0005020000000000")), ("login 02*", "closed"), "11.2.2")


def again(**kw):
    """The second login request, in the operational stage, but for what `kw` changes."""
    return lambda c: c.login_pdu(kw.pop("body", b"MaxBurstLength=65536\0"), **kw)


case("login, second request: another tag", "login", again(itt=99), (*INITIATOR_ERROR, "login 020b"), "11.12.5")
case("login, second request: another ISID", "login", again(isid=b"\x80\0\0\0\0\2"), (*INITIATOR_ERROR, "login 020b"), "11.12.6")
case("login, second request: another CID", "login", again(cid=7), (*INITIATOR_ERROR, "login 020b"), "11.12.8")
case("login, second request: another TSIH", "login", again(tsih=5), (*INITIATOR_ERROR, "login 020b", "login 020a"), "11.12.7")
case("login, second request: back in the security stage", "login", again(csg=SECURITY), (*INITIATOR_ERROR, "login 020b"),
     "11.12.3")
BAD_VALUES = [("MaxRecvDataSegmentLength", v) for v in ("0", "511", "16777216", "-1", "banana", "99999999999999999999", "0x")] + [
    ("MaxBurstLength", "0"), ("MaxBurstLength", "512~1024"), ("FirstBurstLength", "zz"), ("InitialR2T", "Perhaps"),
    ("ImmediateData", ""), ("MaxOutstandingR2T", "0"), ("MaxOutstandingR2T", "65536"), ("MaxConnections", "0"),
    ("ErrorRecoveryLevel", "3"), ("DefaultTime2Wait", "3601"), ("HeaderDigest", "Banana"), ("HeaderDigest", ""),
    ("DataPDUInOrder", "yes"), ("OFMarker", "Banana")]
for k, v in BAD_VALUES:
    # 6.2: the value is answered with Reject, or the login fails.
    case(f"login: {k}={v}", "login", lambda c, k=k, v=v: c.login_pdu(text({k: v})), ("login 0200", "login 0000 Reject", "closed") + (("login 0000",) if "Marker" in k else ()),
         "6.2")
case("login: a text that never ends", "login",
     lambda c: b"".join(c.login_pdu(b"X-%d=%s" % (i, b"x" * 500), transit=False, more=True) for i in range(100)),
     ("login 0000 then closed", "login 0000 then login 02*", "login 0000 then login 03*", "login 02*", "closed"), "6.1")
case("login: one that never ends", "login",
     lambda c: b"".join(c.login_pdu(b"X-%d=1\0" % i, transit=False) for i in range(1000)),
     ("login 0000 then closed", "login 0000 then login 02*", "login 0000 then login 03*", "login 02*", "closed"), "6.3")


def in_turn(*steps):
    """The second login request and those after it, of each of which but the last the answer is waited for."""
    def send(c):
        for step in steps[:-1]:
            c.send(step(c))
            assert c.receive().login_status == 0
        return steps[-1](c)
    return send


OPERATIONAL_KEYS = {
    "HeaderDigest": "None", "DataDigest": "None", "MaxConnections": 1, "InitialR2T": "Yes", "ImmediateData": "Yes",
    "MaxBurstLength": 65536, "FirstBurstLength": 65536, "DefaultTime2Wait": 2, "DefaultTime2Retain": 0, "MaxOutstandingR2T": 1,
    "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "ErrorRecoveryLevel": 0, "TaskReporting": "RFC3720",
    "iSCSIProtocolLevel": 1, "MaxRecvDataSegmentLength": 8192}
for k, v in OPERATIONAL_KEYS.items():
    case(f"login: {k} twice", "login", lambda c, k=k, v=v: c.login_pdu(text({k: v}) * 2), INITIATOR_ERROR, "6.3")
    for r in ("Reject", "Irrelevant", "NotUnderstood"):
        case(f"login: {k}={r}", "login", lambda c, k=k, r=r: c.login_pdu(text({k: r})), INITIATOR_ERROR, "6.2")
    case(f"login: {k}=", "login", lambda c, k=k: c.login_pdu(text({k: ""})), ("login 0000 Reject", *INITIATOR_ERROR), "6.2.2")
    if k != "MaxRecvDataSegmentLength":
        case(f"full: {k}", "full", lambda c, k=k, v=v: good(c, TEXT, data=text({k: v})), PROTOCOL, "13")
for k in ("SendTargets=All", "TargetAlias=x", "TargetAddress=127.0.0.1", "TargetPortalGroupTag=1", "AuthMethod=None"):
    case(f"login: {k} in the operational stage", "login", lambda c, k=k: c.login_pdu(k.encode() + b"\0"), INITIATOR_ERROR, "13")
for k in ("TargetName=iqn.x", "TargetAlias=x", "TargetAddress=127.0.0.1", "TargetPortalGroupTag=1", "AuthMethod=None",
          "InitiatorName=iqn.x", "SessionType=Normal", "IFMarker=No", "RDMAExtensions=No", "X#NodeArchitecture=x"):
    case(f"full: {k}", "full", lambda c, k=k: good(c, TEXT, data=k.encode() + b"\0"), PROTOCOL, "13")
for k in ("RDMAExtensions=Yes", "TargetRecvDataSegmentLength=8192", "iSERHelloRequired=Yes", "MaxAHSLength=0",
          "IFMarkInt=1~100", "OFMarkInt=512"):
    case(f"login: {k}", "login", lambda c, k=k: c.login_pdu(k.encode() + b"\0"), ("login 0000", "login 0000 Reject"), "13.25, RFC 7145")
for what, value in {"of 256 bytes": "x" * 256, "with a semicolon": "a;b", "that is no ASCII": "é"}.items():
    case(f"login: X#NodeArchitecture {what}", "login", lambda c, v=value: c.login_pdu(text({"X#NodeArchitecture": v})),
         INITIATOR_ERROR, "13.26")
case("login: InitiatorAlias with a newline", "login", lambda c: c.login_pdu(b"InitiatorAlias=a\nb\0"), INITIATOR_ERROR, "13.7")
case("login: 8 KiB in eight pieces", "login",
     in_turn(*(lambda c, i=i: c.login_pdu((b"X-%d=" % i + b"v" * 200 + b"\0") * 4, transit=False, more=True) for i in range(7)),
             lambda c: c.login_pdu(b"X-8=1\0")), "login 0000", "6.2")
case("login: more than 8 KiB in pieces", "login",
     in_turn(*(lambda c: c.login_pdu((b"X-k=" + b"v" * 250 + b"\0") * 4, transit=False, more=True) for _ in range(8)),
             lambda c: c.login_pdu(b"X-k=" + b"v" * 250 + b"\0")), ("login 02*", "closed"), "6.1")
MANY = b"".join(b"X-%03d=\0" % i for i in range(600))
case("login: answers longer than a response, which the initiator lets be", "login",
     in_turn(lambda c: c.login_pdu(MANY), lambda c: c.login_pdu(b"X-more=1\0")), INITIATOR_ERROR, "11.13.7")
case("login: answers longer than a response, of which the initiator asks for the rest", "login",
     in_turn(lambda c: c.login_pdu(MANY), lambda c: c.login_pdu(b"")), "login 0000", "11.13.7")
case("login: answers longer than the target keeps", "login",
     lambda c: c.login_pdu(b"".join(b"X-%03d=\0" % i for i in range(999))), INITIATOR_ERROR, "6.1")

# --- full feature phase: headers ------------------------------------------------------------------------------------
for op in (0x07, 0x08, 0x0F, 0x11, 0x1B, 0x1F):
    case(f"full: unknown opcode {op:#04x}", "full", lambda c, o=op: pdu(o, itt=5, immediate=True, w=(0, *c.numbers(True))),
         ("reject 05", "reject 04", "closed"), "11.17.1")
for op in (0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F):
    case(f"full: a target's opcode {op:#04x}", "full", lambda c, o=op: pdu(o, itt=5, immediate=True, w=(0, *c.numbers(True))),
         ("reject 05", "reject 04", "closed"), "11.2.1.2")
for name in ("nop-out", "tmf", "logout"):
    case(f"full: {name} without F", "full", lambda c, k=KINDS[name]: good(c, k, flags={TMF: 1}.get(k, 0)), FORMAT, "11.2.1")
for name in ("tmf", "logout", "snack"):
    case(f"full: {name} with data", "full", lambda c, k=KINDS[name]: good(c, k, data=b"data" * 4),
         (*FORMAT, "reject 03", "reject 05"), "11.2.1.6")
for name in ("scsi-command", "tmf", "text", "data-out", "logout"):
    case(f"full: {name} with the reserved task tag", "full", lambda c, k=KINDS[name]: good(c, k, itt=NONE), FORMAT, "11.2.1.8")
case("full: login request", "full", lambda c: good(c, LOGIN), PROTOCOL, "6.3")
case("full: login request with a whole login in it", "full", lambda c: login()(c), PROTOCOL, "6.3")
case("full: SNACK", "full", lambda c: good(c, SNACK), ("reject 03", "reject 04", "reject 05"), "11.16")
for k in range(1, 4):
    case(f"full: SNACK of kind {k}", "full", lambda c, k=k: good(c, SNACK, flags=FINAL | k),
         ("reject 03", "reject 04", "reject 05"), "11.16")
case("full: NOP-Out without a task tag that is not immediate", "full", lambda c: good(c, NOP_OUT, itt=NONE, immediate=False),
     FORMAT, "11.18")
case("full: NOP-Out answers a ping that never was", "full",
     lambda c: good(c, NOP_OUT, itt=NONE, immediate=True, w=(0x1234, c.cmd_sn, 0)), ("ignored", *PROTOCOL), "11.18")

# --- sequence numbers -------------------------------------------------------------------------------------------------
case("full: CmdSN beyond the window", "full", lambda c: c.command_pdu(TUR, numbers=(c.max_cmd_sn + 1000, 0)), "ignored", "4.2.2.1")
case("full: CmdSN far before the window", "full", lambda c: c.command_pdu(TUR, numbers=(c.cmd_sn - 1000, 0)), "ignored", "4.2.2.1")
case("full: CmdSN twice", "full",
     lambda c: (c.scsi(TUR), c.command_pdu(TUR, numbers=(c.cmd_sn - 1, c.exp_stat_sn)))[1], "ignored", "4.2.2.1")
case("full: a gap in CmdSN", "full", lambda c: c.command_pdu(TUR, numbers=(c.cmd_sn + 1, c.exp_stat_sn)),
     ("ignored", *PROTOCOL), "4.2.2.1")
case("full: CmdSN half a circle away", "full", lambda c: c.command_pdu(TUR, numbers=(c.cmd_sn + 0x80000000, 0)), "ignored",
     "4.2.2.1")
for n in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
    case(f"full: ExpStatSN {n:#x}", "full", lambda c, n=n: c.command_pdu(TUR, numbers=(c.numbers()[0], n)),
         ("status 00", *PROTOCOL), "11.4.9")
case("full: as many immediate commands at once as TCP takes", "full",
     lambda c: b"".join(c.command_pdu(TUR, immediate=True) for _ in range(500)), ("status 00", "reject 06", "status 28"), "4.2.2.1")
case("full: more commands at once than the window holds", "full",
     lambda c: b"".join(c.command_pdu(TUR) for _ in range(1000)), ("status 00", "status 28", "status 08"), "4.2.2.1")

# --- SCSI commands ----------------------------------------------------------------------------------------------------
for a in (5, 6, 7):
    case(f"full: task attribute {a}", "full", lambda c, a=a: c.command_pdu(TUR, attr=a), (*FORMAT, "status 02 5/*"), "11.3.1")
case("full: command with W and F both 0", "full", lambda c: c.command_pdu(READ_1, 512, READ, last=False), FORMAT, "11.3.1")
case("full: immediate data without W", "full", lambda c: c.command_pdu(READ_1, 512, READ, b"x" * 512), FORMAT, "11.3")
case("full: immediate data, more than the expected length", "full", lambda c: c.command_pdu(WRITE_8, 512, WRITE, b"x" * 4096),
     (*FORMAT, "status 02 *"), "11.3.4")
case("full: immediate data where ImmediateData=No", "full", lambda c: c.command_pdu(WRITE_8, 4096, WRITE, b"x" * 4096), DATA,
     "13.11", keys={"ImmediateData": "No"})
case("full: immediate data beyond FirstBurstLength", "full",
     lambda c: c.command_pdu(WRITE_8, 4096, WRITE, b"x" * 4096), DATA, "13.14",
     keys={"FirstBurstLength": 512})
case("full: expected length without R and W", "full", lambda c: c.command_pdu(READ_1, 512, 0),
     (*FORMAT, "status 00", "status 02 *"), "11.3.4")
case("full: expected length of 4 GiB", "full", lambda c: c.command_pdu(READ_1, 0xFFFFFFFF, READ), ("data", "status 00", "status 02 *"),
     "11.3.4")
case("full: expected length of 4 GiB, writing", "full", lambda c: c.command_pdu(WRITE_8, 0xFFFFFFFF, WRITE, b"x" * 4096),
     ("status 02 *", "status 00", "r2t", *FORMAT), "11.3.4")
case("full: R and W", "full", lambda c: c.command_pdu(READ_1, 512, READ | WRITE, b"x" * 512),
     ("status 02 *", "status 00", "data", *FORMAT), "11.3.1")
case("full: R and W with a read length", "full",
     lambda c: c.command_pdu(READ_1, 512, READ | WRITE, b"x" * 512, ahs=struct.pack(">HBBI", 5, 2, 0, 512)),
     ("status 02 *", "status 00", "data", *FORMAT), "11.2.2.4")
AHS = {"of reserved type": "0005070000000000", "that is longer than all of them": "0fff020000000000", "of length 0": "0000020000000000",
       "with a read length twice": "00050200000002000005020000000200", "with an extended CDB of length 0": "0001010000000000",
       "with an extended CDB that overruns": "00ff010000000000"}
for what, hexes in AHS.items():
    case(f"full: header segment {what}", "full", lambda c, h=hexes: c.command_pdu(TUR, ahs=bytes.fromhex(h)),
         (*FORMAT, "status 02 5/*"), "11.2.2")
case("full: 1020 bytes of header segments", "full", lambda c: c.command_pdu(TUR, ahs=struct.pack(">HB", 1017, 1) + bytes(1017)),
     (*FORMAT, "status 02 5/*"), "11.2.2.3")
case("full: a tag in use", "full", lambda c: c.command_pdu(WRITE_128, 65536, WRITE, itt=7) + c.command_pdu(WRITE_128, 65536, WRITE, itt=7),
     ("r2t then reject 07", "r2t then reject 04", "r2t then reject 09", "r2t then closed", "r2t then status 02 *", "r2t then r2t"),
     "11.17.1")
for what, lun in {"of reserved addressing": b"\xff" * 8, "of LUN 5000": b"\x53\x88" + bytes(6), "with a second level": b"\0\0\0\1" + bytes(4),
                  "of a well known unit that there is not": b"\xc1\x7f\0\0\0\0\0\0"}.items():
    case(f"full: a LUN {what}", "full", lambda c, n=lun: c.command_pdu(TUR, bytes_8_15=n), ("status 02 5/2500", "status 02 5/*"),
         "SAM-5, 4.7")
for op in (0x02, 0x1F, 0x7E, 0x7F, 0xC0, 0xFF):
    case(f"full: CDB with opcode {op:#04x}", "full", lambda c, o=op: c.command_pdu(bytes([o]) + b"\xff" * 15), ("status 02 5/2000",
         "status 02 5/*"), "SPC-4")

# --- data out of order, out of phase, of the wrong length --------------------------------------------------------------


def solicited(wrong, keys=None):
    """A write of 64 KiB whose first R2T is answered as `wrong(c, r2t)` says."""
    def send(c):
        itt = c.start(WRITE_128, 65536, WRITE)
        r2t = c.receive()
        assert r2t.opcode == R2T, r2t
        return wrong(c, r2t)
    return send


X = b"x" * 4096
R2T_ONLY = {"InitialR2T": "Yes", "ImmediateData": "No", "MaxBurstLength": 16384, "FirstBurstLength": 16384}
for what, wrong in {
    "another transfer tag": lambda c, r: c.data_out_pdu(r.itt, r.ttt ^ 0x5555, X, r.offset),
    "the transfer tag of unsolicited data": lambda c, r: c.data_out_pdu(r.itt, NONE, X, r.offset),
    "another task tag": lambda c, r: c.data_out_pdu(r.itt + 1000, r.ttt, X, r.offset),
    "DataSN 1 first": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, r.offset, data_sn=1, last=False),
    "DataSN 0 twice": lambda c, r: (c.data_out_pdu(r.itt, r.ttt, X, r.offset, 0, False)
                                    + c.data_out_pdu(r.itt, r.ttt, X, r.offset + 4096, 0, False)),
    "an offset before what was asked for": lambda c, r: (c.data_out_pdu(r.itt, r.ttt, X, 0, 0, False)
                                                         + c.data_out_pdu(r.itt, r.ttt, X, 0, 1, False)),
    "an offset behind it": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, r.offset + r.wanted, last=False),
    "an offset of 4 GiB less 4096": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, 0xFFFFF000, last=False),
    "an offset with a gap": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, r.offset + 4096, last=False),
    "the end too early": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, r.offset, last=True),
    "no end": lambda c, r: b"".join(c.data_out_pdu(r.itt, r.ttt, X, r.offset + i * 4096, i, False) for i in range(r.wanted // 4096)),
    "more than was asked for": lambda c, r: b"".join(
        c.data_out_pdu(r.itt, r.ttt, X, r.offset + i * 4096, i, i == r.wanted // 4096) for i in range(r.wanted // 4096 + 1)),
    "another command's unit": lambda c, r: c.data_out_pdu(r.itt, r.ttt, X, r.offset, last=False, lun=9),
}.items():
    ok = DATA
    if what in ("another task tag", "no end"):
        ok = (*DATA, "ignored")   # 11.7: data for a task that is gone are dropped; without F the sequence goes on
    if what == "another command's unit":
        ok = (*DATA, "ignored")
    if what == "the end too early":
        ok = (*DATA, "r2t")       # SAM: the target may ask for the rest
    case(f"full: solicited data with {what}", "full", solicited(wrong), ok, "11.7, 11.8", keys=R2T_ONLY)
case("full: solicited data of length 0", "full", solicited(lambda c, r: c.data_out_pdu(r.itt, r.ttt, b"", r.offset, last=False)),
     (*DATA, "ignored"), "11.7", keys=R2T_ONLY)
case("full: data for no command", "full", lambda c: c.data_out_pdu(0x4242, NONE, X), (*PROTOCOL, "ignored"), "11.7")
case("full: data for a command that reads", "full",
     lambda c: c.command_pdu(READ_1, 512, READ, itt=7) + c.data_out_pdu(7, NONE, X), ("data", "status 00", *PROTOCOL), "11.7")
case("full: unsolicited data where InitialR2T=Yes", "full",
     lambda c: c.command_pdu(WRITE_8, 4096, WRITE, itt=7, last=False) + c.data_out_pdu(7, NONE, X), (*DATA, "r2t"), "13.10",
     keys=R2T_ONLY)
UNSOLICITED = {"InitialR2T": "No", "ImmediateData": "Yes", "FirstBurstLength": 8192}
case("full: unsolicited data after F said that there are none", "full",
     lambda c: c.command_pdu(WRITE_8, 4096, WRITE, itt=7) + c.data_out_pdu(7, NONE, X), ("r2t", *DATA), "11.3.1", keys=UNSOLICITED)
case("full: unsolicited data beyond FirstBurstLength", "full",
     lambda c: c.command_pdu(WRITE_128, 65536, WRITE, itt=7, last=False)
     + b"".join(c.data_out_pdu(7, NONE, X, i * 4096, i, i == 3) for i in range(4)), DATA, "13.14", keys=UNSOLICITED)
case("full: unsolicited data beyond the expected length", "full",
     lambda c: c.command_pdu(WRITE_8, 4096, WRITE, itt=7, last=False)
     + c.data_out_pdu(7, NONE, X, 0, 0, False) + c.data_out_pdu(7, NONE, X, 4096, 1, True), (*DATA, "status 00"), "11.7",
     keys=UNSOLICITED)
case("full: unsolicited data with a gap", "full",
     lambda c: c.command_pdu(WRITE_128, 65536, WRITE, itt=7, last=False) + c.data_out_pdu(7, NONE, X[:512], 4096, 0, True), DATA,
     "13.18", keys=UNSOLICITED)
case("full: unsolicited data that end too early", "full",
     lambda c: c.command_pdu(WRITE_8, 4096, WRITE, itt=7, last=False) + c.data_out_pdu(7, NONE, X[:512], 0, 0, True), ("r2t", *DATA),
     "11.7.1", keys=UNSOLICITED)

# --- task management, text, logout ------------------------------------------------------------------------------------
for f in (0, 9, 13, 0x7F):
    case(f"full: task management function {f}", "full", lambda c, f=f: good(c, TMF, flags=FINAL | f), ("tmf 05", "tmf ff", *FORMAT),
         "11.5.1")
case("full: ABORT TASK of a task that never was", "full", lambda c: good(c, TMF), ("tmf 01", "tmf 00"), "11.6.1")
case("full: ABORT TASK of itself", "full", lambda c: good(c, TMF, itt=0x1234), "tmf ff", "11.5.1")
case("full: LUN RESET of a unit that is not there", "full", lambda c: good(c, TMF, flags=FINAL | 5, lun=77), "tmf 02", "11.6.1")
case("full: TASK REASSIGN", "full", lambda c: good(c, TMF, flags=FINAL | 8), ("tmf 04", "tmf 05", "tmf 01", "tmf ff"), "11.6.1")


def ask(raw=b"", **kw):
    return lambda c: good(c, TEXT, data=raw, **kw)


case("full: text without =", "full", ask(b"banana\0"), ("text", *PROTOCOL), "6.1")
case("full: text, F and C", "full", ask(b"X-a=1\0", flags=0xC0), FORMAT, "11.10.2")
case("full: text goes on with a transfer tag that never was", "full", lambda c: good(c, TEXT, data=b"X-a=1\0", w=(0x99, *c.numbers())),
     FORMAT, "11.10.4")
case("full: an unknown key", "full", ask(b"X-banana=1\0"), ("text", "text NotUnderstood"), "6.2")
case("full: a key of the login", "full", ask(b"MaxConnections=4\0"), ("text Reject", "text", "text Irrelevant", *PROTOCOL), "6.2")
case("full: SendTargets=All in a normal session", "full", ask(b"SendTargets=All\0"), ("text Reject", "text", *PROTOCOL), "4.3, appendix C")
case("full: SendTargets of a name of 7 KiB", "full", ask(b"SendTargets=iqn." + b"x" * 7000 + b"\0"), ("text", "text Reject", *PROTOCOL),
     "appendix C")
case("full: 8 KiB of NUL as text", "full", ask(bytes(8192)), ("text", *PROTOCOL), "6.1")
case("full: a text that never ends", "full",
     lambda c: b"".join(good(c, TEXT, data=b"X-%d=" % i + b"x" * 500, flags=0x40, itt=5, immediate=True) for i in range(100)),
     ("text then text", "text then closed", "text then reject *", "text", *PROTOCOL), "6.1")


def sequence(*texts):
    """Texts of one sequence, of each of which but the last the answer is waited for."""
    def send(c):
        ttt = NONE
        for i, (raw, flags) in enumerate(texts):
            request = good(c, TEXT, data=raw, flags=flags, w=(ttt, *c.numbers()), immediate=True)
            if i == len(texts) - 1:
                return request
            c.send(request)
            a = c.receive()
            assert a.opcode == 0x24, a
            ttt = a.ttt
    return send


LENGTH = b"MaxRecvDataSegmentLength=4096\0"
case("full: a declaration twice in a text", "full", ask(LENGTH * 2), PROTOCOL, "6.4")
case("full: a declaration twice in a sequence", "full", sequence((LENGTH, 0), (LENGTH, FINAL)), PROTOCOL, "6.4")
for v in ("511", "16777216", "banana", "", "Reject", "NotUnderstood", "Irrelevant"):
    case(f"full: MaxRecvDataSegmentLength={v}", "full", ask(text({"MaxRecvDataSegmentLength": v})), PROTOCOL, "7.12")
case("full: InitiatorAlias with a control character", "full", ask(b"InitiatorAlias=a\x1bb\0"), PROTOCOL, "13.7")
case("full: more than 8 KiB in one sequence", "full",
     sequence(*((b"X-k=" + b"v" * 250 + b"\0", 0x40) for _ in range(32)), (b"X-k=" + b"v" * 250 + b"\0", FINAL)), PROTOCOL, "6.1")
case("full: text while the reply goes out", "full",
     sequence((b"".join(b"X-%03d=\0" % i for i in range(400)), FINAL), (b"X-more=1\0", FINAL)), PROTOCOL, "6.2",
     keys={"MaxRecvDataSegmentLength": 512})
case("full: logout for another connection", "full", lambda c: good(c, LOGOUT, flags=FINAL | 1, w=(77 << 16, *c.numbers())),
     ("logout 01", *PROTOCOL), "11.15.1")
case("full: logout for recovery", "full", lambda c: good(c, LOGOUT, flags=FINAL | 2), ("logout 02", *PROTOCOL), "11.15.1")
case("full: logout for a reserved reason", "full", lambda c: good(c, LOGOUT, flags=FINAL | 0x55), (*FORMAT, "logout *"), "11.14.1")

# --- discovery sessions -------------------------------------------------------------------------------------------------
case("discovery: SCSI command", "discovery", lambda c: c.command_pdu(TUR), PROTOCOL, "4.3")
case("discovery: task management", "discovery", lambda c: good(c, TMF), PROTOCOL, "4.3")
case("discovery: data", "discovery", lambda c: c.data_out_pdu(1, NONE, X), (*PROTOCOL, "ignored"), "4.3")
case("discovery: SendTargets=Banana", "discovery", ask(b"SendTargets=Banana\0"), ("text Reject", "text", *PROTOCOL), "appendix C")
case("discovery: SendTargets twice", "discovery", ask(b"SendTargets=All\0SendTargets=All\0"), ("text", "text Reject", *PROTOCOL), "6.2")
