"""The target writes the console's text: whatever it is, time and memory stay bounded, and reports are found."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import pytest

from harness.model import fault
from harness.parse.oops import MAX_FAULTS, FaultScanner, backtrace, functions, lines, report, rules, scanner, title
from harness.parse.oops.lines import MAX_LINE
from harness.parse.oops.report import HEAD_LINES, TAIL_LINES
from harness.parse.oops.scanner import MAX_OPEN

SIZE = 120_000  # characters of each text: all of them together are some megabytes
STAMP = "[    1.000000] "
TEXTS = {
    "process names": STAMP + "INFO: task " + ":1 <" * 240 + "\n",
    "halves of opening lines": STAMP + "INFO: task a\n",
    "halves that go on": STAMP + "WARNING:\n" + "a\n" * 30,
    "slashes": STAMP + "BUG: " + " a/1/a/1" * 120 + "\n",
    "brackets": STAMP + "BUG: " + "[" * 950 + "\n",
    "hexadecimals": STAMP + "BUG: " + "0123456789abcdef" * 60 + "g\n",
    "numbers": STAMP + "BUG: " + " 1" * 480 + "\n",
    "words": "WARNING: possible " + "a " * 490 + "\n",
    "safe -> unsafe": "WARNING: " + "-safe" * 190 + "\n",
    "slab caches": "BUG a (Tainted" + "(" * 900 + "\n",
    "sanitizers": "BUG: KCSAN: " + " in a" * 190 + "\n",
    "rust locations": STAMP + "rust_kernel: panicked at '" + "', " * 320 + "\n",
    "rust symbols": STAMP + "BUG: x\n" + (" _R" + "9a" * 480 + "+0x1/0x2\n") * 9,
    "rust disambiguators": STAMP + "BUG: x\n" + (" _R" + "s" * 950 + "+0x1/0x2\n") * 9,
    "rust lengths": STAMP + "BUG: x\n" + (" _R" + "9" * 950 + "+0x1/0x2\n") * 9,
    "kernel objects": STAMP + "kobject " + "a:" * 480 + "\n",
    "object states": "ODEBUG: " + "a " * 490 + "\n",
    "oopses": "Internal error: " + ": a" * 320 + "\n",
    "locks": "WARNING: inconsistent lock state\n" + (" at:" * 240 + "\n") * 9,
    "stacks": STAMP + "BUG: x\n" + "Call trace:\n f+0x1/0x2\nAllocated by\n" * 99,
    "registers": STAMP + "BUG: x\n" + ("pc : " + "a" * 900 + "\n") * 99,
    "time stamps": STAMP,
    "caller ids": "[    1.000000][  C1] [  C2] " * 30 + "\n",
    "escape sequences": "\x1b[[[[;;;;\x1b]\x1b]",
    "what words begin with": "] [ _: (K",
    "warnings": "WARNING: at f+0x1\n",
    "cuts": "------[ cut here ]------\n",
    "ends": "------[ cut here ]------\n---[ end trace 0 ]---\n",
    "panics": "Kernel panic - not syncing: Fatal exception\n",
    "half-lines without end": "x" * 99,
}
REPORT = STAMP + "WARNING: kernel/a.c:7 at real+0x1/0x2\n" + STAMP + "---[ end trace 0000000000000000 ]---\n"


def _text(unit: str) -> str:
    return (unit * (SIZE // len(unit) + 1))[:SIZE]


@pytest.mark.parametrize("name", TEXTS)
def test_a_report_behind_hostile_text_is_found(name: str) -> None:
    found = FaultScanner()
    found.feed_text(_text(TEXTS[name]))
    found.finish()
    for each in found.take():
        assert len(str(each.signature)) < 3 * MAX_LINE
    found.feed_text("\n" + REPORT)
    found.finish()
    assert [each.title for each in found.take()][-1] == "WARNING in real (kernel/a.c:7)"


@pytest.mark.parametrize("name", TEXTS)
def test_memory_is_bounded(name: str) -> None:
    """Of what is open, and of what nobody takes."""
    found = FaultScanner()
    text = _text(TEXTS[name])
    for start in range(0, len(text), 10_000):
        found.feed_text(text[start : start + 10_000])
        assert len(found._open) <= MAX_OPEN
        assert len(found._partial) <= 4 * MAX_LINE
        for each in found._open.values():
            assert len(each._head) <= HEAD_LINES
            assert len(each._tail) <= TAIL_LINES
            assert max(map(len, [*each._head, *each._tail])) <= MAX_LINE
    found.finish()
    assert len(found.faults) <= MAX_FAULTS


@pytest.mark.parametrize("name", TEXTS)
def test_work_grows_with_the_text_and_no_faster(name: str) -> None:
    """Counted in calls of Python functions; what one call of a regular expression may cost is the next test's."""
    lines_in_it = TEXTS[name].count("\n") + TEXTS[name].count("[    1.") + 1
    units = SIZE // len(TEXTS[name]) + 1
    assert _calls(_text(TEXTS[name])) < 600 * units * lines_in_it


def _calls(text: str) -> int:
    count = 0

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    found = FaultScanner()
    sys.setprofile(profile)
    try:
        found.feed_text(text)
        found.finish()
    finally:
        sys.setprofile(None)
    return count


def _patterns() -> Iterator[re.Pattern[str]]:
    for module in (backtrace, fault, functions, lines, report, rules, scanner, title):
        yield from _patterns_in(vars(module).values())


def _patterns_in(values: Iterable[object]) -> Iterator[re.Pattern[str]]:
    for value in values:
        if isinstance(value, re.Pattern):
            yield value
        elif isinstance(value, rules.Rule):
            yield from _patterns_in(vars(value).values())
        elif isinstance(value, tuple):
            yield from _patterns_in(value)


PATTERNS = sorted({pattern.pattern for pattern in _patterns()})


def test_the_patterns_are_found() -> None:
    assert len(PATTERNS) > 90


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern[:40])
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    """No unbounded repeat stands within another one. Lines are cut at MAX_LINE, so the rest is at worst a power of
    that."""
    parser = importlib.import_module("re._parser")
    assert [*_nested(parser.parse(pattern), parser, within=False)] == []


def test_a_nested_repeat_would_be_found() -> None:
    parser = importlib.import_module("re._parser")
    for pattern in (r"(?:a+)+b", r"(\w* )*x", r"(?:x(?=y*))*", r"(?:a|b+){2,}"):
        assert [*_nested(parser.parse(pattern), parser, within=False)], pattern
    assert not [*_nested(parser.parse(r"a+(?:b{1,9}c)*d*"), parser, within=False)]


def _nested(parsed: Any, parser: Any, *, within: bool) -> Iterator[str]:
    """The unbounded repeats that stand within unbounded repeats, as text."""
    for operation, argument in parsed:
        if operation in (parser.MAX_REPEAT, parser.MIN_REPEAT):
            is_unbounded = argument[1] is parser.MAXREPEAT
            if within and is_unbounded:
                yield str(argument[2])
            yield from _nested(argument[2], parser, within=within or is_unbounded)
        elif operation is parser.BRANCH:
            for branch in argument[1]:
                yield from _nested(branch, parser, within=within)
        elif operation is parser.SUBPATTERN:
            yield from _nested(argument[3], parser, within=within)
        elif operation in (parser.ASSERT, parser.ASSERT_NOT):
            yield from _nested(argument[1], parser, within=within)
