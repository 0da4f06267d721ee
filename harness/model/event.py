"""The events of a run, one class for each kind of line in events.jsonl (parse/events.py reads and writes them)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.record import RunRecord
from harness.model.result import Attempt, Result, RunEnd


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all of them have; the log that writes an event fills it in.

    `time`: seconds since the epoch. `worker`: the worker that wrote it, empty for the run's own process. `board`: that
    worker's board, where workers have boards of their own."""

    time: float = 0.0
    worker: str = ""
    board: str = ""


@dataclass(frozen=True, kw_only=True)
class RunBegun(Event):
    """First."""

    record: RunRecord


@dataclass(frozen=True, kw_only=True)
class RunChanged(Event):
    """The run came to be another one than was asked for; None: as it was."""

    isolation: str | None = None
    workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    """The ids of the tests that are to run, in order; once for each collection."""

    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """An attempt begins. `machine`: see Attempt."""

    test: str
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class AttemptEnded(Event):
    """An attempt is over that decides nothing: the test is going to run again."""

    test: str
    attempt: Attempt


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
    """Something people should know that no single verdict tells. `is_problem`: who follows the run is shown it."""

    text: str
    test: str = ""
    is_problem: bool = False


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """Last. A run without it was killed."""

    end: RunEnd
