"""What the VM tests share: configfs objects, initiators, disks. Everything is plain files and commands, as an
administrator would do it, so that each test runs on the C modules as well."""
import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

CFS = Path("/sys/kernel/config/target")
STOCK = bool(os.environ.get("STOCK"))
# The debug kernels are several times as slow, and PREEMPT_RT is slower: each bound on time is this many times as long there.
SLOW = 6 if re.search("-lio-(debug|kcsan)$", os.uname().release) else 2 if "-rt-" in os.uname().release else 1
CORE, ISCSI, LOOPBACK = CFS / "core", CFS / "iscsi", CFS / "loopback"
TOP = Path(__file__).resolve().parents[2]
MODULES = ["tcm_loop", "iscsi_target_mod", "target_core_iblock", "target_core_file", "target_core_pscsi",
           "target_core_user", "target_core_mod"]


def run(*cmd, check=True, timeout=120, input=None):
    """Runs a command; gives its CompletedProcess with stdout and stderr as one text."""
    p = subprocess.run([str(c) for c in cmd], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=timeout * SLOW, input=input, stdin=None if input is not None else subprocess.DEVNULL,
                       errors="replace")
    if check and p.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, cmd))}: exit status {p.returncode}\n{p.stdout}")
    return p


def read(path):
    return Path(path).read_text().rstrip("\n")


def write(path, value):
    """One write(2), as echo does it."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value if isinstance(value, bytes) else f"{value}\n".encode())
    finally:
        os.close(fd)


@contextlib.contextmanager
def refused(*errnos):
    """The block must fail with an OSError, of one of these errno values if any are given."""
    try:
        yield
    except OSError as e:
        assert not errnos or e.errno in errnos, f"errno {errno.errorcode.get(e.errno, e.errno)}: {e}"
    else:
        raise AssertionError("was not refused")


def wait_for(what, timeout=15, interval=0.05):
    """Calls `what` until it gives something true, and gives that."""
    waited, before = 0, time.monotonic()
    while True:
        value = what()
        if value:
            return value
        if waited > timeout * SLOW:
            raise AssertionError(f"timed out after {timeout * SLOW} s: {getattr(what, '__doc__', None) or what}")
        time.sleep(interval)
        # While the whole machine stands still, what is waited for cannot come either: that counts for little.
        now = time.monotonic()
        waited, before = waited + min(now - before, 2), now


def pause(seconds):
    """Gives others so much time: by many short sleeps, of which a machine that stands still for a while takes one or two."""
    for _ in range(10):
        time.sleep(seconds / 10)


def modprobe(*names):
    for n in names:
        run("modprobe", n)


def load_stock(*names):
    """The kernel's own modules of drivers/target, in this order, while none of ours is loaded."""
    for name in names:
        path, = Path(f"/lib/modules/{os.uname().release}/kernel/drivers/target").glob(f"{name}.ko*")
        depends = run("modinfo", "-F", "depends", path).stdout.strip().split(",")
        modprobe(*[d for d in depends if d and d != "target_core_mod"])
        run("insmod", path)


def loaded():
    with open("/proc/modules") as f:
        return {line.split()[0] for line in f}


def module_refs(name):
    return int(read(f"/sys/module/{name}/refcnt"))


# --- back ends ---------------------------------------------------------------------------------------------


class Backstore:
    """core/PLUGIN_N/NAME."""

    def __init__(self, plugin, name, control=(), hba=0, enable=True, serial=None):
        modprobe("target_core_mod")
        self.plugin, self.name = plugin, name
        self.path = CORE / f"{plugin}_{hba}" / name
        self.path.mkdir(parents=True)
        for c in [control] if isinstance(control, str) else control:
            write(self.path / "control", c)
        if serial:
            write(self.path / "wwn/vpd_unit_serial", serial)
        if enable:
            write(self.path / "enable", 1)

    def attrib(self, name, value=None):
        """Reads an attribute, or writes it."""
        if value is None:
            return read(self.path / "attrib" / name)
        write(self.path / "attrib" / name, value)

    @property
    def info(self):
        return read(self.path / "info")

    def delete(self):
        self.path.rmdir()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def ramdisk(name="rd0", size=32 << 20, nullio=False, **kw):
    control = [f"rd_pages={size // 4096}"] + (["rd_nullio=1"] if nullio else [])
    return Backstore("rd_mcp", name, control, **kw)


def fileio(name="f0", size=32 << 20, file=None, buffered=False, asynchronous=False, **kw):
    file = file or f"/tmp/{name}.img"
    if not os.path.exists(file):
        with open(file, "wb") as f:
            f.truncate(size)
    control = f"fd_dev_name={file},fd_dev_size={size}"
    if buffered:
        control += ",fd_buffered_io=1"
    if asynchronous:
        control += ",fd_async_io=1"
    return Backstore("fileio", name, control, **kw)


def iblock(name="b0", dev=None, size=32 << 20, readonly=False, **kw):
    dev = dev or loop_device(size)
    control = [f"udev_path={dev}"] + (["readonly=1"] if readonly else [])
    return Backstore("iblock", name, control, **kw)


BACKSTORES = {"ramdisk": ramdisk, "fileio": fileio, "iblock": iblock}


def loop_device(size):
    """A new loop device on a file in /tmp; clear() takes it away."""
    modprobe("loop")
    n = 0
    while os.path.exists(f"/tmp/loop{n}.img"):
        n += 1
    with open(f"/tmp/loop{n}.img", "wb") as f:
        f.truncate(size)
    return run("losetup", "--show", "-f", f"/tmp/loop{n}.img").stdout.strip()


# --- target ports --------------------------------------------------------------------------------------------


class Tpg:
    """FABRIC/WWN/tpgt_N."""

    def __init__(self, fabric, wwn, tag=1):
        modprobe("target_core_mod")
        self.wwn, self.tag = wwn, tag
        self.wwn_path = CFS / fabric / wwn
        if not (CFS / fabric).exists():
            (CFS / fabric).mkdir()
        self.wwn_path.mkdir(exist_ok=True)
        self.path = self.wwn_path / f"tpgt_{tag}"
        self.path.mkdir()

    def lun(self, backstore, n=0):
        """Makes lun/lun_N and links the back end's object there."""
        path = self.path / "lun" / f"lun_{n}"
        path.mkdir()
        (path / "store").symlink_to(backstore.path)
        return path

    def remove_lun(self, n=0):
        path = self.path / "lun" / f"lun_{n}"
        for link in links(path):
            link.unlink()
        path.rmdir()

    def acl(self, initiator, luns=(0,), write_protect=()):
        """Makes acls/INITIATOR with its mapped LUNs, the same numbers as the TPG's."""
        path = self.path / "acls" / initiator
        path.mkdir()
        for n in luns:
            m = path / f"lun_{n}"
            m.mkdir()
            (m / "lun").symlink_to(self.path / "lun" / f"lun_{n}")
            if n in write_protect:
                write(m / "write_protect", 1)
        return path

    def patient(self, *names, luns=(0,)):
        """Gives these initiators ACLs by which their iSCSI sessions last as long as a test may keep back write data: by default that is 3 s."""
        for name in names:
            if not (self.path / "acls" / name).exists():
                self.acl(name, luns)
            write(self.path / "acls" / name / "attrib/dataout_timeout", 60)

    def attrib(self, name, value=None):
        if value is None:
            return read(self.path / "attrib" / name)
        write(self.path / "attrib" / name, value)

    def enable(self, on=True):
        write(self.path / "enable", int(on))

    def delete(self):
        remove_tpg(self.path)
        with contextlib.suppress(OSError):
            self.wwn_path.rmdir()


class Loopback(Tpg):
    """A loopback target port with a nexus."""

    def __init__(self, *backstores, wwn="naa.5001405000000001", initiator="naa.5001405000000002", tag=1):
        super().__init__("loopback", wwn, tag)
        write(self.path / "nexus", initiator)
        for n, b in enumerate(backstores):
            self.lun(b, n)

    def disk(self, n=0, timeout=15):
        """The disk of lun_N: its name in /dev, as soon as it is there."""
        address = read(self.path / "address")
        return wait_for(lambda: scsi_disk(f"{address}:{n}"), timeout)

    @property
    def host(self):
        return read(self.path / "address").split(":")[0]

    def rescan(self):
        write(f"/sys/class/scsi_host/host{self.host}/scan", "- - -")


class IscsiTarget(Tpg):
    """An iSCSI target port group, enabled, on one or more portals, in demo mode with write access if there are no ACLs."""

    def __init__(self, *backstores, iqn="iqn.2003-01.org.example:t1", portals=("127.0.0.1:3260",), acls=(), tag=1,
                 enable=True):
        super().__init__("iscsi", iqn, tag)
        self.iqn = iqn
        self.portals = portals
        for n, b in enumerate(backstores):
            self.lun(b, n)
        for p in portals:
            (self.path / "np" / p).mkdir()
        self.attrib("authentication", 0)
        if acls:
            for a in acls:
                self.acl(a, range(len(backstores)))
        else:
            self.attrib("generate_node_acls", 1)
            self.attrib("demo_mode_write_protect", 0)
            self.attrib("cache_dynamic_acls", 1)
        if enable:
            self.enable()


def links(path):
    return [p for p in path.iterdir() if p.is_symlink()]


def scsi_disk(hctl):
    """The block device of a SCSI address, None when there is none yet."""
    try:
        name = os.listdir(f"/sys/class/scsi_device/{hctl}/device/block")[0]
    except (FileNotFoundError, NotADirectoryError, IndexError):
        return None
    dev = f"/dev/{name}"
    try:
        os.close(os.open(dev, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:  # its directory is there before it can be opened
        return None
    return dev


# --- open-iscsi ----------------------------------------------------------------------------------------------


def initiator_name():
    return re.search(r"^InitiatorName=(.*)", Path("/etc/iscsi/initiatorname.iscsi").read_text(), re.M)[1].strip()


def start_iscsid():
    modprobe("iscsi_tcp")
    if run("pgrep", "-x", "iscsid", check=False).returncode:
        run("iscsid")


def discover(portal="127.0.0.1:3260"):
    """SendTargets discovery: a list of (portal, name)."""
    start_iscsid()
    out = run("iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", portal).stdout
    return [(a.split(",")[0], b) for a, b in (line.split() for line in out.splitlines() if "," in line)]


def login(target, portal=None, settings=None):
    """Logs open-iscsi in and waits for its disks: a dict LUN -> disk."""
    portal = portal or target.portals[0]
    start_iscsid()
    node = ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", portal]
    run(*node, "-o", "new")
    # By itself it gives up a connection on which a ping is not answered for 5 s.
    settings = {"node.conn[0].timeo.noop_out_timeout": 30 * SLOW} | (settings or {})
    for key, value in settings.items():
        run(*node, "-o", "update", "-n", key, "-v", value)
    run(*node, "--login", timeout=90)
    return iscsi_disks(target)


def session_host(iqn):
    """The SCSI host number of an open-iscsi session, None when there is none."""
    base = Path("/sys/class/iscsi_session")
    for s in base.iterdir() if base.exists() else ():
        with contextlib.suppress(OSError):
            if read(s / "targetname") == iqn:
                return re.search(r"/host(\d+)/", str(s.resolve()))[1]


def iscsi_disks(target, timeout=30):
    """LUN -> disk of the open session to `target`, once there is one disk for each LUN that it has."""
    want = {int(p.name[4:]) for p in (target.path / "lun").iterdir()}

    def found():
        """open-iscsi's disks"""
        host = session_host(target.iqn)
        if host is None:
            return None
        disks = {n: scsi_disk(f"{host}:0:0:{n}") for n in want}
        return all(disks.values()) and disks

    return wait_for(found, timeout) if want else {}


def logout(target=None):
    """Logs out of one target, or of all."""
    node = ["iscsiadm", "-m", "node"] + (["-T", target.iqn] if target else [])
    run(*node, "--logout", check=bool(target), timeout=90)
    run(*node, "-o", "delete", check=bool(target))


# --- disks -----------------------------------------------------------------------------------------------------


def sg_raw(dev, cdb, read_len=0, data=None):
    """Sends a CDB (bytes or hex text). Gives (data read, sense bytes, SCSI status)."""
    cdb = bytes.fromhex(cdb) if isinstance(cdb, str) else bytes(cdb)
    cmd, out = ["sg_raw"], None
    if read_len:
        out = f"/tmp/sg_raw.{os.getpid()}"
        cmd += ["-r", str(read_len), "-o", out]
    if data is not None:
        infile = f"/tmp/sg_raw.in.{os.getpid()}"
        Path(infile).write_bytes(data)
        cmd += ["-s", str(len(data)), "-i", infile]
    cmd += [dev] + [f"{b:02x}" for b in cdb]
    text = run(*cmd, check=False).stdout
    m = re.search(r"SCSI Status: .*?\(?0x([0-9a-f]+)\)?|SCSI Status: (\w[\w ]*)", text)
    status = {"Good": 0, "Check Condition": 2, "Busy": 8, "Reservation Conflict": 0x18, "Task Set Full": 0x28,
              "Task aborted": 0x40}.get((m[2] or "").strip(), -1) if m and m[2] else int(m[1], 16) if m else -1
    sense = b""
    s = re.search(r"Sense Information:.*", text, re.S)
    if s:
        sense = bytes(int(x, 16) for line in re.findall(r"^ *[0-9a-f]+ {2,}((?:[0-9a-f]{2}[ -]+){1,16})", s[0], re.M)
                      for x in re.findall(r"[0-9a-f]{2}", line))
    got = b""
    if out and os.path.exists(out):
        got = Path(out).read_bytes()
        os.unlink(out)
    return got, sense, status


def fio(dev, seconds=5, check=True, timeout=None, **options):
    """Runs fio on a disk with direct I/O; option names as in a job file, with _ for -. Gives its parsed JSON."""
    o = {"ioengine": "libaio", "direct": 1, "rw": "randrw", "bs": "4k", "iodepth": 8, "runtime": seconds,
         "time_based": 1, "filename": dev, "name": "job", "group_reporting": 1}
    o.update(options)
    return fio_json(*[f"--{k}={v}" for k, v in o.items() if v is not None], check=check, timeout=timeout or seconds + 120)


def fio_json(*args, check=True, timeout):
    """Runs fio with these arguments. Gives its parsed JSON; prints what it complains of."""
    # It would make a file in the place of a disk that has gone, in which no such disk comes again.
    p = run("fio", "--output-format=json", "--allow_file_create=0", *args, check=check, timeout=timeout)
    said, brace, results = p.stdout.partition("{\n")
    if p.returncode:
        print(said)
    return json.JSONDecoder().raw_decode(brace + results)[0] if brace else {}


def blocks(dev):
    """Size of a disk in bytes."""
    return int(run("blockdev", "--getsize64", dev).stdout)


# --- tidying up ------------------------------------------------------------------------------------------------


def remove_tpg(tpg):
    """Takes a TPG and all in it away, in the order in which rtslib does."""
    if (tpg / "enable").exists():
        with contextlib.suppress(OSError):
            write(tpg / "enable", 0)
    if (tpg / "acls").exists():
        for acl in dirs(tpg / "acls"):
            for mapped in [d for d in dirs(acl) if d.name.startswith("lun_")]:
                for link in links(mapped):
                    link.unlink()
                mapped.rmdir()
            acl.rmdir()
    if (tpg / "nexus").exists():
        with contextlib.suppress(OSError):
            if tpg.parent.parent.name != "loopback" or not dirs(tpg / "lun"):
                write(tpg / "nexus", "NULL")
    for lun in dirs(tpg / "lun"):
        for link in links(lun):
            link.unlink()
        lun.rmdir()
    if (tpg / "np").exists():
        for np in dirs(tpg / "np"):
            np.rmdir()
    if (tpg / "nexus").exists():
        with contextlib.suppress(OSError):
            write(tpg / "nexus", "NULL")
    tpg.rmdir()


def dirs(path):
    return sorted((p for p in path.iterdir() if p.is_dir() and not p.is_symlink()), reverse=True) if path.exists() else []


def clear(unload=False):
    """Logs out, deletes everything in the target's tree, and the loop devices of loop_device()."""
    if Path("/sys/class/iscsi_session").exists() and os.listdir("/sys/class/iscsi_session"):
        logout()
    if CFS.exists():
        for fabric in dirs(CFS):
            if fabric.name == "core":
                continue
            for wwn in dirs(fabric):
                if wwn.name == "discovery_auth":
                    continue
                for tpg in [t for t in dirs(wwn) if t.name.startswith("tpgt_")]:
                    remove_tpg(tpg)
                wwn.rmdir()
            fabric.rmdir()
        for hba in [d for d in dirs(CORE) if d.name != "alua"]:
            for store in dirs(hba):
                for group in [g for g in dirs(store / "alua") if g.name != "default_tg_pt_gp"]:
                    group.rmdir()
                store.rmdir()
            hba.rmdir()
        for group in [g for g in dirs(CORE / "alua/lu_gps") if g.name != "default_lu_gp"]:
            group.rmdir()
    for line in run("losetup", "-n", "-O", "NAME,BACK-FILE", check=False).stdout.splitlines():
        name, _, file = line.strip().partition(" ")
        if file.strip().startswith("/tmp/loop"):
            run("losetup", "-d", name, check=False)
    for f in Path("/tmp").glob("*.img"):
        f.unlink()
    if unload:
        for m in MODULES:
            if m in loaded():
                run("rmmod", m)
    if shutil.which("dmsetup") and "dm_mod" in loaded():
        run("dmsetup", "remove_all", check=False)
