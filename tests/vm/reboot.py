"""`make check-reboot`: registrations that persist (APTPL) over boots of a machine, with ours and with the stock modules in turn; each boot is
one run of this. All that is kept is on the disk: the configuration as targetcli saves it, the registrations as the kernel does.

    reboot.py make           a target, its registrations; then the machine loses its power
    reboot.py check [again]  they are as they were; `again`: one is made anew, and the power is lost"""
import os
import sys
import time
from pathlib import Path

import lio
from test_pr import A, APTPL, B, CLEAR, IGNORE, REGISTER, RESERVE, WRITE, keys, login, out, reservation, say
from test_targetcli import Targetcli, forget

DISK, PLACE = "/dev/vda", Path("/mnt/reboot")
IQN = "iqn.2003-01.org.example:reboot"
SAVED = PLACE / "saved.json"


class Target:
    """As far as a session needs it."""

    iqn, portals = IQN, ("127.0.0.1:3260",)


def mount(new):
    lio.modprobe("ext4")
    if new:
        lio.run("mkfs.ext4", "-q", DISK)
    PLACE.mkdir(exist_ok=True)
    lio.run("mount", DISK, PLACE)
    forget()
    (PLACE / "target/pr").mkdir(parents=True, exist_ok=True)
    for where in ("/etc/target", "/etc/rtslib-fb-target"):  # Debian's name of it
        lio.run("mount", "--bind", PLACE / "target", where)


def lose_power(say):
    """What has not reached the disk by itself is lost."""
    print(say, flush=True)
    time.sleep(2)
    lio.write("/proc/sysrq-trigger", "b")
    time.sleep(60)


def make():
    mount(new=True)
    tpg = f"/iscsi/{IQN}/tpg1"
    Targetcli("targetcli")(
        f"/backstores/fileio create disk {PLACE}/disk.img 16M", f"/iscsi create {IQN}", f"{tpg}/luns create /backstores/fileio/disk",
        f"{tpg}/acls create {A}", f"{tpg}/acls create {B}", f"{tpg} set attribute authentication=0", f"saveconfig {SAVED}")
    os.sync()
    a, b = login(Target, A), login(Target, B)
    assert [out(c, REGISTER, 0, key, flags=APTPL) for c, key in ((a, 0xA), (b, 0xB))] == ["good"] * 2
    # What does not persist any more, and does again.
    assert [out(b, IGNORE, 0, 0xB1), out(b, IGNORE, 0, 0xB, flags=APTPL)] == ["good"] * 2
    assert out(a, RESERVE, 0xA, kind=1) == "good"
    lose_power("made")


def check(again):
    mount(new=False)
    said = lio.run("targetcli", input=f"restoreconfig {SAVED}\nexit\n", timeout=300).stdout
    # The stock modules have not all of our attributes.
    wrong = [line for line in said.splitlines() if "Storage Object" in line and not line.endswith(", skipped")]
    assert "Configuration restored" in said and not wrong and "Traceback" not in said, said
    a, b = login(Target, A), login(Target, B)
    assert keys(a)[1] == [0xA, 0xB] and reservation(b) == (0xA, 1)
    assert say(b.scsi(WRITE, write=bytes(4096))) == "conflict" and say(a.scsi(WRITE, write=bytes(4096))) == "good"
    if again:
        assert out(b, REGISTER, 0xB, 0xB2, flags=APTPL) == "good" and out(b, REGISTER, 0xB2, 0xB, flags=APTPL) == "good"
        lose_power("checked")
    assert out(a, CLEAR, 0xA) == "good" and keys(a)[1] == []
    a.close()
    b.close()
    lio.clear()
    print("checked")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make()
    else:
        check(sys.argv[2:] == ["again"])
