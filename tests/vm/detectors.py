"""A debug kernel finds what it is for: a module commits one fault a test, and each of these tests must fail by what the
kernel says of it, but for the first, the last and the leak. Run by scripts/check-flavour alone, which sees to that."""
import os

import failing
import lio
import pytest

DEBUG, KCSAN, RT = "-lio-debug", "-lio-kcsan", "-rt-amd64"
# What the module is asked for, what the kernel must say, and which kernel does; a setting that makes it say so soon.
ALL = {
    # lockdep first: it says one thing only, and is off after that or after what KASAN says.
    "rcu": (r"suspicious RCU usage", DEBUG),
    "sleep-in-atomic": (r"BUG: sleeping function called from invalid context", DEBUG, KCSAN),
    "lock-inversion": (r"possible circular locking dependency", DEBUG),
    "use-after-free": (r"BUG: KASAN: slab-use-after-free in lio_fault_use_after_free", DEBUG),
    "c-use-after-free": (r"BUG: KASAN: slab-use-after-free in lio_fault_c_use_after_free", DEBUG),
    "out-of-bounds": (r"BUG: KASAN: slab-out-of-bounds in lio_fault_out_of_bounds", DEBUG),
    "race": (r"BUG: KCSAN: data-race in lio_fault_racy_add", KCSAN),
    "c-race": (r"BUG: KCSAN: data-race in lio_fault_c_racy_add", KCSAN),
    "unknown-race": (r"race at unknown origin", KCSAN),
    "shift": (r"UBSAN: shift-out-of-bounds", DEBUG, RT),
    "refcount": (r"refcount_t: addition on 0; use-after-free", DEBUG, KCSAN, RT),
    "warn": (r"WARNING: .*faults", DEBUG, KCSAN, RT),
    "soft-lockup": (r"BUG: soft lockup", DEBUG, KCSAN, RT),
    "rcu-stall": (r"rcu.* detected .*stall", DEBUG, KCSAN, RT),
    # After an oops, as those that follow are, no hung task is reported.
    "hung-task": (r"blocked .*for more than", DEBUG, KCSAN, RT),
    "schedule-in-atomic": (r"BUG: scheduling while atomic", RT),
    "list": (r"list_add (corruption|double add)", DEBUG, KCSAN, RT),
    "sg": (r"kernel BUG at|invalid opcode", DEBUG, KCSAN),
    "overflow": (r"panicked at tests/modules/glue/faults.rs", DEBUG, KCSAN, RT),
    "assertion": (r"panicked at tests/modules/glue/faults.rs", DEBUG, KCSAN),
}
FAULTS = {name: says for name, (says, *kernels) in ALL.items() if os.uname().release.endswith(tuple(kernels))}
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


@pytest.mark.skipif(not os.path.exists("/sys/kernel/debug/kmemleak"), reason="this kernel has no kmemleak")
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


@pytest.mark.skipif(not failing.here(), reason="in this kernel no allocation can be made to fail")
def test_failing_allocations():
    """Each allocation of a mkdir fails in its turn; then it succeeds."""
    lio.modprobe("target_core_mod")
    hba = str(lio.CORE / "rd_mcp_0")
    assert failing.each(lambda: os.mkdir(hba), lambda: os.rmdir(hba)) > 3
    assert not os.path.exists(hba)
