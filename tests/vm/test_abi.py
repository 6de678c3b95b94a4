"""The configfs tree, its modes, its default values and the SCSI answers are those of the stock modules (tests/abi/)."""
import contextlib
import os
import re
import stat

import lio
import pytest

ABI = lio.TOP / "tests/abi"
SUBTREES = ["core/alua", "core/fileio_0", "core/iblock_0", "core/rd_mcp_0", "iscsi", "loopback"]
SERIAL = "11111111-2222-3333-4444-555555555555"
# Values that tell of this run, of this machine or of what else was there when the reference was made.
VARIES = re.compile(
    r"/statistics/.*/(inst|indx|dev_indx|creation_time|resets|last_.*time|hw_name|dev|port|tgt_port)$|"
    r"/(address|cpus_allowed_list|lio_version|version|hba_info)$|"
    r"/statistics/.*/(num_cmds|in_cmds|read_mbytes|write_mbytes|hs_num_cmds)$|"
    r"/fabric_statistics/.*/inst$|/scsi_att_intr_port/port_auth_indx$|/statistics/scsi_port/role$|/alua/default_lu_gp/members$|"
    # The stock module shows an address that it never had as "(einval)".
    r"/iscsi_tgt_attr/fail_intr_addr$|"
    # The reference's iblock was exported by vhost and sbp.
    r"iblock_0/.*/(default_tg_pt_gp/members|scsi_dev/ports|scsi_lu/status|scsi_tgt_dev/(status|non_access_lus))$"
)


# What the stock modules do not have.
NEW = re.compile(r"/lun_\d+/(limits|latency)$|/attrib/(emulate_sanitize|emulate_write_(long|same_all)|removable|login_redirect)$|"
                 r"/tpgt_\d+/(sessions|attrib/(dscp|tcp_\w+|max_sessions\w*|allowed_addresses|async_\w+))$|/acls/[^/]+/attrib/allowed_addresses$")


def populate():
    """The same objects as those that the reference was made from, as far as they are of these subtrees."""
    lio.modprobe("loop")
    with open("/tmp/loop7.img", "wb") as f:
        f.truncate(32 << 20)
    lio.run("losetup", "/dev/loop7", "/tmp/loop7.img")
    lio.modprobe("target_core_mod")
    rd = lio.ramdisk("rd0", 4096 * 4096, serial=None)
    file = lio.fileio("f0", 33554432, file="/tmp/fileio.img")
    block = lio.iblock("b0", "/dev/loop7")
    for b in (rd, file, block):
        lio.write(b.path / "wwn/vpd_unit_serial", SERIAL)
    t = lio.ISCSI / "iqn.2003-01.org.x:t1"
    (t / "tpgt_1/np/0.0.0.0:3260").mkdir(parents=True) if lio.ISCSI.exists() else make_iscsi(t)
    (t / "tpgt_1/lun/lun_0").mkdir()
    (t / "tpgt_1/acls/iqn.i1").mkdir()
    (t / "tpgt_1/acls/iqn.i1/lun_0").mkdir()
    (t / "tpgt_1/lun/lun_0/x0").symlink_to(rd.path)
    (t / "tpgt_1/acls/iqn.i1/lun_0/y0").symlink_to(t / "tpgt_1/lun/lun_0")
    lio.write(t / "tpgt_1/enable", 1)
    loop = lio.Loopback()
    (loop.path / "lun/lun_0").mkdir()
    (loop.path / "lun/lun_0/x0").symlink_to(file.path)
    return loop


def make_iscsi(t):
    lio.ISCSI.mkdir()
    t.mkdir()
    (t / "tpgt_1").mkdir()
    (t / "tpgt_1/np/0.0.0.0:3260").mkdir()


@pytest.fixture(scope="module")
def built():
    """The populated tree: (modes and links by path, values by path, the loopback disk)."""
    disk = populate().disk()
    tree, values = {}, {}
    for path in lio.CFS.rglob("*"):
        name, mode = str(path.relative_to(lio.CFS)), path.lstat().st_mode
        tree[name] = (stat.filemode(mode), os.readlink(path) if path.is_symlink() else "")
        if stat.S_ISREG(mode) and mode & stat.S_IRUSR:
            values[name] = ""
            with contextlib.suppress(OSError):  # some cannot be read in some states
                values[name] = path.read_bytes().replace(b"\0", b"").decode(errors="replace").strip("\n")
    yield tree, values, disk
    lio.clear()


# The tree is made once for all tests here.
@pytest.fixture(autouse=True)
def tidy():
    yield


def parse_tree(text):
    result = {}
    for line in text.splitlines():
        mode, path = line.split(" ", 1)
        path, _, link = path.partition(" -> ")
        result[path.removeprefix("./").rstrip("/")] = (mode, link)
    return result


def parse_values(text):
    parts = re.split(r"^==> \./(.*) <==\n", text, flags=re.M)
    return {path: value.strip("\n") for path, value in zip(parts[1::2], parts[2::2])}


def below(mapping, subtree):
    return {p: v for p, v in mapping.items() if p == subtree or p.startswith(subtree + "/")}


@pytest.mark.parametrize("subtree", SUBTREES)
def test_tree(built, subtree):
    want = below(parse_tree((ABI / "tree.txt").read_text()), subtree)
    got = below(built[0], subtree)
    missing, extra = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
    differ = [f"{p}: {got[p]}, not {want[p]}" for p in sorted(want.keys() & got.keys()) if got[p] != want[p]]
    assert not missing, f"{len(missing)} missing: {missing[:20]}"
    assert not differ, differ[:20]
    assert not [p for p in extra if not NEW.search(p)], extra[:20]


@pytest.mark.parametrize("subtree", SUBTREES)
def test_values(built, subtree):
    want = below(parse_values((ABI / "values.txt").read_text()), subtree)
    got = below(built[1], subtree)
    info = "core/iblock_0/b0/info"
    if info in want:
        want[info] = want[info].replace(" ACTIVATED", " DEACTIVATED")
    differ = [f"{p}: {got.get(p)!r}, not {want[p]!r}" for p in sorted(want) if got.get(p) != want[p] and not VARIES.search(p)]
    assert not differ, f"{len(differ)} differ:\n" + "\n".join(differ[:40])


def test_files_of_the_root(built):
    top = {p for p in built[0] if "/" not in p}
    assert {"core", "iscsi", "loopback", "version"} <= top


def hexdump(text):
    return bytes(int(x, 16) for line in text.splitlines() for x in line.split())


def reference(section):
    text = (ABI / "scsi-pages.txt").read_text()
    return re.search(rf"^== {re.escape(section)}\n(.*?)(?=^== |\Z)", text, re.M | re.S)[1]


def inquiry(disk, page):
    """The page whole, the length that it says itself."""
    cdb = bytes([0x12, 0 if page is None else 1, page or 0, 0xFF, 0, 0])
    data, _, status = lio.sg_raw(disk, cdb, 0xFF00)
    assert status == 0
    return data


@pytest.mark.parametrize("page", [None, 0x00, 0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2])
def test_inquiry(built, page):
    want = hexdump(reference("standard INQUIRY" if page is None else f"VPD page {page:#x}"))
    got = inquiry(built[2], page)
    if not lio.STOCK and page == 0x00:
        # Pages 87h, 88h, 8Fh and B7h, which the stock modules do not have.
        assert got == b"\0\0\0\x0c\0" + want[5:8] + b"\x87\x88\x8f" + want[8:] + b"\xb7"
        return
    if not lio.STOCK and page == 0x86:
        # UASK_SUP, as the overflow of unit attentions is told; GROUP_SUP, as groups have their log pages; RTD_SUP, as MODE SELECT has RTD.
        want = want[:5] + b"\x37" + want[6:8] + b"\x08" + want[9:]
    assert got.hex(" ")[: len(want) * 3 - 1] == want.hex(" ")


def test_read_capacity_16(built):
    data, _, status = lio.sg_raw(built[2], "9e 10 00 00 00 00 00 00 00 00 00 00 00 20 00 00", 32)
    assert status == 0
    assert data.hex(" ", 4).startswith("00000000 0000ffff 00000200 00000000")


def test_report_luns(built):
    data, _, status = lio.sg_raw(built[2], "a0 00 00 00 00 00 00 00 01 00 00 00", 256)
    assert (status, data.hex()) == (0, "00000008" + "00000000" + "00" * 8)


def test_mode_sense_10(built):
    """Every page's bytes; the reference is sg_modes' output."""
    want = [hexdump("\n".join(re.sub(r"^ ?[0-9a-f]+ {4,5}", "", row)[:49] for row in rows.splitlines()))
            for rows in re.findall(r"page_control: current\n((?: .*\n?)+)", reference("mode pages"))]
    data, _, status = lio.sg_raw(built[2], "5a 00 3f 00 00 00 00 00 ff 00", 255)
    assert status == 0
    # NUMBER OF LOGICAL BLOCKS is that (SBC-3, 6.5.2.2): the stock modules have the address of the last block there, which an
    # initiator that sends the descriptor back by MODE SELECT would ask to become the capacity.
    blocks = "00 00 ff ff" if lio.STOCK else "00 01 00 00"
    assert data[:16].hex(" ") == f"00 46 00 00 00 00 00 08 {blocks} 00 00 02 00"
    if not lio.STOCK:
        # PS: these pages can be saved, which the stock modules cannot.
        want = [bytes([page[0] | 0x80]) + page[1:] for page in want]
    assert data[16:].hex(" ") == b"".join(want).hex(" ")


# SET TARGET PORT GROUPS: the standard's own refusal, until they are done.
LATER = {"a4"} if not lio.STOCK else set()


def test_supported_opcodes(built):
    """What is in the reference and is this version's to answer is there with the same size."""
    out = lio.run("sg_opcodes", "-n", built[2]).stdout
    rows = r"^ ([0-9a-f]{2}) +([0-9a-f]+ )? +(\d+) +\d,\d"
    want = set(re.findall(rows, reference("supported operation codes"), re.M))
    got = set(re.findall(rows, out, re.M))
    assert {w for w in want - got if w[0] not in LATER and w[:2] != ("a3", "5 ")} == set()
