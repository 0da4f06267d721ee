"""Reads what ``git range-diff --no-patch`` prints: which patches of two series are versions of each other."""

from __future__ import annotations

import re

from harness.model.review import Pair, Relation

_LINE = re.compile(r" *(\d{1,9}|-): +(?:[0-9a-f]{4,64}|-+) ([=!<>]) +(\d{1,9}|-): +(?:[0-9a-f]{4,64}|-+)(?: |$)")


def parse_range_diff(text: str) -> tuple[Pair, ...]:
    """Return the pairs in git's order: that of the newer series, with dropped patches between. Other lines are
    skipped."""
    pairs = []
    for line in text.split("\n"):
        if match := _LINE.match(line):
            older, sign, newer = match.groups()
            pairs.append(Pair(older=_number(older), newer=_number(newer), relation=Relation(sign)))
    return tuple(pairs)


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)
