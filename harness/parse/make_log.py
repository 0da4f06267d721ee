"""Finds the errors in the output of a kernel build."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STEP = re.compile(r"^\s+[A-Z][A-Z0-9_.-]*(?: \[M\])?\s+(\S+)$")
_ERROR = re.compile(
    r"^(?:[^\s:]+:\d+(?::\d+)?: (?:fatal )?error: "  # gcc, clang, the assembler with a line
    r"|[^\s:]+:\d+: (?:Error: |undefined reference )"  # gas, ld
    r"|(?=.*: )(?:\S*ld(?:\.lld)?|modpost|ERROR|FAILED)\b"
    r"|error: )"
)
_CONTEXT = re.compile(r"^\s*(?:\d+ )?\|")
_MAKE = re.compile(r"^make(?:\[\d+\])?: \*\*\* (?!.*Waiting for)")


def step(line: str) -> str | None:
    """Return the file that kbuild makes now, from a line such as ``  CC    kernel/fork.o``; None for other lines."""
    match = _STEP.match(line)
    return match[1] if match else None


def is_error(line: str) -> bool:
    """Whether the compiler, the linker or modpost reports an error in this line."""
    return bool(_ERROR.match(line))


def errors(lines: Iterable[str], *, most: int = 40) -> list[str]:
    """The compiler's, linker's and modpost's errors with the source lines quoted below them, in order; make's own
    ``***`` lines where there is nothing better. At most `most` lines."""
    found: list[str] = []
    fallback: list[str] = []
    quoting = False
    for line in lines:
        if _ERROR.match(line):
            found.append(line)
            quoting = True
        elif quoting and _CONTEXT.match(line):
            found.append(line)
        else:
            quoting = False
            if _MAKE.match(line):
                fallback.append(line)
    return (found or fallback)[:most]
