"""Console text as printk lines: control characters removed; level, timestamp and caller id separated from the
message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

MAX_LINE = 1000

_STAMP = re.compile(r"(?:<\d{1,3}>)?\[ {0,7}\d+\.\d{6}\]")
PREFIX = re.compile(
    r"(?:<\d{1,3}>)?(?P<stamp>\[ {0,7}\d+\.\d{6}\])?\s?(?:\[ {0,7}(?P<caller>[CT]\d+)\]\s?)?(?:<\d{1,3}>)?"
)
# Control characters and escape sequences. They hold no line end, so whole blocks of lines can be cleaned at once.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(
    _CONTROL.pattern + r"(?:(?<=\x1b)(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|[@-Z\\-_]))?"
)


class Piece(NamedTuple):
    """One printk line."""

    text: str  # as printed, cleaned: what a fault keeps
    body: str  # without level, timestamp and caller id
    caller: str | None  # T and a pid, or C and a CPU (CONFIG_PRINTK_CALLER): who printed it
    stamped: bool


def clean(block: str) -> str:
    """Return `block` without control characters and escape sequences; its line ends are kept."""
    return _ESCAPE.sub("", block) if _CONTROL.search(block) else block


def pieces(line: str) -> Iterator[Piece]:
    """One clean console line, cut where a carriage return or another printk prefix shows that two lines ran
    together."""
    for part in line.split("\r"):
        cuts = [0, *(match.start() for match in _STAMP.finditer(part) if match.start()), len(part)]
        for begin, end in pairwise(cuts):
            text = part[begin:end].rstrip()
            prefix = PREFIX.match(text)
            if prefix is not None and text:
                body = text[prefix.end() :][:MAX_LINE]
                yield Piece(text[:MAX_LINE], body, prefix["caller"], prefix["stamp"] is not None)
