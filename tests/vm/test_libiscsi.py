"""libiscsi's suite on all three back ends: each test is at least as good as with the stock modules (tests/libiscsi), and
nothing is leaked.

`make check` runs the whole suite on the RAM disk, on the others what reaches the back end; `make check-libiscsi-matrix` runs all of it on
each (LIO_RS_ARGS="all=1")."""
# vm: --timeout 3000
import os
from fnmatch import fnmatchcase
from pathlib import Path

import leaks
import lio
import libiscsi
import pytest

# With STOCK=1 the records of the stock modules are made again; with ours, what ours did is written beside them, to be
# committed when it changes for the better.
WHO = "stock" if lio.STOCK else "ours"
WHOLE = lio.STOCK or "all=1" in os.environ.get("LIO_RS_ARGS", "")


@pytest.fixture(scope="module")
def warm():
    """What is allocated once and stays is there."""
    libiscsi.run(lio.IscsiTarget(*libiscsi.backstores().values()), Path("/tmp/libiscsi-warm.log"), tests="SCSI.PrinReadKeys")
    lio.clear()


@pytest.fixture
def no_leaks(warm, klog):
    """A test that asks for this leaves nothing behind."""
    before, nodes = leaks.Held(), leaks.nodes()
    yield
    lio.clear()
    lio.wait_for(lambda: leaks.nodes() == nodes)
    leaks.check(before, objects=64)


@pytest.mark.parametrize("name", ["ramdisk", "fileio", "iblock"])
def test_at_least_as_good_as_stock(name, no_leaks):
    store = libiscsi.backstores()[name]
    target = lio.IscsiTarget(store)
    whole = WHOLE or name == "ramdisk"
    results = libiscsi.run(target, lio.TOP / f"out/check/libiscsi-{WHO}-{name}.log", tests="ALL" if whole else libiscsi.PART)
    if whole:
        release = lio.run("uname", "-r").stdout.strip()
        libiscsi.save(libiscsi.RECORDS / f"{WHO}-{name}.txt", results, f"{WHO} modules on {release}, {name}")
        assert len(results) > 230
    if lio.STOCK:
        return
    stock = libiscsi.load(libiscsi.RECORDS / f"stock-{name}.txt")
    if not whole:
        stock = {test: was for test, was in stock.items() if fnmatchcase(f"SCSI.{test}", libiscsi.PART) and not test.startswith("iSCSI")}
        assert len(stock) > 80
    later = libiscsi.load(libiscsi.RECORDS / "later.txt")
    least = {test: later.get(test, was) if libiscsi.GOODNESS[was] > 0 else was for test, was in stock.items()}
    worse = [f"{test}: {results.get(test, 'missing')}, expected {want}" for test, want in sorted(least.items())
             if libiscsi.GOODNESS.get(results.get(test), -1) < libiscsi.GOODNESS[want]]
    assert not worse, "\n".join(worse)
