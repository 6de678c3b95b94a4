"""Header and data digests, CRC32C (RFC 7143, 7.8, 13.1): agreed on, computed, checked; what a wrong one ends."""
# vm: --timeout 900
# group: negotiation
import itertools
import threading
from pathlib import Path

import initiator
import lio
import pytest
from initiator import FINAL, LOGOUT_RESPONSE, NONE, NOP_OUT, R2T, READ, REJECT, SCSI_RESPONSE, TEXT, WRITE, pdu

ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")
COMBINATIONS = list(itertools.product(["None", "CRC32C"], repeat=2))
BOTH = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
TUR = bytes(6)
DATA_DIGEST_ERROR = 2
NAME = "iqn.2024-01.org.example:python"
READ_8K = bytes.fromhex("28000000000000001000")
WRITE_8K = bytes.fromhex("2a000000000000001000")
READ_32 = bytes.fromhex("7f00000000000018 0009 0000 0000000000000000 00000000 00000000 00000010")


@pytest.fixture
def target():
    return lio.IscsiTarget(lio.ramdisk(size=4 << 20), acls=[NAME])


def pattern(n, seed=0):
    return bytes((i * 7 + i // 251 + seed) & 0xFF for i in range(n))


def errors(target):
    """Wrong digests of the session; sessions that ended by one."""
    acl = target.path / "acls" / NAME / "fabric_statistics/iscsi_sess_stats/conn_digest_errors"
    return lio.read(acl), int(lio.read(target.wwn_path / "fabric_statistics/iscsi_sess_err/digest_errors"))


@pytest.mark.parametrize("key", ["HeaderDigest", "DataDigest"])
def test_what_is_agreed_on(target, key):
    """6.2.1: the first of the initiator's values that the group allows; where None is not allowed, the group asks."""
    param = target.path / "param" / key
    assert lio.read(param) == "CRC32C,None"
    for own, offer, want in [
            ("CRC32C,None", "CRC32C,None", "CRC32C"), ("CRC32C,None", "None,CRC32C", "None"), ("CRC32C,None", "None", "None"),
            ("None,CRC32C", "CRC32C", "CRC32C"), ("CRC32C", "None,CRC32C", "CRC32C"), ("CRC32C", "X-crc64,CRC32C", "CRC32C"),
            ("None", "CRC32C,None", "None"), ("None", "CRC32C", None), ("CRC32C", "None", None), ("CRC32C,None", "CRC32", None)]:
        lio.write(param, own)
        assert lio.read(param) == own
        with initiator.Connection(timeout=30) as c:
            answer = c.login(target.iqn, keys={key: offer}, check=False)
            if want is None:
                assert answer.login_status >> 8 == 2 or answer.text[key] == "Reject", (own, offer)
            else:
                assert c.keys[key] == want, (own, offer)
                assert c.ping(b"12345")
    if lio.STOCK:
        return
    for value in ("CRC64", "", "CRC32C,CRC32C", "None,"):
        with lio.refused():
            lio.write(param, value)
    # An initiator that says nothing of it.
    lio.write(param, "CRC32C")
    with initiator.Connection() as c:
        names = {"InitiatorName": NAME, "TargetName": target.iqn}
        c.send(c.login_pdu(initiator.text(names | {"MaxBurstLength": 65536})))
        asked = c.receive()
        assert asked.text[key] == "CRC32C" and not asked.flags & 0x80
        c.send(c.login_pdu(initiator.text({key: "CRC32C"})))
        assert c.receive().flags & 0x83 == 0x83
        setattr(c, {"HeaderDigest": "header_digest", "DataDigest": "data_digest"}[key], True)
        assert c.ping(b"12345")
    for flags in ({"csg": 0, "nsg": 3}, {}):
        with initiator.Connection() as c:
            c.send(c.login_pdu(initiator.text(names), **flags))
            answer = c.receive()
            if not flags:
                c.send(c.login_pdu(initiator.text({key: "None"})))
                answer = c.receive()
            assert answer.login_status == 0x0200


@pytest.mark.parametrize("header,data", COMBINATIONS)
def test_all_pdus(target, header, data):
    """Digests are over what is sent: padding, additional header segments, data of any length; both ways."""
    with initiator.session(target, keys={"HeaderDigest": header, "DataDigest": data, "MaxRecvDataSegmentLength": 2048}) as c:
        assert (c.keys["HeaderDigest"], c.keys["DataDigest"]) == (header, data)
        for n in (0, 1, 2, 3, 4, 1999):
            assert c.ping(pattern(n))
        for immediate in (True, False):
            written = pattern(8192, immediate)
            assert c.scsi(WRITE_8K, write=written, immediate=immediate)[0] == 0
            assert c.scsi(READ_8K, read=8192)[:2] == (0, written)
        assert c.scsi(READ_32, read=8192)[:2] == (0, written)
        for n in (5, 37, 96):
            status, got, _ = c.scsi([0x12, 0, 0, 0, n, 0], read=n)
            assert (status, len(got)) == (0, n)
        status, _, a = c.scsi([0xC0] + [0] * 5)
        assert (status, a.sense[2] & 0xF) == (2, 5)
        for n in (0, 3, 4):
            c.send(pdu(0x1C, data=pattern(n), itt=9))
            a = c.receive()
            assert (a.opcode, a.reason) == (REJECT, 5) and c.ping(), "an unknown opcode, with its digests"
        assert c.text_request({"SendTargets": target.iqn}).text["TargetName"] == target.iqn
        assert c.logout().opcode == LOGOUT_RESPONSE


def test_discovery(target):
    with initiator.Connection() as c:
        c.login(keys=BOTH, name=NAME)
        assert c.keys["HeaderDigest"] == c.keys["DataDigest"] == "CRC32C"
        assert c.text_request({"SendTargets": "All"}).text["TargetName"] == target.iqn


def test_wrong_header_digest(target):
    """7.8: nothing says where the next PDU begins. The PDU has no effect, and the connection ends."""
    old = pattern(8192, 3)
    with initiator.session(target, keys=BOTH) as c:
        c.scsi(WRITE_8K, write=old)
    ended = errors(target)[1]
    for spoil in ("command", "ahs", "data", "nop"):
        c = initiator.session(target, keys=BOTH)
        if spoil == "command":
            c.send(c.command_pdu(WRITE_8K, 8192, WRITE, pattern(8192)), "header")
        elif spoil == "ahs":
            c.send(c.command_pdu(READ_32, 8192, READ), "header")
        elif spoil == "nop":
            c.send(pdu(NOP_OUT, immediate=True, itt=7, w=(NONE, c.cmd_sn, c.exp_stat_sn)), "header")
        else:
            c.start(WRITE_8K, 8192, WRITE)
            r2t = c.receive()
            assert r2t.opcode == R2T
            c.send(c.data_out_pdu(r2t.itt, r2t.ttt, pattern(8192)), "header")
        assert c.receive() is None
        c.close()
        if not lio.STOCK:
            ended += 1
            assert errors(target)[1] == ended
    with initiator.session(target, keys=BOTH) as c:
        assert c.scsi(READ_8K, read=8192)[:2] == (0, old)


@ours
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("unsolicited", [False, True])
def test_wrong_data_digest_of_a_burst(target, at, unsolicited):
    """7.8 b: Reject; and when the rest of the burst has come, the command ends with PROTOCOL SERVICE CRC ERROR."""
    old = pattern(8192, 3)
    lio.write(target.path / "param/InitialR2T", "No")
    with initiator.session(target, keys=BOTH) as c:
        c.scsi(WRITE_8K, write=old)
        itt = c.start(WRITE_8K, 8192, WRITE, last=not unsolicited)
        ttt = NONE if unsolicited else c.receive().ttt
        for i in range(4):
            piece = pattern(2048, 100 + i)
            c.send(c.data_out_pdu(itt, ttt, piece, 2048 * i, i, i == 3), "data" if i == at else "")
            if i == at:
                a = c.receive()
                assert (a.opcode, a.reason) == (REJECT, DATA_DIGEST_ERROR)
                assert (a.data[0] & 0x3F, a.data[16:20], a.data[40:44]) == (5, itt.to_bytes(4, "big"), (2048 * i).to_bytes(4, "big"))
        status, _, a = c.finish(itt)
        assert (status, a.opcode, a.sense[2] & 0xF, a.sense[12:14]) == (2, SCSI_RESPONSE, 0xB, b"\x47\x05")
        assert c.scsi(READ_8K, read=8192)[:2] == (0, old)
        assert errors(target) == ("1", 0)


@ours
def test_wrong_data_digest_of_requests(target):
    """A request that takes no number is as if it had not come; one that does leaves a gap, and the session ends."""
    old = pattern(8192, 3)
    with initiator.session(target, keys=BOTH) as c:
        c.scsi(WRITE_8K, write=old)
        c.send(pdu(NOP_OUT, FINAL, b"ping", immediate=True, itt=77, w=(NONE, c.cmd_sn, c.exp_stat_sn)), "data")
        a = c.receive()
        assert (a.opcode, a.reason, a.data[16:20]) == (REJECT, DATA_DIGEST_ERROR, (77).to_bytes(4, "big"))
        assert c.ping(b"ping") and c.scsi(TUR)[0] == 0
        assert errors(target) == ("1", 0)
    for i, what in enumerate(("command", "text", "nop")):
        c = initiator.session(target, keys=BOTH)
        number = c.cmd_sn
        if what == "command":
            c.send(c.command_pdu(WRITE_8K, 8192, WRITE, pattern(8192)), "data")
        elif what == "text":
            c.send(pdu(TEXT, FINAL, initiator.text({"SendTargets": ""}), itt=5, w=(NONE, *c.numbers())), "data")
        else:
            c.send(pdu(NOP_OUT, FINAL, b"ping", itt=5, w=(NONE, *c.numbers())), "data")
        a = c.receive()
        assert (a.opcode, a.reason) == (REJECT, DATA_DIGEST_ERROR)
        assert a.exp_cmd_sn == number, "the request was taken"
        assert c.receive() is None
        c.close()
        assert errors(target)[1] == i + 1
    with initiator.session(target, keys=BOTH) as c:
        assert c.scsi(READ_8K, read=8192)[:2] == (0, old)


def open_iscsi(target, header, data):
    """The disk of a session with these digests."""
    settings = {"node.conn[0].iscsi.HeaderDigest": header, "node.conn[0].iscsi.DataDigest": data}
    disk = lio.login(target, settings=settings)[0]
    said = lio.run("iscsiadm", "-m", "session", "-P", "2").stdout
    assert f"HeaderDigest: {header}" in said and f"DataDigest: {data}" in said
    return disk


@pytest.mark.parametrize("header,data", COMBINATIONS)
def test_open_iscsi(header, data, klog):
    target = lio.IscsiTarget(lio.fileio(buffered=True))
    disk = open_iscsi(target, header, data)
    r = lio.fio(disk, rw="randwrite", bsrange="512-128k", blockalign="512", iodepth=16, size="2m", bs=None, runtime=None,
                time_based=None, verify="crc32c", verify_fatal=1, serialize_overlap=1, do_verify=1, verify_state_save=0, timeout=200)
    assert r["jobs"][0]["error"] == 0 and r["jobs"][0]["read"]["total_ios"] > 0
    assert not klog.has("detected conn error")


@pytest.mark.parametrize("kind", ["ramdisk", "fileio"])
def test_pages_that_change(kind, klog):
    """Reads while others write the same blocks: the digest is of what was sent."""
    store = lio.ramdisk(size=4 << 20) if kind == "ramdisk" else lio.fileio(size=4 << 20, buffered=True)
    target, other = lio.IscsiTarget(store), lio.Loopback(store)
    disk, same = open_iscsi(target, "CRC32C", "CRC32C"), other.disk()
    lio.run("dd", "if=/dev/urandom", f"of={same}", "bs=1M", "count=4", "oflag=direct")
    done = {}

    def job(what, dev, **options):
        done[what] = lio.fio(dev, rw=f"rand{what}", bs="64k", size="1m", seconds=2, **options)["jobs"][0]

    jobs = [threading.Thread(target=job, args=("write", same), kwargs={"iodepth": 8, "refill_buffers": 1}),
            threading.Thread(target=job, args=("read", disk), kwargs={"iodepth": 16})]
    for j in jobs:
        j.start()
    for j in jobs:
        j.join()
    assert all(done[what]["error"] == 0 and done[what][what]["total_ios"] > 0 for what in ("write", "read"))
    assert not klog.has("detected conn error")
    assert Path(disk).exists()


def test_libiscsi(target):
    """Its digest of headers; of data it has none."""
    url = f"iscsi://127.0.0.1/{target.iqn}/0"
    lio.write(target.path / "param/HeaderDigest", "CRC32C")
    out = lio.run("iscsi-inq", "-i", NAME, url + "?header_digest=crc32c").stdout
    assert "LIO-ORG" in out
    lio.write(target.path / "param/HeaderDigest", "None")
    assert "LIO-ORG" in lio.run("iscsi-inq", "-i", NAME, url + "?header_digest=none").stdout
