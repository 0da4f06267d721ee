"""Finds the errors in the output of a kernel build."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence

_STEP = re.compile(r"^\s+[A-Z][A-Z0-9_.-]*(?: \[M\])?\s+(\S+)$")
_PLACE = r"(?:[^\s:]+|/[^:]+|\{standard input\}):\d+"
_SECTION = r"\([^\s()]+\+0x[0-9a-f]+\)"
_ERROR = re.compile(
    rf"^(?:{_PLACE}(?::\d+)?: (?:fatal |internal compiler )?error: "  # gcc, clang, the assembler with a line
    rf"|{_PLACE}: Error: "  # gas
    rf"|(?:[^\s:]+|/[^:]+):(?:\d+|(?:\d+:)?{_SECTION}): "  # ld
    r"(?:(?:more )?undefined reference|multiple definition|relocation truncated|dangerous relocation)"
    r"|[^\s:]+:\d+\.\d+-\d+(?:\.\d+)?: (?:ERROR|Error)\b"  # dtc
    r"|(?!collect2: )(?:[^\s:]+: )?(?:fatal |internal compiler )?error: "  # the drivers of compilers, lld
    r"|(?=.*: )(?:\S*ld(?:\.lld|\.bfd)?|modpost|ERROR|FATAL|FATAL ERROR|Error)\b(?!:? \w*warning)(?!.*: warning: )"
    r"|FAILED\b|Failed to generate BTF\b|Inconsistent kallsyms data|Cannot find symbol for section \d+: "
    r"|(?=[^\s:]*Kconfig)[^\s:]*:\d+:\s?(?!\s|warning)"  # kconfig, whose messages come in many forms
    r"|(?:/bin/)?(?:ba|da)?sh: (?:line )?\d+: .*not found$"
    r"|(?:make(?:\[\d+\])?|[^\s:]+:\d+): \*\*\* (?!\[|Waiting))"  # make itself, about a Makefile or a missing file
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_CONTEXT = re.compile(r"^\s*(?:\d+ )?\||^>>> ")
_MAKE = re.compile(r"^make(?:\[\d+\])?: \*\*\* (?!.*Waiting for)")
_CHATTER = re.compile(r"^make(?:\[\d+\])?: (?!\*\*\*)")
_MISMATCH = re.compile(r"^WARNING: .*\b[Ss]ection mismatch(?: in reference\b|\(es\))")
_FATAL_MISMATCH = re.compile(r"\bSection mismatches detected\b")
_MISMATCHES = 5  # of thousands
_BEFORE_MAKE = 8
_NO_HEADER = re.compile(
    r": fatal error: (?P<quote>'?)(?P<header>[\w./+-]{1,200})(?P=quote)(?:: No such file or directory| file not found)$"
)
_OF_KERNEL = ("linux/", "asm/", "asm-generic/")
_HINT = re.compile(r"^Set CONFIG_\w+=y to allow them\b")  # the second line of modpost's last words


def step(line: str) -> str | None:
    """Return the file that kbuild makes now, from a line such as ``  CC    kernel/fork.o``; None for other lines."""
    match = _STEP.match(line)
    return match[1] if match else None


def is_error(line: str) -> bool:
    """Whether the compiler, the linker or modpost reports an error in this line."""
    return bool(_ERROR.match(_COLOUR.sub("", line)))


def errors(lines: Iterable[str], *, most: int = 40) -> list[str]:
    """Return the lines that say why a build failed, in order: the errors of compilers, linkers, modpost, kconfig and
    make, with the source lines quoted below them; the section mismatches where modpost stops at them. Where none is
    known, what was printed before make gave up, and make's own ``***`` lines. At most `most` lines."""
    found: list[str] = []
    mismatches: list[str] = []
    given_up: list[str] = []
    before: deque[str] = deque(maxlen=_BEFORE_MAKE)
    is_quoting = False
    for line in (_COLOUR.sub("", each) for each in lines):
        if _ERROR.match(line):
            if _FATAL_MISMATCH.search(line):
                found += _shortened(mismatches)
            found.append(line)
            is_quoting = True
        elif is_quoting and (_CONTEXT.match(line) or _HINT.match(line)):
            found.append(line)
        else:
            is_quoting = False
            if _MISMATCH.match(line):
                mismatches.append(line)
            elif _MAKE.match(line):
                given_up.append(line)
            elif not given_up and line.strip() and not step(line) and not _CHATTER.match(line):
                before.append(line)
    return (found or [*before, *given_up])[:most]


def missing_header(errors: Sequence[str]) -> str:
    """Return the header that the first of `errors` (from `errors`) is about, if it is one of the system's that is not
    there; empty for another error, and for a header of the kernel's own."""
    found = _NO_HEADER.search(errors[0])
    if not found or found["header"].startswith(_OF_KERNEL):
        return ""
    included = f"<{found['header']}>"
    return found["header"] if any(included in line for line in errors[1:3]) else ""


def _shortened(mismatches: list[str]) -> list[str]:
    if (more := len(mismatches) - _MISMATCHES) <= 0:
        return mismatches
    return [*mismatches[:_MISMATCHES], f"… and {more} more section mismatches"]
