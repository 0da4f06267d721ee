"""The names of files in a diff's headers: quoted, followed by a time, with leading parts to strip."""

from __future__ import annotations

import re

NO_PREFIX = "its paths seem to lack the prefixes a/ and b/; list it in a quilt series with the option -p0"
"""The hint for a diff that looks like ``-p0``."""

_QUOTED_OR_NOT = re.compile(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)')
_ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "v": 11, "f": 12, '"': 34, "\\": 92}
# What diff programs write behind a name and a tab, which mailers and editors turn into blanks: a date (with a time and
# a zone), the C library's form of it, a revision. git strips the first of these too (apply.c, diff_timestamp_len).
_STAMP = re.compile(
    r"(?<![ \t])[ \t]++(?:"
    r"(?:\d\d)?\d\d-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?)?(?: ?[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d(?: [A-Z]+)? \d{4}"
    r"|\((?:revision \d+|working copy|nonexistent)\)"
    r")$"
)
# `diff -N` marks the side that does not exist by the epoch, in whatever time zone; Subversion says so.
_NOWHERE = re.compile(
    r"\b(?:1970-01-01|1969-12-31)\b|\bJan {1,9}1 .{0,40} 1970$|\bDec 31 .{0,40} 1969$|\(nonexistent\)$"
)
# As the kernel and its file systems have them.
_LONGEST_PATH_BYTES = 4095
_LONGEST_NAME_BYTES = 255
_MOST_NESTED = 64  # directories; a kernel has a dozen


def split_stamp(side: str) -> tuple[str, str]:
    """``a/k.c<TAB>2024-03-01 …`` as (``a/k.c``, ``2024-03-01 …``), also where blanks stand for the tab."""
    if match := _STAMP.search(side.rstrip()):
        return side[: match.start()].rstrip(), match[0].strip()
    name, _, stamp = side.partition("\t")
    return name.rstrip(), stamp


def is_nowhere(stamp: str) -> bool:
    """Return whether the text behind a name says that this side's file does not exist."""
    return bool(_NOWHERE.search(stamp))


def split_git_names(names: str) -> tuple[str, str]:
    """Both names of a ``diff --git`` line, unquoted. Names with blanks in them, unless quoted, have the same length."""
    if match := _QUOTED_OR_NOT.fullmatch(names):
        return unquoted(match[1]), unquoted(match[2])
    return names[: len(names) // 2], names[len(names) // 2 + 1 :]


def unquoted(name: str) -> str:
    """Undo git's C quoting of unusual names: ``"a/f\\303\\266"``."""
    if not (name.startswith('"') and name.endswith('"') and len(name) > 1):
        return name
    raw = re.sub(
        rb"\\([0-7]{3}|.)",
        lambda m: bytes([int(m[1], 8) & 255 if len(m[1]) == 3 else _ESCAPES.get(m[1].decode("latin-1"), m[1][0])]),
        name[1:-1].encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "surrogateescape")


def stripped(name: str, count: int) -> tuple[str, str]:
    """`name` as (its first `count` parts, the path behind them); the path is empty where there are no more."""
    parts = name.split("/")
    return "/".join(parts[:count]), "/".join(parts[count:])


def is_too_long(path: str) -> bool:
    """Return whether the path is longer than file systems allow, or of more parts than any source tree has."""
    raw = path.encode("utf-8", "surrogateescape")
    parts = raw.split(b"/")
    return len(raw) > _LONGEST_PATH_BYTES or len(parts) > _MOST_NESTED or max(map(len, parts)) > _LONGEST_NAME_BYTES


def leads_outside(path: str) -> bool:
    """Return whether a path can't be below the tree: it is absolute or empty, contains ``..``, or is below ``.git``."""
    return bool({"", ".", "..", ".git"} & {part.lower() for part in path.split("/")} or {"\0", "\n"} & {*path})
