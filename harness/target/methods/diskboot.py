"""Boot method uboot-disk: the board's own system stores kernel and initramfs on its disk and reboots; the harness stops
U-Boot and makes it load them from there. No boot configuration on the disk is changed, so by itself the board boots its
own system."""

from __future__ import annotations

import posixpath
import re
import time
from dataclasses import dataclass, replace

from harness.errors import InfraError
from harness.model.board import Access, BoardSpec
from harness.model.boot import UbootDiskBoot
from harness.target.base import Media
from harness.target.methods.autoboot import NotStopped
from harness.target.methods.ownsystem import RETURNS, Files, df, name_of, own_system, reach, run
from harness.target.methods.start import Start, device_tree
from harness.target.methods.uboot import NotFinished, Uboot
from harness.target.power import power_off
from harness.target.shells.ssh import SshHost

_GOES_DOWN = r"reboot: Restarting system"  # the last that a kernel says


def look(board: BoardSpec, access: Access) -> str:
    """Describe the board's own system without changing anything. Raises InfraError if it does not answer."""
    system = own_system(board, access)
    try:
        system.connect()
        return f"answers as {name_of(system)}"
    finally:
        system.close()


def start(job: Start) -> float:
    """Start the kernel and return when that began (monotonic).

    Raises InfraError if the own system can't be reached, if U-Boot can't be stopped, or if it does not find the
    files."""
    started = time.monotonic()
    spec = job.board.spec.boot
    assert isinstance(spec, UbootDiskBoot)
    system = own_system(job.board.spec, job.board.access)
    try:
        reach(job.board, system, job.line, job.switch, job.say)
        files = _laid_down(job.board.spec, spec, job.media, system)
        uboot = Uboot(job.line, replace(spec.uboot, uboot_seconds=spec.system_seconds), place=job.board.spec.name)
        uboot.forget()  # U-Boot's messages from the boot of the own system
        run(system, "command -v reboot && { setsid sh -c 'sleep 1; reboot' < /dev/null > /dev/null 2>&1 & }",
            f"{job.board.name}: uboot-disk: expected the board's own system to reboot")  # fmt: skip
        uboot = _stopped(job, spec, uboot)
    finally:
        system.close()
    _Conversation(uboot, spec, job.board.name).start_kernel(files, f"{RETURNS} {job.arguments}")
    return started


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file on the board's disk: its name on the partition, its size in bytes."""

    name: str
    size: int


def _laid_down(board: BoardSpec, spec: UbootDiskBoot, media: Media, system: SshHost) -> dict[str, _File]:
    """Copy the files to the board: kernel, root, payload and dtb, as far as they exist."""
    where = f"{board.name}: uboot-disk"
    files = Files(system, spec.directory, place=where)
    files.drop_all_but(board, media)
    mounted = df(system, spec.directory, f"{where}: expected `df` to name its partition").mounted_on
    below = posixpath.relpath(spec.directory, mounted)
    tree = device_tree(media, spec.dtb, board=board.name) if spec.dtb else None
    parts = {"kernel": media.image, "root": media.root, "payload": media.payload, "dtb": tree}
    made = {
        what: _File(name=f"/{below}/{posixpath.basename(files.bring(path))}", size=path.stat().st_size)
        for what, path in parts.items()
        if path
    }
    run(system, "sync", f"{where}: expected the board's own system to sync its disks")
    return made


def _stopped(job: Start, spec: UbootDiskBoot, uboot: Uboot) -> Uboot:
    """Stop U-Boot at its prompt while the own system reboots; if that fails, once more after a power cycle."""
    try:
        uboot.stop(after=_GOES_DOWN)
        return uboot
    except NotStopped as error:
        job.say(f"{error.message}; switching the board off and on once more")
    power_off(job.board.power, job.switch, job.line)
    uboot = Uboot(job.line, spec.uboot, place=job.board.name)
    uboot.forget()
    job.switch.on()
    uboot.stop()
    return uboot


class _Conversation:
    """A conversation with U-Boot at its prompt; `place` is the board's name in messages."""

    def __init__(self, uboot: Uboot, spec: UbootDiskBoot, place: str) -> None:
        self._uboot = uboot
        self._spec = spec
        self._place = place

    def start_kernel(self, files: dict[str, _File], arguments: str) -> None:
        uboot, at = self._uboot, self._spec.uboot
        for before in at.before:
            uboot.command(before, timeout=self._spec.load_seconds)
        kernel = self._load(files["kernel"], uboot.value(at.kernel_at, key="boot.kernel_at"))
        root = self._load(files["root"], uboot.value(at.ramdisk_at, key="boot.ramdisk_at"))
        size = files["root"].size
        if "payload" in files:  # the kernel unpacks one archive after the other
            self._load(files["payload"], f"{int(root, 16) + size:x}")
            size += files["payload"].size
        if "dtb" in files:
            tree = self._load(files["dtb"], uboot.value(at.dtb_at, key="boot.dtb_at"))
        else:
            tree = uboot.value(at.fdt, key="boot.fdt")
        uboot.boot(kernel, f"{root}:{size:x}", tree, arguments=arguments)

    def _load(self, file: _File, address: str) -> str:
        """Load a file from the disk and return its address."""
        spec, place = self._spec, f"{self._place}: U-Boot: {self._spec.partition}: {file.name}"
        try:
            output = self._uboot.command(f"load {spec.partition} {address} {file.name}", timeout=spec.load_seconds)
        except NotFinished as error:
            raise InfraError(f"{place}: expected it to be loaded within {spec.load_seconds:.0f} s (boot.load_seconds)",
                             details=error.details) from None  # fmt: skip
        found = re.search(r"^(\d{1,18}) bytes read", output, re.MULTILINE)
        if not found or int(found[1]) != file.size:
            finding = f"{found[1]} came" if found else "it can't load it"
            raise InfraError(
                f"{place}: expected {file.size} bytes, {finding}; see whether boot.partition is the one that has "
                f"{spec.directory} (`ls {spec.partition} /` at U-Boot's prompt), and boot.before",
                details=output.splitlines()[-8:],
            )
        return address
