"""What a run writes down: its events, and the log of each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.model.result import EventKind, Expectation, Fault, FaultKind, Result, Verdict
from harness.report.events import parse_events
from harness.run.documents import read_results
from harness.run.recorder import Recorder

TEST = "selftests/livepatch/test-x::one / two"


def _events(recorder: Recorder) -> list[tuple[EventKind, str | None, dict[str, Any]]]:
    with recorder.path.open() as lines:
        return [(event.kind, event.test, dict(event.data)) for event in parse_events(lines)]


def test_what_is_recorded_comes_back_as_results(tmp_path: Path) -> None:
    crash = Result(
        test=TEST,
        verdict=Verdict.XFAIL,
        actual=Verdict.CRASH,
        reason="known",
        seconds=1.5,
        fault=Fault(kind=FaultKind.OOPS, title="oops in x", lines=("a", "b")),
        expected=Expectation(verdicts=(Verdict.CRASH,), reason="because"),
    )
    recorder = Recorder.of(tmp_path)
    recorder.began({"kernel": "7.3.4", "isolation": "test"})
    recorder.planned([TEST, "t"])
    recorder.changed(isolation="crash")
    recorder.started(TEST)
    recorded = recorder.finished(crash, "printed\n")
    recorder.note("by the way")
    recorder.ended("complete")
    results = read_results(tmp_path)
    assert results.properties == {"kernel": "7.3.4", "isolation": "crash"}
    first, second = results.results
    assert first.started is not None
    assert (first.test, first.verdict, first.actual, first.reason) == (TEST, Verdict.XFAIL, Verdict.CRASH, "known")
    assert (first.fault, first.expected, first.seconds) == (crash.fault, crash.expected, 1.5)
    assert first.log == recorded.log == "logs/selftests_livepatch_test-x_one_two.log"
    assert (tmp_path / first.log).read_text() == "printed\n"
    assert (second.test, second.verdict) == ("t", Verdict.NOTRUN)
    assert (results.notes, results.ended) == (("by the way",), "complete")


@pytest.mark.parametrize("log", ["", " \n"])
def test_a_test_that_printed_nothing_has_no_log(tmp_path: Path, log: str) -> None:
    assert Recorder.of(tmp_path).finished(Result(test="t", verdict=Verdict.PASS), log).log is None
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(("where", "told"), [("", ""), ("on another board", " on another board")])
def test_a_lost_attempt_is_no_result(tmp_path: Path, where: str, told: str) -> None:
    recorder = Recorder.of(tmp_path)
    recorder.started("t")
    recorder.lost(Result(test="t", verdict=Verdict.ERROR, reason="QEMU ended"), why="QEMU ended", where=where)
    assert recorder.finished_tests() == set()
    assert read_results(tmp_path).notes == (f"t: run again{told}, because QEMU ended",)


def test_several_processes_record_one_run_and_say_which_board_they_had(tmp_path: Path) -> None:
    one, two = Recorder.of(tmp_path, board="b1"), Recorder.of(tmp_path)
    one.finished(Result(test="a", verdict=Verdict.PASS))
    two.finished(Result(test="b", verdict=Verdict.PASS))
    two.problem("look here")
    assert one.finished_tests() == two.finished_tests() == {"a", "b"}
    (_, _, first), (_, _, second), (kind, _, third) = _events(two)
    assert (first["board"], "board" in second) == ("b1", False)
    assert (kind, third) == (EventKind.NOTE, {"text": "look here", "problem": True})


def test_outside_a_run_nothing_is_kept() -> None:
    nowhere = Recorder.nowhere()
    nowhere.note("unheard")
    assert nowhere.finished(Result(test="t", verdict=Verdict.PASS), "printed\n").log is None
