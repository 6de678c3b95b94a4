"""fio with crc32c verification: all back ends, over loopback and iSCSI (open-iscsi), 512 B to 4 MiB, queue depth 1 to 256.

In `make check` a few of them, some seconds each; `make check-fio` runs all, 60 s each (LIO_RS_ARGS=full)."""
# vm: --timeout 1800
import itertools
import os

import lio
import pytest

FULL = "full" in os.environ.get("LIO_RS_ARGS", "")
FABRICS = ["loopback", "iscsi"]
if FULL:
    MATRIX = list(itertools.product(["512", "4k", "64k", "1m", "4m"], [1, 32, 256]))
    SIZE = 512 << 20
else:
    MATRIX = [("512", 1), ("4k", 256), ("64k", 32), ("4m", 8)]
    SIZE = 64 << 20
# What a short one writes, and then reads and checks.
AMOUNT = {"512": "256k", "4k": "4m", "64k": "16m", "4m": "32m"}


@pytest.fixture(scope="module", params=list(itertools.product(FABRICS, lio.BACKSTORES)), ids="-".join)
def disk(request):
    fabric, kind = request.param
    store = lio.BACKSTORES[kind](size=SIZE)
    yield lio.Loopback(store).disk() if fabric == "loopback" else lio.login(lio.IscsiTarget(store))[0]
    lio.clear()


@pytest.fixture(autouse=True)
def tidy(klog):
    """The disk stays for all of its tests."""
    yield


@pytest.mark.parametrize("bs,depth", MATRIX, ids=lambda v: f"qd{v}" if isinstance(v, int) else v)
def test_verified(disk, bs, depth):
    amount = {"runtime": 60, "size": SIZE, "verify_backlog": 16} if FULL else {"runtime": None, "time_based": None, "size": AMOUNT[bs]}
    r = lio.fio(disk, rw="randwrite", bs=bs, iodepth=depth, verify="crc32c", verify_fatal=1, serialize_overlap=1, do_verify=1,
                verify_state_save=0, timeout=400, **amount)
    job = r["jobs"][0]
    assert job["error"] == 0 and job["write"]["total_ios"] > 0 and job["read"]["total_ios"] > 0
