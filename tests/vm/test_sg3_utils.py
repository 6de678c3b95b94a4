"""sg3_utils, each tool that speaks to a disk and that no other test runs: what an administrator sees of it. (test_primary has those about
parameters and buffers, test_blocks those about blocks, test_alua those about groups.)"""
import os
import re
from pathlib import Path

import lio
import pytest
import sgio
import storage

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have no log pages, and refuse otherwise")
SIZE = 16 << 20
INVALID_OPCODE, ILLEGAL_REQUEST, BAD_LIST = 9, 5, 19


@pytest.fixture
def disk():
    store = lio.fileio(size=SIZE, serial="11111111-2222-3333-4444-555555555555")
    for name in ("emulate_tpu", "emulate_tpws", "removable"):
        store.attrib(name, 1)
    return lio.Loopback(store).disk()


def tool(*cmd, status=0):
    p = lio.run(*cmd, check=False)
    assert p.returncode == status, f"{cmd}: {p.returncode}\n{p.stdout}"
    return p.stdout


def ready(disk):
    """What TEST UNIT READY says. (sg_turs of 1.48 says that there is no error, and sends nothing.)"""
    with sgio.Disk(disk) as d:
        return sgio.say(d.scsi(bytes(6)).sense)


def test_what_they_say(disk, tmp_path):
    out = tool("sg_inq", disk)
    assert re.search(r"PQual=0 +PDT=0 +RMB=1", out) and "version=0x06  [SPC-4]" in out and "CmdQue=1" in out
    for row in ("Vendor identification: LIO-ORG", "Product identification: FILEIO", "Product revision level: 4.0"):
        assert row in out
    assert "11111111-2222" in tool("sg_inq", "-p", "sn", disk)
    assert "Lun list length = 8 which implies 1 lun entry" in tool("sg_luns", disk)
    tool("sg_turs", "-n", "3", disk)
    out = tool("sg_readcap", "-l", disk)
    for row in ("prot_en=0", "lbpme=1, lbprz=0", "Number of logical blocks=32768", "Logical block length=512 bytes"):
        assert row in out
    assert tool("sg_readcap", "-b", disk).split() == ["0x8000", "0x200"]
    tool("sg_sync", disk)
    tool("sg_sync", "--16", "--lba=8", "--count=8", disk)
    assert "Invalid" not in tool("sg_prevent", "--prevent=1", disk)
    assert lio.run("sg_start", "--eject", disk, check=False).returncode == ILLEGAL_REQUEST
    tool("sg_prevent", "--allow", disk)
    # READ and COMPARE AND WRITE, and what has changed then.
    before, after = bytes(512), b"\x5a" * 512
    pair = tmp_path / "pair"
    pair.write_bytes(before + after)
    tool("sg_compare_and_write", "-i", pair, "-x", "1024", "-n", "1", "-l", "8", disk)
    assert tool("sg_compare_and_write", "-i", pair, "-x", "1024", "-n", "1", "-l", "8", disk, status=14)
    tool("sg_dd", f"if={disk}", f"of={tmp_path}/out", "bs=512", "skip=7", "count=3", "blk_sgio=1")
    assert (tmp_path / "out").read_bytes() == before + after + before
    assert "64+0 records in, SCSI READ commands issued: 1" in tool("sg_read", f"if={disk}", "bs=512", "count=64", "blk_sgio=1")
    assert "buffer capacity=65536" in tool("sg_rbuf", "--quick", "--size=1", disk)
    assert "Descriptor format" in tool("sg_requests", "-d", disk)
    assert "Command is supported [conforming to SCSI standard]" in tool("sg_opcodes", "-o", "0x4c", disk)
    assert "Command is NOT supported" in tool("sg_opcodes", "-o", "0xa2", disk)


def test_lists_and_old_tools(disk):
    """Those that find disks, those of older names, and the scripts."""
    sg = storage.generic(disk)
    assert re.search(rf"^{sg} .*{disk}$", tool("sg_map", "-x"), re.M)
    assert tool("sg_map26", sg).split()[0] == disk
    assert re.search(r"LIO-ORG +FILEIO", tool("sg_scan", "-i"))
    assert re.search(r"Vendor: +LIO-ORG", tool("sginfo", sg))
    assert "64+0 records out" in tool("sgp_dd", f"if={sg}", "of=/dev/null", "bs=512", "count=64")
    assert "64+0 records in" in tool("sgm_dd", f"if={sg}", "of=/dev/null", "bs=512", "count=64")
    tool("scsi_mandat", "-q", disk)
    assert "Number of logical blocks=32768" in tool("scsi_readcap", disk)
    tool("scsi_ready", disk)
    tool("scsi_stop", disk)
    assert ready(disk) == "2/0402"
    tool("scsi_start", disk)
    assert ready(disk) == ""


# It needs no disk; it wants an --id that it then refuses (1.48).
NO_DISK = {"sg_decode_sense", "sg_ses_microcode"}


def test_no_tool_is_left_out():
    tools = {f for f in os.listdir("/usr/bin") if f.startswith("sg_")}
    assert len(tools) > 60
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    left = tools - NO_DISK - set(re.findall(r"\bsg_\w+", tests))
    assert not left, sorted(left)


@pytest.fixture
def two():
    """Two disks between which something can be copied: their sg nodes and block devices, and what was sent and received through them."""
    port = lio.Loopback(*[make(size=SIZE, serial=f"{n}1111111-2222-3333-4444-555555555555") for n, make in enumerate((lio.fileio, lio.ramdisk))])
    disks = [port.disk(n) for n in range(2)]

    def moved():
        return sum(int(lio.read(f)) for f in port.path.glob("lun/lun_*/statistics/scsi_tgt_port/*_mbytes"))

    return [storage.generic(d) for d in disks], disks, moved


def test_ddpt(two, tmp_path):
    """ODX by ddpt's ddptctl: POPULATE TOKEN, RECEIVE ROD TOKEN INFORMATION, and WRITE USING TOKEN, which another may send later.

    ddpt 0.97, Debian 13's, sends each address and number of blocks a byte too early, so that it is 256 times as large; and `ddpt --odx`,
    which is to do all of it in one go, sends nothing. What it sent is seen by what it says was transferred."""
    (a, b), disks, moved = two
    data = storage.pattern(8 << 20, 5)
    with open(disks[0], "r+b") as f:
        f.write(data)
    for disk in disks:
        lio.run("blockdev", "--flushbufs", disk)
    before, token, bad = moved(), tmp_path / "token", tmp_path / "bad"
    out = tool("ddptctl", "--pt=8,4", f"--rtf={token}", a)
    times = int(re.search(r"transfer count of (\d+)", out)[1]) // 4
    assert times in (1, 256) and token.stat().st_size == 512
    assert "Operation completed without errors" in tool("ddptctl", "--receive", f"--rtf={tmp_path}/again", a)
    said = tool("ddptctl", "--info", f"--rtf={token}")
    assert "ROD type: access upon reference [0x10000]" in said and f"Number of bytes represented: {4 * times * 512} " in said
    assert "Target device descriptor:" in said and "SCSI name string" in said and "unexpected" not in said
    tool("ddptctl", "--wut=16,4", f"--rtf={token}", b)
    assert f"transfer count of {4 * times} " in tool("ddptctl", "--poll", f"--rtf={tmp_path}/none", b)
    assert moved() == before, "the data went through the initiator"
    with open(disks[1], "rb") as f:
        assert f.read(20 * times * 512) == bytes(16 * times * 512) + data[8 * times * 512 : 12 * times * 512]
    # One that nobody made
    bad.write_bytes(token.read_bytes()[:-1] + bytes([token.read_bytes()[-1] ^ 1]))
    refused = lio.run("ddptctl", "--wut=0,4", f"--rtf={bad}", b, check=False)
    assert refused.returncode and "oken" in refused.stdout
    # EXTENDED COPY
    lio.run("blockdev", "--flushbufs", disks[1])
    assert "1 xcopy command done" in tool("ddpt", "--xcopy", f"if={a}", f"of={b}", "bs=512", "count=4096")
    with open(disks[1], "rb") as f:
        assert f.read(4096 * 512) == data[: 4096 * 512]
    said = tool("ddptctl", "--info", a)
    assert "Maximum Token inactivity timeout: 600" in said and "Receive ROD token information" in said


def test_what_they_say_of_provisioning(disk):
    out = tool("sg_logs", "-A", disk)
    for row in ("Logical block provisioning [lbp]", "Scope: not dedicated to lu", "Scope: dedicated to lu"):
        assert row in out
    used = re.search(r"Used LBA mapping resource count: (\d+)", tool("sg_logs", "-p", "0xc", disk))
    assert int(used[1]) <= 1
    assert re.search(r"^ 10 +00 01 00 00 00 00 00 00  01 02 00", tool("sg_modes", "-p", "0x1c,2", disk), re.M)
    assert "Logical block provisioning, page_control: changeable" in tool("sg_modes", "-c", "1", "-p", "0x1c,2", disk)
    out = tool("sg_vpd", "-p", "lbpv", disk)
    assert "LBPU=1" in out and "LBPWS=1" in out


# Command sets of other devices, and what no disk of ours has: refused as SPC-4 says, so that the tool can say so.
REFUSED = {
    "sg_rdac": ILLEGAL_REQUEST,
    "sg_rdac -a": BAD_LIST,
    "sg_emc_trespass": BAD_LIST,
    "sg_safte": ILLEGAL_REQUEST,
    "sg_rep_zones": INVALID_OPCODE,
    "sg_reset_wp -z 0": INVALID_OPCODE,
    "sg_zone -o -z 0": INVALID_OPCODE,
    "sg_z_act_query": INVALID_OPCODE,
    "sg_stream_ctl -g": ILLEGAL_REQUEST,
    "sg_read_attr": INVALID_OPCODE,
    "sg_rmsn": INVALID_OPCODE,
    "sg_rep_density": INVALID_OPCODE,
    "sg_read_block_limits": INVALID_OPCODE,
    "sg_get_elem_status": ILLEGAL_REQUEST,
    "sg_sat_identify": INVALID_OPCODE,
    "sg_sat_phy_event": INVALID_OPCODE,
    "sg_sat_datetime": INVALID_OPCODE,
    "sg_get_config": INVALID_OPCODE,
    "sg_rep_pip": ILLEGAL_REQUEST,
    "sg_seek": INVALID_OPCODE,
    "sg_reassign -a 1": INVALID_OPCODE,
    "sg_rem_rest_elem -q -r -e 1": ILLEGAL_REQUEST,
    "sg_rem_rest_elem -q -R": ILLEGAL_REQUEST,
    "sg_sat_read_gplog": INVALID_OPCODE,
    "sg_sat_set_features -f 2": INVALID_OPCODE,
    "sg_write_attr -i /dev/null": INVALID_OPCODE,
    "sg_bg_ctl": ILLEGAL_REQUEST,
    "sg_read_long -l 0 -x 520": INVALID_OPCODE,
    "sg_read_long -S -l 0 -x 520": ILLEGAL_REQUEST,
}


def test_what_is_no_disks(disk):
    for cmd, status in REFUSED.items():
        out = tool(*cmd.split(), disk, status=status)
        assert re.search("not supported|Illegal request|invalid field|bad field", out), out
    # A disk is no enclosure: it has the one diagnostic page that lists itself, and no other.
    out = tool("sg_ses", disk)
    assert "disk device (not an enclosure)" in out and re.findall(r"\[(0x\w+)\]", out) == ["0x0"]
    tool("sg_ses", "-p", "2", disk, status=ILLEGAL_REQUEST)
    assert ready(disk) == ""
