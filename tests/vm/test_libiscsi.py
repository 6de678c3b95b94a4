"""libiscsi's suite on all three back ends: each test is at least as good as with the stock modules (tests/libiscsi)."""
# vm: --timeout 3000
import lio
import libiscsi
import pytest

# With STOCK=1 the records of the stock modules are made again; with ours, what ours did is written beside them, to be
# committed when it changes for the better.
WHO = "stock" if lio.STOCK else "ours"


@pytest.mark.parametrize("name", ["ramdisk", "fileio", "iblock"])
def test_at_least_as_good_as_stock(name):
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
