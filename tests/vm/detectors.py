"""The debug kernel finds what it is for: a module commits one fault a test, and each of these tests must fail by what the
kernel says of it, but for the first, the last and the leak. Run by `make check-debug` alone, which sees to that."""
import os

import failing
import lio
import pytest

# What the module is asked for, and what the kernel must say; a setting that makes it say so soon.
FAULTS = {
    # lockdep first: it says one thing only, and is off after that or after what KASAN says.
    "rcu": r"suspicious RCU usage",
    "sleep-in-atomic": r"BUG: sleeping function called from invalid context",
    "lock-inversion": r"possible circular locking dependency",
    "use-after-free": r"BUG: KASAN: slab-use-after-free in lio_fault_use_after_free",
    "c-use-after-free": r"BUG: KASAN: slab-use-after-free in lio_fault_c_use_after_free",
    "out-of-bounds": r"BUG: KASAN: slab-out-of-bounds in lio_fault_out_of_bounds",
    "shift": r"UBSAN: shift-out-of-bounds",
    "refcount": r"refcount_t: addition on 0; use-after-free",
    "warn": r"WARNING: .*faults",
    "soft-lockup": r"BUG: soft lockup",
    "rcu-stall": r"rcu.* detected .*stall",
    # After an oops, as those that follow are, no hung task is reported.
    "hung-task": r"blocked .*for more than",
    "list": r"list_add (corruption|double add)",
    "sg": r"kernel BUG at|invalid opcode",
    "overflow": r"panicked at tests/modules/glue/faults.rs",
    "assertion": r"panicked at tests/modules/glue/faults.rs",
}
SETTINGS = {
    "hung-task": {"/proc/sys/kernel/hung_task_timeout_secs": 3},
    "soft-lockup": {"/proc/sys/kernel/watchdog_thresh": 2},
    "rcu-stall": {"/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout": 3},
}


def commit(fault):
    """Has the module commit it. The module never stays."""
    p = lio.run("modprobe", "lio_faults", f"fault={fault}", check=False)
    assert p.returncode and "lio_faults" not in lio.loaded(), p.stdout


def test_nothing():
    """A test without a fault passes."""
    commit("none")


def test_leak():
    """Passes: kmemleak looks at the end of the run, and then must find ten."""
    commit("leak")


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(klog, fault):
    lio.write("/proc/sys/kernel/panic_on_oops", 0)
    before = {path: lio.read(path) for path in SETTINGS.get(fault, {})}
    for path, value in SETTINGS.get(fault, {}).items():
        lio.write(path, value)
    commit(fault)
    for path, value in before.items():
        lio.write(path, value)
    assert klog.has(FAULTS[fault]), klog.lines


def test_failing_allocations():
    """Each allocation of a mkdir fails in its turn; then it succeeds."""
    lio.modprobe("target_core_mod")
    hba = str(lio.CORE / "rd_mcp_0")
    assert failing.each(lambda: os.mkdir(hba), lambda: os.rmdir(hba)) > 3
    assert not os.path.exists(hba)
