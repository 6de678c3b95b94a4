"""scripts/follow: each command's life, from tracepoints."""
# group: connections
import re
import signal
import subprocess
from pathlib import Path

import initiator
import lio
import pytest

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have other tracepoints")
FOLLOW = lio.TOP / "scripts/follow"
TRACING = Path("/sys/kernel/tracing")
A, B = "iqn.2024-01.org.example:a", "iqn.2024-01.org.example:b"


class Following:
    """scripts/follow at work; `lives` has what it printed of each command: the first line, and the steps."""

    def __init__(self, *args):
        if not (TRACING / "trace").exists():
            lio.run("mount", "-t", "tracefs", "nodev", TRACING)
        self.p = subprocess.Popen([FOLLOW, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.p.stderr.readline() == "following\n"

    def lives(self):
        out, err = self.p.communicate(timeout=30 * lio.SLOW)
        assert self.p.returncode == 0, err
        lives = []
        for line in out.splitlines():
            if not line.startswith(" "):
                lives.append((line, []))
            else:
                us, what = re.fullmatch(r" +(\d+) us  (.*)", line).groups()
                lives[-1][1].append((int(us), what))
        for _, steps in lives:
            times = [us for us, _ in steps]
            assert times == sorted(times) and times[0] == 0
        assert not list(TRACING.glob("instances/lio-follow-*"))
        return [(head, [what for _, what in steps]) for head, steps in lives]


def session(target, name):
    return initiator.session(target, name=name, keys={"InitialR2T": "Yes", "ImmediateData": "Yes"})


def test_lives_of_commands():
    store = lio.fileio()
    target = lio.IscsiTarget(store)
    with session(target, A) as a, session(target, B) as b:
        a.scsi(bytes(6))
        following = Following("--initiator", A, "--device", "core/fileio_0/f0", "--count", "4")
        b.scsi(bytes(6))
        a.scsi(bytes(6))
        a.scsi(bytes.fromhex("2a000000000800000800"), write=bytes(4096))
        b.scsi(bytes.fromhex("28000000000800000800"), read=4096)
        a.scsi(bytes.fromhex("28000000000800000800"), read=4096)
        a.scsi(bytes.fromhex("28007fffffff00000800"), read=4096)
        lives = following.lives()
    assert [re.search(r"cdb ([0-9a-f ]+?)(?: expects|$)", head)[1].replace(" ", "") for head, _ in lives] == [
        "00" * 6, "2a000000000800000800", "28000000000800000800", "28007fffffff00000800"]
    for head, _ in lives:
        assert f" {A} -> " in head and " lun 0 (core/fileio_0/f0) " in head
    ready, write, read, beyond = (steps for _, steps in lives)
    assert ready == ["received", "admitted", "GOOD", "sent"]
    assert write == ["received", "admitted, wants 4096 bytes", "sent to the back end: write 4096 bytes at 4096",
                     "completed by the back end", "GOOD", "sent"]
    assert read == ["received", "admitted", "sent to the back end: read 4096 bytes at 4096", "completed by the back end", "GOOD", "sent"]
    assert beyond == ["received", "CHECK CONDITION, sense 5/21/00", "sent"]
    assert "expects 4096 bytes" in lives[1][0]


def test_of_a_lun_until_it_is_told_to_stop():
    target = lio.IscsiTarget(lio.ramdisk(), lio.ramdisk("rd1"))
    with session(target, A) as a:
        for lun in (0, 1):
            a.scsi(bytes(6), lun=lun)
        following = Following("--lun", "1")
        a.scsi(bytes(6))
        a.scsi(bytes.fromhex("1a003f00ff00"), read=255, lun=1)
        # It is printed when it ends, and not with others.
        assert " lun 1 (core/rd_mcp_0/rd1) tag " in following.p.stdout.readline()
        following.p.send_signal(signal.SIGTERM)
        following.p.communicate(timeout=30 * lio.SLOW)
        assert following.p.returncode == 0
    # Nobody listens any more.
    assert not list(TRACING.glob("instances/lio-follow-*")) and lio.read(TRACING / "events/lio/enable") == "0"


def test_without_the_modules_it_says_so():
    lio.clear(unload=True)
    p = lio.run(FOLLOW, check=False)
    assert p.returncode != 0 and "is target_core_mod loaded" in p.stdout
