"""Reads and writes of a block device with protection information of their own, by io_uring: no other system call carries it."""
import ctypes
import mmap
import os
import struct

SETUP, ENTER = 425, 426
SQ_RING, SQES = 0, 0x10000000
READ, WRITE = 22, 23
GET_EVENTS = 1
PI = 1  # IORING_RW_ATTR_FLAG_PI
CHECK_GUARD, CHECK_REFERENCE, CHECK_APPLICATION = 1, 2, 4
libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Ring:
    """An io_uring for one request at a time."""

    def __init__(self):
        parameters = bytearray(120)
        self.fd = call(SETUP, 1, address(parameters))
        words = struct.unpack("30I", parameters)
        self.sq, self.cq = words[10:17], words[20:27]
        size = max(self.sq[6] + 4 * words[0], self.cq[5] + 16 * words[1])
        self.ring = mmap.mmap(self.fd, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=SQ_RING)
        self.sqes = mmap.mmap(self.fd, 64 * words[0], mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=SQES)

    def word(self, at):
        return struct.unpack_from("I", self.ring, at)[0]

    def __call__(self, opcode, fd, offset, memory, length, attribute):
        """The result of one request, or a negative errno."""
        sqe = struct.pack("=BBHiQQIIQHHIQQ", opcode, 0, 0, fd, offset, memory, length, 0, 1, 0, 0, 0, attribute, PI)
        self.sqes[:64] = sqe
        tail = self.word(self.sq[1])
        struct.pack_into("I", self.ring, self.sq[6], 0)
        struct.pack_into("I", self.ring, self.sq[1], (tail + 1) & 0xFFFFFFFF)
        assert call(ENTER, self.fd, 1, 1, GET_EVENTS, 0, 0) == 1
        head = self.word(self.cq[0])
        assert head != self.word(self.cq[1])
        at = self.cq[5] + 16 * (head & self.word(self.cq[2]))
        _, result, _ = struct.unpack_from("=QiI", self.ring, at)
        struct.pack_into("I", self.ring, self.cq[0], (head + 1) & 0xFFFFFFFF)
        return result

    def close(self):
        self.ring.close()
        self.sqes.close()
        os.close(self.fd)


def transfer(disk, opcode, lba, block, data, tuples, flags):
    """The result, the data and the protection information of one request; what is not checked by `flags` is nobody's on the way."""
    ring = Ring()
    fd = os.open(disk, os.O_RDWR | os.O_DIRECT)
    memory = mmap.mmap(-1, len(data) + 8192)
    try:
        start, at = address(memory), -(-len(data) // 4096) * 4096
        memory[: len(data)] = data
        memory[at : at + len(tuples)] = tuples
        attribute = bytearray(struct.pack("=HHIQQQ", flags, 0, len(tuples), start + at, lba, 0))
        result = ring(opcode, fd, lba * block, start, len(data), address(attribute))
        return result, memory[: len(data)], memory[at : at + len(tuples)]
    finally:
        os.close(fd)
        ring.close()


def write(disk, lba, block, data, tuples, flags=CHECK_GUARD | CHECK_REFERENCE):
    """Bytes written, or a negative errno."""
    return transfer(disk, WRITE, lba, block, b"".join(data), b"".join(tuples), flags)[0]


def read(disk, lba, block, n, flags=CHECK_GUARD | CHECK_REFERENCE):
    """Blocks and their protection information."""
    result, data, tuples = transfer(disk, READ, lba, block, bytes(n * block), bytes(8 * n), flags)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    assert result == n * block
    return [data[i : i + block] for i in range(0, len(data), block)], [tuples[i : i + 8] for i in range(0, len(tuples), 8)]
