"""The target of `make check-boot`, in a VM of its own: exports a root file system to the VM at the other end of the cable, until that has done
with it; then looks what became of it. Arguments: the folder shared with the host."""
import json
import shutil
import sys
import time
from pathlib import Path

import lio

SHARED = Path(sys.argv[1])
IQN, INITIATOR = "iqn.2003-01.org.example:root", "iqn.2003-01.org.example:booted"


def sessions(t):
    return [json.loads(line) for line in lio.read(t.path / "sessions").splitlines() if line.strip()] if not lio.STOCK else []


lio.modprobe("virtio_net")
card = lio.wait_for(lambda: [d for d in Path("/sys/class/net").iterdir() if (d / "device").exists()])[0].name
lio.run("ip", "address", "add", "10.66.0.1/24", "dev", card)
lio.run("ip", "link", "set", card, "up")
# No image of the kind that lio.clear() deletes.
shutil.copy(SHARED / "root.img", "/tmp/root.disk")
store = lio.fileio("root", size=(SHARED / "root.img").stat().st_size, file="/tmp/root.disk")
t = lio.IscsiTarget(store, iqn=IQN, portals=("10.66.0.1:3260",), acls=(INITIATOR,))
(SHARED / "ready").touch()
seen = {}
while not (SHARED / "done").exists():
    for s in sessions(t):
        if s["session"] not in seen:
            print("target: session", s["session"], "of", s["initiator"], "at", s["peer"], flush=True)
        seen[s["session"]] = s
    time.sleep(0.5)
assert lio.STOCK or len(seen) >= 2, "the session was never taken up again"
assert all(s["initiator"] == INITIATOR and not s["dynamic"] for s in seen.values())
print("target:", sum(s["rx_octets"] for s in seen.values()) >> 10, "KiB written,", sum(s["tx_octets"] for s in seen.values()) >> 10, "KiB read")
lio.clear()
# What the journal has is put in its place first, as the next mount would.
lio.run("e2fsck", "-p", "/tmp/root.disk", check=False)
print("target:", lio.run("e2fsck", "-f", "-n", "/tmp/root.disk").stdout.splitlines()[-1])
