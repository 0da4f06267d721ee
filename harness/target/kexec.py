"""Boot method kexec: the board's own system, reached over SSH, takes the kernel and starts it."""

from __future__ import annotations

import hashlib
import shlex
import time
from pathlib import Path

from harness.errors import InfraError, UserError
from harness.model.board import Board, KexecBoot

from .base import CommandTimeout, Completed, Media, Say
from .console import Console
from .power import Switch, power_off
from .ssh import HostKeyChanged, LoginRefused, SshHost, pins_of
from .start import Start, device_tree

_INTERVAL = 1.0  # seconds between two attempts to log in; a machine that boots has no event for us
_STEP_LIMIT = 60.0
_HANDED_OVER = 60.0
_KEPT_DAYS = 7


def own_system(board: Board) -> SshHost:
    """The system that the board has by itself; not yet connected."""
    assert board.ssh
    return SshHost(board.ssh, pins=pins_of(board.name), place=f"{board.name}.ssh")


def check(board: Board) -> None:
    """See that nobody else has the own system's address, and that we can log in; one that does not answer may come back
    with a power cycle."""
    system = own_system(board)
    try:
        system.connect()
    except (HostKeyChanged, LoginRefused):
        raise
    except InfraError:
        pass
    finally:
        system.close()


def look(board: Board) -> str:
    """What is seen of the own system without changing anything; InfraError where it does not answer or lacks kexec."""
    system = own_system(board)
    try:
        system.connect()
        _has_kexec(board, system)
        return f"answers as {system.run('uname -nr', timeout=_STEP_LIMIT).output.strip()}, and has kexec"
    finally:
        system.close()


def _has_kexec(board: Board, system: SshHost) -> None:
    _run(system, "command -v kexec", f"{board.name}: kexec: expected `kexec` on the board's own system, found none; "
         "install kexec-tools there")  # fmt: skip


def start(job: Start) -> float:
    """Start the kernel, and wait a while for it to show on the line; since when (monotonic) that took.

    Raises InfraError where the own system can't be reached, lacks kexec or can't load the kernel."""
    started = time.monotonic()
    system = own_system(job.board)
    try:
        reach(job.board, system, job.line, job.switch, job.say)
        load(job.board, job.media, system, job.arguments)
        execute(job.board, system, job.line)
    finally:
        system.close()
    return started


def reach(board: Board, system: SshHost, line: Console, switch: Switch, say: Say) -> None:
    """Log in to the own system; where it does not answer (another kernel runs, the board is off, it hangs), after a
    power cycle."""
    spec = board.boot
    assert isinstance(spec, KexecBoot)
    try:
        system.connect()
        return
    except LoginRefused:  # a power cycle would change nothing
        raise
    except InfraError as error:
        say(f"{error.message}; switching the board off and on")
    power_off(board, switch, line)
    switch.on()
    deadline = time.monotonic() + spec.system_seconds
    while True:
        try:
            system.connect()
            return
        except HostKeyChanged:
            raise
        except InfraError as error:
            if time.monotonic() > deadline:
                raise InfraError(
                    f"{error.message}. The board's own system did not come up within {spec.system_seconds:.0f} s "
                    "(boot.system_seconds) after a power cycle; the last console lines follow",
                    details=line.tail(12),
                ) from None
        time.sleep(_INTERVAL)


def load(board: Board, media: Media, system: SshHost, arguments: str) -> None:
    spec = board.boot
    assert isinstance(spec, KexecBoot)
    where = f"{board.name}: kexec"
    directory = shlex.quote(spec.directory)
    _has_kexec(board, system)
    _run(system, f"mkdir -p {directory} && find {directory} -type f -name '*-harness' -mtime +{_KEPT_DAYS} -delete",
         f"{where}: {spec.directory}: expected a directory to write to (boot.directory)")  # fmt: skip
    kernel = _copied(media.image, system, spec)
    parts = [_copied(path, system, spec) for path in (media.root, media.payload) if path]
    initrd = f"{spec.directory}/initrd"
    _run(system, f"cat {shlex.join(parts)} > {shlex.quote(initrd)}", f"{where}: {initrd}: can't be written")
    options = [f"--initrd={initrd}", f"--command-line={arguments}"]
    if spec.dtb:
        tree = device_tree(media, spec.dtb, board=board.name)
        options.append(f"--dtb={_copied(tree, system, spec)}")
    command = shlex.join(["-l", kernel, *options])
    # the second system call is the one that a locked-down kernel permits
    _run(system, f"kexec {command} || kexec -s {command}", f"{where}: the board's own system does not load it; see "
         "whether it was built with KEXEC and is not locked down (secure boot)", limit=spec.load_seconds)  # fmt: skip


def _copied(path: Path, system: SshHost, spec: KexecBoot) -> str:
    """Bring `path` there, unless it is there from an earlier boot; its name there."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"{spec.directory}/{digest[:12]}-harness"
    there = shlex.quote(name)
    complaint = f"{name}: the board's own system can't tell its checksum"
    asked = f"touch -c {there}; sha256sum {there} 2>&1 || true"
    if not _run(system, asked, complaint).output.startswith(digest):
        try:
            system.put(content, name)
        except UserError as error:
            raise InfraError(f"{error.message}; see boot.directory, and whether that disk has room") from None
        found = _run(system, asked, complaint).output.strip()
        if not found.startswith(digest):
            raise InfraError(f"{name}: expected SHA-256 {digest} on the board, found {found[:90]!r}; see whether its "
                             "disk is full or broken")  # fmt: skip
    return name


def _run(system: SshHost, command: str, complaint: str, *, limit: float = _STEP_LIMIT) -> Completed:
    try:
        done = system.run(command, timeout=limit)
    except CommandTimeout:
        raise InfraError(f"{complaint} (`{command[:60]}` did not end within {limit:.0f} s)") from None
    if not done.ok:
        raise InfraError(complaint, details=done.output.splitlines()[-8:])
    return done


def execute(board: Board, system: SshHost, line: Console) -> None:
    """Leave the own system. Its disks are synced and made read-only first, because nobody shuts it down."""
    quiet = "echo s > /proc/sysrq-trigger; echo u > /proc/sysrq-trigger"
    _run(system, quiet, f"{board.name}: kexec: the board's own system can't sync its disks")
    system.start("sleep 1; kexec -e 2>&1")  # the connection goes with the system
    if line.expect(r"Booting Linux on physical CPU|EFI stub: Booting", timeout=_HANDED_OVER):
        return
    if system.still_there(timeout=10.0):
        raise InfraError(f"{board.name}: kexec -e: the board's own system goes on running; see its console's last "
                         "lines", details=line.tail(12))  # fmt: skip
