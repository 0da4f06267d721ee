"""`harness.model.names`: names in messages."""

from __future__ import annotations

import time

from harness.model.names import nearest_first

FRAGMENTS = ["modules-far", "variants/kasan", "variants/lockdep", "variants/size"]


def test_the_misspelled_name_comes_first_and_none_is_left_out() -> None:
    assert nearest_first("variants/sise", FRAGMENTS)[0] == "variants/size"
    assert sorted(nearest_first("anything", FRAGMENTS)) == FRAGMENTS


def test_the_last_part_of_a_path_is_enough() -> None:
    assert nearest_first("kasna", FRAGMENTS)[0] == "variants/kasan"


def test_names_that_are_equally_far_are_in_alphabetical_order() -> None:
    assert nearest_first("", reversed(FRAGMENTS)) == FRAGMENTS


def test_a_long_name_takes_no_time() -> None:
    begun = time.process_time()
    nearest_first("variants/" * 100_000, FRAGMENTS)
    assert time.process_time() - begun < 5
