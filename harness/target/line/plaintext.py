"""What a target itself says on a line, without what terminals and console servers add: escape sequences, doubled
carriage returns, times before the lines."""

from __future__ import annotations

import re
import time

from harness.target.line import times
from harness.target.line.console import Console

_TO_A_POSITION = re.compile(r"\x1b\[[\d;]*[Hf]")  # where a menu writes, or the prompt after it, no line has ended
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[()][0-9A-Za-z]?|[=>]|[78cDEHMNOZ]|\Z)|\x00")
_MOST_KEPT = 1 << 17  # characters; what `expect` is asked for comes within far less
_PIECES = 100


class PlainText:
    """A reader of `line` that sees plain text, in which each line ends with a line feed.

    `prompt`: the target's, once it is known; some boot loaders put the time of a line behind it."""

    def __init__(self, line: Console) -> None:
        self._line = line
        self.prompt = ""
        self._whole = ""  # lines that are complete
        self._partial = ""  # the unfinished line, as it came
        self._taken = 0  # characters of the unfinished line, once plain, that were consumed

    def expect(self, pattern: str, *, timeout: float, window: int = _MOST_KEPT) -> re.Match[str] | None:
        """Wait until the regular expression `pattern` matches what arrived since the last match; None after `timeout`
        seconds, or when the stream ends. Of lines in which it has not matched the last `window` characters are kept."""
        compiled, deadline = re.compile(pattern), time.monotonic() + timeout
        while True:
            text = self._whole + self._plain(self._partial)[self._taken :]
            found = compiled.search(text)
            if found:
                self._consume(found.end())
                return found
            self._whole = self._whole[-window:]
            if not self.more(timeout=max(0.0, deadline - time.monotonic())):
                return None

    def more(self, *, timeout: float) -> bool:
        """Wait for output beyond what has arrived; return False if none comes within `timeout` seconds."""
        arrived = self._line.expect(r"[\s\S]+", timeout=timeout)
        if arrived:
            self._add(arrived[0])
        return bool(arrived)

    def forget(self) -> None:
        """Discard what was read so far and did not match."""
        self._whole, self._taken = "", len(self._plain(self._partial))

    def drop(self) -> None:
        """Discard all that has arrived."""
        for _ in range(_PIECES):
            if not self._line.expect(r"[\s\S]+", timeout=0.1):
                break
        self._whole, self._partial, self._taken = "", "", 0

    def _add(self, text: str) -> None:
        *lines, self._partial = (self._partial + text).split("\n")
        pieces = [self._whole]
        for line in lines:
            pieces.append(self._plain(line)[self._taken :] + "\n")
            self._taken = 0
        if len(self._partial) > _MOST_KEPT:
            pieces.append(self._plain(self._partial)[self._taken :])
            self._partial, self._taken = "", 0
        self._whole = "".join(pieces)[-_MOST_KEPT:]

    def _consume(self, end: int) -> None:
        whole = len(self._whole)
        self._whole = self._whole[end:]
        self._taken += max(0, end - whole)

    def _plain(self, line: str) -> str:
        """Return a line, which may be unfinished, as its author meant it."""
        text = _ESCAPE.sub("", _TO_A_POSITION.sub("\r", line)).rstrip("\r")
        start = len(text) - len(text.lstrip("\r"))
        text = text[:start] + _without_time(text[start:])
        if self.prompt and text.startswith(self.prompt, start):
            behind = start + len(self.prompt)
            text = text[:behind] + _without_time(text[behind:])
        return text


def _without_time(text: str) -> str:
    found = times.AT_START.match(text)
    return text[found.end() :] if found else text
