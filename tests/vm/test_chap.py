"""CHAP (RFC 7143, 12.1.3): who gets in, who does not, by open-iscsi, libiscsi, targetcli, and step by step."""
# group: logins
import base64
import hashlib
import os

import initiator
import lio
import pytest
import storage
from initiator import FULL_FEATURE, OPERATIONAL, SECURITY
from test_targetcli import IQN, TPG, Targetcli, forget

NAME = "iqn.2024-01.org.example:python"
OTHER = "iqn.2024-01.org.example:other"
JOE, SECRET = "joe", "a secret of joe's"
TARGET, OWN = "target, the", "what none but it knows"
HASHES = {5: hashlib.md5, 6: hashlib.sha1, 7: hashlib.sha256, 8: hashlib.sha3_256}
BAD = 0x0201


def write(path, text):
    """As rtslib does, without a newline: the stock modules take one for a part of the secret."""
    with open(path, "w") as f:
        f.write(text)


def set_auth(auth, name=JOE, secret=SECRET, own_name=None, own_secret=None):
    for file, text in (("userid", name), ("password", secret), ("userid_mutual", own_name), ("password_mutual", own_secret)):
        write(auth / file, text or "NULL")


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk("chap", 16 << 20), acls=(NAME, lio.initiator_name()))


@pytest.fixture
def acl(target):
    """NAME's ACL, with a name and a secret, in a group that demands them."""
    path = target.path / "acls" / NAME
    target.attrib("authentication", 1)
    set_auth(path / "auth")
    return path


class Login:
    """A login of the security stage, step by step."""

    def __init__(self, target, name=NAME, method="CHAP"):
        self.c = initiator.Connection()
        self.keys = {"InitiatorName": name, "AuthMethod": method}
        self.keys |= {"TargetName": target.iqn, "SessionType": "Normal"} if target else {"SessionType": "Discovery"}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.c.close()

    def step(self, pairs, transit=False, csg=SECURITY, nsg=OPERATIONAL):
        """The answer's status, or its keys."""
        self.c.send(self.c.login_pdu(initiator.text(pairs), csg, nsg, transit=transit))
        a = self.c.receive()
        assert a is not None, "closed without a word"
        if a.login_status:
            assert self.c.receive() is None, "it goes on after a refusal"
            return a.login_status
        self.flags = a.flags
        return a.text

    def challenge(self, algorithms="8,7,6,5"):
        got = self.step(self.keys)
        if isinstance(got, int):
            return got
        assert got["AuthMethod"] == "CHAP", got
        got = self.step({"CHAP_A": algorithms})
        if not isinstance(got, int):
            self.algorithm, self.identifier = int(got["CHAP_A"]), int(got["CHAP_I"])
            self.bytes = bytes.fromhex(got["CHAP_C"][2:])
        return got

    def digest(self, secret, identifier=None, challenge=None):
        identifier = self.identifier if identifier is None else identifier
        data = bytes([identifier]) + secret.encode() + (self.bytes if challenge is None else challenge)
        return "0x" + HASHES[self.algorithm](data).hexdigest()

    def prove(self, name=JOE, secret=SECRET, **more):
        return self.step({"CHAP_N": name, "CHAP_R": self.digest(secret)} | more, transit=True)

    def finish(self):
        """The operational stage, answering as the target likes."""
        answers = {}
        for _ in range(4):
            answers = self.step(answers, transit=True, csg=OPERATIONAL, nsg=FULL_FEATURE)
            if self.flags & 0x83 == 0x83:
                return
            answers = {k: v for k, v in answers.items() if not k.startswith(("Target", "MaxRecv"))}
        raise AssertionError("the login does not come to an end")


def one_way(target, name=JOE, secret=SECRET, initiator_name=NAME, algorithms="8,7,6,5"):
    """The status of a whole login."""
    with Login(target, initiator_name) as login:
        got = login.challenge(algorithms)
        got = got if isinstance(got, int) else login.prove(name, secret)
        if isinstance(got, int):
            return got
        assert got == {} and login.flags & 0x81 == 0x81
        login.finish()
        return 0


@pytest.mark.parametrize("algorithm", HASHES)
def test_each_hash_both_ways(target, acl, algorithm):
    set_auth(acl / "auth", own_name=TARGET, own_secret=OWN)
    assert lio.read(acl / "auth/authenticate_target") == "1"
    with Login(target) as login:
        got = login.challenge(str(algorithm))
        assert int(got["CHAP_A"]) == algorithm and len(login.bytes) == HASHES[algorithm]().digest_size
        theirs = os.urandom(24)
        got = login.prove(CHAP_I="17", CHAP_C="0x" + theirs.hex())
        assert got == {"CHAP_N": TARGET, "CHAP_R": login.digest(OWN, 17, theirs)}
        login.finish()
    assert one_way(target, algorithms=str(algorithm)) == 0  # not asking the target is the initiator's choice


@pytest.mark.skipif(lio.STOCK, reason="takes the first that the initiator names")
def test_the_strongest_hash_is_taken(target, acl):
    for offered, want in (("5,6,7,8", 8), ("5,7,6", 7), ("5,6", 6), ("5", 5), ("4,5,300", 5)):
        with Login(target) as login:
            assert int(login.challenge(offered)["CHAP_A"]) == want


def test_challenges_differ(target, acl):
    seen = set()
    for _ in range(20):
        with Login(target) as login:
            login.challenge("5")
            seen.add(login.bytes)
    assert len(seen) == 20


@pytest.mark.skipif(lio.STOCK, reason="closes the connection where it has nothing to negotiate, without a word")
def test_who_does_not_get_in(target, acl):
    fails = lio.read(target.wwn_path / "fabric_statistics/iscsi_login_stats/authenticate_fails")
    assert one_way(target) == 0
    assert one_way(target, secret=SECRET + "x") == BAD
    assert one_way(target, secret="") == BAD
    assert one_way(target, name="Joe") == BAD
    assert one_way(target, name="") == BAD
    assert one_way(target, name=JOE + "\x01") == BAD
    assert one_way(target, algorithms="9,4") == BAD
    with Login(target, method="None") as login:
        assert login.step(login.keys, transit=True) == BAD
    for stage in SECURITY, OPERATIONAL:  # as if there were nothing to negotiate
        with Login(target) as login:
            del login.keys["AuthMethod"]
            assert login.step(login.keys, transit=True, csg=stage, nsg=FULL_FEATURE) == BAD
    with Login(target) as login:  # the stage does not end in the middle
        login.challenge()
        assert login.step({}, transit=True) == BAD
    # A name without a secret, and neither: nobody can prove anything.
    write(acl / "auth/password", "NULL")
    assert one_way(target, secret="") == BAD
    set_auth(acl / "auth", None, None)
    assert one_way(target, name="", secret="") == BAD
    assert int(lio.read(target.wwn_path / "fabric_statistics/iscsi_login_stats/authenticate_fails")) >= int(fails) + 11
    # The stranger has no ACL, whatever it knows.
    assert one_way(target, initiator_name=OTHER) == 0x0202


def test_a_challenge_is_not_answered_by_itself(target, acl):
    """12.1.3: the initiator's challenge must not be the target's; and who is not known yet learns nothing."""
    set_auth(acl / "auth", own_name=TARGET, own_secret=OWN)
    with Login(target) as login:
        login.challenge()
        assert login.prove(CHAP_I=str(login.identifier), CHAP_C="0x" + login.bytes.hex()) == BAD
    with Login(target) as login:
        login.challenge()
        assert login.prove(secret="wrong", CHAP_I="1", CHAP_C="0x00112233445566778899aabbccddeeff") == BAD
    if lio.STOCK:  # says nothing of itself, and goes on
        return
    set_auth(acl / "auth")  # the target has no secret of its own
    with Login(target) as login:
        login.challenge()
        assert login.prove(CHAP_I="1", CHAP_C="0x00112233445566778899aabbccddeeff") == BAD


@pytest.mark.skipif(lio.STOCK, reason="proves itself by the same secret")
def test_one_secret_for_both(target, acl):
    """9.2.1: a response that the target would have given itself is a failure, as soon as both are to prove themselves."""
    set_auth(acl / "auth", own_name=TARGET, own_secret=SECRET)
    assert one_way(target) == 0
    with Login(target) as login:
        login.challenge()
        assert login.prove(CHAP_I="17", CHAP_C="0x" + "5a" * 24) == BAD
    set_auth(acl / "auth", own_name=TARGET, own_secret=OWN)
    with Login(target) as login:
        login.challenge()
        assert login.prove(CHAP_I="17", CHAP_C="0x" + "5a" * 24)["CHAP_N"] == TARGET


@pytest.mark.skipif(lio.STOCK, reason="takes some of them for others")
def test_malformed_values(target, acl):
    """6.1, 12.1.3: binary values in hexadecimal and base64, right, wrong, and of up to 1024 bytes and more."""
    set_auth(acl / "auth", own_name=TARGET, own_secret=OWN)

    def prove(response=lambda right: "0x" + right.hex(), **more):
        with Login(target) as login:
            login.challenge()
            right = bytes.fromhex(login.digest(SECRET)[2:])
            got = login.step({"CHAP_N": JOE, "CHAP_R": response(right)} | more, transit=True)
            if isinstance(got, dict) and more:
                bits = base64.b64decode(more["CHAP_C"][2:]) if more["CHAP_C"][1] in "bB" else bytes.fromhex(more["CHAP_C"][2:])
                assert got["CHAP_R"] == login.digest(OWN, int(more["CHAP_I"], 0), bits)
            return got if isinstance(got, int) else 0

    def b64(right):
        return base64.b64encode(right).decode()

    for response in (lambda r: "0x" + r.hex(), lambda r: "0X" + r.hex().upper(), lambda r: "0b" + b64(r), lambda r: "0B" + b64(r)):
        assert prove(response) == 0
    for response in (lambda r: r.hex(), lambda r: b64(r), lambda r: "0x" + r.hex() + "00", lambda r: "0x00" + r.hex(), lambda r: "0x" + r.hex()[:-1],
                     lambda r: "0x" + r.hex()[:-1] + "g", lambda r: "0x", lambda r: "0b", lambda r: "", lambda r: "0b" + b64(r)[:-1],
                     lambda r: "0b" + b64(r)[:-2] + "*=", lambda r: "0b=" + b64(r)[1:], lambda r: "0b" + b64(r) + "AAAA", lambda r: "0x " + r.hex(),
                     lambda r: "0b" + "A" * 4096, lambda r: "0x" + "f" * 4096, lambda r: "0x" + r.hex() + "," + r.hex()):
        assert prove(response) in (BAD, 0x0200), response(b"r" * 32)
    for identifier, challenge, ok in (("1", "0x" + "5a" * 16, True), ("0x11", "0x" + "5a" * 16, True), ("255", "0b" + b64(b"c" * 40), True),
                                      ("1", "0x" + "5a" * 1024, True), ("1", "0x" + "5a" * 1025, False), ("256", "0x" + "5a" * 16, False),
                                      ("-1", "0x" + "5a" * 16, False), ("", "0x" + "5a" * 16, False), ("1", "0x", False), ("1", "", False),
                                      ("1", "5a" * 16, False), ("1", "0b" + "A" * 1500, False), ("1", "0bA=BC", False), ("1", "0x" + "zz" * 16, False)):
        got = prove(CHAP_I=identifier, CHAP_C=challenge)
        assert got == 0 if ok else got in (BAD, 0x0200), (identifier, challenge)


def test_who_has_to(target, acl):
    """The ACL's attribute goes before the group's; the group's sets AuthMethod."""
    def none(method="None"):
        with Login(target, method=method) as login:
            got = login.step(login.keys, transit=True)
            return got if isinstance(got, int) else got["AuthMethod"]

    assert lio.read(target.path / "param/AuthMethod") == "CHAP"
    if not lio.STOCK:  # closes the connection without a word
        assert none() == BAD
    lio.write(acl / "attrib/authentication", 0)
    assert none() == "None" and one_way(target) == 0
    target.attrib("authentication", 0)
    assert lio.read(target.path / "param/AuthMethod") == "CHAP,None"
    lio.write(acl / "attrib/authentication", 1)
    assert none() == BAD and one_way(target) == 0
    lio.write(acl / "attrib/authentication", -1)
    # Of what may be, the initiator's first.
    assert none() == "None" and none("None,CHAP") == "None" and none("CHAP,None") == "CHAP"
    assert one_way(target) == 0 and one_way(target, secret="wrong") == BAD
    if not lio.STOCK:
        set_auth(acl / "auth", None, None)
        assert none("CHAP,None") == "None"
        set_auth(acl / "auth")
        lio.write(target.path / "param/AuthMethod", "CHAP")
        assert none() == BAD and one_way(target) == 0
        lio.write(target.path / "param/AuthMethod", "None")
        assert none("CHAP,None") == "None" and one_way(target) == BAD
    with lio.refused():
        lio.write(target.path / "param/AuthMethod", "SRP")


def test_demo_mode_has_the_groups_secret(target, acl):
    target.attrib("generate_node_acls", 1)
    set_auth(target.path / "auth", "everyone", "the secret of all", TARGET, OWN)
    assert one_way(target, "everyone", "the secret of all", initiator_name=OTHER) == 0
    assert one_way(target, initiator_name=OTHER) == BAD
    assert one_way(target) == 0, "who has an ACL has that one's secret"
    assert one_way(target, "everyone", "the secret of all") == BAD


@pytest.fixture
def discovery():
    auth = lio.ISCSI / "discovery_auth"
    set_auth(auth, "finder", "what finders know", TARGET, OWN)
    yield auth
    set_auth(auth, None, None)
    lio.write(auth / "enforce_discovery_auth", 0)


def test_discovery(target, discovery):
    def found(method):
        with Login(None, method=method) as login:
            got = login.step(login.keys, transit=True)
            return got if isinstance(got, int) else got["AuthMethod"]

    assert found("None") == "None" and one_way(None, "finder", "what finders know") == 0
    lio.write(discovery / "enforce_discovery_auth", 1)
    assert (lio.STOCK or found("None") == BAD) and one_way(None, "finder", "what finders know") == 0
    assert one_way(None, "finder", "what losers know") == BAD
    assert one_way(None) == BAD, "an ACL's secret is for its target alone"


def test_texts(acl):
    auth = acl / "auth"
    for file in "userid", "password", "userid_mutual", "password_mutual":
        for text in ("a" * 254, "ü" * 127, " a = b, c ", "0"):
            write(auth / file, text)
            assert (auth / file).read_text().rstrip("\n") == text
        for text in ("a" * 256, "a" * 3000):
            with lio.refused():
                write(auth / file, text)
        assert lio.read(auth / file) == "0"
        write(auth / file, "NULL")
        assert (auth / file).read_text().strip() in ("", "NULL")
    assert lio.read(auth / "authenticate_target") == "0"
    if lio.STOCK:
        return
    for text in ("a\0b", "a\nb", "\x7f", " "):
        with lio.refused():
            write(auth / "password", text)
    (auth / "password").write_text("with a newline, as echo writes\n")
    assert (auth / "password").read_text() == "with a newline, as echo writes\n"


@pytest.mark.skipif(lio.STOCK, reason="says nothing of it")
def test_secrets_are_not_in_the_log_and_bad_ones_are(target, acl):
    write(acl / "auth/password", "short")
    assert "less than 12 bytes" in lio.run("dmesg").stdout
    set_auth(acl / "auth", own_name=TARGET, own_secret=SECRET)
    assert "have the same secret" in lio.run("dmesg").stdout
    with lio.refused():
        write(acl / "auth/password", "too-long-to-be-told" * 30)
    assert one_way(target, secret="told-to-nobody") == BAD
    log = lio.run("dmesg").stdout
    assert "wrong name or wrong secret" in log
    for secret in (SECRET, OWN, "told-to-nobody", "too-long-to-be-told"):
        assert secret not in log


def test_open_iscsi(target, acl, discovery):
    """Both ways, in discovery and in a session, by what an administrator sets; a wrong secret fails."""
    lio.write(discovery / "enforce_discovery_auth", 1)
    auth = target.path / "acls" / lio.initiator_name() / "auth"
    set_auth(auth, "client", "of the client, 16", TARGET, OWN)
    lio.start_iscsid()
    portal = target.portals[0]
    db = ["iscsiadm", "-m", "discoverydb", "-t", "st", "-p", portal]
    lio.run(*db, "-o", "new")
    finder = {"authmethod": "CHAP", "username": "finder", "password": "what finders know", "username_in": TARGET,
              "password_in": OWN}
    for key, value in finder.items():
        lio.run(*db, "-o", "update", "-n", f"discovery.sendtargets.auth.{key}", "-v", value)
    assert target.iqn in lio.run(*db, "--discover").stdout
    lio.run(*db, "-o", "update", "-n", "discovery.sendtargets.auth.password", "-v", "not what they know")
    assert lio.run(*db, "--discover", check=False, timeout=120).returncode
    lio.run(*db, "-o", "delete")

    session = {"authmethod": "CHAP", "username": "client", "password": "of the client, 16", "username_in": TARGET,
               "password_in": OWN}
    disks = lio.login(target, settings={f"node.session.auth.{k}": v for k, v in session.items()})
    try:
        data = os.urandom(1 << 20)
        storage.pwrite(disks[0], 0, data)
        assert storage.pread(disks[0], 0, 1 << 20) == data
    finally:
        lio.logout()
    node = ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", portal]
    lio.run(*node, "-o", "new")
    for key, value in (session | {"password_in": "not what it knows"}).items():
        lio.run(*node, "-o", "update", "-n", f"node.session.auth.{key}", "-v", value)
    assert lio.run(*node, "--login", check=False, timeout=90).returncode, "the wrong target was believed"
    lio.run(*node, "-o", "delete")


@pytest.mark.parametrize("cli", ["targetcli", "targetcli-pypi"])
def test_set_by_targetcli(cli):
    """What an administrator sets is saved, and holds again when it is restored."""
    forget()
    call = Targetcli(cli)
    call("/backstores/ramdisk create r0 16M", f"/iscsi create {IQN}", f"{TPG}/luns create /backstores/ramdisk/r0",
         f"{TPG}/acls create {NAME}", f"{TPG} set attribute authentication=1",
         f"{TPG}/acls/{NAME} set auth userid=client password=of-the-client-16 mutual_userid=target mutual_password=of-the-target-16",
         "/iscsi set discovery_auth enable=1 userid=finder password=what-finders-know",
         "saveconfig /tmp/chap.json", "clearconfig confirm=True")
    # It is the fabric's own, and not cleared with its targets.
    lio.write(lio.ISCSI / "discovery_auth/enforce_discovery_auth", 0)
    set_auth(lio.ISCSI / "discovery_auth", None, None)
    call("restoreconfig /tmp/chap.json")
    ask = ["iscsi-inq", "-i", NAME]
    url = "iscsi://client%of-the-client-{}@127.0.0.1:3260/" + IQN + "/0?target_user=target&target_password=of-the-target-16"
    try:
        assert "Vendor:LIO-ORG" in lio.run(*ask, url.format(16)).stdout
        assert lio.run(*ask, url.format(17), check=False).returncode
        assert one_way(None, "finder", "what-finders-know") == 0 and one_way(None, "finder", "what-losers-know") == BAD
    finally:
        lio.write(lio.ISCSI / "discovery_auth/enforce_discovery_auth", 0)
        set_auth(lio.ISCSI / "discovery_auth", None, None)
        call("clearconfig confirm=True")
        forget()


def test_libiscsi(target, acl):
    """iscsi-inq with user and secret in the URL."""
    set_auth(acl / "auth", "client", "of-the-client-16", "target", "of-the-target-16")
    url = f"iscsi://{{}}{target.portals[0]}/{target.iqn}/0{{}}"
    ask = ["iscsi-inq", "-i", NAME]
    assert "Vendor:LIO-ORG" in lio.run(*ask, url.format("client%of-the-client-16@", "")).stdout
    mutual = "?target_user=target&target_password=of-the-target-16"
    assert "Vendor:LIO-ORG" in lio.run(*ask, url.format("client%of-the-client-16@", mutual)).stdout
    for user, more in (("client%of-the-client-17@", ""), ("", ""), ("client%of-the-client-16@", mutual.replace("-16", "-17"))):
        assert lio.run(*ask, url.format(user, more), check=False).returncode
