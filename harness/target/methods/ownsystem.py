"""A board's own system, reached over SSH: bring it up if it does not answer, and copy the kernel's files to it."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError, UserError
from harness.model.board import Access, BoardSpec
from harness.model.boot import OwnSystem
from harness.target.base import CommandTimeout, Completed, Media, Say
from harness.target.holding.held import HeldBoard
from harness.target.line.console import Console
from harness.target.methods.start import device_tree
from harness.target.power import Switch, power_off
from harness.target.shells.ssh import HostKeyChanged, LoginRefused, SshHost, pins_of

_INTERVAL_S = 1.0  # between two attempts to log in; a machine that is booting sends us no event
_STEP_LIMIT_S = 60.0
_KEPT_DAYS = 7
_SPARE_BYTES = 32 << 20  # left free for the board's own system
# A kernel that panics, or that nobody talks to because the harness was killed, returns the board to its own system. The
# harness notices a panic at once; harness/build/overlay/board-init notices that nobody talks to it.
RETURNS = "panic=60 harness.alone=300"


def own_system(board: BoardSpec, access: Access) -> SshHost:
    """Return the board's own system, not yet connected."""
    assert access.ssh
    return SshHost(access.ssh, pins=pins_of(board.name), place=f"{board.name}.ssh")


def spec_of(board: BoardSpec) -> OwnSystem:
    assert isinstance(board.boot, OwnSystem)
    return board.boot


def check(board: BoardSpec, access: Access) -> None:
    """Check that no other machine has the own system's address, and that we can log in. A system that does not answer
    is accepted: a power cycle may bring it back."""
    system = own_system(board, access)
    try:
        system.connect()
    except (HostKeyChanged, LoginRefused):
        raise
    except InfraError:
        pass
    finally:
        system.close()


def name_of(system: SshHost) -> str:
    """Return its host name and its kernel's release."""
    return run(system, "uname -nr", "uname -nr: expected the system's name").output.strip()


def reach(board: HeldBoard, system: SshHost, line: Console, switch: Switch, say: Say) -> None:
    """Log in to the own system; if it does not answer (another kernel runs, the board is off, it hangs), after a power
    cycle."""
    spec = spec_of(board.spec)
    try:
        system.connect()
        return
    except LoginRefused:  # a power cycle would change nothing
        raise
    except InfraError as error:
        say(f"{error.message}; switching the board off and on")
    power_off(board.power, switch, line)
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
        time.sleep(_INTERVAL_S)


class Files:
    """Our directory on the own system. Its files are kept for later boots, named by their checksums; files that no boot
    has used for a week are removed.

    `place`: the board's name in messages. Raises InfraError if the directory is not writable."""

    def __init__(self, system: SshHost, directory: str, *, place: str) -> None:
        self._system = system
        self._directory = directory
        self._place = place
        quoted = shlex.quote(directory)
        run(system, f"mkdir -p {quoted} && find {quoted} -type f -name '*-harness' -mtime +{_KEPT_DAYS} -delete",
            f"{place}: {directory}: expected a directory to write to (boot.directory)")  # fmt: skip

    def drop_all_but(self, board: BoardSpec, media: Media) -> None:
        """Remove files of other boots that this one does not need, when space is scarce."""
        needed = [path for path in (media.image, media.root, media.payload) if path]
        if tree := spec_of(board).dtb:
            needed.append(device_tree(media, tree, board=board.name))
        kept = " ".join(f"! -name {_name_of(path.read_bytes())}" for path in needed)
        where = shlex.quote(self._directory)
        run(self._system, f"find {where} -type f '(' -name '*-harness' -o -name '*.partial' ')' {kept} -delete",
            f"{self._place}: {self._directory}: expected to remove files of earlier boots there")  # fmt: skip

    def bring(self, path: Path) -> str:
        """Copy `path` there unless an earlier boot has done so; return its name there."""
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        name = f"{self._directory}/{_name_of(content)}"
        there = shlex.quote(name)
        complaint = f"{name}: expected the board's own system to compute its checksum"
        asked = f"touch -c {there}; sha256sum {there} 2>&1 || true"
        if not run(self._system, asked, complaint).output.startswith(digest):
            self._check_room(len(content))
            self.write(content, name)
            found = run(self._system, asked, complaint).output.strip()
            if not found.startswith(digest):
                raise InfraError(f"{name}: expected SHA-256 {digest} on the board, found {found[:90]!r}; see whether "
                                 "its disk is full or broken")  # fmt: skip
        return name

    def _check_room(self, size: int) -> None:
        complaint = f"{self._place}: {self._directory}: expected `df` to tell its room"
        free = df(self._system, self._directory, complaint).free_bytes
        if free < size + _SPARE_BYTES:
            raise InfraError(f"{self._place}: {self._directory}: expected {(size + _SPARE_BYTES) >> 20} MB free, found "
                             f"{free >> 20} MB; make room there (boot.directory)")  # fmt: skip

    def write(self, content: bytes, name: str) -> None:
        """Write a file; it gets its name only when it is complete."""
        try:
            self._system.put(content, name)
        except UserError as error:
            raise InfraError(f"{error.message}; see boot.directory, and whether that disk has room") from None

    def bring_roots(self, media: Media) -> list[str]:
        """Copy the parts of the initramfs; return their names in order."""
        return [self.bring(path) for path in (media.root, media.payload) if path]

    def bring_whole_root(self, media: Media) -> str:
        """Join the initramfs into one file (the kernel unpacks one archive after the other) and return its name."""
        parts, whole = self.bring_roots(media), f"{self._directory}/initrd"
        complaint = f"{self._place}: {whole}: can't be written"
        run(self._system, f"cat {shlex.join(parts)} > {shlex.quote(whole)}", complaint)
        return whole

    def bring_device_tree(self, board: BoardSpec, media: Media) -> str:
        """Copy the device tree that boot.dtb names and return its name; empty if it names none."""
        name = spec_of(board).dtb
        return self.bring(device_tree(media, name, board=board.name)) if name else ""


def _name_of(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:12]}-harness"


@dataclass(frozen=True)
class _Room:
    """What df says of a directory."""

    free_bytes: int
    mounted_on: str


def df(system: SshHost, directory: str, complaint: str) -> _Room:
    """Return the room in `directory`, and where its file system is mounted; raises InfraError with `complaint`."""
    told = run(system, f"df -Pk {shlex.quote(directory)}", complaint).output
    last = told.splitlines()[-1] if told.splitlines() else ""
    found = re.fullmatch(r"\S.*?\s+\d+\s+\d+\s+(?P<free>\d{1,15})\s+\S+\s+(?P<mounted>/.*)", last)
    if not found:
        raise InfraError(f"{complaint}, found {last[:120]!r}")
    return _Room(free_bytes=int(found["free"]) << 10, mounted_on=found["mounted"])


def run(system: SshHost, command: str, complaint: str, *, limit: float = _STEP_LIMIT_S) -> Completed:
    """Run a command that has to succeed within `limit` seconds; raises InfraError with `complaint` if it does not."""
    try:
        done = system.run(command, timeout=limit)
    except CommandTimeout:
        raise InfraError(f"{complaint} (`{command[:60]}` did not end within {limit:.0f} s)") from None
    if not done.ok:
        raise InfraError(complaint, details=done.output.splitlines()[-8:])
    return done
