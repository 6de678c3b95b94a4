"""The guest of the power cut test: its initramfs, and QEMU started from a saved state, so that a round costs no boot."""
import asyncio
import json
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
# The disks' drivers come after the saved state: each round finds its disks anew.
EARLY = ["configfs", "ext4", "sd_mod", "iscsi_tcp", "target_core_mod", "target_core_file", "target_core_iblock", "tcm_loop",
         "iscsi_target_mod"]
LATE = ["virtio_blk", "virtio_scsi"]
BOOT = 300  # seconds at most, on a machine as busy as it likes


def modules(root):
    """`root`: usr/lib/modules/RELEASE of our modules or of the stock ones, whose own files are in the system's.
    {name: (file, names of what it needs)}"""
    found = {}
    for line in (root / "modules.dep").read_text().splitlines():
        file, _, needs = line.partition(":")
        found[name(file)] = (file, [name(n) for n in needs.split()])
    return found


def name(file):
    return re.sub(r"\.ko(\.xz)?$", "", os.path.basename(file)).replace("-", "_")


def in_order(wanted, known, done):
    for m in wanted:
        if m in known and m not in done:  # else it is built in
            in_order(known[m][1], known, done)
            done.append(m)
    return done


def initramfs(stage, release, ours, disks):
    """Makes it in the folder `stage`; gives its path. `ours`: the folder of our modules' root, None for the stock ones."""
    system = Path("/usr/lib/modules") / release
    root = Path(ours) / "usr/lib/modules" / release if ours else system
    known = modules(root)
    tree = stage / "tree"
    for d in ("bin", "lib/modules"):
        (tree / d).mkdir(parents=True)
    early = in_order(EARLY, known, [])
    late = [m for m in in_order(LATE, known, list(early)) if m not in early]
    for m in early + late:
        file = root / known[m][0] if (root / known[m][0]).exists() else system / known[m][0]
        data = file.read_bytes()
        (tree / f"lib/modules/{m}.ko").write_bytes(lzma.decompress(data) if file.suffix == ".xz" else data)
    for file, names in (("early", early), ("late", late)):
        (tree / "lib/modules" / file).write_text("".join(f"{m}.ko\n" for m in names))
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    shutil.copy(HERE / "init", tree / "init")
    subprocess.run(["x86_64-linux-gnu-gcc-14", "-O2", "-Wall", "-Werror", "-static", "-o", tree / "bin/writer", HERE / "writer.c"], check=True)
    copy_program("/usr/sbin/iscsistart", tree)
    (tree / "disks").write_text("".join(disks))
    image = stage / "initramfs"
    with open(image, "wb") as f:
        subprocess.run("find . | cpio --quiet -o -H newc", shell=True, cwd=tree, stdout=f, check=True)
    return image


def copy_program(path, tree):
    """With the libraries that it needs."""
    out = subprocess.run(["ldd", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    for file in re.findall(r"(/\S+) \(0x", out):
        (tree / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tree / file[1:])
    shutil.copy(path, tree / "bin")


class Machine:
    """One QEMU process. `disks`: (bus, arguments of the device) of each."""

    def __init__(self, stage, kernel, image, socket, disks, state=None):
        self.stage, self.state = stage, state
        self.log, self.console = stage / "log", stage / "console"
        self.control_path, self.qmp_path = stage / "control", stage / "qmp"
        for f in (self.log, self.console, self.control_path, self.qmp_path):
            f.unlink(missing_ok=True)
        # Not KVM: not every processor's state can be saved there.
        self.command = [
            "qemu-system-x86_64", "-machine", "q35,pit=off", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "384M",
            "-nodefaults", "-no-reboot", "-no-user-config", "-display", "none", "-serial", f"file:{self.console}",
            "-serial", f"unix:{self.control_path},server=on,wait=off", "-qmp", f"unix:{self.qmp_path},server=on,wait=off",
            "-device", "virtio-serial-pci,max_ports=2", "-chardev", f"file,id=log,path={self.log}",
            "-device", "virtserialport,chardev=log,nr=1", "-device", "virtio-scsi-pci,id=scsi",
            "-kernel", kernel, "-initrd", str(image),
            "-append", "console=ttyS0 no_timer_check loglevel=5 panic=-1 oops=panic rdinit=/init random.trust_cpu=on tsc=reliable "
            "cryptomgr.notests rcupdate.rcu_cpu_stall_timeout=60"]
        for n, (bus, options) in enumerate(disks):
            self.command += ["-blockdev", f"driver=nbd,node-name=disk{n},server.type=unix,server.path={socket},export={n},discard=unmap"]
            at = f"scsi-hd,bus=scsi.0,lun={n}" if bus == "scsi" else "virtio-blk-pci"
            self.command += ["-device", f"{at},drive=disk{n}{options}"]
        if state:
            self.command += ["-incoming", f"file:{state}"]

    async def start(self):
        with open(self.stage / "qemu", "wb") as f:
            self.process = await asyncio.create_subprocess_exec(*self.command, stdin=subprocess.DEVNULL, stdout=f, stderr=f)
        self.control = await self._connect(self.control_path)
        self.qmp = await self._connect(self.qmp_path)
        await self.ask("qmp_capabilities")

    async def _connect(self, path):
        while True:
            try:
                return await asyncio.open_unix_connection(path)
            except OSError:
                if self.process.returncode is not None:
                    raise RuntimeError((self.stage / "qemu").read_text()) from None
                await asyncio.sleep(0.02)

    async def ask(self, command, **arguments):
        reader, writer = self.qmp
        writer.write(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(await reader.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    async def save(self, state):
        """Waits until the guest is ready for a round, and saves it."""
        line = await asyncio.wait_for(self.control[0].readline(), BOOT)
        while b"ready" not in line:
            line = await asyncio.wait_for(self.control[0].readline(), BOOT)
        await self.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        await self.ask("migrate", uri=f"file:{state}")
        while (s := await self.ask("query-migrate")).get("status") != "completed":
            if s.get("status") == "failed":
                raise RuntimeError(f"the state cannot be saved: {s}")
            await asyncio.sleep(0.05)
        await self.kill()

    async def go(self, *words):
        """Starts a round from the saved state."""
        while (await self.ask("query-status"))["status"] in ("inmigrate", "prelaunch"):
            await asyncio.sleep(0.02)
        self.control[1].write((" ".join(map(str, words)) + "\n").encode())

    async def kill(self):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        for _, writer in (self.control, self.qmp):
            writer.close()
