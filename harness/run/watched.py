"""One command on a booted target, monitored, without a time limit."""

from __future__ import annotations

from harness.model.board import Limits
from harness.run.machine import Machine
from harness.run.recorder import Recorder
from harness.run.stopped import Stopped
from harness.target.base import LineSink, Target


def run_watched(target: Target, line: str, *, limits: Limits, on_line: LineSink) -> int:
    """Run `line` on `target`, close the target, and return the command's exit code. CrashError if the kernel crashes or
    hangs meanwhile, InfraError if the target is lost. The kernel's log is complete up to the end of the command."""
    nowhere = Recorder.nowhere()
    machine = Machine(lambda: (target, target.boot_seconds), limits=limits, recorder=nowhere, measures_speed=False)
    try:
        done = machine.run(line, timeout=float("inf"), on_line=on_line)
        machine.check()
        return done.returncode
    except Stopped as stopped:
        raise stopped.as_error() from None
    finally:
        machine.close()
