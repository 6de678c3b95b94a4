"""Asymmetric access over iSCSI as the model of tests/fuzz has it: tests/sequences/alua.txt, or a longer one."""
# group: sequences
import contextlib
import os
import re

import lio
import pytest
from lio import read, write
from test_alua import CAPACITY16, INQUIRY, MODE, READ, TUR, Pair, answer, attentions, rtpg, stpg, stpg_list

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
COMMANDS = {"tur": (TUR, 0), "read": (READ, 4096), "inquiry": (INQUIRY, 96), "mode": (MODE, 255), "capacity": (CAPACITY16, 32),
            "groups": (rtpg(), 4096)}
SUPPORTS = {0: "active_optimized", 1: "active_nonoptimized", 2: "standby", 3: "unavailable"}
STATUSES = ["None", "Altered by Explicit STPG", "Altered by Implicit ALUA"]
OFFLINE = 14


def sequence(name):
    """The lines of a sequence: the one in the tree, or what `make check-sequences` has made."""
    made = re.search(r"sequences=(\S+)", os.environ.get("LIO_RS_ARGS", ""))
    lines = (lio.TOP / (made[1] if made else "tests/sequences") / f"{name}.txt").read_text().splitlines()
    assert len(lines) > 100
    return lines


def play(pair, nexuses, rtpi, what, *args):
    """One operation: its outcome as the model says it."""
    if what in ("state", "supports", "offline"):
        n, *values = map(int, args)
        if what == "state":
            try:
                pair.state(n - 1, values[0])
            except OSError:
                return "no"
        elif what == "supports":
            pair.set(n - 1, f"alua_support_{SUPPORTS[values[0]]}", values[1])
        else:
            write(pair.targets[n - 1].path / "lun/lun_0/alua_tg_pt_offline", values[0])
        return "-"
    c = nexuses[int(args[0])]
    if what == "sense":
        return ",".join(attentions(c)) or "-"
    if what == "set":
        wants = [tuple(map(int, item.split(":"))) for item in args[1].split(",") if item != "-"]
        changes = stpg_list(*((rtpi.get(target, 4711) if state == OFFLINE else target, state) for state, target in wants))
        return answer(c, stpg(len(changes)), write=changes) or "-"
    cdb, length = COMMANDS[what]
    return answer(c, cdb, read=length) or "-"


def test_the_model_agrees():
    pair = Pair()
    for n in (0, 1):
        pair.set(n, "nonop_delay_msecs", 0)
        pair.set(n, "implicit_trans_secs", 0)
    rtpi = {n + 1: int(read(t.path / "rtpi"), 0) for n, t in enumerate(pair.targets)}
    with contextlib.ExitStack() as stack:
        nexuses = [stack.enter_context(pair.nexus(n % 2, 1 + n // 2)) for n in range(4)]
        for c in nexuses:
            attentions(c)
        for number, line in enumerate(sequence("alua"), 1):
            done, expected = (part.split() for part in line.split("|"))
            sense, groups, ports = expected
            assert play(pair, nexuses, rtpi, *done) == sense, (number, line)
            shown = [f"{pair.state(n)}.{STATUSES.index(read(g / 'alua_access_status'))}" for n, g in enumerate(pair.groups)]
            assert ",".join(shown) == groups, (number, line)
            offline = [read(t.path / "lun/lun_0/alua_tg_pt_offline") for t in pair.targets]
            assert ",".join(offline) == ports, (number, line)
