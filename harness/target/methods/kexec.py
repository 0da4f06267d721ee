"""Boot method kexec: the board's own system, reached over SSH, loads the kernel and starts it."""

from __future__ import annotations

import shlex
import time

from harness.errors import InfraError
from harness.model.board import Access, BoardSpec
from harness.model.boot import KexecBoot
from harness.target.base import Media
from harness.target.line.console import Console
from harness.target.methods.ownsystem import RETURNS, Files, name_of, own_system, reach, run
from harness.target.methods.start import Start
from harness.target.shells.ssh import SshHost

_HANDED_OVER_S = 60.0


def look(board: BoardSpec, access: Access) -> str:
    """Describe the board's own system without changing anything. Raises InfraError if it does not answer or lacks
    kexec."""
    system = own_system(board, access)
    try:
        system.connect()
        _has_kexec(board, system)
        return f"answers as {name_of(system)}, and has kexec"
    finally:
        system.close()


def _has_kexec(board: BoardSpec, system: SshHost) -> None:
    run(system, "command -v kexec", f"{board.name}: kexec: expected `kexec` on the board's own system, found none; "
        "install kexec-tools there")  # fmt: skip


def start(job: Start) -> float:
    """Start the kernel, wait a while for it to appear on the console, and return when the start began (monotonic).

    Raises InfraError if the own system can't be reached, lacks kexec or can't load the kernel."""
    started = time.monotonic()
    system = own_system(job.board.spec, job.board.access)
    try:
        reach(job.board, system, job.line, job.switch, job.say)
        load(job.board.spec, job.media, system, f"{RETURNS} {job.arguments}")
        execute(job.board.spec, system, job.line)
    finally:
        system.close()
    return started


def load(board: BoardSpec, media: Media, system: SshHost, arguments: str) -> None:
    spec = board.boot
    assert isinstance(spec, KexecBoot)
    where = f"{board.name}: kexec"
    _has_kexec(board, system)
    files = Files(system, spec.directory, place=where)
    kernel = files.bring(media.image)
    options = [f"--initrd={files.bring_whole_root(media)}", f"--command-line={arguments}"]
    tree = files.bring_device_tree(board, media)
    if tree:
        options.append(f"--dtb={tree}")
    command = shlex.join(["-l", kernel, *options])
    # `kexec -s` uses the system call that a locked-down kernel permits
    run(system, f"kexec {command} || kexec -s {command}", f"{where}: the board's own system does not load it; see "
        "whether it was built with KEXEC and is not locked down (secure boot)", limit=spec.load_seconds)  # fmt: skip


def execute(board: BoardSpec, system: SshHost, line: Console) -> None:
    """Jump to the new kernel. The own system is not shut down, so its disks are synced and made read-only first."""
    quiet = "echo s > /proc/sysrq-trigger; echo u > /proc/sysrq-trigger"
    run(system, quiet, f"{board.name}: kexec: expected the board's own system to sync its disks")
    system.start("sleep 1; kexec -e 2>&1")  # the connection goes with the system
    if line.expect(r"Booting Linux on physical CPU|EFI stub: Booting", timeout=_HANDED_OVER_S):
        return
    if system.still_there(timeout=10.0):
        raise InfraError(f"{board.name}: kexec -e: the board's own system is still running; see its console's last "
                         "lines", details=line.tail(12))  # fmt: skip
