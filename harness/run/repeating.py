"""Repeats tests that failed, to find out how often they do and on which machines. No verdict changes by it."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from harness.model.comparison import Tally
from harness.model.event import Repeated
from harness.model.known import KnownOutcomes
from harness.model.progress import NoDisplay
from harness.model.result import Attempt, Condition, Repeat, Result
from harness.report.confirming import Standing, since, told
from harness.run.collecting import Collection, id_of
from harness.run.eventlog import EVENTS, EventLog
from harness.run.machine import Machine
from harness.run.preparing import Preparation
from harness.run.recorder import Recorder
from harness.run.rig import Rig
from harness.run.runner import RERUNS, Runner
from harness.run.suites.selftests import SelftestItem
from harness.run.supply import OneMachine
from harness.run.units import Isolation

Run = Callable[[Sequence[object]], object]

_MOST_TESTS = 20  # that are repeated in a run: a kernel that fails everywhere needs no statistics
_BOOTED = 5  # repetitions on machines that have just booted, which take seconds each
_RESTORED_SHARE = 0.7  # of a test's time
_FIELDS = tuple(each.name for each in dataclasses.fields(Attempt))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much repeating may cost. `before`: the passes and failures of a test with earlier kernels, as far as the
    history knows them. `test_s`: seconds for each test; `run_s`: for all of them."""

    before: Callable[[Result], Tally] = field(default=lambda _result: Tally())
    test_s: float = 60.0
    run_s: float = 600.0


class _RepeatRecorder(Recorder):
    """Records the tests of one kind of machine as repetitions."""

    def __init__(self, run_dir: Path, condition: Condition, *, on_repeat: Callable[[str, Repeat], None]) -> None:
        super().__init__(EventLog(run_dir / EVENTS, worker=f"repeat-{condition}"), run_dir=run_dir)
        self._condition = condition
        self._on_repeat = on_repeat

    def started(self, test: str, *, uses_machine: bool = True) -> None:
        self._test = test if uses_machine else ""

    def finished(self, result: Result, log: str = "") -> Result:
        result = self._completed(result, result.test, log)
        repeat = Repeat(condition=self._condition, **{name: getattr(result, name) for name in _FIELDS})
        self._events.write(Repeated(test=result.test, repeat=repeat))
        self._on_repeat(result.test, repeat)
        return result

    def lost(self, attempt: Result, log: str = "", *, why: str, where: str = "") -> None:
        """Nothing: another repetition takes its place."""

    def note(self, text: str) -> None:
        """Nothing: what becomes of machines that run repetitions is of no interest."""

    def problem(self, text: str) -> None:
        """Nothing, likewise."""


class _Repeater(Runner):
    """Runs each collected test until `enough` says so, each time on a machine that no other test has used."""

    def __init__(
        self,
        rig: Rig,
        *,
        collection: Collection,
        preparation: Preparation,
        known: KnownOutcomes,
        enough: Callable[[str], bool],
    ) -> None:
        supply = OneMachine(rig, preparation)
        super().__init__(rig, collection=collection, supply=supply, known=known, display=NoDisplay())
        self._enough = enough

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(  # type: ignore[override]  # no wrapper: it replaces pytest's own
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool:
        while not self._enough(id_of(item)) and not self._rig.machine.is_dead:
            self._once(item)
            if self._rig.recorder.failure:
                break
        return True

    def _once(self, item: pytest.Item) -> None:
        item._report_sections.clear()
        if isinstance(item, SelftestItem):
            item.batch.start_over(item.test)
        self._group = ""  # of no test before: it gets a machine of its own
        self._rig.machine.discard("a repetition")
        self._begin(item)
        self._start_attempt(item)
        self._reruns_left = RERUNS
        runtestprotocol(item, nextitem=None, log=False)
        while self._attempt.is_lost:
            self._run_again(item, None)
        self._finish(item)


def worth_repeating(results: Sequence[Result]) -> list[Result]:
    """Return the unexpected failures, one of each cause first, and not more than make sense."""
    failures = [result for result in results if result.verdict.is_kernel_fault]
    first: dict[object, Result] = {}
    for result in failures:
        first.setdefault(result.fault.signature if result.fault else (result.verdict, result.reason), result)
    chosen = [*first.values(), *(result for result in failures if result not in first.values())]
    return chosen[:_MOST_TESTS]


def repeat(
    failures: Sequence[Result],
    *,
    rig: Rig,
    prepared: Preparation,
    booting: Machine,
    node_ids: Mapping[str, str],
    known: KnownOutcomes,
    run: Run,
    run_dir: Path,
    budget: Budget,
    say: Callable[[str], None],
) -> None:
    """Repeat `failures`, first on machines restored from the snapshot of `rig`'s (`prepared` has saved it), then on
    some that `booting` boots. `node_ids`: pytest's names of the tests; `run`: runs pytest with plugins.

    Records each repetition in `run_dir`, and says what came out."""
    tally = _Tally(failures, budget)
    for condition, machine in ((Condition.RESTORED, rig.machine), (Condition.BOOTED, booting)):
        recorder = _RepeatRecorder(run_dir, condition, on_repeat=tally.add)
        machine.record_to(recorder)
        here = dataclasses.replace(rig, machine=machine, recorder=recorder, isolation=Isolation.TEST)
        preparation = prepared if machine is rig.machine else Preparation(here, say=lambda _problem: None)
        try:
            for failure in failures:
                if tally.is_enough(failure.test, condition):
                    continue
                only = Collection(here, only=frozenset({node_ids[failure.test]}))
                enough = functools.partial(tally.is_enough, condition=condition)
                run([only, _Repeater(here, collection=only, preparation=preparation, known=known, enough=enough)])
        finally:
            machine.close()
            recorder.close()
    for failure in failures:
        say(f"{failure.test}: {told(tally.result(failure.test))}")


class _Tally:
    """What the repetitions said so far, and whether that is enough."""

    def __init__(self, failures: Sequence[Result], budget: Budget) -> None:
        self._results = {failure.test: failure for failure in failures}
        self._before = {failure.test: budget.before(failure) for failure in failures}
        self._budget = budget
        self._end = time.monotonic() + budget.run_s
        self._ends: dict[tuple[str, Condition], float] = {}

    def add(self, test: str, repeat: Repeat) -> None:
        result = self._results[test]
        self._results[test] = dataclasses.replace(result, repeats=(*result.repeats, repeat))

    def result(self, test: str) -> Result:
        """The result with its repetitions."""
        return self._results[test]

    def is_enough(self, test: str, condition: Condition) -> bool:
        now = time.monotonic()
        share = _RESTORED_SHARE if condition is Condition.RESTORED else 1.0 - _RESTORED_SHARE
        end = self._ends.setdefault((test, condition), now + share * self._budget.test_s)
        if now >= min(end, self._end):
            return True
        result = self._results[test]
        if condition is Condition.BOOTED:
            return sum(each.condition is condition for each in result.repeats) >= _BOOTED
        return Standing(before=self._before[test], since=since(result)).is_decided
