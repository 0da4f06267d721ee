"""The diffstat above a mailed patch: how many lines change in each file, and in all. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FILE = re.compile(r"\s*(?P<path>[^\s|][^|]*?)\s+\|\s+(?:(?P<lines>\d{1,9})(?:\s+[-+!]+)?|Bin\b.*)\s*")
_TOTALS = re.compile(
    r"\s*(\d{1,9}) files? changed(?:, (\d{1,9}) insertions?\(\+\))?(?:, (\d{1,9}) deletions?\(-\))?\s*"
)
_SUMMARY = re.compile(r"\s*(?:(?:create|delete) mode|mode change|rename|copy|rewrite) .*|\s*")
_LONGEST = 1000  # characters: finding the bar takes time that grows with the square
_COMPACT = re.compile(r" \((?:new|gone|mode)[^()]*\)$")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The last line of a diffstat."""

    files: int
    added: int
    removed: int


@dataclass(frozen=True, kw_only=True)
class Diffstat:
    """`files`: the changed lines by path, which may begin with ``...``; None for a binary file. `totals`: None if that
    line is missing, so that it can't be told whether `files` are all."""

    files: Mapping[str, int | None]
    totals: Totals | None


def diffstat(lines: Sequence[str]) -> Diffstat | None:
    """Return the diffstat in what stands above the first file of a diff. That is what ends in the line of the totals,
    or else what stands right above the diff: other lines with a bar are a table in the commit message."""
    ends = [(at, match) for at, line in enumerate(lines) if (match := _TOTALS.fullmatch(line))]
    totals = None
    end = len(lines)
    if ends:
        end, match = ends[-1]
        totals = Totals(files=int(match[1]), added=int(match[2] or 0), removed=int(match[3] or 0))
    else:
        while end and _SUMMARY.fullmatch(lines[end - 1]):
            end -= 1
    files: dict[str, int | None] = {}
    while end and len(lines[end - 1]) <= _LONGEST and (match := _FILE.fullmatch(lines[end - 1])):
        files[_new_path(match["path"])] = int(match["lines"]) if match["lines"] else None
        end -= 1
    return Diffstat(files=dict(reversed(files.items())), totals=totals) if files or totals else None


def meant(path: str, among: Mapping[str, object]) -> tuple[str, ...]:
    """Return which of the paths in `among` a diffstat's `path` may mean."""
    if path in among or not path.startswith("..."):
        return (path,) if path in among else ()
    return tuple(each for each in among if each.endswith(path.removeprefix("...")))


def _new_path(told: str) -> str:
    """``a/{old => new}/c`` and ``old => new`` as the new path."""
    told = _COMPACT.sub("", told)
    if match := re.fullmatch(r"(.*)\{.* => (.*)\}(.*)", told):
        return f"{match[1]}{match[2]}{match[3]}".replace("//", "/")
    return told.rpartition(" => ")[2]
