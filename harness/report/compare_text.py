"""A comparison in, a text for a terminal out: at most 78 columns, one paragraph for each cause. `mail_text.py` makes
the one that is mailed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from harness.model.comparison import Change, Changed, Comparison, Tally
from harness.model.history import StoredRun
from harness.model.result import Verdict
from harness.report import evidence
from harness.report.text import moment, one_line

COLUMNS = 78
MOST_NAMED = 5  # tests of one cause
MOST_LINES = 60
_TOLD = tuple(change for change in Change if change not in (Change.SAME, Change.KNOWN))


def comparison_text(comparison: Comparison, *, most_lines: int | None = MOST_LINES) -> str:
    """Return the text, which ends in a line of counts; `most_lines` None: however long it gets."""
    lines = [*_sides(comparison), ""]
    for change in _TOLD:
        for cause in causes(comparison.of(change)):
            lines += [*_paragraph(cause), ""]
    last = counted(comparison)
    if most_lines is not None and len(lines) + 1 > most_lines:
        kept = most_lines - 3
        lines = [*lines[:kept], f"[{len(lines) - kept} more lines: `harness compare`]", ""]
    return "\n".join([*lines, last])


def _sides(comparison: Comparison) -> list[str]:
    lines = [f"{name}  {described(run)}" for name, run in (("old", comparison.old), ("new", comparison.new))]
    if comparison.old.cell != comparison.new.cell:
        lines.append(f"note: these are different cells: {comparison.old.cell}; {comparison.new.cell}")
    return [wrapped for line in lines for wrapped in _wrapped(line, indent="     ")]


def described(run: StoredRun) -> str:
    """Which kernel a run had, where and when it ran, in one line."""
    return one_line(f"{run.kernel.name} on {run.cell.board}, {moment(run.started)} UTC, run {run.id}")


def causes(changes: Sequence[Changed]) -> Iterable[list[Changed]]:
    """Tests that crash with the same signature, or say the same, have one cause."""

    def cause(changed: Changed) -> str:
        new = changed.new
        if new is None or (changed.change is Change.APPEARED and new.verdict is Verdict.PASS):
            return changed.change
        if changed.change in (Change.SLOWER, Change.FIXED, Change.FLAKY, Change.FLAKIER):
            return changed.test
        return f"{new.signature}" if new.signature else f"{new.verdict} {new.reason or changed.test}"

    return (list(group) for _, group in groupby(sorted(changes, key=cause), key=cause))


def _paragraph(cause: list[Changed]) -> list[str]:
    first = cause[0]
    lines = _wrapped(f"{first.change.upper()}: {what_happened(first)}", indent="  ")
    lines += [f"  {one_line(changed.test)}" for changed in cause[:MOST_NAMED]]
    if len(cause) > MOST_NAMED:
        lines.append(f"  and {len(cause) - MOST_NAMED} more")
    for line in [*figures(first), *_ends(first)]:
        lines += _wrapped(f"  {line}", indent="  ")
    return lines


def what_happened(changed: Changed) -> str:
    """What the test did in the newer run, in one line."""
    new = changed.new
    if new is None:
        return "planned in the old run, not in the new one"
    if new.signature:
        return f"{new.verdict}: {one_line(str(new.signature))}"
    return one_line(f"{new.verdict}{f': {new.reason}' if new.reason else ''}", 300)


def figures(changed: Changed) -> list[str]:
    """The evidence for a change, in lines of any length."""
    lines = []
    if changed.change in (Change.NEW_FAILURE, Change.FLAKIER, Change.STILL_FAILING, Change.FLAKY, Change.FIXED):
        since, before = f"{changed.since} since", f"failed {changed.before} before"
        told = f"{before}, {since}" if changed.before.runs else f"failed {since}, without a verdict before"
        lines.append(f"{told}{_likely(changed)}")
    is_new = changed.change in (Change.NEW_FAILURE, Change.FLAKIER)
    if changed.change is Change.FLAKY or (is_new and changed.since.passes):
        low, high = evidence.interval(changed.since if is_new else _all(changed))
        lines.append(f"fails {100 * low:.0f} to {100 * high:.0f} % of the time{' since' if is_new else ''}")
    if changed.note and changed.change is not Change.SKIPPED_NOW:
        lines.append(one_line(changed.note))
    return lines


def _ends(changed: Changed) -> list[str]:
    if changed.change not in (Change.NEW_FAILURE, Change.FLAKIER) or not changed.last_good:
        return []
    return [f"last good {changed.last_good}, first bad {changed.first_bad}"]


def _all(changed: Changed) -> Tally:
    return changed.before + changed.since


def _likely(changed: Changed) -> str:
    if changed.change not in (Change.NEW_FAILURE, Change.FLAKIER):
        return ""
    return f"; worse with a probability of {min(99.9, 100 * changed.probability):.3g} %"


def _wrapped(line: str, *, indent: str) -> list[str]:
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]


def counted(comparison: Comparison) -> str:
    """How many tests there are of each class, in one line."""
    counts = [(change, len(comparison.of(change))) for change in Change]
    return ", ".join(f"{count} {change}" for change, count in counts if count) or "no tests"


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison as one JSON document. Keys are only ever added."""
    document = {
        "version": 1,
        "old": _run_data(comparison.old),
        "new": _run_data(comparison.new),
        "counts": {change: len(comparison.of(change)) for change in Change},
        "likely_regressions": [changed.test for changed in comparison.regressions],
        "tests": [_changed_data(changed) for changed in comparison.changes],
    }
    return json.dumps(document, indent=1)


def _run_data(run: StoredRun) -> dict[str, object]:
    kernel = run.kernel
    return {
        "id": run.id,
        "started": run.started,
        "directory": run.directory,
        "board": run.cell.board,
        "config": run.cell.config,
        "toolchain": run.cell.toolchain,
        "kernel": kernel.release,
        "version": kernel.version,
        "commit": kernel.commit,
        "patches": list(kernel.patches),
    }


def _changed_data(changed: Changed) -> dict[str, object]:
    new, old = changed.new, changed.old
    return {
        "test": changed.test,
        "change": changed.change,
        "verdict": new.verdict if new else None,
        "old_verdict": old.verdict if old else None,
        "reason": new.reason if new else "",
        "signature": str(new.signature) if new and new.signature else None,
        **evidence_data(changed),
    }


def evidence_data(changed: Changed) -> dict[str, object]:
    """Return the figures behind a change, for JSON."""
    return {
        "before": {"passes": changed.before.passes, "failures": changed.before.failures},
        "since": {"passes": changed.since.passes, "failures": changed.since.failures},
        "probability": round(changed.probability, 6),
        "likely_regression": changed.is_likely_regression,
        "last_good": changed.last_good or None,
        "first_bad": changed.first_bad or None,
        "note": changed.note,
    }
