"""Records a run while it happens: its events, and a log file for each attempt at a test. Everything that is known about
a run later was recorded here."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from harness import shortage
from harness.errors import InfraError
from harness.model.event import (
    AttemptEnded,
    Booted,
    Event,
    Finished,
    Note,
    Planned,
    RunBegun,
    RunChanged,
    RunEnded,
    Started,
)
from harness.model.names import as_name
from harness.model.record import RunRecord
from harness.model.result import Attempt, Result, RunEnd
from harness.parse.events import event_from_json, event_to_json, parse_events
from harness.run.eventlog import EVENTS, EventLog, event_lines

_LOGS = "logs"  # below the run directory
_LONGEST_NAME = 200  # characters of a log file's name, without its extension
_Any = TypeVar("_Any", bound=Attempt)


class Recorder:
    """Writes events to `events` and log files below `run_dir`, where the documents find them by the names in the
    events. Several processes may record one run, each with a recorder of its own.

    It numbers the machines of its process, so that every attempt says on which one it ran.

    What can't be written is kept in memory, for the documents: the `unwritten` events, and `unwritten_logs` by their
    names. `failure` is the first reason, with which the run has to end; None if there is none."""

    def __init__(self, events: EventLog, *, run_dir: Path | None) -> None:
        self._events = events
        self._run_dir = run_dir
        self._machines = 0
        self._machine = ""  # the current one, or the last
        self._is_gone = False
        self._test = ""  # the last one started here that uses a machine
        self._failure: InfraError | None = None
        self.unwritten_logs: dict[str, str] = {}

    @staticmethod
    def of(run_dir: Path, *, worker: str = "", board: str = "") -> Recorder:
        """A recorder for the run in `run_dir`. `worker`: this process, if it is a worker; `board`: this process's
        board, if the run uses several."""
        return Recorder(EventLog(run_dir / EVENTS, worker=worker, board=board), run_dir=run_dir)

    @staticmethod
    def nowhere() -> Recorder:
        """A recorder that discards everything, for machines that are used outside a run."""
        return Recorder(EventLog(Path(os.devnull)), run_dir=None)

    @property
    def path(self) -> Path:
        """The file of events, to which other processes append as well."""
        return self._events.path

    # -- the run --------------------------------------------------------------------------------------------------

    def began(self, record: RunRecord) -> None:
        """The run begins; `record` says what is tested, where, and how."""
        self._events.write(RunBegun(record=record))

    def changed(self, *, isolation: str | None = None, workers: int | None = None) -> None:
        """Some properties of the run have changed since it began."""
        self._events.write(RunChanged(isolation=isolation, workers=workers))

    def planned(self, tests: Iterable[str]) -> None:
        """These tests will run, in this order."""
        self._events.write(Planned(tests=tuple(tests)))

    def booted(self, *, seconds: float, factor: float, restored: bool) -> None:
        """A machine is up, after `seconds`; it is slower than reference hardware by `factor`."""
        self._machines += 1
        worker = f"{self._events.worker}/" if self._events.worker else ""
        self._machine = f"{worker}{'restored' if restored else 'boot'}-{self._machines}"
        self._is_gone = False
        self._events.write(
            Booted(seconds=round(seconds, 3), factor=round(factor, 1), restored=restored, machine=self._machine)
        )

    def gone(self) -> None:
        """The machine is no longer used. Tests that ran on it may still have to be recorded."""
        self._is_gone = True

    def ended(self, end: RunEnd) -> None:
        """The run is over; nothing follows."""
        self._events.write(RunEnded(end=end))

    def close(self) -> None:
        self._events.close()

    # -- what could not be written --------------------------------------------------------------------------------

    @property
    def failure(self) -> InfraError | None:
        """Why the run can't go on; None if it can."""
        if self._failure is None and self._events.failure:
            self.fail(self._events.failure, self.path)
        return self._failure

    def fail(self, error: Exception, where: Path | None = None) -> None:
        """The run can't go on because of `error`, which is about `where`."""
        known = shortage.of(error, where=where)
        self._failure = self._failure or known or InfraError(f"{where}: can't be written: {error}")

    @property
    def unwritten(self) -> list[Event]:
        """The events that are only in memory."""
        return list(self._events.unwritten)

    def left_over(self) -> dict[str, Any]:
        """What is only in this process's memory, as plain data for `take_over` in another one."""
        return {
            "events": [event_to_json(event) for event in self.unwritten],
            "logs": self.unwritten_logs,
            "failure": self.failure.message if self.failure else "",
        }

    def take_over(self, left: Mapping[str, Any]) -> None:
        """Record what another process could not write."""
        if left["failure"]:
            self._failure = self._failure or shortage.Shortage(left["failure"])
        for name, text in left["logs"].items():
            self.unwritten_logs[name] = text
        for line in left["events"]:
            event = event_from_json(line)
            if event:
                self._events.add(event)

    def try_again(self) -> None:
        """Write the logs that could not be written before, if that is possible now."""
        for name, text in list(self.unwritten_logs.items()):
            with contextlib.suppress(FileExistsError):  # another process's log has got this name; this one has none
                if self._run_dir and self._is_written(self._run_dir / name, text):
                    del self.unwritten_logs[name]

    # -- its tests: each attempt is one `started`, then one `finished` or one `lost` ----------------------------------

    def started(self, test: str, *, uses_machine: bool = True) -> None:
        """An attempt at a test begins."""
        if self._is_gone:
            self._machine, self._is_gone = "", False
        self._test = test if uses_machine else ""
        self._events.write(Started(test=test, machine=self._machine if uses_machine else ""))

    def finished(self, result: Result, log: str = "") -> Result:
        """An attempt is over, and `result` is the test's result; `log`: its output. Returns the result with the name of
        its log file and its machine."""
        result = self._completed(result, result.test, log)
        self._events.write(Finished(result=result))
        return result

    def lost(self, attempt: Result, log: str = "", *, why: str, where: str = "") -> None:
        """An attempt is over without a verdict on the test: its machine or its worker went away, or its board could not
        be booted. The test runs again; `where` says where, if not here. `attempt` and `log`: as far as they are
        known."""
        self._events.write(AttemptEnded(test=attempt.test, attempt=self._completed(attempt, attempt.test, log)))
        self.note(f"{attempt.test}: run again{where and f' {where}'}, because {why}")

    def finished_tests(self) -> set[str]:
        """The tests that have a result, whichever process wrote it."""
        events = [*parse_events(event_lines(self.path)), *self.unwritten]
        return {event.result.test for event in events if isinstance(event, Finished)}

    def _completed(self, attempt: _Any, test: str, log: str) -> _Any:
        machine = attempt.machine or (self._machine if test == self._test else "")  # otherwise another process ran it
        return dataclasses.replace(attempt, log=self._write_log(test, log), machine=machine)

    def _write_log(self, test: str, text: str) -> str | None:
        if not self._run_dir or not text.strip():
            return None
        # the name is made from our own ids, never from the target's text
        stem = as_name(test, longest=_LONGEST_NAME)
        for number in itertools.count(1):
            name = f"{_LOGS}/{stem}{f'.{number}' if number > 1 else ''}.log"
            if name in self.unwritten_logs:
                continue
            try:  # another attempt, possibly another worker's, may have this name
                if not self._is_written(self._run_dir / name, text):
                    self.unwritten_logs[name] = text
            except FileExistsError:
                continue
            return name
        raise AssertionError("unreachable")

    def _is_written(self, path: Path, text: str) -> bool:
        """Write the new file `path`, whole or not at all. Raises FileExistsError."""
        is_ours = False
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("x", encoding="utf-8", errors="replace") as file:
                is_ours = True
                file.write(text)
        except FileExistsError:
            raise
        except OSError as error:
            self.fail(error, path)
            if is_ours:
                path.unlink(missing_ok=True)
            return False
        return True

    # -- what people should know ----------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Record something that belongs to no single verdict."""
        self._events.write(Note(text=text))

    def problem(self, text: str) -> None:
        """The same, but it is also shown while the run goes on."""
        self._events.write(Note(text=text, is_problem=True))
