"""Known outcomes: where each one applies, and whether a test's outcome matches it.

In every pattern ``*`` stands for any text and nothing else is special, so the text of a result can be pasted unchanged,
including brackets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from harness.model.fault import Fault, FaultSignature
from harness.model.result import Expectation, Result, RunResults, Standing, Verdict

_ANSWERS = (Verdict.PASS, Verdict.XFAIL, Verdict.FAIL, Verdict.UNRESOLVED, Verdict.CRASH, Verdict.TIMEOUT)
_NAMED = 3  # known outcomes that a reason quotes


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` matches the whole of `text`; a run of blanks counts as one. Not a regular expression: the
    target wrote `text`, and could make the match take for ever."""
    text = " ".join(text.split())
    first, *others = " ".join(pattern.split()).split("*")
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    position = len(first)
    for part in others[:-1]:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return text.endswith(others[-1]) and len(text) - len(others[-1]) >= position


def version_of(release: str) -> tuple[int, ...]:
    """The numbers that ``7.3.4-rc1+`` begins with."""
    match = re.match(r"\d{1,9}(\.\d{1,9})*", release)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@dataclass(frozen=True, kw_only=True)
class Versions:
    """A range of versions, including both ends: 6.12 includes 6.12.63. An empty end is open."""

    lowest: tuple[int, ...] = ()
    highest: tuple[int, ...] = ()

    def __contains__(self, version: tuple[int, ...]) -> bool:
        return version[: len(self.lowest)] >= self.lowest and not self.is_behind(version)

    def is_behind(self, version: tuple[int, ...]) -> bool:
        """Whether the range ends before `version`."""
        return bool(self.highest) and version[: len(self.highest)] > self.highest


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A pattern for a toolchain's name, and a range of its versions."""

    name: str
    versions: Versions = Versions()


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a run's tests run on, and when. `release`: ``uname -r``. `toolchain`: all its names (``gcc-12``,
    ``aarch64-linux-gnu-gcc-12``, ``gcc``); `config`: maps every symbol that is set to its value."""

    release: str
    board: str
    today: date
    toolchain: frozenset[str] = frozenset()
    compiler_version: str = ""
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Where a known outcome applies: where all of these conditions hold; an empty condition always holds. `config`:
    symbol to value, ``n`` for a symbol that is not set."""

    kernel: Versions = Versions()
    boards: tuple[str, ...] = ()
    compilers: tuple[Compiler, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, context: Context) -> bool:
        return (
            version_of(context.release) in self.kernel
            and (not self.boards or any(matches(board, context.board) for board in self.boards))
            and (not self.compilers or any(_is_made_by(compiler, context) for compiler in self.compilers))
            and all(context.config.get(symbol, "n") == value for symbol, value in self.config.items())
        )


def _is_made_by(compiler: Compiler, context: Context) -> bool:
    has_name = any(matches(compiler.name, name) for name in context.toolchain)
    return has_name and version_of(context.compiler_version) in compiler.versions


@dataclass(frozen=True, kw_only=True)
class KnownOutcome:
    """One entry of an expectations file. `until`: the last day, or the versions up to the last kernel, for which it is
    valid."""

    expectation: Expectation
    scope: Scope = Scope()
    until: date | Versions | None = None

    def names(self, test: str) -> bool:
        """Whether it names the test with this id."""
        return matches(self.expectation.test, test)

    def has_expired(self, context: Context) -> bool:
        """Whether it is no longer valid."""
        if isinstance(self.until, date):
            return context.today > self.until
        return self.until is not None and self.until.is_behind(version_of(context.release))


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judgement on a test's outcome: `verdict` is XFAIL for a known failure; `reason` says what was known, or what
    was expected instead."""

    verdict: Verdict
    reason: str
    expectations: tuple[Expectation, ...] = ()


class KnownOutcomes:
    """The known outcomes that apply in one context."""

    def __init__(self, outcomes: Iterable[KnownOutcome], context: Context) -> None:
        self._outcomes = [outcome for outcome in outcomes if context in outcome.scope]
        self._context = context

    def judge(self, test: str, verdict: Verdict, reason: str, fault: Fault | None) -> Judgement:
        """Compare a test's outcome with the known ones. If several known outcomes name the test, the first one that
        matches counts."""
        expectations = tuple(
            replace(outcome.expectation, standing=self._standing(outcome, verdict, reason, fault))
            for outcome in self._outcomes
            if outcome.names(test)
        )
        if not (verdict.is_kernel_fault or verdict.is_infra_fault):
            return Judgement(verdict=verdict, reason=reason, expectations=expectations)
        met = next((each for each in expectations if each.standing is Standing.MET), None)
        if met:
            issue = f", {met.issue}" if met.issue else ""
            text = f"known {verdict}: {met.reason}{issue} ({reason})"
            return Judgement(verdict=Verdict.XFAIL, reason=text, expectations=expectations)
        if verdict.is_kernel_fault:
            reason = "; ".join([reason, *_instead(expectations)])
        return Judgement(verdict=verdict, reason=reason, expectations=expectations)

    def _standing(self, outcome: KnownOutcome, verdict: Verdict, reason: str, fault: Fault | None) -> Standing:
        if outcome.has_expired(self._context):
            return Standing.EXPIRED
        return Standing.MET if _is_met(outcome.expectation, verdict, reason, fault) else Standing.OTHER


def _is_met(expectation: Expectation, verdict: Verdict, reason: str, fault: Fault | None) -> bool:
    if verdict not in expectation.verdicts:
        return False
    if verdict is Verdict.PASS:
        return True
    if verdict is Verdict.CRASH and fault:
        return any(_matches_fault(pattern, fault) for pattern in expectation.faults)
    patterns = expectation.faults if verdict is Verdict.CRASH else expectation.messages
    return not patterns or any(matches(pattern, reason) for pattern in patterns)


def _matches_fault(pattern: str, fault: Fault) -> bool:
    """Whether `pattern` matches this fault's signature or title, or is the signature of the same bug, of which one of
    the two reports may have been cut short."""
    signature = fault.signature
    if matches(pattern, str(signature)) or matches(pattern, fault.title):
        return True
    try:
        return FaultSignature.parse(pattern).matches(signature)
    except ValueError:
        return False


def _instead(expectations: Sequence[Expectation]) -> Iterable[str]:
    """What was expected of a test that failed in another way."""
    wanted = [described(each) for each in expectations if each.standing is Standing.OTHER]
    if wanted:
        more = f" or {len(wanted) - _NAMED} others" if len(wanted) > _NAMED else ""
        yield f"expected: {' or '.join(wanted[:_NAMED])}{more}"
    for each in expectations:
        if each.standing is Standing.EXPIRED:
            yield f"{described(each)} was known until {each.until}: {each.reason}"


def described(expectation: Expectation) -> str:
    """``CRASH with the fault 'BUG: …'``; ``FAIL or UNRESOLVED with the message 'a*' or 'b*'``."""
    texts = []
    for kind, verdicts, patterns in (
        ("fault", [each for each in expectation.verdicts if each is Verdict.CRASH], expectation.faults),
        ("message", [each for each in expectation.verdicts if each is not Verdict.CRASH], expectation.messages),
    ):
        if verdicts:
            content = f" with the {kind} {' or '.join(map(repr, patterns))}" if patterns else ""
            texts.append(" or ".join(verdicts) + content)
    return " or ".join(texts)


def expired(results: RunResults) -> list[Expectation]:
    """The expired known outcomes of this run's tests, each once."""
    return _select(results, lambda each, _: each.standing is Standing.EXPIRED)


def unmatched(results: RunResults) -> list[Expectation]:
    """The known outcomes that no test matched, although tests that they name ran to a verdict. Those for which an
    unexpected pass is reported are omitted."""
    answered = _select(results, lambda each, result: result.verdict in _ANSWERS and each.standing is Standing.OTHER)
    met = _select(results, lambda each, _: each.standing is Standing.MET)
    passed = [result.expected for result in results.results if result.is_unexpected_pass]
    done = {each.place for each in (*met, *passed) if each}
    return [each for each in answered if each.place not in done]


def _select(results: RunResults, are_wanted: Callable[[Expectation, Result], bool]) -> list[Expectation]:
    found: dict[str, Expectation] = {}
    for result in results.results:
        for each in result.expectations:
            if are_wanted(each, result):
                found.setdefault(each.place, each)
    return list(found.values())
