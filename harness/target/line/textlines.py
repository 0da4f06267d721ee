"""Splits text that arrives in pieces into blocks of whole lines, and keeps its last lines. Both are bounded."""

from __future__ import annotations

import re
from collections import deque

LONGEST_LINE = 1 << 16  # characters kept of a line's beginning, and the same number of its end
LONGEST_OUTPUT_LINE = 4 << 20  # the same for the output of commands, which is in no log of its own
MOST_KEPT = 4 << 20  # characters in a Tail, not counting its newest block

_LINE_END = re.compile(r"(?<!\r)\r+\n")


class LineSplitter:
    """Turns pieces of text into blocks of whole lines. Of a line with more than three times `longest` characters, the
    beginning and the end are kept, with a mark in between that says how many characters were left out, and `whole`:
    where all of them are, if they are anywhere."""

    def __init__(self, *, longest: int = LONGEST_LINE, whole: str = "") -> None:
        self._longest = longest
        self._whole = whole
        self._beginning = ""  # of a line whose middle was left out
        self._left_out = 0  # characters
        self._pieces: list[str] = []  # of a line that has not ended
        self._length = 0  # of these

    @property
    def partial(self) -> str:
        """The unfinished line so far; may be called from any thread."""
        return "".join(self._so_far())

    def take(self, text: str) -> str:
        """Return the lines that `text` completes, each ending in a single line feed; empty if it completes none."""
        end = text.rfind("\n") + 1
        block = ""
        if end:
            block = _plain("".join([*self._so_far(), text[:end]]))
            text = text[end:]
            self._beginning, self._left_out = "", 0
            self._pieces, self._length = [], 0
        if text:
            self._pieces.append(text)
            self._length += len(text)
            # far beyond what is kept, so that the cutting costs no more than the reading
            if self._length > 3 * self._longest:
                self._cut()
        return block

    def _so_far(self) -> list[str]:
        if not self._left_out:
            return self._pieces
        where = f"; whole in {self._whole}" if self._whole else ""
        return [self._beginning, f"[... {self._left_out} characters of this line left out{where} ...]", *self._pieces]

    def _cut(self) -> None:
        joined = "".join(self._pieces)
        if not self._left_out:
            self._beginning, joined = joined[: self._longest], joined[self._longest :]
        self._pieces, self._length = [joined[-self._longest :]], self._longest
        self._left_out += len(joined) - self._longest


def _plain(block: str) -> str:
    """`block` without carriage returns at its lines' ends."""
    if "\r\n" not in block:
        return block
    block = block.replace("\r\n", "\n")
    return _LINE_END.sub("\n", block) if "\r\n" in block else block


class Tail:
    """The last `count` lines of the added blocks; fewer if they are very long. Written by one thread, read by any."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._blocks: deque[tuple[int, str]] = deque()  # with the number of lines
        self._lines = 0
        self._size = 0

    def add(self, block: str) -> None:
        lines = block.count("\n")
        self._blocks.append((lines, block))
        self._lines += lines
        self._size += len(block)
        while len(self._blocks) > 1 and (self._lines - self._blocks[0][0] >= self._count or self._size > MOST_KEPT):
            lines, block = self._blocks.popleft()
            self._lines -= lines
            self._size -= len(block)

    @property
    def size(self) -> int:
        """Characters kept."""
        return self._size

    def lines(self) -> list[str]:
        text = "".join([block for _, block in self._blocks.copy()])
        return text[:-1].split("\n")[-self._count :] if text else []
