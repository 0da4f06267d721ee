"""events.jsonl: every event is appended and flushed as it happens, so that a killed run can be reported."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from harness.model.event import Event
from harness.parse.events import event_to_json

EVENTS = "events.jsonl"  # in the directory of a run


class EventLog:
    """Appends events to a file; the operating system has every event before `write` returns. Several processes may
    append to one file: each event is one write(2) to a file opened for appending, so their lines do not mix. `worker`,
    `board`: see Event."""

    def __init__(self, path: Path, *, worker: str = "", board: str = "") -> None:
        self.path = path
        self.worker = worker
        self.board = board
        self._file = path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Write an event with the current time; OSError if it can't be written completely."""
        event = type(event)(**{**vars(event), "time": time.time(), "worker": self.worker, "board": self.board})
        line = f"{event_to_json(event)}\n".encode()
        if self._file.write(line) != len(line):  # on a full disk: end the partial line, so that it damages no other
            self._file.write(b"\n")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        self._file.close()
