"""Allocations that fail on purpose, in the debug kernel: one after the other, or some of all; of this thread, or of whatever
thread is in a module's code."""
import contextlib
import errno
import os
from pathlib import Path

import lio

DEBUGFS = Path("/sys/kernel/debug")
KINDS = ("failslab", "fail_page_alloc")


def here():
    """Whether the kernel can."""
    return (DEBUGFS / "failslab").exists()


def prepare():
    """Allocations that may wait fail, too; no stack is printed for each."""
    for kind in KINDS:
        lio.write(DEBUGFS / kind / "ignore-gfp-wait", "N")
        lio.write(DEBUGFS / kind / "verbose", 0)


@contextlib.contextmanager
def nth(n):
    """This thread's nth allocation from now on fails. Gives a function that tells, within, whether it came to that."""
    prepare()
    fd = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    try:
        os.pwrite(fd, str(n).encode(), 0)
        yield lambda: int(os.pread(fd, 20, 0)) == 0
    finally:
        os.pwrite(fd, b"0", 0)
        os.close(fd)


def each(do, undo, also=(), most=3000):
    """Calls `do` with its first allocation failing, then with its second, until it makes no more. It must fail with ENOMEM, or an errno
    in `also`, or succeed, and then `undo` is called. Gives how often it failed."""
    failed = 0
    for n in range(1, most):
        with nth(n) as came:
            try:
                do()
                error = None
            except OSError as e:
                error = e
            reached = came()
        if error:
            assert error.errno in (errno.ENOMEM, *also), f"allocation {n}: {error}"
            failed += 1
        else:
            undo()
            if not reached:
                return failed
    raise AssertionError(f"more than {most} allocations")


# --- in whatever thread ---------------------------------------------------------------------------------------

counted = dict.fromkeys(KINDS, 0)  # attr->count in the kernel, which nothing shows


def text(module):
    """Where a module's code lies: (first address, behind the last)."""
    found = [int(line.split()[0], 16) for line in lio.read("/proc/kallsyms").splitlines()
             if line.endswith(f"[{module}]") and line.split()[1] in "tT"]
    return min(found), max(found) + 4096


def function(name, last=None):
    """Where a function of the kernel's lies, or those from it up to `last`, which is not one of them."""
    symbols = sorted((int(a, 16), n) for a, t, n in (line.split()[:3] for line in lio.read("/proc/kallsyms").splitlines()) if t in "tT")
    at = next(i for i, (_, n) in enumerate(symbols) if n == name)
    end = next(a for a, n in symbols[at + 1 :] if last in (None, n))
    return symbols[at][0], end


def setting(kind, name, value):
    lio.write(DEBUGFS / kind / name, value)


@contextlib.contextmanager
def within(where):
    """What follows is about allocations that are made by code in this range of addresses, or by what that calls."""
    prepare()
    # What kmemleak keeps of each allocation is none of those: without it, kmemleak gives up.
    books = function("__create_object", "__link_object")
    setting("fail_page_alloc", "min-order", 0)
    for kind in KINDS:
        for name, (start, end) in {"require": where, "reject": books}.items():
            setting(kind, f"{name}-start", start)
            setting(kind, f"{name}-end", end)
    try:
        yield
    finally:
        for kind in KINDS:
            setting(kind, "probability", 0)
            setting(kind, "require-start", 0)
            setting(kind, "require-end", (1 << 64) - 1)
            setting(kind, "reject-start", 0)
            setting(kind, "reject-end", 0)
        setting("fail_page_alloc", "min-order", 1)


@contextlib.contextmanager
def some(percent):
    """Of all kinds, so many fail."""
    for kind in KINDS:
        setting(kind, "interval", 1)
        setting(kind, "times", -1)
        setting(kind, "probability", percent)
    try:
        yield
    finally:
        for kind in KINDS:
            setting(kind, "probability", 0)


class Nth:
    """The nth allocation of this kind from now on fails, and no other."""

    def __init__(self, kind, n):
        self.kind, self.n = kind, n

    def __enter__(self):
        # The kernel counts up to a multiple of the interval, from where it was; an interval of 1 it does not count.
        self.interval = counted[self.kind] + self.n
        setting(self.kind, "interval", self.interval)
        setting(self.kind, "times", 1)
        setting(self.kind, "probability", 100)
        return self

    def failed(self):
        """it has failed"""
        return int(lio.read(DEBUGFS / self.kind / "times")) == 0

    def __exit__(self, *exc):
        setting(self.kind, "probability", 0)
        if self.failed() and self.interval > 1:
            counted[self.kind] = self.interval

    def reach(self, do, then):
        """Has it fail, if it has not yet, by doing more: so that it is known how far the kernel has counted. `then` each time after
        that, when none fails or counts."""
        with self:
            for _ in range(10_000):
                if self.failed():
                    return
                do()
                setting(self.kind, "probability", 0)
                then()
                setting(self.kind, "probability", 100)
        raise AssertionError("it never comes to that")


def one_by_one(do, then, kinds=KINDS, most=3000):
    """Calls `do` with the first allocation failing of those that `within` is about, then the second, until it makes no more, of each
    kind; `then` each time after that. Gives how many there were, by kind."""
    there_were = {}
    for kind in kinds:
        for n in range(1, most):
            with Nth(kind, n) as nth:
                do(f"{kind} {n}")
            then()
            if not nth.failed():
                there_were[kind] = n - 1
                if n > 1:
                    nth.reach(lambda: do(f"{kind} beyond {n}"), then)
                break  # who makes none has counted none
        else:
            raise AssertionError(f"{kind}: more than {most}")
    return there_were
