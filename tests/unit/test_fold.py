"""From events to one verdict for each test, whatever became of the run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.model.fault import Fault, FaultKind
from harness.model.result import Event, EventKind, Expectation, Result, Verdict
from harness.report.fold import KILLED, fold


class Log:
    """Writes events a second apart."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: EventKind, test: str | None = None, **data: Any) -> Log:
        self.events.append(Event(kind=kind, time=100.0 + len(self.events), test=test, data=data))
        return self

    def ran(self, test: str, verdict: str = "PASS", **data: Any) -> Log:
        return self.add(EventKind.STARTED, test).add(EventKind.FINISHED, test, verdict=verdict, **data)


def planned(*tests: str) -> Log:
    return Log().add(EventKind.RUN, kernel="7.3.4").add(EventKind.PLANNED, tests=list(tests))


def by_test(log: Log) -> dict[str, Result]:
    return {result.test: result for result in fold(log.events).results}


def test_a_whole_run() -> None:
    log = planned("a", "b").ran("b", "FAIL", reason="no", seconds=2.5, log="logs/b").ran("a")
    log.add(EventKind.NOTE, text="rebooted").add(EventKind.NOTE, "a", text="left a kprobe behind")
    log.add(EventKind.BOOTED, seconds=2.0).add(EventKind.ENDED, why="complete")
    results = fold(log.events)
    assert [result.test for result in results.results] == ["a", "b"]
    assert results.results[1] == Result(
        test="b", verdict=Verdict.FAIL, reason="no", seconds=2.5, started=102.0, log="logs/b"
    )
    assert results.properties == {"kernel": "7.3.4"}
    assert results.notes == ("rebooted", "a: left a kprobe behind")
    assert (results.started, results.seconds, results.ended) == (100.0, 9.0, "complete")
    assert results.exit_code == 1


def test_fault_expectation_and_actual() -> None:
    fault = {"kind": "panic", "title": "panic: x in y", "lines": ["one", "two"]}
    log = planned("a").ran(
        "a", "XFAIL", fault=fault, expected={"verdicts": ["CRASH"], "reason": "known"}, actual="CRASH"
    )
    result = by_test(log)["a"]
    assert result.fault == Fault(kind=FaultKind.PANIC, title="panic: x in y", lines=("one", "two"))
    assert result.expected == Expectation(verdicts=(Verdict.CRASH,), reason="known")
    assert result.actual is Verdict.CRASH


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"why": "interrupted"}, "the run was interrupted before this test"),
        ({"why": "maxfail"}, "the run reached its limit of failures before this test"),
        ({"why": "target could not be booted"}, "not run: target could not be booted"),
        ({"why": "interrupted", "reason": "SIGTERM"}, "the run was interrupted before this test: SIGTERM"),
        ({"why": "complete"}, "the run ended without starting this test"),
        (None, KILLED),
    ],
)
def test_planned_but_not_started(ended: dict[str, str] | None, reason: str) -> None:
    log = planned("a", "b").ran("a")
    if ended is not None:
        log.add(EventKind.ENDED, **ended)
    result = by_test(log)["b"]
    assert (result.verdict, result.reason) == (Verdict.NOTRUN, reason)
    assert fold(log.events).exit_code == 3


def test_started_but_not_finished() -> None:
    log = planned("a", "b").add(EventKind.STARTED, "a").add(EventKind.NOTE, text="tick")
    result = by_test(log)["a"]
    assert (result.verdict, result.reason) == (Verdict.ERROR, "the run ended while this test was running")
    assert (result.started, result.seconds) == (102.0, 1.0)
    assert fold(log.events).ended is None


def test_the_last_of_two_runs_counts() -> None:
    log = planned("a", "b").ran("a", "CRASH").ran("b").ran("a", "PASS")
    assert [(result.test, result.verdict) for result in fold(log.events).results] == [("a", "PASS"), ("b", "PASS")]
    again = log.add(EventKind.STARTED, "b")
    assert by_test(again)["b"].reason == "the run ended while this test was running again (before: PASS)"


def test_finished_but_not_planned_comes_last() -> None:
    log = Log().ran("new").add(EventKind.PLANNED, tests=["a"]).ran("a")
    assert [result.test for result in fold(log.events).results] == ["a", "new"]
    assert [result.test for result in fold(planned("a").ran("new").ran("a").events).results] == ["a", "new"]


def test_every_prefix_of_a_run_folds() -> None:
    log = planned("a", "b", "c").ran("a").ran("b", "CRASH").ran("c").add(EventKind.ENDED, why="complete")
    for length in range(2, len(log.events) + 1):
        results = fold(log.events[:length])
        assert [result.test for result in results.results] == ["a", "b", "c"]
        assert results.exit_code != 0
    assert fold([]).results == ()
    assert fold([]).exit_code == 3


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"verdict": "SPLENDID"},
        {"verdict": 5},
        {"verdict": None, "seconds": "long", "fault": "yes", "expected": [], "log": "", "actual": "maybe"},
    ],
)
def test_odd_data_is_our_error(data: dict[str, Any]) -> None:
    result = by_test(planned("a").add(EventKind.STARTED, "a").add(EventKind.FINISHED, "a", **data))["a"]
    assert result.verdict is Verdict.ERROR
    assert "unknown verdict" in result.reason
    assert (result.seconds, result.fault, result.expected, result.log, result.actual) == (0.0, None, None, None, None)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, None])
def test_odd_times_are_none(seconds: float | None) -> None:
    assert by_test(planned("a").ran("a", seconds=seconds))["a"].seconds == 0.0


def test_odd_faults_and_plans() -> None:
    log = planned("a").ran("a", "CRASH", fault={"kind": "unheard of", "lines": None})
    log.events.append(dataclasses.replace(log.events[1], data={"tests": 5}))
    assert by_test(log)["a"].fault == Fault(kind=FaultKind.BUG, title="", lines=())
