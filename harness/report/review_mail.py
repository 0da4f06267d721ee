"""A review in, a mail out: at most 60 lines of 78 columns, which a maintainer can answer.

Much of it was written by the series' author or by the kernel under test. So no line begins with their words, for which
tools might take a tag or a patch (report/mail_text.py)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from harness.model.result import Result, Verdict
from harness.model.review import PatchStep, Review, Stage
from harness.report.compare_text import COLUMNS, MOST_LINES
from harness.report.failing import BOOT
from harness.report.mail_text import keyword_of, shell_lines
from harness.report.review_text import (
    Fault,
    counts_text,
    dropped,
    failing_tests,
    faults,
    headline,
    marks,
    pair_text,
    sizes_text,
    tests_of,
)
from harness.report.summary import duration
from harness.report.text import moment, one_line

_CONTINUED = "  | "
_EVIDENCE = 2  # lines of each fault
_MOST_TESTS = 3  # of each fault
_MOST_ROWS = 20
_MOST_NOTES = 4
_MOST_REPRODUCED = 3
_LONGEST_COMMAND = 8
_TESTS_WIDTH = 17


def review_mail(review: Review, *, tester: str = "") -> str:
    """Return the text, which ends in a newline. `tester`: who signs a Tested-by line, which is there only if all is
    well; empty: nobody."""
    head = [*_subject(review), "", *_wrapped(headline(review)), ""]
    table = [*_table(review), ""]
    tail = [*_rest(review), *_reproduce(review), *_tested_by(review, tester)]
    lines = [*head, *table]
    paragraphs = [_paragraph(fault) for fault in faults(review)]
    for number, paragraph in enumerate(paragraphs):
        if len(lines) + len(paragraph) + 2 + len(tail) > MOST_LINES - 2:
            lines += [f"and {len(paragraphs) - number} more, in review.html", ""]
            break
        lines += [*paragraph, ""]
    return "\n".join([*lines, *tail]).rstrip("\n") + "\n"


def _wrapped(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(
        one_line(text, 400), COLUMNS, initial_indent=indent, subsequent_indent=_CONTINUED, break_on_hyphens=False
    ) or [""]  # fmt: skip


def _subject(review: Review) -> list[str]:
    ground = review.ground
    older = f", against {review.older}" if review.older else ""
    lines = [
        f"Review of {review.series}{older}",
        f"base: {ground.base}, that is {ground.version} ({ground.why})",
        f"tested {moment(review.started)} UTC on {ground.board}, {ground.compiler}, {'+'.join(ground.fragments)}, "
        f"by harness {ground.harness}, in {duration(review.seconds)}",
    ]
    return [wrapped for line in lines for wrapped in _wrapped(line)]


def _table(review: Review) -> list[str]:
    has_older = bool(review.pairs)
    was = "was   " if has_older else ""
    lines = [f"  #  applies config build boot {'tests':{_TESTS_WIDTH}} {was}patch"]
    steps = [step for step in review.steps if not step.is_well] if len(review.steps) > _MOST_ROWS else review.steps
    for step in steps[:_MOST_ROWS]:
        lines.append(_row(step, review, has_older=has_older))
    if left := len(review.steps) - len(steps[:_MOST_ROWS]):
        lines.append(f"     and {left} more patches, in review.html")
    if gone := dropped(review):
        lines += _wrapped(f"     gone since then: patches {', '.join(map(str, gone))}")
    return lines


def _row(step: PatchStep, review: Review, *, has_older: bool) -> str:
    applies, config, build, boot = marks(step)
    tests = one_line(tests_of(step), _TESTS_WIDTH)
    was = f"{pair_text(review, step.number):<5} " if has_older else ""
    row = f"{step.number:>3}  {applies:<7} {config:<6} {build:<5} {boot:<4} {tests:<{_TESTS_WIDTH}} {was}"
    return row + one_line(step.title, COLUMNS - len(row))


def _paragraph(fault: Fault) -> list[str]:
    lines = _wrapped(fault.head)
    for test in fault.tests[:_MOST_TESTS]:
        lines += _wrapped(test, indent="  * ")
    if len(fault.tests) > _MOST_TESTS:
        lines.append(f"  and {len(fault.tests) - _MOST_TESTS} more tests")
    lines += [_CONTINUED + one_line(line, COLUMNS - len(_CONTINUED)) for line in fault.evidence[:_EVIDENCE]]
    for figure in fault.figures:
        lines += _wrapped(figure, indent="  ")
    return lines


def _rest(review: Review) -> Iterator[str]:
    """The counts, the sizes, and what the reader has to know besides."""
    names = {"newer": "whole series", "older": review.older_name, "base": "base"}
    for name in ("newer", "older", "base"):
        if counts := review.counts.get(name):
            yield from _wrapped(f"{names[name]}: {counts_text(counts)} ({review.whole})")
    sets = [tests for step in review.steps for tests in step.sets]
    if asked := dict.fromkeys(str(tests) for tests in sets if not tests.why):
        yield from _wrapped(f"each patch: {', '.join(asked)}")
    if why := dict.fromkeys(each for tests in sets for each in tests.why):
        yield from _wrapped(f"each patch: the tests for {', '.join(why)}")
    if review.failing_before:
        yield from _wrapped(f"not told: {len(review.failing_before)} tests that fail with the base, too")
    if review.sizes:
        yield from _wrapped(sizes_text(review.sizes))
    for text in [*(f"problem: {each}" for each in review.problems), *(f"note: {each}" for each in review.notes)][
        :_MOST_NOTES
    ]:
        yield from _wrapped(text)[:2]
    yield ""


def _reproduce(review: Review) -> list[str]:
    if not review.command or any(word != one_line(word, 300) for word in review.command):
        return []
    unbuilt = [step.number for step in review.steps if step.failed in (Stage.CONFIGURES, Stage.BUILDS)]
    if unbuilt and not failing_tests(review):
        words = [*review.command[:1], "build", *review.command[2:]]
        some = "" if unbuilt[0] == review.series.patches else f", with the first {unbuilt[0]} patches only"
    else:
        words, some = [*review.command, *_selection(failing_tests(review), review)], ""
    lines = shell_lines(words)
    return [f"reproduce{some}:", *lines, ""] if len(lines) <= _LONGEST_COMMAND else []


def _selection(tests: Sequence[str], review: Review) -> list[str]:
    some = [test for test in tests if test != BOOT][:_MOST_REPRODUCED]
    if not some:
        suites, keyword = review.whole.suites, review.whole.keyword
    else:
        suites = tuple(dict.fromkeys(Result(test=test, verdict=Verdict.FAIL).suite for test in some))
        keyword = " or ".join(f"({keyword_of(test)})" for test in some)
    return [*(word for suite in suites for word in ("--suite", suite)), *(["-k", keyword] if keyword else [])]


def _tested_by(review: Review, tester: str) -> list[str]:
    name = one_line(tester, COLUMNS - len("Tested-by: "))
    return [f"Tested-by: {name}"] if review.is_well and name else []
