"""Boards for tests, from the keys that boards.yaml has beside each other."""

from __future__ import annotations

from typing import Any, TypeVar

from harness.model.board import Access, BoardSpec
from harness.model.boot import BootSpec, UbootBoot
from harness.target.holding.held import HeldBoard

T = TypeVar("T")
_ACCESS = ("console", "power", "ssh", "secrets")


def spec(name: str = "b", boot: BootSpec | None = None, **keys: Any) -> BoardSpec:
    """A board as boards.yaml describes it; one with U-Boot where `boot` says nothing else."""
    access = Access(**{key: keys.pop(key) for key in _ACCESS if key in keys})
    return BoardSpec(name=name, boot=boot or UbootBoot(tftp_root="/t"), access=access, **keys)


def is_a(kind: type[T], value: object) -> T:
    """`value`, which has to be of this kind."""
    assert isinstance(value, kind), value
    return value


def held(board: BoardSpec) -> HeldBoard:
    """`board`, as it is where no place has anything to tell."""
    return HeldBoard(spec=board, access=board.access)
