"""What README.md tells a newcomer to type works, word for word."""
import re
from pathlib import Path

import lio
import pytest

IQN, CLIENT = "iqn.2003-01.org.example:disk0", "iqn.1993-08.org.debian:01:client"


def example(intro):
    """The indented block that follows the line `intro`."""
    text = (lio.TOP / "README.md").read_text()
    m = re.search(rf"^{re.escape(intro)}\n\n((?:    .*\n)+)", text, re.M)
    assert m, f"README.md has no example after '{intro}'"
    return re.sub(r"^    ", "", m[1], flags=re.M)


@pytest.fixture
def server():
    """Room in /srv, which is in memory here, for the 10 GB that targetcli allocates."""
    lio.modprobe("loop")
    with open("/tmp/srv", "wb") as f:
        f.truncate(11 << 30)
    lio.run("mkfs.ext4", "-q", "-O", "^has_journal", "/tmp/srv")
    lio.run("mount", "-o", "loop", "/tmp/srv", "/srv")
    yield
    lio.clear()
    lio.run("umount", "/srv")
    Path("/tmp/srv").unlink()


@pytest.fixture
def client():
    """open-iscsi under the name that the examples let in."""
    name = Path("/etc/iscsi/initiatorname.iscsi")
    before = name.read_text()
    name.write_text(f"InitiatorName={CLIENT}\n")
    lio.run("pkill", "-x", "iscsid", check=False)
    lio.wait_for(lambda: lio.run("pgrep", "-x", "iscsid", check=False).returncode, 10)
    yield
    lio.logout()
    lio.run("pkill", "-x", "iscsid", check=False)
    name.write_text(before)


@pytest.mark.parametrize("intro", ["With targetcli:", "With nothing but a shell:"])
def test_a_first_target(server, client, intro):
    lio.run("bash", "-ec", example(intro), timeout=240)
    assert ("127.0.0.1:3260", IQN) in lio.discover()
    lio.run("iscsiadm", "-m", "node", "-T", IQN, "-p", "127.0.0.1:3260", "--login", timeout=90)
    host = lio.wait_for(lambda: lio.session_host(IQN), 30)
    disk = lio.wait_for(lambda: lio.scsi_disk(f"{host}:0:0:0"), 30)
    assert lio.blocks(disk) == 10 << 30
    lio.run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", disk)
    lio.run("fsck.ext4", "-fn", disk)
