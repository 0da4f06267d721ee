"""Results in, a page of Markdown out, for where a CI system shows one: GitHub's job summaries and checks, notes on
merge requests in GitLab.

What others wrote stands in code spans. In these nothing is markup, a link, or a mention that notifies somebody, as
``@name`` is in any other text of those sites. (A backslash does not help: they look for mentions after it is gone.)"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.model.comparison import Change
from harness.model.past import Past
from harness.model.result import Result, RunResults
from harness.report.compare_text import counted, described
from harness.report.confirming import told
from harness.report.past import change_of, evidence_lines, urgency
from harness.report.summary import overall_line
from harness.report.text import one_line

MOST_LINES = 60
_MOST_NAMED = 4  # tests of one cause
_LONGEST = 200  # characters of a text
_LISTED = (Change.VANISHED, Change.SKIPPED_NOW, Change.SLOWER, Change.FIXED)


def summary_markdown(results: RunResults, *, past: Past | None = None) -> str:
    """Return the page: at most MOST_LINES lines. `past`: what the history says about these tests; None: nothing."""
    counts, _, _ = overall_line(results).partition(" (")  # how it ended was partly written by others, and follows
    lines = [f"## {counts}", "", _kernel(results)]
    if not results.is_complete:
        lines += ["", f"The run ended early: {code(str(results.ended or 'it was killed'))}"]
    if past:
        lines += ["", f"{counted(past.comparison)}, since {code(described(past.comparison.old))}"]
    last = ["", "All tests, with their logs: report.html in the run's directory."]
    blocks = list(_blocks(results, past))
    left = MOST_LINES - len(lines) - len(last) - 2  # for what says how many are left out
    for number, block in enumerate(blocks):
        left -= len(block)
        if left < 0:
            lines += ["", f"{len(blocks) - number} more causes or groups of tests are left out here."]
            break
        lines += block
    return "\n".join([*lines, *last]) + "\n"


def code(text: str) -> str:
    """Return `text` as a code span: one line, cut if it is long, shown exactly as it is."""
    text = one_line(text, _LONGEST)
    if not text:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in (text[0], text[-1]) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _kernel(results: RunResults) -> str:
    record = results.record
    patches = len(record.kernel.patches)
    parts = [
        f"Kernel {code(name)}" if (name := record.kernel.release or record.kernel.source.version) else "",
        f"with {patches} {'patch' if patches == 1 else 'patches'}" if patches else "",
        f"on {code(record.board.name)}" if record.board.name else "",
    ]
    run = f"run {code(record.id)}" if record.id else ""
    return ", ".join(part for part in (" ".join(filter(None, parts)), run) if part) or "The run left no record."


def _blocks(results: RunResults, past: Past | None) -> Iterator[list[str]]:
    """Lines that belong together, the most important first: a cause with its tests, or a list of tests."""
    ranked = sorted(results.results, key=lambda result: urgency(result, past))
    for title, results_there in (
        ("The kernel failed", [result for result in ranked if result.verdict.is_kernel_fault]),
        ("The harness or the lab failed", [result for result in ranked if result.verdict.is_infra_fault]),
    ):
        heading = ["", f"### {title}", ""]
        for cause in _causes(results_there, past):
            yield [*heading, *_cause(cause, past)]
            heading = []
    surprises = [result.test for result in results.results if result.is_unexpected_pass]
    if surprises:
        yield ["", f"**Passed unexpectedly**: {_named(surprises)}"]
    for change in _LISTED:
        tests = [changed.test for changed in past.comparison.of(change)] if past else []
        if tests:
            yield ["", f"**{change.capitalize()}**: {_named(tests)}"]


def _causes(results: Sequence[Result], past: Past | None) -> list[list[Result]]:
    """Group tests that crash with the same signature, or say the same, and changed alike."""
    causes: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        changed = change_of(result, past)
        signature = str(result.fault.signature) if result.fault else ""
        cause = signature or f"{result.verdict} {result.reason or result.test}"
        causes.setdefault((cause, changed.change if changed else ""), []).append(result)
    return list(causes.values())


def _cause(cause: Sequence[Result], past: Past | None) -> list[str]:
    first = cause[0]
    changed = change_of(first, past)
    is_told = changed is not None and changed.change is not Change.INFRASTRUCTURE  # the heading says that
    says = code(first.reason or (first.fault.title if first.fault else ""))
    lines = [
        f"- {f'**{changed.change}**, ' if changed and is_told else ''}{first.verdict}{f': {says}' if says else ''}",
        f"  - {_named([result.test for result in cause])}",
    ]
    more = [*(evidence_lines(changed) if changed else []), *filter(None, [told(first)])]
    whose = "the first: " if len(cause) > 1 else ""
    return [*lines, *(f"  - {whose}{code(line)}" for line in more)]


def _named(tests: Sequence[str]) -> str:
    more = f" and {len(tests) - _MOST_NAMED} more" if len(tests) > _MOST_NAMED else ""
    return ", ".join(code(test) for test in tests[:_MOST_NAMED]) + more
