"""Which boards of a night can be trusted. A board that fails twice in a row is put in quarantine, for later nights too,
and looked at before it is used again; if it then fails once more, it is back there."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping

from harness.model.night import BoardHealth
from harness.target.base import Say

MOST_FAILURES = 2  # in a row


class Health:
    """The boards of a night. `keep` writes down what is known of them."""

    def __init__(
        self,
        known: Mapping[str, BoardHealth],
        *,
        keep: Callable[[Mapping[str, BoardHealth]], None],
        say: Say,
        clock: Callable[[], float],
    ) -> None:
        self._known = dict(known)
        self._keep = keep
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._told: list[str] = []

    @property
    def told(self) -> tuple[str, ...]:
        """What there is to say about boards: what happened, and which were in quarantine all the time."""
        with self._lock:
            still = [
                f"board {name}: still in quarantine: {known.reason}"
                for name, known in self._known.items()
                if known.since is not None and not any(text.startswith(f"board {name}:") for text in self._told)
            ]
            return (*self._told, *still)

    def quarantine(self, board: str) -> BoardHealth | None:
        """Return what is known of a board that is in quarantine; None if it is not."""
        with self._lock:
            known = self._known.get(board)
            return known if known and known.since is not None else None

    def failed(self, board: str, reason: str) -> None:
        """The board failed, through no fault of the kernel."""
        with self._lock:
            before = self._known.get(board, BoardHealth())
            now = dataclasses.replace(before, failures=before.failures + 1, reason=reason)
            if now.failures >= MOST_FAILURES and before.since is None:
                now = dataclasses.replace(now, since=self._clock())
                self._tell(f"board {board}: in quarantine after {now.failures} failures in a row: {reason}")
            self._set(board, now)

    def worked(self, board: str) -> None:
        """The board ran a cell to its end."""
        with self._lock:
            if self._known.pop(board, None):
                self._keep(self._known)

    def passed(self, board: str) -> None:
        """Nothing was found to be wrong with the board: it gets one more chance."""
        with self._lock:
            self._tell(f"board {board}: out of quarantine, its checks pass")
            before = self._known.get(board, BoardHealth())
            self._set(board, dataclasses.replace(before, failures=MOST_FAILURES - 1, since=None))

    def stays(self, board: str, why: str) -> None:
        """Something is wrong with the board."""
        with self._lock:
            before = self._known.get(board, BoardHealth())
            self._tell(f"board {board}: stays in quarantine: {why}")
            self._set(board, dataclasses.replace(before, reason=why))

    def _tell(self, text: str) -> None:
        self._told.append(text)
        self._say(text)

    def _set(self, board: str, known: BoardHealth) -> None:
        self._known[board] = known
        self._keep(self._known)
