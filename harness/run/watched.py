"""One command on a booted target, as long as it takes, under watch."""

from __future__ import annotations

from harness.model.board import Limits
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.target.base import LineSink, Target


def run_watched(target: Target, line: str, *, limits: Limits, on_line: LineSink) -> int:
    """Run `line` on `target`, which is closed then, and return its exit code. CrashError for a kernel that crashes or
    hangs meanwhile, InfraError for a target that is lost."""
    nowhere = Recorder.nowhere()
    machine = Machine(lambda: (target, target.boot_seconds), limits=limits, recorder=nowhere, measures_speed=False)
    try:
        return machine.run(line, timeout=float("inf"), on_line=on_line).returncode
    except Stopped as stopped:
        raise stopped.as_error() from None
    finally:
        machine.close()
