"""events.jsonl: every event is appended and flushed as it happens, so that a killed run can be reported."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from harness import clock
from harness.limits import EVENT_BYTES
from harness.model.event import AttemptEnded, Event, Finished, RunBegun, RunEnded
from harness.parse.events import event_to_json

EVENTS = "events.jsonl"  # in the directory of a run
# What a power cut must not take away; other events are on the disk with the next of these. docs/benchmarks.md has the
# cost.
_SYNCED = (RunBegun, Finished, AttemptEnded, RunEnded)


def event_lines(path: Path) -> Iterator[str]:
    """The lines of an events.jsonl. One above the limit comes in pieces, which are no events."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from iter(functools.partial(file.readline, EVENT_BYTES.value + 1), "")


class EventLog:
    """Appends events to a file; the operating system has every event before `write` returns. Several processes may
    append to one file: each event is one write(2) to a file opened for appending, so their lines do not mix. `worker`,
    `board`: see Event.

    Events that could not be written are `unwritten`, in order; each later `write` tries again. `failure`: the last
    error."""

    def __init__(self, path: Path, *, worker: str = "", board: str = "") -> None:
        self.path = path
        self.worker = worker
        self.board = board
        self.unwritten: list[Event] = []
        self.failure: OSError | None = None
        self._is_torn = False  # the last write may have left a part of a line
        self._file = path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Write an event with the current time."""
        self.add(type(event)(**{**vars(event), "time": clock.now(), "worker": self.worker, "board": self.board}))

    def add(self, event: Event) -> None:
        """Write an event as it is, another process's for instance."""
        self.unwritten.append(event)
        try:
            while self.unwritten:
                self._append(f"{event_to_json(self.unwritten[0])}\n".encode())
                if isinstance(self.unwritten[0], _SYNCED):
                    self._sync()
                del self.unwritten[0]
        except OSError as error:
            self.failure = error

    def _append(self, line: bytes) -> None:
        if self._is_torn:
            line = b"\n" + line
        self._is_torn = True
        if self._file.write(line) != len(line):
            with contextlib.suppress(OSError):  # end the partial line, so that it damages no other process's
                self._file.write(b"\n")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._is_torn = False

    def _sync(self) -> None:
        """Raises OSError also if the file system finds only now that it has no room, as those on a network do."""
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # what can't be synced: a pipe, /dev/null
                raise

    def close(self) -> None:
        self._file.close()
