"""What is agreed on in a login and afterwards (RFC 7143, 6 and 13), what SendTargets shows to whom and from where (appendix C),
and where a login is sent instead (11.13.5)."""
# group: negotiation
import errno

import initiator
import lio
import pytest
from initiator import DATA_IN, FINAL, FULL_FEATURE, NONE, OPERATIONAL, READ, REJECT, SECURITY, TEXT, TEXT_RESPONSE, pdu
from test_targetcli import Targetcli, forget

NAME = "iqn.2024-01.org.example:python"
IQN = "iqn.2003-01.org.example:t1"
READ_64 = bytes.fromhex("28000000000000008000")
WRITE_64K = bytes.fromhex("2a000000000000008000")
WRITE_1 = bytes.fromhex("2a000000000000000100")


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk("n0", 16 << 20), acls=(NAME, lio.initiator_name()))


def text_pdu(c, raw, ttt=NONE, flags=FINAL, itt=0x55):
    return pdu(TEXT, flags, raw, itt=itt, w=(ttt, *c.numbers()))


def say(c, raw, ttt=NONE, flags=FINAL):
    """One text request; its answer."""
    c.send(text_pdu(c, raw, ttt, flags))
    while True:
        a = c.receive()
        assert a is not None, "the target has closed the connection"
        if not c.pong(a):
            return a


def whole(c, raw):
    """The whole reply to a text, as a list of pairs, and in how many pieces it came."""
    reply, pieces, ttt = b"", 0, NONE
    while True:
        a = say(c, raw, ttt)
        assert a.opcode == TEXT_RESPONSE, a
        reply, pieces, ttt, raw = reply + a.data, pieces + 1, a.ttt, b""
        if not a.flags & 0x40:
            assert a.flags & FINAL and a.ttt == NONE
            assert reply == b"" or reply.endswith(b"\0")
            return [tuple(p.split("=", 1)) for p in reply.decode().split("\0") if p], pieces


def longest_data_in(c):
    """The longest Data-In of a read of 64 KiB."""
    itt, longest, total = c.start(READ_64, 65536, READ), 0, 0
    while total < 65536:
        a = c.receive()
        if c.pong(a):
            continue
        assert a.opcode == DATA_IN and a.itt == itt, a
        longest, total = max(longest, len(a.data)), total + len(a.data)
    if not a.flags & 1:
        c.finish(itt)
    return longest


# --- login ------------------------------------------------------------------------------------------------------------

OFFERS = {"MaxConnections": "1", "InitialR2T": "No", "ImmediateData": "Yes", "MaxBurstLength": "16776192", "FirstBurstLength": "16776192",
          "DefaultTime2Wait": "0", "DefaultTime2Retain": "3600", "MaxOutstandingR2T": "64", "ErrorRecoveryLevel": "0"}
# What a portal group wants, and what comes of the offers then.
WANTED = {"InitialR2T": ("Yes", "No"), "ImmediateData": ("No", "Yes"), "MaxBurstLength": ("131072", "524288"),
          "FirstBurstLength": ("4096", "262144"), "DefaultTime2Wait": ("7", "0"), "DefaultTime2Retain": ("11", "3600"),
          "MaxOutstandingR2T": ("3", "1")}


@pytest.mark.parametrize("which", [0, 1])
def test_parameters_of_a_portal_group(target, which):
    """`param/` is what the target wants of each key; `acls/NAME/param` what its session has agreed on."""
    for key, values in WANTED.items():
        lio.write(target.path / "param" / key, values[which])
    lio.write(target.path / "param/MaxRecvDataSegmentLength", 12288)
    lio.write(target.path / "param/MaxXmitDataSegmentLength", 2048)
    lio.write(target.path / "param/TargetAlias", "a disk, é")
    agreed = target.path / "acls" / NAME / "param"
    assert lio.read(agreed / "InitialR2T") == "No Active iSCSI Session"
    with initiator.Connection() as c:
        c.send(c.login_pdu(initiator.text({"InitiatorName": NAME, "TargetName": IQN, "AuthMethod": "None"}), SECURITY, OPERATIONAL))
        assert c.receive().text == {"TargetPortalGroupTag": "1", "TargetAlias": "a disk, é", "AuthMethod": "None"}
        c.send(c.login_pdu(initiator.text(OFFERS | {"MaxRecvDataSegmentLength": 65536})))
        keys = c.receive().text
        want = {k: v[which] for k, v in WANTED.items()}
        assert keys == OFFERS | want | {"MaxRecvDataSegmentLength": "12288"}
        for key, value in want.items():
            assert lio.read(agreed / key) == {"Yes": "1", "No": "0"}.get(value, value), key
        while c.scsi(bytes(6))[0]:
            pass
        assert longest_data_in(c) == 2048
    for key, bad in (("InitialR2T", "Perhaps"), ("MaxBurstLength", 511), ("DefaultTime2Wait", 3601), ("MaxOutstandingR2T", 0),
                     ("TargetAlias", "x" * 256)):
        before = lio.read(target.path / "param" / key)
        with lio.refused(errno.EINVAL, errno.EOPNOTSUPP, errno.ERANGE):
            lio.write(target.path / "param" / key, bad)
        assert lio.read(target.path / "param" / key) == before


def test_first_bursts_are_no_longer_than_others(target):
    """13.14: where a portal group's bursts are shorter than its first ones, these get shorter, too; open-iscsi insists on that."""
    lio.write(target.path / "param/MaxBurstLength", 32768)
    with initiator.Connection() as c:
        c.login(IQN, name=NAME, keys=OFFERS)
        assert (c.keys["MaxBurstLength"], c.keys["FirstBurstLength"]) == ("32768", "32768")
    disk = lio.login(target)[0]
    data = bytes(range(256)) * 256
    lio.sg_raw(disk, WRITE_64K, data=data)
    assert lio.sg_raw(disk, READ_64, read_len=65536)[0] == data
    lio.logout(target)


@pytest.mark.skipif(lio.STOCK, reason="with it, the stock modules wait for no answer")
@pytest.mark.parametrize("workaround", [1, 0])
def test_login_keys_workaround(target, workaround):
    """Boot firmware leaves offers unanswered and repeats itself: it gets in, unless that is switched off."""
    target.attrib("login_keys_workaround", workaround)
    lio.write(target.path / "param/MaxBurstLength", 131072)
    first = initiator.text({"InitiatorName": NAME, "TargetName": IQN})
    keys = initiator.text({"InitialR2T": "Yes", "ImmediateData": "No", "ErrorRecoveryLevel": 0})
    with initiator.Connection() as c:
        c.send(c.login_pdu(first, SECURITY, OPERATIONAL))
        assert c.receive().login_status == 0
        c.send(c.login_pdu(keys))
        a = c.receive()
        assert a.text["MaxBurstLength"] == "131072" and not a.flags & 0x80
        c.send(c.login_pdu(keys))
        a = c.receive()
        if workaround:
            assert a.login_status == 0 and a.flags & 0x83 == 0x83 and c.ping()
        else:
            assert a.login_status == 0x0200 and c.receive() is None
    with initiator.Connection() as c:  # who keeps to the RFC gets in in any case
        c.send(c.login_pdu(first, SECURITY, OPERATIONAL))
        assert c.receive().login_status == 0
        c.send(c.login_pdu(keys))
        assert not c.receive().flags & 0x80
        c.send(c.login_pdu(initiator.text({"MaxBurstLength": 65536})))
        assert c.receive().flags & 0x83 == 0x83
        assert lio.read(target.path / "acls" / NAME / "param/MaxBurstLength") == "65536"


def test_answers_longer_than_a_response(target):
    """11.13.7: they come whole, the rest when it is asked for, and then the stage ends."""
    asked = [f"X-org.example.{i:03d}" for i in range(400)]
    with initiator.Connection() as c:
        c.send(c.login_pdu(initiator.text({"InitiatorName": NAME, "TargetName": IQN})
                           + b"".join(f"{k}=\0".encode() for k in asked[:200]), OPERATIONAL, FULL_FEATURE, transit=False, more=True))
        a = c.receive()
        assert (a.login_status, a.flags & 0xC0, a.data) == (0, 0, b"")
        c.send(c.login_pdu(b"".join(f"{k}=\0".encode() for k in asked[200:])))
        a = c.receive()
        assert a.login_status == 0 and a.flags & 0xC0 == 0x40 and len(a.data) == 8192
        data = a.data
        c.send(c.login_pdu(b""))
        a = c.receive()
        assert a.login_status == 0 and a.flags & 0xC3 == 0x83
        answers = dict(p.split("=") for p in (data + a.data).decode().split("\0") if p)
        assert [k for k, v in answers.items() if v == "NotUnderstood"] == asked
        assert c.ping()


def test_the_initiators_architecture_is_logged(target, klog):
    with initiator.session(target, name=NAME, keys={"X#NodeArchitecture": "ExampleOS/v1234,CPU_Arch/i686"}):
        lio.wait_for(lambda: klog.has(rf"{NAME} at .* is made of ExampleOS/v1234,CPU_Arch/i686"))


# --- full feature phase -----------------------------------------------------------------------------------------------


def test_renegotiation(target):
    """6.4, 7.12: what is declared holds when the sequence ends, and nothing of it if that fails."""
    info = target.path / "acls" / NAME / "info"
    with initiator.session(target, name=NAME, keys={"InitiatorAlias": "of the login"}) as c:
        assert "InitiatorAlias: of the login\n" in info.read_text()
        assert longest_data_in(c) == 65536
        a = say(c, b"MaxRecvDataSegmentLength=4096\0InitiatorAlias=new\0", flags=0)
        assert a.opcode == TEXT_RESPONSE and a.flags == 0 and a.ttt != NONE and a.data == b""
        assert longest_data_in(c) == 65536 and "of the login" in info.read_text()
        a = say(c, b"X-org.example=1\0", a.ttt)
        assert a.flags == FINAL and a.data == b"X-org.example=NotUnderstood\0"
        assert longest_data_in(c) == 4096
        assert "InitiatorAlias: new\n" in info.read_text()
        # A second word on the same fails all that was said.
        a = say(c, b"MaxRecvDataSegmentLength=512\0InitiatorAlias=never\0", flags=0)
        assert say(c, b"MaxRecvDataSegmentLength=512\0", a.ttt).opcode == REJECT
        assert longest_data_in(c) == 4096 and "InitiatorAlias: new\n" in info.read_text()
        # So does a value that cannot be; and who begins anew has said nothing before.
        assert say(c, b"InitiatorAlias=never\0MaxRecvDataSegmentLength=1\0").opcode == REJECT
        say(c, b"MaxRecvDataSegmentLength=512\0", flags=0)
        assert say(c, b"").flags == FINAL
        assert longest_data_in(c) == 4096 and "InitiatorAlias: new\n" in info.read_text()
        # A text in pieces.
        a = say(c, b"MaxRecvDataSeg", flags=0x40)
        assert a.data == b"" and a.flags == 0
        assert say(c, b"mentLength=1024\0", a.ttt).flags == FINAL
        assert longest_data_in(c) == 1024


# --- discovery ----------------------------------------------------------------------------------------------------------


def shown(portal="127.0.0.1:3260", name=NAME, what="All"):
    """A discovery session's list: target -> set of (address, tag)."""
    with initiator.Connection(portal) as c:
        c.login(name=name)
        return records(whole(c, f"SendTargets={what}\0".encode())[0])


def records(pairs):
    targets = {}
    for key, value in pairs:
        if key == "TargetName":
            assert value not in targets
            addresses = targets.setdefault(value, set())
        else:
            assert key == "TargetAddress"
            address, tag = value.rsplit(",", 1)
            addresses.add((address, int(tag)))
    return targets


def test_portals_as_the_initiator_reaches_them():
    """A portal on all addresses is shown as the one that the initiator came to; others as they are, if they can be reached, as is a
    target."""
    lio.run("ip", "address", "replace", "10.99.0.1/32", "dev", "lo")
    lio.run("ip", "address", "replace", "fd99::1/128", "dev", "lo", "nodad")
    one, two = IQN, "iqn.2003-01.org.example:two"
    lio.IscsiTarget(iqn=one, portals=("0.0.0.0:3260", "10.99.0.1:3262"))
    lio.IscsiTarget(iqn=one, portals=("[::]:3261",), tag=7)
    lio.IscsiTarget(iqn=two, portals=("127.0.0.1:3263",))
    far, near = ("10.99.0.1:3262", 1), ("127.0.0.1:3263", 1)
    for portal, want in {
        "127.0.0.1:3260": {one: {("127.0.0.1:3260", 1), far, ("127.0.0.1:3261", 7)}, two: {near}},
        "127.0.0.5:3261": {one: {("127.0.0.5:3260", 1), far, ("127.0.0.5:3261", 7)}, two: {near}},
        "10.99.0.1:3262": {one: {("10.99.0.1:3260", 1), far, ("10.99.0.1:3261", 7)}},
        "[::1]:3261": {one: {far, ("[::1]:3261", 7)}, two: {near}},
        "[fd99::1]:3261": {one: {far, ("[fd99::1]:3261", 7)}},
    }.items():
        got = shown(portal)
        if lio.STOCK:  # what nobody listens at is shown there, too
            continue
        assert got == want, portal
        for addresses in got.values():
            for address, _ in addresses:
                initiator.Connection(address).close()
    lio.run("ip", "address", "delete", "10.99.0.1/32", "dev", "lo")
    lio.run("ip", "address", "delete", "fd99::1/128", "dev", "lo")


def test_who_sees_what():
    """All, one by name, and the session's own; what an initiator may not log in to is not shown, as the attributes say."""
    names = [f"iqn.2003-01.org.example:t{n}" for n in range(4)]
    acl, closed, demo, off = [
        lio.IscsiTarget(iqn=names[0], acls=(NAME,)), lio.IscsiTarget(iqn=names[1], acls=("iqn.2024-01.org.example:other",)),
        lio.IscsiTarget(iqn=names[2]), lio.IscsiTarget(iqn=names[3], acls=(NAME,), enable=False)]
    here = {("127.0.0.1:3260", 1)}
    # demo_mode_discovery, on at first, shows what one may not log in to.
    assert shown() == {n: here for n in names[:3]}
    for t in (acl, closed, demo, off):
        t.attrib("demo_mode_discovery", 0)
    assert shown() == {names[0]: here, names[2]: here}
    assert shown(name="iqn.2024-01.org.example:other") == {names[1]: here, names[2]: here}
    assert shown(name="iqn.2024-01.org.example:nobody") == {names[2]: here}
    assert shown(what=names[0]) == {names[0]: here} and shown(what=names[1]) == {}
    assert shown(what="iqn.2003-01.org.example:nowhere") == {}
    # A group that is not enabled is shown if so wanted.
    off.attrib("tpg_enabled_sendtargets", 0)
    assert shown() == {names[0]: here, names[2]: here, names[3]: here}
    with initiator.session(acl, name=NAME) as c:
        for asked in ("", names[0], "All"):
            if not (lio.STOCK and asked == "All"):
                assert records(whole(c, f"SendTargets={asked}\0".encode())[0]) == {names[0]: here}, asked
        assert whole(c, f"SendTargets={names[2]}\0".encode())[0] == []


def test_a_long_list():
    """More than a PDU, in pieces of the initiator's length; all of it."""
    names = [f"iqn.2003-01.org.example:{'long' * 48}.{n:05d}" for n in range(150)]
    for n in names:
        path = lio.ISCSI / n / "tpgt_1"
        if not lio.ISCSI.exists():
            lio.modprobe("target_core_mod")
            lio.ISCSI.mkdir()
        path.parent.mkdir()
        path.mkdir()
        (path / "np/127.0.0.1:3260").mkdir()
        lio.write(path / "attrib/tpg_enabled_sendtargets", 0)
    for length in (8192, 512):
        with initiator.Connection() as c:
            c.login(keys={"MaxRecvDataSegmentLength": length})
            pairs, pieces = whole(c, b"SendTargets=All\0")
        assert list(records(pairs)) == names
        total = sum(len(f"{k}={v}") + 1 for k, v in pairs)
        assert pieces == -(-total // length)


# --- redirection --------------------------------------------------------------------------------------------------------


def login_answer(target, name=NAME, **kw):
    with initiator.Connection() as c:
        a = c.login(target.iqn, name=name, check=False, **kw)
        if a.login_status:
            assert c.receive() is None
        return a.login_status, a.data


@pytest.mark.skipif(lio.STOCK, reason="the stock modules cannot")
def test_redirection(target):
    acl = target.path / "acls" / NAME / "attrib/login_redirect"
    group = target.path / "attrib/login_redirect"
    redirects = target.wwn_path / "fabric_statistics/iscsi_login_stats/redirects"
    assert lio.read(acl) == lio.read(group) == ""
    with initiator.session(target, name=NAME) as stays:
        lio.write(group, "10.0.0.7:3261")
        assert login_answer(target) == (0x0101, b"TargetAddress=10.0.0.7:3261\0")
        lio.write(group, "storage-2.example.com,permanent")
        assert lio.read(group) == "storage-2.example.com,permanent"
        assert login_answer(target) == (0x0102, b"TargetAddress=storage-2.example.com\0")
        # The ACL's goes before the group's; it is for its initiator alone.
        lio.write(acl, "[fd99::2]")
        assert login_answer(target) == (0x0101, b"TargetAddress=[fd99::2]\0")
        assert login_answer(target, name=lio.initiator_name())[0] == 0x0102
        assert lio.read(redirects) == "4"
        # Who may not log in learns nothing; discovery goes on; sessions that are there stay.
        assert login_answer(target, name="iqn.2024-01.org.example:nobody")[0] == 0x0202
        assert shown() == {IQN: {("127.0.0.1:3260", 1)}}
        assert stays.scsi(bytes(6))[0] == 0
    for bad in ("10.0.0.7:3261,1", "10.0.0.256", "fd99::2", "[fd99::2", "host:0", "host:70000", "a b", "host,forever", ",permanent"):
        for path in (group, acl):
            before = lio.read(path)
            with lio.refused(errno.EINVAL):
                lio.write(path, bad)
            assert lio.read(path) == before
    lio.write(acl, "")
    lio.write(group, "NULL")
    assert lio.read(acl) == lio.read(group) == ""
    assert login_answer(target)[0] == 0


@pytest.mark.skipif(lio.STOCK, reason="the stock modules cannot")
@pytest.mark.parametrize("how", ["", ",permanent"])
def test_open_iscsi_follows(target, how):
    other = lio.IscsiTarget(lio.ramdisk("n1", 8 << 20), portals=("127.0.0.1:3261",), acls=(lio.initiator_name(),), tag=2)
    target.attrib("login_redirect", f"127.0.0.1:3261{how}")
    disks = lio.login(target)
    assert lio.blocks(disks[0]) == 8 << 20
    said = lio.run("iscsiadm", "-m", "session", "-P", "1").stdout
    assert "Current Portal: 127.0.0.1:3261" in said and "Persistent Portal: 127.0.0.1:3260" in said
    assert "No active iSCSI Session" not in lio.read(other.path / "acls" / lio.initiator_name() / "info")


@pytest.mark.skipif(lio.STOCK, reason="the stock modules cannot")
def test_targetcli_saves_redirection():
    forget()
    group, acl = f"/iscsi/{IQN}/tpg1", f"/iscsi/{IQN}/tpg1/acls/{NAME}"
    Targetcli("targetcli")(f"/iscsi create {IQN}", f"{group}/acls create {NAME}",
                           f"{group} set attribute login_redirect=10.0.0.7:3261,permanent",
                           f"{acl} set attribute login_redirect=[fd99::2]:3261", "saveconfig /tmp/moved.json", "clearconfig confirm=True",
                           "restoreconfig /tmp/moved.json", f"{group} get attribute login_redirect")
    path = lio.ISCSI / IQN / "tpgt_1"
    assert lio.read(path / "attrib/login_redirect") == "10.0.0.7:3261,permanent"
    assert lio.read(path / "acls" / NAME / "attrib/login_redirect") == "[fd99::2]:3261"
    Targetcli("targetcli")(f"{group} set attribute login_redirect=NULL", f"{acl} set attribute login_redirect=NULL")
    assert lio.read(path / "attrib/login_redirect") == lio.read(path / "acls" / NAME / "attrib/login_redirect") == ""
    forget()


# --- other attributes ---------------------------------------------------------------------------------------------------


def test_depth_and_write_protection(target):
    """default_cmdsn_depth and cmdsn_depth are the command window; prod_mode_write_protect protects LUNs that ACLs get from then on."""
    target.attrib("default_cmdsn_depth", 5)
    acl = target.acl("iqn.2024-01.org.example:five")
    lio.write(target.path / "acls" / NAME / "cmdsn_depth", 9)
    for name, depth in ((acl.name, 5), (NAME, 9)):
        with initiator.session(target, name=name) as c:
            assert c.max_cmd_sn == depth, name  # as its CmdSN begins with 1
            assert c.scsi(WRITE_1, write=bytes(512))[0] == 0
    target.attrib("prod_mode_write_protect", 1)
    late = target.acl("iqn.2024-01.org.example:late")
    assert lio.read(late / "lun_0/write_protect") == "1"
    with initiator.session(target, name=late.name) as c:
        assert c.scsi(WRITE_1, write=bytes(512))[0] == 2


def test_pings(target):
    """nopin_timeout and nopin_response_timeout: who is silent is pinged, and who does not answer is let go."""
    for name, value in (("nopin_timeout", 3), ("nopin_response_timeout", 3)):
        lio.write(target.path / "acls" / NAME / "attrib" / name, value)
    with initiator.session(target, name=NAME) as c:
        ping = c.receive(12)
        assert ping.opcode == initiator.NOP_IN and ping.ttt != NONE
        assert c.receive(12) is None


def test_what_is_not_built_is_refused(target, klog):
    """With a reason in the log; the value that there is can be written."""
    acl, np = f"tpgt_1/acls/{NAME}/attrib", "tpgt_1/np/127.0.0.1:3260"
    for path, value in (("tpgt_1/attrib/fabric_prot_type", 1), (f"{acl}/random_datain_pdu_offsets", 1),
                        (f"{acl}/random_datain_seq_offsets", 1), (f"{acl}/random_r2t_offsets", 1), (f"{np}/iser", 1), (f"{np}/cxgbit", 1),
                        ("param/cmd_completion_affinity", 0), *((f"tpgt_1/param/{key}", value) for key, value in (
                            ("DataPDUInOrder", "No"), ("DataSequenceInOrder", "No"), ("IFMarker", "Yes"), ("OFMarker", "Yes"),
                            ("IFMarkInt", "2048"), ("OFMarkInt", "2048")))):
        before = lio.read(target.wwn_path / path)
        lio.write(target.wwn_path / path, before)
        if not lio.STOCK:
            with lio.refused(errno.EOPNOTSUPP, errno.ENOSYS):
                lio.write(target.wwn_path / path, value)
            assert lio.read(target.wwn_path / path) == before
            assert klog.has(f"{path}: "), path
