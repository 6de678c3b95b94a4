"""SCSI commands by SG_IO over loopback: what they do, what they refuse and how, and that the tables tell the truth."""
# vm: --timeout 1800
import threading

import lio
import pytest
from sgio import Disk, field, information, say

MIB = 1 << 20
ours = pytest.mark.skipif(lio.STOCK, reason="the C modules do this otherwise")


@pytest.fixture
def store():
    return lio.ramdisk(size=16 * MIB)


@pytest.fixture
def disk(store):
    with Disk(lio.Loopback(store).disk()) as d:
        settle(d)
        yield d


@pytest.fixture
def each(backstore):
    """A disk on each kind of back end."""
    for attribute in ("emulate_tpu", "emulate_tpws"):
        try:
            backstore.attrib(attribute, 1)
        except OSError:
            pass  # it cannot unmap
    with Disk(lio.Loopback(backstore).disk()) as d:
        settle(d)
        d.store = backstore
        yield d


def settle(d):
    """Takes the unit attentions that wait for a new nexus."""
    for _ in range(8):
        if d.scsi(bytes(6)).status == 0:
            return


def be(n, width):
    return n.to_bytes(width, "big")


def read16(lba, n):
    return b"\x88\0" + be(lba, 8) + be(n, 4) + b"\0\0"


def write16(lba, n, flags=0):
    return bytes([0x8A, flags]) + be(lba, 8) + be(n, 4) + b"\0\0"


def write_same16(lba, n, flags=0):
    return bytes([0x93, flags]) + be(lba, 8) + be(n, 4) + b"\0\0"


def verify16(lba, n, bytchk=0):
    return bytes([0x8F, bytchk << 1]) + be(lba, 8) + be(n, 4) + b"\0\0"


def caw(lba, n=1):
    return b"\x89\0" + be(lba, 8) + b"\0\0\0" + bytes([n]) + b"\0\0"


def ok(r):
    assert r.status == 0 and r.host == 0, r
    return r


def refused(r, what, pointer=...):
    assert r.status == 2 and say(r.sense) == what, r
    assert r.sense[0] == 0x70 or r.sense[0] == 0xF0 or r.sense[0] == 0x72
    if pointer is not ...:
        assert field(r.sense) == pointer, (field(r.sense), r.sense.hex())
    return r


def vpd(d, page, n=255):
    return ok(d.scsi(bytes([0x12, 1, page, 0, n, 0]), read=n)).data


class Limits:
    """VPD page B0: SBC-4, 6.6.4."""

    def __init__(self, d):
        p = vpd(d, 0xB0)
        self.wsnz = p[4] & 1
        self.caw = p[5]
        self.transfer = int.from_bytes(p[8:12], "big")
        self.unmap_blocks, self.unmap_descriptors = int.from_bytes(p[20:24], "big"), int.from_bytes(p[24:28], "big")
        self.write_same = int.from_bytes(p[36:44], "big")


LAST = 16 * MIB // 512 - 1
REFUSALS = {
    # name: (CDB, read, write, sense, field pointer)
    "unknown opcode": ("ff" + "00" * 15, 0, 0, "5/2000", ...),
    "unknown service action": ("9e 1e" + "00" * 14, 0, 0, "5/2400", ...),
    "TEST UNIT READY with a reserved byte": ("00 00 01 00 00 00", 0, 0, "5/2400", ...),
    "READ (10) with NACA": ("28 00 00000000 00 0001 04", 512, 0, "5/2400", ...),
    "READ (10) with RDPROTECT": ("28 20 00000000 00 0001 00", 512, 0, "5/2400", (True, 1, 7)),
    "WRITE (16) with WRPROTECT": ("8a 20" + "00" * 8 + "00000001 0000", 0, 512, "5/2400", (True, 1, 7)),
    "READ (6) behind the end": (f"08 {LAST >> 16:02x} {LAST & 0xffff:04x} 02 00", 1024, 0, "5/2100", ...),
    "READ (10) behind the end": (f"28 00 {LAST:08x} 00 0002 00", 1024, 0, "5/2100", ...),
    "READ (12) behind the end": (f"a8 00 {LAST + 1:08x} 00000001 00 00", 512, 0, "5/2100", ...),
    "READ (16) at 2^64 - 1": ("88 00 ffffffffffffffff 00000001 00 00", 512, 0, "5/2100", ...),
    "READ (16), sum beyond 2^64": ("88 00 ffffffffffffffff 00000002 00 00", 1024, 0, "5/2100", ...),
    "WRITE (10) behind the end": (f"2a 00 {LAST:08x} 00 0002 00", 0, 1024, "5/2100", ...),
    "VERIFY (16) behind the end": (f"8f 00 {LAST:016x} 00000002 00 00", 0, 0, "5/2100", ...),
    "VERIFY (10) with BYTCHK 2": ("2f 04 00000000 00 0001 00", 0, 512, "5/2400", (True, 1, 2)),
    "WRITE SAME (16) behind the end": (f"93 00 {LAST:016x} 00000002 00 00", 0, 512, "5/2100", ...),
    "WRITE SAME (16) with two blocks": (f"93 00 {8:016x} 00000001 00 00", 0, 1024, "5/0e03", ...),
    "WRITE SAME (10) with ANCHOR": ("41 10 00000000 00 0001 00", 0, 512, "5/2400", (True, 1, 4)),
    "SYNCHRONIZE CACHE (16) behind the end": (f"91 00 {LAST:016x} 00000002 00 00", 0, 0, "5/2100", ...),
    "COMPARE AND WRITE behind the end": (f"89 00 {LAST + 1:016x} 000000 01 00 00", 0, 1024, "5/2100", ...),
    "INQUIRY: page code without EVPD": ("12 00 80 00 ff 00", 255, 0, "5/2400", (True, 2, None)),
    "INQUIRY: unknown page": ("12 01 c5 00 ff 00", 255, 0, "5/2400", (True, 2, None)),
    "MODE SENSE (6): unknown page": ("1a 00 2e 00 ff 00", 255, 0, "5/2400", ...),
    "MODE SENSE (10): saved values": ("5a 00 c8 00 00 00 00 00 ff 00", 255, 0, "5/3900", ...),
    "REPORT LUNS: unknown SELECT REPORT": ("a0 00 55 00 00 00 00 00 10 00 00 00", 4096, 0, "5/2400", (True, 2, None)),
    "READ CAPACITY (10): an address without PMI": ("25 00 00000001 0000 00 00", 8, 0, "5/2400", ...),
    "UNMAP where it is off": ("42 00 00000000 00 0018 00", 0, 24, "5/2000", ...),
}


@ours
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(disk, name):
    cdb, read, write, sense, pointer = REFUSALS[name]
    r = disk.scsi(cdb, read=read, write=bytes(write))
    if name == "UNMAP where it is off" and say(r.sense) == "5/2400":
        sense = "5/2400"
    if name == "READ CAPACITY (10): an address without PMI" and r.status == 0:
        pytest.skip("the address is obsolete in SBC-4")
    refused(r, sense, pointer)
    ok(disk.scsi(bytes(6)))


def test_underrun(disk):
    """More is announced than the command transfers: all of it is there, and the rest is told as residual."""
    data = b"0123456789abcdef" * 32
    ok(disk.scsi(write16(5, 1), write=data))
    r = ok(disk.scsi(read16(5, 1), length=4096))
    assert r.resid == 4096 - 512 and r.data == data
    r = ok(disk.scsi("12 00 00 00 ff 00", read=255))
    assert r.resid == 255 - len(r.data) and r.data[4] + 5 == len(r.data)
    r = ok(disk.scsi("12 00 00 00 05 00", read=96))
    assert r.resid == 91
    r = ok(disk.scsi(bytes(6), length=512))
    assert r.resid == 512


def test_overrun(disk):
    """The command would transfer more than is announced: what fits comes, no more."""
    data = bytes(range(256)) * 8
    ok(disk.scsi(write16(5, 4), write=data))
    r = disk.scsi(read16(5, 4), length=1024)
    assert (r.status == 0 and r.data == data[:1024]) or say(r.sense)[0] in "5B", r
    r = disk.scsi("12 00 00 00 ff 00", read=8)
    assert r.status == 0 and len(r.data) == 8
    # Nothing is written behind what was given.
    r = disk.scsi(write16(5, 4), write=b"x" * 1024)
    assert ok(disk.scsi(read16(7, 2), read=1024)).data == data[1024:], r
    ok(disk.scsi(bytes(6)))


def test_zero_blocks(disk):
    for cdb in (read16(0, 0), write16(0, 0), verify16(0, 0), read16(LAST + 1, 0), b"\x28" + bytes(9), b"\x2a" + bytes(9)):
        ok(disk.scsi(cdb))
    # READ (6) and WRITE (6): 0 is 256.
    ok(disk.scsi("0a 00 00 00 00 00", write=b"6" * 131072))
    assert ok(disk.scsi("08 00 00 00 00 00", read=131072)).data == b"6" * 131072


def test_limits_are_true(each):
    limits, store = Limits(each), each.store
    assert limits.unmap_blocks in (0, int(store.attrib("max_unmap_lba_count")))
    assert limits.write_same == int(store.attrib("max_write_same_len"))
    if limits.transfer:
        refused(each.scsi(read16(0, limits.transfer + 1), length=512), "5/2400")
    else:
        assert lio.STOCK
    refused(each.scsi(caw(0, limits.caw + 1), write=bytes(1024 * (limits.caw + 1))), "5/2400")
    if 0 < limits.write_same < 65536:
        refused(each.scsi(write_same16(0, limits.write_same + 1), write=bytes(512)), "5/2400")
        ok(each.scsi(write_same16(0, limits.write_same), write=bytes(512)))
    if store.attrib("emulate_tpu") == "1":
        def unmap(*ranges):
            body = b"".join(be(a, 8) + be(n, 4) + bytes(4) for a, n in ranges)
            return each.scsi("42 00 00000000 00" + be(len(body) + 8, 2).hex() + "00", write=be(len(body) + 6, 2) + be(len(body), 2) +
                             bytes(4) + body)

        ok(unmap((0, 8)))
        ok(unmap())
        if limits.unmap_blocks < 65536:
            refused(unmap((0, limits.unmap_blocks + 1)), "5/2600")
        if limits.unmap_descriptors < 4000:
            refused(unmap(*[(0, 1)] * (limits.unmap_descriptors + 1)), "5/2600")
        refused(unmap((32 * MIB // 512 - 1, 2)), "5/2100")
        refused(unmap((0xFFFFFFFFFFFFFFFF, 0xFFFFFFFF)), "5/2600" if 0xFFFFFFFF > limits.unmap_blocks else "5/2100")


def test_write_same(each):
    a, b = b"A" * 512, bytes(range(256)) * 2
    ok(each.scsi(write16(0, 64), write=a * 64))
    ok(each.scsi(write_same16(8, 16), write=b))
    assert ok(each.scsi(read16(0, 32), read=16384)).data == a * 8 + b * 16 + a * 8
    ok(each.scsi(b"\x41\0" + be(40, 4) + b"\0" + be(1, 2) + b"\0", write=b))
    assert ok(each.scsi(read16(39, 3), read=1536)).data == a + b + a
    ok(each.scsi(write_same16(10, 4), write=bytes(512)))
    assert ok(each.scsi(read16(9, 6), read=3072)).data == b + bytes(2048) + b
    if each.store.attrib("emulate_tpws") == "1":
        ok(each.scsi(write_same16(16, 8, 8), write=bytes(512)))
        if vpd(each, 0xB2)[5] & 4:  # LBPRZ
            assert ok(each.scsi(read16(16, 8), read=4096)).data == bytes(4096)
    assert Limits(each).wsnz or lio.STOCK
    if Limits(each).wsnz:
        refused(each.scsi(write_same16(0, 0), write=a), "5/2400")
    if not lio.STOCK:
        each.store.attrib("emulate_write_same_all", 1)
        limits, last = Limits(each), 32 * MIB // 512 - 1
        assert not limits.wsnz
        if 0 < limits.write_same <= last:
            refused(each.scsi(write_same16(0, 0), write=a), "5/2400")
        first = last - 8
        ok(each.scsi(write_same16(first - 1, 1), write=a))
        ok(each.scsi(write_same16(first, 0), write=b))
        assert ok(each.scsi(read16(first - 1, 10), read=5120)).data == a + b * 9
        ok(each.scsi(b"\x41\0" + be(last, 4) + bytes(4), write=a))
        assert ok(each.scsi(read16(last - 1, 2), read=1024)).data == b + a
        refused(each.scsi(write_same16(last + 1, 0), write=a), "5/2100")


def test_compare_and_write_can_be_switched_off(store):
    disk = lio.Loopback(store).disk()
    with Disk(disk) as d:
        settle(d)
        assert Limits(d).caw == 1
        store.attrib("emulate_caw", 0)
        assert Limits(d).caw == 0
        refused(d.scsi(caw(0), write=bytes(1024)), "5/2000")


@ours
def test_verify(each):
    data = bytes(range(256)) * 16
    ok(each.scsi(write16(0, 8), write=data))
    ok(each.scsi(verify16(0, 8)))
    ok(each.scsi(verify16(0, 8, 1), write=data))
    wrong = bytearray(data)
    wrong[1000] ^= 1
    r = refused(each.scsi(verify16(0, 8, 1), write=bytes(wrong)), "E/1d00")
    assert information(r.sense) in (None, 1000, 1), r.sense.hex()
    ok(each.scsi(write_same16(0, 8), write=data[:512]))
    ok(each.scsi(verify16(0, 8, 3), write=data[:512]))
    refused(each.scsi(verify16(0, 8, 3), write=bytes(wrong[512:1024])), "E/1d00")
    assert ok(each.scsi(read16(0, 8), read=4096)).data == data[:512] * 8, "VERIFY writes nothing"


def test_compare_and_write(each):
    a, b = b"a" * 512, b"b" * 512
    ok(each.scsi(write16(3, 1), write=a))
    r = refused(each.scsi(caw(3), write=b + b), "E/1d00")
    assert information(r.sense) == 0
    r = refused(each.scsi(caw(3), write=a[:100] + b[:412] + b), "E/1d00")
    assert information(r.sense) == 100
    assert ok(each.scsi(read16(3, 1), read=512)).data == a
    ok(each.scsi(caw(3), write=a + b))
    assert ok(each.scsi(read16(3, 1), read=512)).data == b


def test_compare_and_write_is_atomic(each):
    """Four threads count upwards in one block; no step is lost."""
    steps, errors = [0] * 4, []
    ok(each.scsi(write16(9, 1), write=bytes(512)))

    def count(me):
        with Disk(each.path) as d:
            while steps[me] < 25:
                old = d.scsi(read16(9, 1), read=512).data
                new = be(int.from_bytes(old[:8], "big") + 1, 8) + bytes([me]) * 504
                r = d.scsi(caw(9), write=old + new)
                if r.status == 0:
                    steps[me] += 1
                elif say(r.sense) != "E/1d00":
                    errors.append(r)
                    return

    threads = [threading.Thread(target=count, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join(90) for t in threads]
    assert not errors and steps == [25] * 4
    assert int.from_bytes(each.scsi(read16(9, 1), read=512).data[:8], "big") == 100


def supported(d):
    """What REPORT SUPPORTED OPERATION CODES lists: {(opcode, service action or None): CDB length}."""
    data = ok(d.scsi("a3 0c 00 00 0000 00002000 00 00", read=8192)).data
    n, found = int.from_bytes(data[:4], "big"), {}
    for i in range(4, 4 + n, 8):
        e = data[i : i + 8]
        found[e[0], int.from_bytes(e[2:4], "big") if e[5] & 1 else None] = int.from_bytes(e[6:8], "big")
        assert not e[5] & 2, "no timeout descriptors were asked for"
    return found


@ours
@pytest.mark.parametrize("attribute", [None, "emulate_tpu", "emulate_caw", "emulate_3pc"])
def test_what_is_reported_is_what_is_dispatched(store, attribute):
    if attribute == "emulate_tpu":
        try:
            store.attrib(attribute, 1)
        except OSError:
            pytest.skip("the RAM disk does not unmap")
    elif attribute:
        store.attrib(attribute, 0)
    with Disk(lio.Loopback(store).disk()) as d:
        settle(d)
        found = supported(d)
        actions = {op for op, sa in found if sa is not None}
        assert {(0x00, None), (0x12, None), (0x28, None), (0xA3, 0x0C)} <= set(found)
        for op in range(256):
            for sa in range(32) if op in actions else (None,):
                length = found.get((op, sa))
                one = ok(d.scsi(bytes([0xA3, 0x0C, 1 if sa is None else 2, op]) + be(sa or 0, 2) + be(256, 4) + b"\0\0", read=256)).data
                assert one[1] & 7 == (3 if length else 1), f"{op:#x}/{sa}"
                if length:
                    size = int.from_bytes(one[2:4], "big")
                    assert size == length and one[4] == op, f"{op:#x}/{sa}"
                if op == 0x7F:
                    continue
                cdb = bytes([op, sa or 0]) + bytes({0: 4, 1: 8, 2: 8, 4: 14, 5: 10}.get(op >> 5, 8))
                r = d.scsi(cdb, read=0)
                unknown = r.status == 2 and say(r.sense) == "5/2000" or (
                    sa is not None and r.status == 2 and field(r.sense) is not None and field(r.sense)[:2] == (True, 1))
                assert unknown == (not length), f"{op:#x}/{sa}: {r}"


def test_write_cache_and_fua_tell_the_truth(store):
    """WCE is the attribute's, and DPOFUA is set only where FUA is accepted; both stay so where the cache is switched off while initiators set
    it."""
    target = lio.Loopback(lio.fileio(size=16 * MIB, buffered=True), store)
    for n, wce in ((0, 4), (1, 0)):
        with Disk(target.disk(n)) as d:
            settle(d)
            mode = ok(d.scsi("1a 08 08 00 ff 00", read=255)).data
            assert mode[4 + 2] & 4 == wce
            r = d.scsi(write16(0, 1, 8), write=bytes(512))
            assert (r.status == 0) == bool(mode[2] & 0x10), r
    if not lio.STOCK:
        with Disk(target.disk(0)) as d:
            page = ok(d.scsi("1a 08 08 00 ff 00", read=255)).data[4:24]
            ok(d.scsi("15 10 00 00 18 00", write=bytes(4) + bytes([page[0] & 0x3F, page[1], page[2] & ~4]) + page[3:]))
            mode = ok(d.scsi("1a 08 08 00 ff 00", read=255)).data
            assert mode[4 + 2] & 4 == 0 and mode[2] & 0x10
            ok(d.scsi(write16(0, 1, 8), write=bytes(512)))


def test_report_luns_and_wrong_lun(store):
    target = lio.Loopback(store, lio.ramdisk("rd1", 1 * MIB))
    target.disk(1)
    with Disk(target.disk(0)) as d:
        settle(d)
        data = ok(d.scsi("a0 00 00 00 00 00 00001000 00 00", read=4096)).data
        assert sorted(data[i + 1] for i in range(8, 8 + int.from_bytes(data[:4], "big"), 8)) == [0, 1]


@pytest.mark.parametrize("how", ["-d", "-t", "-H"])
def test_resets_under_io(backstore, how):
    """sg_reset while fio writes and checks: nothing is lost, nothing hangs."""
    disk = lio.Loopback(backstore).disk()
    result = {}

    def load():
        result["fio"] = lio.fio(disk, seconds=5, rw="randrw", bs="4k", iodepth=16, size="8m", timeout=90)

    t = threading.Thread(target=load)
    t.start()
    done = []
    while t.is_alive():
        done.append(lio.run("sg_reset", how, disk, check=False, timeout=60).returncode == 0)
        t.join(0.3)
    assert result["fio"]["jobs"][0]["error"] == 0
    assert sum(done) > 1, done
