"""Thin provisioning: what page B2h, page B0h and READ CAPACITY (16) say of it is what happens (SBC-4, 4.7)."""
# vm: --timeout 300
# group: blocks
import contextlib
import os

import lio
import pytest
import storage
from test_blocks import Unit, be, data_of, sixteen

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules say LBPRZ of block devices that do not keep to it")
SIZE = 16 << 20
STORES = ["ramdisk", "fileio", "fileio on a disk", "iblock"]


@contextlib.contextmanager
def thin(kind, **attributes):
    """A unit of each back end; the disk under two of them reads as FFh what is unmapped, and unmaps eight blocks at a time."""
    with contextlib.ExitStack() as stack:
        if kind in ("ramdisk", "fileio"):
            store = lio.BACKSTORES[kind](size=SIZE)
        else:
            disk = stack.enter_context(storage.scsi_debug(dev_size_mb=16, delay=0, lbpu=1, lbpws=1, lbprz=2, unmap_granularity=8))
            store = lio.iblock(dev=disk) if kind == "iblock" else lio.fileio(file=disk, size=SIZE)
        for name, value in attributes.items():
            store.attrib(name, value)
        yield Unit(store)


def page(unit, code):
    return unit(bytes([0x12, 1, code, 0, 255, 0]), read=255)


def number(data, at, width=4):
    return int.from_bytes(data[at : at + width], "big")


def said(unit):
    """LBPME and LBPRZ of READ CAPACITY (16); LBPU, LBPWS with LBPWS10, LBPRZ and ANC_SUP of page B2h"""
    capacity, b2 = unit(sixteen(0x9E, 0x10, 0, 32), read=32), page(unit, 0xB2)
    assert b2[5] >> 5 & 3 in (0, 3)
    return capacity[14] >> 6 & 3, (b2[5] >> 7, b2[5] >> 6 & 1, b2[5] >> 2 & 7, b2[5] >> 1 & 1)


def unmap(*extents, anchor=0):
    data = be(6 + 16 * len(extents), 2) + be(16 * len(extents), 2) + bytes(4)
    data += b"".join(be(lba, 8) + be(n, 4) + bytes(4) for lba, n in extents)
    return bytes([0x42, anchor, 0, 0, 0, 0, 0]) + be(len(data), 2) + b"\0", data


@pytest.mark.parametrize("kind", STORES)
def test_what_is_said(kind):
    with thin(kind) as unit:
        store = unit.store
        assert said(unit) == (0, (0, 0, 0, 0))
        unit.refused(unmap((0, 8))[0], "5/2000", write=unmap((0, 8))[1])
        unit.refused(sixteen(0x93, 8, 0, 8), "5/2400", (True, 1, 3), write=bytes(512))
        for tpu, tpws in ((1, 0), (0, 1), (1, 1)):
            store.attrib("emulate_tpu", tpu)
            store.attrib("emulate_tpws", tpws)
            assert said(unit) == (2, (tpu, tpws, 0, 0))
            b0 = page(unit, 0xB0)
            limits = [number(b0, at) for at in (20, 24, 28, 32)]
            kept = [int(store.attrib(name)) for name in ("max_unmap_lba_count", "max_unmap_block_desc_count", "unmap_granularity")]
            # There is a limit of UNMAP where there is an UNMAP.
            assert limits[:3] == [kept[0] * tpu, kept[1] * tpu, kept[2]] and kept[2]
            assert limits[3] & 0x7FFFFFFF == int(store.attrib("unmap_granularity_alignment"))
            cdb, data = unmap((8, 8))
            if tpu:
                unit(cdb, write=data)
                unit.refused(unmap((8, 8), anchor=1)[0], "5/2400", (True, 1, 0), write=data)
                if kept[1] == 1:
                    cdb, data = unmap((8, 8), (16, 8))
                    unit.refused(cdb, "5/2600", write=data)
            else:
                unit.refused(cdb, "5/2000", write=data)
            if tpws:
                unit(sixteen(0x93, 8, 8, 8), write=bytes(512))
                unit.refused(sixteen(0x93, 0x18, 8, 8), "5/2400", (True, 1, 4), write=bytes(512))
            else:
                unit.refused(sixteen(0x93, 8, 8, 8), "5/2400", (True, 1, 3), write=bytes(512))
        with lio.refused():
            store.attrib("unmap_zeroes_data", 1)  # while it is exported


@pytest.mark.parametrize("kind", STORES)
def test_lbprz(kind):
    """With LBPRZ, what is unmapped reads as zeroes, whatever the storage makes of it, and however it is aligned."""
    with thin(kind, emulate_tpu=1, emulate_tpws=1, unmap_zeroes_data=1) as unit:
        assert said(unit) == (3, (1, 1, 1, 0))
        data = data_of(unit, 64)
        unit(sixteen(0x8A, 0, 0, 64), write=data)
        cdb, descriptors = unmap((3, 21))
        unit(cdb, write=descriptors)
        assert unit.look(0, 64) == data[: 3 * 512] + bytes(21 * 512) + data[24 * 512 :]
        # WRITE SAME with UNMAP unmaps zeroes only; other data is written (SBC-4, 5.52).
        unit(sixteen(0x93, 8, 32, 8), write=bytes(512))
        unit(sixteen(0x93, 8, 40, 8), write=b"\xa5" * 512)
        assert unit.look(32, 16) == bytes(8 * 512) + b"\xa5" * 8 * 512
        unit(sixteen(0x93, 9, 48, 8))  # NDOB
        assert unit.look(48, 8) == bytes(8 * 512)


def test_without_lbprz():
    """Nothing is promised, and nothing is written for it: the disk says what it likes of what is unmapped."""
    with thin("iblock", emulate_tpu=1) as unit:
        data = data_of(unit, 64)
        unit(sixteen(0x8A, 0, 0, 64), write=data)
        cdb, descriptors = unmap((8, 16))
        unit(cdb, write=descriptors)
        assert unit.look(0, 64) == data[: 8 * 512] + b"\xff" * 16 * 512 + data[24 * 512 :]


def test_granularity_frees():
    """What is unmapped in units of the granularity is given back; GET LBA STATUS says so."""
    with thin("fileio", emulate_tpu=1) as unit:
        granularity = number(page(unit, 0xB0), 28)
        unit(sixteen(0x8A, 0, 0, 2048), write=bytes(range(1, 129)) * 8192)
        before = os.stat("/tmp/f0.img").st_blocks
        n = -(-64 // granularity) * granularity
        cdb, descriptors = unmap((n, n))
        unit(cdb, write=descriptors)
        status = unit(bytes([0x9E, 0x12]) + be(n, 8) + be(24, 4) + b"\0\0", read=24)
        assert (number(status, 8, 8), number(status, 16), status[20] & 0xF) == (n, n, 1)
        assert before - os.stat("/tmp/f0.img").st_blocks == n
