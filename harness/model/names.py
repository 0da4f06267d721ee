"""Which text may be used as a name: as a part of a path, on a command line of U-Boot's, and on a terminal.

There is one rule for all names that come from outside: of boards, files, device trees, configuration fragments and
packages. It admits nothing that leads out of a directory, hides a file, looks like an option, or controls a
terminal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._+~@-]{0,99}"
NAME_RULE = "1 to 100 letters, digits and . _ + ~ @ -, of which the first is a letter or a digit"
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")


def is_name(text: str) -> bool:
    """Return whether `text` is a name."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def is_path_of_names(text: str) -> bool:
    """Return whether `text` is a relative path whose every part is a name, such as ``broadcom/bcm2711-rpi-4-b.dtb``."""
    return all(map(is_name, text.split("/")))


def as_name(text: str, *, longest: int = 100, instead: str = "x") -> str:
    """Return a name that resembles the end of `text`, which may be anything; `instead` if nothing of it is left. Two
    texts may have the same name."""
    return _FOREIGN.sub("_", text)[-longest:].lstrip("._-").rstrip("_") or instead


def nearest_first(given: str, names: Iterable[str]) -> list[str]:
    """Return `names`, for a message about `given`, which is none of them: what it may be a misspelling of comes first.
    Of a path the last part may have been meant by itself, and only the first 100 characters of `given` are compared."""
    given = given[:100]

    def likeness(name: str) -> float:
        parts = {name, name.rpartition("/")[2]}
        return max(difflib.SequenceMatcher(None, given, part, autojunk=False).ratio() for part in parts)

    return sorted(sorted(names), key=likeness, reverse=True)
