"""A test's output: complete up to a limit, beyond that its beginning and its end."""

from __future__ import annotations

from collections import deque

_HALF = 4 << 20  # characters kept of the beginning, and as many of the end


class Transcript:
    """Lines in, text out; memory stays bounded no matter how much a target prints."""

    def __init__(self, half: int = _HALF) -> None:
        self._half = half
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._left_out = 0

    def add(self, line: str) -> None:
        if not self._tail and self._head_size < self._half:
            self._head.append(line)
            self._head_size += len(line) + 1
            return
        self._tail.append(line)
        self._tail_size += len(line) + 1
        while self._tail_size > self._half and len(self._tail) > 1:
            self._tail_size -= len(self._tail.popleft()) + 1
            self._left_out += 1

    def text(self) -> str:
        """The joined lines; if some were left out, a line in the middle says how many."""
        gap = [f"[{self._left_out} lines are left out here]"] if self._left_out else []
        return "\n".join([*self._head, *gap, *self._tail])
