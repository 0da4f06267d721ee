"""Nights whose boards fail: who runs a cell then, which board is in quarantine, what is told."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.campaign.nightly import night
from harness.errors import InfraError
from harness.model.night import BoardHealth, Cell, State
from tests.fakenight import ONE, PLAN, SLOT, Lab, reasons, states
from tests.faults.catalogue import Blame, fault

FARM = PLAN.replace("[one]", "[farm]")
ALONE = ONE.replace("[one]", "[farm]")
# Four cells of one build, in this order.
FOUR = ONE.replace("ours: {suites: [testcases]}", ", ".join(f"{name}: {{suites: [testcases]}}" for name in "abcd"))
ON_FARM = "stable/gcc/default/farm/ours"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_the_boards_of_a_pool_share_its_cells(lab: Lab) -> None:
    lab.plan, lab.may_go_on = FARM, threading.Event()
    go = lab.may_go_on

    def both_test() -> None:
        if lab.is_testing.acquire(timeout=60) and lab.is_testing.acquire(timeout=60):
            go.set()

    waiting = threading.Thread(target=both_test)
    waiting.start()
    lab.play()
    waiting.join()
    assert {test.rpartition(" ")[2] for test in lab.did("test")} == {"a", "b"}


def test_a_board_of_a_pool_goes_when_only_another_one_of_it_is_still_needed(lab: Lab) -> None:
    """`a` is named by itself, too, and its cells come last: nobody calls `b` any more."""
    lab.plan = PLAN.replace("[one]", "[a, farm]") + "overrides: [{board: farm, priority: 1}]\n"
    made, _ = lab.play()
    assert made.exit_code == 0
    assert {test.rpartition(" ")[2] for test in lab.did("test") if "/a/" in test} == {"a"}


@fault(
    "a board fails while it runs a cell", where="lab", blame=Blame.NOBODY,
    survives="the cell, which another board of the pool runs; the files of the failed attempt",
)  # fmt: skip
def test_a_cell_that_a_board_fails_is_run_on_another_one(lab: Lab) -> None:
    lab.plan = ALONE
    lab.says[f"{ON_FARM} on a"] = ["LAB"]
    lab.says[f"{ON_FARM} on b"] = ["LAB"]
    made, here = lab.play()
    boards = [test.rpartition(" ")[2] for test in lab.did("test")]
    assert len(boards) == 3
    assert set(boards[:2]) == {"a", "b"}
    assert made.exit_code == 3
    assert states(made) == {ON_FARM: State.NO_RESULT}
    assert len(list(here.directory.glob("attempts/*"))) == 3
    lab.says = {f"{ON_FARM} on a": ["LAB"]}
    made, _ = lab.play()
    assert states(made) == {ON_FARM: State.TESTED}
    assert made.rows[0].ended.board == "b"
    assert made.exit_code == 0


@fault(
    "a board fails twice in a row, and its checks say why", where="lab", blame=Blame.INFRA,
    survives="the board is in quarantine, in the next night too, until its checks pass",
)  # fmt: skip
def test_a_board_with_two_failures_in_a_row_is_in_quarantine_and_probed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 1)
    lab.plan, lab.says[SLOT], lab.probes["one"] = ONE, ["LAB"], ["console: no such device"]
    made, _ = lab.play()
    assert lab.did("test") == [f"{SLOT} on one"] * 2
    assert lab.did("probe") == ["one"]
    assert made.boards == (
        "board one: in quarantine after 2 failures in a row: it said LAB",
        "board one: stays in quarantine: console: no such device",
    )
    assert reasons(made) == {SLOT: "board one is in quarantine: console: no such device"}
    assert made.exit_code == 3
    made, _ = lab.play()
    assert (lab.did("test"), lab.did("probe")) == ([], ["one"])
    lab.probes["one"], lab.says[SLOT] = [""], ["PASS"]
    made, _ = lab.play()
    assert made.boards == ("board one: out of quarantine, its checks pass",)
    assert made.exit_code == 0
    lab.play()
    assert lab.did("probe") == []


def test_a_board_in_quarantine_is_probed_again_after_a_while(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBE_EVERY_S", 0.01)
    lab.plan, lab.says[SLOT], lab.probes["one"] = ONE, ["LAB", "LAB", "PASS"], ["no answer", "no answer", ""]
    made, _ = lab.play()
    assert (len(lab.did("probe")), len(lab.did("test")), made.exit_code) == (3, 3, 0)
    assert made.rows[0].ended.attempts == ("one: it said LAB", "one: it said LAB")


def test_a_board_in_quarantine_is_not_waited_for_when_others_do_its_work(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be probed again in an hour."""
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBE_EVERY_S", 3600.0)
    lab.place.root.mkdir()
    lab.place.keep_health({"a": BoardHealth(failures=2, since=lab.now, reason="it broke")})
    lab.plan, lab.probes["a"] = FARM, ["no answer"]
    made, _ = lab.play()
    assert made.exit_code == 0
    assert {test.rpartition(" ")[2] for test in lab.did("test")} == {"b"}


def test_a_board_that_fails_after_its_probation_is_back_in_quarantine_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 1)
    lab.plan, lab.says[SLOT] = ONE, ["LAB"]
    lab.play()
    assert lab.did("test") == [f"{SLOT} on one"] * 3
    assert [line.partition(":")[2] for line in lab.lines.said if "board one" in line and "quarantine" in line] == [
        " in quarantine after 2 failures in a row: it said LAB",
        " out of quarantine, its checks pass",
        " in quarantine after 2 failures in a row: it said LAB",
    ]


def test_a_kernel_that_fails_is_no_failure_of_the_board(lab: Lab) -> None:
    for ends in ("FAIL", "BOOT"):
        lab.says.clear()
        for configuration in ("default", "size"):
            lab.says[f"stable/gcc/{configuration}/one/ours"] = [ends]
        made, _ = lab.play()
        assert (made.exit_code, made.boards, len(lab.did("test"))) == (1, (), 4)
        told = {"FAIL": set(), "BOOT": {"the target could not be booted: it panicked"}}
        assert set(reasons(made).values()) == told[ends]
        assert lab.place.health() == {}


def test_a_cell_that_the_lab_failed_until_the_time_was_over_is_told_as_the_labs_gap(lab: Lab) -> None:
    lab.plan, lab.says[SLOT], lab.build_s = ONE + "budget: 5m\n", ["LAB"], 0.0
    made, _ = lab.play()
    assert (states(made), reasons(made)) == ({SLOT: State.NO_RESULT}, {SLOT: "the night's time was over"})
    assert (made.exit_code, made.rows[0].ended.attempts) == (3, ("one: it said LAB",))


@pytest.mark.parametrize("says", [["GAP"], ["GAP", "LAB"]], ids=" ".join)
def test_results_with_gaps_are_kept_when_no_attempt_has_better_ones(says: list[str], lab: Lab) -> None:
    lab.plan, lab.says[SLOT] = ONE, says
    made, here = lab.play()
    [row] = made.rows
    assert (row.ended.state, row.ended.code, made.exit_code) == (State.TESTED, 3, 3)
    assert len(row.ended.attempts) == 3
    assert "1 ERROR, 1 PASS" in (here.directory / "summary.txt").read_text()


@fault(
    "a board fails every run, and nothing is found to be wrong with it", where="lab", blame=Blame.INFRA,
    survives="the night, which ends without it: it is tried as often as it may be probed",
)  # fmt: skip
def test_a_board_whose_checks_pass_but_that_fails_each_time_is_given_up(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 2)
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBE_EVERY_S", 0.01)
    lab.plan = PLAN + "defaults: {repetitions: 3}\n"
    lab.says = {str(slot): ["LAB"] for slot in lab.checked().plan.slots()}
    made, _ = lab.play()
    assert (len(lab.did("probe")), len(lab.did("test")), made.exit_code) == (2, 4, 3)
    assert set(states(made).values()) == {State.NO_RESULT}


def test_a_board_that_works_again_can_be_probed_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 1)
    lab.plan = FOUR
    scripts = {"a": ["LAB", "LAB", "PASS"], "b": ["LAB", "PASS"], "c": ["PASS"], "d": ["LAB", "PASS"]}
    lab.says = {f"stable/gcc/default/one/{name}": script for name, script in scripts.items()}
    made, _ = lab.play()
    assert [test[-len("a on one")] for test in lab.did("test")] == list("abcdabda")
    assert (len(lab.did("probe")), made.exit_code) == (2, 0)


@fault(
    "the checks of a board in quarantine can not be made", where="lab", blame=Blame.INFRA,
    survives="the night with its pages, which say why",
)  # fmt: skip
def test_a_board_that_can_not_be_probed_stays_in_quarantine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: str) -> str:
        raise InfraError("the coordinator does not answer")

    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 1)
    lab.plan, lab.says[SLOT], lab.probe = ONE, ["LAB"], fails  # type: ignore[assignment, method-assign]
    made, _ = lab.play()
    assert made.boards[-1] == "board one: stays in quarantine: the coordinator does not answer"
    assert (made.exit_code, states(made)) == (3, {SLOT: State.NO_RESULT})


def test_a_cell_that_failed_comes_behind_the_others(lab: Lab) -> None:
    """So a good board that runs the others meanwhile is not in quarantine for one cell that it can not run."""
    lab.plan, lab.says["stable/gcc/default/one/a"] = FOUR, ["LAB", "PASS"]
    made, _ = lab.play()
    assert [test[-len("a on one")] for test in lab.did("test")] == list("abcda")
    assert made.exit_code == 0


@fault(
    "somebody ends the runs of a board by a signal", where="killed", blame=Blame.INFRA,
    survives="the board, which is not in quarantine for it",
)  # fmt: skip
def test_a_run_that_somebody_ended_is_no_failure_of_the_board(lab: Lab) -> None:
    lab.plan, lab.says[SLOT] = ONE, ["ENDED"]
    made, _ = lab.play()
    assert (states(made), made.exit_code, made.boards) == ({SLOT: State.NO_RESULT}, 3, ())
    assert (lab.place.health(), len(lab.did("test")), lab.did("probe")) == ({}, 3, [])


def test_a_board_without_work_goes_when_the_time_is_over(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one of its pool still tests then."""
    monkeypatch.setattr("harness.campaign.nightly.shift._TICK_S", 0.01)
    lab.plan, test = ALONE + "budget: 2h\n", lab.test

    def long(cell: Cell, board: str, place: Path) -> Any:
        lab.now += 7200
        [other] = [
            thread for thread in threading.enumerate() if thread.name in {"board a", "board b"} - {f"board {board}"}
        ]
        other.join(60)
        assert not other.is_alive()
        return test(cell, board, place)

    lab.test = long  # type: ignore[method-assign]
    assert states(lab.play()[0]) == {ON_FARM: State.TESTED}


@pytest.mark.parametrize("looks", range(6))
def test_a_cell_is_told_whenever_the_time_is_over(looks: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over at one of the looks at the clock with which the only board goes, for it stays in quarantine."""
    monkeypatch.setattr("harness.campaign.nightly.shift.PROBES", 1)
    lab.plan, lab.says[SLOT], lab.probes["one"] = ONE + "budget: 9h\n", ["LAB"], ["no such device"]
    looked: list[float] = []

    def clock() -> float:
        if lab.did("probe"):
            looked.append(lab.now)
        return lab.now + (0.0 if len(looked) <= looks else 36000.0)

    made, _ = night.play(lab.checked(), executor=lambda _: lab, resolver=lab.resolve, progress=lab.lines, clock=clock)
    assert (states(made), made.exit_code) == ({SLOT: State.NO_RESULT}, 3)


@fault(
    "the host gives no thread for the second board of a night", where="host", blame=Blame.INFRA,
    survives="the night, which goes on when it is started again; no board is blamed",
)  # fmt: skip
def test_a_night_that_can_not_begin_on_all_boards_ends_on_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def refuses(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    lab.plan = FARM
    monkeypatch.setattr(threading.Thread, "start", refuses)
    with pytest.raises(InfraError, match="a night on 2 boards needs as many threads, this host gives no more"):
        lab.play()
    assert lab.stopped
    assert not started[0].is_alive()
    assert lab.place.health() == {}
    monkeypatch.undo()
    assert lab.play()[0].exit_code == 0


def test_wrong_input_that_a_run_finds_is_not_tried_again(lab: Lab) -> None:
    lab.plan, lab.says[SLOT] = ONE, ["INPUT"]
    made, _ = lab.play()
    assert (states(made), made.exit_code, len(lab.did("test"))) == ({SLOT: State.REFUSED}, 2, 1)


def test_a_fault_of_ours_ends_the_night_and_the_next_start_goes_on(lab: Lab) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    lab.plan, test, lab.test = ONE, lab.test, fails  # type: ignore[assignment, method-assign]
    with pytest.raises(ZeroDivisionError):
        lab.play()
    assert lab.stopped
    lab.test = test  # type: ignore[method-assign]
    made, here = lab.play()
    assert made.exit_code == 0
    assert [path.name for path in (lab.out / "nights").iterdir()] == [here.directory.name]
