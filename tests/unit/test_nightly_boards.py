"""Nights whose boards fail: who runs a cell then, which board is in quarantine, what is told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.model.night import BoardHealth, State
from tests.fakenight import ONE, PLAN, SLOT, Lab, reasons, states
from tests.faults.catalogue import Blame, fault

FARM = PLAN.replace("[one]", "[farm]")
ALONE = ONE.replace("[one]", "[farm]")
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


def test_results_with_gaps_are_kept_when_no_attempt_has_better_ones(lab: Lab) -> None:
    lab.plan, lab.says[SLOT] = ONE, ["GAP"]
    made, here = lab.play()
    [row] = made.rows
    assert (row.ended.state, row.ended.code, made.exit_code) == (State.TESTED, 3, 3)
    assert len(row.ended.attempts) == 3
    assert "1 ERROR, 1 PASS" in (here.directory / "summary.txt").read_text()


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
