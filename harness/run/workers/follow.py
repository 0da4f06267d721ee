"""Shows a run that other processes record: the events that workers append to events.jsonl, as they arrive."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

from harness.model.event import Finished, Note, Started
from harness.model.progress import RunDisplay
from harness.parse.events import event_from_json

_EVERY_S = 0.1  # seconds between two looks, because a file does not announce that it has grown


class Follower:
    """Shows on `display` every test that starts or ends and every problem that is appended to the file at `path`, from
    now until the end of the ``with``."""

    def __init__(self, path: Path, display: RunDisplay) -> None:
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._display = display
        self._rest = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=10.0)
        self._file.close()

    def _follow(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._show()
        self._show()

    def _show(self) -> None:
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            try:
                event = event_from_json(line.decode())
            except ValueError:
                continue  # the report will show it
            match event:
                case Started():
                    self._display.started(event.test)
                case Finished():
                    self._display.result(event.result)
                case Note(is_problem=True):
                    self._display.problem(event.text)
