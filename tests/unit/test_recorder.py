"""What a run writes down: its events, and the log of each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.event import AttemptEnded, Booted, Event, Finished, Note, Started
from harness.model.record import KernelRecord, RunRecord
from harness.model.result import EndKind, Expectation, Fault, FaultKind, Result, RunEnd, Verdict
from harness.parse.events import parse_events
from harness.run.documents import read_results
from harness.run.recorder import Recorder

TEST = "selftests/livepatch/test-x::one / two"


def _events(recorder: Recorder) -> list[Event]:
    with recorder.path.open() as lines:
        return list(parse_events(lines))


def test_what_is_recorded_comes_back_as_results(tmp_path: Path) -> None:
    crash = Result(
        test=TEST,
        verdict=Verdict.XFAIL,
        actual=Verdict.CRASH,
        reason="known",
        seconds=1.5,
        fault=Fault(kind=FaultKind.OOPS, title="oops in x", lines=("a", "b")),
        expectations=(Expectation(verdicts=(Verdict.CRASH,), reason="because"),),
    )
    recorder = Recorder.of(tmp_path)
    recorder.began(RunRecord(kernel=KernelRecord(release="7.3.4"), isolation="test"))
    recorder.planned([TEST, "t"])
    recorder.changed(isolation="crash")
    recorder.started(TEST)
    recorded = recorder.finished(crash, "printed\n")
    recorder.note("by the way")
    recorder.ended(RunEnd(kind=EndKind.MAXFAIL))
    results = read_results(tmp_path)
    assert (results.record.kernel.release, results.record.isolation) == ("7.3.4", "crash")
    first, second = results.results
    assert first.started is not None
    assert (first.test, first.verdict, first.actual, first.reason) == (TEST, Verdict.XFAIL, Verdict.CRASH, "known")
    assert (first.fault, first.expectations, first.seconds) == (crash.fault, crash.expectations, 1.5)
    assert first.log == recorded.log == "logs/selftests_livepatch_test-x_one_two.log"
    assert (tmp_path / first.log).read_text() == "printed\n"
    assert (second.test, second.verdict) == ("t", Verdict.NOTRUN)
    assert (results.notes, results.ended) == (("by the way",), RunEnd(kind=EndKind.MAXFAIL))


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
    first, second, note = _events(two)
    assert (first.board, second.board) == ("b1", "")
    assert isinstance(note, Note)
    assert (note.text, note.is_problem) == ("look here", True)


def test_every_attempt_keeps_its_log_and_says_on_which_machine_it_ran(tmp_path: Path) -> None:
    recorder = Recorder.of(tmp_path, worker="gw0", board="b1")
    recorder.booted(seconds=1.0, factor=1.0, restored=False)
    recorder.started("t")
    recorder.lost(Result(test="t", verdict=Verdict.ERROR, reason="gone"), "first", why="gone")
    recorder.gone()
    recorder.started("t")
    recorder.booted(seconds=1.0, factor=1.0, restored=True)
    recorder.gone()  # before the verdict is written down, as after a crash
    recorder.finished(Result(test="t", verdict=Verdict.FAIL), "second")
    recorder.started("none", uses_machine=False)
    recorder.finished(Result(test="none", verdict=Verdict.PASS))
    recorder.started("skipped")  # before another machine is there
    recorder.finished(Result(test="skipped", verdict=Verdict.SKIP))
    one, none, skipped = read_results(tmp_path).results
    machines = ["gw0/boot-1", "gw0/restored-2"]
    assert [each.machine for each in one.attempts] == machines
    assert [(tmp_path / str(each.log)).read_text() for each in one.attempts] == ["first", "second"]
    assert (one.verdict, one.machine, one.board, one.log) == (Verdict.FAIL, machines[1], "b1", "logs/t.2.log")
    assert (none.machine, skipped.machine) == ("", "")
    events = _events(recorder)
    assert [event.machine for event in events if isinstance(event, Booted | Started)] == [
        machines[0], machines[0], "", machines[1], "", "",
    ]  # fmt: skip
    assert next(type(event) for event in events if isinstance(event, AttemptEnded | Finished)) is AttemptEnded


def test_what_another_process_ran_was_not_on_a_machine_of_this_one(tmp_path: Path) -> None:
    worker, own = Recorder.of(tmp_path, worker="gw1"), Recorder.of(tmp_path)
    own.booted(seconds=1.0, factor=1.0, restored=False)
    worker.booted(seconds=1.0, factor=1.0, restored=True)
    worker.started("t")
    own.lost(Result(test="t", verdict=Verdict.ERROR, reason="its worker died"), why="its worker died")
    (result,) = read_results(tmp_path).results
    assert (result.machine, result.reason) == ("gw1/restored-1", "its worker died")
    assert result.seconds > 0


def test_outside_a_run_nothing_is_kept() -> None:
    nowhere = Recorder.nowhere()
    nowhere.note("unheard")
    assert nowhere.finished(Result(test="t", verdict=Verdict.PASS), "printed\n").log is None
