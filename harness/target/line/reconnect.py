"""Reopens a line that drops because a cable was pulled, a console server restarted, or the server has not yet noticed
the end of our last connection."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from harness.errors import InfraError
from harness.target.line.transport import Transport

_PATIENCE_S = 20.0  # after which a line that stays away is given up
_INTERVAL_S = 0.3
_STEADY_S = 2.0  # after which a connection counts as working


class ReconnectingTransport:
    """A transport that `first` opens, and that `opener` opens again when the stream ends without our doing. `on_gap` is
    called when it is back, because data may be missing."""

    def __init__(
        self,
        opener: Callable[[], Transport],
        *,
        first: Callable[[], Transport] | None = None,
        patience: float = _PATIENCE_S,
    ) -> None:
        self._opener = opener
        self._patience = patience
        self._inner = (first or opener)()
        self._opened = time.monotonic()
        self._lost_since: float | None = None
        self._shut = threading.Event()
        self.on_gap: Callable[[], None] = lambda: None

    def receive(self) -> bytes:
        while not self._shut.is_set():
            data = self._inner.receive()
            if data:
                return data
            if not self._reopen():
                break
            self.on_gap()
        return b""

    def _reopen(self) -> bool:
        now = time.monotonic()
        if self._lost_since is None or now - self._opened > _STEADY_S:
            self._lost_since = now
        while not self._shut.wait(_INTERVAL_S) and time.monotonic() < self._lost_since + self._patience:
            self._inner.shut()
            self._inner.close()
            with contextlib.suppress(InfraError):  # not yet
                self._inner = self._opener()
                self._opened = time.monotonic()
                return True
        return False

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the reader reconnects, and the sender waits for an answer anyway
            self._inner.send(data)

    def send_break(self) -> bool:
        return self._inner.send_break()

    def shut(self) -> None:
        self._shut.set()
        self._inner.shut()

    def close(self) -> None:
        self.shut()
        self._inner.close()
