"""The input of a boot method that starts a kernel on a board whose console is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError
from harness.target.base import Media, Say
from harness.target.holding.held import HeldBoard
from harness.target.line.console import Console
from harness.target.power import Switch


@dataclass(frozen=True, kw_only=True)
class Start:
    """`line`: the board's serial line; `arguments`: the kernel command line; `logs`: where more logs go."""

    board: HeldBoard
    media: Media
    line: Console
    switch: Switch
    arguments: str
    logs: Path
    say: Say


Starting = Callable[[Start], float]
"""Starts the kernel; returns since when (monotonic) that took."""


def device_tree(media: Media, name: str, *, board: str) -> Path:
    """Return the build's device tree that boot.dtb names. Raises InfraError if the build has none of that name."""
    path = (media.dtbs or Path()) / name
    if not path.is_file():
        raise InfraError(f"{board}.boot.dtb: expected {name} among the build's device trees, found none")
    return path
