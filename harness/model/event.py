"""The events of a run, one class for each kind of line in events.jsonl (parse/events.py reads and writes them)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.record import RunRecord
from harness.model.result import Attempt, Repeat, Result, RunEnd

REPEATING = "repeat-"  # what the names of workers begin with that repeat failures


@dataclass(frozen=True, kw_only=True)
class Event:
    """The fields of all events; the log that writes an event fills them in.

    `time`: seconds since the epoch. `worker`: the worker that wrote it, empty for the run's own process. `board`: that
    worker's board, if workers have boards of their own."""

    time: float = 0.0
    worker: str = ""
    board: str = ""


@dataclass(frozen=True, kw_only=True)
class RunBegun(Event):
    """The first event."""

    record: RunRecord


@dataclass(frozen=True, kw_only=True)
class RunChanged(Event):
    """The run differs from what was requested; None: this did not change."""

    isolation: str | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The ids of the tests that will run, in order; once per collection."""

    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """An attempt begins. `machine`: see Attempt."""

    test: str
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(Event):
    """An attempt has ended without a verdict on the test, which will run again."""

    test: str
    attempt: Attempt


@dataclass(frozen=True, kw_only=True)
class Repeated(Event):
    """A test that had failed was repeated."""

    test: str
    repeat: Repeat


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """A test has its verdict."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class Booted(Event):
    """`seconds`: until the target answered; `factor`: how much slower than reference hardware it is; `restored`:
    from a snapshot."""

    seconds: float = 0.0
    factor: float = 1.0
    restored: bool = False
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """Something people should know that belongs to no single verdict. `is_problem`: whether it is shown while the run
    goes on."""

    text: str
    test: str = ""
    is_problem: bool = False


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """The last event. A run without it was killed."""

    end: RunEnd
