"""Several workers in parallel, each with a machine of its own: the one door to pytest-xdist."""

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
from harness.run.workers.worker import INPUT, UNWRITTEN, Setup
from harness.target.holding.held import HeldBoard

ARGUMENTS = ("-p", "xdist.plugin", "-p", "harness.run.workers.worker", "--max-worker-restart=20")
_TRIES = 3  # of a test whose worker died
_END_S = 0.2  # seconds for a worker to end by itself when the run is interrupted


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
        self.left_out: dict[str, HarnessError] = {}  # reasons, by the names of the boards whose workers gave up
        self.count = len(setups)
        self._free = deque(setups)
        self._setups: dict[Any, Setup] = {}  # the settings of the workers that have not ended
        self._died_on: dict[str, HeldBoard] = {}  # boards whose worker died and that no other worker has booted since
        self._planned = planned
        self._recorder = recorder
        self._schedule = LongestFirst(self.count, planned, seconds, share_cpus=share_cpus)
        self._died: Counter[str] = Counter()
        self._lost: list[str] = []  # why workers ended unexpectedly
        self._began = False

    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker its settings before it starts; a replacement gets those of its predecessor."""
        setup = self._free.popleft()
        self._setups[node] = setup
        node.workerinput[INPUT] = setup.packed()

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> LongestFirst:
        """The scheduler."""
        return self._schedule

    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """A worker has started."""
        self._began = True

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker has ended, with `error` if it died."""
        setup = self._setups.pop(node, None)
        if left := getattr(node, "workeroutput", {}).get(UNWRITTEN):
            self._recorder.take_over(left)
        if error:
            self._lost.append(str(error))
        if error and setup:
            self._free.appendleft(setup)  # for the replacement that xdist starts
            self._died_on[setup.board.name] = setup.board
        elif setup:
            self._free.append(setup)
            self._take_back(setup.board, node, Output.of(node.workeroutput))

    def _take_back(self, board: HeldBoard, node: Any, output: Output) -> None:
        """Process the report on its board of a worker that ended by itself."""
        if output.has_booted:
            self._died_on.pop(board.name, None)
        failure = output.failure
        if failure:
            self.left_out[board.name] = failure
            self._recorder.problem(f"board {board.name} left out: {failure.message}")
            self._schedule.give_up(node)

    @property
    def left_on(self) -> list[HeldBoard]:
        """After the run: the boards that have not been switched off since their worker died or was ended."""
        ended = {setup.board.name: setup.board for setup in self._setups.values()}
        return list((self._died_on | ended).values())

    @property
    def last_loss(self) -> str:
        """Why the last worker that ended unexpectedly did so; empty if none has."""
        return self._lost[-1].strip().rpartition("\n")[2] if self._lost else ""

    def check(self) -> None:
        """After the run: InfraError if no worker ever started."""
        if not self._began:
            raise InfraError("no worker started", details=[line for each in self._lost for line in each.splitlines()])

    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: LongestFirst) -> None:
        """A worker died. Its test has no verdict, unless the test had just ended."""
        test = self._planned[crashitem].test
        if test in self._recorder.finished_tests():  # a second run must not replace it
            report.outcome = "rerun"  # type: ignore[assignment]  # not counted as a failure
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
        """End the workers. Their results are already recorded, and xdist would wait ten seconds for a worker that is
        running a test and does not listen."""
        for node in self._setups:
            node.nodemanager.group.terminate(timeout=_END_S)  # all of them, the first time
