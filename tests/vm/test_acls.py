"""ACLs and demo mode: what initiators without `acls/NAME` see and may do, and how they get an ACL without being disturbed."""
# group: logins
import errno
import os

import initiator
import lio
import pytest

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
NAME = "iqn.2024-01.org.example:guest"
READ_4K = bytes.fromhex("28000000000000000800")
WRITE_4K = bytes.fromhex("2a000000000000000800")
REPORT_LUNS = bytes.fromhex("a00000000000000001000000")


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk("rd0"), lio.ramdisk("rd1"))


def login(target, name=NAME, isid=1):
    return initiator.session(target, name=name, isid=b"\x80\0\0\0\1" + bytes([isid]))


def leave(c):
    c.logout()
    c.close()


def refused(target, name=NAME):
    """The status with which a login is refused, 0 if it is not."""
    with initiator.Connection(target.portals[0]) as c:
        a = c.login(target.iqn, name=name, check=False)
        return a.login_status


def luns(c):
    status, data, _ = c.scsi(REPORT_LUNS, read=256)
    assert status == 0
    return sorted(int.from_bytes(data[i : i + 2], "big") for i in range(8, 8 + int.from_bytes(data[:4], "big"), 8))


def writes(c):
    """Whether a write works; whatever else is to be told first is."""
    for _ in range(4):
        status, _, a = c.scsi(WRITE_4K, write=bytes(4096))
        if status == 0:
            return True
        if a.sense[2] & 15 == 7:
            return False
    raise AssertionError("neither written nor protected")


def works(c, lun=0):
    """Reads; whatever is to be told first is."""
    return any(c.scsi(READ_4K, read=4096, lun=lun)[0] == 0 for _ in range(4))


def dynamic(target):
    """The names in dynamic_sessions; gone sessions may take a moment to go."""
    data = (target.path / "dynamic_sessions").read_bytes()
    return [n.decode() for n in data.replace(b"\0", b"").split(b"\n") if n]


def acl(target, name=NAME):
    return target.path / "acls" / name


def configure(target, name=NAME):
    acl(target, name).mkdir()
    return acl(target, name)


def link(path, n, lun):
    """Maps the group's `lun` as number n."""
    m = path / f"lun_{n}"
    if not m.exists():
        m.mkdir()
    (m / "lun").symlink_to(path.parent.parent / "lun" / f"lun_{lun}")
    return m


def unlink(path, n):
    (path / f"lun_{n}" / "lun").unlink()
    (path / f"lun_{n}").rmdir()


def test_attributes(target):
    """Demo mode implies caching; without it caching is the administrator's choice."""
    assert target.attrib("cache_dynamic_acls") == "1"
    target.attrib("cache_dynamic_acls", 0)
    assert target.attrib("cache_dynamic_acls") == "1"
    target.attrib("generate_node_acls", 0)
    assert target.attrib("cache_dynamic_acls") == "1"
    target.attrib("cache_dynamic_acls", 0)
    assert target.attrib("cache_dynamic_acls") == "0"
    target.attrib("generate_node_acls", 1)
    assert target.attrib("cache_dynamic_acls") == "1"


def test_any_initiator(target):
    """All LUNs of the group, those too that come later; shown in dynamic_sessions and not in acls."""
    c, d = login(target), login(target, isid=2)
    assert luns(c) == [0, 1] and writes(c) and works(c, 1)
    assert dynamic(target) == [NAME, NAME] and os.listdir(target.path / "acls") == []
    target.lun(lio.ramdisk("rd2"), 2)
    assert luns(c) == luns(d) == [0, 1, 2] and works(c, 2) and works(d, 2)
    target.remove_lun(2)
    assert luns(c) == [0, 1] and works(d)
    leave(d)
    lio.wait_for(lambda: dynamic(target) == [NAME])
    leave(c)
    lio.wait_for(lambda: dynamic(target) == [])


def test_nobody(target):
    target.attrib("generate_node_acls", 0)
    assert refused(target) == 0x0202
    configure(target)
    assert refused(target) == 0


def test_capital_letters(target):
    """Names of initiators are compared in small letters, which is how targetcli makes the ACLs of hosts that send others; both spellings
    are one initiator port."""
    target.attrib("generate_node_acls", 0)
    link(configure(target), 7, 1)
    odd = NAME.replace("guest", "Guest-01")
    assert refused(target, odd) == 0x0202
    loud = NAME.upper().replace("IQN", "iqn")
    with login(target, loud) as c, login(target) as d:
        assert luns(d) == [7] and works(d, 7)
        lio.wait_for(c.is_closed_there, 20)
    with login(target, loud) as c:
        assert luns(c) == [7] and works(c, 7)
    if lio.STOCK:
        return
    with lio.refused(errno.EEXIST):
        acl(target, loud).mkdir()
    # One that demo mode has made becomes the administrator's, and goes with it.
    target.attrib("generate_node_acls", 1)
    other = NAME.replace("guest", "demo")
    with login(target, other) as c:
        assert luns(c) == [0, 1]
        link(configure(target, other.replace("demo", "DEMO")), 3, 1)
        assert 3 in luns(c) and works(c, 3)
        unlink(acl(target, other.replace("demo", "DEMO")), 3)
    acl(target, other.replace("demo", "DEMO")).rmdir()
    target.attrib("generate_node_acls", 0)
    assert refused(target, other) == 0x0202
    # As one makes it by hand.
    link(configure(target, odd), 5, 0)
    for name in odd, odd.lower():
        with login(target, name) as c:
            assert luns(c) == [5] and works(c, 5)


def test_write_protection(target):
    """demo_mode_write_protect holds for sessions that begin; one that goes on keeps what it had."""
    target.attrib("demo_mode_write_protect", 1)
    c = login(target)
    assert not writes(c) and works(c)
    target.attrib("demo_mode_write_protect", 0)
    assert not writes(c)
    # A session beside it has the same ACL.
    d = login(target, isid=2)
    assert not writes(d)
    leave(d)
    leave(c)
    lio.wait_for(lambda: dynamic(target) == [])
    c = login(target)
    # The C modules keep the protection with the ACL, whatever the attribute says now.
    assert writes(c) == (not lio.STOCK)
    leave(c)


def test_the_acl_outlives_the_session(target):
    """The window is that of the initiator's first login, and shown as such when the ACL is configured."""
    leave(login(target))
    target.attrib("default_cmdsn_depth", 33)
    leave(login(target, "iqn.2024-01.org.example:later"))
    assert lio.read(configure(target) / "cmdsn_depth") == "64"
    assert lio.read(configure(target, "iqn.2024-01.org.example:later") / "cmdsn_depth") == "33"
    assert lio.read(configure(target, "iqn.2024-01.org.example:other") / "cmdsn_depth") == "33"


def test_kept_and_dropped(target):
    """Without demo mode an ACL that is kept still lets its initiator in, and nobody else."""
    leave(login(target))
    target.attrib("generate_node_acls", 0)
    assert refused(target, "iqn.2024-01.org.example:other") == 0x0202
    assert refused(target) == 0
    lio.wait_for(lambda: dynamic(target) == [])
    target.attrib("cache_dynamic_acls", 0)
    if lio.STOCK:  # they keep what they have
        return
    assert refused(target) == 0x0202


@ours
def test_dropped_with_the_session(target):
    """Caching that is switched off while the initiator is there: its ACL goes with it."""
    c = login(target)
    target.attrib("generate_node_acls", 0)
    target.attrib("cache_dynamic_acls", 0)
    assert works(c)
    leave(c)
    lio.wait_for(lambda: dynamic(target) == [])
    assert refused(target) == 0x0202


def test_configured_under_a_session(target):
    """Making acls/NAME leaves the session alone, with what it sees."""
    c = login(target)
    assert writes(c)
    path = configure(target)
    with lio.refused(lio.errno.EEXIST):
        path.mkdir()
    assert dynamic(target) == [] and "LOGGED_IN" in lio.read(path / "info")
    assert luns(c) == [0, 1] and writes(c) and works(c, 1)
    # A number cannot become another LUN under the session.
    (path / "lun_0").mkdir()
    with lio.refused(lio.errno.EINVAL):
        link(path, 0, 1)
    m = link(path, 0, 0)
    assert lio.read(m / "write_protect") == "0"
    assert luns(c) == [0, 1] and writes(c)
    lio.write(m / "write_protect", 1)
    assert not writes(c)
    # What is taken away is gone at once.
    unlink(path, 0)
    assert luns(c) == [1] and works(c, 1)
    link(path, 0, 0)
    assert luns(c) == [0, 1] and works(c)
    leave(c)
    c = login(target)
    # What the ACL does not show: the C modules show it until the ACL is removed.
    assert luns(c) == ([0, 1] if lio.STOCK else [0])
    unlink(path, 0)
    path.rmdir()
    with pytest.raises((AssertionError, ConnectionError)):
        c.scsi(READ_4K, read=4096, timeout=10)
    c.close()
    c = login(target)
    assert luns(c) == [0, 1] and dynamic(target) == [NAME]
    leave(c)


def test_protection_is_taken_over(target):
    """A LUN that demo mode protects stays protected when the ACL is configured."""
    target.attrib("demo_mode_write_protect", 1)
    c = login(target)
    path = configure(target)
    m = link(path, 0, 0)
    assert lio.read(m / "write_protect") == "1" and not writes(c)
    lio.write(m / "write_protect", 0)
    assert writes(c)
    leave(c)


@ours
def test_configured_between_sessions(target):
    """An initiator that is not there gets what its ACL shows, and nothing of demo mode."""
    leave(login(target))
    lio.wait_for(lambda: dynamic(target) == [])
    path = configure(target)
    link(path, 0, 1)
    c = login(target)
    assert luns(c) == [0]
    target.lun(lio.ramdisk("rd2"), 2)
    assert luns(c) == [0]
    leave(c)


def test_under_io(target):
    """fio goes on while open-iscsi's ACL is made and gets its LUNs, and while other LUNs come and go."""
    disk = lio.login(target)[0]
    proc = lio.subprocess.Popen(["fio", "--name=job", f"--filename={disk}", "--rw=randrw", "--bs=4k", "--direct=1", "--iodepth=8",
                                 "--ioengine=libaio", "--runtime=6", "--time_based", "--verify=crc32c",
                                 "--verify_state_save=0", "--size=8m"],
                                stdout=lio.subprocess.PIPE, stderr=lio.subprocess.STDOUT, text=True)
    path = configure(target, lio.initiator_name())
    for n in (0, 1):
        link(path, n, n)
    unlink(path, 1)
    lio.write(path / "lun_0/write_protect", 0)
    text = proc.communicate(timeout=120)[0]
    assert proc.returncode == 0 and "err= 0" in text, text
    lio.logout(target)


@ours
def test_many_names(target):
    """One can log in under any number of names: what is kept of that is bounded."""
    for i in range(300):
        with initiator.Connection(target.portals[0]) as c:
            c.login(target.iqn, name=f"iqn.2024-01.org.example:n{i}")
            c.logout()
    target.attrib("default_cmdsn_depth", 33)
    # The last ones are known, the first ones are not.
    depth = {i: lio.read(configure(target, f"iqn.2024-01.org.example:n{i}") / "cmdsn_depth") for i in (0, 20, 290, 299)}
    assert depth == {0: "33", 20: "33", 290: "64", 299: "64"}


def test_each_counts_what_is_its_own():
    """Commands and MiB of each initiator in its ACL, of both in the LUN and in the device."""
    names = [NAME, NAME + "-2"]
    target = lio.IscsiTarget(store := lio.ramdisk("rd0"), acls=names)
    folders = [target.path / "acls" / n / "lun_0/statistics/scsi_auth_intr" for n in names]
    folders += [target.path / "lun/lun_0/statistics/scsi_tgt_port", store.path / "statistics/scsi_lu"]

    def counted():
        return [[int(lio.read(f / n)) for n in ("in_cmds" if "port" in f.name else "num_cmds", "read_mbytes", "write_mbytes")] for f in folders]
    one, two = (login(target, n) for n in names)
    before = counted()
    for c, reads, writes_ in (one, 5, 2), (two, 0, 3):
        for _ in range(reads):
            assert c.scsi(bytes.fromhex("28000000000000080000"), read=1 << 20)[0] == 0
        for _ in range(writes_):
            assert c.scsi(bytes.fromhex("2a000000000000080000"), write=bytes(1 << 20))[0] == 0
    more = [[b - a for a, b in zip(x, y)] for x, y in zip(before, counted())]
    assert more == [[7, 5, 2], [3, 0, 3], [10, 5, 5], [10, 5, 5]], more
    for c in one, two:
        leave(c)


@ours
def test_a_mapping_has_one_link(target):
    """What is left of a link whose LUN has gone does not take its successor's mapping away."""
    mapped, lun = target.acl(NAME) / "lun_0", target.path / "lun/lun_0"
    store = lio.links(lun)[0]
    device = store.resolve()
    store.unlink()
    (lun / "again").symlink_to(device)
    with lio.refused(lio.errno.EEXIST):
        (mapped / "new").symlink_to(lun)
    (mapped / "lun").unlink()
    (mapped / "new").symlink_to(lun)
    with login(target) as c:
        assert 0 in luns(c)
