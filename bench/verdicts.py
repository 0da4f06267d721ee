#!/usr/bin/env python
"""How often a failure is rightly called a regression, on simulated histories, beside the rules that others use.

    .venv/bin/python bench/verdicts.py [--tests 1000] [--nights 60] [--seed 1]

A simulated test ran in so many nights before, then once with a new kernel. If it fails then, each rule may repeat it up
to 40 times. "Told" is the share of tests that a rule calls a regression: of those that became worse, given that they
failed in that night (a rule can't see what did not fail), and of all tests that did not. Needs no kernel."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.model.comparison import Tally
from harness.report import evidence
from harness.report.confirming import Standing

Again = Callable[[], bool | None]  # runs the test once more: whether it fails; None: the lab failed
Rule = Callable[[Sequence[bool], bool, Again], tuple[bool, int]]  # history, this night's failure: verdict, repetitions


@dataclass(frozen=True)
class Kind:
    """A kind of test: how often it fails before and with the new kernel, and how often the lab does."""

    name: str
    before: float
    since: float
    is_worse: bool
    lab: float = 0.0


KINDS = (
    Kind("solid regression", 0.0, 1.0, is_worse=True),
    Kind("0 to 20 %", 0.0, 0.2, is_worse=True),
    Kind("5 to 30 %", 0.05, 0.3, is_worse=True),
    Kind("5 % from the start", 0.05, 0.05, is_worse=False),
    Kind("20 % from the start", 0.2, 0.2, is_worse=False),
    Kind("50 % from the start", 0.5, 0.5, is_worse=False),
    Kind("never fails", 0.0, 0.0, is_worse=False),
    Kind("the lab fails, 80 % in that night", 0.0, 0.0, is_worse=False, lab=0.8),
)


def ours(history: Sequence[bool], _failure: bool, again: Again) -> tuple[bool, int]:
    before = evidence.tally_of(history[evidence.last_change(history) :])
    since, tries = Tally(failures=1), 0
    while not (standing := Standing(before=before, since=since)).is_decided and tries < 40:
        tries += 1
        fails = again()
        if fails is not None:
            since += Tally(failures=int(fails), passes=int(not fails))
    return standing.is_regression, tries


def three_of_three(_history: Sequence[bool], _failure: bool, again: Again) -> tuple[bool, int]:
    """Three failures in a row (kci-dev's bisection)."""
    for tries in (1, 2):
        if not again():
            return False, tries
    return True, 2


def stable_before(history: Sequence[bool], _failure: bool, _again: Again) -> tuple[bool, int]:
    """A failure counts if the test passed more than 15 times in a row (NIPA)."""
    return len(history) > 15 and not any(history[-16:]), 0


def retry_once(_history: Sequence[bool], _failure: bool, again: Again) -> tuple[bool, int]:
    """A failure counts if it fails again."""
    return bool(again()), 1


RULES: dict[str, Rule] = {
    "ours": ours,
    "3 fails of 3": three_of_three,
    "> 15 passes in a row": stable_before,
    "retry once": retry_once,
}


def told(kind: Kind, rule: Rule, *, tests: int, nights: int, seed: int) -> tuple[float, float]:
    """The share that a rule calls a regression, and how many repetitions it takes for a test that failed, on average.
    Every rule sees the same histories."""
    calls, tries = 0, []
    for number in range(tests):
        chance = random.Random(f"{seed} {kind.name} {number}")
        history = [chance.random() < kind.before for _ in range(nights)]
        while True:
            fails = chance.random() < kind.since
            if fails or not kind.is_worse:
                break
        if not fails:
            continue

        def again(chance: random.Random = chance) -> bool | None:
            if chance.random() < kind.lab:
                return None
            return chance.random() < kind.since

        verdict, spent = rule(history, fails, again)
        calls += verdict
        tries.append(spent)
    return calls / tests, statistics.fmean(tries) if tries else 0.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tests", type=int, default=1000)
    options.add_argument("--nights", type=int, default=60)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    print(f"| {given.tests} tests each, {given.nights} nights before | {' | '.join(RULES)} |")
    print(f"|---|{'---|' * len(RULES)}")
    for kind in KINDS:
        cells = []
        for rule in RULES.values():
            share, tries = told(kind, rule, tests=given.tests, nights=given.nights, seed=given.seed)
            cells.append(f"{100 * share:.1f} % ({tries:.0f})")
        print(f"| {kind.name}{' (told is right)' if kind.is_worse else ''} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
