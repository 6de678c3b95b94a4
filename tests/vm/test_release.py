"""What a deleted device stood on is free as soon as rmdir has returned."""
# group: sessions
import lio
import initiator
from initiator import READ

READ_4K = bytes.fromhex("28000000000000000800")


def used_and_deleted(store):
    """Exports a back end, reads from it, and deletes all."""
    target = lio.IscsiTarget(store)
    with initiator.session(target) as c:
        assert c.scsi(READ_4K, read=4096)[0] == 0
    target.delete()
    store.delete()


def test_file(tmp_path):
    for _ in range(10):
        lio.run("mount", "-t", "tmpfs", "none", tmp_path)
        used_and_deleted(lio.fileio(file=f"{tmp_path}/f.img"))
        lio.run("umount", tmp_path)


def test_disk():
    dev = lio.loop_device(16 << 20)
    for _ in range(10):
        used_and_deleted(lio.iblock(dev=dev))
        lio.run("mkfs.ext4", "-q", "-F", dev)
        lio.run("python3", "-c", f"import os; os.close(os.open('{dev}', os.O_RDWR | os.O_EXCL))")
