"""targetcli, Debian 13's and PyPI's: create, list, save, clear, restore and delete, as an administrator does."""
# vm: --timeout 1200
import json
import os
import re
import shutil

import lio
import pytest

IQN = "iqn.2003-01.org.example:cli"
LOOP = "naa.5001405000000021"
TPG = f"/iscsi/{IQN}/tpg1"


class Targetcli:
    """A targetcli; it starts slowly, so that it gets its commands in batches."""

    def __init__(self, program):
        self.program = program

    def __call__(self, *lines):
        p = lio.run(self.program, input="\n".join(lines) + "\nexit\n", check=False, timeout=300)
        bad = p.returncode or re.search(r"traceback|could not|cannot |error", p.stdout, re.I)
        assert not bad, f"{self.program}: {lines}:\n{p.stdout}"
        return p.stdout


def forget():
    """Neither configuration nor preferences of an earlier run."""
    for d in ("/etc/target", "/etc/rtslib-fb-target", "/root/.targetcli"):
        shutil.rmtree(d, ignore_errors=True)
        os.makedirs(d + ("/backup" if d.startswith("/etc") else ""), exist_ok=True)


@pytest.fixture(params=["targetcli", "targetcli-pypi"])
def cli(request):
    forget()
    yield Targetcli(request.param)
    forget()


def build(cli):
    dev = lio.loop_device(16 << 20)
    cli("/backstores/fileio create f0 /tmp/f0.img 32M",
        "/backstores/fileio create f1 /tmp/f1.img 16M write_back=false",
        "/backstores/ramdisk create r0 16M",
        f"/backstores/block create b0 {dev}",
        f"/iscsi create {IQN}",
        f"{TPG}/luns create /backstores/fileio/f0",
        f"{TPG}/luns create /backstores/block/b0",
        f"{TPG}/acls create {lio.initiator_name()}",
        f"/loopback create {LOOP}",
        f"/loopback/{LOOP}/luns create /backstores/ramdisk/r0")


def saved(path):
    with open(path) as f:
        return json.load(f)


def check_all_there(ls):
    for part in ("f0", "f1", "r0", "b0", IQN, LOOP, "mapped_lun0", "mapped_lun1", ":3260"):
        assert part in ls


def test_create_save_clear_restore(cli):
    """And an initiator gets its disk from what was restored."""
    build(cli)
    check_all_there(cli("ls", "saveconfig /tmp/saved.json"))
    before = saved("/tmp/saved.json")
    assert {s["name"] for s in before["storage_objects"]} == {"f0", "f1", "r0", "b0"}
    cli("clearconfig confirm=True")
    assert not [d for d in lio.dirs(lio.CORE) if d.name != "alua"]
    check_all_there(cli("restoreconfig /tmp/saved.json", "ls", "saveconfig /tmp/again.json"))
    assert saved("/tmp/again.json") == before
    lio.start_iscsid()
    assert ("127.0.0.1:3260", IQN) in lio.discover()
    lio.run("iscsiadm", "-m", "node", "-T", IQN, "-p", "127.0.0.1:3260", "--login", timeout=90)
    host = lio.wait_for(lambda: lio.session_host(IQN), 30)
    disk = lio.wait_for(lambda: lio.scsi_disk(f"{host}:0:0:0"), 30)
    assert lio.blocks(disk) == 32 << 20
    lio.logout()


def test_set_and_delete_one_by_one(cli):
    build(cli)
    cli("/backstores/fileio/f0 set attribute emulate_tpu=1",
        f"{TPG} set attribute generate_node_acls=1 demo_mode_write_protect=0",
        f"{TPG} set parameter MaxBurstLength=65536",
        "/backstores/ramdisk/r0 info")
    assert lio.read(lio.CORE / "fileio_0/f0/attrib/emulate_tpu") == "1"
    assert lio.read(lio.ISCSI / IQN / "tpgt_1/attrib/generate_node_acls") == "1"
    assert lio.read(lio.ISCSI / IQN / "tpgt_1/param/MaxBurstLength") == "65536"
    cli(f"{TPG}/acls delete {lio.initiator_name()}", f"{TPG}/luns delete lun1", "/backstores/block delete b0",
        f"/iscsi delete {IQN}", f"/loopback delete {LOOP}",
        "/backstores/fileio delete f0", "/backstores/fileio delete f1", "/backstores/ramdisk delete r0")
    assert not [d for d in lio.dirs(lio.CORE) if d.name != "alua"]


def test_the_newer_one_restores_what_the_older_one_saved():
    """(The other way round, Debian's rtslib does not know PyPI's attributes of block devices.)"""
    forget()
    build(Targetcli("targetcli"))
    Targetcli("targetcli")("saveconfig /tmp/saved.json", "clearconfig confirm=True")
    check_all_there(Targetcli("targetcli-pypi")("restoreconfig /tmp/saved.json", "ls", "clearconfig confirm=True"))
