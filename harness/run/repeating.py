"""Repeats tests that failed, to find out how often they do and on which machines. No verdict changes by it."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from harness import available
from harness.model.bisect import Wanted
from harness.model.comparison import Tally
from harness.model.event import REPEATING, Repeated
from harness.model.known import KnownOutcomes
from harness.model.progress import NoDisplay
from harness.model.result import Attempt, Condition, Repeat, Result
from harness.report.confirming import Standing, since, tally_of, told
from harness.run.collecting import Collection, id_of
from harness.run.eventlog import EVENTS, EventLog
from harness.run.inprocess import Ended
from harness.run.machine import Boot, Machine
from harness.run.preparing import Preparation
from harness.run.recorder import Recorder
from harness.run.rig import Rig
from harness.run.runner import RERUNS, Runner
from harness.run.suites.selftests import SelftestItem
from harness.run.supply import OneMachine
from harness.run.units import Isolation

Run = Callable[[Sequence[object]], Ended]

_MOST_TESTS = 20  # that are repeated in a run: a kernel that fails everywhere needs no statistics
# In which order machines are used, how much of a test's time each kind gets, and for how many repetitions. Evidence
# decides on those that are restored; booting one takes seconds.
_SHARES = {Condition.RESTORED: 0.5, Condition.USED: 0.1, Condition.BOOTED: 0.2, Condition.ONE_CPU: 0.2}
_ISOLATION = {Condition.USED: Isolation.CRASH}  # the others: a machine for each repetition
_MOST = {Condition.USED: 5, Condition.BOOTED: 5, Condition.ONE_CPU: 5}
_FIELDS = tuple(each.name for each in dataclasses.fields(Attempt))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much repeating may cost. `before`: the passes and failures of a test with earlier kernels, as far as the
    history knows them. `one_cpu`: boots a machine with a single CPU; None: the board has no such thing. `test_s`:
    seconds for each test; `run_s`: for all of them. `wanted`: repeat something else than failures."""

    wanted: Wanted | None = None
    one_cpu: Boot | None = None
    before: Callable[[Result], Tally] = field(default=lambda _result: Tally())
    test_s: float = 60.0
    run_s: float = 600.0


class RepeatRecorder(Recorder):
    """Records tests as repetitions. `stage`: what machines they are to run on; `condition`: what the current one runs
    on."""

    def __init__(self, run_dir: Path, stage: Condition, *, on_repeat: Callable[[Condition, str, Repeat], None]) -> None:
        worker = f"{REPEATING}{stage.replace(' ', '-')}"
        super().__init__(EventLog(run_dir / EVENTS, worker=worker), run_dir=run_dir)
        self.stage = self.condition = stage
        self._on_repeat = on_repeat

    def started(self, test: str, *, uses_machine: bool = True) -> None:
        self._test = test if uses_machine else ""

    def finished(self, result: Result, log: str = "") -> Result:
        result = self._completed(result, result.test, log)
        fields = {name: getattr(result, name) for name in _FIELDS}
        repeat = Repeat(condition=self.condition, load=_load(), **fields)
        self._events.write(Repeated(test=result.test, repeat=repeat))
        self._on_repeat(self.stage, result.test, repeat)
        return result

    def lost(self, attempt: Result, log: str = "", *, why: str, where: str = "") -> None:
        """Nothing: another repetition takes its place."""

    def note(self, text: str) -> None:
        """Nothing: what becomes of machines that run repetitions is of no interest."""

    def problem(self, text: str) -> None:
        """Nothing, likewise."""


def _load() -> float:
    """How many processes want each CPU of this host, on average over a minute."""
    return round(os.getloadavg()[0] / available.cpus(), 2)


class _Repeater(Runner):
    """Runs each collected test until `enough` says so, each time on a machine that no other test has used; of those
    that are to be USED, only the first time."""

    def __init__(
        self,
        rig: Rig,
        *,
        collection: Collection,
        preparation: Preparation,
        known: KnownOutcomes,
        recorder: RepeatRecorder,
        enough: Callable[[str], bool],
    ) -> None:
        supply = OneMachine(rig, preparation)
        super().__init__(rig, collection=collection, supply=supply, known=known, display=NoDisplay())
        self._enough = enough
        self._recorder = recorder

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(  # type: ignore[override]  # no wrapper: it replaces pytest's own
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool:
        session, machine = item.session, self._rig.machine
        while not self._enough(id_of(item)) and not machine.is_dead and not session.shouldstop:
            self._once(item)
            if self._rig.recorder.failure:
                break
        return True

    def _once(self, item: pytest.Item) -> None:
        item._report_sections.clear()
        if isinstance(item, SelftestItem):
            item.batch.start_over(item.test)
        self._group = ""  # of no test before: it gets a machine of its own
        self._recorder.condition = self._chosen_machine()
        self._begin(item)
        self._start_attempt(item)
        self._reruns_left = RERUNS
        runtestprotocol(item, nextitem=None, log=False)
        while self._attempt.is_lost:
            self._run_again(item, None)
            if self._recorder.stage is Condition.USED:
                self._recorder.condition = Condition.RESTORED  # what it had used is gone
        self._finish(item)

    def pytest_sessionfinish(self) -> None:
        """Nothing: another repetition may use the machine."""

    def _chosen_machine(self) -> Condition:
        """Keep the machine or give it up, and return what the next repetition runs on."""
        machine, stage = self._rig.machine, self._recorder.stage
        if stage is not Condition.USED:
            machine.discard("a repetition")
            return stage
        machine.leave_faults_behind()
        return Condition.USED if machine.is_up else Condition.RESTORED


def worth_repeating(results: Sequence[Result], wanted: Wanted | None = None) -> list[Result]:
    """Return the unexpected failures, one of each cause first, and not more than make sense; or what is `wanted`."""
    if wanted:
        return [result for result in results if result.test == wanted.test]
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
    with_one_cpu: Machine | None,
    node_ids: Mapping[str, str],
    known: KnownOutcomes,
    run: Run,
    run_dir: Path,
    budget: Budget,
    say: Callable[[str], None],
) -> None:
    """Repeat `failures`, first on machines restored from the snapshot of `rig`'s (`prepared` has saved it), then more
    than once on the last of them, then on some that `booting` and `with_one_cpu` boot. `node_ids`: pytest's names of
    the tests; `run`: runs pytest with plugins.

    Records each repetition in `run_dir`, and says what came out. Raises KeyboardInterrupt if a repetition was
    interrupted."""
    tally = _Tally(failures, budget)
    stages = [(rig.machine, (Condition.RESTORED, Condition.USED)), (booting, (Condition.BOOTED,))]
    if with_one_cpu:
        stages.append((with_one_cpu, (Condition.ONE_CPU,)))
    for machine, conditions in stages:
        recorder = RepeatRecorder(run_dir, conditions[0], on_repeat=tally.add)
        machine.record_to(recorder)
        here = dataclasses.replace(rig, machine=machine, recorder=recorder, isolation=Isolation.TEST)
        preparation = prepared if machine is rig.machine else Preparation(here, say=lambda _problem: None)
        repeater = functools.partial(_Repeater, preparation=preparation, known=known)
        try:
            for failure in failures:
                machine.discard("the repetitions of another test")
                for stage in conditions:
                    if not tally.is_due(failure.test, stage):
                        continue
                    recorder.stage = stage
                    isolated = dataclasses.replace(here, isolation=_ISOLATION.get(stage, Isolation.TEST))
                    only = Collection(isolated, only=frozenset({node_ids[failure.test]}))
                    enough = functools.partial(tally.is_enough, stage=stage)
                    ended = run([only, repeater(isolated, collection=only, recorder=recorder, enough=enough)])
                    if ended.code == pytest.ExitCode.INTERRUPTED:
                        raise KeyboardInterrupt
        finally:
            machine.close()
            recorder.close()
    for failure in failures if not budget.wanted else ():
        say(f"{failure.test}: {told(tally.result(failure.test))}")


class _Tally:
    """What the repetitions said so far, and whether that is enough."""

    def __init__(self, failures: Sequence[Result], budget: Budget) -> None:
        self._results = {failure.test: failure for failure in failures}
        self._before = {failure.test: budget.before(failure) for failure in failures}
        self._budget = budget
        self._end = time.monotonic() + budget.run_s
        self._ends: dict[tuple[str, Condition], float] = {}
        self._counts: Counter[tuple[str, Condition]] = Counter()

    def add(self, stage: Condition, test: str, repeat: Repeat) -> None:
        """Take a repetition into account."""
        self._counts[test, stage] += 1
        result = self._results[test]
        self._results[test] = dataclasses.replace(result, repeats=(*result.repeats, repeat))

    def result(self, test: str) -> Result:
        """The result with its repetitions."""
        return self._results[test]

    def is_due(self, test: str, stage: Condition) -> bool:
        """Whether to begin with repetitions of a test on the machines of a stage."""
        if wanted := self._budget.wanted:
            return stage is Condition.RESTORED and not wanted.enough(self._results[test])
        return time.monotonic() < self._end and not self._is_answered(test, stage)

    def is_enough(self, test: str, stage: Condition) -> bool:
        """Whether a test was repeated often or long enough on the machines of a stage. Its time begins with the first
        call, when pytest has collected the test: on a busy host that alone may take longer."""
        if wanted := self._budget.wanted:
            return wanted.enough(self._results[test])
        now = time.monotonic()
        end = self._ends.setdefault((test, stage), now + _SHARES[stage] * self._budget.test_s)
        return now >= min(end, self._end) or self._is_answered(test, stage)

    def _is_answered(self, test: str, stage: Condition) -> bool:
        result = self._results[test]
        if stage is Condition.RESTORED:
            return Standing(before=self._before[test], since=since(result)).is_decided
        return self._counts[test, stage] >= _MOST[stage] or not _is_telling(result, stage)


def _is_telling(result: Result, stage: Condition) -> bool:
    """Whether repetitions of a kind may show a difference: on a used machine if the test passes on others, with one CPU
    if it fails with more."""
    repeats = tally_of(each for each in result.repeats if each.condition.is_usual)
    if stage is Condition.USED:
        return repeats.passes > 0
    return stage is not Condition.ONE_CPU or repeats.failures > 0
