"""What passes and failures say: rates, changes, and whether a test became worse."""

from __future__ import annotations

import pytest

from harness.model.comparison import Tally
from harness.report import evidence
from harness.report.compare import TOLD


def tally(failures: int, runs: int) -> Tally:
    return Tally(failures=failures, passes=runs - failures)


def worse(before: tuple[int, int], since: tuple[int, int]) -> float:
    return evidence.worse_probability(tally(*before), tally(*since))


def test_a_test_that_never_failed_and_fails_each_time_now_is_worse() -> None:
    assert worse((0, 30), (3, 3)) > TOLD
    assert 0.5 < worse((0, 30), (1, 1)) < TOLD  # likely, and worth a repetition


def test_what_failed_as_often_before_is_not_worse() -> None:
    assert worse((6, 30), (1, 1)) < 0.3
    assert worse((6, 30), (10, 40)) < 0.1
    assert worse((15, 30), (9, 12)) < 0.5


def test_a_flake_that_appears_is_worse_once_it_was_seen_often_enough() -> None:
    chances = [worse((0, 60), (failures, 5 * failures)) for failures in (1, 2, 4, 8)]
    assert chances == sorted(chances)
    assert chances[0] < 0.5
    assert chances[-1] > TOLD


def test_passes_are_never_worse() -> None:
    assert worse((5, 30), (0, 40)) < 0.01


def test_without_a_history_one_failure_says_little() -> None:
    assert worse((0, 0), (1, 1)) < 0.5


def test_more_passes_before_make_a_failure_more_telling() -> None:
    chances = [worse((0, runs), (1, 1)) for runs in (0, 1, 5, 30, 100, 1000)]
    assert chances == sorted(chances)


@pytest.mark.parametrize("runs", [1, 1000, 100_000])
def test_nothing_overflows_however_long_the_history_is(runs: int) -> None:
    for before in ((0, runs), (runs, runs), (runs // 2, runs)):
        for since in ((0, runs), (runs, runs)):
            assert 0.0 <= worse(before, since) <= 1.0


def test_a_rate_is_near_what_was_seen_and_never_certain() -> None:
    assert 0.18 < evidence.rate(tally(20, 100)) < 0.22
    assert 0.0 < evidence.rate(tally(0, 100)) < 0.01
    assert 0.9 < evidence.rate(tally(100, 100)) < 1.0


def test_an_interval_holds_the_rate_and_narrows() -> None:
    few, many = (evidence.interval(tally(runs // 5, runs)) for runs in (10, 1000))
    assert few[0] < many[0] < 0.2 < many[1] < few[1]
    assert many[1] - many[0] < 0.06


def test_a_change_is_found_where_it_was() -> None:
    assert evidence.last_change([False] * 50 + [True] * 8) == 50
    assert evidence.last_change([True] * 20 + [False] * 40) == 20


def test_the_last_of_several_changes_counts() -> None:
    assert evidence.last_change([False] * 40 + [True] * 30 + [False] * 25) == 70


@pytest.mark.parametrize(
    "outcomes", [[], [True], [False, True], [False] * 100, [True] * 100, [False, False, False, False, True] * 20]
)
def test_what_always_behaved_like_this_has_no_change(outcomes: list[bool]) -> None:
    assert evidence.last_change(outcomes) == 0
