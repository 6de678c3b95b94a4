"""`make check-libiscsi-matrix`: each of libiscsi's tests in the device configurations in which it has something to test. None may fail, but
those that tests/libiscsi/argued.txt argues with the standard; each must run to its end, not skip, in one configuration at least, but those
that wait for what tests/libiscsi/later.txt says.

The result is tests/libiscsi/matrix.txt: for each test, where it ran."""
# A configuration that the modules do not have yet refuses to be set up: its tests are those of later.txt.
import collections
import contextlib
import os
import re

import libiscsi
import lio
import storage

SIZE = 64 << 20
THIN = {"emulate_tpu": 1, "emulate_tpws": 1}
OUT = lio.TOP / "out/check"


def served(store, attributes, write_protect=False):
    for name, value in attributes.items():
        store.attrib(name, value)
    target = lio.IscsiTarget(store)
    if write_protect:
        target.attrib("demo_mode_write_protect", 1)
    return target


@contextlib.contextmanager
def one(make, attributes=(), **options):
    """A target with one back end, which EXTENDED COPY finds by its serial number."""
    yield served(make(size=SIZE, serial="5d3c6a70-0000-4000-8000-000000000001"), dict(attributes), **options), None


@contextlib.contextmanager
def on_scsi_debug(attributes, **parameters):
    """A block device with properties that loop devices do not have."""
    with storage.scsi_debug(dev_size_mb=64, delay=0, **parameters) as disk:
        yield served(lio.iblock(dev=disk), attributes), None


@contextlib.contextmanager
def slow(attributes):
    """A disk that takes a second for each write: what goes on in the background lasts."""
    size = 32 << 20
    below = lio.loop_device(size)
    lio.modprobe("dm_mod", "dm_delay")
    with storage.dm("slow", f"0 {size // 512} delay {below} 0 0 {below} 0 1000\n") as disk:
        try:
            yield served(lio.iblock(dev=disk), attributes), None
        finally:
            lio.clear()


@contextlib.contextmanager
def two_paths():
    store = lio.fileio(size=SIZE)
    yield lio.IscsiTarget(store), lio.IscsiTarget(store, iqn="iqn.2003-01.org.example:t2", portals=("127.0.0.1:3261",))


@contextlib.contextmanager
def authenticated():
    """Nobody gets in without CHAP."""
    target = lio.IscsiTarget(lio.ramdisk(size=SIZE))
    for name, value in {"userid": "libiscsi", "password": "a-secret-of-some-length"}.items():
        lio.write(target.path / "auth" / name, value)
    target.attrib("authentication", 1)
    target.login = "libiscsi%a-secret-of-some-length@"
    yield target, None


@contextlib.contextmanager
def several():
    """Units between which something can be copied, found by their names."""
    made = libiscsi.backstores()
    yield lio.IscsiTarget(made["fileio"], made["ramdisk"]), None


CONFIGURATIONS = {
    # Name: what makes it, the suites that it is for, the options of iscsi-test-cu
    "full": (lambda: one(lio.ramdisk), "ALL", "-d"),
    "thin": (lambda: one(lio.fileio, THIN), f"{libiscsi.PART} WriteSame10", "-d"),
    "4096": (lambda: one(lio.fileio, THIN | {"block_size": 4096}), libiscsi.PART, "-d"),
    "protected": (lambda: one(lio.fileio, THIN, write_protect=True), "ReadOnly", "-d"),
    "removable": (lambda: one(lio.fileio, THIN | {"removable": 1}), "NoMedia PreventAllow StartStopUnit", "-d"),
    "sanitize": (lambda: one(lio.fileio, THIN | {"emulate_sanitize": 1}), "Sanitize.BlockErase Sanitize.BlockEraseReserved "
                 "Sanitize.CryptoErase Sanitize.CryptoEraseReserved Sanitize.ExitFailureMode Sanitize.InvalidServiceAction "
                 "Sanitize.Overwrite Sanitize.OverwriteReserved Sanitize.Readonly Sanitize.Reservations", "-d -S"),
    "slow": (lambda: slow({"emulate_sanitize": 1}), "Sanitize.Reset", "-d -S"),
    "512e": (lambda: on_scsi_debug(THIN, lbpu=1, lbpws=1, lbpws10=1, physblk_exp=3, unmap_granularity=8),
             "CompareAndWrite GetLBAStatus Unmap WriteSame10 WriteSame16", "-d"),
    "zero": (lambda: one(lio.ramdisk, {"emulate_write_same_all": 1}), "WriteSame10.ZeroBlocks WriteSame16.ZeroBlocks", "-d"),
    "atomic": (lambda: on_scsi_debug({}, atomic_wr=1, atomic_wr_max_length=256, atomic_wr_align=4, atomic_wr_gran=4),
               "WriteAtomic16", "-d"),
    "paths": (two_paths, "MultipathIO", "-d"),
    # libiscsi gives its session up in a test of the suite, after which these find none.
    "alone": (lambda: one(lio.ramdisk), "iSCSITMF.LUNResetSimpleAsync iSCSITMF.LogoutDuringIOAsync", "-d"),
    "chap": (authenticated, "iSCSICHAP", "-d"),
    "copy": (several, "ExtendedCopy ReceiveCopyResults", "-d"),
    "pi": (lambda: one(lio.fileio, {"pi_prot_type": 1, "pi_prot_format": 1}), libiscsi.PART, "-d"),
}


def results_of(name, make, suites, options):
    """Of one configuration: {test: result}, {test: why it skipped}, {test: where it failed}"""
    results, why, where = {}, {}, {}
    with make() as (target, second):
        for suite in suites.split():
            log = OUT / f"libiscsi-{name}-{'part' if suite == libiscsi.PART else suite}.log"
            family = "" if suite in ("ALL", libiscsi.PART) else "iSCSI." if suite.startswith("iSCSI") else "SCSI."
            part = libiscsi.run(target, log, tests=family + suite, options=options, second=second)
            assert part, f"{name}: no test in {suite}"
            results |= part
            why |= libiscsi.reasons(log.read_text())
            where |= libiscsi.failures(log.read_text())
    return results, why, where


def argued():
    """{(configuration, test): where it may fail}, `*` being each configuration; None: anywhere."""
    lines = (libiscsi.RECORDS / "argued.txt").read_text().splitlines()
    may = {}
    for configuration, test, *where in (line.split() for line in lines if line and not line.startswith("#")):
        file, _, numbers = where[0].partition(":") if where else ("", "", "")
        may[configuration, test] = {f"{file}:{n}" for n in numbers.split(",")} if where else None
    return may


def is_argued(may, configuration, test, where):
    """It fails where it is argued that it may, and nowhere else."""
    rows = [may[row] for row in ((configuration, test), ("*", test)) if row in may]
    return any(row is None or where <= row for row in rows)


def test_matrix(klog):
    only = (re.search(r"only=(\S+)", os.environ.get("LIO_RS_ARGS", "")) or [0, ""])[1].split(",")
    ran, failed, why, absent = collections.defaultdict(list), [], {}, []
    for name, row in CONFIGURATIONS.items():
        if only != [""] and name not in only:
            continue
        try:
            results, skipped, where = results_of(name, *row)
        except OSError as e:
            print(f"{name}: not there ({e})")
            absent.append(name)
            continue
        finally:
            lio.clear()
        for test, result in results.items():
            ran[test] += [name] if result == "pass" else []
            failed += [(name, test, where[test])] if result == "fail" else []
        why |= skipped
        print(name + ": " + ", ".join(f"{n} {r}" for r, n in sorted(collections.Counter(results.values()).items())), flush=True)
    may = argued()
    lines = [f"{test} {','.join(where) or '-'}" for test, where in sorted(ran.items())]
    print("\n".join(lines))
    wrong = [f"{name}: {test} {' '.join(sorted(where))}" for name, test, where in failed if not is_argued(may, name, test, where)]
    assert not wrong, "these failed:\n" + "\n".join(wrong)
    if only != [""]:
        return
    note = f"# where each test ran; not there: {', '.join(absent) or 'nothing'}"
    (libiscsi.RECORDS / "matrix.txt").write_text("\n".join([note] + lines) + "\n")
    later = libiscsi.load(libiscsi.RECORDS / "later.txt")
    nowhere = [f"{test}: {why.get(test)}" for test, where in sorted(ran.items())
               if not where and later.get(test) != "skip" and not any(row[1] == test for row in may)]
    assert not nowhere, "these ran nowhere:\n" + "\n".join(nowhere)
    assert len(ran) >= 238
