"""The records of nights: written and read again, and read from files that say something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.campaign.nightly.place import Place
from harness.model.night import BoardHealth, Ended, Night, Seen, Slot, State, seen
from harness.parse.night_records import (
    ended_from_json,
    ended_to_json,
    health_from_json,
    health_to_json,
    night_from_json,
    night_to_json,
)

SLOT = Slot(kernel="k", toolchain="gcc", configuration="c", board="b", suites="s", repetition=2)
FULL = Ended(
    slot=SLOT,
    state=State.TESTED,
    identity="1a",
    asked="5d",
    code=3,
    board="b",
    seconds=2.5,
    build_seconds=0.0,
    run="run-1",
    reason="because",
    attempts=("a: it broke",),
    owed=4,
)
LEAST = Ended(slot=SLOT, state=State.NOT_RUN)


@pytest.mark.parametrize("ended", [FULL, LEAST], ids=["full", "least"])
def test_a_cell_is_read_as_it_was_written(ended: Ended) -> None:
    assert ended_from_json(ended_to_json(ended)) == ended


def test_a_night_and_its_boards_are_read_as_they_were_written() -> None:
    night = Night(id="n", plan="p", started=1.5, budget=60.0, finished=3.0, ended={SLOT: FULL})
    assert night_from_json(night_to_json(night)) == night
    assert night_from_json(night_to_json(Night(id="n"))) == Night(id="n")
    boards = {"b": BoardHealth(failures=2, since=5.0, reason="r"), "c": BoardHealth(failures=1)}
    assert health_from_json(health_to_json(boards)) == boards


@pytest.mark.parametrize("damage", ["{", "[]", '{"slot": 3}', '{"slot": {"kernel": "k"}, "state": "tested"}'])
def test_what_is_no_record_of_a_cell_is_none(damage: str) -> None:
    with pytest.raises(ValueError, match="xpect"):
        ended_from_json(damage)


def test_a_cell_of_a_state_that_only_later_harnesses_know_is_left_out_of_its_night() -> None:
    told = json.loads(night_to_json(Night(id="n", ended={SLOT: FULL})))
    told["cells"][0]["state"] = "postponed"
    assert night_from_json(json.dumps(told)).ended == {}


@pytest.mark.parametrize("when", ["1e300", "-1", "1e11", '"x"', "null"])
def test_a_time_that_no_calendar_has_is_none(when: str) -> None:
    text = f'{{"id": "n", "started": {when}, "finished": {when}}}'
    assert night_from_json(text) == Night(id="n")
    assert health_from_json(f'{{"boards": {{"b": {{"since": {when}}}}}}}') == {"b": BoardHealth()}


def test_damaged_files_of_nights_cost_what_they_said(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name, text in (("1", night_to_json(Night(id="1"))), ("2", "{"), ("3", night_to_json(Night(id="other")))):
        (tmp_path / "nights" / name).mkdir(parents=True)
        (tmp_path / "nights" / name / "night.json").write_text(text)
    (tmp_path / "boards.json").write_text("[]")
    assert [night.id for night in place.nights()] == ["1"]
    assert place.health() == {}


# --- what nights say of a slot ---------------------------------------------------------------------------------------


def night(number: int, ended: Ended | None) -> Night:
    return Night(id=str(number), ended={SLOT: ended} if ended else {})


def test_the_latest_night_that_was_done_and_the_latest_good_one_are_found() -> None:
    bad = Ended(slot=SLOT, state=State.TESTED, identity="2b", code=1, run="run-2", seconds=7.0)
    good = Ended(slot=SLOT, state=State.TESTED, identity="1a", run="run-1", seconds=5.0, build_seconds=60.0)
    late = Ended(slot=SLOT, state=State.NOT_RUN, owed=1)
    found = seen([night(4, late), night(3, None), night(2, bad), night(1, good)])
    expected = Seen(identity="2b", nights_ago=3, owed=1, late=1, good="run-1", seconds=7.0, build_seconds=60.0)
    assert found == {SLOT: expected}


def test_what_was_not_even_begun_is_told_from_what_the_lab_failed() -> None:
    not_run, failed = (Ended(slot=SLOT, state=state, owed=1) for state in (State.NOT_RUN, State.NO_RESULT))
    assert seen([night(3, not_run), night(2, not_run), night(1, failed)])[SLOT].late == 2
    assert seen([night(2, failed), night(1, not_run)])[SLOT].late == 0


@pytest.mark.parametrize(
    "latest",
    [
        Ended(slot=SLOT, state=State.TESTED, code=1, seconds=9.0, reason="the target could not be booted"),
        Ended(slot=SLOT, state=State.TESTED, code=0, seconds=0.0),
        Ended(slot=SLOT, state=State.REFUSED, code=2, seconds=9.0),
    ],
    ids=["not booted", "no time", "refused"],
)
def test_only_a_run_that_came_to_its_end_says_how_long_one_takes(latest: Ended) -> None:
    whole = Ended(slot=SLOT, state=State.TESTED, code=1, seconds=5.0)
    assert seen([night(2, latest), night(1, whole)])[SLOT].seconds == 5.0
    assert seen([night(2, latest)])[SLOT].seconds is None


def test_a_slot_that_was_never_done_has_no_past() -> None:
    assert seen([night(1, Ended(slot=SLOT, state=State.NO_RESULT, owed=3))]) == {SLOT: Seen(owed=3)}
    assert seen([]) == {}
