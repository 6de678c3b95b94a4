"""Bad networks: the target's portal in one network namespace, the initiators in another, netem or a dead link between them. Data
is intact, a session that was lost is there again, and a target whose initiator has gone holds nothing for it.

open-iscsi talks to the kernel in the initial namespace alone: the target has the other one."""
# vm: --timeout 900
# waits
import contextlib
import os
import re
import subprocess
import time

import initiator
import leaks
import lio
import pytest
from initiator import READ, WRITE
from netns import inside
from storage import MIB, pattern, pread, pwrite

NS = "lio-target"
NET, HERE, THERE = "10.77.0.0/24", "10.77.0.1", "10.77.0.2"
ME = lio.initiator_name()
PYTHON = "iqn.2024-01.org.example:i"
SILENCE, PATIENCE = 3, 3  # seconds: nopin_timeout and nopin_response_timeout
SLACK = 4  # seconds more after which the target must have let go of who is silent
WRITE_64K, READ_64K = bytes.fromhex("2a000000000000008000"), bytes.fromhex("28000000000000008000")
FIO = {"rw": "randwrite", "bs": "64k", "iodepth": 16, "size": "4m", "runtime": None, "time_based": None, "verify": "crc32c",
       "verify_fatal": 1, "serialize_overlap": 1, "do_verify": 1, "verify_state_save": 0}


def ip(*args, there=False):
    lio.run("ip", *(["-n", NS] if there else []), *args)


def link(up):
    """The target's end of the cable."""
    ip("link", "set", "veth1", "up" if up else "down", there=True)
    if up:  # what is lost is sent again at once: less to wait for
        ip("route", "replace", NET, "dev", "veth1", "src", THERE, "rto_min", "20ms", there=True)


@pytest.fixture(scope="module", autouse=True)
def network():
    """Two namespaces and a cable. At the end the kernel holds no more than before."""
    lio.modprobe("veth", "sch_netem")
    lio.start_iscsid()
    cable()
    with target() as t:  # what is allocated once
        lio.fio(lio.login(t)[0], **FIO | {"size": "8m"})
        lio.logout(t)
    lio.clear()
    before = leaks.Held()
    yield
    lio.clear()
    leaks.check(before, objects=64)
    ip("netns", "del", NS)


def cable():
    ip("netns", "add", NS)
    ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "netns", NS)
    ip("address", "add", f"{HERE}/24", "dev", "veth0")
    ip("address", "add", f"{THERE}/24", "dev", "veth1", there=True)
    # Packets as they are on a wire, not 64 KiB that are lost as one.
    ip("link", "set", "veth0", "gso_max_segs", "2", "up")
    ip("link", "set", "veth1", "gso_max_segs", "2", there=True)
    link(True)
    ip("route", "replace", NET, "dev", "veth0", "src", HERE, "rto_min", "20ms")


@contextlib.contextmanager
def target():
    """With a portal in the other namespace, for open-iscsi, which is pinged soon, and the Python initiators, which answer
    neither pings nor R2Ts and must come to their point before they are missed."""
    t = lio.IscsiTarget(lio.ramdisk(size=32 * MIB), portals=(), enable=False)
    t.portals = (f"{THERE}:3260",)
    for who in [ME] + [f"{PYTHON}{i}" for i in range(4)]:
        attrib = t.acl(who) / "attrib"
        silence = (SILENCE if who == ME else 3 * SILENCE) * lio.SLOW
        lio.write(attrib / "nopin_timeout", silence)
        lio.write(attrib / "dataout_timeout", silence)
        lio.write(attrib / "nopin_response_timeout", PATIENCE * lio.SLOW)
    inside(NS, lambda: (t.path / "np" / t.portals[0]).mkdir())
    t.enable()
    yield t


@pytest.fixture
def served():
    with target() as t:
        yield t


def login(t, replacement=120, patience=2):
    """open-iscsi, which finds a dead connection within seconds, and fails I/O `replacement` seconds later."""
    disk = lio.login(t, settings={"node.session.timeo.replacement_timeout": replacement * lio.SLOW,
                                  "node.conn[0].timeo.noop_out_interval": 2 * lio.SLOW,
                                  "node.conn[0].timeo.noop_out_timeout": patience * lio.SLOW,
                                  "node.session.err_timeo.abort_timeout": 5 * lio.SLOW,
                                  "node.session.err_timeo.lu_reset_timeout": 5 * lio.SLOW})[0]
    return disk


def counters():
    """What TCP has seen on both sides: segments sent again, and those with a wrong checksum."""
    def look():
        head, values = [line.split() for line in lio.read("/proc/thread-self/net/snmp").splitlines() if line.startswith("Tcp:")]
        return dict(zip(head[1:], map(int, values[1:])))

    a, b = look(), inside(NS, look)
    return {k: a[k] + b[k] for k in ("RetransSegs", "InCsumErrors")}


def sessions(t):
    return int(lio.read(t.wwn_path / "fabric_statistics/iscsi_instance/sessions"))


def sockets():
    """TCP sockets in the target's namespace, the listener among them, and those without an owner."""
    text = inside(NS, lambda: lio.read("/proc/thread-self/net/sockstat"))
    return tuple(int(re.search(rf"TCP: .*\b{k} (\d+)", text)[1]) for k in ("inuse", "orphan"))


def connections():
    """Threads of connections."""
    return leaks.threads().get("iscsi_conn", 0)


def nothing_held(t):
    """the target holds nothing for the initiators that are gone"""
    return sessions(t) == 0 and connections() == 0 and sockets()[0] <= 1 and sockets()[1] == 0


def says(t):
    return f"{sessions(t)} sessions, {connections()} threads, sockets {sockets()}"


# What netem does on both ways, how much is written and read through it, and what TCP must have seen for it.
NETEM = {
    "loss": (["loss", "20%", "25%"], "512k", "RetransSegs"),
    "reordering": (["delay", "10ms", "8ms", "reorder", "25%", "50%", "duplicate", "5%"], "1m", "RetransSegs"),
    "corruption": (["corrupt", "3%", "rate", "40mbit", "limit", "30"], "2m", "InCsumErrors"),
}


def patient(t):
    """open-iscsi, where its session is to live: also if the machine stands still for a while, neither side gives it up."""
    lio.write(t.path / "acls" / ME / "attrib/nopin_response_timeout", 30)
    return login(t, patience=30)


@contextlib.contextmanager
def netem(*what):
    def tc(action, *args):
        for there in (0, 1):
            lio.run("tc", *["-n", NS] * there, "qdisc", action, "dev", f"veth{there}", "root", *args)

    tc("add", "netem", *what)
    try:
        yield
    finally:
        tc("del")


@pytest.mark.parametrize("how", NETEM)
def test_bad_link(served, how):
    """The session lives through it, and each byte is right."""
    what, amount, counter = NETEM[how]
    disk = patient(served)
    with netem(*what):
        before, start = counters(), time.monotonic()
        job = lio.fio(disk, timeout=240, **FIO | {"bs": None, "bsrange": "4k-128k", "size": amount})["jobs"][0]
        assert job["error"] == 0 and job["write"]["total_ios"] and job["read"]["total_ios"]
        seen = {k: n - before[k] for k, n in counters().items()}
        print(f"{how}: {time.monotonic() - start:.1f} s, {seen}")
        assert seen[counter] > 10, "the link was not that bad"
        assert sessions(served) == 1
    lio.logout(served)
    lio.wait_for(lambda: nothing_held(served), 15)


@contextlib.contextmanager
def burst(disk, **options):
    """fio with verification in the background, in the midst of its writes."""
    o = {"ioengine": "libaio", "direct": 1, "filename": disk, "name": "job"} | FIO | {"size": "24m", "loops": 40,
                                                                                  "verify_backlog": 64, "do_verify": None} | options
    p = subprocess.Popen(["fio", "--output-format=json", *[f"--{k}={v}" for k, v in o.items() if v is not None]],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        moved = Moved(disk)
        lio.wait_for(lambda: moved.now() > 40, 60)
        yield p
    finally:
        p.kill()
        p.wait()


class Moved:
    """I/O that a disk has completed since this was made."""

    def __init__(self, disk):
        self.file = f"/sys/block/{os.path.basename(disk)}/stat"
        self.start = self._all()

    def _all(self):
        s = lio.read(self.file).split()
        return int(s[0]) + int(s[4])

    def now(self):
        return self._all() - self.start


def test_link_gone_in_mid_burst(served):
    """Longer than both sides' time-outs: the target lets go of the session, the initiator keeps its commands, logs in again, and
    goes on. All of it is right."""
    disk = login(served)
    with burst(disk, loops=None, time_based=1, runtime=1000) as fio:
        link(False)
        start = time.monotonic()
        lio.wait_for(lambda: nothing_held(served), SILENCE + PATIENCE + SLACK, 0.2)
        print(f"let go after {time.monotonic() - start:.1f} s")
        link(True)
        moved, start = Moved(disk), time.monotonic()
        lio.wait_for(lambda: sessions(served) == 1 and moved.now() > 200, 60)
        print(f"{moved.now()} I/Os {time.monotonic() - start:.1f} s after the link has come back")
        assert connections() == 1
        fio.send_signal(2)  # ^C: fio checks what it still has to, and reports
        out = fio.communicate(timeout=120 * lio.SLOW)[0]
        assert "verify" not in out.partition("{\n")[0] and not re.search(r'"error" : [1-9]', out), out
    lio.logout(served)
    lio.wait_for(lambda: nothing_held(served), 15)


def test_link_gone_for_longer_than_the_initiator_waits(served):
    """replacement_timeout fails the initiator's commands; when the link is back, so is the session, and what was written."""
    disk = login(served, replacement=3)
    data = pattern(MIB)
    pwrite(disk, 0, data)
    with burst(disk, offset="8m", size="16m") as fio:
        link(False)
        out = fio.communicate(timeout=60 * lio.SLOW)[0]
        assert fio.returncode != 0 and "Input/output error" in out or "error=" in out, out
        lio.wait_for(lambda: nothing_held(served), SILENCE + PATIENCE + SLACK, 0.2)
    link(True)
    lio.wait_for(lambda: sessions(served) == 1, 60)
    lio.wait_for(lambda: lio.read(f"/sys/block/{os.path.basename(disk)}/device/state") == "running", 30)
    assert pread(disk, 0, MIB) == data
    assert lio.fio(disk, timeout=120, **FIO)["jobs"][0]["error"] == 0
    lio.logout(served)
    lio.wait_for(lambda: nothing_held(served), 15)


def test_link_that_comes_and_goes(served):
    """Shorter than any time-out: the session stays."""
    disk = patient(served)
    with burst(disk, loops=None, time_based=1, runtime=1000) as fio:
        for i in range(4):
            link(False)
            time.sleep(0.2 + i / 4)
            link(True)
            moved = Moved(disk)
            lio.wait_for(lambda: moved.now() > 20, 30)
            assert sessions(served) == 1
        fio.send_signal(2)
        out = fio.communicate(timeout=120 * lio.SLOW)[0]
        assert "verify" not in out.partition("{\n")[0] and not re.search(r'"error" : [1-9]', out), out
    lio.logout(served)
    lio.wait_for(lambda: nothing_held(served), 15)


def test_initiators_that_never_come_back(served):
    """12 sessions, each in another stage of its commands: writes without data, half a PDU of data, reads that nobody takes, a PDU's
    header begun. The link goes and stays away: the target holds nothing for them after its own time-outs."""
    lio.write(served.path / "param/MaxRecvDataSegmentLength", 262144)
    held = []
    for i in range(12):
        c = initiator.session(served, name=f"{PYTHON}{i % 4}", isid=b"\x80\0\0\0\3" + bytes([i]),
                              keys={"InitialR2T": "Yes", "ImmediateData": "No", "MaxRecvDataSegmentLength": 65536})
        held.append(c)
        if i % 4 == 0:
            [c.start(WRITE_64K, 65536, WRITE) for _ in range(8)]
        elif i % 4 == 1:
            itt = c.start(WRITE_64K, 65536, WRITE)
            r2t = c.receive()
            c.send(c.data_out_pdu(itt, r2t.ttt, bytes(65536))[:30000])
        elif i % 4 == 2:
            [c.start(READ_64K, 65536, READ) for _ in range(64)]
        else:
            c.send(c.command_pdu(READ_64K, 65536, READ)[:20])
    assert sessions(served) == 12 == connections()
    link(False)
    start = time.monotonic()
    try:
        lio.wait_for(lambda: nothing_held(served), 3 * SILENCE + PATIENCE + SLACK, 0.2)
    finally:
        print(f"{time.monotonic() - start:.1f} s after the link: {says(served)}")
        link(True)
    for c in held:
        c.close()
    c = initiator.session(served, name=f"{PYTHON}0")
    status, got, _ = c.scsi(READ_64K, read=65536)
    assert status == 0 and len(got) == 65536
    c.logout()
    c.close()


def test_the_target_is_taken_away_while_the_link_is_down(served):
    """An administrator need not wait for initiators that are not there, until the target's own timers miss them."""
    for key in ("nopin_timeout", "nopin_response_timeout", "dataout_timeout"):
        lio.write(served.path / "acls" / ME / "attrib" / key, 60)
    disk = login(served, replacement=3)
    with burst(disk):
        link(False)
        assert connections() == 1
        start = time.monotonic()
        served.enable(False)
        disabled = time.monotonic() - start
        lio.wait_for(lambda: connections() == 0, 10)
        gone = time.monotonic() - start
        print(f"disabled in {disabled:.1f} s, gone after {gone:.1f} s")
        assert disabled < 15 * lio.SLOW and gone < 45, "less than the timers"
    link(True)
    lio.run("iscsiadm", "-m", "node", "-T", served.iqn, "--logout", check=False, timeout=90)
    lio.run("iscsiadm", "-m", "node", "-T", served.iqn, "-o", "delete", check=False)
