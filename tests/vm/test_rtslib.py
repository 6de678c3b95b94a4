"""rtslib, Debian's and PyPI's: makes objects of all kinds, saves them, clears, restores, and saves the same again."""
# group: saved
import json
import os
import sys

import lio
import pytest

VERSIONS = {"debian": None, "pypi": "/opt/lio/targetcli-pypi"}
# Run by the version of rtslib that is asked for, in an interpreter of its own.
SCRIPT = r"""
import json
import sys
from rtslib_fb import (BlockStorageObject, FabricModule, FileIOStorageObject, LUN, MappedLUN, NetworkPortal, NodeACL,
                       RDMCPStorageObject, RTSRoot, TPG, Target)

path, disk = sys.argv[1:]
root = RTSRoot()
files = [FileIOStorageObject("plain", "/tmp/plain.img", 16 << 20, write_back=False),
         FileIOStorageObject("cached", "/tmp/cached.img", 16 << 20, write_back=True)]
block = BlockStorageObject("block", disk)
ram = RDMCPStorageObject("ram", 16 << 20)
files[0].set_attribute("emulate_tpu", "1")
files[0].set_attribute("max_unmap_lba_count", "2048")
files[1].set_attribute("block_size", "4096")
ram.set_attribute("emulate_model_alias", "1")

target = Target(FabricModule("iscsi"), "iqn.2003-01.org.example:rtslib")
tpg = TPG(target, 1)
luns = [LUN(tpg, n, so) for n, so in enumerate([*files, block])]
NetworkPortal(tpg, "127.0.0.1", 3260)
NetworkPortal(tpg, "[::1]", 3261)
acl = NodeACL(tpg, "iqn.2003-01.org.example:initiator")
acl.tag = "a-tag"
MappedLUN(acl, 0, luns[0], write_protect=False)
MappedLUN(acl, 7, luns[1], write_protect=True)
tpg.set_attribute("authentication", "0")
tpg.enable = True

loop = TPG(Target(FabricModule("loopback"), "naa.5001405000000001"), 1)
LUN(loop, 3, ram)

def state():
    # What a saved configuration has, sorted: lists come in the order of directories.
    def order(x):
        if isinstance(x, dict):
            return {k: order(v) for k, v in sorted(x.items())}
        if isinstance(x, list):
            return sorted((order(v) for v in x), key=lambda v: json.dumps(v))
        return x
    return order(RTSRoot().dump())

before = state()
root.save_to_file(path)
root.clear_existing(confirm=True)
empty = state()
errors = root.restore_from_file(path)
after = state()
# A second time: over what is there.
errors += root.restore_from_file(path, clear_existing=True)
again = state()
root.clear_existing(confirm=True)
print(json.dumps(dict(before=before, empty=empty, after=after, again=again, errors=errors)))
"""


def differences(a, b, path=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for k in sorted(a.keys() | b.keys()):
            yield from differences(a.get(k), b.get(k), f"{path}/{k}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from differences(x, y, f"{path}/{i}")
    elif a != b:
        yield f"{path}: {a!r}, then {b!r}"


@pytest.mark.parametrize("version", VERSIONS)
def test_save_and_restore(version, tmp_path):
    disk = lio.loop_device(16 << 20)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = dict(os.environ)
    if VERSIONS[version]:
        env["PYTHONPATH"] = VERSIONS[version]
    out = lio.run("env", *(f"{k}={v}" for k, v in env.items()), "python3", script, tmp_path / "saved.json", disk,
                  timeout=400).stdout
    print(out, file=sys.stderr)
    result = json.loads(out.splitlines()[-1])
    assert result["errors"] == []
    assert result["before"]["storage_objects"] and len(result["before"]["targets"]) == 2
    assert not result["empty"]["storage_objects"] and not result["empty"]["targets"]
    assert list(differences(result["before"], result["after"])) == []
    assert list(differences(result["before"], result["again"])) == []
