"""How long tests took: what is learned, what is asked for, and what becomes of a bad record."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.result import Result, Verdict
from harness.run import limits, timings


def _result(test: str, seconds: float, verdict: Verdict = Verdict.PASS, actual: Verdict | None = None) -> Result:
    return Result(test=test, verdict=verdict, seconds=seconds, actual=actual)


def test_the_first_time_is_kept_as_it_is_and_later_ones_count_half(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    timings.learn(path, [_result("a", 8.0)])
    timings.learn(path, [_result("a", 4.0), _result("b", 1.0)])
    assert timings.load(path) == {"a": 6.0, "b": 1.0}
    assert [left.name for left in tmp_path.iterdir()] == ["board.json"]


@pytest.mark.parametrize("verdict", [Verdict.CRASH, Verdict.TIMEOUT, Verdict.ERROR, Verdict.NOTRUN])
def test_a_test_that_was_cut_short_tells_no_time(tmp_path: Path, verdict: Verdict) -> None:
    path = tmp_path / "board.json"
    timings.learn(path, [_result("a", 8.0, verdict), _result("b", 8.0, Verdict.XFAIL, actual=verdict)])
    assert timings.load(path) == {}


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '{"a": "long"}', '{"a": null}'])
def test_a_record_that_is_none_is_as_good_as_no_record(tmp_path: Path, text: str) -> None:
    path = tmp_path / "board.json"
    path.write_text(text)
    assert timings.load(path) == {}
    timings.learn(path, [_result("a", 2.0)])
    assert timings.load(path) == {"a": 2.0}


def test_what_nobody_has_seen_is_expected_to_take_its_time_limit() -> None:
    assert timings.expected({"a": 3.0}, "a") == 3.0
    assert timings.expected({"a": 3.0}, "b") == limits.budget("b")


def test_a_record_that_can_not_be_written_costs_no_run(tmp_path: Path) -> None:
    timings.learn(tmp_path / "not there" / "board.json", [_result("a", 2.0)])
    assert not (tmp_path / "not there").exists()
