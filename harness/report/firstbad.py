"""Which of many changes made a test fail, where it may fail only sometimes: what passes and failures of a few of the
states between a good and a bad one say, and what to do next. docs/bisect.md explains the model, and bench/firstbad.py
measures how often it is right and what that costs.

A change is a number from 0; a set of changes is an integer with one bit for each. A state of the tree is what it
carries: the good end carries no change, the bad end carries all of them, and a state is bad if it carries the culprit.
So the same code serves a line of commits, a history with merges, a series, and a list of compilers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.model.comparison import Tally

SETTLED = 0.0001  # how likely a state is the other of good and bad, before another one is built
TOLD = 0.997  # the probability of one change from which the search ends
# How often a test fails, before anything is known: bad states at any rate, good ones never or nearly never. Beta
# distributions, as in evidence.py.
_BAD = (1.0, 1.0)
_GOOD = (0.1, 1.0)
_DOUBT = 0.001  # what is left of it when a state counts as settled, to estimate how many repetitions that takes


class NoSingleCulprit(Exception):
    """What was seen contradicts itself, if there is one culprit: a state is bad that has none of the changes left."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a state that carries the changes `carries`. `is_bad`: settled without statistics, as by a build
    that fails; None: it is not, and `tally` counts."""

    carries: int
    tally: Tally = field(default=Tally())
    is_bad: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Changes that nothing seen tells apart, `members`, with the probability that one of them is the culprit. `bad` and
    `good`: how often bad and good states are then expected to fail."""

    members: int
    probability: float
    bad: float
    good: float


@dataclass(frozen=True)
class Belief:
    """What is believed after some states were seen; the probabilities of all groups add up to 1."""

    groups: tuple[Group, ...]

    @property
    def best(self) -> Group:
        return max(self.groups, key=lambda group: group.probability)

    def is_bad(self, carries: int) -> float:
        """The probability that a state with these changes is bad."""
        return sum(group.probability * _share(group.members, carries) for group in self.groups)

    def probability(self, change: int) -> float:
        """The probability that a change is the culprit."""
        return sum(
            group.probability / group.members.bit_count() for group in self.groups if group.members >> change & 1
        )

    def repetition(self, carries: int) -> float:
        """How many bits one repetition of the test on a state is expected to tell of the culprit. At the ends, too,
        which are good and bad by definition: how often they fail says which of the other states behave alike."""
        fails = told = 0.0
        for group in self.groups:
            rate = group.bad if group.members & carries else group.good
            fails += group.probability * rate
            told += group.probability * bits(rate)
        return bits(fails) - told

    @property
    def to_settle(self) -> float:
        """How many repetitions it takes about to settle a state that is good; they all pass, so it takes the most."""
        best = self.best
        apart = _divergence(min(best.good, best.bad * 0.5), best.bad)
        return math.log(1 / _DOUBT) / apart


def _share(members: int, carries: int) -> float:
    return (members & carries).bit_count() / members.bit_count()


def bits(probability: float) -> float:
    """The entropy of a yes or no with this probability."""
    if not 0 < probability < 1:
        return 0.0
    return -probability * math.log2(probability) - (1 - probability) * math.log2(1 - probability)


def _divergence(truth: float, other: float) -> float:
    """How much evidence against the rate `other` an outcome brings on average if the rate is `truth`, in nats."""
    return truth * math.log(truth / other) + (1 - truth) * math.log((1 - truth) / (1 - other))


def believe(count: int, seen: Sequence[Seen], *, alike: Iterable[tuple[int, int]] = ()) -> Belief:
    """What to believe of `count` changes, each as likely as the others before anything is seen. `alike`: pairs of
    states whose kernels are the same, so that the culprit is in both or in neither. Raises NoSingleCulprit.

    The two rates are unknown; they are integrated over, each with a Beta distribution, for each possible culprit."""
    groups = _split([(1 << count) - 1], [each.carries for each in seen])
    for one, other in alike:
        groups = [group for group in _split(groups, [one, other]) if not group & (one ^ other)]
    groups = [
        group
        for group in groups
        if all(each.is_bad is None or bool(group & each.carries) is each.is_bad for each in seen)
    ]
    if not groups:
        raise NoSingleCulprit
    counted = [each for each in seen if each.is_bad is None]
    logs, rates = [], []
    for group in groups:
        counts = [0, 0, 0, 0]  # failures and passes of good states, then of bad ones
        for each in counted:
            side = 2 if group & each.carries else 0
            counts[side] += each.tally.failures
            counts[side + 1] += each.tally.passes
        good, bad = (counts[0], counts[1], *_GOOD), (counts[2], counts[3], *_BAD)
        logs.append(math.log(group.bit_count()) + _evidence(*bad) + _evidence(*good))
        rates.append((_rate(*bad), _rate(*good)))
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = sum(weights)
    return Belief(
        tuple(
            Group(members=group, probability=weight / total, bad=bad, good=good)
            for group, weight, (bad, good) in zip(groups, weights, rates, strict=True)
        )
    )


def _split(groups: Sequence[int], states: Iterable[int]) -> list[int]:
    found = list(groups)
    for carries in states:
        found = [part for group in found for part in (group & carries, group & ~carries) if part]
    return found


@functools.lru_cache(maxsize=1 << 14)
def _evidence(failures: int, passes: int, fails: float, succeeds: float) -> float:
    """The logarithm of the probability of these outcomes, in this order, at an unknown rate."""
    return _log_beta(failures + fails, passes + succeeds) - _log_beta(fails, succeeds)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _rate(failures: int, passes: int, fails: float, succeeds: float) -> float:
    return (failures + fails) / (failures + passes + fails + succeeds)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a build and a repetition take, in seconds."""

    build: float = 300.0
    repetition: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to do next with the state `state`: build it, or repeat the test on it. None: the search is over."""

    state: int | None
    is_build: bool = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where a search stands: `states` are what each state carries, `seen` those that are built, by their numbers;
    `skipped` can't be tested. `told`, `settled`: see TOLD and SETTLED. `most_builds`: how many states may be built; 0:
    as many as it takes."""

    count: int
    states: Sequence[int]
    seen: dict[int, Seen]
    skipped: frozenset[int] = frozenset()
    alike: tuple[tuple[int, int], ...] = ()
    cost: Cost = field(default=Cost())
    told: float = TOLD
    settled: float = SETTLED
    most_builds: int = 0

    @functools.cached_property
    def belief(self) -> Belief:
        return believe(self.count, list(self.seen.values()), alike=self.alike)

    def next(self) -> Step:
        """Say what brings most for its cost. Repetitions cost next to nothing beside a build, so a state is repeated
        until another build tells more, and one that was settled is repeated again when others make it doubtful."""
        belief = self.belief
        best = belief.best
        if best.probability >= self.told and not self._divides(best.members):
            return Step(state=None)
        repeatable = [
            (belief.repetition(each.carries), state) for state, each in self.seen.items() if each.is_bad is None
        ]
        told, again = max(repeatable, default=(0.0, 0))
        takes = self.cost.build + belief.to_settle * self.cost.repetition
        is_settled = all(
            min(bad, 1 - bad) <= self.settled for bad in (belief.is_bad(each.carries) for each in self.seen.values())
        )
        if is_settled and told / self.cost.repetition < 1 / takes:  # a state tells one bit at most
            unbuilt = self._best_unbuilt()
            if unbuilt is not None and bits(belief.is_bad(self.states[unbuilt])) / takes > told / self.cost.repetition:
                return Step(state=unbuilt, is_build=True)
        return Step(state=again if told > 0 else None)

    def _best_unbuilt(self) -> int | None:
        """The state to build that comes nearest to halving what is believed."""
        doubt = {state: abs(self.belief.is_bad(self.states[state]) - 0.5) for state in self._buildable}
        return min(doubt, key=doubt.__getitem__, default=None)

    @functools.cached_property
    def _buildable(self) -> tuple[int, ...]:
        """The states that can still be built."""
        tried = {*self.seen, *self.skipped}
        if 0 < self.most_builds <= len(tried):
            return ()
        return tuple(state for state in range(len(self.states)) if state not in tried)

    def _divides(self, members: int) -> bool:
        """Whether a state that can still be built would tell some of these changes from the others."""
        count = members.bit_count()
        return any(0 < (members & self.states[state]).bit_count() < count for state in self._buildable)
