"""ROD tokens (SPC-4, 5.17.6), as Windows copies by them (ODX): POPULATE TOKEN, WRITE USING TOKEN, RECEIVE ROD TOKEN INFORMATION."""
# vm: --timeout 600
# group: blocks
import time

import copying
import lio
import pytest
from copying import ZERO_TOKEN, copy_of, limit, nexus, store
from faulty import GOOD
from initiator import ABORT_TASK, LUN_RESET
from sgio import say
from storage import pattern

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have no tokens")
MIB = 1 << 20
UNSUPPORTED, UNKNOWN, CORRUPT, REVOKED, EXPIRED, DELETED, WRONG_LENGTH, CANCELLED = (
    f"5/23{n:02x}" for n in (1, 4, 5, 6, 7, 9, 0xA, 8))


@pytest.mark.parametrize("kinds", ["ramdisk fileio", "iblock ramdisk", "fileio fileio"])
def test_what_a_token_stands_for(kinds):
    stores = [store(kind, f"s{n}") for n, kind in enumerate(kinds.split())]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (a, _), nexus(*stores, target=target, i=2) as (b, _):
        data = a.fill(0, 4 * MIB, 1)
        old = a.fill(0, 4 * MIB, 2, lun=1)
        at = [(64, 4096), (5000, 0), (16, 8), (6000, 100)]
        rod = b"".join(data[lba * 512 : (lba + n) * 512] for lba, n in at)
        token = a.populate(at)
        # Any nexus that has it uses it, at any place, from any of its blocks on, more than once.
        assert b.use(token, [(100, 4204)], lun=1) == ""
        b.holds(100, rod, lun=1)
        b.holds(0, old[: 100 * 512], lun=1)
        b.holds(4304, old[4304 * 512 :], lun=1)
        assert a.use(token, [(7000, 3), (6990, 10), (7010, 20)], offset=4090, lun=1) == ""
        for lba, blocks, offset in [(7000, 3, 0), (6990, 10, 3), (7010, 20, 13)]:
            a.holds(lba, rod[(4090 + offset) * 512 :][: blocks * 512], lun=1)
        told = a.scsi(copying.receive_lid4(copying.LID4_STATUS, 2), read=1024, lun=1).data
        assert told[4:6] == bytes([copying.WRITE_USING, 1]) and told[15:26] == b"\xf1" + (33).to_bytes(8, "big") + b"\0\3"
        # It is told of at the unit that it is of, less what nobody may guess, and says which target that is.
        every = bytes([copying.RECEIVE, copying.ALL_TOKENS]) + bytes(8) + (4096).to_bytes(4, "big") + bytes(2)
        assert b.scsi(every, read=4096).data == (100).to_bytes(4, "big") + bytes(4) + token[:96]
        assert b.scsi(every, read=4096, lun=1).data == (4).to_bytes(4, "big") + bytes(4)
        assert token[96:100] == (512).to_bytes(4, "big") and token[128:130].hex() == "53a8"
        assert token[132 : 132 + token[131]].rstrip(b"\0").decode() == target.iqn
        # What it refers to is what is there then.
        a.fill(64, 4096, 3)
        assert b.use(token, [(0, 8)]) == ""
        b.holds(0, pattern(4096, 3))
        # No more than it has.
        assert b.use(token, [(0, 4205)]) == b.use(token, [(0, 1)], offset=4204) == "5/2600"
        assert b.use(token, [(0, 8)], flags=2) == "" and b.use(token, [(0, 8)]) == DELETED


def test_zeroes():
    s = store("fileio")
    with nexus(s) as (n, _):
        data = n.fill(0, 2 * MIB, 4)
        assert n.use(ZERO_TOKEN, [(8, 3000), (4000, 1)], offset=12345) == ""
        n.holds(0, data[:4096] + bytes(3000 * 512) + data[3008 * 512 : 4000 * 512] + bytes(512) + data[4001 * 512 :])


def test_blocks_of_different_sizes():
    large = store("fileio", "s1", enable=False)
    lio.write(large.path / "attrib/block_size", 4096)
    lio.write(large.path / "enable", 1)
    with nexus(store(), large) as (n, _):
        data = n.fill(0, MIB, 5)
        token = n.populate([(3, 5), (100, 11)])
        rod = data[3 * 512 : 8 * 512] + data[100 * 512 : 111 * 512]
        assert n.use(token, [(10, 2)], lun=1) == ""
        n.holds(10, rod, lun=1, block=4096)
        assert n.use(token, [(10, 3)], lun=1) == "5/2600"
        token = n.populate([(10, 2)], lun=1)
        assert n.use(token, [(50, 9)], offset=7) == ""
        n.holds(50, rod[7 * 512 :])


def test_tokens_that_are_none():
    with nexus(store(), store(name="s1")) as (n, _):
        token = n.populate([(0, 8)])
        assert n.use(bytes(512), [(0, 8)]) == UNSUPPORTED
        assert n.use(token[:7] + b"\0" + token[8:], [(0, 8)]) == WRONG_LENGTH
        for at in range(0, 512, 37):
            spoiled = bytearray(token)
            spoiled[at] ^= 1
            assert n.use(bytes(spoiled), [(0, 8)]) in (UNSUPPORTED, UNKNOWN, CORRUPT, WRONG_LENGTH)
        assert n.use(token, [(0, 8)]) == ""
        # The random part differs, and is not little.
        others = {n.populate([(0, 8)])[-64:] for _ in range(8)} | {token[-64:]}
        assert len(others) == 9 and all(len(set(o)) > 16 for o in others)
        # 64 of a nexus: the oldest gives way.
        assert n.use(token, [(0, 8)]) == ""
        for _ in range(64):
            last = n.populate([(0, 8)])
        assert n.use(token, [(0, 8)]) == CANCELLED and n.use(last, [(0, 8)]) == ""
        # Of another I_T_L nexus nothing is lost.
        assert n.populate([(0, 8)], lun=1) and n.use(last, [(0, 8)]) == ""


def test_the_end_of_tokens():
    stores = [store(), store(name="s1")]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, _):
        short, long = n.populate([(0, 8)], timeout=1), n.populate([(0, 8)], timeout=60)
        other = n.populate([(0, 8)], lun=1)
        time.sleep(1.2)
        assert n.use(short, [(0, 8)]) == EXPIRED and n.use(long, [(0, 8)]) == ""
        # It survives the session, and a reset, but not the LUN through which it was made.
        with nexus(*stores, target=target, i=2) as (m, _):
            brief = m.populate([(0, 8)])
        assert n.c.tmf(LUN_RESET) == 0
        n.ready()
        assert n.use(brief, [(0, 8)]) == ""
        target.remove_lun(1)
        assert n.use(other, [(0, 8)]) == REVOKED and n.use(long, [(0, 8)]) == ""
    stores[1].delete()
    target.delete()
    stores[0].delete()


def test_what_is_in_use_does_not_expire():
    """INACTIVITY TIMEOUT (SPC-4, 5.17.6) is of a token that nothing uses: a copy that waits longer for each of its pieces comes to its end, whoever
    asks for tokens meanwhile."""
    stores = [store(), store(name="s1")]
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, _), nexus(*stores, target=target, i=2) as (other, _):
        data = n.fill(0, 4 * MIB, 6)
        token = n.populate([(0, 4 * 2048)], timeout=2)
        limit(target, 256 << 10, lun=1)
        itt = n.start_use(token, [(0, 4 * 2048)], lun=1)
        start = time.monotonic()
        every = bytes([copying.RECEIVE, copying.ALL_TOKENS]) + bytes(8) + (4096).to_bytes(4, "big") + bytes(2)
        while time.monotonic() - start < 12:
            assert other.scsi(every, read=4096).what == GOOD
            time.sleep(0.5)
        status, _, a = n.c.finish(itt, timeout=60)
        assert status == 0, say(a.sense)
        limit(target, 0, lun=1)
        n.holds(0, data, lun=1)
    target.delete()
    for s in stores:
        s.delete()


def test_what_is_taken_away():
    """A token that an initiator made of a unit which is taken away from it is of no use to it, nor to others."""
    stores = [store(), store(name="s1")]
    target = lio.IscsiTarget(*stores)
    for i in (1, 2):
        target.acl(f"iqn.2024-01.org.example:i{i}", [0, 1])
    with nexus(*stores, target=target) as (a, _), nexus(*stores, target=target, i=2) as (b, _):
        tokens = a.populate([(0, 8)], lun=1), b.populate([(0, 8)], lun=1), a.populate([(0, 8)])
        mapped = target.path / "acls/iqn.2024-01.org.example:i1/lun_1"
        (mapped / "lun").unlink()
        mapped.rmdir()
        a.ready()
        assert [n.use(token, [(64, 8)]) for token in tokens for n in (a, b)] == [REVOKED] * 2 + [""] * 4
    target.delete()
    for s in stores:
        s.delete()


def test_what_is_refused():
    stores = [store(), store(name="s1")]
    target = lio.IscsiTarget(*stores)
    target.attrib("generate_node_acls", 0)
    target.acl("iqn.2024-01.org.example:i1", [0, 1], write_protect=[1])
    with nexus(*stores, target=target) as (n, _):
        assert n.populate([(0, 8)], flags=2, rod_type=0x00800000) == "5/2600"
        assert len(n.populate([(0, 8)], flags=2, rod_type=0x00010000)) == 512
        assert n.populate([(65530, 8)]) == "5/2100" and n.populate([(0, 8), (7, 1)]) == "5/2600"
        assert n.populate([(0, 8)], timeout=601) == "5/2600"
        # Who may only read there makes a token of it, and writes nothing.
        token = n.populate([(0, 8)], lun=1)
        assert n.use(token, [(0, 8)], lun=1) == "7/2700" and n.use(token, [(0, 8)]) == ""
        assert n.use(token, [(65530, 8)]) == "5/2100"
        for action in (copying.LID4_STATUS, copying.TOKEN_INFORMATION):
            assert n.scsi(copying.receive_lid4(action, 99), read=1024).what[1] == "5/2400"
        # No list is no error.
        for action in (copying.POPULATE, copying.WRITE_USING):
            assert n.scsi(copying.token_cdb(action, 1, 0)).what == GOOD
        stores[0].attrib("emulate_3pc", 0)
        assert n.populate([(0, 8)]) == "5/2000"
        assert len(n.populate([(0, 8)], lun=1)) == 512


@pytest.mark.parametrize("how", ["abort", "drop", "revoke", "sanitize"])
def test_the_end_of_a_long_one(how):
    stores = [store(), store(name="s1")]
    stores[0].attrib("emulate_sanitize", 1)
    stores[0].attrib("emulate_tpu", 1)
    target = lio.IscsiTarget(*stores)
    with nexus(*stores, target=target) as (n, _), nexus(*stores, target=target, i=2) as (other, _):
        token = n.populate([(0, 24 * 2048)])
        limit(target, MIB, lun=1)
        start = time.monotonic()
        itt = n.start_use(token, [(0, 24 * 2048)], lun=1)

        def told():
            return n.scsi(copying.receive_lid4(copying.LID4_STATUS, 2), read=1024, lun=1).data

        lio.wait_for(lambda: int.from_bytes(told()[16:24], "big"))
        assert told()[5] == 0x10
        if how == "abort":
            assert n.c.tmf(ABORT_TASK, lun=1, ref_itt=itt) == 0
            assert told()[5] == 0x60
        elif how == "drop":
            n.c.reset()
        else:
            if how == "revoke":
                target.remove_lun(0)
            else:
                assert other.scsi(bytes.fromhex("48020000000000000000")).what == GOOD
            _, _, a = n.c.finish(itt)
            assert say(a.sense).lower() == "a/0d01"
            assert copy_of(a.sense)[2] == "source"
        assert time.monotonic() - start < 12 * lio.SLOW
    target.delete()
    for s in stores:
        s.delete()
