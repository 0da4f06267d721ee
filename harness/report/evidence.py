"""What passes and failures say about a test: how often it fails, since when, and whether it fails more often than
before. docs/verdicts.md explains the model and what it assumes; bench/verdicts.py measures how often it is wrong.

An outcome here is True for a failure and False for a pass. Everything else (a skip, an error of the lab, a test that
did not run) is no outcome. All sequences are in the order of time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

from harness.model.comparison import Tally

# How often tests fail, before anything is known about one: most of them never or nearly never. A Beta distribution.
_RARELY, _USUALLY = 0.1, 1.0
_GRID = 160  # rates that are considered, evenly in log odds
_FARTHEST = 9.0  # log odds: rates from 1 in 8,000 on
_CHANGE_ODDS = 0.01  # that a test's rate changes at all, before its outcomes are looked at
_LEAST_CHANGE = 20.0  # posterior odds from which a change is believed
WORSE_ODDS = 0.1  # that a change to the kernel makes a given test fail more often, before its outcomes are looked at


def tally_of(outcomes: Sequence[bool]) -> Tally:
    """Count `outcomes`."""
    failures = sum(outcomes)
    return Tally(passes=len(outcomes) - failures, failures=failures)


def rate(tally: Tally) -> float:
    """Return the share of failures that is expected next time: between 0 and 1, never exactly either."""
    return (tally.failures + _RARELY) / (tally.runs + _RARELY + _USUALLY)


def interval(tally: Tally, level: float = 0.9) -> tuple[float, float]:
    """Return the range of rates that holds `level` of what is believed, and leaves out the least likely ones."""
    weights = _posterior(tally)
    order = sorted(range(_GRID), key=weights.__getitem__, reverse=True)
    total, held = 0.0, []
    for index in order:
        held.append(index)
        total += weights[index]
        if total >= level:
            break
    rates = _rates()
    return rates[min(held)], rates[max(held)]


@functools.cache
def _rates() -> tuple[float, ...]:
    step = 2 * _FARTHEST / (_GRID - 1)
    return tuple(1 / (1 + math.exp(_FARTHEST - index * step)) for index in range(_GRID))


@functools.cache
def _prior() -> tuple[float, ...]:
    """The weight of each rate of the grid under the Beta distribution: density times width, both in log odds."""
    weights = [rate**_RARELY * (1 - rate) ** _USUALLY for rate in _rates()]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@functools.cache
def _even() -> tuple[float, ...]:
    """The weight of each rate of the grid where all rates are equally likely."""
    weights = [rate * (1 - rate) for rate in _rates()]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


@functools.lru_cache(maxsize=4096)
def _likelihoods(tally: Tally) -> tuple[float, ...]:
    """The logarithm of the probability of `tally`, for each rate of the grid."""
    return tuple(tally.failures * math.log(rate) + tally.passes * math.log1p(-rate) for rate in _rates())


def _posterior(tally: Tally) -> list[float]:
    logs = [math.log(weight) + likely for weight, likely in zip(_prior(), _likelihoods(tally), strict=True)]
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _log_evidence(tally: Tally) -> float:
    """The logarithm of the probability of these outcomes, in this order, of a test with one unknown rate."""
    return _log_beta(tally.failures + _RARELY, tally.passes + _USUALLY) - _log_beta(_RARELY, _USUALLY)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def worse_probability(before: Tally, since: Tally, *, odds: float = WORSE_ODDS) -> float:
    """The probability that the test fails more often now than before; `odds` is what is believed without looking.

    Two explanations are compared: one rate for all outcomes, or a rate before and a higher one since."""
    rates = range(_GRID)
    first, second = _likelihoods(before), _likelihoods(since)
    top_first, top_second = max(first), max(second)
    likely_first = [math.exp(log - top_first) for log in first]
    likely_second = [math.exp(log - top_second) for log in second]
    prior, even = _prior(), _even()
    same = sum(prior[i] * likely_first[i] * likely_second[i] for i in rates)
    # from the highest rate down: what all higher rates make of the outcomes since
    worse = above = weight_above = 0.0
    for i in reversed(rates):
        if weight_above > 0:
            worse += prior[i] * likely_first[i] * above / weight_above
        above += even[i] * likely_second[i]
        weight_above += even[i]
    if worse == 0.0:
        return 0.0
    if same == 0.0:
        return 1.0
    believed = odds * worse / same
    return believed / (1 + believed)


def last_change(outcomes: Sequence[bool]) -> int:
    """The index from which the test behaves as it does at the end of `outcomes`; 0 if it always has.

    A change has to explain the outcomes far better than one rate does, so a short history has none."""
    begin = 0
    while (step := _best_split(outcomes[begin:])) > 0:
        begin += step
    return begin


def _best_split(outcomes: Sequence[bool]) -> int:
    """The index of the one change that explains `outcomes` best; 0 if one rate explains them well enough."""
    count = len(outcomes)
    whole = tally_of(outcomes)
    if count < 2 or not 0 < whole.failures < whole.runs:
        return 0
    alone = _log_evidence(whole)
    failures = list(itertools.accumulate(outcomes, initial=0))
    gains = []
    for split in range(1, count):
        left = Tally(failures=failures[split], passes=split - failures[split])
        right = Tally(failures=whole.failures - left.failures, passes=whole.passes - left.passes)
        gains.append(_log_evidence(left) + _log_evidence(right) - alone)
    top = max(gains)
    odds = _CHANGE_ODDS * sum(math.exp(gain - top) for gain in gains) / (count - 1) * math.exp(min(top, 700.0))
    return gains.index(top) + 1 if odds >= _LEAST_CHANGE else 0
