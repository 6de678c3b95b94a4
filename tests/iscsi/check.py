#!/usr/bin/env python3
"""Looks that RFC7143.md names each clause with a MUST, that each test named in it exists, and that each row has a result; the
same of ATTRIBUTES.md for each file that can be written; and that the tests named in SCSI.md and FAULTS.md exist. Prints FILE:LINE:
what is wrong."""
import fnmatch
import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TABLE = TOP / "tests/iscsi/RFC7143.md"
ATTRIBUTES = TOP / "tests/iscsi/ATTRIBUTES.md"
RESULT = re.compile(r"shown\b|not built: |otherwise: |n/a: ")
# The clauses of RFC 7143 that have a MUST, MUST NOT, SHALL or REQUIRED; besides, appendix C.
CLAUSES = """
2.3 2.4 4.2.1 4.2.2.1 4.2.2.2 4.2.2.3.2 4.2.2.3.3 4.2.2.3.4 4.2.2.4 4.2.3.3 4.2.3.4 4.2.3.5 4.2.3.6 4.2.4 4.2.5.1 4.2.5.2
4.2.5.3 4.2.7.1 4.2.7.2 4.2.7.4 4.3 4.4.2 4.4.3 4.5 4.6.1.2 6.1 6.2 6.2.1 6.2.2 6.3 6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.4 7.1.4
7.1.4.3 7.1.5 7.2.1 7.2.2 7.3 7.4.1 7.4.2.1 7.4.2.2 7.5 7.7 7.8 7.9 7.11 7.12 7.14 7.15 9.1 9.2 9.2.1 9.2.2 9.2.3 9.3.1 9.3.2
9.3.3 9.4 10.1.2 10.2 10.6 10.7 11 11.2.1.2 11.2.1.5 11.2.1.6 11.2.1.8 11.2.2.3 11.3.1 11.3.4 11.3.5 11.4.1 11.4.2 11.4.3
11.4.5.1 11.4.5.2 11.4.5.3 11.4.6 11.4.7 11.4.8 11.4.9 11.4.11 11.5.1 11.5.2 11.5.4 11.5.5 11.5.6 11.6 11.6.1 11.6.2 11.7
11.7.1 11.7.2 11.7.3 11.7.4 11.7.7 11.8 11.8.1 11.8.4 11.8.5 11.9.1 11.9.3 11.10 11.10.2 11.10.3 11.10.4 11.10.5 11.11.1
11.11.2 11.11.4 11.11.6 11.12 11.12.2 11.12.4 11.12.4.1 11.12.4.2 11.12.5 11.12.6 11.12.7 11.12.8 11.12.10 11.13.1 11.13.2
11.13.3 11.13.5 11.13.6 11.13.7 11.13.8 11.14 11.14.2 11.14.5 11.15 11.15.2 11.16 11.16.1 11.16.2 11.16.3 11.16.4 11.16.5
11.16.6 11.16.7 11.17.1 11.18 11.18.1 11.18.2 11.19 11.19.1 11.19.3 12 12.1 12.1.1 12.1.2 12.1.3 13 13.1 13.4 13.5 13.8 13.11
13.12 13.14 13.19 13.21 13.22 13.23 13.24 13.25 13.26.1 13.26.2 14 15""".split()


def text(path):
    return (TOP / path).read_text() if (TOP / path).exists() else ""


def exists(name, proto, malformed, judge):
    if m := re.fullmatch(r"(test_\w+)(?:::(test_\w+))?", name):
        return f"def {m[2]}(" in text(f"tests/vm/{m[1]}.py") if m[2] else bool(text(f"tests/vm/{m[1]}.py"))
    if name.startswith("proto::"):
        return re.search(rf"\bfn {re.escape(name[7:])}\(\)", proto)
    if name.startswith("malformed: "):
        return any(case.startswith(name[11:]) for case in malformed)
    if name.startswith("fuzz/"):
        return bool(text(f"tests/fuzz/src/bin/{name[5:]}.rs"))
    if name.startswith("judge "):
        return re.search(rf'"(?:[^"]*, )?{re.escape(name[6:])}[:,]', judge)
    return False


def attributes():
    """What is wrong with the table of attributes."""
    bad, named = [], set()
    for n, line in enumerate(text(ATTRIBUTES.relative_to(TOP)).splitlines(), 1):
        cells = [c.strip() for c in line.strip("| ").split("|")]
        if not line.startswith("| `"):
            continue
        named |= set(re.findall(r"`([^`]+)`", cells[0]))
        tests = re.findall(r"`([^`]+)`", cells[1])
        bad += [f"{ATTRIBUTES.name}:{n}: there is no {t}" for t in tests if not exists(t, "", (), "")]
        if not tests or len(cells) != 3 or not re.match(r"works\b|refused: |taken, ", cells[2]):
            bad.append(f"{ATTRIBUTES.name}:{n}: nothing shows it, or no result")
    there = set()
    for path in re.findall(r"^-rw\S+ \./iscsi/(\S+)", text("tests/abi/tree.txt"), re.M):
        for a, b in ((r"^iqn[^/]*", "IQN"), (r"^IQN/tpgt_1", "G"), (r"^G/acls/[^/]*", "A"), (r"lun_\d+", "lun_N"), (r"np/[^/]*", "np/PORTAL")):
            path = re.sub(a, b, path)
        there.add(path)
    bad += [f"{ATTRIBUTES.name}: nothing about {path}" for path in sorted(there - named)]
    files = "".join(p.read_text() for p in sorted((TOP / "fabrics/iscsi/src/tree").glob("*.rs")))
    names = {path.rsplit("/", 1)[-1] for path in named}
    return bad + [f"{ATTRIBUTES.name}: nothing about {name}" for name in sorted(set(re.findall(r'\brw "(\w+)"', files)) - names)]


def named_tests():
    """Names of tests, `FILE::TEST` with or without test_ and with *, in the other tables, of which there are none."""
    bad = []
    for name in ("SCSI.md", "FAULTS.md"):
        for n, line in enumerate(text(f"tests/{name}").splitlines(), 1):
            if not line.startswith("|"):
                continue
            for file, test in re.findall(r"`(?:test_)?(\w+)::(?:test_)?([\w*]+)`", line):
                tests = re.findall(r"^def test_(\w+)\(", text(f"tests/vm/test_{file}.py"), re.M)
                if not fnmatch.filter(tests, test):
                    bad.append(f"{name}:{n}: there is no {file}::{test}")
    return bad


def main():
    proto = "".join(p.read_text() for p in sorted((TOP / "fabrics/iscsi/proto").rglob("*.rs")))
    judge = text("tests/vm/judge.py")
    sys.path.insert(0, str(TOP / "tests/vm"))
    import malformed

    cases = {case.name for case in malformed.CASES}
    bad = 0
    for n, line in enumerate(TABLE.read_text().splitlines(), 1):
        cells = [c.strip() for c in line.strip("| ").split("|")]
        if not line.startswith("| ") or len(cells) != 4 or cells[0] in ("clause", "---"):
            if line.startswith("| ") and len(cells) != 4:
                print(f"{TABLE.name}:{n}: {len(cells)} cells")
                bad += 1
            continue
        names = [f"{name} {clause}".strip() for name, clause in re.findall(r"`([^`]+)`(?: ([\d.]+))?", cells[2])]
        for name in names:
            if not exists(name, proto, cases, judge):
                print(f"{TABLE.name}:{n}: there is no {name}")
                bad += 1
        if not RESULT.match(cells[3]):
            print(f"{TABLE.name}:{n}: no result")
            bad += 1
        elif not names and not cells[3].startswith("n/a"):
            print(f"{TABLE.name}:{n}: nothing shows it")
            bad += 1
    table, _, others = TABLE.read_text().partition("## Clauses whose MUSTs bind others")
    named = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| ")) + others
    for clause in CLAUSES:
        if clause not in re.findall(r"\d+(?:\.\d+)*", named):
            print(f"{TABLE.name}: nothing about {clause}")
            bad += 1
    wrong = attributes() + named_tests()
    print("".join(f"{line}\n" for line in wrong), end="")
    return 1 if bad or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
