#!/usr/bin/env python
"""How often a search for the first bad commit names the right one, and what it costs, beside what others do.

    .venv/bin/python bench/firstbad.py [--searches 2000] [--seed 1] [--jobs 2] [--bayesect]

Each simulated search has 64 commits, of which any one may be the first bad one. All methods draw from the same
outcomes: the n-th run of a commit in one search ends alike for each. A build takes 300 s, a repetition 2 s; a commit is
built once in a search. --bayesect installs git-bayesect from PyPI into a temporary venv and drives its class Bisector;
it runs until it is as sure as its own default (95 %). Cost per right answer is what all searches of a method took, by
the number of its right answers. Needs no kernel; takes minutes of CPU time. (A script named bisect.py here would be
taken for the standard library's module by every other one.)"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.campaign.bisect.hunt import Built, Hunt, Rules
from harness.model.bisect import Change, Found, Kind, Outcome, Progressed, RangeKind, line_of
from harness.report.firstbad import Cost

COMMITS = 64
COST = Cost(build=300.0, repetition=2.0)
PEER = "git-bayesect==1.2"
_MOST = 5000  # runs of a search that does not end


@dataclass(frozen=True)
class Rates:
    """How often bad and good commits fail."""

    bad: float
    good: float

    def __str__(self) -> str:
        return f"{self.bad:.0%} against {self.good:.0%}"


KINDS = (Rates(0.5, 0.0), Rates(0.2, 0.0), Rates(0.3, 0.05))


class Draws:
    """The outcomes of one search. Commit 0 is the good end; commits from `culprit` on are bad."""

    def __init__(self, kind: Rates, seed: str) -> None:
        self._kind = kind
        self._seed = seed
        self.culprit = random.Random(f"{seed} culprit").randrange(1, COMMITS + 1)
        self._streams: dict[int, random.Random] = {}
        self.runs = 0

    @property
    def builds(self) -> int:
        return len(self._streams)

    @property
    def cost(self) -> float:
        return self.builds * COST.build + self.runs * COST.repetition

    def fails(self, commit: int) -> bool:
        stream = self._streams.setdefault(commit, random.Random(f"{self._seed} {commit}"))
        self.runs += 1
        return stream.random() < (self._kind.bad if commit >= self.culprit else self._kind.good)


Method = Callable[[Draws], int]


class _Simulated:
    """A Tester that draws."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def build(self, state: int) -> Built:
        return Built(directory=str(state), binaries=str(state), seconds=COST.build)

    def build_reverted(self, _change: int) -> Built | str:
        return "not simulated"

    def repeat(self, _built: Built, state: int, see: Callable[[Outcome], bool]) -> None:
        while not see(Outcome(kind=Kind.FAIL if self._draws.fails(state) else Kind.PASS, failure="it")):
            pass


def ours(draws: Draws, most_builds: int = 0) -> int:
    """`harness bisect` itself, with both ends and the repetitions at the end."""
    changes = tuple(Change(name=str(number)) for number in range(1, COMMITS + 1))
    search = Hunt(
        line_of(RangeKind.GIT, "0", changes),
        _Simulated(draws),
        Rules(test="t", most_builds=most_builds),
        progress=Progressed(identity=""),
        save=lambda _progress: None,
        say=lambda _text: None,
        cost=COST,
    )
    answer = search.answer()
    return int(answer.culprits[0].name) if answer.found is Found.CULPRIT else 0


def halving(draws: Draws, is_bad: Callable[[int], bool]) -> int:
    good, bad = 0, COMMITS
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if is_bad(middle) else (middle, bad)
    return bad


def git_bisect(draws: Draws) -> int:
    return halving(draws, draws.fails)


def three_of_three(draws: Draws) -> int:
    return halving(draws, lambda commit: all(draws.fails(commit) for _ in range(3)))


def bayesect(draws: Draws) -> int:
    """git-bayesect's own choice of the next commit, until it is as sure as its default; its index 0 is the newest."""
    from git_bayesect import Bisector  # type: ignore[import-not-found]

    search: Any = Bisector([1.0] * COMMITS)
    while search.distribution.max() < 0.95 and draws.runs < _MOST:
        index = search.select()
        search.record(index, draws.fails(COMMITS - index))
    return COMMITS - int(search.distribution.argmax())


METHODS: dict[str, Method] = {
    "git bisect": git_bisect,
    "3 fails of 3": three_of_three,
    PEER: bayesect,
    "harness bisect": ours,
    "harness bisect --builds 8": partial(ours, most_builds=8),
}


@dataclass(frozen=True)
class Search:
    is_right: bool
    builds: int
    runs: int
    cost: float


def search(method: str, kind: Rates, seed: str) -> Search:
    draws = Draws(kind, seed)
    named = METHODS[method](draws)
    return Search(named == draws.culprit, draws.builds, draws.runs, draws.cost)


def row(method: str, kind: Rates, found: Sequence[Search]) -> str:
    right, count = sum(each.is_right for each in found), len(found)
    builds = [each.builds for each in found]
    over = sum(each > math.log2(COMMITS) + 2 for each in builds)
    cost = sum(each.cost for each in found)
    return (
        f"| {kind} | {method} | {right / count:.1%}"
        f" | {statistics.mean(builds):.2f} (most {max(builds)}, over 8: {over})"
        f" | {statistics.mean(each.runs for each in found):.0f} | {cost / count:,.0f} s"
        f" | {f'{cost / right:,.0f} s' if right else '-'} |"
    )


def measured(method: str, kind: Rates, seeds: Sequence[str], jobs: int) -> list[Search]:
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(partial(search, method, kind), seeds, chunksize=20))


def print_rows(methods: Sequence[str], seeds: Sequence[str], jobs: int) -> None:
    for kind in KINDS:
        for method in methods:
            print(row(method, kind, measured(method, kind, seeds, jobs)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--searches", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bayesect", action="store_true", help="also measure git-bayesect, from PyPI")
    parser.add_argument("--methods", default="", help=argparse.SUPPRESS)  # what this script asks of itself in a venv
    given = parser.parse_args()
    seeds = [f"{given.seed} {number}" for number in range(given.searches)]
    if given.methods:
        print_rows(json.loads(given.methods), seeds, given.jobs)
        return
    print("| fails | method | right | builds | runs | cost | cost per right answer |\n|---|---|---|---|---|---|---|")
    print_rows([name for name in METHODS if name != PEER], seeds, given.jobs)
    if given.bayesect:
        with tempfile.TemporaryDirectory() as directory:
            python = Path(directory) / "bin/python"
            subprocess.run([sys.executable, "-m", "venv", directory], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
            words = [__file__, "--methods", json.dumps([PEER]), "--jobs", str(given.jobs)]
            words += ["--searches", str(given.searches), "--seed", str(given.seed)]
            subprocess.run([python, *words], check=True)


if __name__ == "__main__":
    main()
