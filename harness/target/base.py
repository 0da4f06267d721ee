"""What a booted kernel looks like to everything above: the protocols, and what can go wrong while talking."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import InfraError, KernelError
from harness.target.line.console import Console

LineSink = Callable[[str], None]
Say = Callable[[str], None]  # takes what a person should know meanwhile


def silent(_message: str) -> None:
    """A Say for whom nobody listens."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A command that ended: its exit code (data, not an exception), its output (stdout and stderr in the order
    written) and how long it took in seconds."""

    command: str
    returncode: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.returncode == 0


@dataclass(frozen=True, kw_only=True)
class Media:
    """What a machine boots: the kernel image, device trees, the root file system and one build's payload. Both are
    disks or archives of an initramfs, as the boot method has it."""

    image: Path
    dtbs: Path | None = None
    root: Path
    payload: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """Where a person types. `has_kernel_log`: the kernel's messages come on it by themselves."""

    stream: Console
    has_kernel_log: bool


class CommandTimeout(KernelError):
    """A command did not end within its limit; the shell it ran in is still busy with it."""


class TargetLost(InfraError):
    """The channel to the target closed or was taken over by garbage. If the console shows a kernel report, that
    outranks this: the caller asks the console before it believes the blame."""


class RunningCommand(Protocol):
    """A command under way: take its lines until `done`; then `returncode` is its exit code."""

    command: str
    returncode: int | None

    @property
    def done(self) -> bool:
        """Whether it has ended and every line of it was taken."""

    def next_line(self, timeout: float) -> str | None:
        """The next line of output; None where none came within `timeout` seconds, or the command has ended."""


class Target(Protocol):
    """A booted kernel. `run` waits for a command, `console` is its kernel log from power-on to power-off."""

    console: Console
    boot_seconds: float

    @property
    def last_word(self) -> float:
        """When anything last arrived on any of the target's channels (time.monotonic)."""

    @property
    def went_down(self) -> bool:
        """Whether the machine ended by itself (reset, power-off), as opposed to being cut off."""

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        """Run a shell command line. `on_line` is called with every line of output as it arrives.

        Raises CommandTimeout or TargetLost."""

    def start(self, command: str) -> RunningCommand:
        """Start a shell command line whose output the caller takes line by line."""

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file on the target."""

    def get(self, path: str) -> bytes:
        """Read a file of the target; UserError where it can't be read."""

    def is_alive(self, *, timeout: float) -> bool:
        """Whether the kernel still runs processes, asked on a way that no test keeps busy.

        Raises TargetLost where it can't be told, because the way itself is known to be broken."""

    def is_connected(self, *, timeout: float) -> bool:
        """Whether the way that commands go still works, of which a kernel that lives knows nothing."""

    def catch_up(self) -> None:
        """Wait until `console` has what the kernel has printed so far, a few seconds at most."""

    def diagnose(self) -> None:
        """Make a hung kernel print what its CPUs and tasks do on its console (SysRq), where that is possible."""

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        """A shell for a person. Commands may not be run any more where the target has no other line for them."""

    def close(self) -> None:
        """Power off and release everything. Never raises, may be called twice."""


class Cpus(enum.Enum):
    """How the CPUs of a target run, where they are emulated."""

    SIDE_BY_SIDE = enum.auto()  # as on a board
    SEEING_PATCHES = enum.auto()  # side by side only if one sees at once that another has changed an instruction


class Snapshotting(Protocol):
    """An optional power of a boot method: a booted target is kept, and any number of others start in its state."""

    @property
    def is_saved(self) -> bool:
        """Whether there is something to `restore`."""

    def boot(self) -> Target:
        """Boot a target that can be kept; raises what booting raises."""

    def save(self, target: Target) -> None:
        """Keep the state of `target`, which is closed. InfraError where that fails."""

    def restore(self, why: str, *, cpus: Cpus = Cpus.SIDE_BY_SIDE) -> Target:
        """A target in the state that was kept, clock and random numbers right. Its log begins with `why`. `cpus`: how
        its CPUs run, where they are emulated."""
