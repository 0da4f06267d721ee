"""testcases/expectations.yaml: outcomes that are known, each with its reason. Text in, a table out."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from harness.errors import UserError
from harness.model.result import Expectation, Verdict
from harness.parse import document


class _Entry(document.Strict):
    test: str
    verdict: list[str]
    reason: str
    kernel: str = ""
    board: str = "*"


class _Expectations(document.Strict):
    expectations: list[_Entry]


@dataclass(frozen=True, kw_only=True)
class _Rule:
    test: str
    board: str
    lowest: tuple[int, ...]
    highest: tuple[int, ...]
    expectation: Expectation


class Expectations:
    """The known outcomes that hold on one kernel and board."""

    def __init__(self, rules: list[_Rule], *, release: str, board: str) -> None:
        version = _version(release)
        self._rules = [
            rule
            for rule in rules
            if fnmatch.fnmatchcase(board, rule.board) and rule.lowest <= version[: len(rule.lowest) or None]
            if not rule.highest or version[: len(rule.highest)] <= rule.highest
        ]

    def of(self, test: str) -> Expectation | None:
        """What is known of the test with this id: the last rule that names it, or a pattern it matches."""
        matching = [rule for rule in self._rules if rule.test == test or fnmatch.fnmatchcase(test, rule.test)]
        return matching[-1].expectation if matching else None


def parse_expectations(text: str, *, place: str, release: str, board: str) -> Expectations:
    """The outcomes known for kernel `release` (as ``7.3.4``) on `board`. UserError for what is malformed.

    An entry: ``test`` (an id or a pattern), ``verdict`` (list), ``reason``, and if it does not hold everywhere
    ``kernel`` (``7.3``, ``6.1..6.12``, ``..6.6``, ``7.0..``; both ends belong to it) and ``board`` (a pattern)."""
    data = document.load(text, place=place) or {"expectations": []}
    entries = document.shaped(data, _Expectations, place=place).expectations
    rules = [_rule(entry, f"{place}: expectations.{number}") for number, entry in enumerate(entries)]
    return Expectations(rules, release=release, board=board)


def _rule(entry: _Entry, place: str) -> _Rule:
    known = {str(verdict) for verdict in Verdict}
    for verdict in entry.verdict:
        if verdict not in known:
            raise UserError(f"{place}.verdict: expected some of {', '.join(sorted(known))}, found {verdict!r}")
    ends = entry.kernel.split("..") if ".." in entry.kernel else [entry.kernel, entry.kernel]
    if len(ends) != 2 or any(end and not re.fullmatch(r"\d+(\.\d+)*", end) for end in ends):
        raise UserError(f"{place}.kernel: expected a version or a range as 6.1..6.12, found {entry.kernel!r}")
    return _Rule(
        test=entry.test,
        board=entry.board,
        lowest=_version(ends[0]),
        highest=_version(ends[1]),
        expectation=Expectation(
            verdicts=tuple(Verdict(verdict) for verdict in entry.verdict), reason=" ".join(entry.reason.split())
        ),
    )


def _version(release: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
