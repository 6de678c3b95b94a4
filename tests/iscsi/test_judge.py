"""tests/vm/judge.py sees what is wrong: one forged answer for each of its rules."""
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))
import initiator  # noqa: E402
import judge  # noqa: E402
from initiator import (ASYNC, DATA_IN, FINAL, LOGOUT, LOGOUT_RESPONSE, NONE, NOP_IN, NOP_OUT, R2T, REJECT, SCSI_COMMAND,  # noqa: E402
                       SCSI_RESPONSE, TEXT, TEXT_RESPONSE, TMF, TMF_RESPONSE, Connection, pdu)

ASKED = {"read": (SCSI_COMMAND, 0xC1), "write": (SCSI_COMMAND, 0xA1), "ping": (NOP_OUT, FINAL), "function": (TMF, 0x85), "text": (TEXT, FINAL),
         "out": (LOGOUT, FINAL)}
FORGED = [  # what was asked, the answer: opcode, flags, words from byte 20 on, more; the clause that it breaks
    ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 64), {"bytes_8_15": b"\1" + bytes(7)}, "11: reserved"),
    ("read", SCSI_RESPONSE, FINAL, (0, 6, 2, 64), {}, "4.2.2.2"), ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 0), {}, "4.2.2.1"),
    ("read", SCSI_RESPONSE, FINAL, (0, 5, 9, 64), {}, "4.2.2.1"), ("read", SCSI_RESPONSE, FINAL, (0, 5, 1, 64), {}, "4.2.2.1: a status"),
    ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 64), {"itt": 9}, "4.2.5.1"), ("read", SCSI_RESPONSE, 0, (0, 5, 2, 64), {}, "11: bit F"),
    ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 64), {"bytes_2_3": b"\0\2"}, "11.4.7"), ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 64, 3), {}, "11.4.8"),
    ("read", SCSI_RESPONSE, 0x86, (0, 5, 2, 64, 0, 0, 5), {}, "11.4.1"), ("read", SCSI_RESPONSE, FINAL, (0, 5, 2, 64, 0, 0, 5), {}, "11.4.5.1"),
    ("read", DATA_IN, 0xC0, (NONE, 0, 2, 64), {"data": b"d"}, "11.7.2"), ("read", DATA_IN, FINAL, (NONE, 0, 2, 64, 1), {"data": b"d"}, "4.2.2.4"),
    ("read", DATA_IN, 1, (NONE, 5, 2, 64), {"data": b"d"}, "11.7.3: S without F"), ("read", DATA_IN, 0x81, (NONE, 5, 2, 64), {"bytes_2_3": b"\0\2"}, "11.7.3"),
    ("read", DATA_IN, FINAL, (7, 0, 2, 64), {"data": b"d"}, "11.7.4"), ("read", DATA_IN, FINAL, (NONE, 0, 2, 64, 0, 8), {"data": b"d"}, "13.18"),
    ("read", DATA_IN, 0, (NONE, 0, 2, 64), {"data": bytes(8193)}, "11.7.1"), ("read", DATA_IN, 0x81, (NONE, 5, 2, 64), {"data": b"d"}, "11.4.5.2"),
    ("write", DATA_IN, FINAL, (NONE, 0, 2, 64), {"data": b"d"}, "4.2.5.2"), ("write", R2T, FINAL, (NONE, 5, 2, 64, 0, 0, 512), {}, "11.8.5"),
    ("write", R2T, FINAL, (1, 5, 2, 64, 0, 0, 0), {}, "11.8.4"), ("write", R2T, FINAL, (1, 5, 2, 64, 1, 0, 512), {}, "4.2.2.4"),
    ("write", R2T, FINAL, (1, 5, 2, 64, 0, 0, 512), {"lun": 3}, "4.2.5.3"), ("write", R2T, FINAL, (1, 5, 2, 64, 0, 4000, 512), {}, "11.3.4"),
    ("ping", NOP_IN, FINAL, (NONE, 5, 2, 64), {"data": b"pong"}, "11.19: not"), ("ping", NOP_IN, FINAL, (1, 5, 2, 64), {"data": b"ping"}, "11.19: a transfer"),
    ("function", TMF_RESPONSE, FINAL, (0, 5, 2, 64), {"data": b"d"}, "11.6.2"), ("text", TEXT_RESPONSE, 0, (NONE, 5, 2, 64), {}, "11.11.1"),
    ("text", TEXT_RESPONSE, 0xC0, (NONE, 5, 2, 64), {}, "11.11.2"), ("out", LOGOUT_RESPONSE, FINAL, (0, 5, 2, 64), {"data": b"d"}, "11.15.2"),
    ("read", REJECT, FINAL, (0, 5, 2, 64), {"bytes_2_3": b"\x0b\0", "itt": NONE}, "11.17.1"), ("read", 0x01, FINAL, (), {}, "11.2.1.2"),
    ("read", REJECT, FINAL, (0, 5, 2, 64), {"bytes_2_3": b"\4\0", "itt": NONE, "data": bytes(48)}, "11.17.3"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 5 << 24, 9), {"itt": NONE}, "11.9: an event"), ("read", ASYNC, FINAL, (0, 5, 2, 64, 2 << 24, 9), {}, "11.9: an event"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 1 << 24, 0), {"itt": NONE}, "11.9.1: the initiator has no time"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 4 << 24 | 1, 9), {"itt": NONE}, "11.9.1: a parameter"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 3 << 24 | 1, 9), {"itt": NONE}, "11.9.1: the end of a session"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 3 << 24, 9), {"itt": NONE, "lun": 1}, "11.9.2"),
    ("read", ASYNC, FINAL, (0, 5, 2, 64, 0, 0), {"itt": NONE, "data": b"\0\x12p"}, "11.9.4: sense")]


@pytest.mark.parametrize("asked,opcode,flags,words,more,clause", FORGED, ids=[f"{a}-{c}-{i}" for i, (a, *_, c) in enumerate(FORGED)])
def test_the_judge(asked, opcode, flags, words, more, clause):
    """It would see what is wrong."""
    with socket.socket() as sock:
        stream = judge.Stream(Connection.of(sock))
        stream.exp_cmd_sn, stream.max_cmd_sn, stream.next_cmd_sn, stream.stat_sn = 1, 64, 1, 5
        kind, bits = ASKED[asked]
        stream.sends(pdu(kind, bits, b"ping" if asked == "ping" else b"", itt=1, w=(4096 if kind == SCSI_COMMAND else NONE, 1, 5)))
        a = pdu(opcode, flags, **({"itt": 1, "w": words} | more))
        n = int.from_bytes(a[5:8], "big")
        stream.hears(initiator.Answer(a[:48], b"", a[48 : 48 + n]))
        assert any(clause in line for line in stream.said), stream.said
