"""events in, results out: what a run wrote down, folded into one verdict for each test.

Works on any prefix of a run's events: a run that was killed has results too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness.model.fault import Fault, FaultKind
from harness.model.result import Event, EventKind, Expectation, Result, RunResults, Verdict

KILLED = "the run was killed before this test"
_NOTRUN = {
    "complete": "the run ended without starting this test",
    "interrupted": "the run was interrupted before this test",
    "maxfail": "the run reached its limit of failures before this test",
}


class _Fold:
    """What is known after some events."""

    def __init__(self) -> None:
        self.properties: dict[str, Any] = {}
        self.planned: dict[str, None] = {}  # two ordered sets
        self.seen: dict[str, None] = {}
        self.started: dict[str, float] = {}
        self.running: set[str] = set()
        self.results: dict[str, Result] = {}
        self.notes: list[str] = []
        self.begin: float | None = None
        self.end = 0.0
        self.ended: str | None = None
        self.ended_reason = ""

    def add(self, event: Event) -> None:
        """Take one event into account."""
        self.begin = event.time if self.begin is None else min(self.begin, event.time)
        self.end = max(self.end, event.time)
        match event.kind:
            case EventKind.RUN:
                self.properties |= event.data
            case EventKind.PLANNED:
                planned = event.data.get("tests")
                self.planned |= dict.fromkeys(map(str, planned if isinstance(planned, list | tuple) else ()))
            case EventKind.STARTED if event.test is not None:
                self.seen.setdefault(event.test)
                self.started[event.test] = event.time
                self.running.add(event.test)
            case EventKind.FINISHED if event.test is not None:
                self.seen.setdefault(event.test)
                self.running.discard(event.test)
                self.results[event.test] = result_of(event, started=self.started.get(event.test))
            case EventKind.NOTE:
                text = str(event.data.get("text", ""))
                self.notes.append(f"{event.test}: {text}" if event.test else text)
            case EventKind.ENDED:
                self.ended = str(event.data.get("why", "complete"))
                self.ended_reason = str(event.data.get("reason", ""))
            case _:
                pass  # BOOTED and the like tell a person following the run

    def result(self, test: str) -> Result:
        """The verdict on a test, whatever became of it."""
        if test in self.running:
            before = self.results.get(test)
            again = f" again (before: {before.verdict})" if before else ""
            return Result(
                test=test,
                verdict=Verdict.ERROR,
                reason=f"the run ended while this test was running{again}",
                seconds=max(0.0, self.end - self.started[test]),
                started=self.started[test],
            )
        found = self.results.get(test)
        return found or Result(test=test, verdict=Verdict.NOTRUN, reason=self._why_not())

    def _why_not(self) -> str:
        if self.ended is None:
            return KILLED
        reason = _NOTRUN.get(self.ended, f"not run: {self.ended}")
        return f"{reason}: {self.ended_reason}" if self.ended_reason else reason


def fold(events: Iterable[Event]) -> RunResults:
    """Every test's result, in the order planned; finished tests that nobody planned come last.

    Of a test that ran twice the last run counts. ENDED's data: `why`, and `reason` where there is more to say.
    """
    state = _Fold()
    for event in events:
        state.add(event)
    begin = state.begin or 0.0
    return RunResults(
        properties=state.properties,
        results=tuple(state.result(test) for test in state.planned | state.seen),
        notes=tuple(state.notes),
        started=begin,
        seconds=max(0.0, state.end - begin),
        ended=state.ended,
    )


def result_of(finished: Event, *, started: float | None = None) -> Result:
    """What an event of kind FINISHED says."""
    data = finished.data
    verdict = _verdict(data.get("verdict"))
    reason = str(data.get("reason") or "")
    log = data.get("log")
    return Result(
        test=str(finished.test),
        verdict=verdict or Verdict.ERROR,
        reason=reason if verdict else f"events: unknown verdict {data.get('verdict')!r} {reason}".rstrip(),
        seconds=_seconds(data.get("seconds")),
        started=started,
        log=str(log) if log else None,
        fault=_fault(data.get("fault")),
        expected=_expectation(data.get("expected")),
        actual=_verdict(data.get("actual")),
    )


def _verdict(value: object) -> Verdict | None:
    return Verdict(value) if isinstance(value, str) and value in Verdict.__members__ else None


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return float(value)
    return 0.0


def _fault(value: object) -> Fault | None:
    if not isinstance(value, Mapping):
        return None
    kinds = {kind.value: kind for kind in FaultKind}
    return Fault(
        kind=kinds.get(str(value.get("kind")), FaultKind.BUG),
        title=str(value.get("title", "")),
        lines=tuple(str(line) for line in value.get("lines") or ()),
    )


def _expectation(value: object) -> Expectation | None:
    if not isinstance(value, Mapping):
        return None
    verdicts = (_verdict(verdict) for verdict in value.get("verdicts") or ())
    return Expectation(
        verdicts=tuple(verdict for verdict in verdicts if verdict is not None), reason=str(value.get("reason") or "")
    )
