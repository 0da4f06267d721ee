"""Where symbolic links lead, worked out from their text as the kernel does it, whether or not that place exists."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.parse.diff_names import leads_outside

_MOST_NESTED = 40  # as in the kernel
_MOST_FOLLOWED = 1000
_LONGEST_TARGET = 4000


class _LeadsOut(Exception):
    """A symbolic link leads out of the tree, or to itself."""


def stays_inside(path: str, target: str, target_of: Callable[[str], str | None]) -> bool:
    """Return whether a link at `path` with this `target` leads to a place in the tree. `target_of` tells of a path in
    the tree the target of the link there, or None if there is no link."""
    odd = any(ord(char) < 32 or ord(char) == 127 for char in target)
    if not target or len(target) > _LONGEST_TARGET or odd:
        return False
    try:
        _Way(target_of).follow(path.split("/")[:-1], target, (path,))
    except _LeadsOut:
        return False
    return True


def link_target(tree: Path, path: str) -> str | None:
    """Return where the link at `path` in `tree` leads, as it stands there; None if there is no link."""
    try:
        return os.readlink(tree / path)  # noqa: PTH115 (which would make one of "./a" and "a")
    except OSError:
        return None


class _Way:
    """One walk along links; `followed` counts them."""

    def __init__(self, target_of: Callable[[str], str | None]) -> None:
        self._target_of = target_of
        self._followed = 0

    def follow(self, at: list[str], target: str, through: tuple[str, ...]) -> list[str]:
        """Where `target` leads from the directory `at`, both in parts; `through`: the links that have led here."""
        if target.startswith("/") or len(through) > _MOST_NESTED or self._followed > _MOST_FOLLOWED:
            raise _LeadsOut
        for part in target.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                if not at:
                    raise _LeadsOut
                at = at[:-1]
                continue
            place = "/".join((*at, part))
            if leads_outside(place):
                raise _LeadsOut
            found = self._target_of(place)
            if found is None:
                at = [*at, part]
                continue
            if place in through:
                raise _LeadsOut
            self._followed += 1
            at = self.follow(at, found, (*through, place))
        return at
