"""configfs as an attacker's tool: each file of the tree takes a value or refuses it, with an errno and one line in the log, and
shows what it has taken; no name, no link and no removal harms. `make check` writes a sample, and LIO_RS_ARGS="all=1" all of it;
seed=N repeats a run, seconds=N is how long the last test attacks under I/O."""
# vm: --timeout 1800
import contextlib
import errno
import multiprocessing
import os
import random
import re
import time

import initiator
import leaks
import lio
import odd_values
import pytest
import sgio
import storage
from odd_values import look, put

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the stock modules oops here")
ARGS = dict(re.findall(r"(\w+)=(\d+)", os.environ.get("LIO_RS_ARGS", "")))
SEED = int(ARGS.get("seed", random.randrange(1 << 32)))
ALL = "all" in ARGS
SECONDS = int(ARGS.get("seconds", 10))
GUARD = 30 * lio.SLOW  # seconds: no call may take longer
A, B = "iqn.2003-01.org.example:a", "iqn.2003-01.org.example:b"
WHO = "iqn.2024-01.org.example:python"
READ_4K, WRITE_4K = bytes.fromhex("28000000000000000800"), bytes.fromhex("2a000000000000000800")
DATA = b"honest!\n" * 512


@pytest.fixture(autouse=True)
def quiet(klog):
    """Thousands of refusals do not go to the console."""
    before = lio.read("/proc/sys/kernel/printk")
    lio.write("/proc/sys/kernel/printk", 3)
    yield
    lio.write("/proc/sys/kernel/printk", before)


class World:
    """One of everything: devices that are exported, idle and not enabled; a loopback and two iSCSI targets."""

    def __init__(self):
        self.exported = [lio.ramdisk(size=8 << 20), lio.fileio(size=8 << 20), lio.iblock(size=8 << 20)]
        self.idle = lio.ramdisk("idle", 1 << 20)
        self.off = [lio.Backstore(kind, "off", hba=1, enable=False) for kind in ("rd_mcp", "fileio", "iblock")]
        self.loop = lio.Loopback(*self.exported)
        self.target = lio.IscsiTarget(*self.exported, iqn=A, acls=[WHO])
        self.other = lio.IscsiTarget(self.exported[0], iqn=B, portals=("127.0.0.1:3261", "[::1]:3261"))
        for tpg in (self.loop, self.target):
            (tpg.path / "lun/lun_7").mkdir()
        self.acl = self.target.path / "acls" / WHO
        (self.acl / "lun_7").mkdir()
        with self.session() as c:
            for n in range(3):
                assert c.scsi(WRITE_4K, write=DATA, lun=n)[0] == 0

    def session(self, isid=1, **kw):
        return initiator.session(self.target, name=WHO, isid=b"\x80\0\0\0\3" + bytes([isid]), **kw)

    def honest(self):
        """An initiator is served, and finds what it wrote."""
        with self.session() as c:
            for n in range(3):
                while (r := c.scsi(READ_4K, read=4096, lun=n))[0] == 2:
                    assert r[2].sense[2] & 15 == 6, "only unit attentions come first"
                assert r[:2] == (0, DATA), f"LUN {n}: {r}"
            c.logout()
        assert self.loop.disk()

    def tops(self):
        """Where the files are that are written to."""
        hbas = [s.path for s in (self.exported if ALL else [self.exported[SEED % 3]]) + [self.idle] + (self.off if ALL else [self.off[SEED % 3]])]
        return [*hbas, self.loop.path, self.target.path, lio.ISCSI / "discovery_auth", self.target.wwn_path / "param"]


@pytest.fixture(scope="module")
def world():
    print(f"seed={SEED}")
    yield World()
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The world stays."""
    yield


def timed(what, *args):
    """Calls something that must end in time, whatever comes of it."""
    start = time.monotonic()
    try:
        return what(*args)
    finally:
        took = time.monotonic() - start
        assert took < GUARD, f"{what} {args}: {took:.0f} s"


class Refusals:
    """What the log says of an object since the last time."""

    def __init__(self, klog):
        self.klog = klog
        self.at = len(klog.read())

    def lines(self):
        new = self.klog.read()[self.at :]
        self.at += len(new)
        return new


# What is taken and warned of.
WARNINGS = ("no effect", "the secret has less than 12 bytes", "initiator and target have the same secret")


def try_value(path, flag, value, log):
    """Writes a value and judges what comes of it; gives what is wrong, None if nothing is."""
    control = path.name == "control"
    seen = path.parent / "info" if control else path
    before = look(seen)
    log.lines()
    error = timed(put, path, value)
    lines, after = log.lines(), look(seen)
    if error:
        if error not in odd_values.ERRNOS:
            return f"errno {error} is no answer"
        if after != before:
            return f"refused ({errno.errorcode[error]}), and yet changed from {before} to {after}"
        if len([line for line in lines if odd_values.logged(path) in line]) != 1:
            return f"refused ({errno.errorcode[error]}), and the log says: {lines}"
        return None
    if any(odd_values.logged(path) + ": " in line and not any(w in line for w in WARNINGS) for line in lines):
        return f"taken, and yet the log says: {lines}"
    if not control and not odd_values.means(path, flag, value, after):
        return f"taken, and shows {after} after {before}"
    return None


def test_values(world, klog):
    rng = random.Random(SEED)
    log, wrong, files, count = Refusals(klog), [], 0, 0
    paths = [p for top in world.tops() for p in odd_values.files(top, writable=True)]
    paths += [p for p in (lio.CFS / "dbroot", lio.ISCSI / "cpus_allowed_list", world.target.wwn_path.parent / "cpus_allowed_list") if p not in paths]
    for path in dict.fromkeys(paths):
        before, flag = look(path), odd_values.is_flag(path)
        files += 1
        for value in odd_values.values(rng, None if ALL else 7, path.name == "control"):
            count += 1
            if what := try_value(path, flag, value, log):
                wrong.append(f"{path}: {value[:60]}{f' ({len(value)} bytes)' if len(value) > 60 else ''}: {what}")
        if before is not None and look(path) != before:
            named = odd_values.NAMED.get(path.name)
            put(path, str(named.index(before.decode().strip())).encode() if named else
                before.replace(b"T10 VPD Unit Serial Number: ", b"") if before.strip() else b"NULL")
    print(f"{count} values, {files} files")
    assert files > 200
    assert not wrong, "\n".join(wrong)
    # What could change without harm may have changed; the target must be there again as it was.
    for t in (world.target, world.other):
        t.attrib("authentication", 0)
        t.enable()
    lio.write(world.acl / "attrib/authentication", -1)
    lio.write(world.loop.path / "transport_status", "online")
    for s in world.exported:
        s.attrib("emulate_tas", s.attrib("emulate_tas"))
    world.honest()


def test_parts(world):
    """A file read from any place in pieces of any length is the same; each write(2) is a value of its own, wherever it says it is."""
    for path in odd_values.files(lio.CFS):
        if not os.stat(path).st_mode & 0o400:
            continue
        whole = look(path)
        fd = os.open(path, os.O_RDONLY)
        try:
            if whole is None:
                with lio.refused(*odd_values.ERRNOS):
                    os.read(fd, 10)
                continue
            for at in (0, 1, len(whole) // 2, len(whole), len(whole) + 1, 4096, 1 << 40):
                assert os.pread(fd, 3, at) == whole[at : at + 3], f"{path} at {at}"
        finally:
            os.close(fd)
    path = world.idle.path / "attrib/max_unmap_lba_count"
    fd = os.open(path, os.O_RDWR)
    try:
        for at in (0, 1, 4095, 4096, 1 << 40):
            assert os.pwrite(fd, b"12", at) == 2 and lio.read(path) == "12"
            assert os.pwrite(fd, b"7", at) == 1 and lio.read(path) == "7"
        with lio.refused(errno.EFAULT):  # by configfs itself
            os.write(fd, b"")
        assert os.writev(fd, [b"1", b"", b"23\n"]) == 4 and lio.read(path) == "123"
    finally:
        os.close(fd)


NAMES = [b"a" * 255, b"a" * 256, b"\xff", b"\x01", b"a\nb", b"%s%n", b" ", b"...", b"-1", "é".encode(), b"alua", b"lun_7", b"lun_00", b"lun_07",
         b"lun_+1", b"lun_-1", b"lun_65535", b"lun_65536", b"lun_4294967296", b"lun_18446744073709551616", b"lun_0x1", b"lun_1 ", b"lun_1\n",
         b"lun_", b"LUN_1", b"tpgt_0", b"tpgt_00", b"tpgt_+2", b"tpgt_-1", b"tpgt_65535", b"tpgt_65536", b"tpgt_4294967297", b"tpgt_0x2", b"tpgt_2x",
         b"rd_mcp_01", b"rd_mcp_4294967295", b"rd_mcp_4294967296", b"rd_mcp_-1", b"rd_mcp_", b"_0", b"rd_mcp", b"pscsi_0", b"x_1", b"rd_mcp__1",
         b"iqn.", b"iqn.2003-01.org.example:c", b"IQN.2003-01.ORG:X", b"iqn.2003-01.org.example:" + b"y" * 199, b"iqn.2003-01.org.example:" + b"y" * 200,
         b"iqn.2003-01.org example", b"eui.0123456789abcdef", b"naa.", b"naa.5001405", b"naa.\x01", b"fc.", b"fc.\xff", b"127.0.0.1:0",
         b"127.0.0.1:65536", b"127.0.0.1:-1", b"127.0.0.1:+3299", b"127.0.0.1:3299 ", b"127.0.0.1:3299", b"127.0.0.1:03299", b"127.0.0.1:", b"127.0.0.1",
         b"127.1:3299", b"999.0.0.1:3299", b"127.0.0.1:3260", b"[::1]:3299", b"[0::1]:3299", b"[::1]:0", b"[::1]", b"[::1", b"[]:3299", b"[::1%lo]:3299",
         b"[fe80::1]:3299", b"[::ffff:127.0.0.1]:3260", b"[" + b":" * 200 + b"]:3299", b"localhost:3299", b"::1:3299", b"0x7f.1:3299", b"\\x00:3299"]


def directories(top):
    return [lio.Path(d) for d, _, _ in os.walk(top)]


def test_names(world, klog):
    """mkdir with any name anywhere is refused with a reason, or gives a directory that can be removed again."""
    rng, log = random.Random(SEED), Refusals(klog)
    made, wrong, dirs = 0, [], directories(lio.CFS)
    everywhere = {world.loop.wwn_path, world.target.wwn_path, world.target.path / "acls", world.target.path / "np", world.target.path / "lun",
                  world.acl, lio.CORE, lio.CORE / "rd_mcp_0", lio.CFS, lio.ISCSI, lio.LOOPBACK, lio.CORE / "alua/lu_gps"}
    for d in dirs:
        names = NAMES if ALL else rng.sample(NAMES, 36 if d in everywhere else 1)
        for name in names + [rng.randbytes(rng.randrange(1, 32)).replace(b"\0", b"\1").replace(b"/", b"\\")]:
            path = os.path.join(os.fsencode(d), name)
            there = os.path.lexists(path)
            log.lines()
            try:
                timed(os.mkdir, path)
            except OSError as e:
                lines = log.lines()
                if e.errno not in odd_values.ERRNOS:
                    wrong.append(f"{path}: errno {e.errno}")
                elif there and e.errno != errno.EEXIST:
                    wrong.append(f"{path}: {e}, and it is there")
                elif not there and len(name) < 256 and sum(odd_values.logged(d) in line for line in lines) != 1:
                    wrong.append(f"{path}: {e}, and the log says {lines}")
                continue
            made += 1
            if name not in os.listdir(os.fsencode(d)):
                wrong.append(f"{path}: it is not there")
            for f in list(odd_values.files(lio.Path(os.fsdecode(path))))[:: 1 if ALL else 20]:
                look(f)
            timed(os.rmdir, path)
    print(f"{len(dirs)} directories, {made} were made")
    assert made > 20
    assert directories(lio.CFS) == dirs
    assert not wrong, "\n".join(wrong)
    world.honest()


def test_links(world, klog):
    """A link is made where it has a meaning, and nowhere else."""
    rng, log, wrong = random.Random(SEED), Refusals(klog), []
    good = {(t.path / "lun/lun_7", s.path) for t in (world.loop, world.target) for s in [*world.exported, world.idle]}
    good |= {(world.acl / "lun_7", world.target.path / f"lun/lun_{n}") for n in range(3)}
    lio.run("mkdir", "-p", "/tmp/elsewhere")
    files = rng.sample(list(odd_values.files(lio.CFS)), 5)
    targets = directories(lio.CFS) + files + [lio.Path(p) for p in ("/tmp/elsewhere", "/sys/kernel/config", "/nothing", "/" + "x" * 300, "/proc/self")]
    sources = directories(lio.CFS)
    important = {world.loop.path / "lun/lun_7", world.target.path / "lun/lun_7", world.acl / "lun_7"}
    count = 0
    for source in sources:
        chosen = targets if source in important else rng.sample(targets, len(targets) if ALL else 2)
        for target in chosen:
            link = source / "hostile"
            count += 1
            log.lines()
            try:
                timed(os.symlink, target, link)
            except OSError as e:
                if (source, target) in good:
                    wrong.append(f"{link} -> {target}: {e}")
                elif e.errno not in odd_values.ERRNOS:
                    wrong.append(f"{link} -> {target}: errno {e.errno}")
                elif str(target).startswith(str(lio.CFS)) and target not in files and sum(
                        odd_values.logged(source) in line for line in log.lines()) != 1:
                    wrong.append(f"{link} -> {target}: {e}, without a reason in the log")
                continue
            if (source, target) not in good:
                wrong.append(f"{link} -> {target}: was made")
            timed(os.unlink, link)
    print(f"{count} links")
    assert not wrong, "\n".join(wrong)
    world.honest()


def test_what_there_is_stays(world):
    """Nothing but what was made goes, by no call; nothing is made but directories and links."""
    dirs = directories(lio.CFS)
    could_go = {t.path / "lun/lun_7" for t in (world.loop, world.target)} | {world.acl / "lun_7"}
    could_go |= {s.path for s in (world.idle, *world.off)} | {np for t in (world.target, world.other) for np in (t.path / "np").iterdir()}
    for d in dirs:
        if d not in could_go:
            with lio.refused(errno.EPERM, errno.ENOTEMPTY, errno.EBUSY):
                timed(os.rmdir, d)
        with lio.refused(errno.EPERM, errno.EXDEV, errno.EINVAL, errno.ENOTEMPTY, errno.EACCES):
            os.rename(d, d.parent / "renamed")
        for call in (lambda: os.close(os.open(d / "new", os.O_CREAT | os.O_WRONLY)), lambda: os.mkfifo(d / "new"),
                     lambda: os.link("/etc/passwd", d / "new"), lambda: os.mknod(d / "new", 0o600)):
            with lio.refused(errno.EPERM, errno.EACCES, errno.EXDEV):
                call()
    for f in odd_values.files(world.target.path):
        with lio.refused(errno.EPERM):
            f.unlink()
        with lio.refused(errno.EPERM, errno.EXDEV, errno.EINVAL):
            os.rename(f, f.parent / "renamed")
    assert directories(lio.CFS) == dirs
    world.honest()


# --- at once, with I/O and with deletion -----------------------------------------------------------------------------

# Those that may, as they should, end the I/O of a session that is there, or hold it for hours.
FORK = multiprocessing.get_context("fork")
SPARED = {"enable", "nexus", "transport_status", "alua_access_state", "alua_tg_pt_offline", "write_protect", "cmdsn_depth", "control",
          "authentication", "generate_node_acls", "dbroot", "iops", "bytes_per_second", "async_logout"}


class Attack(FORK.Process):
    """Does something again and again until told to stop; an errno is no error, anything else is."""

    def __init__(self, stop, what, seed):
        super().__init__(daemon=True)
        self.stopped, self.what, self.rng, self.done = stop, what, random.Random(seed), FORK.Value("i", 0)
        self.start()

    def run(self):
        while not self.stopped.is_set():
            try:
                timed(self.what, self.rng)
            except OSError as e:
                assert e.errno in odd_values.ERRNOS | {errno.ENOTEMPTY, errno.EAGAIN}, e
            self.done.value += 1


def test_at_once(world):
    """Values, names, links, reads and removals at once, while two initiators read and write what must not be harmed."""
    victims = lio.CORE / "rd_mcp_5"
    wwn, iqn = lio.LOOPBACK / "naa.5001405000000055", lio.ISCSI / "iqn.2003-01.org.example:victim"
    served = [p for top in (*[s.path for s in world.exported], world.target.path, world.loop.path) for p in odd_values.files(top, writable=True)
              if p.name not in SPARED]
    before = {p: look(p) for p in served}
    everywhere = list(odd_values.files(lio.CFS))

    def write_served(rng):
        put(rng.choice(served), rng.choice(odd_values.values(rng, 8)))

    def write_victims(rng):
        # But for limits: who may send a byte a second waits for hours.
        paths = [p for top in (victims, wwn, iqn) for p in odd_values.files(top, writable=True) if p.name != "limits"]
        for p in rng.sample(paths, min(len(paths), 20)):
            put(p, rng.choice([b"1", b"0", b"rd_pages=16", b"naa.5001405000000056", *odd_values.values(rng, 3)]))

    def read(rng):
        for p in rng.sample(everywhere, 20):
            look(p)
        for top in (victims, wwn, iqn):
            for p in odd_values.files(top):
                look(p)

    def make(rng):
        d = victims / f"d{rng.randrange(2)}"
        d.mkdir(parents=True)
        put(d / "control", b"rd_pages=16")
        put(d / "enable", b"1")

    def make_group(rng):
        top = rng.choice([wwn, iqn])
        tpg = top / f"tpgt_{rng.randrange(2)}"
        for p in (top, tpg, tpg / "lun/lun_0", *([tpg / "np/127.0.0.1:3277", tpg / "acls/iqn.2003-01.org.example:v"] if top == iqn else [])):
            with contextlib.suppress(FileExistsError):
                p.mkdir()
        put(tpg / "enable", b"1")
        os.symlink(rng.choice([victims / "d0", victims / "d1", world.idle.path]), tpg / "lun/lun_0/x")

    def hostile_names(rng):
        d = rng.choice(directories(rng.choice([victims, wwn, iqn])) or [victims])
        path = os.path.join(os.fsencode(d), rng.choice(NAMES))
        os.mkdir(path)
        os.rmdir(path)

    def remove(rng):
        take_away(rng.choice([victims, wwn, iqn]))

    def take_away(top):
        for d, below, _ in os.walk(top, topdown=False):
            for name in below:
                if os.path.islink(os.path.join(d, name)):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(d, name))
            with contextlib.suppress(OSError):
                os.rmdir(d)

    def keep_open(rng):
        fds = []
        try:
            for p in [*rng.sample(everywhere, 20), *odd_values.files(victims), *odd_values.files(iqn)]:
                with contextlib.suppress(OSError):
                    fds.append(os.open(p, os.O_RDONLY))
            time.sleep(0.2)
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.read(fd, 4096)
        finally:
            for fd in fds:
                os.close(fd)

    def initiate(rng, first, scsi):
        n, lba = rng.randrange(3), first + 8 * rng.randrange(16)
        data = rng.randbytes(512) * 8
        at = lba.to_bytes(4, "big")
        for cdb, kw, want in ((b"\x2a\0" + at + b"\0\0\x08\0", {"write": data}, b""), (b"\x28\0" + at + b"\0\0\x08\0", {"read": 4096}, data)):
            while (r := scsi(n, cdb, **kw))[0] == 2:
                assert r[2][2] & 15 == 6, r[2].hex()
            assert r[:2] == (0, want), r[0]

    def over_iscsi(rng):
        def scsi(n, cdb, **kw):
            status, data, answer = one.scsi(cdb, lun=n, timeout=GUARD, **kw)
            return status, data, answer.sense
        initiate(rng, 64, scsi)

    def over_loopback(rng):
        def scsi(n, cdb, **kw):
            r = disks[n].scsi(cdb, timeout=GUARD, **kw)
            assert not r.host, r
            return r.status, r.data, r.sense
        initiate(rng, 512, scsi)

    empty = leaks.nodes()
    stop = FORK.Event()
    with world.session(2) as one, contextlib.ExitStack() as stack:
        one.hears_events = False
        disks = [stack.enter_context(sgio.Disk(storage.generic(world.loop.disk(n)))) for n in range(3)]
        honest = [Attack(stop, over_iscsi, 1), Attack(stop, over_loopback, 2)]
        attacks = [Attack(stop, what, SEED + i) for i, what in enumerate(
            [write_served, write_victims, read, make, make_group, hostile_names, remove, keep_open])]
        time.sleep(SECONDS * lio.SLOW)
        stop.set()
        for t in honest + attacks:
            t.join(2 * GUARD)
    done = {t.what.__name__: t.done.value for t in honest + attacks}
    print(done)
    assert not [t for t in honest + attacks if t.is_alive()], "something hangs"
    assert not [t.what.__name__ for t in honest + attacks if t.exitcode], "see what they wrote to stderr"
    assert all(done.values())
    for p, value in before.items():
        if value is not None and look(p) != value:
            put(p, value.replace(b"T10 VPD Unit Serial Number: ", b"") if value.strip() else b"NULL")
    for top in (iqn, wwn, victims):
        take_away(top)
        assert not top.exists()
    world.honest()
    lio.wait_for(lambda: leaks.nodes() == empty)
