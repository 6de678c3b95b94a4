"""What targetcli saves is what it saves with the stock modules, for the same steps: tests/abi/saveconfig-*.json, which
STOCK=1 makes again."""
# group: saved
import json
import re
from pathlib import Path

import lio
import pytest
from test_targetcli import Targetcli, build, forget

# What only ours have, and save as it is at first.
NEW = {r"/storage_objects\[\d+\]/attributes/(emulate_sanitize|emulate_write_long|emulate_write_same_all|removable)": "0",
       r"/targets\[\d+\]/tpgs\[\d+\]/attributes/(dscp|tcp_keepalive_\w+|tcp_user_timeout|max_sessions|async_\w+)": "0",
       r"/targets\[\d+\]/tpgs\[\d+\]/attributes/max_sessions_per_initiator": "64",
       r"/targets\[\d+\]/tpgs\[\d+\](/node_acls\[\d+\])?/attributes/allowed_addresses": "any",
        r"/targets\[\d+\]/tpgs\[\d+\](/node_acls\[\d+\])?/attributes/login_redirect": ""}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def saved(cli):
    """The saved configuration without what differs at each run."""
    forget()
    call = Targetcli(cli)
    build(call)
    call("saveconfig /tmp/compare.json", "clearconfig confirm=True")
    forget()
    with open("/tmp/compare.json") as f:
        text = f.read()
    text = UUID.sub("UUID", text)
    text = re.sub(r"/dev/loop\d+", "/dev/loopN", text)
    text = re.sub(r'"(alua_lu_gp|tpg_index|index)": \d+', r'"\1": 0', text)
    # rtslib draws the names of links at random.
    text = re.sub(r'"alias": "[0-9a-f]{10}"', '"alias": "LINK"', text)
    return json.loads(text)


@pytest.mark.parametrize("cli", ["targetcli", "targetcli-pypi"])
def test_saved_as_with_the_stock_modules(cli):
    path = lio.TOP / f"tests/abi/saveconfig-{cli}.json"
    if not lio.STOCK and not path.exists():
        pytest.skip("there is no record of the stock modules: STOCK=1 makes it")
    got = saved(cli)
    if lio.STOCK:
        path.write_text(json.dumps(got, indent=1, sort_keys=True) + "\n")
        return
    want = json.loads(path.read_text())
    different = []
    compare("", want, got, different)
    assert not different, "\n".join(different)


def compare(where, want, got, out):
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted(want.keys() | got.keys()):
            if key not in want and any(re.fullmatch(n, f"{where}/{key}") and str(got[key]) == v for n, v in NEW.items()):
                continue
            if key not in want or key not in got:
                out.append(f"{where}/{key}: only {'ours' if key in got else 'stock'} has it")
            else:
                compare(f"{where}/{key}", want[key], got[key], out)
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for i, (a, b) in enumerate(zip(want, got)):
            compare(f"{where}[{i}]", a, b, out)
    elif want != got:
        out.append(f"{where}: {got!r}, stock {want!r}")


@pytest.mark.parametrize("cli", ["targetcli", "targetcli-pypi"])
def test_restored_by_modules_that_lack_an_attribute(cli):
    """Both ways between ours and the stock modules: what the other does not know is named, all else is restored."""
    forget()
    call = Targetcli(cli)
    build(call)
    call("saveconfig /tmp/other.json", "clearconfig confirm=True")
    other = json.loads(Path("/tmp/other.json").read_text())
    changed = json.loads(Path("/tmp/other.json").read_text())
    for store in changed["storage_objects"]:
        store["attributes"]["of_another_version"] = 1
    Path("/tmp/other.json").write_text(json.dumps(changed))
    said = lio.run(cli, input="restoreconfig /tmp/other.json\nsaveconfig /tmp/again.json\nclearconfig confirm=True\nexit\n",
                   timeout=300).stdout
    assert said.count("Cannot find attribute: of_another_version") == len(changed["storage_objects"]), said
    assert json.loads(Path("/tmp/again.json").read_text()) == other, said
    forget()
