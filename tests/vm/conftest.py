"""Each VM test starts from an empty tree and leaves one; a kernel report during it fails it."""
import os
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import lio  # noqa: E402

REPORT = re.compile("|".join((lio.TOP / "scripts/kernel-reports").read_text().splitlines()))
KNOWN = [line.split("\t") for line in (lio.TOP / "scripts/kernel-reports.known").read_text().splitlines()]


def is_known(report):
    """Whether these lines are a fault of the reference kernel's own code (scripts/kernel-report says more)."""
    end = next((i for i, line in enumerate(report) if "end trace" in line), 0)
    text = "\n".join(report[1:end])
    return any(re.search(first, report[0]) and all(re.search(p, text) for p in rest) for first, *rest in KNOWN)


def pytest_configure(config):
    """A test fails by what one of its threads fails with: pytest only warns of that."""
    config.addinivalue_line("filterwarnings", "error::pytest.PytestUnhandledThreadExceptionWarning")


class KernelLog:
    """What the kernel has said since this was made."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)
        self.lines = []

    def read(self):
        """All lines so far."""
        while True:
            try:
                record = os.read(self.fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return self.lines
            except BrokenPipeError:
                continue  # overwritten before it was read
            self.lines.append(record.partition(";")[2].split("\n")[0])

    def has(self, pattern):
        return any(re.search(pattern, line) for line in self.read())


@pytest.fixture(autouse=True)
def klog(request):
    """The kernel's log during this test."""
    with open("/dev/kmsg", "w") as f:
        f.write(f"test: {request.node.nodeid}\n")
    log = KernelLog()
    yield log
    lines = log.read()
    os.close(log.fd)
    for i, line in enumerate(lines):
        if REPORT.search(line) and not is_known(lines[i : i + 60]):
            pytest.fail("the kernel reported:\n" + "\n".join(lines[i : i + 40]), pytrace=False)


@pytest.fixture(autouse=True)
def tidy(klog):
    """Leaves nothing in the tree. (After klog, so that what tidying up provokes counts too.)"""
    yield
    lio.clear()


@pytest.fixture(params=list(lio.BACKSTORES))
def backstore(request):
    """One of each kind of back end, 32 MB."""
    return lio.BACKSTORES[request.param]()
