"""What initiator and target reach together, in one VM: `single.py ROUNDS SHARE ONLY QUICK` writes a line of JSON a measurement
to out/bench/{throughput,objects,growth}.jsonl. The C modules, ours, and what bounds or rivals them, take turns; what has no bound is
measured in the first round alone."""
import json
import os
import re
import sys
import time

import growth
import machine
import objects
from machine import lio
from rows import ISCSI, LOOPBACK, all_rows, by_setup

OUT = lio.TOP / "out/bench"


def modules(which, groups, share):
    """All rows with one set of modules."""
    machine.load(which)
    for setup, rows in groups.items():
        targets = machine.export(setup)
        if setup.fabric == "loopback":
            disks = [targets[0].disk()]
        else:
            disks = [lio.login(t, settings=machine.DIGESTS if setup.digests else None)[0] for t in targets]
        for d in disks:
            machine.fill(d)
        yield from machine.fio(disks, rows, share).items()
        machine.clear()
    machine.clear(unload=True)


def limit(which, rows, share):
    """The same fio where there is no target: on null_blk, and on brd, which holds the data."""
    if which == "brd":
        lio.run("modprobe", "brd", "rd_nr=1", f"rd_size={machine.SIZE >> 10}")
    disk = machine.null_blk() if which == "null_blk" else "/dev/ram0"
    machine.fill(disk)
    yield from machine.fio([disk], rows, share).items()
    lio.run("rmmod", which)


def tgt(rows, share):
    """Debian's user-space target on a file in memory."""
    image = "/dev/shm/tgt.img"
    with open(image, "wb") as f:
        f.truncate(machine.SIZE)
    lio.run("tgtd")
    adm = ["tgtadm", "--lld", "iscsi", "--mode"]
    lio.wait_for(lambda: lio.run(*adm, "sys", "--op", "show", check=False).returncode == 0)
    fake = objects.Named("iqn.2003-01.org.example:tgt")
    lio.run(*adm, "target", "--op", "new", "--tid", "1", "-T", fake.iqn)
    lio.run(*adm, "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", image)
    lio.run(*adm, "target", "--op", "bind", "--tid", "1", "-I", "ALL")
    disk = lio.login(fake)[1]
    machine.fill(disk)
    yield from machine.fio([disk], rows, share).items()
    lio.logout()
    lio.run(*adm, "target", "--op", "delete", "--force", "--tid", "1")
    lio.run(*adm, "sys", "--op", "delete")
    os.unlink(image)


def main():
    rounds, share, only, quick = int(sys.argv[1]), float(sys.argv[2]), re.compile(sys.argv[3]), sys.argv[4]
    start = time.monotonic()
    with open(OUT / "throughput.jsonl", "w") as out, open(OUT / "objects.jsonl", "w") as out2, \
            open(OUT / "growth.jsonl", "w") as out3:
        for i in range(rounds):
            first = i == 0 and not quick
            rows = [r for r in all_rows(first) if only.search(r.name)]
            groups = by_setup(rows)
            turns = {w: modules(w, groups, share) for w in ("stock", "ours") if rows}
            bare, rival = groups.get(LOOPBACK, []), groups.get(ISCSI, [])
            turns |= {w: limit(w, bare, share) for w in ("null_blk", "brd") if bare and not (quick and w == "brd")}
            turns |= {"tgt": tgt(rival, share)} if rival and not quick else {}
            for which, results in turns.items():
                for name, (iops, ns) in results:
                    out.write(json.dumps({"row": name, "modules": which, "iops": iops, "ns": ns}) + "\n")
                out.flush()
                print(f"round {i + 1} of {rounds}, {which}: {time.monotonic() - start:.0f} s of the guest's clock", flush=True)
            for which in ("stock", "ours"):
                for name, value in objects.measure(which, only, quick, first):
                    out2.write(json.dumps({"row": name, "modules": which, "value": value}) + "\n")
                out2.flush()
                for of, n, figure, value in growth.measure(which, only, share) if first else ():
                    out3.write(json.dumps({"row": f"{of}, {figure}", "n": n, "modules": which, "value": value}) + "\n")
                    out3.flush()
                print(f"round {i + 1} of {rounds}, objects and growth, {which}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
