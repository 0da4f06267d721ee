"""A QEMU machine for a debugger: with QEMU's server for gdb, and stopped where it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from harness.model.board import BoardSpec
from harness.target.base import Target
from harness.target.methods.qemu import QemuTarget, qemu_boot
from harness.target.methods.qemuoptions import escaped

_HALT_LIMIT_S = 30.0


def with_debugger(board: BoardSpec, socket: Path) -> BoardSpec:
    """Return the machine with a server for gdb on a UNIX socket. One that resets stops then, and is not gone."""
    boot = qemu_boot(board)
    more = ("-gdb", f"unix:{escaped(socket)},server=on,wait=off", "-no-shutdown")
    return dataclasses.replace(board, boot=dataclasses.replace(boot, extra_args=(*boot.extra_args, *more)))


def halt(target: Target) -> None:
    """Stop all CPUs of the machine where they are; gdb can let them go on. Any thread may call it."""
    assert isinstance(target, QemuTarget)
    target.monitor("stop", timeout=_HALT_LIMIT_S)
