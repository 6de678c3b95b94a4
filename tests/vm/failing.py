"""Allocations that fail on purpose, in the debug kernel: one after the other, or some of all."""
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


def each(do, undo, most=3000):
    """Calls `do` with its first allocation failing, then with its second, until it makes no more. It must fail with ENOMEM or
    succeed, and then `undo` is called. Gives how often it failed."""
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
            assert error.errno == errno.ENOMEM, f"allocation {n}: {error}"
            failed += 1
        else:
            undo()
            if not reached:
                return failed
    raise AssertionError(f"more than {most} allocations")
