"""A night that is over in; a text for a terminal and a mail, an HTML page, and JSON out.

Much of it was written by targets and by the authors of patches, and the text may be mailed. So no line begins with
their words (report/mail_text.py has the reasons)."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import EXIT_INFRA, EXIT_KERNEL, EXIT_OK, EXIT_USER
from harness.model.comparison import Changed
from harness.model.night import AXES, Morning, Night, Row, State
from harness.report.compare_text import COLUMNS, MOST_NAMED, what_happened
from harness.report.page import rendered
from harness.report.summary import duration
from harness.report.text import one_line

_CONTINUED = "  | "
_MOST_ROWS = 200  # in the text; the page has all
_WORDS = {EXIT_OK: "OK", EXIT_KERNEL: "WORSE", EXIT_USER: "WRONG INPUT", EXIT_INFRA: "INCOMPLETE"}
# What is told of a cell, the first being what people act on first, with the class of the style sheet.
WORSE, FAILING, INCOMPLETE, GOOD = "worse", "failing", "incomplete", "good"
_STATUSES = {
    WORSE: "failed",
    State.NOT_BUILT.value: "failed",
    FAILING: "failed",
    State.REFUSED.value: "broken",
    State.NO_RESULT.value: "broken",
    INCOMPLETE: "broken",
    State.NOT_RUN.value: "SKIP",
    State.UNAVAILABLE.value: "SKIP",
    GOOD: "ok",
}


def status(row: Row) -> str:
    """Return in a word how a cell stands."""
    if row.ended.state is not State.TESTED:
        return row.ended.state.value
    if row.is_worse:
        return WORSE
    return {EXIT_OK: GOOD, EXIT_KERNEL: FAILING}.get(row.ended.code, INCOMPLETE)


def _grouped(morning: Morning) -> Iterator[tuple[str, list[Row]]]:
    for name in _STATUSES:
        if rows := [row for row in morning.rows if status(row) == name]:
            yield name, rows


def headline(morning: Morning) -> str:
    """``2 worse, 1 not run, 9 good of 12 cells``."""
    counts = [f"{len(rows)} {name}" for name, rows in _grouped(morning)]
    total = len(morning.rows)
    return f"{', '.join(counts) or 'nothing'} of {total} {'cell' if total == 1 else 'cells'}"


def _word(morning: Morning) -> str:
    code = morning.exit_code
    return "FAILING" if code == EXIT_KERNEL and not any(row.is_worse for row in morning.rows) else _WORDS[code]


def morning_subject(morning: Morning) -> str:
    return one_line(f"[nightly {morning.night.plan}] {_word(morning)}: {headline(morning)}")


# -- text -------------------------------------------------------------------------------------------------------------


def morning_text(morning: Morning) -> str:
    """Return the summary; its last line is the verdict."""
    lines = _wrapped(f"Night {morning.night.id} of the plan {morning.night.plan}: {_lasted(morning.night)}")
    for text in (*morning.boards, *morning.notes):
        lines += _wrapped(f"note: {text}")
    told = 0
    for name, rows in _grouped(morning):
        lines += ["", f"{name.upper()} ({len(rows)})"]
        for row in rows[: max(0, _MOST_ROWS - told)]:
            lines += _row_lines(row)
        told += len(rows)
    if told > _MOST_ROWS:
        lines += ["", f"[{told - _MOST_ROWS} more cells: summary.html]"]
    return "\n".join([*lines, "", *_wrapped(f"{_word(morning)}: {headline(morning)}")])


def _lasted(night: Night) -> str:
    took = duration(max(0.0, (night.finished or night.started) - night.started))  # the clock may have been set back
    return f"{_date(night.started)}, {took}{f' of {duration(night.budget)}' if night.budget else ''}"


def _date(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))


def _row_lines(row: Row) -> list[str]:
    lines = _wrapped(f"  {row.ended.slot}")
    for text in _told(row):
        lines += _wrapped(f"    {text}")
    for changed in _regressions(row):
        lines += _wrapped(f"    {changed.change}: {one_line(changed.test)}: {what_happened(changed)}")
    if (more := len(row.comparison.regressions) - MOST_NAMED if row.comparison else 0) > 0:
        lines.append(f"    and {more} more")
    return lines


def _told(row: Row) -> list[str]:
    """What is told of a cell besides its tests."""
    ended = row.ended
    where = f" on {ended.board} in {duration(ended.seconds)}" if ended.board else ""
    texts = [f"{row.counts}{where}"] if row.counts else []
    texts += [f"against its last good night: {row.changes}"] if row.changes else []
    if ended.state is State.TESTED and ended.code and not row.comparison:
        texts.append("there was no good night to compare it with")
    texts += [one_line(ended.reason)] if ended.reason else []
    texts += [f"failed before on {one_line(attempt)}" for attempt in ended.attempts if attempt != ended.reason]
    if ended.owed > 1:
        texts.append(f"not done for {ended.owed} nights")
    return texts


def _regressions(row: Row) -> Sequence[Changed]:
    return row.comparison.regressions[:MOST_NAMED] if row.comparison else ()


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        _cleaned(line), COLUMNS, subsequent_indent=_CONTINUED, break_on_hyphens=False, drop_whitespace=True
    ) or [""]


def _cleaned(line: str) -> str:
    """`line` cleaned, on one line, with the spaces that it begins with."""
    return " " * (len(line) - len(line.lstrip(" "))) + one_line(line)


# -- the page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the page."""

    slot: str
    texts: Sequence[str]
    regressions: Sequence[tuple[str, str]]
    page: str
    report: str


@dataclass(frozen=True, kw_only=True)
class Group:
    """All cells of one status."""

    status: str
    style: str
    lines: Sequence[Line]
    is_folded: bool


def morning_html(morning: Morning) -> str:
    """Return the page."""
    code = morning.exit_code
    return rendered(
        "night.html.j2",
        title=one_line(f"{morning.night.plan} {morning.night.id}"),
        word=_word(morning),
        style="ok" if code == EXIT_OK else "failed" if code == EXIT_KERNEL else "broken",
        headline=headline(morning),
        lasted=_lasted(morning.night),
        notes=[one_line(text) for text in (*morning.boards, *morning.notes)],
        groups=[
            Group(status=name, style=_STATUSES[name], lines=[_line(row) for row in rows], is_folded=name == GOOD)
            for name, rows in _grouped(morning)
        ],
    )


def _line(row: Row) -> Line:
    return Line(
        slot=one_line(str(row.ended.slot)),
        texts=_told(row),
        regressions=[(one_line(changed.test), one_line(what_happened(changed))) for changed in _regressions(row)],
        page=row.page,
        report=row.report,
    )


# -- for programs -----------------------------------------------------------------------------------------------------


def morning_json(morning: Morning) -> str:
    """Return everything as one JSON document. Keys are only ever added."""
    night = morning.night
    document = {
        "version": 1,
        "plan": night.plan,
        "night": night.id,
        "started": night.started,
        "finished": night.finished,
        "exit_code": morning.exit_code,
        "counts": {name: len(rows) for name, rows in _grouped(morning)},
        "boards": list(morning.boards),
        "notes": list(morning.notes),
        "cells": [_cell_data(row) for row in morning.rows],
    }
    return json.dumps(document, indent=1) + "\n"


def _cell_data(row: Row) -> dict[str, Any]:
    ended = row.ended
    return {
        **{axis: getattr(ended.slot, axis) for axis in AXES},
        "repetition": ended.slot.repetition,
        "status": status(row),
        "run": ended.run,
        "board": ended.board,
        "seconds": ended.seconds,
        "build_seconds": ended.build_seconds,
        "reason": ended.reason,
        "attempts": list(ended.attempts),
        "likely_regressions": [changed.test for changed in row.comparison.regressions] if row.comparison else [],
        "compared_with": row.comparison.old.id if row.comparison else "",
    }
