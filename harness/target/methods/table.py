"""The table of boot methods, with what each one needs. Nothing above this package knows which method a board has."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.model.board import Access, BoardSpec
from harness.model.boot import BootSpec, GrubBoot, KexecBoot, QemuBoot, UbootBoot, UbootDiskBoot
from harness.target.base import Media, Say, Snapshotting, Target
from harness.target.holding.held import HeldBoard, machine_of
from harness.target.methods import checks, hardware, netboot, netboot_checks, qemu, qemugdb, snapshot
from harness.target.methods.checks import Check
from harness.target.methods.start import Start, Starting


class RootForm(enum.Enum):
    """The form in which a method passes the root file system to the kernel."""

    DISK = "disk"
    INITRAMFS = "initramfs"


class Boot(Protocol):
    """Boots `media` on `board`, with its logs in `logs`, and waits until it answers."""

    def __call__(self, board: HeldBoard, media: Media, *, logs: Path, say: Say) -> Target: ...


class Keep(Protocol):
    """Return the existing or future snapshot of `board` with `media` in `directory`; logs go to `logs`."""

    def __call__(self, board: BoardSpec, media: Media, directory: Path, *, logs: Path) -> Snapshotting: ...


Tell = Callable[[BoardSpec], str]
Reach = Callable[[BoardSpec, Access], None]
Checks = Callable[[BoardSpec, Access], list[Check]]


@dataclass(frozen=True, kw_only=True)
class Debugging:
    """`board`: the same board with a server for gdb on a UNIX socket; `halt`: stops its machine, from any thread."""

    board: Callable[[BoardSpec, Path], BoardSpec]
    halt: Callable[[Target], None]


@dataclass(frozen=True, kw_only=True)
class Method:
    """`needs`: stages of build/host.py whose tools have to be there. `describe`: one line about the machine;
    `announce`: how it is going to be booted. `properties`: what a run's record says of it. `check`: raises InfraError
    where the machine can't be reached from here, within a few seconds; `checks`: what can be seen without booting, each
    within a few seconds. Both get how it is reached, as far as that is known before it is held. `machine`: what tells
    it from every other one that processes of this host may use, for its lock; empty where nobody else can have it.
    `capacity`: how many such machines a run that wants so many (None: what suits) may have side by side of this one
    entry. `snapshots`: where a booted target can be kept. `with_one_cpu`: the same board with a single CPU; None if it
    has no other number, or it can't be chosen. `debugging`: where a debugger can look at the machine."""

    boot: Boot
    root: RootForm
    needs: frozenset[str]
    describe: Tell
    announce: Tell
    properties: Callable[[BoardSpec], dict[str, str]]
    check: Reach
    checks: Checks
    machine: Tell
    capacity: Callable[[BoardSpec, int | None], int]
    snapshots: Keep | None = None
    with_one_cpu: Callable[[BoardSpec], BoardSpec | None] = lambda _board: None
    debugging: Debugging | None = None


def _hardware(*, by: str, starting: Starting, check: Reach, checks: Checks) -> Method:
    """Describe the method of a board on a serial line whose kernel is started by `by`."""

    def check_all(board: BoardSpec, access: Access) -> None:
        hardware.check(board, access)
        check(board, access)

    return Method(
        boot=functools.partial(hardware.boot_board, starting=starting),
        root=RootForm.INITRAMFS,
        needs=frozenset({"rootfs", "boards"}),
        describe=hardware.describe,
        announce=lambda _board: f"a board, started by {by}",
        properties=lambda _board: {},
        check=check_all,
        checks=checks,
        machine=machine_of,
        capacity=lambda _board, _wanted: 1,
    )


def _own_system(*, by: str, starting: Starting, look: Callable[[BoardSpec, Access], str]) -> Method:
    """Describe a method that uses the board's own system; `look` describes that system without changing anything."""
    return _hardware(
        by=by,
        starting=starting,
        check=_check_own_system,
        checks=lambda board, access: checks.own_system(board, access, look),
    )


# paramiko takes a while, and a board may be absent: what needs it is imported when it is called


def _check_own_system(board: BoardSpec, access: Access) -> None:
    from harness.target.methods import ownsystem

    ownsystem.check(board, access)


def _start_by_kexec(job: Start) -> float:
    from harness.target.methods import kexec

    return kexec.start(job)


def _look_for_kexec(board: BoardSpec, access: Access) -> str:
    from harness.target.methods import kexec

    return kexec.look(board, access)


def _start_by_grub(job: Start) -> float:
    from harness.target.methods import grub

    return grub.start(job)


def _look_for_grub(board: BoardSpec, access: Access) -> str:
    from harness.target.methods import grub

    return grub.look(board, access)


def _start_from_disk(job: Start) -> float:
    from harness.target.methods import diskboot

    return diskboot.start(job)


def _look_at_disk(board: BoardSpec, access: Access) -> str:
    from harness.target.methods import diskboot

    return diskboot.look(board, access)


_METHODS: dict[type[BootSpec], Method] = {
    QemuBoot: Method(
        boot=qemu.boot_qemu,
        root=RootForm.DISK,
        needs=frozenset({"rootfs", "qemu"}),
        describe=qemu.describe,
        announce=qemu.announce,
        properties=qemu.properties,
        check=lambda _board, _access: None,  # build/host.py looks for QEMU
        checks=lambda _board, _access: [],
        machine=lambda _board: "",  # each run starts its own
        capacity=qemu.capacity,
        snapshots=snapshot.Snapshots,
        with_one_cpu=qemu.with_one_cpu,
        debugging=Debugging(board=qemugdb.with_debugger, halt=qemugdb.halt),
    ),
    UbootBoot: _hardware(by="U-Boot", starting=netboot.start, check=netboot.check, checks=netboot_checks.checks_of),
    KexecBoot: _own_system(by="its own system, by kexec", starting=_start_by_kexec, look=_look_for_kexec),
    GrubBoot: _own_system(by="its own system's GRUB, once", starting=_start_by_grub, look=_look_for_grub),
    UbootDiskBoot: _own_system(by="U-Boot, from its own system's disk", starting=_start_from_disk, look=_look_at_disk),
}


def boot_method(board: BoardSpec) -> Method:
    """Return the boot method of the board."""
    return _METHODS[type(board.boot)]
