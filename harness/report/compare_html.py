"""A comparison in, one self-contained HTML page out: no scripts, no addresses, readable on a narrow screen.

Everything that a target said is cleaned here and escaped by the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.comparison import Change, Changed, Comparison
from harness.model.history import StoredRun
from harness.report.compare_text import counted, described, what_happened
from harness.report.page import rendered
from harness.report.past import evidence_lines
from harness.report.text import one_line

_FOLDED = (Change.KNOWN, Change.SAME)  # nobody has to act on these
_BY_CAUSE = (
    *(Change.NEW_FAILURE, Change.FLAKIER, Change.STILL_FAILING, Change.FLAKY),
    *(Change.SKIPPED_NOW, Change.INFRASTRUCTURE, Change.KNOWN),
)
_CLASSES = {  # of the style sheet
    Change.NEW_FAILURE: "failed",
    Change.FLAKIER: "failed",
    Change.VANISHED: "broken",
    Change.STILL_FAILING: "failed",
    Change.FLAKY: "TIMEOUT",
    Change.INFRASTRUCTURE: "broken",
    Change.KNOWN: "XFAIL",
    Change.FIXED: "ok",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One test. `verdicts`: before and since, as ``PASS → FAIL``."""

    test: str
    verdicts: str
    evidence: Sequence[str]
    is_likely_regression: bool


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Tests with one cause; `what` is empty if each stands for itself."""

    what: str
    lines: Sequence[Line]


@dataclass(frozen=True, kw_only=True)
class Group:
    """All tests of one class."""

    change: str
    style: str
    count: int
    causes: Sequence[Cause]
    is_folded: bool


def comparison_html(comparison: Comparison) -> str:
    """Return the page."""
    return rendered(
        "compare.html.j2",
        counts=counted(comparison),
        is_worse=bool(comparison.regressions),
        regressions=len(comparison.regressions),
        total=len(comparison.changes),
        runs=[("older", described(comparison.old)), ("newer", described(comparison.new))],
        about=_about(comparison),
        groups=[_group(change, comparison.of(change)) for change in Change if comparison.of(change)],
    )


def _about(comparison: Comparison) -> list[tuple[str, str, str]]:
    """What is recorded about both runs: a name, and the values on either side."""
    old, new = map(_recorded, (comparison.old, comparison.new))
    return [(name, old[name], new[name]) for name in old if old[name] or new[name]]


def _recorded(run: StoredRun) -> dict[str, str]:
    values = {
        "run": run.id,
        "directory": run.directory,
        "cell": str(run.cell),
        "kernel": run.kernel.release,
        "source": f"{run.kernel.source} {run.kernel.commit}",
        "patches": ", ".join(patch[:12] for patch in run.kernel.patches),
        "tests asked for": run.requested,
        "ended": run.end or "killed",
        "harness": run.harness,
        "host": run.host,
    }
    return {name: one_line(value) for name, value in values.items()}


def _group(change: Change, changes: Sequence[Changed]) -> Group:
    causes: dict[str, list[Line]] = {}
    for changed in changes:
        what = one_line(what_happened(changed)) if change in _BY_CAUSE else ""
        causes.setdefault(what, []).append(_line(changed))
    return Group(
        change=change.value,
        style=_CLASSES.get(change, "SKIP"),
        count=len(changes),
        causes=[Cause(what=what, lines=lines) for what, lines in causes.items()],
        is_folded=change in _FOLDED,
    )


def _line(changed: Changed) -> Line:
    verdicts = [each.verdict.value if each else "none" for each in (changed.old, changed.new)]
    return Line(
        test=one_line(changed.test),
        verdicts=verdicts[0] if verdicts[0] == verdicts[1] else " → ".join(verdicts),
        evidence=evidence_lines(changed),
        is_likely_regression=changed.is_likely_regression,
    )
