"""Portals in namespaces, with scopes, before their addresses are there, removed under logins; what TCP is told; where the threads run; who
may come from where, and how many; the list of sessions."""
# vm: --timeout 600
# group: portals
import contextlib
import errno
import json
import os
import re
import socket
import time
from pathlib import Path

import initiator
import lio
import pytest
from netns import inside

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise, or not")
NS = "lio-portals"
NAME = "iqn.2024-01.org.example:guest"
ANY = "0.0.0.0:3260"
READ_1M = bytes.fromhex("28000000000000080000")


@pytest.fixture
def namespace():
    """Two namespaces, a cable between them."""
    lio.run("ip", "netns", "add", NS)
    lio.run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", NS)
    lio.run("ip", "address", "add", "10.88.0.1/24", "dev", "near")
    lio.run("ip", "-n", NS, "address", "add", "10.88.0.2/24", "dev", "far")
    for where, dev in ((), "near"), (("-n", NS), "far"), (("-n", NS), "lo"):
        lio.run("ip", *where, "link", "set", dev, "up")
    yield
    # The portals have references on their namespaces.
    lio.clear()
    lio.run("ip", "netns", "del", NS)


def target(n=1, portals=("127.0.0.1:3260",), **kw):
    return lio.IscsiTarget(lio.ramdisk(f"rd{n}", size=4 << 20), iqn=f"iqn.2003-01.org.example:t{n}", portals=portals, **kw)


def status(t, portal="127.0.0.1:3260", source=None, name=NAME, isid=1):
    """The status of a login, which ends again."""
    host, port = portal.rsplit(":", 1)
    s = socket.create_connection((host.strip("[]"), int(port)), 10 * lio.SLOW, source and (source, 0))
    with initiator.Connection.of(s) as c:
        a = c.login(t.iqn, name=name, isid=b"\x80\0\0\0\2" + bytes([isid]), check=False)
        if a.login_status == 0:
            c.logout()
        return a.login_status


def found(portal, source=None, name=NAME):
    """What SendTargets says: {name: [addresses]}."""
    host, port = portal.rsplit(":", 1)
    s = socket.create_connection((host.strip("[]"), int(port)), 10 * lio.SLOW, source and (source, 0))
    with initiator.Connection.of(s) as c:
        c.login(None, name=name)
        names = {}
        for item in filter(None, c.text_request({"SendTargets": "All"}).data.decode().split("\0")):
            key, value = item.split("=", 1)
            if key == "TargetName":
                last = names.setdefault(value, [])
            else:
                last.append(value)
        return names


def test_namespaces(namespace):
    """One address in two namespaces is two portals, each with its own targets; no one hears of what it cannot reach."""
    here, there = target(1, (ANY,)), target(2, ())
    inside(NS, lambda: (there.path / "np" / ANY).mkdir())
    assert status(here, "10.88.0.1:3260") == 0 and status(there, "10.88.0.1:3260") == 0x0203
    assert status(there, "10.88.0.2:3260") == 0 and status(here, "10.88.0.2:3260") == 0x0203
    assert found("10.88.0.2:3260") == {there.iqn: ["10.88.0.2:3260,1"]}
    assert inside(NS, lambda: found("10.88.0.1:3260")) == {here.iqn: ["10.88.0.1:3260,1"]}
    # The one's end is not the other's.
    (here.path / "np" / ANY).rmdir()
    assert status(there, "10.88.0.2:3260") == 0
    with pytest.raises(ConnectionRefusedError):
        status(here, "10.88.0.1:3260")


def test_addresses(namespace):
    """An address that comes later; a link-local one, whose scope is named in the portal and told to nobody."""
    t = target(1, ("10.88.0.77:3260",))
    with pytest.raises(OSError):
        socket.create_connection(("10.88.0.77", 3260), 1)
    lio.run("ip", "address", "add", "10.88.0.77/24", "dev", "near")
    assert status(t, "10.88.0.77:3260") == 0
    lio.run("ip", "address", "add", "fe80::88/64", "dev", "near", "nodad")
    (t.path / "np/[fe80::88%near]:3260").mkdir()
    with lio.refused():
        (t.path / "np/[fe80::89%nothing]:3260").mkdir()
    with lio.refused():  # without a scope it is nowhere
        (t.path / "np/[fe80::88]:3261").mkdir()
    assert status(t, "[fe80::88%near]:3260") == 0
    assert sorted(found("[fe80::88%near]:3260")[t.iqn]) == ["10.88.0.77:3260,1", "[fe80::88]:3260,1"]
    # From 0.0.0.0 there is no way to an IPv6 host; from :: there is to both.
    for portal in "10.88.0.77:3260", "[fe80::88%near]:3260":
        (t.path / "np" / portal).rmdir()
    (t.path / "np/[::0]:3260").mkdir()
    with lio.refused():  # it is in use
        (t.path / "np" / ANY).mkdir()
    assert found("127.0.0.1:3260") == {t.iqn: ["127.0.0.1:3260,1"]}
    assert found("[::1]:3260") == {t.iqn: ["[::1]:3260,1"]}
    # Targets share a portal; groups of one target do not, by whatever name (RFC 7143, 4.4.1).
    for group in t, lio.IscsiTarget(iqn=t.iqn, portals=(), tag=2):
        with lio.refused(errno.EEXIST):
            (group.path / "np/[0::0]:3260").mkdir()
    other = target(2, ("[0::0]:3260",))
    assert found("127.0.0.1:3260") == {x.iqn: ["127.0.0.1:3260,1"] for x in (t, other)}
    assert status(t) == status(other) == 0
    (other.path / "np/[0::0]:3260").rmdir()
    assert status(other) == 0x0203 and status(t) == 0


def half(t, name=NAME, **kw):
    """A login that has got to its second phase."""
    c = initiator.Connection()
    keys = {"InitiatorName": name, "AuthMethod": "None", "TargetName": t.iqn, "SessionType": "Normal"}
    c.send(c.login_pdu(initiator.text(keys), initiator.SECURITY, initiator.OPERATIONAL, **kw))
    assert c.receive().login_status == 0
    return c


def test_removed_under_logins():
    """Sessions stay; logins end at once, or are refused where others use the portal; the port is free."""
    a, b = target(1), target(2)
    np = "np/127.0.0.1:3260"
    name = NAME + "-of-a-session"
    with initiator.session(a, name=name) as c, half(a) as later, half(a, name, tsih=c.tsih) as again:
        (a.path / np).rmdir()
        later.send(later.login_pdu(b""))
        assert later.receive().login_status == 0x0203
        # One of the session, which would take the place of its connection.
        again.send(again.login_pdu(b"", tsih=c.tsih))
        assert again.receive().login_status == 0x0203
        assert c.scsi(bytes(6))[0] == 0
        assert status(a) == 0x0203 and status(b) == 0
        with half(b) as half_way, contextlib.closing(socket.create_connection(("127.0.0.1", 3260))) as silent:
            start = time.monotonic()
            (b.path / np).rmdir()
            silent.settimeout(10 * lio.SLOW)
            assert silent.recv(1) == b"" and half_way.receive() is None
            assert time.monotonic() - start < 10 * lio.SLOW
        with socket.create_server(("127.0.0.1", 3260)):
            pass
        assert c.scsi(bytes(6))[0] == 0


def tos(port, what, v6=False):
    """The DSCPs of what comes from `port` while `what` runs."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD if v6 else 0x0800)) as sniffer:
        sniffer.bind(("lo", 0))
        what()
        sniffer.settimeout(0.2)
        seen = []
        with contextlib.suppress(TimeoutError):
            while p := sniffer.recv(65536):
                head, field = (40, (p[0] & 15) << 4 | p[1] >> 4) if v6 else ((p[0] & 15) * 4, p[1])
                if int.from_bytes(p[head : head + 2], "big") == port and p[head + 13] & 8:
                    seen.append(field >> 2)
        return seen


def test_what_tcp_is_told():
    """DSCP, keep-alive and user time-out as the group's attributes say."""
    t = target(1, ("127.0.0.1:3260", "[::1]:3260"))
    assert {t.attrib(a) for a in ("dscp", "tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_user_timeout")} == {"0"}
    with initiator.session(t) as c:
        assert set(tos(3260, c.ping)) == {0}
    with lio.refused():
        t.attrib("dscp", 64)
    for key, value in {"dscp": 26, "tcp_keepalive_time": 77, "tcp_keepalive_intvl": 7, "tcp_keepalive_probes": 3}.items():
        t.attrib(key, value)
    for v6, portal in enumerate(t.portals):
        with initiator.session(t, portal) as c:
            assert set(tos(3260, c.ping, v6)) == {26}
            timers = lio.run("ss", "-Htno", "state", "established", "sport", "=", ":3260").stdout
            assert 60 < int(re.search(r"timer:\(keepalive,(?:1min)?(\d+)sec", timers)[1]) + 60 * ("1min" in timers) <= 77, timers
    t.attrib("tcp_user_timeout", 1500)
    acl = t.acl(NAME)
    lio.write(acl / "attrib/nopin_timeout", 0)
    with initiator.Connection() as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.login(t.iqn, name=NAME)
        for _ in range(8):
            c.start(READ_1M, 1 << 20, initiator.READ)  # and it takes nothing of it
        lio.wait_for(c.is_closed_there, 12)


def threads():
    """Where connections' threads may run."""
    for p in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if lio.read(p / "comm") == "iscsi_conn":
                yield re.search(r"Cpus_allowed_list:\t(.*)", lio.read(p / "status"))[1]


def test_cpus():
    """cpus_allowed_list holds for connections that are there, too."""
    t = target()
    file = lio.ISCSI / "cpus_allowed_list"
    before = lio.read(file)
    try:
        with initiator.session(t) as c:
            lio.wait_for(lambda: len(list(threads())) == 1)
            for cpus in "1", "0", "0-1":
                lio.write(file, cpus)
                assert lio.read(file) == cpus and c.ping()
                assert list(threads()) == [cpus]
                with initiator.session(t, name=NAME):
                    assert list(threads()) == [cpus] * 2
                lio.wait_for(lambda: len(list(threads())) == 1)
            for bad in "x", "1-0", "63", " ", "0\n1":
                with lio.refused():
                    lio.write(file, bad)
            assert lio.read(file) == "0-1"
    finally:
        lio.write(file, before)


def test_addresses_of_initiators():
    """A group's and an ACL's `allowed_addresses`: who comes from elsewhere is told nothing, and not let in; sessions stay."""
    t = target(1, ("127.0.0.1:3260", "[::1]:3260"))
    assert t.attrib("allowed_addresses") == "any" and status(t, source="127.0.9.9") == 0
    with initiator.session(t, name="iqn.2024-01.org.example:first") as c:
        t.attrib("allowed_addresses", "127.0.1.0/24,127.0.2.7,::1")
        assert c.scsi(bytes(6))[0] == 0
    assert t.attrib("allowed_addresses") == "127.0.1.0/24,127.0.2.7,::1"
    for source, want in {"127.0.1.255": 0, "127.0.2.7": 0, "127.0.2.6": 0x0202, "127.0.0.1": 0x0202}.items():
        assert status(t, source=source) == want, source
        assert found("127.0.0.1:3260", source) == ({} if want else {t.iqn: ["127.0.0.1:3260,1", "[::1]:3260,1"]})
    assert status(t, "[::1]:3260") == 0
    acl = t.acl(NAME)
    lio.write(acl / "attrib/allowed_addresses", "127.0.1.4")
    assert status(t, source="127.0.1.4") == 0 and status(t, source="127.0.1.5") == 0x0202
    assert status(t, source="127.0.1.5", name=NAME + "2") == 0
    for bad in "", "127.0.0.1/24", "localhost", "127.0.0.1,", ",".join(["127.0.0.1"] * 33):
        with lio.refused():
            t.attrib("allowed_addresses", bad or " ")
    t.attrib("allowed_addresses", "any")
    assert status(t, name=NAME + "2") == 0


def sessions(t):
    with open(t.path / "sessions") as f:
        return [json.loads(line) for line in f if line.strip()]


def test_how_many_sessions():
    """max_sessions of all, max_sessions_per_initiator of one."""
    t = target()
    t.attrib("max_sessions", 3)
    t.attrib("max_sessions_per_initiator", 2)
    with contextlib.ExitStack() as stack:
        for i in range(2):
            stack.enter_context(initiator.session(t, name=NAME, isid=b"\x80\0\0\0\1" + bytes([i])))
        assert status(t) == 0x0302 and status(t, name=NAME + "2") == 0
        lio.wait_for(lambda: len(sessions(t)) == 2)
        stack.enter_context(initiator.session(t, name=NAME + "3"))
        assert status(t, name=NAME + "2") == 0x0302
        t.attrib("max_sessions", 0)
        assert status(t, name=NAME + "2") == 0
    lio.wait_for(lambda: sessions(t) == [])


def test_list():
    """All sessions of a group are in its list, with and without an ACL, however many."""
    t = target()
    assert (t.path / "sessions").read_bytes() == b"" and oct(os.stat(t.path / "sessions").st_mode & 0o777) == "0o444"
    t.acl(NAME)
    alias = 'an "alias" with \\ and ä'
    with contextlib.ExitStack() as stack:
        all_of = {}
        for i in range(60):
            isid = b"\x80\0\0\0\1" + bytes([i])
            c = stack.enter_context(initiator.Connection())
            c.login(t.iqn, name=NAME if i == 0 else f"{NAME}{i}", isid=isid, keys={"InitiatorAlias": alias, "MaxBurstLength": 8192 + i, "FirstBurstLength": 4096})
            all_of[isid.hex()] = c
        c = all_of["800000000100"]
        for _ in range(8):
            if c.scsi(READ_1M, read=1 << 20)[0] == 0:
                break
        lio.wait_for(lambda: sessions(t)[0]["tx_octets"] >= 1 << 20 and all(s["max_cmd_sn"] for s in sessions(t)))
        got = sessions(t)
        assert len(got) == 60
        for s in got:
            c = all_of.pop(s["isid"])
            i = int(s["isid"][-2:], 16)
            host, port = c.sock.getsockname()
            assert s["peer"] == f"{host}:{port}" and s["local"] == "127.0.0.1:3260", s
            assert (s["target"], s["tpgt"], s["state"], s["cid"], s["tsih"]) == (t.iqn, 1, "logged_in", 1, c.tsih), s
            assert s["initiator"] == (NAME if i == 0 else f"{NAME}{i}") and s["dynamic"] == (i > 0) and s["alias"] == alias
            assert s["MaxBurstLength"] == 8192 + i and s["FirstBurstLength"] == 4096 and s["InitialR2T"] in (True, False)
            assert s["depth"] == 64 and s["max_cmd_sn"] - s["exp_cmd_sn"] == 63 and s["seconds"] < 600
        assert not all_of
    lio.wait_for(lambda: sessions(t) == [])


def test_depth():
    """A live session begins again with the ACL's new depth; a tag is the ACL's name for tools."""
    t = target(1, acls=(NAME, NAME + "2"))
    acl = t.path / "acls" / NAME
    lio.write(acl / "tag", "left rack")
    assert lio.read(acl / "tag") == "left rack"
    with initiator.session(t, name=NAME) as c, initiator.session(t, name=NAME + "2") as other:
        assert c.max_cmd_sn - c.cmd_sn < 64
        lio.write(acl / "cmdsn_depth", 7)
        assert lio.read(acl / "cmdsn_depth") == "7"
        while c.receive() is not None:
            pass
        assert other.scsi(bytes(6))[0] == 0
        with initiator.session(t, name=NAME) as c:
            assert [s["depth"] for s in sessions(t) if s["initiator"] == NAME and s["state"] == "logged_in"] == [7]
            lio.write(acl / "cmdsn_depth", 7)  # what is so already disturbs nobody
            assert c.scsi(bytes(6))[0] == 0
        for bad in 0, 513, "x":
            with lio.refused():
                lio.write(acl / "cmdsn_depth", bad)


def test_statistics():
    """The iSCSI MIB counts logins, their failures, logouts and sessions."""
    t = target(1, ("127.0.0.1:3260", "[::1]:3260"))
    t.attrib("generate_node_acls", 0)
    acl = t.acl(NAME)

    def stat(name):
        return lio.read(t.wwn_path / "fabric_statistics" / name)

    assert stat("iscsi_instance/portals") == "2" and stat("iscsi_instance/nodes") == "1"
    assert status(t, "[::1]:3260", name=NAME + "9") == 0x0202
    lio.wait_for(lambda: stat("iscsi_tgt_attr/last_fail_type") == "4")
    assert stat("iscsi_login_stats/authorize_fails") == stat("iscsi_tgt_attr/login_fails") == "1"
    assert stat("iscsi_tgt_attr/fail_intr_name") == NAME + "9" and int(stat("iscsi_tgt_attr/last_fail_time")) > 0
    assert (stat("iscsi_tgt_attr/fail_intr_addr_type"), stat("iscsi_tgt_attr/fail_intr_addr").strip("[]")) == ("ipv6", "::1")
    with initiator.Connection() as c:
        assert c.login(t.iqn, name=NAME, keys={"HeaderDigest": "CRC64"}, check=False).login_status >> 8 == 2
    lio.wait_for(lambda: stat("iscsi_tgt_attr/last_fail_type") == "6")
    assert (stat("iscsi_login_stats/negotiate_fails"), stat("iscsi_tgt_attr/fail_intr_addr")) == ("1", "127.0.0.1")
    with initiator.session(t, name=NAME) as c:
        assert stat("iscsi_instance/sessions") == "1" and stat("iscsi_login_stats/accepts") == "1"
        count = int(lio.read(acl / "fabric_statistics/iscsi_sess_stats/cmd_pdus"))
        for _ in range(5):
            assert c.scsi(bytes(6))[0] == 0
        lio.wait_for(lambda: int(lio.read(acl / "fabric_statistics/iscsi_sess_stats/cmd_pdus")) == count + 5)
        assert lio.read(acl / "info").startswith(f"InitiatorName: {NAME}\n") and "127.0.0.1" in lio.read(acl / "info")
        assert lio.read(acl / "param/MaxBurstLength") == "65536"
        c.logout()
    lio.wait_for(lambda: stat("iscsi_logout_stats/normal_logouts") == "1")
    c = initiator.session(t, name=NAME)
    c.reset()
    lio.wait_for(lambda: stat("iscsi_logout_stats/abnormal_logouts") == "1" and stat("iscsi_instance/sessions") == "0")
    assert "No active iSCSI Session" in lio.read(acl / "info")
