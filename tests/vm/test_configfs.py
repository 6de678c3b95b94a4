"""The configfs crate, by a module that does one of everything: tests/modules/lio_configfs_test.rs."""
# group: trees
import contextlib
import functools
import multiprocessing
import os
import threading
import time
from errno import EBUSY, EEXIST, EFBIG, EINVAL, ENODEV, ENOENT, ENOTEMPTY, EOPNOTSUPP, EPERM, ERANGE
from pathlib import Path

import lio
import pytest

pytestmark = pytest.mark.skipif(lio.STOCK, reason="tests our own crate")
T = Path("/sys/kernel/config/lio_test")
MODULE = "lio_configfs_test"


def live():
    return lio.read(T / "live")


def events():
    """What has been called since the last time."""
    text = (T / "events").read_text().splitlines()
    lio.write(T / "events", "")
    return text


# Nodes of the test module's own tree; the engine's tree has some as well, always as many.
OWN_NODES = 4


@functools.cache
def clean():
    """What is alive when nothing was made: as the first test finds it."""
    nodes, data = live().split()
    assert data == "1" and OWN_NODES <= int(nodes) <= OWN_NODES + 8
    return f"{nodes} {data}"


@pytest.fixture(autouse=True)
def module(klog):
    """The module; each test must leave no node, no data and no module reference."""
    lio.modprobe(MODULE)
    before = live()
    assert before == clean() and lio.module_refs(MODULE) == 0
    yield
    assert live() == before
    assert lio.module_refs(MODULE) == 0
    lio.run("rmmod", MODULE)
    assert klog.has(f"left: {int(before.split()[0]) - OWN_NODES} nodes")
    assert not T.exists()


@pytest.fixture
def thing():
    """A made directory."""
    path = T / "a"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


def unload_refused():
    return lio.run("rmmod", MODULE, check=False).returncode != 0


def test_directories(thing):
    assert sorted(p for p, _, _ in os.walk(thing)) == [
        str(thing / p) for p in (".", "links", "sub", "sub/deep", "sub/things")]
    modes = {f: (thing / f).stat().st_mode & 0o7777 for f in ("other", "list", "blob", "bool", "secret")}
    assert modes == {"other": 0o444, "list": 0o400, "blob": 0o644, "bool": 0o200, "secret": 0o600}
    assert (lio.read(thing / "other"), lio.read(thing / "sub/deep/other")) == ("7", "8"), "the sections' own data"
    with lio.refused(EEXIST):
        thing.mkdir()
    with lio.refused(EPERM):
        (thing / "x").mkdir()
    with lio.refused(EPERM):
        (thing / "sub").rmdir()


def test_the_module_is_pinned(thing):
    assert unload_refused()
    thing.rmdir()
    assert lio.module_refs(MODULE) == 0
    with open(T / "live"):
        assert unload_refused()


def test_mkdir_refused():
    with lio.refused(EINVAL):
        (T / "refused").mkdir()
    with lio.refused(EEXIST):
        (T / "double").mkdir()  # has two default groups of one name
    with lio.refused(EINVAL):
        os.mkdir(bytes(T / "x") + b"\xff")
    assert events() == []
    with lio.refused(EINVAL):
        (T / "misnamed").mkdir()
    assert events() == ["removed deep", "removed sub", "removed else", "rmdir else"], "it is taken back"


@pytest.mark.parametrize("name", ["n" * 255, "new\nline %s \u00e9", " ", "..."])
def test_names(name, klog):
    (T / name).mkdir()
    assert name in os.listdir(T)
    with lio.refused(EINVAL):
        lio.write(T / name / "number", "x")
    (T / name).rmdir()
    if "\n" in name:
        # A backslash is escaped once more by /dev/kmsg.
        assert klog.has(r"lio_test/new\\x5cnline %s \\x5cxc3\\x5cxa9/number: a number")


def test_mkdir_loads_a_module():
    lio.run("rmmod", "loop", check=False)
    (T / "loads").mkdir()
    assert "loop" in lio.loaded()
    (T / "loads").rmdir()


GOOD = [
    ("number", b"5\n", 5), ("number", b"6", 6), ("number", b"0x1F\n", 31), ("number", b"017", 15), ("number", b"+8", 8),
    ("number", b"4294967295", 4294967295), ("number", b"1\0", 1), ("bool", b"1\n", 1), ("bool", b"n", 0),
    ("bool", b"on\n", 1), ("bool", b"oFF", 0), ("bool", b"Yes", 1), ("i32", b"-2147483648", -2147483648),
    ("i32", b"-0x10\n", -16), ("i32", b"+7", 7), ("u64", b"18446744073709551615", -1), ("small", b"10", 10),
    ("text", b" ab c\n\0\0", 4), ("text", b"\n", 0),
]
BAD = [
    ("number", b"4294967296", ERANGE), ("number", b"18446744073709551616", ERANGE), ("number", b"9" * 4000, ERANGE),
    ("number", b"-1", EINVAL), ("number", b"++1", EINVAL), ("number", b"+-1", EINVAL), ("number", b"\n", EINVAL),
    ("number", b"1\n\n", EINVAL), ("number", b" 1", EINVAL), ("number", b"0x", EINVAL), ("number", b"0x+1", EINVAL),
    ("number", b"08", EINVAL), ("number", b"1\x002", EINVAL), ("number", b"\xb2", EINVAL), ("number", b"\0", EINVAL),
    ("bool", b"2", EINVAL), ("bool", b"o", EINVAL), ("bool", b"\n", EINVAL), ("i32", b"-2147483649", ERANGE),
    ("i32", b"2147483648", ERANGE), ("i32", b"-", EINVAL), ("i32", b"-+1", EINVAL), ("i32", b"--1", EINVAL),
    ("small", b"11", ERANGE), ("small", b"0", ERANGE), ("text", b"a\0b", EINVAL), ("text", b"\xff", EINVAL),
    ("secret", b"x", EOPNOTSUPP),
]


def test_values(thing, klog):
    for file, value, shown in GOOD:
        lio.write(thing / file, value)
        assert lio.read(thing / "number") == str(shown), (file, value)
    lio.write(thing / "number", b"77")
    for file, value, err in BAD:
        try:
            with lio.refused(err):
                lio.write(thing / file, value)
        except AssertionError as e:
            raise AssertionError(f"{file} {value}: {e}") from e
        assert lio.read(thing / "number") == "77", (file, value)
    assert klog.has("lio_test/a/secret: not yet")
    assert klog.has("lio_test/a/small: a number from 1 to 10 is wanted")


def test_bytes(thing):
    for value in (os.urandom(4094), b"a\0b\n\0", b"\n"):
        lio.write(thing / "blob", value)
        assert (thing / "blob").read_bytes() == value
    for n in (4095, 4096, 8000):  # configfs would cut it and give the rest as a second value
        with lio.refused(EFBIG):
            lio.write(thing / "blob", b"x" * n)
    assert (thing / "blob").read_bytes() == b"\n"


def test_reads(thing):
    text = (thing / "list").read_text()
    assert text == "".join(f"line {i}\n" for i in range(467)) and len(text) <= 4096, "cut between two lines"
    with lio.refused(ENODEV):
        (thing / "fails").read_bytes()


def test_links(thing):
    b, link = T / "b", thing / "links/one"
    b.mkdir()
    link.symlink_to(b)
    assert link.resolve() == b and events() == ["link b"]
    with lio.refused(EBUSY):
        b.rmdir()
    with lio.refused(ENOTEMPTY):
        thing.rmdir()
    link.unlink()
    assert events() == ["unlink b"]
    for target, where, err in (
        (b / "sub/deep", link, EINVAL),  # has other data
        (T / "static", link, EINVAL),
        (b, thing / "sub/two", EPERM),
        (b, T / "nolinks/two", EPERM),
    ):
        with lio.refused(err):
            where.symlink_to(target)
    assert events() == []
    b.rmdir()


def test_links_to_another_subsystem(thing):
    lio.modprobe("libcomposite")
    gadget = Path("/sys/kernel/config/usb_gadget/g")
    gadget.mkdir()
    with lio.refused(EINVAL):
        (thing / "links/one").symlink_to(gadget)
    gadget.rmdir()
    lio.run("rmmod", "libcomposite")


def test_order_of_removal(thing):
    (thing / "sub/things/c").mkdir()
    (T / "static/things/d").mkdir()
    with lio.refused(ENOTEMPTY):
        thing.rmdir()
    (thing / "sub/things/c").rmdir()
    assert events() == ["removed deep", "removed sub", "removed c", "rmdir c"]
    (T / "static/things/d").rmdir()
    events()


def test_references_outlive_the_directory(thing):
    lio.write(T / "hold", "a")
    thing.rmdir()
    assert lio.read(T / "held") == "lio_test/a"
    assert live() == f"{int(clean().split()[0]) + 1} 2", "the held node and its data, no default group"
    assert unload_refused()
    lio.write(T / "held", "")
    assert live() == clean()


def test_dependency(thing):
    lio.write(T / "static/depend", "a")
    lio.wait_for(lambda: lio.read(T / "static/depend") == "a")
    with lio.refused(EBUSY):
        thing.rmdir()
    lio.write(T / "static/depend", "")
    thing.rmdir()


def test_open_files_and_rmdir(thing):
    files = os.open(thing / "number", os.O_RDWR), os.open(thing / "sub/deep", os.O_RDONLY)
    thing.rmdir()
    assert live() == clean(), "data do not wait for open files"
    with lio.refused(ENOENT):
        os.read(files[0], 10)
    with lio.refused(ENOENT):
        os.write(files[0], b"1")
    thing.mkdir()
    lio.write(thing / "number", "1")
    for f in files:
        os.close(f)


def test_rmdir_waits_for_a_store(thing):
    lio.write(thing / "number", "7")
    writer = threading.Thread(target=lio.write, args=(thing / "slow", "1000"))
    start = time.monotonic()
    writer.start()
    lio.wait_for(lambda: lio.read(thing / "number") == "0", interval=0.01)  # it has begun
    thing.rmdir()
    assert time.monotonic() - start >= 1
    writer.join()


def store(path, value=""):
    lio.write(T / path, value)


def show(*paths):
    """Reads them, all open at the same time; gives how many were there."""
    fds = []
    for path in paths:
        with contextlib.suppress(OSError):
            fds.append(os.open(T / path, os.O_RDONLY))
    for fd in fds:
        with contextlib.suppress(OSError):
            os.read(fd, 4096)
        os.close(fd)
    return len(fds)


def mkdir(path):
    os.mkdir(T / path)


def rmdir(path):
    os.rmdir(T / path)


def link(to, path):
    os.symlink(T / to, T / path)


def unlink(path):
    os.unlink(T / path)


def walk():
    for folder, _, files in os.walk(T):
        for f in files:
            os.lstat(os.path.join(folder, f))


# Each is done by a process of its own, over and over, whatever of it fails.
RACERS = [
    [(mkdir, "x"), (mkdir, "x/sub/things/y"), (rmdir, "x/sub/things/y"), (rmdir, "x")],
    [(mkdir, "x"), (show, "x/list"), (rmdir, "x")],
    [(show, "x/list"), (show, "x/sub/deep/other"), (show, "x/sub/things/y/blob"), (store, "x/number", 1)],
    [(mkdir, "l"), (link, "x", "l/links/1"), (link, "x/sub/things/y", "l/links/2"), (unlink, "l/links/1"),
     (unlink, "l/links/2"), (unlink, "l/links/3"), (rmdir, "l")],
    [(link, "x", "l/links/3"), (unlink, "l/links/3"), (walk,)],
    [(store, "static/depend", "x"), (store, "static/depend"), (store, "hold", "x"), (store, "held")],
    [(show, "x/number", "x/sub", "l/links")],
]


def race(steps):
    while True:
        for step, *args in steps:
            with contextlib.suppress(OSError):
                step(*args)


def test_everything_at_once():
    start = time.monotonic()
    fork = multiprocessing.get_context("fork")
    racers = [fork.Process(target=race, args=(steps,), daemon=True) for steps in RACERS]
    for r in racers:
        r.start()
    opened = 0
    try:
        # For as long as it takes on a slow machine until something was seen.
        while time.monotonic() < start + 12 or opened <= 100:
            assert time.monotonic() < start + 60 * lio.SLOW, f"opened {opened}"
            opened += show("x/number", "x/sub", "l/links", "x/sub/things/y/list", "l/blob")
    finally:
        for r in racers:
            r.kill()
            r.join()
    lio.write(T / "static/depend", "")
    time.sleep(0.5)
    lio.write(T / "static/depend", "")
    lio.write(T / "held", "")
    for link in T.glob("l/links/*"):
        link.unlink()
    for d in ("l", "x/sub/things/y", "x"):
        if (T / d).exists():
            (T / d).rmdir()
    events()


def test_the_thousandth_costs_as_much_as_the_first():
    def batch(first, last):
        """What half of them take no longer than."""
        took = []
        for i in range(first, last):
            start = time.monotonic()
            (T / f"n{i}").mkdir()
            took.append(time.monotonic() - start)
        return sorted(took)[len(took) // 2]

    first, _, last = batch(0, 500), batch(500, 1500), batch(1500, 2000)
    for i in range(2000):
        (T / f"n{i}").rmdir()
    lio.write(T / "events", "")
    assert last < 3 * first
