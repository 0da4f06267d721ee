"""events.jsonl: what happened, appended and flushed as it happens, so that a run that is killed can be reported."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

from harness.model.result import Event, EventKind
from harness.report.events import event_to_json

EVENTS = "events.jsonl"  # in the directory of a run


class EventLog:
    """Appends events to a file; every one is with the operating system before `write` returns. Several processes may
    append to one file: each event is one write(2) to a file opened for appending, so their lines do not mix. `always`:
    what every event of this process has among its data."""

    def __init__(self, path: Path, **always: Any) -> None:
        self.path = path
        self._always = always
        self._file = path.open("ab", buffering=0)

    def write(self, kind: EventKind, *, test: str | None = None, **data: Any) -> Event:
        """Write an event down; OSError where that can't be done whole."""
        event = Event(kind=kind, time=time.time(), test=test, data={**self._always, **data})
        line = f"{event_to_json(event)}\n".encode()
        if self._file.write(line) != len(line):  # what a full disk leaves of it ends here, and spoils no other
            self._file.write(b"\n")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        return event

    def note(self, text: str) -> None:
        """Something people should know that no single verdict tells."""
        self.write(EventKind.NOTE, text=text)

    def problem(self, text: str) -> None:
        """The same, and who follows the run is shown it (`follow.py`)."""
        self.write(EventKind.NOTE, text=text, problem=True)

    def close(self) -> None:
        self._file.close()
