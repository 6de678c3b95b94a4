"""libiscsi's suite on all three back ends: each test is at least as good as with the stock modules (tests/libiscsi)."""
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
    later = libiscsi.load(libiscsi.RECORDS / "later.txt") if (libiscsi.RECORDS / "later.txt").exists() else {}
    worse = [f"{test}: {results.get(test, 'missing')}, stock {was}" for test, was in sorted(stock.items())
             if libiscsi.GOODNESS.get(results.get(test), -1) < libiscsi.GOODNESS[was] and test not in later]
    assert not worse, "\n".join(worse)
