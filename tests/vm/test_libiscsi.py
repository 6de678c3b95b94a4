"""libiscsi's suite on all three back ends: each test is at least as good as with the stock modules (tests/libiscsi), and
nothing is leaked."""
# vm: --timeout 3000
from pathlib import Path

import leaks
import lio
import libiscsi
import pytest

# With STOCK=1 the records of the stock modules are made again; with ours, what ours did is written beside them, to be
# committed when it changes for the better.
WHO = "stock" if lio.STOCK else "ours"


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
    assert leaks.nodes() == nodes, "configfs directories are left"
    leaks.check(before, objects=64)


@pytest.mark.parametrize("name", ["ramdisk", "fileio", "iblock"])
def test_at_least_as_good_as_stock(name, no_leaks):
    store = libiscsi.backstores()[name]
    target = lio.IscsiTarget(store)
    results = libiscsi.run(target, lio.TOP / f"out/check/libiscsi-{WHO}-{name}.log")
    release = lio.run("uname", "-r").stdout.strip()
    libiscsi.save(libiscsi.RECORDS / f"{WHO}-{name}.txt", results, f"{WHO} modules on {release}, {name}")
    assert len(results) > 230
    if lio.STOCK:
        return
    stock = libiscsi.load(libiscsi.RECORDS / f"stock-{name}.txt")
    later = libiscsi.load(libiscsi.RECORDS / "later.txt")
    least = {test: later.get(test, was) if libiscsi.GOODNESS[was] > 0 else was for test, was in stock.items()}
    worse = [f"{test}: {results.get(test, 'missing')}, expected {want}" for test, want in sorted(least.items())
             if libiscsi.GOODNESS.get(results.get(test), -1) < libiscsi.GOODNESS[want]]
    assert not worse, "\n".join(worse)
