"""Test programs made with the kernel's kselftest_harness.h: parses the tests of such a program and its output.

A test is called as the program calls it: ``fixture.test``, ``fixture.variant.test``, or ``global.test`` where it has no
fixture. The program prints ``# RUN <name> ...`` before and a KTAP line (``ok 1 <name>``) behind each test.

A test can print such lines too. So its verdict is known only when the next test begins or the program has ended, and
all lines that look like it must agree. Where a program runs one test alone, which all programs of today can, its exit
code must agree as well; that one no output can imitate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from harness.model.result import Verdict

# What is no code, and strings, in which a comment may seem to begin.
# One that nobody closes ends with its line, or with the file.
_NO_CODE = re.compile(
    r""""(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)|'(?:\\.|[^'\\\n])*(?:'|(?=\n)|\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)""", re.DOTALL
)
_MACRO = re.compile(
    r"^[ \t]*(?P<macro>TEST|TEST_SIGNAL|TEST_F|TEST_F_SIGNAL|TEST_F_TIMEOUT|FIXTURE_VARIANT_ADD)"
    r"\s*\(\s*(?P<first>\w+)\s*(?:,\s*(?P<second>\w+)\s*)?[,)]",
    re.MULTILINE,
)
_FIXTURE = re.compile(rb"\0_(\w{1,500})_fixture_object(?=\0)")
_TEST = re.compile(rb"\0wrapper_(\w{1,500})(?=\0)")
_NO_FIXTURE = "global"

_RUN = re.compile(r"#\s+RUN\s+(?P<name>[\w.]+) \.\.\.$")
_RESULT = re.compile(r"(?P<ok>not ok|ok) (?P<number>\d{1,9})(?: (?P<name>[\w.]+))?(?: # (?P<told>.*))?$")
_MOST_VERDICTS = 8
_EXPECTED = re.compile(r"^# [^:\s]+:\d+:\w+:(?P<told>.*)$")
_ENDED = re.compile(r"^# [\w.]+: (?P<told>Test .*)$")


def names_in(source: str, program: bytes = b"") -> list[str]:
    """The tests of a program in the order of its C `source`. Where the `program` is at hand and has its symbols, it
    decides: what was not compiled into it is left out, and what only macros of the source's own make is added."""
    code = _NO_CODE.sub(" ", source)
    variants: dict[str, list[str]] = {}
    tests: list[tuple[str, str]] = []
    for match in _MACRO.finditer(code):
        first, second = match["first"], match["second"]
        if match["macro"] == "FIXTURE_VARIANT_ADD":
            variants.setdefault(first, []).append(second or "")
        elif match["macro"].startswith("TEST_F"):
            tests.append((first, second or ""))
        else:
            tests.append((_NO_FIXTURE, first))
    compiled = _compiled(program)
    if compiled:
        known = [(fixture, test) for fixture, test in tests if _symbol(fixture, test) in compiled]
        symbols = {_symbol(*test) for test in known}
        fixtures = _fixtures(program)
        tests = known + [_split(symbol, fixtures) for symbol in sorted(compiled - symbols)]
    return [
        ".".join([fixture, *([variant] if variant else []), test])
        for fixture, test in tests
        for variant in variants.get(fixture, [""])
    ]


def _compiled(program: bytes) -> set[str]:
    """The tests that a program's symbols tell of, as `_symbol` calls them."""
    symbols = {match.decode() for match in _TEST.findall(program)}
    return {symbol for symbol in symbols if (test := symbol.removesuffix("_teardown")) == symbol or test not in symbols}


def _fixtures(program: bytes) -> set[str]:
    return {match.decode() for match in _FIXTURE.findall(program)}


def _symbol(fixture: str, test: str) -> str:
    return test if fixture == _NO_FIXTURE else f"{fixture}_{test}"


def _split(symbol: str, fixtures: Set[str]) -> tuple[str, str]:
    """The fixture and the name of the test that `symbol` belongs to."""
    at = symbol.rfind("_")
    while at > 0:
        if symbol[:at] in fixtures:
            return symbol[:at], symbol[at + 1 :]
        at = symbol.rfind("_", 0, at)
    return _NO_FIXTURE, symbol


@dataclass(frozen=True)
class Begun:
    """The test `name` has begun."""

    name: str


@dataclass(frozen=True)
class Ended:
    """The running test has its verdict; `reason` explains it, if the output does."""

    verdict: Verdict
    reason: str


class ProgramStream:
    """Follows a program's output, fed line by line. `only`: the one test that it runs; empty: it runs all."""

    def __init__(self, only: str = "") -> None:
        self._only = only
        self._number = 0
        self._running = ""
        self._log: list[str] = []
        self._verdicts: list[tuple[str, Ended]] = []  # of the running test: as printed, and what it means

    def feed(self, line: str) -> list[Begun | Ended]:
        """Return the marks of `line`: a test begins, and the one before it has ended. Nothing for other lines."""
        line = line.rstrip("\r")
        if self._running and (match := _RESULT.search(line)) and self._is_of_the_running(match):
            self._verdicts.append((match[0], _ended(match, self._log)))
            del self._verdicts[_MOST_VERDICTS:]
            return []
        if (match := _RUN.search(line)) and self._begins(match):
            ended = [self._judged()] if self._running else []
            self._number += 1
            self._running = match["name"]
            self._log, self._verdicts = [], []
            return [*ended, Begun(self._running)]
        self._log.append(line)
        del self._log[:-400]
        return []

    def _begins(self, match: re.Match[str]) -> bool:
        if self._only:
            return not self._number and match["name"] == self._only
        return not self._running or match.start() == 0 or bool(self._verdicts)

    def finish(self, returncode: int) -> Ended | None:
        """Return the verdict of the last test when the program has ended; None if it printed none."""
        if not self._running or not self._verdicts:
            return None
        ended, self._running = self._judged(), ""
        fits = (
            returncode in (0, 4)
            if ended.verdict is Verdict.SKIP
            else (returncode != 0) is (ended.verdict is Verdict.FAIL)
        )
        if fits or not self._only:
            return ended
        printed = "; ".join(dict.fromkeys(line for line, _ in self._verdicts))
        if returncode:
            return Ended(Verdict.FAIL, f"the program ended with exit code {returncode}, although it printed: {printed}")
        told = f"the program printed: {printed}; and ended with exit code 0"
        return Ended(Verdict.UNRESOLVED, told)

    def _judged(self) -> Ended:
        """The verdict of the running test, from all lines that look like it."""
        if not self._verdicts:
            return Ended(Verdict.UNRESOLVED, "the program printed no verdict for it")
        if len({ended.verdict for _, ended in self._verdicts}) > 1:
            printed = "; ".join(dict.fromkeys(line for line, _ in self._verdicts))
            return Ended(Verdict.UNRESOLVED, f"the program's output has several verdicts for it: {printed}")
        return self._verdicts[-1][1]

    def _is_of_the_running(self, match: re.Match[str]) -> bool:
        """Kernels before 6.9 leave the name out where a test was skipped. A test may itself print such lines; and what
        it printed last may stand before the verdict's."""
        if int(match["number"]) != self._number:
            return False
        return match["name"] == self._running or (match["name"] is None and match.start() == 0)


def _ended(match: re.Match[str], log: Sequence[str]) -> Ended:
    told = match["told"] or ""
    directive, _, words = told.partition(" ")
    if match["ok"] == "ok":
        if directive in ("SKIP", "XFAIL"):
            return Ended(Verdict(directive), words or "the program gives no reason")
        return Ended(Verdict.PASS, "")
    return Ended(Verdict.FAIL, told or _why(log))


def _why(log: Sequence[str]) -> str:
    """The first expectation that was not met; else how the test ended."""
    for pattern in (_EXPECTED, _ENDED):
        for line in log:
            if match := pattern.match(line):
                return match["told"].strip()[:200]
    return ""
