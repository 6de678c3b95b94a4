"""Protection information (SBC-4, 4.21): what is checked and generated, by each back end that can keep it, over iSCSI, whose data has it
behind each block."""
# group: protection
import errno
import os
import threading
import uuid

import copying
import initiator
import lio
import pytest
import storage
from protected import (APPLICATION, ESCAPE, FORMS, GUARD, MIB, READ, REFERENCE, SIZE, STORES, VERIFY, WRITE, WRITE_VERIFY, Cdb, Unit, be,
                       corrupted, mix, pi, scattered)
from sgio import say

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C module for iSCSI has it over RDMA alone")


@pytest.fixture(params=list(STORES))
def two(request):
    return Unit(STORES[request.param](size=SIZE), 2)


def test_what_it_says_of_itself():
    plain = lio.ramdisk("plain", size=SIZE)
    unit = Unit(plain, 0)
    capacity = bytes.fromhex("9e10") + bytes(8) + be(32, 4) + b"\0\0"
    inquiry, page = bytes.fromhex("120000006000"), bytes.fromhex("120186004000")
    assert unit(inquiry, 96)[5] & 1 == 0 and unit(page, 64)[4] == 0 and unit(capacity, 32)[12] == 0
    unit.refused(Cdb.ten(READ, 1, 0, 1), "5/2400", 520, pointer=(True, 1, 7))
    unit.delete()
    for kind in (1, 2, 3):
        unit = Unit(lio.ramdisk(f"r{kind}", size=SIZE), kind)
        assert unit(inquiry, 96)[5] & 1 == 1
        data = unit(page, 64)
        # SPT: types 1, 2 and 3; GRD_CHK, APP_CHK, REF_CHK; NO_PI_CHK
        assert data[4] == 0x3F and data[7] == 0x20
        data = unit(capacity, 32)
        # P_TYPE, PROT_EN; P_I_EXPONENT
        assert data[12] == kind - 1 << 1 | 1 and data[13] >> 4 == 0
        control = unit(bytes.fromhex("1a080a00ff00"), 255)[4:]
        # ATO
        assert control[5] >> 7 == (kind == 2)
        # The usage map of READ (10) and (32).
        short = unit(bytes.fromhex("a30c01280000000000ff0000"), 255)
        long = unit(bytes.fromhex("a30c037f0009000000ff0000"), 255)
        assert bool(short[5] & 0xE0) == (kind != 2)
        assert (long[1] & 7 == 3) == (kind == 2)
        if kind == 2:
            assert long[4 + 10] & 0xE0 == 0xE0 and long[24:32] == b"\xff" * 8
        unit.delete()


def what_is_written_without_is_generated(unit):
    data = unit.data(5)
    for i, form in enumerate(FORMS):
        unit(form(WRITE, 0, 7 + 10 * i, 5), write=b"".join(data))
        assert unit.read(7 + 10 * i, 5) == (data, unit.pi(data, 7 + 10 * i))
    unit(bytes.fromhex("0a0000280500"), write=b"".join(data))  # WRITE (6)
    assert unit.read(40, 5) == (data, unit.pi(data, 40))
    assert unit(bytes.fromhex("080000280500"), read=5 * unit.block) == b"".join(data)
    # Nothing was ever written here.
    assert unit.read(100, 2) == ([bytes(unit.block)] * 2, [ESCAPE] * 2)


def what_is_written_with_it_is_kept(unit):
    data = unit.data(3)
    for protect in (1, 2, 3, 4, 5):
        form = FORMS[protect % 3]
        tuples = unit.pi(data, 9, application=0x1230 + protect)
        unit(form(WRITE, protect, 9, 3), write=mix(data, tuples))
        for check in (1, 2, 3, 4, 5):
            assert unit(form(READ, check, 9, 3), 3 * (unit.block + 8)) == mix(data, tuples)
        assert unit(form(READ, 0, 9, 3), 3 * unit.block) == b"".join(data)


def reserved_values(unit):
    for form in FORMS:
        for protect in (6, 7):
            unit.refused(form(READ, protect, 0, 1), "5/2400", unit.block + 8, pointer=(True, 1, 7))
            unit.refused(form(WRITE, protect, 0, 1), "5/2400", write=bytes(unit.block + 8), pointer=(True, 1, 7))
    # Those with expected tags are for type 2.
    unit.refused(Cdb.long(READ, 1, 0, 1), "5/2000", unit.block + 8)
    unit.refused(Cdb.long(WRITE, 0, 0, 1), "5/2000", write=bytes(unit.block))


def corrupted_on_its_way(unit):
    good = unit.data(4, 1)
    unit(Cdb.ten(WRITE, 0, 20, 4), write=b"".join(good))
    data = unit.data(4, 2)
    tuples = unit.pi(data, 20)
    bad = corrupted(data, 2)
    for protect, what in ((1, GUARD), (2, None), (3, None), (4, GUARD), (5, GUARD)):
        cdb = Cdb.sixteen(WRITE, protect, 20, 4)
        if what:
            unit.refused(cdb, f"B/{what}", write=mix(bad, tuples), info=22)
            assert unit.read(20, 4)[0] == good  # nothing of it is written
    if unit.kind == 1:
        # A block that was meant for somewhere else.
        tuples = unit.pi(data, 21)
        for protect, what in ((1, REFERENCE), (2, REFERENCE), (4, None), (5, REFERENCE)):
            cdb = Cdb.sixteen(WRITE, protect, 20, 4)
            if what:
                unit.refused(cdb, f"B/{what}", write=mix(data, tuples), info=20)
        assert unit.read(20, 4)[0] == good
        unit(Cdb.sixteen(WRITE, 4, 20, 4), write=mix(data, tuples))
        unit.refused(Cdb.sixteen(READ, 0, 20, 4), f"B/{REFERENCE}", 4 * unit.block, info=20)


def corrupted_on_the_medium(unit):
    data = unit.data(4)
    unit.write(30, data, unit.pi(corrupted(data, 1), 30))
    size, n = unit.block, 4
    for protect, what in ((0, GUARD), (1, GUARD), (2, None), (3, None), (4, GUARD), (5, GUARD)):
        length = n * (size + (8 if protect else 0))
        for cdb, read in ((Cdb.ten(READ, protect, 30, n), length), (Cdb.ten(VERIFY, protect, 30, n), 0)):
            if what:
                unit.refused(cdb, f"B/{what}", read, info=31)
            else:
                unit(cdb, read)
    # Not all of it is wrong.
    unit(Cdb.ten(READ, 1, 32, 2), 2 * (size + 8))
    # A check that an administrator switched off; DPICZ.
    if not unit.own:
        unit.store.attrib("pi_prot_verify", 0)
        unit(Cdb.ten(READ, 1, 30, n), n * (size + 8))
        assert unit(bytes.fromhex("120186004000"), 64)[4] == 0x38
        unit.store.attrib("pi_prot_verify", 1)
    page = bytearray(unit(bytes.fromhex("1a080a00ff00"), 255))
    page[0], page[6] = 0, page[6] | 8
    unit(bytes([0x15, 0x10, 0, 0, len(page), 0]), write=bytes(page))
    unit(Cdb.ten(READ, 0, 30, n), n * size)
    unit.refused(Cdb.ten(READ, 1, 30, n), f"B/{GUARD}", n * (size + 8), info=31)
    page[6] &= ~8
    unit(bytes([0x15, 0x10, 0, 0, len(page), 0]), write=bytes(page))


def what_is_not_checked(unit):
    data = unit.data(2)
    tags = [be(1, 2) + b"\xff\xff" + be(5, 4)] * 2
    unit.write(50, data, tags)
    if unit.kind == 1:
        assert unit.read(50, 2, 1) == (data, tags)
    else:
        unit.refused(Cdb.ten(READ, 1, 50, 2), f"B/{GUARD}", 2 * (unit.block + 8), info=50)
    unit.write(50, data, [ESCAPE] * 2, protect=1)
    assert unit.read(50, 2, 1) == (data, [ESCAPE] * 2)


def verify_compares(unit):
    n, size = 3, unit.block
    data = unit.data(n)
    tuples = unit.pi(data, 60, application=7)
    unit.write(60, data, tuples)
    for protect in (1, 2, 3, 4, 5):
        unit(Cdb.ten(VERIFY, protect, 60, n, 2), write=mix(data, tuples))
    unit(Cdb.ten(VERIFY, 0, 60, n, 2), write=b"".join(data))
    other = corrupted(data, 1)
    unit.refused(Cdb.ten(VERIFY, 0, 60, n, 2), "E/1d00", write=b"".join(other), info=size + 3)
    unit.refused(Cdb.ten(VERIFY, 3, 60, n, 2), "E/1d00", write=mix(other, tuples), info=size + 8 + 3)
    unit.refused(Cdb.ten(VERIFY, 1, 60, n, 2), f"B/{GUARD}", write=mix(other, tuples), info=61)
    # The data is the same, and its protection information is not.
    wrong = [tuples[0], be(1, 2) + tuples[1][2:], tuples[2]]
    unit.refused(Cdb.ten(VERIFY, 3, 60, n, 2), f"E/{GUARD}", write=mix(data, wrong), info=61)
    if unit.kind == 1:
        wrong = tuples[:2] + [tuples[2][:4] + be(5, 4)]
        unit.refused(Cdb.ten(VERIFY, 3, 60, n, 2), f"E/{REFERENCE}", write=mix(data, wrong), info=62)
    # One block for all: the reference tag goes on.
    same = [data[0]] * n
    unit.write(70, same, unit.pi(same, 70))
    for protect in (1, 3):
        unit(Cdb.ten(VERIFY, protect, 70, n, 6), write=mix(same[:1], unit.pi(same[:1], 70)))


def write_and_verify(unit):
    data = unit.data(4)
    for flags in (0, 2):
        for form in FORMS:
            unit(form(WRITE_VERIFY, 0, 80, 4, flags), write=b"".join(data))
            assert unit.read(80, 4) == (data, unit.pi(data, 80))
            tuples = unit.pi(data, 80, application=flags + 1)
            unit(form(WRITE_VERIFY, 1, 80, 4, flags), write=mix(data, tuples))
            assert unit.read(80, 4) == (data, tuples)
    unit.refused(Cdb.ten(WRITE_VERIFY, 1, 80, 4), f"B/{GUARD}", write=mix(corrupted(data), tuples), info=80)


def write_same(unit):
    n = 2 * MIB // unit.block + 3
    unit.store.attrib("max_write_same_len", n)
    block = unit.data(1)[0]
    unit(bytes([0x93, 0]) + be(200, 8) + be(n, 4) + b"\0\0", write=block)
    for lba in (200, 200 + n - 2):
        assert unit.read(lba, 2) == ([block] * 2, unit.pi([block] * 2, lba))
    sent = pi(block, 200, 5)
    unit(bytes([0x93, 0x20]) + be(200, 8) + be(n, 4) + b"\0\0", write=block + sent)
    step = unit.kind == 1
    for lba in (200, 200 + n - 2):
        expected = [pi(block, 200 + (lba - 200 + i) * step, 5) for i in range(2)]
        assert unit.read(lba, 2) == ([block] * 2, expected)
    unit.refused(bytes([0x93, 0x20]) + be(200, 8) + be(n, 4) + b"\0\0", f"B/{GUARD}", write=corrupted([block])[0] + sent, info=200)
    # Without data: zeroes, and nothing to check.
    unit(bytes([0x93, 1]) + be(200, 8) + be(n, 4) + b"\0\0")
    got, tuples = unit.read(200 + n - 2, 2, 1)
    assert got == [bytes(unit.block)] * 2 and (unit.own or tuples == [ESCAPE] * 2)
    # Zeroes that are sent have a guard.
    unit(bytes([0x93, 0]) + be(200, 8) + be(3, 4) + b"\0\0", write=bytes(unit.block))
    assert unit.read(201, 1) == ([bytes(unit.block)], [pi(bytes(unit.block), unit.reference(201))])


def compare_and_write(unit):
    old, new = unit.data(1, 3), unit.data(1, 4)
    caw = lambda protect: bytes([0x89, protect << 5]) + be(90, 8) + b"\0\0\0\1\0\0"
    unit(Cdb.ten(WRITE, 0, 90, 1), write=old[0])
    unit(caw(0), write=old[0] + new[0])
    assert unit.read(90, 1) == (new, unit.pi(new, 90))
    unit.refused(caw(0), "E/1d00", write=old[0] + new[0])
    tuples = unit.pi(old, 90, application=9)
    both = mix(new, unit.pi(new, 90)) + mix(old, tuples)
    unit.refused(caw(1), f"B/{GUARD}", write=both[:5] + b"!" + both[6:], info=90)
    at = unit.block + 8 + 5
    unit.refused(caw(1), f"B/{GUARD}", write=both[:at] + b"!" + both[at + 1 :], info=90)
    unit(caw(1), write=both)
    assert unit.read(90, 1) == (old, tuples)
    # What is on the medium is checked before it is compared.
    unit.write(90, old, [be(1, 2) + tuples[0][2:]])
    unit.refused(caw(0), f"B/{GUARD}", write=old[0] + new[0], info=90)


def orwrite(unit):
    a, b = unit.data(3, 0x10), unit.data(3, 0x0F)
    both = [bytes(x | y for x, y in zip(p, q)) for p, q in zip(a, b)]
    orwrite = lambda protect: bytes([0x8B, protect << 5]) + be(95, 8) + be(3, 4) + b"\0\0"
    unit(Cdb.ten(WRITE, 0, 95, 3), write=b"".join(a))
    unit(orwrite(0), write=b"".join(b))
    assert unit.read(95, 3) == (both, unit.pi(both, 95))
    unit(Cdb.ten(WRITE, 0, 95, 3), write=b"".join(a))
    unit(orwrite(1), write=mix(b, unit.pi(b, 95, application=3)))
    assert unit.read(95, 3) == (both, unit.pi(both, 95, application=3))
    unit.refused(orwrite(1), f"B/{GUARD}", write=mix(corrupted(b), unit.pi(b, 95)), info=95)
    # ORWRITE (32) clears bits and begins another generation, which ORWRITE (16) stands for none of.
    long = lambda protect, expected, new, n=3: (bytes([0x7F, 0, 1, 7, 0, 0, 0, 0x18, 0, 0x0E, protect << 5, 0]) + be(95, 8)
                                                + be(expected, 4) + be(new, 4) + be(n, 4))
    unit(long(1, 0, 4), write=mix(b, unit.pi(b, 95, application=5)))
    assert unit.read(95, 3) == (b, unit.pi(b, 95, application=5))
    unit.refused(orwrite(0), "5/2c0c", write=b"".join(a))
    assert unit.read(95, 3)[0] == b
    unit(long(0, 4, 0, 0))
    unit(orwrite(0), write=b"".join(a))
    assert unit.read(95, 3)[0] == both


def large_and_partial(unit):
    n = min((MIB + MIB // 2) // unit.block + 5, int(unit.store.attrib("hw_max_sectors")) - 16)
    data = (unit.data(16) * n)[:n]
    tuples = unit.pi(data, 128)
    unit(Cdb.sixteen(WRITE, 1, 128, n), write=mix(data, tuples))
    assert unit(Cdb.sixteen(READ, 1, 128, n), n * (unit.block + 8)) == mix(data, tuples)
    unit(Cdb.sixteen(VERIFY, 1, 128, n))
    unit.write(128 + n - 1, data[-1:], unit.pi(data[:1], 128 + n - 1))
    unit.refused(Cdb.sixteen(VERIFY, 1, 128, n), f"B/{GUARD}", info=128 + n - 1)
    # An initiator that takes less than the CDB says, and one that sends less.
    status, got, answer = unit.c.scsi(Cdb.ten(READ, 1, 128, 4), unit.block + 30)
    assert status == 0 and got == mix(data, tuples)[: unit.block + 30] and answer.residual == -(3 * unit.block + 2)
    status, _, answer = unit.c.scsi(Cdb.ten(WRITE, 1, 128, 4), 0, mix(data, tuples)[: 2 * (unit.block + 8)])
    assert status == 0 and answer.residual == -2 * (unit.block + 8)
    unit.refused(Cdb.ten(WRITE, 1, 128, 4), "5/0e03", write=mix(data, tuples)[: 2 * unit.block])


def test_type_2(two):
    data = two.data(4)
    start = 0xFFFFFFFE
    tuples = [pi(d, start + i, 0x1234) for i, d in enumerate(data)]
    tags = {"reference": start, "application": 0x1200, "mask": 0xFF00}
    for protect in (1, 2, 3, 4, 5):
        two(Cdb.long(WRITE, protect, 40, 4, **tags), write=mix(data, tuples))
        assert two(Cdb.long(READ, protect, 40, 4, **tags), 4 * 520) == mix(data, tuples)
    assert two(Cdb.long(READ, 0, 40, 4, **tags), 4 * 512) == b"".join(data)
    # Each tag that is not the one that is expected, in both directions.
    for changed, what, checked in (({"reference": 5}, REFERENCE, (0, 1, 2, 5)), ({"application": 0x1300}, APPLICATION, (0, 1, 2, 5))):
        wrong = tags | changed
        for protect in range(6):
            length = 4 * (520 if protect else 512)
            if protect in checked:
                two.refused(Cdb.long(READ, protect, 40, 4, **wrong), f"B/{what}", length, info=40)
                two.refused(Cdb.long(VERIFY, protect, 40, 4, **wrong), f"B/{what}", info=40)
                if protect:
                    two.refused(Cdb.long(WRITE, protect, 40, 4, **wrong), f"B/{what}", write=mix(data, tuples), info=40)
                    two.refused(Cdb.long(WRITE_VERIFY, protect, 40, 4, **wrong), f"B/{what}", write=mix(data, tuples), info=40)
            else:
                two(Cdb.long(READ, protect, 40, 4, **wrong), length)
    # Bits outside of the mask do not count.
    two(Cdb.long(READ, 1, 40, 4, **tags | {"application": 0x12FF}), 4 * 520)
    two.refused(Cdb.long(WRITE, 1, 40, 4, **tags), f"B/{GUARD}", write=mix(corrupted(data, 3), tuples), info=43)
    # Other CDBs say nothing of tags; they may not transfer protection information.
    assert two(Cdb.ten(READ, 0, 40, 4), 4 * 512) == b"".join(data)
    for form in FORMS:
        two.refused(form(READ, 1, 40, 4), "5/2000", 4 * 520)
    two(Cdb.ten(WRITE, 0, 40, 4), write=b"".join(data))
    assert two.read(40, 4) == (data, [pi(d, 0xFFFFFFFF, 0xFFFF) for d in data])
    # WRITE SAME: from the tag that was sent on.
    two(Cdb.long(13, 1, 40, 3, reference=9), write=data[0] + pi(data[0], 9))
    assert two.read(40, 3) == ([data[0]] * 3, [pi(data[0], 9 + i) for i in range(3)])
    two(Cdb.long(VERIFY, 1, 40, 3, 6, reference=9), write=data[0] + pi(data[0], 9))
    scattered_tags(two)
    application_tags(two)


def scattered_tags(two):
    """WRITE SCATTERED (32): each range has the tags that it expects."""
    runs, data = [(40, 2), (900, 1), (50, 1)], two.data(4, 5)
    tags = [(0xFFFFFFFF, 0x1200, 0xFF00), (7, 0x0034, 0x00FF), (9, 0, 0)]
    tuples = [pi(d, r, a) for d, r, a in zip(data, (0xFFFFFFFF, 0, 7, 9), (0x12AB, 0x1212, 0x9934, 0x4321))]
    for protect in (1, 2, 3, 4, 5):
        two(Cdb.ten(WRITE, 0, 40, 4), write=b"".join(two.data(4, 6)))
        cdb, sent = scattered(two, 32, protect, runs, data, tuples, tags)
        two(cdb, write=sent)
        for lba, at, count in ((40, 0, 2), (900, 2, 1), (50, 3, 1)):
            assert two.read(lba, count) == (data[at : at + count], tuples[at : at + count])
    for at, wrong, what in ((1, (8, 0x34, 0xFF), REFERENCE), (1, (7, 0x35, 0xFF), APPLICATION), (0, (0, 0x1200, 0xFF00), REFERENCE)):
        bad = tags[:at] + [wrong] + tags[at + 1 :]
        cdb, sent = scattered(two, 32, 1, runs, two.data(4, 7), [pi(d, *t) for d, t in zip(two.data(4, 7), ((0xFFFFFFFF, 0x12AB), (0, 0x1212),
                                                                                                        (7, 0x9934), (9, 1)))], bad)
        two.refused(cdb, f"B/{what}", write=sent, info=runs[at][0])
        assert two.read(40, 2)[0] == data[:2]
    for form in (16, 32):
        cdb, sent = scattered(two, form, 0, runs, data)
        two(cdb, write=sent)
        assert two.read(900, 1) == (data[2:3], [pi(data[2], 0xFFFFFFFF, 0xFFFF)])
    cdb, sent = scattered(two, 16, 1, runs, data, tuples)
    two.refused(cdb, "5/2000", write=sent)


def write_long(unit):
    """A block that was marked reads as such, with and without protection information, until it is written."""
    unit.store.attrib("emulate_write_long", 1)
    data = unit.data(3)
    expected = unit.pi(data, 70)
    unit(Cdb.ten(WRITE, 0, 70, 3), write=b"".join(data))
    unit(bytes([0x9F, 0x51]) + be(71, 8) + bytes(6))
    for protect in (0, 1):
        unit.refused(Cdb.ten(READ, protect, 70, 3), "3/1114", read=3 * (unit.block + 8), info=71)
        unit.refused(Cdb.ten(VERIFY, protect, 70, 3), "3/1114", info=71)
    assert unit.read(72, 1) == (data[2:], expected[2:])
    # READ LONG shows all of it, and checks nothing.
    assert unit(bytes([0x9E, 0x11]) + be(71, 8) + bytes(2) + be(unit.block + 8, 2) + bytes(2), unit.block + 8) == mix(data[1:2], expected[1:2])
    unit.refused(bytes([0x3E, 0]) + be(71, 4) + b"\0" + be(unit.block, 2) + b"\0", "5/2400", read=unit.block, info=(1 << 32) - 8)
    unit(Cdb.ten(WRITE, 1, 71, 1), write=mix(data[1:2], expected[1:2]))
    assert unit.read(70, 3) == (data, expected)


def unmap(unit):
    for name in ("emulate_tpu", "emulate_tpws"):
        unit.store.attrib(name, 1)
    n, zeroes = 32, bytes(unit.block)
    data = unit.data(n)
    expected = unit.pi(data, 0)
    unit(Cdb.ten(WRITE, 0, 0, n), write=b"".join(data))
    unit(bytes.fromhex("42000000000000001800"), write=be(22, 2) + be(16, 2) + bytes(4) + be(8, 8) + be(8, 4) + bytes(4))
    assert unit.read(0, n, 1)[1] == expected[:8] + [ESCAPE] * 8 + expected[16:]
    unit(bytes([0x93, 8]) + be(24, 8) + be(4, 4) + b"\0\0", write=zeroes)
    assert unit.read(24, 5) == ([zeroes] * 4 + data[28:29], [ESCAPE] * 4 + expected[28:29])
    # With protection information that an unmapped block has not, it is written.
    unit(bytes([0x93, 0x28]) + be(24, 8) + be(4, 4) + b"\0\0", write=zeroes + pi(zeroes, 24))
    assert unit.read(24, 1)[1] == [pi(zeroes, 24)]


def copied(unit):
    """EXTENDED COPY has what it reads checked, and makes what it writes, as READ and WRITE without protection information do."""
    cscds, data = [copying.cscd(copying.naa(unit.store), unit.block)], unit.data(6, 21)

    def copy(n, to):
        p = copying.parameters(cscds, [copying.blocks(0, 0, n, 100, to)])
        return unit.c.scsi(copying.extended_copy(len(p)), write=p)
    unit(Cdb.ten(WRITE, 0, 100, 6), write=b"".join(data))
    assert copy(6, 208)[0] == 0
    assert unit.read(208, 6, 1) == (data, unit.pi(data, 208))
    # Corrupted at the source: nothing of that is written.
    unit.write(102, data[2:3], unit.pi(corrupted(data[2:3]), 102))
    status, _, answer = copy(6, 300)
    assert status == 2 and copying.copy_of(answer.sense) == (0, None, "source", f"B/{GUARD}"), answer.sense.hex()


def write_scattered(unit):
    # The last run takes more than one operation, where the storage takes so much at once.
    n = min(MIB // unit.block + 3, int(unit.store.attrib("hw_max_sectors")) - 16)
    runs = [(900, 2), (5, 0), (700, 1), (1000, n)]
    lbas = [lba + i for lba, count in runs for i in range(count)]
    data = unit.data(n + 3, 31)
    generated = [pi(d, unit.reference(lba)) for d, lba in zip(data, lbas)]

    def there(tuples):
        for at, (lba, count) in ((0, (900, 2)), (2, (700, 1)), (3, (1000, 2)), (n + 1, (1000 + n - 2, 2))):
            assert unit.read(lba, count) == (data[at : at + count], tuples[at : at + count])

    cdb, sent = scattered(unit, 16, 0, runs, data)
    unit(cdb, write=sent)
    there(generated)
    # What is sent is kept, and the offset is one of blocks that have it behind them.
    tuples = [t[:2] + be(0x77, 2) + t[4:] for t in generated]
    for protect in (1, 2, 3, 4, 5):
        cdb, sent = scattered(unit, 16, protect, runs, data, tuples, offset=protect)
        unit(cdb, write=sent)
        there(tuples)
    # What is wrong in the last block of the last run keeps all of it from being written.
    before = unit.read(900, 2), unit.read(700, 1)
    other = unit.data(n + 3, 32)
    right = [pi(d, unit.reference(lba)) for d, lba in zip(other, lbas)]
    for protect, what in ((1, GUARD), (2, None), (4, GUARD), (5, GUARD)):
        cdb, sent = scattered(unit, 16, protect, runs, corrupted(other, n + 2), right)
        if what:
            unit.refused(cdb, f"B/{what}", write=sent, info=1000 + n - 1)
            assert (unit.read(900, 2), unit.read(700, 1)) == before
    if unit.kind == 1:
        # Blocks that were meant for somewhere else: each run is counted from its own address.
        cdb, sent = scattered(unit, 16, 1, [(901, 2), *runs[1:]], other, right)
        unit.refused(cdb, f"B/{REFERENCE}", write=sent, info=901)
    cdb, sent = scattered(unit, 16, 6, runs, data, tuples)
    unit.refused(cdb, "5/2400", write=sent, pointer=(True, 2, 7))
    cdb, sent = scattered(unit, 32, 1, runs, data, tuples)
    unit.refused(cdb, "5/2000", write=sent)
    # Descriptors that do not fit before the data, whose blocks are larger here.
    many = [(700, 0)] * ((unit.block + 8) // 32)
    cdb, sent = scattered(unit, 16, 1, many, [], [])
    unit.refused(cdb, "5/2400", write=sent, pointer=(True, 8, None))


def atomics(unit):
    """No block and its protection information are written as one, unless the storage does so."""
    assert [unit.store.attrib(f"atomic_{name}") for name in ("max_len", "alignment", "granularity")] == ["0"] * 3
    data = unit.data(8)
    for protect in (0, 1):
        cdb = bytes([0x9C, protect << 5]) + be(64, 8) + bytes(2) + be(8, 2) + b"\0\0"
        unit.refused(cdb, "5/2000", write=mix(data, unit.pi(data, 64)) if protect else b"".join(data))


def mode(unit, subpage=0, control=0):
    """The control page, or its subpage 02h."""
    return bytearray(unit(bytes([0x1A, 8, control << 6 | 0x0A, subpage, 255, 0]), 255)[4:])


def select(unit, page, save=0):
    unit(bytes([0x15, 0x10 | save, 0, 0, 4 + len(page), 0]), write=bytes(4) + bytes(page))


def tags_page(ranges):
    """The application tag mode page (SBC-4, 6.5.3) of (tag, first block, blocks)."""
    page = bytes([0x4A, 2, 0, 108]) + bytes(12)
    for tag, lba, n in ranges:
        page += bytes([0x80 if (tag, lba, n) == ranges[-1] else 0, 0, 0, 0, 0, 0]) + be(tag, 2) + be(lba, 8) + be(n, 8)
    return page.ljust(112, b"\0")


def both_settle(unit):
    for c in (unit.c, unit.other):
        while c.scsi(bytes(6))[0]:
            pass


def application_tags(unit):
    """With ATO and ATMPE, the application tag mode page says what the tags are that no CDB says."""
    end = int.from_bytes(unit(bytes.fromhex("9e10") + bytes(8) + be(32, 4) + b"\0\0", 32)[:8], "big") + 1
    whole = tags_page([(0, 0, end)])
    assert mode(unit, 2)[4:] == whole[4:] and mode(unit, 2)[0] & 0x7F == 0x4A
    assert mode(unit, 0, 1)[5] == (0x60 if unit.kind == 2 else 0xE0)  # what can be changed of TAS, ATO and ATMPE
    ranges = [(0x1234, 0, 400), (0x5678, 400, 2), (0x9ABC, 402, end - 402)]
    select(unit, tags_page(ranges))
    assert mode(unit, 2)[4:] == tags_page(ranges)[4:]
    status, _, answer = unit.other.scsi(bytes(6))
    assert status == 2 and say(answer.sense) == "6/2a01"
    # Not in order, with gaps, not to the end.
    for wrong, at in (([(1, 0, 4), (2, 5, end - 5)], 16 + 24 + 8), ([(1, 0, 4), (2, 3, end - 3)], 16 + 24 + 8), ([(1, 1, end - 1)], 16 + 8),
                      ([(1, 0, end + 1)], 16 + 16), ([(1, 0, 0), (2, 0, end)], 16 + 16)):
        page = tags_page(wrong)
        unit.refused(bytes([0x15, 0x10, 0, 0, 4 + len(page), 0]), "5/2600", write=bytes(4) + page, pointer=(False, 4 + at, 7))
    data = unit.data(6, 41)
    form = Cdb.long if unit.kind == 2 else Cdb.sixteen
    unit(Cdb.sixteen(WRITE, 0, 398, 6), write=b"".join(data))
    assert unit.read(398, 6) == (data, unit.pi(data, 398, 0xFFFF if unit.kind == 2 else 0))  # ATMPE is not set yet
    control = mode(unit)
    before = bytes(control)
    control[5] |= 0xA0
    select(unit, control)
    assert mode(unit)[5] & 0xA0 == 0xA0
    unit(Cdb.sixteen(WRITE, 0, 398, 6), write=b"".join(data))
    expected = [pi(d, unit.reference(398 + i), tag) for i, (d, tag) in enumerate(zip(data, [0x1234] * 2 + [0x5678] * 2 + [0x9ABC] * 2))]
    assert unit.read(398, 6) == (data, expected)
    unit(Cdb.sixteen(READ, 0, 398, 6), 6 * unit.block)
    unit(bytes([0x93, 0]) + be(399, 8) + be(2, 4) + b"\0\0", write=data[0])  # WRITE SAME
    assert [t[2:4].hex() for t in unit.read(399, 2)[1]] == ["1234", "5678"]
    cdb, sent = scattered(unit, 16, 0, [(403, 1), (399, 1)], data[:2])
    unit(cdb, write=sent)
    assert [unit.read(lba, 1)[1][0][2:4].hex() for lba in (403, 399)] == ["9abc", "1234"]
    unit(Cdb.sixteen(WRITE, 0, 398, 6), write=b"".join(data))
    # Other tags: refused as they come, and found where they are.
    wrong = expected[:3] + [expected[3][:3] + b"\0" + expected[3][4:]] + expected[4:]
    if unit.kind != 2:
        for protect in (1, 2, 5):
            unit.refused(form(WRITE, protect, 398, 6), f"B/{APPLICATION}", write=mix(data, wrong), info=401)
        unit(form(WRITE, 4, 398, 6), write=mix(data, wrong))
        unit.refused(form(READ, 1, 398, 6), f"B/{APPLICATION}", 6 * (unit.block + 8), info=401)
        unit.refused(form(VERIFY, 3, 398, 6, 2), f"E/{APPLICATION}", write=mix(data, expected), info=401)
        unit(form(READ, 4, 398, 6), 6 * (unit.block + 8))
    else:
        # The CDB's go first where it has them.
        tags = {"reference": 5, "application": 0x7700, "mask": 0xFF00}
        tuples = [pi(d, 5 + i, 0x7701) for i, d in enumerate(data)]
        unit(form(WRITE, 1, 398, 6, **tags), write=mix(data, tuples))
        unit(form(READ, 1, 398, 6, **tags), 6 * (unit.block + 8))
    unit.refused(Cdb.ten(READ, 0, 398, 6), f"B/{APPLICATION}", 6 * unit.block, info=398 if unit.kind == 2 else 401)
    # A reset has the saved values, or the defaults.
    saves = control[0] & 0x80
    if saves:
        select(unit, tags_page(ranges[:1] + [(7, 400, end - 400)]), save=1)
        select(unit, whole)
    assert unit.c.tmf(initiator.LUN_RESET) == 0
    both_settle(unit)
    kept = tags_page(ranges[:1] + [(7, 400, end - 400)]) if saves else whole
    assert mode(unit, 2)[4:] == kept[4:]
    unit(bytes([0x15, 3 if saves else 2, 0, 0, 0, 0]))  # RTD: the defaults, saved
    assert (mode(unit, 2)[4:], bytes(mode(unit))[2:]) == (whole[4:], before[2:])
    both_settle(unit)


CHECKS = (what_is_written_without_is_generated, what_is_written_with_it_is_kept, reserved_values, corrupted_on_its_way,
          corrupted_on_the_medium, what_is_not_checked, verify_compares, write_and_verify, write_same, compare_and_write, orwrite,
          copied, write_long, write_scattered, atomics, application_tags, large_and_partial, unmap)


@pytest.mark.parametrize("name,kind,block", [("ramdisk", 1, 512), ("ramdisk", 3, 512), ("fileio", 1, 4096)])
def test_types_1_and_3(name, kind, block):
    unit = Unit(STORES[name](size=SIZE, serial=str(uuid.uuid4())), kind, block)
    for check in CHECKS:
        check(unit)


@pytest.mark.parametrize("name", list(STORES))
def test_zeroes_in_pieces(name):
    """WRITE SAME of more than is zeroed at once: the protection information of all of it is gone, and of no other block."""
    end = 64 * MIB // 512
    store = STORES[name](size=160 * MIB, serial=str(uuid.uuid4()))
    store.attrib("max_write_same_len", 4 * end)
    unit = Unit(store, 1)
    places = (99, end - 2, 2 * end - 2, 2 * end + 100)
    for lba in places:
        unit.write(lba, unit.data(4), unit.pi(unit.data(4), lba))
    unit(bytes([0x93, 0x01]) + be(100, 8) + be(2 * end, 4) + b"\0\0")  # NDOB
    zero, data = ([bytes(512)] * 4, [ESCAPE] * 4), unit.data(4)
    assert unit.read(places[0], 4) == (data[:1] + zero[0][1:], unit.pi(data[:1], places[0]) + zero[1][1:])
    assert [unit.read(lba, 4) for lba in places[1:3]] == [zero] * 2
    assert unit.read(places[3], 4) == (data, unit.pi(data, places[3]))


@pytest.mark.parametrize("name", list(STORES))
def test_reads_beside_writes(name):
    """Blocks and their protection information belong together, whatever is under way at the same time."""
    unit = Unit(STORES[name](size=SIZE), 1)
    n, stop = 64, threading.Event()
    versions = [b"".join(unit.data(n, seed)) for seed in (1, 2)]
    unit(Cdb.ten(WRITE, 0, 0, n), write=versions[0])
    errors, written = [], 0

    def write():
        nonlocal written
        while not stop.is_set() and not errors:
            for data in versions:
                status, _, answer = unit.other.scsi(Cdb.ten(WRITE, 0, 0, n), 0, data)
                if status:
                    errors.append(answer)
            written += 2

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            got = unit(Cdb.ten(READ, 0, 0, n), n * 512)
            assert all(got[i : i + 512] in (versions[0][i : i + 512], versions[1][i : i + 512]) for i in range(0, len(got), 512))
    finally:
        stop.set()
        writer.join()
    assert not errors, errors[0].sense.hex()
    assert written > 2


def test_attributes():
    store = lio.ramdisk(size=SIZE, enable=False)
    with lio.refused(errno.ENODEV):
        store.attrib("pi_prot_type", 1)
    lio.write(store.path / "enable", 1)
    assert [store.attrib(n) for n in ("pi_prot_type", "pi_prot_format", "pi_prot_verify", "hw_pi_prot_type")] == ["0"] * 4
    store.attrib("pi_prot_verify", 1)  # without effect
    assert store.attrib("pi_prot_verify") == "0"
    with lio.refused(errno.ENODEV):
        store.attrib("pi_prot_format", 1)
    with lio.refused(errno.EINVAL):
        store.attrib("pi_prot_type", 4)
    for kind in (1, 2, 3):
        store.attrib("pi_prot_type", kind)
        assert (store.attrib("pi_prot_type"), store.attrib("pi_prot_verify")) == (str(kind), "1")
    with lio.refused(errno.EINVAL):
        store.attrib("block_size", 4096)
    store.attrib("pi_prot_format", 1)
    assert store.attrib("pi_prot_format") == "0"
    target = lio.IscsiTarget(store)
    target.attrib("t10_pi", 1)  # as saved configurations have it; it is about RDMA
    assert target.attrib("t10_pi") == "1"
    store.attrib("pi_prot_type", 3)
    for name, value in (("pi_prot_type", 1), ("pi_prot_type", 0), ("pi_prot_format", 1)):
        with lio.refused(errno.EINVAL):
            store.attrib(name, value)
    target.delete()
    store.attrib("pi_prot_type", 0)
    assert store.attrib("pi_prot_verify") == "0"


def test_format_unit():
    store = lio.ramdisk(size=SIZE)
    store.attrib("emulate_sanitize", 1)
    unit = Unit(store, 0)
    capacity = bytes.fromhex("9e10") + bytes(8) + be(32, 4) + b"\0\0"
    assert unit(bytes.fromhex("120000006000"), 96)[5] & 1  # it can
    unit.other.scsi(capacity, 32)
    for fmtpinfo, usage, kind in ((2, 0, 1), (3, 0, 2), (3, 1, 3), (2, 0, 1)):
        unit.kind = kind
        unit(Cdb.ten(WRITE, 0, 0, 4), write=b"".join(unit.data(4)))
        unit(bytes([4, fmtpinfo << 6 | 0x10, 0, 0, 0, 0]), write=bytes([usage, 0, 0, 0]))
        assert unit(capacity, 32)[12] == kind - 1 << 1 | 1
        assert store.attrib("pi_prot_type") == str(kind)
        status, _, answer = unit.other.scsi(capacity, 32)
        assert status == 2 and say(answer.sense) == "6/2a09", say(answer.sense)
        assert unit.read(0, 4) == ([bytes(512)] * 4, [ESCAPE] * 4)
    unit.refused(bytes([4, 0x90, 0, 0, 0, 0]), "5/2600", write=bytes([1, 0, 0, 0]), pointer=(False, 0, 2))
    unit.refused(bytes([4, 0x80, 0, 0, 0, 0]), "5/2400", pointer=(True, 1, 7))
    unit(bytes([4, 0, 0, 0, 0, 0]))
    assert unit(capacity, 32)[12] == 0 and store.attrib("pi_prot_type") == "0"
    unit.refused(Cdb.ten(READ, 1, 0, 1), "5/2400", 520, pointer=(True, 1, 7))


def test_linux_as_initiator():
    """open-iscsi transfers no protection information: it is generated, and checked, behind it. The loopback fabric does: `dix`."""
    store = lio.ramdisk(size=SIZE)
    store.attrib("pi_prot_type", 1)
    target, loop = lio.IscsiTarget(store), lio.Loopback(store)
    for disk in (lio.login(target)[0], loop.disk()):
        data = os.urandom(MIB)
        fd = os.open(disk, os.O_RDWR)
        os.pwrite(fd, data, 3 * MIB)
        os.fsync(fd)
        lio.run("blockdev", "--flushbufs", disk)
        assert os.pread(fd, MIB, 3 * MIB) == data
        os.close(fd)
    c = initiator.session(target)
    lba = 3 * MIB // 512
    status, got, answer = c.scsi(Cdb.ten(READ, 1, lba, 8), 8 * 520)
    assert status == 0, answer.sense.hex()
    blocks = [data[i : i + 512] for i in range(0, 4096, 512)]
    assert got == mix(blocks, [pi(b, lba + i) for i, b in enumerate(blocks)])
    # What is wrong is not what an application gets.
    bad = pi(b"!" + blocks[0][1:], lba)
    c.scsi(Cdb.ten(WRITE, 3, lba, 1), 0, blocks[0] + bad)
    disk = loop.disk()
    lio.run("blockdev", "--flushbufs", disk)
    fd = os.open(disk, os.O_RDONLY)
    with lio.refused(errno.EILSEQ, errno.EIO):
        os.pread(fd, 4096, 3 * MIB)
    os.close(fd)
    # SG_IO through the loopback fabric has it in the data as well.
    from sgio import Disk

    with Disk(disk) as sg:
        r = sg.scsi(Cdb.ten(READ, 3, lba, 2), 2 * 520)
        assert r.status == 0 and r.data == blocks[0] + bad + blocks[1] + pi(blocks[1], lba + 1)
        r = sg.scsi(Cdb.ten(WRITE, 1, lba, 1), write=blocks[0] + bad)
        assert say(r.sense) == f"B/{GUARD}"
        assert sg.scsi(Cdb.ten(WRITE, 1, lba, 1), write=blocks[0] + pi(blocks[0], lba)).status == 0


def test_storage_without_a_place_for_it():
    for store in (lio.fileio("on_loop", file=lio.loop_device(SIZE)), lio.iblock(size=SIZE)):
        with lio.refused(errno.ENOSYS):
            store.attrib("pi_prot_type", 1)
        store.attrib("pi_prot_type", 0)
        assert store.attrib("pi_prot_type") == store.attrib("hw_pi_prot_type") == "0"


@pytest.mark.parametrize("kind,block", [(1, 512), (3, 4096)])
def test_a_disk_that_has_it(kind, block):
    """The block layer carries it to a disk that keeps it."""
    with storage.scsi_debug(dev_size_mb=16, sector_size=block, dif=kind, dix=1) as disk:
        store = lio.iblock(dev=disk, serial=str(uuid.uuid4()))
        assert [store.attrib(n) for n in ("pi_prot_type", "hw_pi_prot_type", "pi_prot_verify")] == [str(kind), str(kind), "0"]
        store.attrib("pi_prot_type", 0)  # stays as it is, as with the stock modules
        assert store.attrib("pi_prot_type") == str(kind)
        unit = Unit(store, kind, block)
        # SPT: this type alone.
        assert unit(bytes.fromhex("120186004000"), 64)[4] == (0x07 if kind == 1 else 0x27)
        for check in CHECKS:
            if check is not unmap:
                check(unit)
        # What is there was written by the disk's own rules, and the other way round.
        data = unit.data(8)
        fd = os.open(disk, os.O_RDWR)
        os.pwrite(fd, b"".join(data), 3000 * block)
        os.fsync(fd)
        got, tuples = unit.read(3000, 8, 1)
        # Of type 3, the reference tag is anybody's.
        assert got == data and [t[: 8 if kind == 1 else 2] for t in tuples] == [p[: 8 if kind == 1 else 2] for p in unit.pi(data, 3000)]
        tuples = unit.pi(data, 3100, application=5)
        unit.write(3100, data, tuples, protect=1)
        lio.run("blockdev", "--flushbufs", disk)
        assert os.pread(fd, 8 * block, 3100 * block) == b"".join(data)
        unit.write(3100, data, unit.pi(corrupted(data, 2), 3100))
        os.close(fd)
        past_the_cache = ["dd", f"if={disk}", "of=/dev/null", f"bs={block}", "skip=3100", "count=8", "iflag=direct"]
        assert lio.run(*past_the_cache, check=False).returncode != 0
        unit.store.attrib("emulate_sanitize", 1)
        unit.refused(bytes([4, 0, 0, 0, 0, 0]), "5/2400", pointer=(True, 1, 7))
        unit.delete()
