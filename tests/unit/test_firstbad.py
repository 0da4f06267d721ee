"""`harness.report.firstbad`: what is believed of changes and states, and what to do next. bench/firstbad.py measures
how often the answer is right."""

from __future__ import annotations

import pytest

from harness.model.comparison import Tally
from harness.report.firstbad import Cost, NoSingleCulprit, Search, Seen, believe

LINE = [(1 << count) - 1 for count in range(9)]  # eight changes in a row


def seen(carries: int, outcomes: str) -> Seen:
    return Seen(carries=carries, tally=Tally(passes=outcomes.count("."), failures=outcomes.count("F")))


def search(outcomes: dict[int, str], *, skipped: frozenset[int] = frozenset(), told: float = 0.99) -> Search:
    known = {state: seen(LINE[state], letters) for state, letters in outcomes.items()}
    return Search(count=8, states=LINE, seen=known, skipped=skipped, told=told)


def test_before_anything_is_seen_each_change_is_as_likely() -> None:
    belief = believe(8, [])
    assert [belief.probability(change) for change in range(8)] == pytest.approx([1 / 8] * 8)
    assert belief.is_bad(LINE[2]) == pytest.approx(2 / 8)
    assert (belief.is_bad(LINE[0]), belief.is_bad(LINE[8])) == (0.0, 1.0)


def test_the_two_rates_are_integrated_over() -> None:
    # One failure of one run in the middle. If that state is bad, the rate is uniform: 1/2; if it is good, the failure
    # has the mean of Beta(0.1, 1): 1/11. So it is bad with 1/2 : 1/11 = 11/13.
    assert believe(8, [seen(LINE[4], "F")]).is_bad(LINE[4]) == pytest.approx(11 / 13)


def test_passes_of_a_flaky_test_settle_nothing_at_once() -> None:
    ends = [seen(LINE[8], "F....F...FF..."), seen(LINE[0], "." * 20)]
    doubt = [believe(8, [*ends, seen(LINE[4], "." * runs)]).is_bad(LINE[4]) for runs in (0, 1, 5, 20, 60)]
    assert doubt[0] == pytest.approx(0.5)
    assert doubt == sorted(doubt, reverse=True)
    assert doubt[1] > 0.35
    assert doubt[4] < 0.001


def test_good_states_that_fail_now_and_then_are_good() -> None:
    ends = [seen(LINE[8], "F..F.F.F..F.F.F"), seen(LINE[0], "." * 38 + "FF")]
    assert believe(8, [*ends, seen(LINE[4], "F" + "." * 30)]).is_bad(LINE[4]) < 0.01
    assert believe(8, [*ends, seen(LINE[4], "F..F.F.F..F")]).is_bad(LINE[4]) > 0.99


def test_in_a_history_with_merges_a_state_has_what_was_merged() -> None:
    # 0 - A, beside it 0 - B, then M merges both. B's state does not have A's change.
    a, b, merge = 0b001, 0b010, 0b111
    belief = believe(3, [seen(0, "." * 20), seen(merge, "F" * 20), seen(b, "." * 20), seen(a, "." * 20)])
    assert belief.probability(2) > 0.999
    belief = believe(3, [seen(0, "." * 20), seen(merge, "F" * 20), seen(b, "." * 20), seen(a, "F" * 20)])
    assert belief.probability(0) > 0.999


def test_what_is_settled_needs_no_statistics() -> None:
    belief = believe(8, [Seen(carries=LINE[4], is_bad=True), Seen(carries=LINE[3], is_bad=False)])
    assert belief.probability(3) == 1.0
    with pytest.raises(NoSingleCulprit):
        believe(8, [Seen(carries=LINE[0], is_bad=True)])


def test_kernels_with_the_same_binaries_have_no_culprit_between_them() -> None:
    belief = believe(8, [], alike=[(LINE[2], LINE[6])])
    assert [belief.probability(change) for change in range(8)] == pytest.approx([1 / 4] * 2 + [0] * 4 + [1 / 4] * 2)


def test_the_first_state_to_build_halves_what_is_believed() -> None:
    step = search({0: "." * 5, 8: "F" * 5}).next()
    assert (step.state, step.is_build) == (4, True)
    step = search({0: "." * 5, 8: "F" * 5}, skipped=frozenset({4})).next()
    assert (step.state, step.is_build) in [(3, True), (5, True)]


def test_a_state_is_repeated_before_the_next_one_is_built() -> None:
    step = search({0: "." * 20, 8: "F..F.F..F.F.", 4: ".."}).next()
    assert (step.state, step.is_build) == (4, False)
    step = search({0: "." * 40, 8: "F..F.F..F.F.F.FF", 4: "." * 40}).next()
    assert (step.state, step.is_build) == (6, True)


def test_it_ends_with_neighbours_that_differ() -> None:
    solid = {0: "." * 20, 8: "F" * 20, 4: "." * 20, 6: "F" * 20}
    assert search(solid).next().state == 5
    assert search({**solid, 5: "F" * 20}).next().state is None
    assert search({**solid, 5: "F" * 20}).belief.best.members == 1 << 4


def test_what_lies_between_skipped_states_stays_together() -> None:
    found = search({0: "." * 20, 8: "F" * 20, 4: "." * 20, 7: "F" * 20}, skipped=frozenset({5, 6}))
    assert found.next().state is None
    assert found.belief.best.members == 0b1110000


def test_a_state_that_others_make_doubtful_is_repeated_again() -> None:
    """State 4 passed by chance; all behind it fails as the bad end does; so the search comes back to it."""
    unlucky = {0: "." * 20, 8: "FF.F.FFF.F.FF", 4: "....", 6: "FF.F.F", 5: "F.FF.F"}
    step = search(unlucky).next()
    assert (step.state, step.is_build) == (4, False)


def test_dear_repetitions_are_spent_more_sparingly() -> None:
    outcomes = {0: "." * 20, 8: "FFF.FFF.FF", 4: "." * 6}
    known = {state: seen(LINE[state], letters) for state, letters in outcomes.items()}
    cheap = Search(count=8, states=LINE, seen=known, cost=Cost(build=300.0, repetition=1.0), settled=0.5)
    dear = Search(count=8, states=LINE, seen=known, cost=Cost(build=10.0, repetition=300.0), settled=0.5)
    assert not cheap.next().is_build
    assert dear.next().is_build


def test_with_as_many_builds_as_are_allowed_the_rest_stays_together() -> None:
    known = {state: seen(LINE[state], letters) for state, letters in {0: "." * 20, 8: "F" * 20, 4: "." * 20}.items()}
    assert Search(count=8, states=LINE, seen=known, most_builds=4).next().is_build
    last = Search(count=8, states=LINE, seen=known, most_builds=3)
    assert last.next().state is None
    assert last.belief.best.members == 0b11110000
