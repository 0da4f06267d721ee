"""Finds the warnings in the output of a kernel build, and those that the build of the parent did not have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_MOST = 10_000
_LONGEST = 1_000  # characters of a line
_FILE = r"(?:[^\s:()\[\]]{1,300}|\{standard input\})"
_WARNING = re.compile(
    rf"{_FILE}:\d+(?:[:.]\d+)?(?:-\d+(?:\.\d+)?)?: ?[Ww]arning(?::| \()"  # gcc, clang, gas, dtc, kconfig, make
    rf"|{_FILE}: (?:in function `[^']{{1,200}}': )?(?i:warning): "  # ld, objtool
    r"|(?:WARNING|warning): "  # modpost, kconfig, drivers of compilers
)
_NUMBERS = re.compile(r":\d+(?:[:.]\d+)?(?:-\d+(?:\.\d+)?)?(?=[:,)\s]|$)")


@dataclass(frozen=True, kw_only=True)
class BuildWarning:
    """`text`: the line as it was printed; `key`: the same without line numbers, which change with every patch to the
    file."""

    text: str
    key: str


def warnings(lines: Iterable[str]) -> list[BuildWarning]:
    """Return the warnings of compilers, assemblers, linkers, modpost, dtc and kconfig, in their order; one that is
    printed several times for the same place, as those in headers are, counts once."""
    found: dict[str, BuildWarning] = {}
    for line in lines:
        text = _COLOUR.sub("", line[:_LONGEST]).strip()
        if _WARNING.match(text) and len(found) < _MOST:
            found.setdefault(text, BuildWarning(text=text, key=_NUMBERS.sub("", text)))
    return list(found.values())


def new_warnings(before: Iterable[BuildWarning], since: Iterable[BuildWarning]) -> list[BuildWarning]:
    """Return the warnings of `since` that `before` does not have. Of several that differ in their line only, so many
    are new as there are more of them, the last ones."""
    left = Counter(each.key for each in before)
    new = []
    for each in since:
        if left[each.key]:
            left[each.key] -= 1
        else:
            new.append(each)
    return new
