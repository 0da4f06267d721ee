"""Coverage in, notes for people and a JSON document out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from harness.model.coverage import CodeLine, Coverage

VERSION = 1
_MOST_TOLD = 8  # places with missed lines that a note names


def coverage_notes(coverage: Coverage) -> list[str]:
    """What people should know, a note each."""
    total, missed = len(coverage.code.lines), coverage.missed
    notes = []
    if total:
        some = f"no test executed {len(missed)} of {total} changed lines: {'; '.join(_places(missed))}"
        notes.append(f"coverage: {some if missed else f'tests executed all {total} changed lines'}")
    elif not coverage.code.not_known:
        notes.append("coverage: the patches change no code")
    notes += [f"coverage: not known for {what}: {why}" for what, why in coverage.code.not_known.items()]
    return notes


def _places(lines: Sequence[CodeLine]) -> list[str]:
    """``kernel/trace/ftrace.c:100-102 (ftrace_modify_all_code)``, for each function."""
    places = []
    for (path, function), members in groupby(lines, key=lambda line: (line.path, line.function)):
        numbers = [member.line for member in members]
        places.append(f"{path}:{_ranges(numbers)}{f' ({function})' if function else ''}")
    more = [f"and in {len(places) - _MOST_TOLD} more functions"] if len(places) > _MOST_TOLD else []
    return [*places[:_MOST_TOLD], *more]


def _ranges(numbers: Sequence[int]) -> str:
    """``3-5,8`` for 3, 4, 5, 8."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def coverage_json(coverage: Coverage) -> str:
    """The whole coverage as JSON: of each changed line that is code, which tests have executed it."""
    lines = [
        {"path": line.path, "line": line.line, "function": line.function, "tests": list(tests)}
        for line, tests in zip(coverage.code.lines, coverage.tests, strict=True)
    ]
    return json.dumps({"version": VERSION, "lines": lines, "not_known": dict(coverage.code.not_known)}, indent=1) + "\n"
