"""Logical block provisioning: what is left and used, and thresholds that are told of (SBC-3, 4.7.3.7); LOG SELECT with a list."""
# group: tasks
from pathlib import Path

import initiator
import lio
import pytest
from sgio import field, say

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules have no log pages and no thresholds")
MIB = 1 << 20
SIZE = 32 * MIB
SERIAL = "74e5401d0123456789a"


@pytest.fixture
def thin():
    """Two initiators of a thin RAM disk, in MiB."""
    lio.modprobe("target_core_mod")
    saved = Path(lio.read(lio.CFS / "dbroot")) / f"mode_{SERIAL}"
    saved.parent.mkdir(parents=True, exist_ok=True)
    store = lio.ramdisk(size=SIZE, serial=SERIAL)
    store.attrib("emulate_tpu", 1)
    target = lio.IscsiTarget(store)
    names = ["iqn.2024-01.org.example:a", "iqn.2024-01.org.example:b"]
    a, b = (initiator.session(target, name=name, keys={"InitialR2T": "Yes", "ImmediateData": "Yes"}) for name in names)
    yield store, a, b
    a.close()
    b.close()
    saved.unlink(missing_ok=True)


def ok(c, cdb, read=0, write=b""):
    status, data, answer = c.scsi(bytes.fromhex(cdb), read=read, write=write)
    assert status == 0, (cdb, status, answer.sense.hex())
    return data


def refused(c, cdb, what, pointer, read=0, write=b""):
    status, _, answer = c.scsi(bytes.fromhex(cdb), read=read, write=write)
    assert (status, say(answer.sense), field(answer.sense)) == (2, what, pointer)


def put(c, lba, mib):
    for i in range(mib):
        ok(c, f"2a00{lba + i * 2048:08x}00080000", write=b"\x77" * MIB)


def unmap(c, lba, blocks):
    ok(c, "42000000000000001800", write=bytes.fromhex(f"0016001000000000{lba:016x}{blocks:08x}00000000"))


def sets(c):
    """AVAILABLE and USED of the log page, in threshold sets."""
    page = ok(c, "4d004c0000000002 0000".replace(" ", ""), read=512)
    assert page[:4].hex() == "8c000018" and len(page) == 28
    assert (page[4:8].hex(), page[16:20].hex()) == ("00010308", "00020308")
    assert (page[12], page[24]) == (2, 1), "others take of what is left, nobody of what is used"
    return int.from_bytes(page[8:12], "big"), int.from_bytes(page[20:24], "big")


def set_thresholds(c, available=None, used=None, report=True, save=False):
    """MODE SELECT, of pages 01h and 1Ch/02h."""
    def one(n, arming, resource):
        return bytes([(0x80 if n is not None else 0) | arming, resource, 0, 0]) + (n or 0).to_bytes(4, "big")

    recovery = bytes.fromhex("010a0000000000") + bytes([0x80 if report else 0]) + bytes(4)
    page = bytes.fromhex("5c02001c") + bytes(12) + one(available, 0, 1) + one(used, 1, 2)
    data = bytes(8) + recovery + page
    ok(c, f"55{0x11 if save else 0x10:02x}0000000000{len(data):04x}00", write=data)


def attention(c, *expected):
    """Waits for these unit attentions, in this order, and for none behind them."""
    for what in expected:
        def come():
            status, _, answer = c.scsi(bytes(6))
            return status == 2 and say(answer.sense)
        assert lio.wait_for(come) == f"6/{what}"


def quiet(c, seconds=2.5):
    """No unit attention for more than two looks at the back end."""
    lio.pause(seconds)
    assert c.scsi(bytes(6))[0] == 0


def test_what_is_used_and_left(thin):
    store, a, b = thin
    # Sets of 1 MiB, 2^11 blocks.
    assert ok(a, "1201b200ff00", read=255)[4] == 11
    assert 0x0C in ok(a, "4d00400000000002" + "0000", read=512)[4:]
    assert sets(a) == (32, 0)
    put(a, 0, 5)
    assert sets(b) == (27, 5)
    unmap(b, 2048, 2 * 2048)
    assert sets(a) == (29, 3)
    # A part of a set is one that is used.
    ok(a, "2a000000800000000800", write=b"\x77" * 4096)
    assert sets(a) == (28, 4)
    assert len(ok(a, "4d004c0000000202" + "0000", read=512)) == 16
    refused(a, "4d004c00000003020000", "5/2400", (True, 5, None), read=512)


def test_thresholds_are_told_of(thin):
    _, a, b = thin
    set_thresholds(a, used=4)
    attention(b, "2a01")
    put(a, 0, 3)
    quiet(a)
    put(a, 3 * 2048, 1)
    attention(a, "3807")
    attention(b, "3807")
    put(a, 4 * 2048, 1)
    # It is told once, until it is reached again.
    put(a, 5 * 2048, 1)
    quiet(a)
    unmap(a, 0, 4 * 2048)
    quiet(b)
    put(a, 0, 3)
    attention(b, "3807")
    attention(a, "3807")
    # The other one is about what is left; with LBPERE off nothing is told.
    set_thresholds(a, available=20, report=False)
    attention(b, "2a01")
    put(a, 10 * 2048, 8)
    quiet(b)
    set_thresholds(b, available=20)
    attention(a, "2a01", "3807")
    # A reset brings the defaults back: there are none.
    assert b.tmf(initiator.LUN_RESET) == 0
    for c in (a, b):
        lio.wait_for(lambda c=c: c.scsi(bytes(6))[0] == 0)
    assert not any(ok(a, "1a08 1c02ff00".replace(" ", ""), read=255)[8:20])
    assert ok(a, "1a081c02ff00", read=255)[20] == 0


def test_a_device_that_goes_is_looked_at_no_more():
    for _ in range(3):
        store = lio.ramdisk(size=SIZE)
        store.attrib("emulate_tpu", 1)
        with initiator.session(lio.IscsiTarget(store)) as c:
            set_thresholds(c, used=1)
        # The modules unload at once.
        lio.clear(unload=True)


def test_space_of_a_file_system():
    """A file has what its file system has left, and that is shared."""
    at = Path("/tmp/small")
    at.mkdir(exist_ok=True)
    lio.run("mount", "-t", "tmpfs", "-o", "size=24m", "small", at)
    try:
        store = lio.fileio(file=str(at / "disk"), size=SIZE)
        store.attrib("emulate_tpu", 1)
        target = lio.IscsiTarget(store)
        with initiator.session(target, keys={"InitialR2T": "Yes", "ImmediateData": "Yes"}) as c:
            assert sets(c) == (24, 0)
            put(c, 0, 2)
            assert sets(c) == (22, 2)
            set_thresholds(c, available=10)
            (at / "other").write_bytes(bytes(12 * MIB))
            attention(c, "3807")
            assert sets(c) == (10, 2)
        lio.clear()
    finally:
        lio.run("umount", at)


@pytest.mark.parametrize("kind", [lio.ramdisk, lio.iblock], ids=["thick", "iblock"])
def test_who_does_not_know_has_no_page(kind):
    store = kind(size=SIZE)
    target = lio.IscsiTarget(store)
    with initiator.session(target) as c:
        assert 0x0C not in ok(c, "4d0040000000000200" + "00", read=512)[4:]
        refused(c, "4d004c00000000020000", "5/2400", (True, 2, 5), read=512)
        refused(c, "1a081c02ff00", "5/2400", (True, 3, None), read=255)
        assert ok(c, "1201b200ff00", read=255)[4] == 0
        refused(c, "151000001000", "5/2600", (False, 11, 7), write=bytes(4) + bytes.fromhex("010a0000000000800000 0000"))


def test_log_select_sets_counters(thin):
    _, a, b = thin
    put(a, 0, 1)

    def written(c):
        return ok(c, "4d00420000000002" + "0000", read=512)[8:16]

    assert written(a) == MIB.to_bytes(8, "big")
    data = bytes.fromhex("0200000c" + "00050008") + (1000).to_bytes(8, "big")
    ok(a, f"4c00400000000000{len(data):02x}00", write=data)
    attention(b, "2a02")
    assert written(b) == (1000).to_bytes(8, "big")
    put(a, 0, 1)
    assert written(b) == (1000 + MIB).to_bytes(8, "big")
    # Setting what is set is no change; what is no counter is not set.
    now = ok(a, "4d00420000000002" + "0000", read=512)
    ok(a, f"4c00400000000000{len(now):02x}00", write=now)
    assert b.scsi(bytes(6))[0] == 0
    refused(a, "4c004c00000000001000", "5/2400", (True, 2, 5), write=bytes(16))
    refused(a, "4c02400000000000 1000".replace(" ", ""), "5/2400", (True, 7, None), write=bytes(16))
    refused(a, "4c00400000000000" + "0400", "5/2600", (False, 0, 5), write=bytes.fromhex("0c000000"))
    refused(a, "4c00400000000000" + "0800", "5/1a00", None, write=bytes.fromhex("0200000c00050008"))


def test_a_threshold_that_is_another_one(thin):
    """It is told of once more where it is reached as well."""
    _, a, b = thin
    put(a, 0, 8)
    set_thresholds(a, used=4)
    attention(b, "2a01", "3807")
    attention(a, "3807")
    set_thresholds(a, used=6)
    attention(b, "2a01", "3807")
    attention(a, "3807")
    quiet(a)


def test_saved_thresholds_after_a_reset(thin):
    """A reset puts what was saved in force again, and they are looked after."""
    _, a, b = thin
    set_thresholds(a, used=4, save=True)
    attention(b, "2a01")
    set_thresholds(a)
    attention(b, "2a01")
    quiet(a)
    assert a.tmf(initiator.LUN_RESET, timeout=30) == 0
    attention(a, "2903")
    put(a, 0, 5)
    attention(a, "3807")


def test_it_says_that_it_is_thin(thin):
    """PROVISIONING TYPE (SBC-3, 6.6.4): without it Windows does not take a disk for thin."""
    store, a, _ = thin
    assert ok(a, "1201b200ff00", read=255)[6] & 7 == 2
    store.attrib("emulate_tpu", 0)
    assert ok(a, "1201b200ff00", read=255)[6] == 0
