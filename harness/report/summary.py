"""Results in, a few lines for a terminal out: plain text, no colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.model import known
from harness.model.record import NO_SANDBOX
from harness.model.result import Expectation, Result, RunResults, Verdict
from harness.report.attempts import attempt_line
from harness.report.confirming import told
from harness.report.text import one_line


def summary_lines(results: RunResults, *, run_dir: Path) -> list[str]:
    """Counts for each suite; what needs attention, with the path of its log; unexpected passes; known outcomes that
    have expired or that no test matched; the overall line."""
    lines = _suite_lines(results)
    for result in results.results:
        if result.verdict.is_kernel_fault or result.verdict is Verdict.ERROR:
            lines += _result_lines(result, run_dir)
    lines += _not_run_lines(results)
    for result in results.results:
        if result.is_unexpected_pass and result.expected is not None:
            lines.append(f"{'PASS':10} {one_line(result.test)}: passed unexpectedly ({_why(result.expected)})")
    for each in known.expired(results):
        lines.append(f"{'expired':10} {_named(each)}: valid until {one_line(each.until)} ({_why(each)})")
    for each in known.unmatched(results):
        lines.append(f"{'unmatched':10} {_named(each)}: no test matched this known outcome ({_why(each)})")
    lines += [f"{'note':10} {one_line(note)}" for note in results.notes]
    for name, why in results.record.kernel.era_fixes.items():
        lines.append(f"{'note':10} this kernel was built with the era fix {one_line(name)}: {one_line(why)}")
    if results.record.kernel.sandbox == NO_SANDBOX:
        lines.append(f"{'note':10} this kernel was built without a sandbox")
    return [*lines, overall_line(results)]


def _named(expectation: Expectation) -> str:
    return f"{one_line(expectation.test)}: {one_line(known.described(expectation))}"


def _why(expectation: Expectation) -> str:
    reason = one_line(expectation.reason) or "known to fail"
    return f"{reason}, {one_line(expectation.issue)}" if expectation.issue else reason


def overall_line(results: RunResults) -> str:
    """``FAILED: 2 CRASH, 1 FAIL, 174 PASS in 11m23s``; OK, FAILED (the kernel) or BROKEN (the harness or the lab)."""
    has_failed = any(result.verdict.is_kernel_fault for result in results.results)  # also where it was interrupted
    word = "FAILED" if has_failed else {0: "OK", 1: "FAILED"}.get(results.exit_code, "BROKEN")
    ended = (
        " (killed)" if results.ended is None else "" if results.is_complete else f" ({one_line(str(results.ended))})"
    )
    return f"{word}: {counted(results.results)} in {duration(results.seconds)}{ended}"


def duration(seconds: float) -> str:
    """``0.4s``, ``12s``, ``3m05s``, ``1h02m``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def _suite_lines(results: RunResults) -> list[str]:
    suites: dict[str, list[Result]] = {}
    for result in results.results:
        suites.setdefault(one_line(result.suite), []).append(result)
    width = max(map(len, suites), default=0)
    return [f"{suite:{width}}  {counted(members)}" for suite, members in suites.items()]


def counted(members: Sequence[Result]) -> str:
    """How many results there are of each verdict, the worst first, in one line."""
    counts = Counter(result.verdict for result in members)
    worst = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.ERROR, Verdict.NOTRUN,
             Verdict.XFAIL, Verdict.SKIP, Verdict.PASS)  # fmt: skip
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in worst if counts[verdict]) or "no tests"


def _result_lines(result: Result, run_dir: Path) -> list[str]:
    title = one_line(result.fault.title) if result.fault else ""
    reason = one_line(result.reason)
    texts = [text for text in ("" if reason.startswith(title) else title, reason) if text]
    texts += [attempt_line(number, attempt) for number, attempt in enumerate(result.attempts, 1)]
    texts += [text for text in [told(result)] if text]
    lines = [f"{result.verdict:10} {one_line(result.test)}", *(f"{'':10}   {text}" for text in texts)]
    if result.log:
        lines.append(f"{'':10}   {run_dir / one_line(result.log)}")
    return lines


def _not_run_lines(results: RunResults) -> list[str]:
    """One line for each reason: an interrupted run leaves hundreds of tests, all with the same reason."""
    reasons: dict[str, list[Result]] = {}
    for result in results.results:
        if result.verdict is Verdict.NOTRUN:
            reasons.setdefault(one_line(result.reason) or "not run", []).append(result)
    return [
        f"{'NOTRUN':10} {one_line(members[0].test)}{_and_more(len(members) - 1)}: {reason}"
        for reason, members in reasons.items()
    ]


def _and_more(count: int) -> str:
    return f" and {count} more" if count else ""
