"""From events to one verdict for each test, whatever became of the run."""

from __future__ import annotations

import dataclasses

import pytest

from harness.model.event import (
    AttemptEnded,
    Booted,
    Event,
    Finished,
    Note,
    Planned,
    RunBegun,
    RunChanged,
    RunEnded,
    Started,
)
from harness.model.record import BoardRecord, RunRecord
from harness.model.result import Attempt, BootTime, EndKind, Result, RunEnd, Verdict
from harness.report.fold import KILLED, fold

RECORD = RunRecord(board=BoardRecord(name="qemu-virt"), workers=2)


class Log:
    """Writes events a second apart."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, event: Event) -> Log:
        self.events.append(dataclasses.replace(event, time=100.0 + len(self.events)))
        return self

    def ran(self, test: str, verdict: str = "PASS", **more: object) -> Log:
        result = Result(test=test, verdict=Verdict(verdict), **more)  # type: ignore[arg-type]
        return self.add(Started(test=test)).add(Finished(result=result))

    def ended(self, kind: EndKind = EndKind.COMPLETE, reason: str = "") -> Log:
        return self.add(RunEnded(end=RunEnd(kind=kind, reason=reason)))


def planned(*tests: str) -> Log:
    return Log().add(RunBegun(record=RECORD)).add(Planned(tests=tests))


def by_test(log: Log) -> dict[str, Result]:
    return {result.test: result for result in fold(log.events).results}


def test_a_whole_run() -> None:
    log = planned("a", "b").ran("b", "FAIL", reason="no", seconds=2.5, log="logs/b", machine="boot-1").ran("a")
    log.add(Note(text="rebooted")).add(Note(test="a", text="left a kprobe behind"))
    log.add(Booted(seconds=2.0)).ended()
    results = fold(log.events)
    assert [result.test for result in results.results] == ["a", "b"]
    assert results.results[1] == Result(
        test="b",
        verdict=Verdict.FAIL,
        reason="no",
        seconds=2.5,
        started=102.0,
        log="logs/b",
        machine="boot-1",
        board="qemu-virt",
    )
    assert results.record == RECORD
    assert results.notes == ("rebooted", "a: left a kprobe behind")
    assert (results.started, results.seconds, results.ended) == (100.0, 9.0, RunEnd(kind=EndKind.COMPLETE))
    assert results.exit_code == 1


def test_what_a_run_came_to() -> None:
    log = planned("a").add(RunChanged(isolation="crash")).add(RunChanged(workers=1))
    assert fold(log.events).record == dataclasses.replace(RECORD, isolation="crash", workers=1)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (RunEnd(kind=EndKind.INTERRUPTED), "the run was interrupted before this test"),
        (RunEnd(kind=EndKind.MAXFAIL), "the run reached its limit of failures before this test"),
        (
            RunEnd(kind=EndKind.NOT_BOOTED, reason="it panicked"),
            "not run: the target could not be booted: it panicked",
        ),
        (RunEnd(kind=EndKind.INTERRUPTED, reason="SIGTERM"), "the run was interrupted before this test: SIGTERM"),
        (RunEnd(kind=EndKind.COMPLETE), "the run ended without starting this test"),
        (RunEnd(kind=EndKind.WORKERS_LOST, reason="killed"), "not run: workers kept dying; the last one: killed"),
        (RunEnd(kind=EndKind.OTHER, reason="struck"), "not run: struck"),
        (None, KILLED),
    ],
)
def test_planned_but_not_started(end: RunEnd | None, reason: str) -> None:
    log = planned("a", "b").ran("a")
    if end is not None:
        log.add(RunEnded(end=end))
    result = by_test(log)["b"]
    assert (result.verdict, result.reason, result.board) == (Verdict.NOTRUN, reason, "")
    assert fold(log.events).exit_code == 3


def test_started_but_not_finished() -> None:
    log = planned("a", "b").add(Started(test="a", machine="boot-1", board="two")).add(Note(text="tick"))
    result = by_test(log)["a"]
    assert (result.verdict, result.reason) == (Verdict.ERROR, "the run ended while this test was running")
    assert (result.started, result.seconds, result.machine, result.board) == (102.0, 1.0, "boot-1", "two")
    assert fold(log.events).ended is None


def test_the_machine_of_an_attempt_that_was_cut_off_is_the_last_one_its_worker_had() -> None:
    log = (
        planned("a", "b")
        .add(Started(test="a", worker="gw0", machine="gw0/boot-1"))
        .add(Started(test="b", worker="gw1"))
    )
    log.add(Booted(worker="gw1", machine="gw1/restored-1")).add(Booted(worker="gw1"))
    found = by_test(log)
    assert (found["a"].machine, found["b"].machine) == ("gw0/boot-1", "gw1/restored-1")


def test_a_verdict_on_the_kernel_outlives_an_attempt_that_was_cut_off() -> None:
    log = planned("a", "b").ran("a", "CRASH").ran("b").add(Started(test="b")).add(Note(text="tick"))
    result = by_test(log)["b"]
    assert (result.verdict, result.reason) == (Verdict.PASS, "")
    assert [each.verdict for each in result.attempts] == [Verdict.PASS, Verdict.ERROR]
    assert result.attempts[1].reason == "the run ended while this test was running"


def test_a_pass_does_not_replace_a_fault() -> None:
    log = planned("a").ran("a", "FAIL", reason="no", board="one", log="logs/a.log")
    log.ran("a", "PASS", board="two", log="logs/a.2.log").ended()
    results = fold(log.events)
    (result,) = results.results
    assert (result.verdict, result.board, result.log) == (Verdict.FAIL, "one", "logs/a.log")
    assert result.reason == "no [attempt 1 of 2; attempt 2: PASS on two]"
    assert [(each.verdict, each.board, each.log) for each in result.attempts] == [
        (Verdict.FAIL, "one", "logs/a.log"),
        (Verdict.PASS, "two", "logs/a.2.log"),
    ]
    assert results.exit_code == 1


def test_an_attempt_that_ended_by_itself_and_one_that_nobody_saw_end() -> None:
    """The second one's worker died: the run's own process wrote that down, later, and knows less of it."""
    log = planned("a").add(Started(test="a", machine="gw0/restored-1", worker="gw0"))
    lost = Attempt(verdict=Verdict.ERROR, reason="QEMU ended", seconds=0.25, machine="gw0/restored-1")
    log.add(AttemptEnded(test="a", attempt=lost))
    log.add(Started(test="a", machine="gw0/restored-2", worker="gw0"))
    log.add(Note(text="tick"))
    log.add(AttemptEnded(test="a", attempt=Attempt(verdict=Verdict.ERROR, reason="its worker died")))
    log.add(Started(test="a", machine="gw1/restored-1", worker="gw1", board="two"))
    log.add(Started(test="a", machine="gw2/restored-1", worker="gw2"))  # of the one before nothing more is known
    log.add(Finished(result=Result(test="a", verdict=Verdict.PASS, seconds=0.5)))
    (result,) = fold(log.events).results
    assert (result.verdict, result.reason, result.machine) == (Verdict.PASS, "", "gw2/restored-1")
    assert result.choice == "attempt 4 of 4 counts: no other says anything about the kernel"
    assert [(each.reason, each.seconds, each.machine, each.board) for each in result.attempts] == [
        ("QEMU ended", 0.25, "gw0/restored-1", "qemu-virt"),
        ("its worker died", 2.0, "gw0/restored-2", "qemu-virt"),
        ("this attempt ended without a verdict", 1.0, "gw1/restored-1", "two"),
        ("", 0.5, "gw2/restored-1", "qemu-virt"),
    ]


def test_finished_but_not_planned_comes_last() -> None:
    log = Log().ran("new").add(Planned(tests=("a",))).ran("a")
    assert [result.test for result in fold(log.events).results] == ["a", "new"]
    assert [result.test for result in fold(planned("a").ran("new").ran("a").events).results] == ["a", "new"]


@pytest.mark.parametrize(
    ("end", "verdict", "code"),
    [
        (RunEnd(kind=EndKind.COMPLETE), "PASS", 0),
        (RunEnd(kind=EndKind.MAXFAIL), "FAIL", 1),
        (RunEnd(kind=EndKind.NOT_BOOTED, blames_kernel=True), "PASS", 1),
        (RunEnd(kind=EndKind.NOT_BOOTED), "PASS", 3),
        (RunEnd(kind=EndKind.NOT_BOOTED), "FAIL", 3),  # before the boot, which the lab failed
        (RunEnd(kind=EndKind.INTERRUPTED), "PASS", 3),
        (RunEnd(kind=EndKind.INTERRUPTED), "FAIL", 3),
        (RunEnd(kind=EndKind.INTERNAL_ERROR), "FAIL", 3),
        (RunEnd(kind=EndKind.COLLECTION_FAILED), "PASS", 2),
    ],
)
def test_the_exit_code_is_that_of_the_command(end: RunEnd, verdict: str, code: int) -> None:
    log = planned("a").ran("a", verdict).add(RunEnded(end=end))
    assert fold(log.events).exit_code == code


def test_how_long_its_boards_took_to_boot() -> None:
    log = planned("a").add(Booted(seconds=2.5)).add(Booted(seconds=0.2, restored=True)).add(Booted(seconds=0.0))
    log.add(Booted(seconds=30.0, board="two", worker="gw1", machine="gw1/boot-1"))
    log.add(Booted(seconds=9.0, worker="repeat-one-CPU", machine="repeat-one-CPU/boot-1"))
    assert fold(log.events).boots == (
        BootTime(board="qemu-virt", seconds=2.5),
        BootTime(board="two", seconds=30.0),
    )


def test_every_prefix_of_a_run_folds() -> None:
    log = planned("a", "b", "c").ran("a").ran("b", "CRASH").ran("c").ended()
    for length in range(2, len(log.events) + 1):
        results = fold(log.events[:length])
        assert [result.test for result in results.results] == ["a", "b", "c"]
        assert results.exit_code != 0
    assert fold([]).results == ()
    assert fold([]).exit_code == 3
