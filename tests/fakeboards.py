"""A pytest plugin for workers: their boards are scripted targets. What a board does is its `cmdline`: `ok`, `once` (it
boots once, and never again), `dead` (it can't be booted) or `panics` (its kernel does)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BootError, InfraError
from harness.run.workers import worker
from harness.target.base import Media, Say
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import boot_method
from tests.faketarget import FakeTarget, Kmsg

PANIC = Kmsg(
    "[    1.000000] Kernel panic - not syncing: on purpose\n[    1.000000] ---[ end Kernel panic - not syncing: x ]---"
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        monkeypatch = pytest.MonkeyPatch()  # never undone: the process ends with its boards
        monkeypatch.setattr(worker, "boot_method", lambda board: replace(boot_method(board), boot=_boot))


def _boot(board: HeldBoard, media: Media, *, logs: Path, say: Say) -> FakeTarget:
    boots = logs / "boots"
    boots.write_text(f"{boots.read_text() if boots.exists() else ''}x")
    if board.spec.cmdline == "panics":
        raise BootError(f"{board.name}: the kernel panicked at boot")
    if board.spec.cmdline == "dead" or (board.spec.cmdline == "once" and boots.read_text() != "x"):
        raise InfraError(f"{board.name}.power: the switch does not answer", details=("its last words",))
    say(f"{board.name}: up")
    return FakeTarget(lambda command: [PANIC] if command == "crash" else ["release 7.3.4"])
