"""The whole series on the whole set, beside the base and an older version: what differs, and since which patch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.campaign.review.lab import Lab
from harness.campaign.review.patchwise import MOST_REPEATED
from harness.campaign.review.pinning import pin
from harness.campaign.review.runs import Kernel, Runs, Seen
from harness.errors import BuildError
from harness.model.comparison import Tally
from harness.model.result import Result, Verdict
from harness.model.review import Difference, Kind, Pair, TestSet
from harness.report.evidence import worse_probability
from harness.report.failing import BOOT, fails, is_same

BASE, OLDER, NEWER = "base", "older", "newer"
_LIKELY = 0.5  # the probability from which a test that fails with the base at times is worse with the series


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A series as kernels: `kernels` by the number of patches, only those that may differ from the one before, from 0
    to the whole series. `since`: what is known already: since which patch tests fail."""

    kernels: Mapping[int, Kernel]
    since: Mapping[str, int]

    @property
    def whole(self) -> Kernel:
        return self.kernels[max(self.kernels)]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of the whole set. `seen`: by kernel (BASE, OLDER, NEWER) and test; `lost`: tests that pass with the
    base and say nothing with the series, each with the reason."""

    seen: Mapping[str, Mapping[str, Seen]]
    differences: tuple[Difference, ...]
    failing_before: tuple[str, ...]
    lost: tuple[str, ...] = ()


class Comparing:
    """Compares the base, a series and, if there is one, an older version of it. `rounds`: how often a test that differs
    is run again on each kernel."""

    def __init__(self, lab: Lab, runs: Runs, *, whole: TestSet, rounds: int) -> None:
        self._lab = lab
        self._runs = runs
        self._whole = whole
        self._rounds = rounds

    def compare(self, newer: Chain, older: Chain | None, pairs: Sequence[Pair]) -> Found:
        """Run the whole set on each kernel, then, in turns, what differs; return the differences, each with the patch
        that is to blame."""
        kernels = {BASE: newer.kernels[0], **({OLDER: older.whole} if older else {}), NEWER: newer.whole}
        seen = {name: self._runs.tested(kernel, self._whole) for name, kernel in kernels.items()}
        differing = _differing(seen)
        some = [test for test in dict.fromkeys(test for test, _ in differing) if test != BOOT][:MOST_REPEATED]
        for number in range(1, self._rounds + 1) if some else ():
            for kernel in kernels.values():
                self._runs.again(kernel, some, f"whole-{number}")
        found, before = [], []
        for test, failing in differing:
            tallies = {name: self._runs.tally(kernel, test, like=failing.result) for name, kernel in kernels.items()}
            if kind := _kind(tallies):
                found.append(Difference(kind=kind, failure=failing.failure(), tallies=tallies))
            else:
                before.append(test)
        blamed = [*self._blamed(found, newer, pairs, fixed=False)]
        if older:
            blamed += self._blamed(found, older, pairs, fixed=True)
        told = {test for test, _ in differing}
        always = [test for test, each in seen[BASE].items() if fails(each.result) and test not in told]
        return Found(
            seen=seen,
            differences=tuple(sorted(blamed, key=lambda each: list(Kind).index(each.kind))),
            failing_before=tuple(dict.fromkeys([*always, *before])),
            lost=tuple(_lost(seen[BASE], seen[NEWER])),
        )

    def _blamed(
        self, found: Iterable[Difference], chain: Chain, pairs: Sequence[Pair], *, fixed: bool
    ) -> list[Difference]:
        """Return the differences that are about the series `chain`, with the patch since which they are there."""
        ours = {each.failure.test: each for each in found if (each.kind is Kind.FIXED) is fixed}
        known = {test: _since(chain.since[test], chain) for test in ours if test in chain.since}
        ask = functools.partial(self._ask, chain)
        blamed = []
        for test, pinned in pin(ours, sorted(chain.kernels), known, ask).items():
            each = ours[test]
            doubt = ""
            if not _neighbours(pinned.good, pinned.patch, chain):
                among = f"one of the patches {pinned.good + 1} to {pinned.patch}"
                doubt = f"{among}: the kernels between could not be tried"
            blamed.append(
                Difference(
                    kind=each.kind,
                    failure=each.failure,
                    patch=None if doubt else pinned.patch,
                    pair=None if doubt else _partner(pinned.patch, pairs, fixed=fixed),
                    doubt=doubt,
                    tallies=each.tallies,
                )
            )
        return blamed

    def _ask(self, chain: Chain, number: int, tests: Sequence[str]) -> dict[str, bool | None]:
        kernel = chain.kernels[number]
        missing = [test for test in tests if test != BOOT and self._runs.latest(kernel, test) is None]
        answers: dict[str, bool | None] = {}
        try:
            if BOOT in tests and self._runs.latest(kernel, BOOT) is None:
                self._runs.tested(kernel, self._whole)
            for turn in range(1, max(1, self._rounds) + 1) if missing else ():
                self._runs.again(kernel, missing, f"since-{turn}")
        except BuildError:
            return dict.fromkeys(tests)
        for test in tests:
            answers[test] = self._answer(chain, kernel, test)
        return answers

    def _answer(self, chain: Chain, kernel: Kernel, test: str) -> bool | None:
        """Whether a test fails with a kernel as it does with the whole series; None: it said nothing. A kernel that
        does not have the test has not the failure either."""
        failing = self._runs.latest(chain.whole, test)
        if failing is None:
            return None
        tally = self._runs.tally(kernel, test, like=failing)
        if tally.runs:
            return tally.failures > 0
        boot = self._runs.latest(kernel, BOOT)
        has_booted = boot is not None and boot.verdict is Verdict.PASS
        return False if has_booted and self._runs.latest(kernel, test) is None else None


def _lost(base: Mapping[str, Seen], newer: Mapping[str, Seen]) -> Iterator[str]:
    """Tests that pass with the base, and are skipped or gone with a series that boots."""
    if BOOT not in newer or newer[BOOT].result.verdict is not Verdict.PASS:
        return
    for test, seen in base.items():
        now = newer[test].result if test in newer else None
        if seen.result.verdict is Verdict.PASS and (now is None or now.verdict is Verdict.SKIP):
            yield f"{test}: {now.reason if now else 'not there any more'}"


def _differing(seen: Mapping[str, Mapping[str, Seen]]) -> list[tuple[str, Seen]]:
    """The tests that fail with a series and not, or in another way, with the base; each with that failure. A test that
    fails in different ways with both versions is there twice."""
    newer = seen[NEWER]
    found = [(test, each) for test, each in newer.items() if _is_new(each, seen[BASE].get(test))]
    for test, each in seen.get(OLDER, {}).items():
        if _is_new(each, seen[BASE].get(test)) and not _is_so(newer.get(test), each.result):
            found.append((test, each))
    return found


def _is_new(seen: Seen, base: Seen | None) -> bool:
    return fails(seen.result) and not _is_so(base, seen.result)


def _is_so(before: Seen | None, now: Result) -> bool:
    return before is not None and fails(before.result) and is_same(before.result, now)


def _kind(tallies: Mapping[str, Tally]) -> Kind | None:
    """Return what kind of difference these tallies of a failure are; None if the base has it as well."""
    base, older, newer = tallies[BASE], tallies.get(OLDER, Tally()), tallies[NEWER]
    has_newer, has_older = (_is_worse(base, each) for each in (newer, older))
    if has_newer:
        return Kind.BOTH if has_older else Kind.NEW
    return Kind.FIXED if has_older else None


def _is_worse(base: Tally, since: Tally) -> bool:
    if not since.failures:
        return False
    return not base.failures or worse_probability(base, since) >= _LIKELY


def _since(patch: int, chain: Chain) -> dict[int, bool]:
    """What it says of each kernel that a test fails since `patch`."""
    before = max((number for number in chain.kernels if number < patch), default=0)
    return {before: False, **({patch: True} if patch in chain.kernels else {})}


def _neighbours(good: int, bad: int, chain: Chain) -> bool:
    return not any(good < number < bad for number in chain.kernels)


def _partner(patch: int, pairs: Sequence[Pair], *, fixed: bool) -> int | None:
    """Return the number of a patch's counterpart: `fixed`: of an older series' patch in the newer one."""
    for pair in pairs:
        ours, theirs = (pair.older, pair.newer) if fixed else (pair.newer, pair.older)
        if ours == patch:
            return theirs
    return None
