"""boards.yaml: which machines there are. Text in, Boards out."""

from __future__ import annotations

from typing import Literal

import pydantic

from harness.errors import UserError
from harness.model.board import Board, Limits, QemuBoot

from . import document

Seconds = pydantic.PositiveFloat | pydantic.PositiveInt


class _Limits(document.Strict):
    boot: Seconds = Limits.boot
    silence: Seconds = Limits.silence


class _QemuBoot(document.Strict):
    method: Literal["qemu"]
    machine: str = QemuBoot.machine
    cpu: str = QemuBoot.cpu
    cpus: int = pydantic.Field(QemuBoot.cpus, ge=1, le=512)
    memory_mib: int = pydantic.Field(QemuBoot.memory_mib, ge=128)
    accel: Literal["auto", "kvm", "tcg"] = "auto"
    extra_args: list[str] = pydantic.Field(default_factory=list)


class _Board(document.Strict):
    description: str = ""
    boot: _QemuBoot
    cmdline: str = ""
    kconfigs: list[str] = pydantic.Field(default_factory=lambda: ["qemu-virt.config"])  # all methods so far are QEMU
    limits: _Limits = _Limits()


class _Boards(document.Strict):
    boards: dict[str, _Board]


def parse_boards(text: str, *, place: str) -> dict[str, Board]:
    """Every board in `text`, by name. `place` is what messages call it (the file's name).

    Raises UserError: one line for each wrong key or value."""
    data = document.load(text, place=place)
    if data is None:
        raise UserError(f"{place}: expected a mapping with the key `boards`, found an empty document")
    shaped = document.shaped(data, _Boards, place=place)
    return {name: _board(name, entry) for name, entry in shaped.boards.items()}


def _board(name: str, entry: _Board) -> Board:
    boot = entry.boot
    return Board(
        name=name,
        description=entry.description,
        cmdline=entry.cmdline,
        kconfigs=tuple(entry.kconfigs),
        limits=Limits(boot=float(entry.limits.boot), silence=float(entry.limits.silence)),
        boot=QemuBoot(
            machine=boot.machine,
            cpu=boot.cpu,
            cpus=boot.cpus,
            memory_mib=boot.memory_mib,
            accel=boot.accel,
            extra_args=tuple(boot.extra_args),
        ),
    )
