"""Events in, results out: what a run recorded, folded into one verdict for each test.

It works on any prefix of a run's events, so a run that was killed has results too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from harness.model.event import (
    REPEATING,
    AttemptEnded,
    Booted,
    Event,
    Finished,
    Note,
    Planned,
    Repeated,
    RunBegun,
    RunChanged,
    RunEnded,
    Started,
)
from harness.model.record import RunRecord
from harness.model.result import Attempt, BootTime, EndKind, Repeat, Result, RunEnd, RunResults, Verdict
from harness.report.attempts import result_of

KILLED = "the run was killed before this test"
_CUT_OFF = "this attempt ended without a verdict"
_NOTRUN = {
    EndKind.COMPLETE: "the run ended without starting this test",
    EndKind.INTERRUPTED: "the run was interrupted before this test",
    EndKind.MAXFAIL: "the run reached its limit of failures before this test",
}


class _Fold:
    """The state after some events."""

    def __init__(self) -> None:
        self.record = RunRecord()
        self.planned: dict[str, None] = {}  # two ordered sets
        self.seen: dict[str, None] = {}
        self.running: dict[str, Started] = {}
        self.attempts: dict[str, list[Attempt]] = {}
        self.repeats: dict[str, list[Repeat]] = {}
        self.notes: list[str] = []
        self.boots: list[tuple[str, float]] = []
        self.begin: float | None = None
        self.end = 0.0
        self.ended: RunEnd | None = None
        self._last: dict[str, Event] = {}  # by worker

    def add(self, event: Event) -> None:
        """Take one event into account."""
        if self._last.get(event.worker) == event:  # an interrupt hit its writing, and it was written again
            return
        self._last[event.worker] = event
        self._take(event, event.time)

    def _take(self, event: Event, time: float) -> None:
        if self.begin is None or time < self.begin:
            self.begin = time
        self.end = max(self.end, time)
        match event:
            case RunBegun():
                self.record = event.record
            case RunChanged():
                self.record = dataclasses.replace(
                    self.record,
                    isolation=event.isolation or self.record.isolation,
                    workers=event.workers or self.record.workers,
                )
            case RunEnded():
                self.ended = event.end
            case Note():
                self.notes.append(f"{event.test}: {event.text}" if event.test else event.text)
            case _:
                self._take_of_tests(event, time)

    def _take_of_tests(self, event: Event, time: float) -> None:
        match event:
            case Started():
                self.seen.setdefault(event.test)
                if event.test in self.running:  # its process is gone
                    self._is_over(event.test, self._cut_off(event.test, _CUT_OFF, time))
                self.running[event.test] = event
            case Finished():
                self.seen.setdefault(event.result.test)
                self._is_over(event.result.test, event.result)
            case AttemptEnded():
                self.seen.setdefault(event.test)
                self._is_over(event.test, self._timed(event))
            case Repeated():
                self.repeats.setdefault(event.test, []).append(event.repeat)
            case Planned():
                self.planned |= dict.fromkeys(event.tests)
            case Booted():
                self._is_up(event)
            case _:
                pass  # of a newer harness

    def _is_up(self, event: Booted) -> None:
        """The current test of this worker began before its machine was up."""
        if not event.restored and event.seconds > 0 and not event.worker.startswith(REPEATING):
            self.boots.append((event.board, event.seconds))
        if not event.machine:  # of a harness that did not number them
            return
        for test, start in self.running.items():
            if start.worker == event.worker:
                self.running[test] = dataclasses.replace(start, machine=event.machine)

    def _is_over(self, test: str, attempt: Attempt) -> None:
        """Start time, machine and board are those of the attempt's `Started` event, if there is one."""
        start = self.running.pop(test, None)
        fields = dict(vars(attempt))
        fields["board"] = attempt.board or (start and start.board) or self.record.board.name
        if start:
            fields["started"] = start.time
            fields["machine"] = attempt.machine or start.machine
        attempts = self.attempts.get(test)
        if attempts is None:
            self.attempts[test] = attempts = []
        attempts.append(type(attempt)(**fields))  # dataclasses.replace takes three times as long

    def _timed(self, event: AttemptEnded) -> Attempt:
        """The attempt of a worker that died was recorded by another process, which knows less about it."""
        start = self.running.get(event.test)
        if start is None or event.attempt.seconds:
            return event.attempt
        return dataclasses.replace(event.attempt, seconds=max(0.0, event.time - start.time))

    def _cut_off(self, test: str, why: str, end: float) -> Attempt:
        """An attempt that has begun, and whose end is unknown."""
        start = self.running[test].time
        return Attempt(verdict=Verdict.ERROR, reason=why, seconds=max(0.0, end - start), started=start)

    def result(self, test: str) -> Result:
        """The result of a test, however far it came."""
        if test in self.running:
            self._is_over(test, self._cut_off(test, "the run ended while this test was running", self.end))
        attempts = self.attempts.get(test)
        result = result_of(test, attempts) if attempts else self._not_run(test)
        repeats = self.repeats.get(test)
        return dataclasses.replace(result, repeats=tuple(repeats)) if repeats else result

    def _not_run(self, test: str) -> Result:
        return Result(test=test, verdict=Verdict.NOTRUN, reason=self._why_not())

    def _why_not(self) -> str:
        if self.ended is None:
            return KILLED
        reason = _NOTRUN.get(self.ended.kind)
        if reason is None:
            return f"not run: {self.ended}"
        return f"{reason}: {self.ended.reason}" if self.ended.reason else reason


def fold(events: Iterable[Event]) -> RunResults:
    """Every test's result, in planned order; finished tests that were not planned come last."""
    state = _Fold()
    for event in events:
        state.add(event)
    begin = state.begin or 0.0
    return RunResults(
        record=state.record,
        results=tuple(state.result(test) for test in state.planned | state.seen),
        notes=tuple(state.notes),
        started=begin,
        seconds=max(0.0, state.end - begin),
        ended=state.ended,
        boots=tuple(
            BootTime(board=board or state.record.board.name, seconds=seconds) for board, seconds in state.boots
        ),
    )
