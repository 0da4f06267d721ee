"""Several workers side by side, each with a machine of its own: pytest-xdist's one door."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from harness.errors import HarnessError, InfraError
from harness.model.result import Result, Verdict
from harness.run.collecting import Planned
from harness.run.recorder import Recorder
from harness.run.workers.board_worker import Output
from harness.run.workers.schedule import LongestFirst
from harness.run.workers.worker import INPUT, Setup
from harness.target.holding.held import HeldBoard

ARGUMENTS = ("-p", "xdist.plugin", "-p", "harness.run.workers.worker", "--max-worker-restart=20")
_TRIES = 3  # of a test whose worker died
_END_S = 0.2  # for a worker to end by itself when the run is interrupted


class Distributor:
    """The plugin of the run's own process, which runs no test itself."""

    def __init__(
        self,
        setups: Sequence[Setup],
        *,
        planned: Mapping[str, Planned],
        seconds: Callable[[str], float],
        recorder: Recorder,
        share_cpus: bool = True,
    ) -> None:
        self.left_out: dict[str, HarnessError] = {}  # why, by the names of boards whose worker gave up
        self.count = len(setups)
        self._free = deque(setups)
        self._setups: dict[Any, Setup] = {}  # of the workers that have not ended
        self._died_on: dict[str, HeldBoard] = {}  # boards that a worker died with and no other has booted since
        self._planned = planned
        self._recorder = recorder
        self._schedule = LongestFirst(self.count, planned, seconds, share_cpus=share_cpus)
        self._died: Counter[str] = Counter()
        self._lost: list[str] = []  # why workers ended that should not have
        self._began = False

    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker, before it starts, what it has to know: one in place of another gets what that one had."""
        setup = self._free.popleft()
        self._setups[node] = setup
        node.workerinput[INPUT] = setup.packed()

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> LongestFirst:
        """Who runs what."""
        return self._schedule

    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """A worker has started."""
        self._began = True

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended, with `error` where it died."""
        setup = self._setups.pop(node, None)
        if error:
            self._lost.append(str(error))
        if error and setup:
            self._free.appendleft(setup)  # for the worker that xdist starts instead
            self._died_on[setup.board.name] = setup.board
        elif setup:
            self._free.append(setup)
            self._take_back(setup.board, node, Output.of(node.workeroutput))

    def _take_back(self, board: HeldBoard, node: Any, output: Output) -> None:
        """What a worker that has ended by itself says of its board."""
        if output.has_booted:
            self._died_on.pop(board.name, None)
        failure = output.failure
        if failure:
            self.left_out[board.name] = failure
            self._recorder.problem(f"board {board.name} left out: {failure.message}")
            self._schedule.give_up(node)

    @property
    def left_on(self) -> list[HeldBoard]:
        """After the run: the boards that nobody has switched off since their worker died or was ended."""
        ended = {setup.board.name: setup.board for setup in self._setups.values()}
        return list((self._died_on | ended).values())

    @property
    def last_loss(self) -> str:
        """Why a worker that should not have ended did, the last time; empty where none has."""
        return self._lost[-1].strip().rpartition("\n")[2] if self._lost else ""

    def check(self) -> None:
        """After the run: InfraError where no worker ever started."""
        if not self._began:
            raise InfraError("no worker started", details=[line for each in self._lost for line in each.splitlines()])

    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: LongestFirst) -> None:
        """A worker died: the test that it ran has told nothing, if it had not just ended."""
        test = self._planned[crashitem].test
        if test in self._recorder.finished_tests():  # a second run must not replace it
            report.outcome = "rerun"  # type: ignore[assignment]  # no failure of its own
            return
        self._died[crashitem] += 1
        if self._died[crashitem] < _TRIES:
            why = f"its worker died: {self.last_loss}"
            self._recorder.lost(Result(test=test, verdict=Verdict.ERROR, reason=why), why=why)
            report.outcome = "rerun"  # type: ignore[assignment]  # as xdist's own documentation does
            sched.mark_test_pending(crashitem)
            return
        reason = f"its worker died {_TRIES} times while it ran: {self.last_loss}"
        self._recorder.finished(Result(test=test, verdict=Verdict.ERROR, reason=reason))

    def left_over(self) -> dict[str, Planned]:
        """After the run: the tests that have no verdict, by their node ids."""
        finished = self._recorder.finished_tests()
        return {test: planned for test, planned in self._planned.items() if planned.test not in finished}

    def pytest_keyboard_interrupt(self, excinfo: object) -> None:
        """End the workers. What they know is written down, and xdist would give one that runs a test, and so does not
        listen, ten seconds."""
        for node in self._setups:
            node.nodemanager.group.terminate(timeout=_END_S)  # all of them, the first time
