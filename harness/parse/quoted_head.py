"""The git header of a file's section in a quoted diff: whether lines of it are missing. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.parse.diff_names import split_git_names, stripped

GIT = "diff --git "
IN_HEADER = re.compile(
    r"(?:old|new|deleted file|new file) mode \d|(?:copy|rename) (?:from|to) |(?:dis)?similarity index "
    r"|index [0-9a-f]{4,64}\.\."
)
CERTAIN = re.compile(r"(?:old|new|deleted file|new file) mode \d{6}$|similarity index \d+%$|index [0-9a-f]{7,64}\.\.")
"""Lines that nothing but such a header has, unlike ``copy from`` in a commit message."""
_EMPTY = r"(?:e69de29|473a0f4)[0-9a-f]*"  # the names of an empty file
_INDEX_OF_EMPTY = re.compile(rf"index (?:0+\.\.{_EMPTY}|{_EMPTY}\.\.0+)\b")


def lacking(head: Sequence[str], sides: Sequence[str]) -> str | None:
    """Return what the section's header lacks, in words for a message; None if it is whole. `head`: its lines from
    ``diff --git`` on, none if git did not make it; `sides`: its ``---`` and ``+++`` lines, none if it has no hunks."""
    if not head:
        return None
    if not head[0].startswith(GIT):
        return "the line 'diff --git' above it"
    old, new = (stripped(name, 1)[1] for name in split_git_names(head[0].removeprefix(GIT)))
    kinds = {
        verb for line in head for verb in ("rename from", "rename to", "copy from", "copy to") if verb in line[:11]
    }
    is_moved = kinds >= {"rename from", "rename to"} or kinds >= {"copy from", "copy to"}
    if not is_moved and (kinds or old != new or _has(head, "similarity index")):
        return "what it was renamed or copied from and to"
    modes = _has(head, "old mode"), _has(head, "new mode")
    if modes[0] != modes[1]:
        return "its old or its new mode"
    if sides:
        return _lacking_with_hunks(head, sides, has_modes=modes[0])
    is_whole = modes[0] or _has(head, "similarity index 100%") or any(map(_INDEX_OF_EMPTY.match, head))
    has_content = _has(head, "index ") and not any(map(_INDEX_OF_EMPTY.match, head))
    return None if is_whole and not has_content else "its hunks"


def _lacking_with_hunks(head: Sequence[str], sides: Sequence[str], *, has_modes: bool) -> str | None:
    for side, kind in zip(sides, ("new file mode", "deleted file mode"), strict=True):
        if side[4:].startswith("/dev/null") != _has(head, kind):
            return f"the line '{kind}', or the name of the file"
    index = next((line for line in head if line.startswith("index ")), None)
    has_modes = has_modes or _has(head, "new file mode") or _has(head, "deleted file mode")
    if index is not None and len(index.split()) < 3 and not has_modes:
        return "the change of its mode"
    return None


def _has(head: Sequence[str], start: str) -> bool:
    return any(line.startswith(start) for line in head)
