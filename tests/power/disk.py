"""A disk with a volatile write-back cache, served to QEMU by NBD over a unix socket: what was not flushed is in memory alone, and
a power cut keeps or loses each block of it at random, as real disks do. It takes its time to flush, so that a target that
answers too early has a while in which it is found out."""
import asyncio
import struct

READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1
# HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
EXPORT_FLAGS = 0x1 | 0x4 | 0x8 | 0x20 | 0x40
OPT_EXPORT_NAME, OPT_ABORT, OPT_INFO, OPT_GO = 1, 2, 6, 7
REP_ACK, REP_INFO, REP_UNSUPPORTED = 1, 3, 0x80000001
SLOWEST_FLUSH = 0.02  # seconds
VERSIONS = 16  # of a block that the cache tells apart


class Disk:
    """`block`: bytes that are kept or lost as one. `ignores`: of "flush" and "fua", what the disk lies about."""

    def __init__(self, image, block, rng, ignores=()):
        self.durable, self.block, self.rng, self.ignores = bytearray(image), block, rng, ignores
        self.cached = {}  # block number: [(when, contents)], the oldest first
        self.now = 0
        self.served = {"writes": 0, "fua": 0, "flushes": 0}

    def read(self, pos, size):
        return b"".join(self._current(n) for n in self._blocks(pos, size))[pos % self.block :][:size]

    def write(self, pos, data):
        """Into the cache. Gives the time of the write."""
        self.now += 1
        self.served["writes"] += 1
        for n in self._blocks(pos, len(data)):
            start = n * self.block - pos
            new = data[max(start, 0) : start + self.block]
            if len(new) < self.block:
                old = self._current(n)
                at = max(-start, 0)
                new = old[:at] + new + old[at + len(new) :]
            versions = self.cached.setdefault(n, [])
            versions.append((self.now, new))
            if len(versions) > VERSIONS:
                self._store(n, versions.pop(0)[1])
        return self.now

    def settle(self, until, pos=0, size=None):
        """Makes durable what was written until then."""
        numbers = list(self.cached) if size is None else self._blocks(pos, size)
        for n in numbers:
            versions = self.cached.get(n, [])
            done = [contents for when, contents in versions if when <= until]
            if done:
                self._store(n, done[-1])
                self.cached[n] = versions[len(done) :]
                if not self.cached[n]:
                    del self.cached[n]

    def cut(self):
        """The power is gone: of each block any version since the last flush stays. Gives how many kept an older one."""
        lost = 0
        for n, versions in sorted(self.cached.items()):
            which = self.rng.randrange(len(versions) + 1)
            lost += which < len(versions)
            if which:
                self._store(n, versions[which - 1][1])
        self.cached.clear()
        return lost

    def _blocks(self, pos, size):
        return range(pos // self.block, -(-(pos + size) // self.block))

    def _current(self, n):
        if n in self.cached:
            return self.cached[n][-1][1]
        return bytes(self.durable[n * self.block : (n + 1) * self.block])

    def _store(self, n, contents):
        self.durable[n * self.block : (n + 1) * self.block] = contents


class Server:
    """Serves each disk under its number. cut() is the moment from which on nothing is answered."""

    def __init__(self, disks):
        self.disks, self.off, self.connections = disks, False, set()

    async def start(self, path):
        self.listener = await asyncio.start_unix_server(self._connected, path)

    def freeze(self):
        self.off = True

    async def cut(self):
        """After freeze(), when nobody is connected any more. Gives how many blocks lost what was written last, by disk."""
        while self.connections:
            await asyncio.wait(self.connections)
        self.off = False
        return [disk.cut() for disk in self.disks]

    async def _connected(self, reader, writer):
        task = asyncio.current_task()
        self.connections.add(task)
        try:
            disk = await self._negotiate(reader, writer)
            if disk:
                await self._serve(disk, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(task)
            writer.close()

    async def _negotiate(self, reader, writer):
        """The fixed newstyle handshake."""
        writer.write(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        await reader.readexactly(4)
        while True:
            _, option, size = struct.unpack(">8sII", await reader.readexactly(16))
            data = await reader.readexactly(size)

            def reply(kind, payload=b""):
                writer.write(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(payload)) + payload)

            if option in (OPT_GO, OPT_INFO):
                name = data[4 : 4 + int.from_bytes(data[:4], "big")].decode()
                disk = self.disks[int(name)]
                reply(REP_INFO, struct.pack(">HQH", 0, len(disk.durable), EXPORT_FLAGS))
                reply(REP_INFO, struct.pack(">HIII", 3, 512, 4096, 32 << 20))  # block sizes: least, preferred, largest
                reply(REP_ACK)
                if option == OPT_GO:
                    return disk
            elif option == OPT_ABORT:
                reply(REP_ACK)
                return None
            else:
                reply(REP_UNSUPPORTED)

    async def _serve(self, disk, reader, writer):
        busy = set()
        while True:
            _, flags, command, cookie, pos, size = struct.unpack(">IHHQQI", await reader.readexactly(28))
            if command == DISCONNECT:
                break
            when = disk.now
            if command in (WRITE, TRIM, WRITE_ZEROES):
                # Also of what comes after the cut, which may reach the medium as little as anything in flight.
                when = disk.write(pos, await reader.readexactly(size) if command == WRITE else bytes(size))
            if self.off:
                continue
            if command == FLUSH or flags & FUA:
                task = asyncio.create_task(self._durable(disk, writer, command, cookie, when, pos, size))
                busy.add(task)
                task.add_done_callback(busy.discard)
            else:
                self._answer(writer, cookie, disk.read(pos, size) if command == READ else b"")

    async def _durable(self, disk, writer, command, cookie, when, pos, size):
        what = "flush" if command == FLUSH else "fua"
        if what not in disk.ignores:
            await asyncio.sleep(disk.rng.random() * SLOWEST_FLUSH)
            if self.off:
                return
            disk.settle(when, pos, None if command == FLUSH else size)
        disk.served["flushes" if command == FLUSH else "fua"] += 1
        self._answer(writer, cookie)

    def _answer(self, writer, cookie, data=b""):
        if not writer.is_closing():
            writer.write(struct.pack(">IIQ", 0x67446698, 0, cookie) + data)
