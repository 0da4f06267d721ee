"""The interface of a booted kernel for everything above: protocols, and the exceptions that talking to it may raise."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from harness.errors import InfraError, KernelError
from harness.model.coverage import Probe
from harness.model.product import Product
from harness.target.line.console import Console

LineSink = Callable[[str], None]
Say = Callable[[str], None]  # gets messages for the user about progress and trouble


def silent(_message: str) -> None:
    """A Say that discards its messages."""


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A finished command: its exit code (data, not an exception), its output (stdout and stderr in the order written)
    and its duration in seconds."""

    command: str
    returncode: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.returncode == 0


@dataclass(frozen=True, kw_only=True)
class Media:
    """What a machine boots: the kernel image, device trees, the root file system and one build's payload. Root and
    payload are disks or initramfs archives, as the boot method wants them. `initramfs`: what loads the drivers of
    disks, if the kernel does not have them built in. `probe`: with which an emulator notes what it executes, if that is
    wanted.

    `products`: digests of these files, as far as they are known, to verify them if the boot fails. `holds`: what keeps
    the files in the cache; another process needs its own, or has to end before this one (`without_holds`)."""

    image: Path
    dtbs: Path | None = None
    root: Path
    payload: Path | None = None
    initramfs: Path | None = None
    probe: Probe | None = None
    products: tuple[Product, ...] = ()
    holds: tuple[object, ...] = field(default=(), compare=False, repr=False)

    def without_holds(self) -> Media:
        """Return the same for a child process, which ends with this one."""
        return replace(self, holds=())


@dataclass(frozen=True, kw_only=True)
class Terminal:
    """A terminal for a person. `has_kernel_log`: kernel messages appear on it without our doing."""

    stream: Console
    has_kernel_log: bool


class CommandTimeout(KernelError):
    """A command did not end within its limit; its shell is still busy with it."""


class TargetLost(InfraError):
    """The channel to the target closed or delivers garbage. A kernel report on the console outranks this exception: the
    caller checks the console before it blames the infrastructure."""


class RunningCommand(Protocol):
    """A running command: read its lines until `done`; then `returncode` is its exit code."""

    command: str
    returncode: int | None

    @property
    def done(self) -> bool:
        """Whether it has ended and all of its lines were read."""

    def next_line(self, timeout: float) -> str | None:
        """Return the next line of output; None if none came within `timeout` seconds, or if the command has ended."""


class Target(Protocol):
    """A booted kernel. `run` waits for a command, `console` is its kernel log from power-on to power-off."""

    console: Console
    boot_seconds: float

    @property
    def last_word(self) -> float:
        """When data last arrived on any of the target's channels (time.monotonic)."""

    @property
    def went_down(self) -> bool:
        """Whether the machine reset or powered off by itself, as opposed to a lost connection."""

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        """Run a shell command line for at most `timeout` seconds. `on_line` is called with every line of output as it
        arrives.

        Raises CommandTimeout or TargetLost."""

    def start(self, command: str) -> RunningCommand:
        """Start a shell command line whose output the caller reads line by line."""

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file on the target."""

    def get(self, path: str) -> bytes:
        """Read a file of the target. Raises UserError if it can't be read."""

    def is_alive(self, *, timeout: float) -> bool:
        """Return whether the kernel still runs processes, asked over a channel that no test keeps busy.

        Raises TargetLost if that can't be found out because the channel itself is known to be broken."""

    def is_connected(self, *, timeout: float) -> bool:
        """Return whether the command channel still works; it may be broken although the kernel is alive."""

    def catch_up(self) -> None:
        """Wait, a few seconds at most, until `console` has received everything the kernel has printed so far."""

    def diagnose(self) -> None:
        """Make a hung kernel print what its CPUs and tasks do on its console (SysRq), if that is possible."""

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        """Return a shell for a person. On a target with a single line, `run` can't be used afterwards."""

    def close(self) -> None:
        """Power off and release everything. Never raises, may be called twice."""


class Cpus(enum.Enum):
    """How the emulated CPUs of a target run."""

    SIDE_BY_SIDE = enum.auto()  # in parallel, as on a board
    SEEING_PATCHES = enum.auto()  # in parallel only if a CPU sees at once that another one has changed an instruction


class Snapshotting(Protocol):
    """An optional ability of a boot method: save a booted target, and start any number of others in its state."""

    @property
    def is_saved(self) -> bool:
        """Whether there is a state to `restore`."""

    def boot(self) -> Target:
        """Boot a target that can be saved; raises the exceptions of booting."""

    def save(self, target: Target) -> None:
        """Save the state of `target` and close it. Raises InfraError if that fails."""

    def restore(self, why: str, *, cpus: Cpus = Cpus.SIDE_BY_SIDE) -> Target:
        """Start a target in the saved state, with its clock set and its random numbers reseeded. Its log begins with
        `why`. `cpus`: how emulated CPUs run."""
