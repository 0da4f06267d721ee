"""Distributes a run's tests over workers, with machines restored from one snapshot or with equal boards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import available
from harness.errors import HarnessError, KernelError
from harness.run.collecting import Planned
from harness.run.inprocess import Ended
from harness.run.local import LocalRun
from harness.run.workers.distributor import ARGUMENTS, Distributor
from harness.run.workers.follow import Follower
from harness.run.workers.worker import Kept, Setup
from harness.target.holding.guard import put_back
from harness.target.holding.held import HeldBoard


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is distributed. `local`: runs here what no worker can; `planned`: the tests, which have been announced, by
    their pytest node ids; `setup`: a worker's settings, except for what it starts from; `seconds`: the expected
    duration of a test."""

    local: LocalRun
    planned: Mapping[str, Planned]
    setup: Setup
    seconds: Callable[[str], float]


def over_restored(job: Job, snapshot: Path, workers: int) -> Ended:
    """Prepare a target here, then run the tests in up to `workers` workers that start from its snapshot. Without such a
    target, run what can be run here."""
    local, machine = job.local, job.local.rig.machine
    if any(planned.needs_target for planned in job.planned.values()):
        local.preparation.prepare()
    if not machine.restores:
        if not local.preparation.failure:
            local.say("-j: one machine runs all tests, because further machines need a snapshot")
            local.rig.recorder.changed(workers=1)
        return local.run(is_announced=True)
    count = min(workers, _groups(job.planned))
    kept = Kept(
        snapshot=snapshot,
        findings=machine.findings,
        factor=machine.factor * max(1.0, count / available.cpus()),  # the workers share the CPUs
        has_waiting_ftracetest=machine.has_waiting_ftracetest,
    )
    setups = [dataclasses.replace(job.setup, kept=kept)] * count
    recorder = local.rig.recorder
    return _distributed(job, Distributor(setups, planned=job.planned, seconds=job.seconds, recorder=recorder))


def over_boards(job: Job, boards: Sequence[HeldBoard]) -> Ended:
    """Run the tests in workers, each of which boots one of `boards`.

    A board that can't be booted is left out. If the other workers have already ended by then, another round runs the
    tests it gives back. When no board is left, `boot_failure` says why, and only tests that need no board run."""
    left, failures, recorder = job.planned, dict[str, HarnessError](), job.local.rig.recorder
    names = [board.name for board in boards]
    while True:
        setups = [dataclasses.replace(job.setup, board=board) for board in boards[: _groups(left)]]
        distributor = Distributor(setups, planned=left, seconds=job.seconds, recorder=recorder, share_cpus=False)
        try:
            ended = _distributed(job, distributor)
        finally:
            for board in distributor.left_on:
                put_back(board)
        failures |= distributor.left_out
        left, boards = distributor.left_over(), [board for board in boards if board.name not in failures]
        is_over = ended.stopped_early or ended.internal_error or ended.code == pytest.ExitCode.INTERRUPTED
        if is_over or not left or not distributor.left_out:
            return ended
        if not boards:
            return _without_boards(job, left, [failures[name] for name in names])


def _without_boards(job: Job, left: Mapping[str, Planned], failures: Sequence[HarnessError]) -> Ended:
    """Run here those of the tests `left` that need no board; there is none any more, because of `failures`."""
    only = frozenset(test for test, planned in left.items() if not planned.needs_target)
    ended = job.local.run(only=only, is_announced=True) if only else Ended(code=pytest.ExitCode.OK)
    # a failure of the kernel is reported rather than failures of boards
    failure = min(failures, key=lambda failure: not isinstance(failure, KernelError))
    return dataclasses.replace(ended, boot_failure=failure)


def _groups(planned: Mapping[str, Planned]) -> int:
    return len({each.group for each in planned.values()})


def _distributed(job: Job, distributor: Distributor) -> Ended:
    with Follower(job.local.rig.recorder.path, job.local.display):
        ended = job.local.pytest([distributor], (*ARGUMENTS, "-n", str(distributor.count)))
    if ended.code != pytest.ExitCode.INTERRUPTED:
        distributor.check()
    if distributor.last_loss and distributor.left_over():
        return dataclasses.replace(ended, lost_workers=distributor.last_loss)
    return ended
