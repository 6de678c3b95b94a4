"""What a network fabric's target costs: two VMs at the ends of a cable, the initiator in one, the target in the other, whose
busy time per I/O is what is measured. `pair.py target` serves the initiator's VM, which runs `pair.py initiator ROUNDS SHARE ONLY
QUICK` and writes a line of JSON a measurement to out/bench/cost.jsonl."""
import json
import re
import socket
import sys
import time
from pathlib import Path

import machine
from machine import lio
from objects import Named
from rows import Setup, all_rows, by_setup

TARGET, INITIATOR, PORT = "10.66.0.1", "10.66.0.2", 7000
OUT = lio.TOP / "out/bench"


def cable(address):
    """Sets up the network card."""
    lio.modprobe("virtio_net")
    card = lio.wait_for(lambda: [d for d in Path("/sys/class/net").iterdir() if (d / "device").exists()])[0].name
    lio.run("ip", "address", "add", f"{address}/24", "dev", card)
    lio.run("ip", "link", "set", card, "up")


def serve():
    """Does what the initiator's VM asks for, a line of JSON each, until that is gone."""
    cable(TARGET)
    soak = machine.Soak()
    with socket.create_server((TARGET, PORT)) as server:
        peer = server.accept()[0]
    with peer, peer.makefile("rw") as f:
        for line in f:
            what, *args = json.loads(line)
            reply = {"load": machine.load, "export": lambda *s: [t.iqn for t in machine.export(Setup(*s), TARGET)],
                     "clear": machine.clear, "unload": lambda: machine.clear(unload=True), "spent": soak.spent}[what](*args)
            f.write(json.dumps(reply) + "\n")
            f.flush()


class Target:
    """The other VM."""

    def __init__(self):
        def connect():
            try:
                return socket.create_connection((TARGET, PORT), 5)
            except OSError:
                return None
        self.sock = lio.wait_for(connect, 300)
        self.sock.settimeout(300)
        self.file = self.sock.makefile("rw")

    def ask(self, *what):
        self.file.write(json.dumps(what) + "\n")
        self.file.flush()
        return json.loads(self.file.readline())


def login(iqn, digests):
    """Its one disk."""
    return lio.login(Named(iqn, f"{TARGET}:3260", 0), settings=machine.DIGESTS if digests else None)[0]


def measure(target, which, groups, share, out):
    target.ask("load", which)
    for setup, rows in groups.items():
        disks = [login(iqn, setup.digests) for iqn in target.ask("export", *setup)]
        for d in disks:
            machine.fill(d)
        for row in rows:
            before, n, start = target.ask("spent"), machine.done(disks), time.monotonic_ns()
            machine.fio(disks, [row], share)
            after, n = target.ask("spent"), machine.done(disks) - n
            out.write(json.dumps({"row": row.name, "modules": which, "ns": (after[0] - before[0]) / n,
                                  "switches": (after[1] - before[1]) / n, "ios": n,
                                  "seconds": (time.monotonic_ns() - start) / 1e9}) + "\n")
            out.flush()
        lio.logout()
        target.ask("clear")
    target.ask("unload")


def main():
    if sys.argv[1] == "target":
        serve()
        return
    rounds, share, only, quick = int(sys.argv[2]), float(sys.argv[3]), re.compile(sys.argv[4]), sys.argv[5]
    turns = [by_setup([r for r in all_rows(i == 0 and not quick) if r.setup.fabric != "loopback" and only.search(r.name)])
             for i in range(rounds)]
    if not any(turns):
        return
    cable(INITIATOR)
    target = Target()
    with open(OUT / "cost.jsonl", "w") as out:
        for i, groups in enumerate(turns, 1):
            for which in ("stock", "ours"):
                measure(target, which, groups, share, out)
                print(f"pair: round {i} of {rounds}, {which}", flush=True)


if __name__ == "__main__":
    main()
