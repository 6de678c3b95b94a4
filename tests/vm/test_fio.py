"""fio with crc32c verification: all back ends, over loopback and iSCSI (open-iscsi), some seconds each. In full: long_fio.py."""
# vm: --timeout 1800
import itertools

import lio
import pytest

# What each writes, and then reads and checks.
AMOUNT = {("512", 1): "256k", ("4k", 256): "4m", ("64k", 32): "16m", ("4m", 8): "32m"}


@pytest.fixture(scope="module", params=list(itertools.product(["loopback", "iscsi"], lio.BACKSTORES)), ids="-".join)
def disk(request):
    fabric, kind = request.param
    store = lio.BACKSTORES[kind](size=64 << 20)
    yield lio.Loopback(store).disk() if fabric == "loopback" else lio.login(lio.IscsiTarget(store))[0]
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The disk stays for all of its tests."""
    yield


@pytest.mark.parametrize("bs,depth", AMOUNT, ids=lambda v: f"qd{v}" if isinstance(v, int) else v)
def test_verified(disk, bs, depth):
    r = lio.fio(disk, rw="randwrite", bs=bs, iodepth=depth, size=AMOUNT[bs, depth], runtime=None, time_based=None, timeout=400,
                verify="crc32c", verify_fatal=1, serialize_overlap=1, do_verify=1, verify_state_save=0)
    job = r["jobs"][0]
    assert job["error"] == 0 and job["write"]["total_ios"] > 0 and job["read"]["total_ios"] > 0
