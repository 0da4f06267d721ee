"""A run's tests, distributed over workers: over machines that are restored from one snapshot, or over equal boards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness import available
from harness.errors import HarnessError, KernelError
from harness.model.board import Board
from harness.run.plugin import Planned, Plugin
from harness.run.recorder import Recorder
from harness.run.workers.distributor import ARGUMENTS, Distributor
from harness.run.workers.follow import Follower
from harness.run.workers.worker import Kept, Setup
from harness.target.holding.guard import put_back

Pytest = Callable[[Plugin | Distributor, Sequence[str]], int]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is distributed. `plugin`: of the run's own process, which knows what is planned; `setup`: what a worker has
    to know, but for what it starts from; `seconds`: how long a test is expected to take; `pytest`: runs pytest here
    with a plugin and further arguments, and returns its exit code."""

    plugin: Plugin
    setup: Setup
    seconds: Callable[[str], float]
    recorder: Recorder
    pytest: Pytest


def over_restored(job: Job, snapshot: Path, workers: int) -> int:
    """Make a target ready here, then run the tests in as many as `workers` workers that start from it. Where there is
    no such target, what can be run is run here. Returns pytest's exit code."""
    plugin, machine = job.plugin, job.plugin.machine
    if any(planned.needs_target for planned in plugin.planned.values()):
        plugin.make_ready()
    if not machine.restores:
        if not plugin.boot_failure:
            plugin.tell("-j: one machine runs all tests, because others start from a snapshot")
            job.recorder.changed(workers=1)
        return job.pytest(plugin, ())
    count = min(workers, _groups(plugin.planned))
    kept = Kept(
        snapshot=snapshot,
        findings=machine.findings,
        factor=machine.factor * max(1.0, count / available.cpus()),  # they share the CPUs
        has_waiting_ftracetest=machine.has_waiting_ftracetest,
    )
    setups = [replace(job.setup, kept=kept)] * count
    return _distributed(job, Distributor(setups, planned=plugin.planned, seconds=job.seconds, recorder=job.recorder))


def over_boards(job: Job, boards: Sequence[Board]) -> int:
    """Run the tests in workers that boot one of `boards` each. Returns pytest's exit code.

    A board that can't be booted is left out. What it gives back when the other workers have ended already is run in
    another round with them. When no board is left, the plugin's `boot_failure` says why, and only what needs none is
    run."""
    plugin, left, failures = job.plugin, job.plugin.planned, dict[str, HarnessError]()
    names = [board.name for board in boards]
    while True:
        setups = [replace(job.setup, board=board) for board in boards[: _groups(left)]]
        distributor = Distributor(setups, planned=left, seconds=job.seconds, recorder=job.recorder, share_cpus=False)
        try:
            code = _distributed(job, distributor)
        finally:
            for board in distributor.left_on:
                put_back(board)
        failures |= distributor.left_out
        left, boards = distributor.left_over(), [board for board in boards if board.name not in failures]
        is_over = plugin.stopped_early or plugin.internal_error or code == pytest.ExitCode.INTERRUPTED
        if is_over or not left or not distributor.left_out:
            return code
        if not boards:
            return _without_boards(job, left, [failures[name] for name in names])


def _without_boards(job: Job, left: Mapping[str, Planned], failures: Sequence[HarnessError]) -> int:
    """What is `left` when no board is, because of `failures`: that which needs none is run here."""
    # what one tells of the kernel is told before what others tell of themselves
    job.plugin.boot_failure = min(failures, key=lambda failure: not isinstance(failure, KernelError))
    job.plugin.only = frozenset(test for test, planned in left.items() if not planned.needs_target)
    return job.pytest(job.plugin, ()) if job.plugin.only else pytest.ExitCode.OK


def _groups(planned: Mapping[str, Planned]) -> int:
    return len({each.group for each in planned.values()})


def _distributed(job: Job, distributor: Distributor) -> int:
    with Follower(job.recorder.path, job.plugin.display):
        code = job.pytest(distributor, (*ARGUMENTS, "-n", str(distributor.count)))
    if code != pytest.ExitCode.INTERRUPTED:
        distributor.check()
    plugin = job.plugin
    plugin.stopped_early, plugin.internal_error = distributor.stopped_early, distributor.internal_error
    if distributor.last_loss and distributor.left_over():
        plugin.lost_workers = distributor.last_loss
    return code
