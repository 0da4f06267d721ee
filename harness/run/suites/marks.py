"""Marks that tell what upstream's runner says from what its tests print.

Runner and tests print to the same stream, and what upstream's runner prints there, a test can print as well: a trace
that holds ``[PASS]``, an error message that ends in ``ok``. So the harness has the runner print a mark, a random word,
before each of its statements. The marks reach it over a descriptor that its tests don't have, it reads each one only
when it is due, and each counts once: no output and no trace buffer can hold one that still counts. This holds against
what tests and kernel print; it can't hold against a test that reads the runner's memory as root, nor against a kernel
that does so.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

DESCRIPTOR = 9
_SIGN = "@@"
_BYTES = 8


@dataclass(frozen=True)
class Mark:
    """What the runner itself says."""

    words: str


class Marks:
    """Marks for `count` statements of one runner. Each is printed as a line of its own: the mark, a blank, the words;
    an empty line stands before it, which ends a line that a test has left open."""

    def __init__(self, count: int = 0) -> None:
        self.words = [f"{_SIGN}{secrets.token_hex(_BYTES)}" for _ in range(count)]
        self._next = 0

    def redirection(self, rest: str = "") -> str:
        """Return what to put behind a shell command so that it finds the marks. `rest`: the rest of its line."""
        lines = "".join(f"{word}\n" for word in self.words)
        return f"{DESCRIPTOR}<<'{_SIGN}' {rest}\n{lines}{_SIGN}"

    def of(self, line: str) -> Mark | None:
        """Return what the runner says with `line`; None for any other line. Marks count in order; one that was lost
        does not invalidate those behind it."""
        if not line.startswith(_SIGN):
            return None
        word, _, words = line.rstrip("\r").partition(" ")
        if word not in self.words[self._next :]:
            return None
        self._next = self.words.index(word) + 1
        return Mark(words)
