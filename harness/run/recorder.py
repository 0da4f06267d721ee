"""Writes down a run while it happens: its events, and a log file for each test. Everything that is known of a run later
was written here."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.model.result import EventKind, Result
from harness.report.events import parse_events
from harness.run.eventlog import EVENTS, EventLog

_LOGS = "logs"  # below the run directory
_LONGEST_NAME = 200  # characters of a log file's name, without its extension


class Recorder:
    """Writes events to `events` and log files below `run_dir`, where the documents find them by the names in the
    events. Several processes may record one run, each with a recorder of its own."""

    def __init__(self, events: EventLog, *, run_dir: Path | None) -> None:
        self._events = events
        self._run_dir = run_dir

    @staticmethod
    def of(run_dir: Path, *, board: str = "") -> Recorder:
        """A recorder for the run in `run_dir`. `board`: where several are used, the one that this process has."""
        return Recorder(EventLog(run_dir / EVENTS, **({"board": board} if board else {})), run_dir=run_dir)

    @staticmethod
    def nowhere() -> Recorder:
        """A recorder that keeps nothing, for machines that are used outside a run."""
        return Recorder(EventLog(Path(os.devnull)), run_dir=None)

    @property
    def path(self) -> Path:
        """The file of events, which other processes append to as well."""
        return self._events.path

    # -- the run --------------------------------------------------------------------------------------------------

    def began(self, properties: dict[str, Any]) -> None:
        """The run begins: what is tested, where, and how."""
        self._events.write(EventKind.RUN, **properties)

    def changed(self, **properties: Any) -> None:
        """Some of the properties that the run began with have become other ones."""
        self._events.write(EventKind.RUN, **properties)

    def planned(self, tests: Iterable[str]) -> None:
        """These tests are going to run, in this order."""
        self._events.write(EventKind.PLANNED, tests=list(tests))

    def booted(self, *, seconds: float, factor: float, restored: bool) -> None:
        """A machine is up, after `seconds`; it is slower than reference hardware by `factor`."""
        self._events.write(EventKind.BOOTED, seconds=round(seconds, 3), factor=round(factor, 1), restored=restored)

    def ended(self, why: str) -> None:
        """The run is over; nothing follows."""
        self._events.write(EventKind.ENDED, why=why)

    def close(self) -> None:
        self._events.close()

    # -- its tests: each attempt is one `started`, then one `finished` or one `lost` ----------------------------------

    def started(self, test: str) -> None:
        """An attempt at a test begins."""
        self._events.write(EventKind.STARTED, test=test)

    def finished(self, result: Result, log: str = "") -> Result:
        """An attempt is over and `result` is the test's; `log`: what it printed. Returns the result with the name of
        its log file."""
        result = dataclasses.replace(result, log=self._write_log(result.test, log))
        fault, known = result.fault, result.expected
        self._events.write(
            EventKind.FINISHED,
            test=result.test,
            verdict=str(result.verdict),
            actual=str(result.actual) if result.actual else None,
            reason=result.reason,
            started=result.started,
            seconds=result.seconds,
            log=result.log,
            fault={"kind": str(fault.kind), "title": fault.title, "lines": list(fault.lines)} if fault else None,
            expected={"verdicts": [str(v) for v in known.verdicts], "reason": known.reason} if known else None,
        )
        return result

    def lost(self, attempt: Result, log: str = "", *, why: str, where: str = "") -> None:
        """An attempt is over without a verdict on the test, which is run again, `where` it is not here: its machine or
        its worker went away, or its board could not be booted. `attempt` and `log`: as far as they are known."""
        self._events.note(f"{attempt.test}: run again{where and f' {where}'}, because {why}")

    def finished_tests(self) -> set[str]:
        """The tests that have a result, whichever process wrote it."""
        with self.path.open(encoding="utf-8", errors="replace") as lines:
            return {str(event.test) for event in parse_events(lines) if event.kind is EventKind.FINISHED}

    def _write_log(self, test: str, text: str) -> str | None:
        if not self._run_dir or not text.strip():
            return None
        # the name comes from our own ids, never from the target
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", test)[-_LONGEST_NAME:].strip("_") + ".log"
        path = self._run_dir / _LOGS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
        return f"{_LOGS}/{name}"

    # -- what people should know ----------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Something that no single verdict tells."""
        self._events.note(text)

    def problem(self, text: str) -> None:
        """The same, and who follows the run is shown it at once."""
        self._events.problem(text)
