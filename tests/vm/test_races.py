"""Races of the kinds that test_wounds.py knows from the C targets: logins, logouts, deleting and changing what they use, each
beside the other, again and again. Nothing hangs, who comes afterwards is served, and nothing is left."""
# vm: --timeout 900
# group: sessions
import contextlib
import fcntl
import os
import random
import threading
import time

import initiator
import leaks
import lio
import odd_values
import pytest
from initiator import READ
from test_wounds import GUARD, NAME, READ_4K, TUR, all_gone, at_once, honest, in_time, login, sessions, target  # noqa: F401

pytestmark = pytest.mark.skipif(lio.STOCK, reason="the C modules hang here")
RACE = 3 * lio.SLOW  # seconds of each race
# What a login may come to while what it wants is changed: it is in, or told why not, or the connection is closed.
FAIR = (0, 0x0200, 0x0202, 0x0203, 0x0300, 0x0301, 0x0302)


def until(end, f, more=lambda: False):
    """A function that does `f` again and again until then, and some times in any case, and while `more` says so; counts in .n."""
    def go():
        while time.monotonic() < end or go.n < 6 or more() and time.monotonic() < end + GUARD:
            f()
            go.n += 1
    go.n = 0
    return go


def attempt(target, i=1, last=1, portal=None):
    """A login; gives its status, None if the connection was closed or refused."""
    try:
        with initiator.Connection(portal or target.portals[0], timeout=GUARD) as c:
            a = c.login(target.iqn, name=NAME.format(i), isid=b"\x80\0\0\0\1" + bytes([last]), check=False)
            status = a and a.login_status
            if status == 0:
                c.start(READ_4K, 4096, READ)
                if random.random() < 0.5:
                    with contextlib.suppress(AttributeError):
                        c.receive()
            return status
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
        return None


def test_logins_of_one_name_at_once(target):
    """Eight with the same name and ISID: each takes the place of the one before (RFC 7143, 6.3.5), and the last one stays."""
    end, seen = time.monotonic() + RACE, set()
    at_once(*(until(end, lambda: seen.add(attempt(target))) for _ in range(8)))
    print(seen)
    assert seen <= {*FAIR, None} and 0 in seen
    with contextlib.ExitStack() as stack:
        mine = []

        def one():
            c = stack.enter_context(initiator.Connection(timeout=GUARD))
            with contextlib.suppress(ConnectionError):
                a = c.login(target.iqn, name=NAME.format(1), check=False)
                if a and a.login_status == 0:
                    mine.append(c)

        at_once(*[one] * 8)
        lio.wait_for(lambda: sessions(target) == 1)
        alive = 0
        for c in mine:
            with contextlib.suppress(ConnectionError):
                c.start(TUR)
                a = c.receive()
                while a is not None and a.opcode == initiator.ASYNC:
                    a = c.receive()
                alive += a is not None
        assert alive == 1
    all_gone(target)
    honest(target)


def test_reinstatement_beside_logout(target):
    """The new session is let in at once, whether the old one has just left or not."""
    took = []
    for n in range(30):
        old, new = login(target, 1), initiator.Connection(timeout=GUARD)
        for _ in range(n % 4):
            old.start(READ_4K, 4096, READ)

        def leave():
            with contextlib.suppress(ConnectionError):
                if n % 3 == 0:
                    old.send(initiator.pdu(initiator.LOGOUT, itt=old.itt(), w=(1 << 16, *old.numbers())))
                elif n % 3 == 1:
                    old.reset()
                else:
                    with contextlib.suppress(OSError):  # the target may have been first
                        old.sock.shutdown(2)

        start = time.monotonic()
        at_once(leave, lambda: new.login(target.iqn, name=NAME.format(1), isid=b"\x80\0\0\0\1\1"))
        took.append(time.monotonic() - start)
        assert new.scsi(TUR)[0] in (0, 2) and new.ping()
        old.close(), new.close()
    print(f"logins took up to {max(took):.2f} s")
    assert sorted(took[::3])[5] < lio.SLOW, "each waited for an initiator that had logged out to close its connection"
    all_gone(target)
    honest(target)


def test_an_acl_deleted_beside_logins(target):
    """Made and removed while its initiator logs in; without it demo mode lets the initiator in."""
    end, seen = time.monotonic() + RACE, set()

    def acl():
        path = target.acl(NAME.format(1))
        (path / "lun_0/lun").unlink()
        (path / "lun_0").rmdir()
        path.rmdir()

    makes = until(end, acl)
    at_once(makes, *(until(end, lambda k=k: seen.add(attempt(target, 1, k))) for k in range(4)))
    print(f"{makes.n} ACLs, {seen}")
    assert seen <= {*FAIR, None} and 0 in seen and makes.n > 3
    all_gone(target)
    honest(target, 1)


def test_a_portal_removed_beside_connections(target):
    """Connections that come just then are refused or closed, and there is a portal again at once."""
    end, seen, np = time.monotonic() + RACE, set(), target.path / "np/127.0.0.1:3260"

    def portal():
        np.rmdir()
        np.mkdir()

    makes = until(end, portal)
    at_once(makes, *(until(end, lambda k=k: seen.add(attempt(target, k, k))) for k in range(4)))
    print(f"{makes.n} portals, {seen}")
    assert seen <= {*FAIR, None} and makes.n > 3
    lio.wait_for(lambda: attempt(target) == 0)
    all_gone(target)
    honest(target)


def test_sendtargets_beside_deletion(target):
    """The list is one of names that there are, each with its portals, at any moment."""
    store, end = lio.ramdisk("rd1"), time.monotonic() + RACE
    names = [f"iqn.2003-01.org.example:v{i}" for i in range(6)]

    def ask(n):
        with initiator.Connection(timeout=GUARD) as c:
            # Of ports of their own: none takes the place of another.
            a = c.login(check=False, isid=b"\x80\0\0\0\4" + bytes([n]))
            if a is None or a.login_status:
                assert a is None or a.login_status == 0x0302
                return
            for _ in range(5):
                a, text = c.text_request({"SendTargets": "All"}), b""
                assert a and a.opcode == initiator.TEXT_RESPONSE
                text += a.data
                assert text.endswith(b"\0")
                keys = [p.split(b"=", 1) for p in text[:-1].split(b"\0")]
                assert all(k in (b"TargetName", b"TargetAddress") and v for k, v in keys), keys
                found = [v.decode() for k, v in keys if k == b"TargetName"]
                assert target.iqn in found and set(found) <= {target.iqn, *names} and len(found) == len(set(found))

    def change(mine):
        rng = random.Random(mine[0])
        t = lio.IscsiTarget(store, iqn=rng.choice(mine), portals=("127.0.0.1:3260", "127.0.0.1:3261"))
        t.delete()

    makes = [until(end, lambda k=k: change(names[k::2])) for k in range(2)]
    asks = [until(end, lambda n=n: ask(n)) for n in range(2)]
    at_once(*makes, *asks)
    print(f"{[m.n for m in makes]} targets, {[a.n for a in asks]} discoveries")
    assert all(f.n for f in makes + asks)
    honest(target)


def test_files_held_open():
    """Each file of a directory that is gone says so; the same names made again are not theirs. A module stays while one of its
    files is open, and goes then."""
    store = lio.fileio()
    target = lio.IscsiTarget(store, acls=[NAME.format(1)])
    fds = {}
    for f in (*odd_values.files(target.wwn_path), *odd_values.files(store.path), *odd_values.files(lio.ISCSI / "discovery_auth")):
        mode = os.stat(f).st_mode
        fds[f] = os.open(f, os.O_RDWR if mode & 0o600 == 0o600 else os.O_RDONLY if mode & 0o400 else os.O_WRONLY)
    print(f"{len(fds)} files")

    def gone(fd):
        mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        for call, without in ((lambda: os.pread(fd, 10, 0), os.O_WRONLY), (lambda: os.pwrite(fd, b"1\n", 0), os.O_RDONLY)):
            with lio.refused(lio.errno.EBADF if mode == without else lio.errno.ENOENT):
                call()

    try:
        target.delete()
        store.delete()
        store = lio.fileio()
        target = lio.IscsiTarget(store, acls=[NAME.format(1)])
        for f, fd in fds.items():
            if "discovery_auth" in f.parts:
                continue
            gone(fd)
        honest(target, 1)
        target.delete()
        store.delete()
        lio.ISCSI.rmdir()
        stay = {m for m in ("iscsi_target_mod", "target_core_file", "target_core_mod") if lio.run("rmmod", m, check=False).returncode}
        assert {"iscsi_target_mod", "target_core_mod"} <= stay, stay
        for fd in fds.values():
            gone(fd)
    finally:
        for fd in fds.values():
            os.close(fd)
    for m in ("iscsi_target_mod", "target_core_file", "target_core_mod"):
        if m in lio.loaded():
            lio.wait_for(lambda: lio.run("rmmod", m, check=False).returncode == 0)
    store = lio.fileio()
    honest(lio.IscsiTarget(store, acls=[NAME.format(1)]), 1)


def test_a_mapped_lun_changed_under_io():
    """An initiator's LUN 0 is one unit, then another, then none: each answer is of the one or the other, or tells of the change."""
    a, b = lio.ramdisk("rd0"), lio.ramdisk("rd1")
    target = lio.IscsiTarget(a, b, acls=[NAME.format(0)])
    unit, end, moved = {0: b"a" * 4096, 1: b"b" * 4096}, time.monotonic() + RACE, [0, 0]
    setup = lio.IscsiTarget(a, b, iqn="iqn.2003-01.org.example:setup", portals=("127.0.0.1:3261",))
    with login(setup, 9) as c:
        for n, data in unit.items():
            while c.scsi(b"\x2a" + READ_4K[1:], write=data, lun=n)[0]:
                pass
    link = target.path / "acls" / NAME.format(0) / "lun_0/lun"

    def change():
        for n in (1, 0):
            link.unlink()
            link.symlink_to(target.path / f"lun/lun_{n}")
            if n:
                lio.write(link.parent / "write_protect", 1)

    with login(target, 0) as c:
        def io():
            status, data, answer = c.scsi(READ_4K, read=4096)
            if status:  # aborted with the unit that it was for, or it is another one now, or none
                assert status == 0x40 or status == 2 and answer.sense[2] & 15 in (5, 6), (status, answer.sense.hex())
            else:
                assert data in unit.values()
                moved[data == unit[1]] += 1
        changes = until(end, change, lambda: not all(moved))
        at_once(changes, until(end, io, lambda: not all(moved)))
        print(f"{changes.n} changes, {moved} reads")
        assert all(moved) and changes.n > 3
    all_gone(target)
    honest(target, 0)


def test_groups_of_one_target_made_and_deleted_at_once(target):
    """mkdir, links, enable and rmdir of the same group by four at once; errors are fair, and all of it can be removed."""
    end, store = time.monotonic() + RACE, lio.ramdisk("rd1")
    tpg = target.wwn_path / "tpgt_2"
    empty = leaks.nodes()
    steps = [lambda: tpg.mkdir(), lambda: (tpg / "lun/lun_0").mkdir(), lambda: (tpg / "lun/lun_0/x").symlink_to(store.path),
             lambda: (tpg / "np/127.0.0.1:3277").mkdir(), lambda: lio.write(tpg / "enable", 1), lambda: lio.write(tpg / "enable", 0),
             lambda: (tpg / "acls" / NAME.format(1)).mkdir(), lambda: (tpg / "acls" / NAME.format(1) / "lun_0").mkdir(),
             lambda: (tpg / "acls" / NAME.format(1) / "lun_0/x").symlink_to(tpg / "lun/lun_0"),
             lambda: (tpg / "acls" / NAME.format(1) / "lun_0/x").unlink(), lambda: (tpg / "acls" / NAME.format(1) / "lun_0").rmdir(),
             lambda: (tpg / "acls" / NAME.format(1)).rmdir(), lambda: (tpg / "np/127.0.0.1:3277").rmdir(),
             lambda: (tpg / "lun/lun_0/x").unlink(), lambda: (tpg / "lun/lun_0").rmdir(), lambda: tpg.rmdir()]

    def one(rng):
        at = rng.randrange(len(steps))
        for step in (steps if rng.random() < 0.5 else steps[at:] + steps[:at]):
            try:
                step()
            except OSError as e:
                assert e.errno in odd_values.ERRNOS | {lio.errno.ENOTEMPTY, lio.errno.EAGAIN}, e

    turns = [until(end, lambda r=random.Random(k): one(r)) for k in range(4)]
    at_once(*turns)
    print(f"{[t.n for t in turns]} turns")
    with in_time("removing it"):
        for step in steps[9:]:
            with contextlib.suppress(OSError):
                step()
    assert not tpg.exists()
    lio.wait_for(lambda: leaks.nodes() == empty)
    honest(target)
    assert threading.active_count() == 1
