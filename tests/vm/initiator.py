"""A small iSCSI initiator (RFC 7143) whose PDUs can be as wrong as a test likes. Nothing here checks what it sends."""
import contextlib
import socket
import struct
import time

import lio

NOP_OUT, SCSI_COMMAND, TMF, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10
NOP_IN, SCSI_RESPONSE, TMF_RESPONSE, LOGIN_RESPONSE, TEXT_RESPONSE, DATA_IN, LOGOUT_RESPONSE, R2T, ASYNC, REJECT = (
    0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F)
NONE = 0xFFFFFFFF
FINAL, READ, WRITE = 0x80, 0x40, 0x20
ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LUN_RESET, WARM_RESET, COLD_RESET = 1, 2, 4, 5, 6, 7
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3


def pad(data):
    return data + bytes(-len(data) % 4)


def pdu(opcode, flags=FINAL, data=b"", *, immediate=False, lun=0, itt=NONE, w=(), ahs=b"", data_len=None, ahs_words=None,
        bytes_2_3=b"\0\0", bytes_8_15=None, padding=True):
    """A PDU as bytes. `w` are the words from byte 20 on; `data_len` and `ahs_words` are what the header says of the
    lengths, if not the truth."""
    head = bytes([opcode | (0x40 if immediate else 0), flags]) + bytes_2_3
    head += bytes([len(pad(ahs)) // 4 if ahs_words is None else ahs_words])
    head += (len(data) if data_len is None else data_len).to_bytes(3, "big")
    head += lun_bytes(lun) if bytes_8_15 is None else bytes_8_15
    head += struct.pack(">I", itt)
    tail = b"".join(x if isinstance(x, bytes) else struct.pack(">I", x & NONE) for x in w)
    head += tail + bytes(28 - len(tail))
    assert len(head) == 48
    return head + pad(ahs) + (pad(data) if padding else data)


def lun_bytes(lun):
    """SAM-5, 4.7: peripheral or flat addressing."""
    return struct.pack(">H6x", lun if lun < 256 else 0x4000 | lun)


def text(pairs):
    items = pairs.items() if isinstance(pairs, dict) else pairs
    return b"".join(f"{k}={v}".encode() + b"\0" for k, v in items)


def _table():
    """CRC32C, RFC 7143, 13.1: the polynomial 0x11edc6f41, its bits in reverse."""
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


TABLE = tuple(_table())


def crc32c(data):
    """The digest of `data`, as it is sent."""
    crc = NONE
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return (crc ^ NONE).to_bytes(4, "little")


class Answer:
    """A PDU of the target."""

    def __init__(self, bhs, ahs, data):
        self.bhs, self.ahs, self.data = bhs, ahs, data
        self.opcode, self.flags = bhs[0] & 0x3F, bhs[1]
        self.itt, self.ttt, self.stat_sn, self.exp_cmd_sn, self.max_cmd_sn = struct.unpack(">5I", bhs[16:36])

    @property
    def text(self):
        return dict(p.split("=", 1) for p in self.data.decode().split("\0") if p)

    # SCSI Response, and a Data-In with status
    @property
    def status(self):
        return self.bhs[3]

    @property
    def sense(self):
        return self.data[2 : 2 + int.from_bytes(self.data[:2], "big")]

    @property
    def residual(self):
        """Negative for an overflow."""
        n = struct.unpack(">I", self.bhs[44:48])[0]
        return n if self.flags & 2 else -n if self.flags & 4 else 0

    # others
    @property
    def response(self):
        return self.bhs[2]

    reason = response  # of a Reject

    @property
    def login_status(self):
        return self.bhs[36] << 8 | self.bhs[37]

    @property
    def offset(self):
        return struct.unpack(">I", self.bhs[40:44])[0]

    @property
    def wanted(self):
        """How many bytes an R2T asks for."""
        return struct.unpack(">I", self.bhs[44:48])[0]

    @property
    def data_sn(self):
        return struct.unpack(">I", self.bhs[36:40])[0]

    def __repr__(self):
        return f"Answer({self.opcode:#x}, {self.bhs.hex()}, {self.data[:64]!r})"


class Patience:
    """How long what is awaited may take. A second for which nothing comes counts as one, however long it was: where the whole machine
    stands still for a while, so does who is to send it."""

    def __init__(self, seconds):
        self.left = seconds

    def receive(self, sock):
        """What comes next; TimeoutError when nothing does."""
        while True:
            start, piece = time.monotonic(), max(min(self.left, 1), 0.001)
            sock.settimeout(piece)
            try:
                return sock.recv(65536)
            except TimeoutError:
                if self.left <= piece:
                    raise
            finally:
                self.left -= min(time.monotonic() - start, piece)


class Connection:
    """A TCP connection; the numbers are those that the next request of an honest initiator would carry."""

    hears_events = True  # asynchronous messages are what a test waits for, or does not expect
    watch = None  # a function that hears of each send and PDU received: watch(connection, bytes or Answer)

    def __init__(self, portal="127.0.0.1:3260", timeout=10, sock=None):
        host, port = portal.rsplit(":", 1)
        self.sock = sock or socket.create_connection((host.strip("[]"), int(port)), timeout * lio.SLOW)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.cmd_sn, self.exp_stat_sn, self.next_itt = 1, 0, 1
        self.buffer = b""
        self.given_back = []
        self.header_digest = self.data_digest = False

    @classmethod
    def of(cls, sock):
        """On a socket that is connected."""
        return cls(sock=sock)

    def close(self):
        self.sock.close()

    def is_closed_there(self):
        """Whether a target on this machine has closed its end, whatever has been heard of that."""
        try:
            ends = {"%04X" % self.sock.getsockname()[1], "%04X" % self.sock.getpeername()[1]}
        except OSError:  # the reset has come already: there is no peer any more
            return True
        open_ends = 0
        for table in "tcp", "tcp6":
            for line in lio.read(f"/proc/net/{table}").splitlines()[1:]:
                _, local, remote, state = line.split()[:4]
                open_ends += {local[-4:], remote[-4:]} == ends and state == "01"
        return open_ends < 2

    def reset(self):
        """Ends the connection by a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data, spoil=""):
        """Sends bytes; a connection that the target has closed is no error here: receive() tells. With digests, `data` is a PDU,
        and `spoil` says which of its digests is wrong: header, data, or both."""
        if self.watch:
            self.watch(bytes(data))
        if self.header_digest or self.data_digest:
            data = self.digested(data, spoil)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def digested(self, data, spoil=""):
        """The PDU with its digests."""
        def wrong(digest, which):
            return bytes([digest[0] ^ 1]) + digest[1:] if which in spoil else digest

        head = 48 + 4 * data[4]
        out = data[:head]
        if self.header_digest:
            out += wrong(crc32c(out), "header")
        out += data[head:]
        if self.data_digest and data[head:]:
            out += wrong(crc32c(data[head:]), "data")
        return out

    def _check(self, data, patience, what):
        """The digest of `data` follows, and is right."""
        digest = self._take(4, patience)
        assert digest == crc32c(data), f"{what} digest {digest.hex()} of {data[:64].hex()}"

    def _take(self, n, patience):
        while len(self.buffer) < n:
            got = patience.receive(self.sock)
            if not got:
                raise ConnectionResetError
            self.buffer += got
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def receive(self, timeout=None):
        """The next PDU; None when the target has closed the connection. TimeoutError when nothing comes."""
        if self.given_back:
            return self.given_back.pop(0)
        patience = Patience((timeout or self.timeout) * lio.SLOW)
        try:
            bhs = self._take(48, patience)
            ahs = self._take(bhs[4] * 4, patience)
            if self.header_digest:
                self._check(bhs + ahs, patience, "header")
            n = int.from_bytes(bhs[5:8], "big")
            data = self._take(n + -n % 4, patience)
            if self.data_digest and n:
                self._check(data, patience, "data")
            data = data[:n]
        except (ConnectionResetError, BrokenPipeError):
            return None
        answer = Answer(bhs, ahs, data)
        uses_none = answer.opcode == R2T or (answer.opcode == DATA_IN and not answer.flags & 1) or (
            answer.opcode == NOP_IN and answer.itt == NONE)
        if not uses_none:
            self.exp_stat_sn = (answer.stat_sn + 1) & NONE
        if self.watch:
            self.watch(answer)
        return answer

    def next(self, timeout=None):
        """The next PDU that is no NOP-In of the target's own; None when the target has closed the connection."""
        while (a := self.receive(timeout)) is not None and self.pong(a):
            pass
        return a

    def itt(self):
        self.next_itt += 1
        return self.next_itt

    # --- login -----------------------------------------------------------------------------------------------

    def login_pdu(self, data, csg=OPERATIONAL, nsg=FULL_FEATURE, transit=True, more=False, isid=b"\x80\0\0\0\0\1",
                  tsih=0, cid=1, itt=1, version_max=0, version_min=0, **kw):
        flags = (0x80 if transit else 0) | (0x40 if more else 0) | csg << 2 | (nsg if transit else 0)
        kw.setdefault("immediate", True)
        return pdu(LOGIN, flags, data, itt=itt, bytes_2_3=bytes([version_max, version_min]),
                   bytes_8_15=isid + struct.pack(">H", tsih),
                   w=(cid << 16, self.cmd_sn, self.exp_stat_sn), **kw)

    def login(self, target=None, name="iqn.2024-01.org.example:python", keys=None, isid=b"\x80\0\0\0\0\1", check=True,
              **kw):
        """An honest login in one step. `target` None: discovery. Keeps the answered keys in self.keys. `kw`: tsih, cid."""
        pairs = {"InitiatorName": name, "AuthMethod": "None"}
        pairs |= {"TargetName": target, "SessionType": "Normal"} if target else {"SessionType": "Discovery"}
        self.send(self.login_pdu(text(pairs), SECURITY, OPERATIONAL, isid=isid, **kw))
        answer = self.receive()
        if answer and answer.login_status == 0:
            operational = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": 65536,
                           "DefaultTime2Wait": 0, "DefaultTime2Retain": 0, "ErrorRecoveryLevel": 0}
            if target and not kw.get("tsih"):
                operational |= {"InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": 65536,
                                "FirstBurstLength": 65536, "MaxOutstandingR2T": 1, "MaxConnections": 1,
                                "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes"}
            operational |= keys or {}
            self.send(self.login_pdu(text(operational), isid=isid, **kw))
            answer = self.receive()
        if check:
            assert answer and answer.opcode == LOGIN_RESPONSE, answer
            assert answer.login_status == 0 and answer.flags & 0x83 == 0x83, f"{answer.login_status:#06x}"
        if answer and answer.opcode == LOGIN_RESPONSE and answer.login_status == 0:
            self.keys = answer.text
            self.tsih = struct.unpack(">H", answer.bhs[14:16])[0]
            self.exp_cmd_sn, self.max_cmd_sn = answer.exp_cmd_sn, answer.max_cmd_sn
            if answer.flags & 0x83 == 0x83:
                self.header_digest = self.keys.get("HeaderDigest") == "CRC32C"
                self.data_digest = self.keys.get("DataDigest") == "CRC32C"
        return answer

    # --- full feature phase ----------------------------------------------------------------------------------

    def numbers(self, immediate=False):
        """CmdSN and ExpStatSN of the next request."""
        n = self.cmd_sn
        if not immediate:
            self.cmd_sn = (self.cmd_sn + 1) & NONE
        return n, self.exp_stat_sn

    def command_pdu(self, cdb, length=0, direction=0, data=b"", lun=0, itt=None, last=True, attr=1, **kw):
        """A SCSI command. `direction`: READ, WRITE or both; `data`: immediate."""
        cdb = bytes(cdb)
        itt = self.itt() if itt is None else itt
        if len(cdb) > 16:  # RFC 7143, 11.2.2.3
            kw.setdefault("ahs", struct.pack(">HBx", len(cdb) - 15, 1) + cdb[16:])
        sn = kw.pop("numbers", None) or self.numbers(kw.get("immediate", False))
        return pdu(SCSI_COMMAND, (FINAL if last else 0) | direction | attr, data, lun=lun, itt=itt,
                   w=(length, *sn, cdb[:16] + bytes(16 - len(cdb[:16]))), **kw)

    def start(self, cdb, length=0, direction=0, data=b"", **kw):
        """Sends a command; gives its tag."""
        itt = self.itt()
        self.send(self.command_pdu(cdb, length, direction, data, itt=itt, **kw))
        return itt

    def data_out_pdu(self, itt, ttt, data, offset=0, data_sn=0, last=True, lun=0, **kw):
        return pdu(DATA_OUT, FINAL if last else 0, data, lun=lun, itt=itt,
                   w=(ttt, 0, self.exp_stat_sn, 0, data_sn, offset), **kw)

    def answer_r2t(self, r2t, data, burst=8192):
        """Sends what an R2T asks for out of the command's whole `data`."""
        at, end, n = r2t.offset, r2t.offset + r2t.wanted, 0
        while at < end:
            piece = data[at : min(at + burst, end)]
            self.send(self.data_out_pdu(r2t.itt, r2t.ttt, piece, at, n, at + len(piece) >= end, bytes_8_15=r2t.bhs[8:16]))
            at, n = at + len(piece), n + 1

    def finish(self, itt, data=b"", timeout=None):
        """Goes on with a command until it is answered. Gives (status, data read, its last PDU)."""
        got = bytearray()
        while True:
            a = self.receive(timeout)
            assert a is not None, "the target has closed the connection"
            if self.pong(a) or a.opcode == ASYNC and not self.hears_events:
                continue
            if a.itt != itt:
                raise AssertionError(f"not an answer to {itt:#x}: {a}")
            if a.opcode == R2T:
                self.answer_r2t(a, data)
            elif a.opcode == DATA_IN:
                if len(got) < a.offset + len(a.data):
                    got.extend(bytes(a.offset + len(a.data) - len(got)))
                got[a.offset : a.offset + len(a.data)] = a.data
                if a.flags & 1:
                    return a.status, bytes(got), a
            elif a.opcode == SCSI_RESPONSE:
                return (a.status if a.response == 0 else -a.response), bytes(got), a
            else:
                raise AssertionError(f"unexpected: {a}")

    def scsi(self, cdb, read=0, write=b"", lun=0, immediate=True, timeout=None):
        """One SCSI command from start to end."""
        length, direction = (len(write), WRITE) if write else (read, READ if read else 0)
        first = min(len(write), 8192) if immediate else 0
        itt = self.start(cdb, length, direction, write[:first], lun=lun)
        return self.finish(itt, write, timeout)

    def finish_all(self, tags, timeout=None):
        """Goes on with commands that have sent their data until all are answered, in whatever order. Gives their last PDUs by tag."""
        left, last = set(tags), {}
        while left:
            a = self.receive(timeout)
            assert a is not None, "the target has closed the connection"
            if self.pong(a):
                continue
            assert a.itt in left, f"not an answer to one of them: {a}"
            if a.opcode == SCSI_RESPONSE or a.opcode == DATA_IN and a.flags & 1:
                left.remove(a.itt)
                last[a.itt] = a
        return last

    def tmf(self, function, lun=0, ref_itt=NONE, ref_cmd_sn=0, timeout=None):
        """Gives the response code. What else comes before it is kept in self.seen."""
        itt = self.itt()
        self.send(pdu(TMF, FINAL | function, immediate=True, lun=lun, itt=itt,
                      w=(ref_itt, self.cmd_sn, self.exp_stat_sn, ref_cmd_sn)))
        self.seen = []
        while True:
            a = self.receive(timeout)
            assert a is not None, "the target has closed the connection"
            if a.opcode == TMF_RESPONSE and a.itt == itt:
                return a.response
            if not self.pong(a):
                self.seen.append(a)

    def pong(self, a):
        """Whether this is a NOP-In of the target's own, which tells of the window or asks for an answer: it gets that."""
        own = a.opcode == NOP_IN and a.itt == NONE
        if own and a.ttt != NONE:
            self.send(pdu(NOP_OUT, immediate=True, w=(a.ttt, self.cmd_sn, self.exp_stat_sn)))
        return own

    def ping(self, data=b"ping", timeout=None):
        itt = self.itt()
        self.send(pdu(NOP_OUT, FINAL, data, immediate=True, itt=itt, w=(NONE, self.cmd_sn, self.exp_stat_sn)))
        a = self.next(timeout)
        return a is not None and a.opcode == NOP_IN and a.itt == itt and a.data == data

    def text_request(self, pairs, ttt=NONE):
        itt = self.itt()
        self.send(pdu(TEXT, FINAL, text(pairs), itt=itt, w=(ttt, *self.numbers())))
        return self.next()

    def logout(self, reason=0, cid=1):
        itt = self.itt()
        self.send(pdu(LOGOUT, FINAL | reason, itt=itt, w=(cid << 16, *self.numbers())))
        return self.next()


def session(target, portal=None, **kw):
    """Logs in to an IscsiTarget of lio.py, and clears the unit attentions that wait there."""
    c = Connection(portal or target.portals[0])
    c.login(target.iqn, **kw)
    for _ in range(8):
        if c.scsi(bytes(6))[0] == 0:
            break
    return c
