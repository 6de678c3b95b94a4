"""The check for leaks sees a mebibyte that nobody gives back, to the page, and takes for a leak nothing that the kernel or a module keeps for
speed alone."""
import contextlib
import fcntl
import mmap
import os
import threading

import initiator
import leaks
import lio
import pytest

MIB = 1 << 20
WRITE_1M = bytes.fromhex("8a 00 0000000000000000 00000800 00 00")


def anonymous(size):
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


@contextlib.contextmanager
def lost(size):
    """So many bytes of pages that nothing accounts for: those of a pipe are taken as a driver takes its own."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, size)
    assert os.write(write, bytes(size)) == size
    yield
    os.close(read)
    os.close(write)


def pages():
    leaks.settle()
    return leaks.memory()["pages"]


def test_a_mebibyte_is_noticed():
    """And not any more when it has come back."""
    before = leaks.Held()
    with lost(MIB):
        with pytest.raises(AssertionError, match="memory: pages"):
            leaks.check(before, looks=1)
    leaks.check(before)


def test_what_is_no_leak():
    """Threads that end, memory of processes that comes and goes, huge pages that are used in part: not a page of them is counted."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(40)]
    for t in threads:
        t.start()
    spare = leaks.vmalloc()["spare stacks"]
    before = pages()
    over.set()
    for t in threads:
        t.join()
    ended, half = pages(), anonymous(64 * MIB)
    half.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(half), mmap.PAGESIZE):
        half[at] = 1
    for at in range(0, len(half), 2 * MIB):
        half.madvise(mmap.MADV_DONTNEED, at, MIB)
    used = pages()
    half.close()
    # Freed, it fills the lists of the processors.
    freed = pages()
    print(f"KiB: {before}, {ended} without the threads, {used} with half of huge pages, {freed} without")
    assert max(ended, used, freed) < before + 64
    assert leaks.vmalloc()["spare stacks"] < spare + 8


@pytest.mark.skipif(lio.STOCK, reason="the C modules keep none")
def test_kept_for_reuse_is_given_back():
    """Pages of commands' data, which the engine keeps for the next commands, go back when the kernel asks for memory."""
    with initiator.session(lio.IscsiTarget(lio.ramdisk(nullio=True))) as c:
        before = pages()
        for _ in range(8):
            assert c.scsi(WRITE_1M, write=bytes(MIB))[0] == 0
        kept = leaks.memory()["pages"]
        after = pages()
    print(f"KiB: {before} before, {kept} after the commands, {after} when asked for")
    # 256 in the largest pieces alone.
    assert kept - before >= 192 and after - before < 128
