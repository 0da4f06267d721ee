"""Runs tests: gives every test its machine, combines its outcomes, and has it judged and recorded at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from harness import clock, shortage
from harness.model.fault import Fault
from harness.model.known import KnownOutcomes
from harness.model.outcome import Outcome
from harness.model.progress import RunDisplay
from harness.run import judging
from harness.run.collecting import Collection, id_of, needs_target
from harness.run.rig import RIG, Rig
from harness.run.suites.selftests import SelftestItem
from harness.run.supply import Supply
from harness.run.units import Isolation, cpus_for

RERUNS = 5  # repeats of a test whose machine was lost


class _Attempt:
    """The current attempt at a test. `is_lost`: it says nothing about the test, and another attempt follows."""

    def __init__(self) -> None:
        self.phases = judging.Phases()
        self.started = clock.now()
        self.is_lost = False

    def timed(self, outcome: Outcome) -> Outcome:
        """`outcome`, with the attempt's times if it has none of its own."""
        if outcome.started is not None:
            return outcome
        return dataclasses.replace(outcome, started=self.started, seconds=clock.now() - self.started)


class Runner:
    """A pytest plugin: runs the tests of `collection` on a rig, whose machines come from `supply`."""

    def __init__(
        self, rig: Rig, *, collection: Collection, supply: Supply, known: KnownOutcomes, display: RunDisplay
    ) -> None:
        self._rig = rig
        self._collection = collection
        self._supply = supply
        self._known = known
        self._display = display
        self._group = ""  # of the test before
        self._reruns_left = 0
        self._attempt = _Attempt()

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[RIG] = self._rig

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        if session.items:
            self._supply.before_next(session.items[0], session)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        if needs_target(item):
            self._begin(item)
        self._start_attempt(item)
        self._display.started(id_of(item))
        self._reruns_left = RERUNS
        answer = yield
        while self._attempt.is_lost:
            self._run_again(item, nextitem)
        self._finish(item)
        if failure := self._rig.recorder.failure:
            item.session.shouldstop = failure.message
        if nextitem is not None:
            self._supply.before_next(nextitem, item.session)
        return answer

    def _begin(self, item: pytest.Item) -> None:
        """Give a test its target: a fresh one or, if tests share one, that of the test before."""
        test, group = id_of(item), self._collection.plan(item).group
        is_new = group != self._group
        self._group = group
        if is_new or not isinstance(item, SelftestItem):  # a test in the middle of a batch uses the present target
            fresh = is_new and self._rig.isolation is not Isolation.CRASH
            self._rig.machine.begin(test, fresh=fresh, cpus=cpus_for(test))
        self._supply.begin(item)

    def _start_attempt(self, item: pytest.Item) -> None:
        self._attempt = _Attempt()
        if self._rig.hits:
            self._rig.hits.clear()
        self._rig.recorder.started(id_of(item), uses_machine=needs_target(item))

    def _run_again(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """The attempt said nothing about the test: the machine went away, not through a fault of its kernel."""
        self._reruns_left -= 1
        lost = self._attempt.timed(self._attempt.phases.outcome)
        self._supply.give_up_attempt(judging.attempt_of(id_of(item), lost), _log(item, lost))
        item._report_sections.clear()  # of this attempt
        if isinstance(item, SelftestItem):
            item.batch.start_over(item.test)
        self._start_attempt(item)
        runtestprotocol(item, nextitem=nextitem)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        phases = self._attempt.phases
        if call.excinfo:
            if judging.was_interrupted(call.excinfo.value):  # whatever tear-down then made of it on a busy shell
                item.session.shouldstop = "interrupted"
            first = judging.first_of(call.excinfo.value)
            self._failed(item, first, text=report.longreprtext, in_setup=report.when == "setup")
        elif report.when == "call" and isinstance(item, SelftestItem) and item.outcome:
            phases.succeed(item.outcome)
        if hasattr(report, "wasxfail"):
            phases.end_as_marked(str(report.wasxfail), failed=report.skipped)
        if report.when == "call" and not call.excinfo and self._fault_of(item):
            phases.crash()
            report.outcome = "failed"
        if report.outcome != "passed":
            # what --maxfail counts are unexpected failures
            outcome = judging.with_fault(phases.outcome, self._fault_of(item))
            verdict = judging.result_of(id_of(item), outcome, self._known).verdict
            report.outcome = "failed" if judging.is_failure(verdict) and not self._attempt.is_lost else "skipped"
            if report.outcome == "skipped":
                report.longrepr = (str(item.path), 0, phases.outcome.reason)
        return report

    def _failed(self, item: pytest.Item, first: BaseException, *, text: str, in_setup: bool) -> None:
        """A phase has ended with the exception `first`; `text` is pytest's account of it."""
        if short := shortage.of(first):
            self._rig.recorder.fail(short)
        if not self._attempt.phases.is_open:
            return
        log = item.log if isinstance(item, SelftestItem) else text
        outcome = judging.outcome_of(first, in_setup=in_setup)
        self._attempt.phases.fail(dataclasses.replace(outcome, log=log))
        self._attempt.is_lost = self._reruns_left > 0 and self._supply.is_to_run_again(first)

    def _finish(self, item: pytest.Item) -> None:
        if lost := self._rig.machine.log_failure:
            self._rig.recorder.fail(*lost)
        self._supply.before_verdict()
        test, fault = id_of(item), self._fault_of(item)
        if self._rig.hits:
            self._rig.hits.keep(test)
        outcome = judging.with_fault(self._attempt.phases.outcome, fault)
        if outcome.verdict in judging.SPENT or fault:
            self._rig.machine.discard(f"{outcome.verdict} in {test}")
        outcome = self._attempt.timed(outcome)
        result = judging.result_of(test, outcome, self._known)
        self._display.result(self._rig.recorder.finished(result, _log(item, outcome)))

    def _fault_of(self, item: pytest.Item) -> Fault | None:
        """The kernel report that arrived while `item` ran; in a batch the next test may have begun since."""
        if not isinstance(item, SelftestItem):
            return self._rig.machine.fault()
        return self._rig.machine.fault_before(item.outcome.ended) if item.outcome and item.outcome.ended else None

    def pytest_sessionfinish(self) -> None:
        self._rig.machine.close()


def _log(item: pytest.Item, outcome: Outcome) -> str:
    """The log of a test: its output, or what pytest reports and has captured."""
    if isinstance(item, SelftestItem) or not item._report_sections:
        return outcome.log
    return "\n".join([outcome.log, *(f"-- {name} --\n{text}" for _, name, text in item._report_sections)])
