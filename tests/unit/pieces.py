"""A transport that brings just the pieces that a test gives it."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Pieces:
    """`pieces`, one with each receive, then the end. Nothing comes before `begin` is set."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self.begin = threading.Event()
        self.received = 0

    def receive(self) -> bytes:
        assert self.begin.wait(30)
        piece = next(self._pieces, b"")
        self.received += bool(piece)
        return piece

    def send(self, data: bytes) -> None:
        pass

    def send_break(self) -> bool:
        return False

    def shut(self) -> None:
        self._pieces = iter(())
        self.begin.set()

    def close(self) -> None:
        pass
