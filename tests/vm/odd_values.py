"""What a hostile administrator's tool would write into the target's tree, and how to tell whether it was taken rightly."""
import errno
import os
import re
import stat
from pathlib import Path

import lio

# What a refusal may say.
ERRNOS = {errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.EFBIG, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBUSY, errno.EEXIST,
          errno.ENODEV, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EISDIR, errno.EADDRINUSE, errno.EADDRNOTAVAIL,
          errno.ENOTBLK, errno.EACCES, errno.ENXIO, errno.ELOOP, errno.EROFS}
NUMBERS = [-1, 0, 1, 2, 3, 7, 64, 255, 256, 512, 4096, 65535, 65536, 16777215, 16777216, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30]
TEXTS = [b"\0", b"\n", b" ", b"\0\0\n", b"a\0b", b"1\0", b"1\n", b"1\n\n", b"1\n2", b" 1", b"1 ", b"+1", b"+-1", b"--1", b"0x1", b"0x",
         b"0X7fffffff", b"010", b"08", b"1e99", b"1x", b"0,", b"\xff\xfe", b"\xc3\xa9", "½".encode(), b"%s%n%p", b"yes", b"no", b"Yes", b"No",
         b"on", b"off", b"true", b"NULL", b"None", b"none", b"\x1b[2J", b"a\rb", b"a\nb", b"\x7f", b"../../../etc/passwd", b"/", b"/tmp",
         b"/tmp/nothing/there", b"CHAP", b"CHAP,None", b"None,CRC32C", b"CRC32C", b"naa.5001405000000009", b"iqn.2003-01.org.example:x",
         b"fc.", b"naa.", b"online", b"offline", b"0-1", b"0-", b"1-0", b"0-99999", b"9999999999", b"0-1:1/0", b"default_tg_pt_gp", b"default_lu_gp"]
# fd_dev_name and udev_path stay in /tmp: what a test enables it may write to.
SETTINGS = [b"=", b",", b"=,=,=", b"," * 4000, b"=" * 4000, b"a=b", b"rd_pages", b"rd_pages=", b"rd_pages=-1", b"rd_pages=0", b"rd_pages=1x",
            b"rd_pages=99999999999999999999", b"rd_pages=8192,rd_pages", b"rd_pages=4096,rd_pages=x", b"rd_nullio=2", b"rd_nullio=-1", b"rd_dummy=1",
            b"rd_dummy=7", b"fd_dev_name=", b"fd_dev_name=/tmp/hostile.img", b"fd_dev_name=/tmp/", b"fd_dev_name=/tmp/" + b"x" * 300,
            b"fd_dev_name=/tmp/none/x.img", b"fd_dev_size=0", b"fd_dev_size=511", b"fd_dev_size=-1", b"fd_dev_size=9223372036854775808",
            b"fd_dev_size=18446744073709551616", b"fd_buffered_io=2", b"fd_async_io=x", b"udev_path=", b"udev_path=/tmp", b"udev_path=/dev/null",
            b"udev_path=/tmp/" + b"y" * 3000, b"readonly=x", b"readonly=99999999999999999999", b"exclusive=", b"force=z", b"fd_dev_name=/tmp/a\0b"]
LENGTHS = [63, 64, 255, 256, 4093, 4094, 4095, 4096, 4097, 8192]


def values(rng, most=None, control=False):
    """What is written, or `most` of it; one of each sort in any case."""
    lengths = [c * n for n in LENGTHS for c in (b"9", b"x")]
    sorts = [[str(n).encode() for n in NUMBERS], TEXTS, lengths, [rng.randbytes(rng.randrange(1, 64)) for _ in range(4)]]
    if control:
        sorts.append(SETTINGS)
        most = most and most * 4
    if most is None:
        return [v for sort in sorts for v in sort]
    chosen = [rng.choice(sort) for sort in sorts]
    rest = [v for sort in sorts for v in sort]
    return chosen + rng.sample(rest, max(most - len(chosen), 0))


def files(top, writable=None):
    """Attribute files below `top`; those that can be written, or cannot, if asked so."""
    for directory, _, names in os.walk(top):
        for name in sorted(names):
            path = Path(directory, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and (writable is None or bool(mode & 0o200) == writable):
                yield path


def look(path):
    """What a file shows: None if it shows nothing at all."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def put(path, value):
    """One write(2): 0, or the errno."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError as e:
        return e.errno
    try:
        assert os.write(fd, value) == len(value), f"{path}: a part of {value[:40]} was taken"
        return 0
    except OSError as e:
        return e.errno
    finally:
        os.close(fd)


def logged(path):
    """How a line of the kernel's log names an object: by its path, escaped as /dev/kmsg shows it."""
    return str(path.relative_to(lio.CFS.parent))


# --- what was meant -------------------------------------------------------------------------------------------------


def number(value):
    """What kstrtoull() takes it for, None if it is no number."""
    m = re.fullmatch(rb"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\n?\0*", value)
    if not m:
        return None
    digits = m[2].decode()
    n = int(digits, 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") and len(digits) > 1 else 10)
    return -n if m[1] == b"-" else n


def truth(value):
    """What kstrtobool() takes it for."""
    m = re.match(rb"([1yYtT]|[oO][nN])|([0nNfF]|[oO][fF])", value)
    return None if not m else "1" if m[1] else "0"


def text(value):
    return value.rstrip(b"\0").strip(b" \t\n\r\x0c").decode()


def is_flag(path):
    """Whether a file has a truth value: then it takes the one that it shows in letters, too."""
    now = look(path)
    return now in (b"0\n", b"1\n") and put(path, b"on" if now == b"1\n" else b"off") == 0


# Files that show something else than what was written, and what they may show.
DEFAULTS = {"vendor_id", "product_id", "revision", "HeaderDigest", "DataDigest", "AuthMethod",
            "alua_tg_pt_gp", "alua_lu_gp", "res_aptpl_metadata"}
NAMED = {"alua_access_type": ["None", "Implicit", "Explicit", "Implicit and Explicit"],
         "alua_access_status": ["None", "Altered by Explicit STPG", "Altered by Implicit ALUA"]}
LISTS = {b"CHAP,None", b"None,CRC32C", b"None"}


def means(path, flag, value, shown):
    """Whether a file that has taken `value` shows what was meant."""
    if path.name in ("emulate_dpo", "emulate_fua_read"):
        return shown == b"1\n"  # deprecated bits that are taken in any case, as the log then says
    if path.name == "pi_prot_format" or path.name == "pi_prot_verify" and look(path.with_name("pi_prot_type")) == b"0\n":
        return shown == b"0\n"  # an order that is carried out; what has no effect yet, as the log says
    if shown is None:
        return False
    after = shown.decode().rstrip("\n")
    if flag:
        return after == truth(value)
    n = number(value)
    if n is not None and re.fullmatch(r"-?(0|[1-9]\d*)|0x[0-9a-f]+", after) and int(after, 0) == n:
        return True
    wanted = text(value)
    if path.parent.name in ("auth", "discovery_auth") and path.name.startswith(("userid", "password")) and wanted != "NULL":
        # The one text whose white space counts: the initiator's digest has it, too.
        return after == value.rstrip(b"\0").decode().removesuffix("\n")
    if wanted == "NULL" and after in ("", "0"):
        return True
    if path.name == "vpd_unit_serial":
        return after == "T10 VPD Unit Serial Number: " + wanted
    if path.name in NAMED:
        return number(value) is not None and NAMED[path.name][number(value)] == after
    if path.name in DEFAULTS:
        # What is taken and not shown asks for what there is anyhow.
        return after == wanted or wanted in ("", "NULL") or number(value) in (0, 3) or value.strip() in LISTS or wanted in after
    if path.name == "cpus_allowed_list":
        return cpus(after) == cpus(wanted)
    return after == wanted


def cpus(listed):
    """The CPUs of a list, of those that there are."""
    got = set()
    for part in filter(None, listed.split(",")):
        m = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+)/(\d+))?)?", part)
        if not m:
            return None
        first, last = int(m[1]), int(m[2] or m[1])
        used, group = (int(m[3]), int(m[4])) if m[3] else (1, 1)
        got |= {n for n in range(first, min(last, 4096) + 1) if group and (n - first) % group < used}
    return got & set(range(os.cpu_count()))
