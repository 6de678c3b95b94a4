"""Runs libiscsi's iscsi-test-cu against a target, and reads what it says of each test.

A record (tests/libiscsi/*.txt) has a line for each test: "RESULT SUITE.TEST", RESULT being pass, skip or fail. A test
that skips a part of itself counts as skip: iscsi-test-cu reports it as passed."""
import os
import re
import time
from pathlib import Path

import lio

RECORDS = lio.TOP / "tests/libiscsi"
GOODNESS = {"fail": 0, "skip": 1, "pass": 2}
SIZE = 64 << 20
# What reaches the back end, by one form of each command: not those of 10 and 12 bytes where there is one of 16, nor what is refused for its
# address, nor what finds differences, which the engine does for all of them.
PART = "SCSI.[CEGOPRUVW]*[!02].[!BCMV]*"


def backstores():
    """The three back ends as the records were made: unmapping on wherever the back end can."""
    os.makedirs("/etc/target/pr", exist_ok=True)  # without it the stock modules fail each change of a reservation
    # As targetcli makes them: with a serial number, by which EXTENDED COPY finds them.
    made = {name: lio.BACKSTORES[name](size=SIZE, serial=f"5d3c6a70-0000-4000-8000-00000000000{n}")
            for n, name in enumerate(("ramdisk", "fileio", "iblock"))}
    for name in ("fileio", "iblock"):
        for attribute in ("emulate_tpu", "emulate_tpws"):
            made[name].attrib(attribute, 1)
    return made


def run(target, log, timeout=1500, tests="ALL", options="-d", second=None):
    """The whole suite, or a part of it; its output goes to the file `log`. `second` is another way to the same unit.
    Gives {test: result}."""
    url = " ".join(f"iscsi://{getattr(t, 'login', '')}{t.portals[0]}/{t.iqn}/0" for t in (target, second) if t)
    log.parent.mkdir(parents=True, exist_ok=True)
    here = Path("/tmp/libiscsi.log")  # 7 MB in small pieces
    start = time.monotonic()
    status = lio.run("bash", "-c", f"timeout {timeout} iscsi-test-cu {options} -V -t '{tests}' {url} > {here} 2>&1", check=False,
                     timeout=timeout + 20).returncode
    text = here.read_text(errors="replace")
    log.write_text(text)
    print(f"{log.stem}: {time.monotonic() - start:.0f} s")
    assert status != 124, f"iscsi-test-cu did not end within {timeout} s; {log} has what it said"
    assert "Run Summary" in text, f"iscsi-test-cu did not end (exit status {status}); {log} has what it said"
    return parse(text)


def parse(text):
    results, suite = {}, None
    for part in re.split(r"^(?=Suite: |  Test: )", text, flags=re.M):
        if m := re.match(r"Suite: (\S+)", part):
            suite = m[1]
        elif m := re.match(r"  Test: (\S+) \.\.\.", part):
            part = part.split("\nRun Summary")[0]
            end = re.search(r"(?:^|\.\.\. *)(passed|FAILED$)", part, re.M)
            # What follows is already the next suite's.
            skipped = end and "[SKIPPED]" in part[: end.start()]
            result = "fail" if not end or end[1] != "passed" else "skip" if skipped else "pass"
            results[f"{suite}.{m[1]}"] = result
    return results


def reasons(text):
    """{test: why it skipped, in its own words}"""
    why, suite = {}, None
    for part in re.split(r"^(?=Suite: |  Test: )", text, flags=re.M):
        if m := re.match(r"Suite: (\S+)", part):
            suite = m[1]
        elif (m := re.match(r"  Test: (\S+) \.\.\.", part)) and (said := re.search(r"\[SKIPPED\] *([^\n]*)", part)):
            why[f"{suite}.{m[1]}"] = said[1]
    return why


def failures(text):
    """{test: where it failed, a set of FILE:LINE}"""
    where, suite = {}, None
    for part in re.split(r"^(?=Suite: |  Test: )", text, flags=re.M):
        if m := re.match(r"Suite: (\S+)", part):
            suite = m[1]
        elif m := re.match(r"  Test: (\S+) \.\.\.", part):
            where[f"{suite}.{m[1]}"] = set(re.findall(r"^ +\d+\. (\S+:\d+) ", part, re.M))
    return where


def load(path):
    lines = (line.split() for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: result for result, name in lines}


def save(path, results, note):
    path.parent.mkdir(parents=True, exist_ok=True)
    count = {r: sum(v == r for v in results.values()) for r in ("pass", "skip", "fail")}
    head = f"# {note}: " + ", ".join(f"{n} {r}" for r, n in count.items())
    path.write_text("\n".join([head] + [f"{r} {name}" for name, r in sorted(results.items())]) + "\n")
