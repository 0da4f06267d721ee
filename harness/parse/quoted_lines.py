"""The lines of a mail that are quoted, and what stands between them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_HEAD = re.compile(r"(?P<prefix>(?:> ?)+)--- \S")
_ELISION = re.compile(
    r"(?:\.{3}|…|<?snip\w*>?|[\[<(](?:\.{3}|…|[^\[\]<>()]*\b(?:snip\w*|cut|trimmed)\b[^\[\]<>()]*)[\])>])", re.I
)
_LONGEST_ELISION = 80


@dataclass(frozen=True, kw_only=True)
class Line:
    """A quoted line without the quote: `number` in the mail; `comment`: the first line of what stands before it and is
    not quoted; `is_apart`: a blank line separates that from the quoted line before; `elision`: the line of it that
    says that something was left out."""

    number: int
    text: str
    comment: str | None
    is_apart: bool
    elision: str | None = None


NOTHING = Line(number=0, text="", comment=None, is_apart=True)


def is_elision(text: str) -> bool:
    """Whether the line says that something was left out, as ``[...]`` does."""
    return len(text) <= _LONGEST_ELISION and _ELISION.fullmatch(text) is not None


def starts(raw: Sequence[str]) -> Iterator[str]:
    """Yield what each start of a quoted file is quoted with."""
    for line, following in pairwise(raw):
        if (match := _HEAD.match(line)) and following.startswith(f"{match['prefix']}+++ "):
            yield match["prefix"]


def quotes_patch(text: str) -> bool:
    """Return whether the mail `text` quotes a patch, whole or not."""
    return any(True for _ in starts(text.split("\n")))


def quoted(raw: Sequence[str], prefix: str) -> Iterator[Line]:
    """Yield the quoted lines, and an empty one for what is behind them."""
    comment: list[str] = []
    for number, line in enumerate([*raw, prefix], start=1):
        if line.startswith(prefix) or line.rstrip() == prefix.rstrip():
            said = [each.strip() for each in comment if each.strip("> \t")]
            yield Line(
                number=min(number, len(raw)),
                text=line[len(prefix) :],
                comment=said[0] if said else None,
                is_apart=not comment or not comment[0].strip("> \t"),
                elision=next((each for each in said if is_elision(each.strip("> \t"))), None),
            )
            comment = []
        else:
            comment.append(line)
