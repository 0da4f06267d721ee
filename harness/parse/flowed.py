"""Text in format=flowed (RFC 3676): a line that ends in a blank continues on the next one. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKS = re.compile(r">(?: ?>)*")
_DIFF_LINE = re.compile(r"diff --git |@@ -\d|--- \S|\+\+\+ \S|index [0-9a-f]{7,}\.\.")


@dataclass(frozen=True, kw_only=True)
class Flowed:
    """The text with its paragraphs on one line each. `joined`: the numbers of the lines that were several."""

    text: str
    joined: frozenset[int] = frozenset()


def unflowed(text: str, *, delsp: bool) -> Flowed:
    """Undo format=flowed. Lines are joined where they are quoted as deeply, without the quote marks of the second. The
    lines between which a diff has its parts are never joined to others."""
    out: list[str] = []
    joined: set[int] = set()
    depth = None  # of the line that continues
    for raw in text.split("\n"):
        line, end = (raw[:-1], "\r") if raw.endswith("\r") else (raw, "")
        match = _MARKS.match(line)
        marks = match[0] if match else ""
        content = line[len(marks) :].removeprefix(" ")
        is_signature = line[len(marks) :] == "-- " if not marks else content == "-- "
        is_part = _DIFF_LINE.match(content) is not None
        # A lone blank is an empty context line whose sender did not trim it, never a paragraph to continue.
        soft = content.endswith(" ") and content != " " and not is_signature and not is_part
        shown = content if not marks else line  # quoted lines keep the blank behind the marks
        cut = -1 if soft and delsp else None
        tail = "" if soft else end
        if depth == marks.count(">") and not is_signature and not is_part:
            out[-1] += content[:cut] + tail
            joined.add(len(out))
        else:
            out.append(shown[:cut] + tail)
        depth = marks.count(">") if soft else None
    return Flowed(text="\n".join(out), joined=frozenset(joined))
