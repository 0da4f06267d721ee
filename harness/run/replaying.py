"""Runs one test again and again, each time on a new machine, after the tests that had run before it there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from harness.errors import HarnessError, UserError
from harness.model.names import nearest_first
from harness.model.result import Condition, Result
from harness.report.text import one_line
from harness.run import judging
from harness.run.collecting import Collection, Planned, id_of, needs_target
from harness.run.inprocess import Ended
from harness.run.local import LocalRun
from harness.run.recorder import Recorder
from harness.run.repeating import RepeatRecorder
from harness.run.rig import Rig
from harness.run.runner import RERUNS, Runner
from harness.run.suites.batch import Batch
from harness.run.suites.selftests import SelftestItem
from harness.run.supply import OneMachine
from harness.target.base import Target

_NEAREST = 3  # tests that a message proposes


@dataclass(frozen=True, kw_only=True)
class Hold:
    """How to look at a machine on which a test fails. `prepare`: is called with each machine before the test; `halt`:
    stops it where it is, in whatever thread the first line of a kernel report arrives; `keep`: is called with the
    machine and the reason once the test has its verdict, before its fixtures are torn down; returns when the person has
    finished."""

    keep: Callable[[Target, str], None]
    halt: Callable[[Target], None] | None = None
    prepare: Callable[[Target], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What to run: `test`, each time after `before` on one machine, `times` times. `hold`: end with the first time that
    it fails, and keep that machine."""

    test: str
    before: tuple[str, ...] = ()
    times: int = 1
    hold: Hold | None = None


def replay(local: LocalRun, what: Replay, *, planned: Mapping[str, Planned], run_dir: Path) -> Ended:
    """Do that. The first time is recorded as the run's result, the others as its repetitions. `planned`: all tests that
    there are, by pytest's names. Raises UserError if one of those wanted is not there."""
    names = {each.test: node_id for node_id, each in planned.items()}
    order = [*what.before, what.test]
    for test in order:
        if test not in names:
            near = ", ".join(nearest_first(test, names)[:_NEAREST])
            raise UserError(f"{one_line(test)}: expected a test that this harness has for this kernel, such as {near}")
    local.rig.recorder.planned(order)
    local.display.planned(order * what.times)
    collection = Collection(local.rig, only=frozenset(names[test] for test in order))
    repeats = _Repeats(run_dir, Condition.RESTORED, on_repeat=lambda *_: None)
    repeats.test = what.test
    runner = _Replayer(local, what, collection=collection, repeats=repeats)
    try:
        ended = local.pytest([collection, runner], ())
    finally:
        repeats.close()
    return dataclasses.replace(ended, boot_failure=local.preparation.failure)


class _Repeats(RepeatRecorder):
    """Records the repetitions of `test`, and nothing of what runs before it."""

    test = ""

    def finished(self, result: Result, log: str = "") -> Result:
        return super().finished(result, log) if result.test == self.test else result


class _Replayer(Runner):
    """Runs what was collected in the wanted order, as often as wanted."""

    def __init__(self, local: LocalRun, what: Replay, *, collection: Collection, repeats: _Repeats) -> None:
        supply = OneMachine(local.rig, local.preparation)
        super().__init__(local.rig, collection=collection, supply=supply, known=local.known, display=local.display)
        self._what = what
        self._repeats = repeats
        self._is_held = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(  # type: ignore[override]  # no wrapper: it replaces pytest's own
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool:
        if nextitem is None:
            self._replay(item.session)
        return True

    def _replay(self, session: pytest.Session) -> None:
        order = {test: place for place, test in enumerate((*self._what.before, self._what.test))}
        items = sorted(session.items, key=lambda item: order[id_of(item)])
        for number in range(self._what.times):
            if number:  # the first one has the machine that was prepared, which no test has used
                self._record_to(self._repeats)
                self._rig.machine.discard("a repetition")
            self._group = ""  # of no test before
            begun: set[Batch] = set()
            for item in items:
                self._once(item, begun)
                if self._is_held or self._is_over(session):
                    return

    def _is_over(self, session: pytest.Session) -> bool:
        return bool(self._rig.machine.is_dead or session.shouldstop or self._rig.recorder.failure)

    def _record_to(self, recorder: Recorder) -> None:
        self._rig.machine.record_to(recorder)
        self._rig: Rig = dataclasses.replace(self._rig, recorder=recorder)
        self._supply.rig = self._rig

    def _once(self, item: pytest.Item, begun: set[Batch]) -> None:
        """Run a test. `begun`: the batches that run on this machine."""
        item._report_sections.clear()
        if isinstance(item, SelftestItem):
            item.outcome = None
            if item.batch not in begun:
                item.batch.start_over(item.test)
                begun.add(item.batch)
        self._display.started(id_of(item))
        if needs_target(item):
            self._begin(item)
        self._repeats.condition = Condition.RESTORED if self._rig.machine.restores else Condition.BOOTED
        self._start_attempt(item)
        self._reruns_left = RERUNS
        self._prepare(item)
        runtestprotocol(item, nextitem=None, log=False)
        while self._attempt.is_lost:
            self._run_again(item, None)
        self._finish(item)

    def _prepare(self, item: pytest.Item) -> None:
        hold = self._what.hold
        if hold and hold.prepare and needs_target(item) and id_of(item) == self._what.test:
            with contextlib.suppress(HarnessError):  # no machine: the test's own attempt to get one says why
                hold.prepare(self._rig.machine.target)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield from super().pytest_runtest_makereport(item, call)
        outcome = judging.with_fault(self._attempt.phases.outcome, self._fault_of(item))
        is_failure = outcome.verdict.is_kernel_fault and id_of(item) == self._what.test
        hold = self._what.hold
        if hold and is_failure and not self._is_held and self._rig.machine.is_up:
            self._is_held = True
            target = self._rig.machine.target
            with contextlib.suppress(KeyboardInterrupt):  # how a person says that she has finished
                if hold.halt:
                    hold.halt(target)
                hold.keep(target, outcome.reason)
        return report
