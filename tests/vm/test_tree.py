"""The tree's own rules: what can be made, written and removed, when, and with which errno. The stock modules keep most
of them; what is marked OURS is ours alone."""
# group: trees
import errno
import os
import subprocess
import threading

import lio
import pytest
from lio import CORE, CFS, read, refused, write

OURS = pytest.mark.skipif(lio.STOCK, reason="not what the stock modules do")
EINVAL, EBUSY, EEXIST, ENODEV = errno.EINVAL, errno.EBUSY, errno.EEXIST, errno.ENODEV
EOPNOTSUPP, EOVERFLOW, EFBIG, ENOTEMPTY, EPERM = (
    errno.EOPNOTSUPP, errno.EOVERFLOW, errno.EFBIG, errno.ENOTEMPTY, errno.EPERM)


def test_dbroot():
    lio.modprobe("target_core_mod")
    os.makedirs("/tmp/dbroot", exist_ok=True)
    before = read(CFS / "dbroot")
    write(CFS / "dbroot", "/tmp/dbroot")
    assert read(CFS / "dbroot") == "/tmp/dbroot"
    with refused():
        write(CFS / "dbroot", "/tmp/nothing there")
    with refused():
        write(CFS / "dbroot", "/etc/passwd")
    write(CFS / "dbroot", before)
    rd = lio.ramdisk()
    with refused(EINVAL):
        write(CFS / "dbroot", "/tmp/dbroot")
    rd.delete()
    write(CFS / "dbroot", before)


@OURS
def test_names_that_are_refused(klog):
    lio.modprobe("target_core_mod")
    for name in ["fileio", "nothing_0", "fileio_x", "fileio_", "_0", "x" * 200]:
        with refused():
            (CORE / name).mkdir()
    with refused():
        (CFS / "nothing").mkdir()
    rd = lio.ramdisk()
    tpg = lio.Tpg("loopback", "naa.5001405000000001")
    for name in ["tpgt_", "tpgt_x", "tpgt_70000", "tpgt_-1", "tpg_1"]:
        with refused():
            (tpg.wwn_path / name).mkdir()
    for name in ["lun_", "lun_x", "lun_65536", "lun_-1", "x"]:
        with refused():
            (tpg.path / "lun" / name).mkdir()
    with refused():
        (rd.path / "x").mkdir()
    with refused():
        (rd.path / "attrib/x").mkdir()


def test_modules_are_loaded_and_pinned():
    lio.modprobe("target_core_mod")
    for directory, module in [("core/fileio_5", "target_core_file"), ("core/iblock_5", "target_core_iblock"),
                              ("loopback", "tcm_loop"), ("iscsi", "iscsi_target_mod")]:
        (CFS / directory).mkdir()
        assert module in lio.loaded()
        assert lio.run("rmmod", module, check=False).returncode
        (CFS / directory).rmdir()
        lio.run("rmmod", module)


def test_enable(klog):
    lio.modprobe("target_core_mod")
    rd = lio.ramdisk(enable=False)
    assert read(rd.path / "enable") == "0"
    tpg = lio.Tpg("loopback", "naa.5001405000000001")
    with refused(ENODEV):
        tpg.lun(rd)
    with refused(EINVAL):
        write(rd.path / "enable", 0)
    write(rd.path / "enable", 1)
    with refused(EEXIST):
        write(rd.path / "enable", 1)
    with refused():
        write(rd.path / "enable", "x")
    assert read(rd.path / "enable") == "1"


def test_links():
    rd, rd2 = lio.ramdisk(), lio.ramdisk("rd1")
    tpg = lio.Tpg("loopback", "naa.5001405000000001")
    lun = tpg.lun(rd)
    assert "ACTIVATED" in rd.info and "DEACTIVATED" not in rd.info
    with refused(EEXIST):
        (lun / "second").symlink_to(rd2.path)
    with refused(EBUSY):
        rd.path.rmdir()
    with refused(ENOTEMPTY):
        lun.rmdir()
    other = tpg.path / "lun/lun_1"
    other.mkdir()
    for bad in [rd.path / "attrib", rd.path.parent, CORE, tpg.path, lun]:
        with refused():
            (other / "bad").symlink_to(bad)
    with refused(EPERM, EINVAL):
        (rd.path / "bad").symlink_to(rd2.path)
    with refused(ENODEV):
        read(other / "alua_tg_pt_gp")
    assert read(lun / "alua_tg_pt_gp").split("\n")[0] == "TG Port Alias: default_tg_pt_gp"
    (lun / "store").unlink()
    assert "DEACTIVATED" in rd.info
    (lun / "again").symlink_to(rd2.path)
    assert read(rd2.path / "alua/default_tg_pt_gp/members").rstrip("\0\n") == "loopback/naa.5001405000000001/tpgt_1/lun_0"


ANY_TIME = ["emulate_fua_write", "emulate_caw", "emulate_rsoc", "is_nonrot"]
NUMBERS = ["max_unmap_lba_count", "max_unmap_block_desc_count", "max_write_same_len", "unmap_granularity",
           "unmap_granularity_alignment"]
IDLE = {"emulate_tas": (0, 1), "emulate_ua_intlck_ctrl": (2, 0), "block_size": (4096, 512), "optimal_sectors": (64, 128),
        "queue_depth": (32, 128), "emulate_model_alias": (1, 0), "unmap_zeroes_data": (1, 0)}


def test_attributes():
    lio.modprobe("target_core_file")
    f = lio.fileio()
    loop = lio.Tpg("loopback", "naa.5001405000000001")
    for name in ANY_TIME:
        for value in ("0", "1", "0"):
            f.attrib(name, value)
            assert f.attrib(name) == value
        with refused(EINVAL):
            f.attrib(name, "x")
    for name in NUMBERS:
        f.attrib(name, "0x123")
        assert f.attrib(name) == "291"
        with refused(errno.ERANGE):
            f.attrib(name, str(1 << 32))
        for bad in ("-1", "1x", "", "99999999999999999999999"):
            with refused():
                f.attrib(name, bad)
    for bad in (0, 511, 8192, 1 << 31):
        with refused():
            f.attrib("block_size", bad)
    with refused(EINVAL):
        f.attrib("optimal_sectors", 1 << 20)
    with refused(EINVAL):
        f.attrib("queue_depth", 0)
    with refused(EINVAL):
        f.attrib("queue_depth", 1 << 20)
    with refused():
        f.attrib("emulate_ua_intlck_ctrl", 3)
    for name, (a, b) in IDLE.items():
        f.attrib(name, a)
        assert f.attrib(name) == str(a), name
    assert read(f.path / "wwn/product_id") == f.name
    loop.lun(f)
    for name, (a, b) in IDLE.items():
        with refused(EINVAL):
            f.attrib(name, b)
        assert f.attrib(name) == str(a), name
    loop.remove_lun()
    for name, (a, b) in IDLE.items():
        f.attrib(name, b)
    assert read(f.path / "wwn/product_id") == "FILEIO"


def test_every_value_can_be_written_back():
    """What a saved configuration does, also while the device is exported."""
    lio.modprobe("target_core_file", "target_core_iblock")
    loop = lio.Tpg("loopback", "naa.5001405000000001")
    for n, b in enumerate([lio.ramdisk(), lio.fileio(), lio.iblock()]):
        for exported in (False, True) if not lio.STOCK else (False,):
            if exported:
                loop.lun(b, n)
            for path in sorted((b.path / "attrib").iterdir()):
                if os.stat(path).st_mode & 0o200:
                    write(path, read(path))
        for path in (b.path / "alua/default_tg_pt_gp").iterdir() if not lio.STOCK else ():
            value = read(path)
            if os.stat(path).st_mode & 0o200 and value.isdigit():
                write(path, value)


@OURS
def test_what_is_not_implemented_is_refused(klog):
    rd = lio.ramdisk()
    with refused(errno.ENOSYS):
        rd.attrib("alua_support", 0)  # as with the stock modules
    for name in ["pgr_support"]:
        with refused(EOPNOTSUPP):
            rd.attrib(name, 0)
        assert rd.attrib(name) == "1"
    for name in ["complete_type", "submit_type"]:
        with refused(EOPNOTSUPP):
            rd.attrib(name, 1)
        assert rd.attrib(name) == "0"
    with refused(EINVAL):
        write(rd.path / "pr/res_aptpl_metadata", "PR_REG_START: 0")
    assert klog.has(r"core/rd_mcp_0/rd0/attrib/pgr_support: ")


def test_names_of_the_device():
    rd = lio.ramdisk()
    wwn = rd.path / "wwn"
    for name, most in [("vendor_id", 8), ("product_id", 16), ("revision", 4)]:
        write(wwn / name, "y" * most)
        assert read(wwn / name) == "y" * most
        with refused(EOVERFLOW):
            write(wwn / name, "y" * (most + 1))
        with refused(EINVAL):
            write(wwn / name, b"a\x01b")
    write(wwn / "company_id", "0x123456")
    assert read(wwn / "company_id") == "0x123456"
    with refused(EOVERFLOW):
        write(wwn / "company_id", "0x1000000")
    write(wwn / "vpd_unit_serial", "x" * 252)
    assert read(wwn / "vpd_unit_serial") == "T10 VPD Unit Serial Number: " + "x" * 252
    with refused(EOVERFLOW, EFBIG):
        write(wwn / "vpd_unit_serial", "x" * 254)
    loop = lio.Tpg("loopback", "naa.5001405000000001")
    loop.lun(rd)
    for name in ["vendor_id", "product_id", "revision", "vpd_unit_serial"]:
        with refused(EINVAL):
            write(wwn / name, "z")
    with refused(EINVAL):
        write(wwn / "company_id", 1)


@OURS  # The stock modules oops here.
def test_hostile_writes():
    """No file takes harm from lengths and bytes that make no sense."""
    rd = lio.ramdisk()
    loop = lio.Tpg("loopback", "naa.5001405000000001")
    loop.lun(rd)
    values = [b"\0", b"\0" * 100, b"a\0b", b"\xff\xfe", b"9" * 4000, b"x" * 4096, b"\n", b" " * 4000, b"-", b"0x", b"+-1",
              b"%s%n%p", b"," * 4000, b"=" * 4000, b"rd_pages=-1", b"rd_pages=99999999999999999999"]
    for top in (rd.path, loop.path):
        for directory, _, files in os.walk(top):
            for name in files:
                path = os.path.join(directory, name)
                if os.path.islink(path) or not os.stat(path).st_mode & 0o200 or name in ("nexus", "transport_status"):
                    continue
                for value in values:
                    try:
                        write(path, value)
                    except OSError as e:
                        assert e.errno in (EINVAL, EOPNOTSUPP, EOVERFLOW, EFBIG, EEXIST, ENODEV, errno.ERANGE, EBUSY,
                                           errno.ENOSYS), path
    assert read(rd.path / "enable") == "1"


def test_acls():
    rd, rd2 = lio.ramdisk(), lio.ramdisk("rd1")
    t, t2 = lio.IscsiTarget(rd, rd2), lio.IscsiTarget(rd, iqn="iqn.2003-01.org.example:t2", portals=("127.0.0.1:3261",))
    acl = t.acl("iqn.2003-01.org.example:i", luns=(0,), write_protect=(0,))
    assert read(acl / "lun_0/write_protect") == "1"
    assert read(acl / "tag") == ""
    write(acl / "tag", "name")
    assert read(acl / "tag") == "name"
    write(acl / "tag", "NULL")
    assert read(acl / "tag") == ""
    with refused():
        write(acl / "lun_0/write_protect", 2)
    other = acl / "lun_1"
    other.mkdir()
    for bad in [t2.path / "lun/lun_0", rd.path, t.path / "lun", t.path]:
        with refused():
            (other / "x").symlink_to(bad)
    (t.path / "lun/lun_5").mkdir()
    with refused(EINVAL):
        (other / "x").symlink_to(t.path / "lun/lun_5")
    with refused(EBUSY, ENOTEMPTY):
        (t.path / "lun/lun_0").rmdir()
    # The LUN loses its device under the mapping, and gets another one.
    (t.path / "lun/lun_0/store").unlink()
    if not lio.STOCK:
        assert read(acl / "lun_0/write_protect") == ""
        with refused(ENODEV):
            read(acl / "lun_0/statistics/scsi_auth_intr/num_cmds")
    (t.path / "lun/lun_0/store").symlink_to(rd2.path)
    (acl / "lun_0/lun").unlink()
    (acl / "lun_0/lun").symlink_to(t.path / "lun/lun_0")
    assert read(acl / "lun_0/write_protect") == "0"


def test_relative_target_port_identifiers():
    rd = lio.ramdisk()
    a = lio.IscsiTarget(rd)
    b = lio.IscsiTarget(rd, iqn="iqn.2003-01.org.example:t2", portals=("127.0.0.1:3261",), enable=False)
    assert read(a.path / "rtpi") == "0x1"
    assert read(b.path / "rtpi") in ("0", "0x0")
    with refused(EINVAL):
        write(a.path / "rtpi", 7)
    for bad in (0, 65536, "x"):
        with refused():
            write(b.path / "rtpi", bad)
    write(b.path / "rtpi", 1)
    with refused(EINVAL):
        b.enable()
    write(b.path / "rtpi", 9)
    b.enable()
    assert read(b.path / "rtpi") == "0x9"
    a.enable(False)
    b.enable(False)
    a.enable()
    assert read(a.path / "rtpi") == "0x1"


@OURS  # The stock modules warn here.
def test_made_and_removed_at_the_same_time():
    """Readers, writers and links beside mkdir and rmdir of the same directories."""
    lio.modprobe("target_core_mod")
    rd = lio.ramdisk("fixed")
    tpg = lio.Tpg("loopback", "naa.5001405000000001")
    stop = threading.Event()
    seen = []

    def look():
        while not stop.is_set():
            subprocess.run(["sh", "-c", f"cat {CORE}/rd_mcp_1/*/* {CORE}/rd_mcp_1/*/*/* {tpg.path}/lun/*/* "
                            f"{CORE}/rd_mcp_0/*/alua/*/members 2>/dev/null"], stdout=subprocess.DEVNULL)

    def touch():
        while not stop.is_set():
            for name, value in [("rd_mcp_1/x/attrib/emulate_tas", "1"), ("rd_mcp_1/x/alias", "a"), ("rd_mcp_1/x/enable", "1"),
                                ("rd_mcp_1/x/wwn/vendor_id", "v")]:
                try:
                    write(CORE / name, value)
                except OSError as e:
                    seen.append(e.errno)

    threads = [threading.Thread(target=f) for f in (look, touch)]
    for t in threads:
        t.start()
    try:
        for n in range(60):
            d = CORE / "rd_mcp_1/x"
            d.mkdir(parents=True)
            lio.wait_for(lambda: not write(d / "control", "rd_pages=16") or True)
            lun = tpg.path / "lun/lun_3"
            lun.mkdir()
            try:
                write(d / "enable", 1)
            except OSError as e:
                assert e.errno == EEXIST  # the other one was faster
            (lun / "a").symlink_to(d if n % 2 else rd.path)
            (lun / "a").unlink()
            lun.rmdir()
            d.rmdir()
            d.parent.rmdir()
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert set(seen) <= {errno.ENOENT, EEXIST, EINVAL, ENODEV}


@OURS
def test_a_file_that_stays_open(tmp_path):
    """A removed device is closed at once, whoever has a file of its directory open."""
    lio.run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    try:
        f = lio.fileio(file=f"{tmp_path}/disk.img")
        assert lio.run("umount", tmp_path, check=False).returncode
        with open(f.path / "info") as info:
            f.delete()
            with refused(errno.ENOENT):
                info.read()
            lio.run("umount", tmp_path)
    finally:
        lio.run("umount", tmp_path, check=False)
