"""The boot methods, and what each one needs: one explicit table. Nothing above this room knows which one
a board has."""

from __future__ import annotations

import contextlib
import enum
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.model.board import Board, GrubBoot, KexecBoot, QemuBoot, UbootBoot, UbootDiskBoot
from harness.target.base import Media, Say, Snapshotting, Target
from harness.target.holding import lock, place
from harness.target.methods import checks, hardware, netboot, qemu, snapshot
from harness.target.methods.checks import Check
from harness.target.methods.start import Start, Starting


class RootForm(enum.Enum):
    """As what a method hands the kernel its root file system."""

    DISK = "disk"
    INITRAMFS = "initramfs"


class Boot(Protocol):
    """Boots `media` on `board`, with its logs in `logs`, and waits until it answers."""

    def __call__(self, board: Board, media: Media, *, logs: Path, say: Say) -> Target: ...


class Keep(Protocol):
    """The snapshot of `board` with `media` that is in `directory`, or shall be; logs go to `logs`."""

    def __call__(self, board: Board, media: Media, directory: Path, *, logs: Path) -> Snapshotting: ...


class Tell(Protocol):
    def __call__(self, board: Board) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """`needs`: stages of build/host.py whose tools have to be there. `describe`: one line about the machine;
    `announce`: how it is going to be booted. `properties`: what a run's record says of it. `check`: raises InfraError
    where the machine can't be reached from here, within a few seconds. `machine`: what tells it from every other one
    that processes of this host may use, for its lock; empty where nobody else can have it. `checks`: what can be seen
    without booting, each within a few seconds. `snapshots`: where a booted target can be kept."""

    boot: Boot
    root: RootForm
    needs: frozenset[str]
    describe: Tell
    announce: Tell
    properties: Callable[[Board], dict[str, str]]
    check: Callable[[Board], None]
    machine: Tell = lock.console_of
    checks: Callable[[Board], list[Check]] = checks.common
    snapshots: Keep | None = None


def _hardware(
    *, by: str, starting: Starting, check: Callable[[Board], None], checks: Callable[[Board], list[Check]]
) -> Method:
    """A board on a serial line, whose kernel is started `by` something."""

    def check_all(board: Board) -> None:
        hardware.check(board)
        check(board)

    return Method(
        boot=functools.partial(hardware.boot_board, starting=starting),
        root=RootForm.INITRAMFS,
        needs=frozenset({"rootfs", "boards"}),
        describe=hardware.describe,
        announce=lambda _board: f"a board, started by {by}",
        properties=lambda _board: {},
        check=check_all,
        checks=checks,
    )


# paramiko takes a while, and a board may be absent: what needs it is imported when it is called


def _check_own_system(board: Board) -> None:
    from harness.target.methods import ownsystem

    ownsystem.check(board)


def _start_by_kexec(job: Start) -> float:
    from harness.target.methods import kexec

    return kexec.start(job)


def _look_for_kexec(board: Board) -> str:
    from harness.target.methods import kexec

    return kexec.look(board)


def _start_by_grub(job: Start) -> float:
    from harness.target.methods import grub

    return grub.start(job)


def _look_for_grub(board: Board) -> str:
    from harness.target.methods import grub

    return grub.look(board)


def _start_from_disk(job: Start) -> float:
    from harness.target.methods import diskboot

    return diskboot.start(job)


def _look_at_disk(board: Board) -> str:
    from harness.target.methods import diskboot

    return diskboot.look(board)


_METHODS: dict[type, Method] = {
    QemuBoot: Method(
        boot=qemu.boot_qemu,
        root=RootForm.DISK,
        needs=frozenset({"rootfs", "qemu"}),
        describe=qemu.describe,
        announce=qemu.announce,
        properties=qemu.properties,
        check=lambda _board: None,  # build/host.py looks for QEMU
        machine=lambda _board: "",  # each one starts its own
        checks=lambda _board: [],
        snapshots=snapshot.Snapshots,
    ),
    UbootBoot: _hardware(by="U-Boot", starting=netboot.start, check=netboot.check, checks=checks.uboot),
    KexecBoot: _hardware(
        by="its own system, by kexec",
        starting=_start_by_kexec,
        check=_check_own_system,
        checks=lambda board: checks.own_system(board, _look_for_kexec),
    ),
    GrubBoot: _hardware(
        by="its own system's GRUB, once",
        starting=_start_by_grub,
        check=_check_own_system,
        checks=lambda board: checks.own_system(board, _look_for_grub),
    ),
    UbootDiskBoot: _hardware(
        by="U-Boot, from its own system's disk",
        starting=_start_from_disk,
        check=_check_own_system,
        checks=lambda board: checks.own_system(board, _look_at_disk),
    ),
}


def boot_method(board: Board) -> Method:
    """How this board is booted."""
    return _METHODS[type(board.boot)]


def check(board: Board, *, records: Path) -> Board:
    """See that the board can be reached from here, and had: InfraError or UserError within seconds. `records`: a
    directory for what this host's harnesses know of each other. Returns the board with what its place, where it is
    one, tells of it before it is acquired."""
    known = place.look(board, records=records) if board.labgrid else board
    boot_method(board).check(known)
    return known


@contextlib.contextmanager
def held(board: Board, *, records: Path, say: Say) -> Iterator[Board]:
    """The board as it can be booted, ours until the end; a shared one is acquired, and released however we end."""
    if board.labgrid:
        with place.held(board, records=records, say=say) as ready:
            yield ready
    else:
        yield board
