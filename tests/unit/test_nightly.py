"""Nights with scripted builds and boards: what is done in which order, what is told, what comes first the next time."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.campaign.nightly import morning
from harness.campaign.nightly.night import listed, place_of
from harness.campaign.nightly.place import new_id
from harness.errors import BuildError, InfraError, Unavailable, UserError
from harness.model.night import Ended, Night, State
from tests.fakenight import BUILD_S, ONE, PLAN, SLOT, TEST_S, TESTS, Lab, reasons, states, write_run
from tests.faults.catalogue import Blame, fault


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# --- builds and their order -----------------------------------------------------------------------------------------


def test_a_build_is_made_once_for_all_cells_that_need_it(lab: Lab) -> None:
    lab.plan = PLAN.replace("testcases]}}", "testcases]}, graph: {suites: [selftests/ftrace]}}")
    made, here = lab.play()
    assert sorted(lab.did("build")) == ["next/gcc/default", "next/gcc/size", "stable/gcc/default", "stable/gcc/size"]
    assert len(lab.did("test")) == 8
    assert set(states(made).values()) == {State.TESTED}
    assert made.exit_code == 0
    assert len(list(here.directory.glob("cells/*/cell.json"))) == len(list(here.directory.glob("cells/*/run"))) == 8


def test_a_build_is_kept_until_the_last_of_its_cells_is_over(lab: Lab) -> None:
    """Whether it was tested, or dropped: a night may have hundreds of builds, and the cache a limit."""
    lab.plan = PLAN.replace("testcases]}}", "testcases]}, graph: {suites: [selftests/ftrace]}}")
    lab.says["next/gcc/size/one/graph"] = ["LAB", "PASS"]
    lab.builds["next/gcc/default"] = [BuildError("x.c: error")]
    assert lab.play()[0].exit_code == 1
    assert sorted(lab.did("release")) == ["next/gcc/size", "stable/gcc/default", "stable/gcc/size"]
    for build in lab.did("release"):
        last = max(number for number, line in enumerate(lab.log) if line.startswith(f"tested {build}/"))
        assert lab.log.index(f"release {build}") > last
    lab.plan, lab.test_s = ONE + "budget: 10m\ndefaults: {repetitions: 3}\n", 600.0
    lab.builds.clear()
    lab.play(new=True)
    assert len(lab.did("tested")) < 3
    assert lab.did("release") == lab.did("build") == ["stable/gcc/default"]


def test_builds_and_tests_overlap(lab: Lab) -> None:
    """The first test ends only when the second build has begun."""
    lab.plan = ONE + "configurations: {default: [], size: [variants/size]}\n"
    lab.may_go_on = threading.Event()
    build = lab.build

    def second(cell: object) -> float | None:
        if lab.did("build"):
            assert lab.is_testing.acquire(timeout=60)
            assert lab.may_go_on
            lab.may_go_on.set()
        return build(cell)  # type: ignore[arg-type]

    lab.build = second  # type: ignore[method-assign]
    assert lab.play()[0].exit_code == 0


def test_what_changed_comes_first(lab: Lab) -> None:
    lab.play()
    lab.moved["stable"] = "+1"
    lab.play()
    assert [test.partition("/gcc/")[0] for test in lab.did("test")] == ["stable", "stable", "next", "next"]


def test_what_was_not_seen_for_long_comes_before_what_was(lab: Lab) -> None:
    lab.play()
    lab.plan = PLAN + "exclude: [{kernel: stable, configuration: size}]\n"
    lab.play()
    lab.plan = PLAN
    lab.play()
    assert lab.did("test")[0] == "stable/gcc/size/one/ours on one"


def test_builds_that_serve_most_cells_for_their_time_come_first(lab: Lab) -> None:
    lab.plan = PLAN.replace("testcases]}}", "testcases]}, more: {suites: [selftests/ftrace]}}")
    lab.plan += "exclude: [{kernel: next, suites: more}]\n"
    lab.play()
    lab.play()
    assert [test.rpartition("/one/")[0] for test in lab.did("test")] == [
        *("stable/gcc/default", "stable/gcc/default", "stable/gcc/size", "stable/gcc/size"),
        *("next/gcc/default", "next/gcc/size"),
    ]


def test_priority_comes_before_what_changed(lab: Lab) -> None:
    lab.plan = PLAN + "overrides: [{configuration: size, priority: 3}]\n"
    lab.play()
    lab.moved["stable"] = "+1"
    lab.play()
    assert lab.did("test")[:2] == ["stable/gcc/size/one/ours on one", "next/gcc/size/one/ours on one"]


def test_repetitions_come_after_the_first_of_all(lab: Lab) -> None:
    lab.plan = PLAN + "defaults: {repetitions: 2}\n"
    lab.play()
    assert [test.endswith("#2 on one") for test in lab.did("test")] == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (BuildError("x.c:1: error"), State.NOT_BUILT, 1),
        (UserError("the patch does not apply"), State.REFUSED, 2),
        (Unavailable("kernel configuration: CFI: ruled out by this compiler"), State.UNAVAILABLE, 0),
    ],
)
def test_what_does_not_build_is_told_of_each_of_its_cells_and_stops_no_other(
    error: BuildError | UserError, state: State, code: int, lab: Lab
) -> None:
    lab.builds["next/gcc/size"] = [error]
    made, _ = lab.play()
    assert states(made)["next/gcc/size/one/ours"] is state
    assert reasons(made) == {"next/gcc/size/one/ours": error.message}
    assert made.exit_code == code
    assert len(lab.did("test")) == 3


def test_a_long_reason_is_cut_short(lab: Lab) -> None:
    """Each of a hundred thousand cells may have it."""
    lab.builds["next/gcc/size"] = [BuildError("x" * 100_000)]
    made, here = lab.play()
    assert [len(reason) for reason in reasons(made).values()] == [2000]
    assert (here.directory / "night.json").stat().st_size < 10_000


@fault(
    "a build fails on this host's account, twice", where="host", blame=Blame.INFRA,
    survives="all other cells; the cells without a build come first in the next night",
)  # fmt: skip
def test_a_build_that_fails_on_the_hosts_account_is_tried_again_behind_the_others(lab: Lab) -> None:
    lab.builds["stable/gcc/default"] = [InfraError("the disk is full"), None]
    assert lab.play()[0].exit_code == 0
    assert lab.did("build").count("stable/gcc/default") == 2
    lab.builds["stable/gcc/default"] = [InfraError("the disk is full")]
    made, _ = lab.play()
    assert (made.exit_code, lab.did("build")[-1], len(lab.did("test"))) == (3, "stable/gcc/default", 3)
    assert reasons(made) == {"stable/gcc/default/one/ours": "the disk is full"}
    lab.builds.clear()
    lab.play()
    assert lab.did("test")[0] == "stable/gcc/default/one/ours on one"


def test_a_kernel_that_can_not_be_determined_costs_only_its_own_cells(lab: Lab) -> None:
    lab.unknown["next"] = InfraError("the server does not answer")
    made, _ = lab.play()
    assert made.exit_code == 3
    assert [state for name, state in states(made).items() if name.startswith("next")] == [State.NO_RESULT] * 2
    lab.unknown["next"] = UserError("no such branch")
    assert lab.play()[0].exit_code == 2


# --- the time -------------------------------------------------------------------------------------------------------


def test_what_the_time_does_not_suffice_for_is_told_and_comes_first_the_next_time(lab: Lab) -> None:
    lab.plan, lab.build_s, lab.test_s = PLAN + "budget: 10m\n", 0.0, 600.0
    made, here = lab.play()
    [tested] = lab.did("test")
    late = [name for name, state in states(made).items() if state is State.NOT_RUN]
    assert sorted([*late, tested.partition(" ")[0]]) == sorted(str(slot) for slot in lab.checked().plan.slots())
    assert set(reasons(made).values()) == {"the night's time was over"}
    assert "NOT RUN (3)" in (here.directory / "summary.txt").read_text()
    assert made.exit_code == 0
    lab.play()
    assert lab.did("test")[0].partition(" ")[0] in late


def test_nothing_is_begun_that_can_not_end_in_time(lab: Lab) -> None:
    lab.plan = ONE
    lab.play()
    lab.plan = ONE + "budget: 10m\n"
    made, _ = lab.play()
    assert lab.log == []
    assert made.notes == ()
    assert reasons(made) == {SLOT: "needs about 15m00s, 10m00s were left"}
    lab.plan = ONE + "budget: 16m\n"
    assert states(lab.play()[0]) == {SLOT: State.TESTED}


def test_what_is_owed_for_longer_comes_first(lab: Lab) -> None:
    lab.plan, lab.build_s, lab.test_s = PLAN + "budget: 10m\n", 0.0, 600.0
    order = []
    for _ in range(4):
        lab.play()
        order += lab.did("test")
    assert len({test.partition(" ")[0] for test in order}) == 4


def test_a_cell_that_takes_the_night_in_vain_does_not_keep_the_others_from_the_next_ones(lab: Lab) -> None:
    """Each night has time for two of them."""
    names = [f"stable/gcc/default/one/{name}" for name in "abcd"]
    lab.plan = ONE.replace(
        "ours: {suites: [testcases]}", ", ".join(f"{name}: {{suites: [testcases]}}" for name in "abcd")
    )
    lab.plan, lab.build_s, lab.test_s, lab.says[names[0]] = lab.plan + "budget: 10m\n", 0.0, 300.0, ["LAB"]
    order = []
    for _ in range(2):
        made, _ = lab.play()
        order.append([test.partition(" ")[0] for test in lab.did("test")])
    assert order == [names[:2], names[2:]]
    assert made.rows[0].ended.owed == 2
    lab.play()
    assert lab.did("test")[0].startswith(names[0])


def test_a_run_that_did_not_come_to_its_end_is_no_estimate(lab: Lab) -> None:
    lab.plan = ONE
    lab.play()
    lab.says[SLOT], lab.test_s = ["BOOT"], 10.0
    lab.play()
    lab.says[SLOT], lab.test_s = ["GAP"], 20.0
    lab.play()
    assert f"tests about {TEST_S / 60:.0f}m00s" in listed(lab.checked())[0]


# --- the morning ----------------------------------------------------------------------------------------------------


def test_a_cell_is_compared_with_its_last_good_night(lab: Lab) -> None:
    lab.plan = ONE
    for number in range(6):
        lab.moved["stable"] = f"+{number}"
        lab.play()
    lab.says[SLOT], lab.moved["stable"] = ["FAIL"], "+7"
    made, here = lab.play()
    [row] = made.rows
    assert row.comparison
    assert [changed.test for changed in row.comparison.regressions] == [TESTS[0]]
    assert made.exit_code == 1
    text = (here.directory / "summary.txt").read_text()
    assert text.splitlines()[-1] == "WORSE: 1 worse of 1 cell"
    assert f"new failure: {TESTS[0]}" in " ".join(text.split())
    page = (here.directory / "summary.html").read_text()
    assert f'href="{row.page}"' in page
    assert (here.directory / row.page).read_text().startswith("<!DOCTYPE html>")
    assert all(len(line) <= 78 for line in text.splitlines())
    lab.moved["stable"] = "+8"
    [row] = lab.play()[0].rows
    assert row.comparison
    assert row.comparison.old.started < row.comparison.new.started - TEST_S  # not with last night, which was bad


def test_programs_get_the_same_as_people(lab: Lab) -> None:
    lab.says["next/gcc/size/one/ours"] = ["FAIL"]
    lab.builds["next/gcc/default"] = [BuildError("<b>x.c: error")]
    made, here = lab.play()
    told = json.loads((here.directory / "summary.json").read_text())
    assert (told["exit_code"], told["counts"]) == (1, {"failing": 1, "good": 2, "not built": 1})
    assert [cell["status"] for cell in told["cells"] if cell["kernel"] == "next"] == ["not built", "failing"]
    page = (here.directory / "summary.html").read_text()
    assert "&lt;b&gt;x.c: error" in page
    assert "<b>x.c" not in page
    assert made.exit_code == 1


@fault(
    "a compiler's message has line ends, escape sequences and what looks like a tag", where="hostile input",
    blame=Blame.KERNEL, survives="the summary, which is safe to print and to mail",
)  # fmt: skip
def test_no_line_of_the_summary_begins_with_the_words_of_others(lab: Lab) -> None:
    lab.builds["next/gcc/default"] = [
        BuildError("x.c:\r\nReviewed-by: a@example.org\n\x1b[2Jdiff --git a/x b/x " + 90 * "y ")
    ]
    made, here = lab.play()
    text = (here.directory / "summary.txt").read_text()
    assert made.exit_code == 1
    assert "Reviewed-by" in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(("Reviewed-by", "diff", "y"))]


def test_a_failure_without_a_good_night_says_so(lab: Lab) -> None:
    lab.plan, lab.says[SLOT] = ONE, ["FAIL"]
    _, here = lab.play()
    assert "no good night to compare it with" in (here.directory / "summary.txt").read_text()


@fault(
    "the history's file is damaged", where="disk", blame=Blame.NOBODY,
    survives="the night with all its pages, which say that nothing is compared",
)  # fmt: skip
def test_a_comparison_that_fails_costs_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.plan = ONE.replace("testcases]}}", "testcases]}, more: {suites: [selftests/ftrace]}}")
    for number in range(6):
        lab.moved["stable"] = f"+{number}"
        lab.play()

    def fails_first(connection: Any, good: str, ended: Ended) -> Any:
        if ended.slot.suites == "more":
            raise InfraError("can't be read")
        return compared(connection, good, ended)

    compared = morning._comparison
    monkeypatch.setattr(morning, "_comparison", fails_first)
    lab.says[SLOT], lab.moved["stable"] = ["FAIL"], "+7"
    made, _ = lab.play()
    assert {str(row.ended.slot): row.is_worse for row in made.rows} == {SLOT: True, SLOT.replace("ours", "more"): False}
    assert made.notes == (f"{SLOT.replace('ours', 'more')} is not compared: can't be read",)


def test_a_night_without_a_history_has_all_but_the_comparisons(lab: Lab) -> None:
    (lab.directory / "history.sqlite").write_text("no database")
    made, here = lab.play()
    assert made.exit_code == 0
    assert [note.partition(":")[0] for note in made.notes] == ["not all runs are in the history", "not all is compared"]
    assert "not all is compared" in (here.directory / "summary.html").read_text()


# --- one night after the other --------------------------------------------------------------------------------------


def test_an_interrupted_night_goes_on_with_what_is_not_done(lab: Lab) -> None:
    interrupt(lab, after=2)
    done = [test.partition(" ")[0] for test in lab.did("test")][:2]
    lab.moved["stable"] = lab.moved["next"] = "+1"  # even so, what is done is done
    made, _ = lab.play()
    assert f"night {made.night.id} goes on: 2 cells are done, 2 are not" in lab.lines.said
    assert not {test.partition(" ")[0] for test in lab.did("test")} & set(done)
    assert set(states(made).values()) == {State.TESTED}
    assert len(lab.place.nights()) == 1


def interrupt(lab: Lab, *, after: int) -> None:
    """Play a night that is interrupted when `after` cells are done."""
    test = lab.test

    def interrupted(*given: object) -> object:
        if len(lab.did("tested")) == after:
            raise KeyboardInterrupt
        return test(*given)  # type: ignore[arg-type]

    lab.test = interrupted  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        lab.play()
    lab.test = test  # type: ignore[method-assign]


@pytest.mark.parametrize("why", ["its time is over", "asked for"])
def test_another_night_begins_when_the_interrupted_one_is_over(why: str, lab: Lab) -> None:
    lab.plan = PLAN + "budget: 10h\n"
    interrupt(lab, after=2)
    done = {test.partition(" ")[0] for test in lab.did("tested")}
    lab.now += 36000 if why == "its time is over" else 0
    made, _ = lab.play(new=why == "asked for")
    assert len(lab.did("test")) == 4
    assert not {test.partition(" ")[0] for test in lab.did("test")[:2]} & done  # what was not done comes first
    assert [night.finished is not None for night in lab.place.nights()] == [True, True]
    assert lab.place.nights()[0].id == made.night.id
    [page] = [path.read_text() for path in (lab.out / "nights").glob("*/summary.txt") if made.night.id not in str(path)]
    assert "NOT RUN (2)" in page
    assert "the night was interrupted" in page


def test_what_is_done_is_done_again_if_the_plan_asks_for_something_else_now(lab: Lab) -> None:
    lab.plan = PLAN + "overrides: [{configuration: default, priority: 1}]\n"
    interrupt(lab, after=2)
    lab.plan = PLAN.replace("[variants/size]", "[]").replace("7.3.4", "7.3.5")
    made, here = lab.play()
    assert sorted(test.partition("/one/")[0] for test in lab.did("test")) == [
        *("next/gcc/size", "stable/gcc/default", "stable/gcc/size"),
    ]
    assert (len(made.rows), made.exit_code, len(list(here.directory.glob("cells/*")))) == (4, 0, 4)
    earlier = [path for path in here.directory.glob("attempts/*/cell.json") if "7.3.4" not in path.name]
    assert len(earlier) == 1  # what was tested with the other kernel is still there


def test_what_was_wrong_input_is_tried_again_when_the_night_goes_on(lab: Lab) -> None:
    lab.builds["stable/gcc/default"] = [UserError("the patch does not apply")]
    interrupt(lab, after=1)
    lab.builds.clear()
    made, here = lab.play()
    assert "stable/gcc/default" in lab.did("build")
    assert (set(states(made).values()), made.exit_code) == ({State.TESTED}, 0)
    assert len(list(here.directory.glob("attempts/*/cell.json"))) == 1


def test_a_plan_does_not_go_on_with_the_night_of_another(lab: Lab) -> None:
    interrupt(lab, after=1)
    mine = lab.checked()
    other = dataclasses.replace(mine, plan=dataclasses.replace(mine.plan, name="other"))
    lab.checked = lambda **_: other  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"expected nights of the plan 'other', found an interrupted one of 'plan'; "):
        lab.play()
    lab.checked = lambda **_: dataclasses.replace(  # type: ignore[method-assign]
        other, request=dataclasses.replace(other.request, new=True)
    )
    assert lab.play()[0].exit_code == 0


def test_plans_have_directories_of_their_own(lab: Lab) -> None:
    made = lab.checked()
    names = ("lab", "Lab", "a b", "a_b", "a+b", "x" * 200, "y" + "x" * 199, "…", "ø")
    plans = [dataclasses.replace(made.plan, name=name) for name in names]
    request = dataclasses.replace(made.request, out_dir=None)
    places = [place_of(dataclasses.replace(made, plan=each, request=request)).root for each in plans]
    assert len(set(places)) == len(names)
    assert places[:2] == [Path("out/nightly/lab"), Path("out/nightly/Lab")]
    assert all(len(place.name) <= 100 for place in places)


def test_nights_stay_in_order_when_the_clock_was_years_ahead_once() -> None:
    ahead = Night(id=new_id(2_100_000_000.0, ()))
    ids = [ahead.id]
    for number in range(300):
        ids.append(new_id(1_800_000_000.0 + number, tuple(Night(id=each) for each in ids)))
    assert ids == sorted(ids)
    assert len(set(ids)) == 301
    assert max(map(len, ids)) < 40


@fault(
    "the host's clock is set back by years after a night was killed", where="clock", blame=Blame.NOBODY,
    survives="the night, which lasts no longer than its budget when it goes on",
)  # fmt: skip
def test_a_clock_that_is_set_back_makes_no_night_longer(lab: Lab) -> None:
    lab.plan, lab.build_s, lab.test_s = PLAN + "budget: 10h\n", 0.0, 6 * 3600.0
    interrupt(lab, after=0)
    lab.now -= 1e8
    made, here = lab.play()
    assert Counter(states(made).values()) == {State.TESTED: 2, State.NOT_RUN: 2}
    assert " 0.0s of 10h00m" in (here.directory / "summary.txt").read_text()


def test_two_nights_of_a_plan_at_once_are_refused(lab: Lab) -> None:
    with lab.place.held(), pytest.raises(InfraError, match=r"a night of this plan is going on in another process"):
        lab.play()


def test_what_an_earlier_process_finished_is_taken_over_not_run_again(lab: Lab) -> None:
    """It was killed between the end of the run and the renaming."""
    lab.plan = ONE
    interrupt(lab, after=0)
    [attempt] = (lab.out / "nights").glob("*/attempts/*")
    cell = lab.resolve(lab.checked(), lab.checked().plan.slots(), None).cells[0]
    write_run(attempt / "run", cell, board="one", ends="FAIL", began=lab.now, seconds=TEST_S)
    made, here = lab.play()
    assert (lab.did("test"), made.exit_code, states(made)) == ([], 1, {SLOT: State.TESTED})
    assert {"report.html", "junit.xml", "summary.md"} <= {path.name for path in here.directory.glob("cells/*/run/*")}
    assert made.rows[0].ended.board == "one"


def test_what_an_earlier_process_finished_counts_even_if_the_night_does_not_go_on(lab: Lab) -> None:
    lab.plan = ONE
    interrupt(lab, after=0)
    [attempt] = (lab.out / "nights").glob("*/attempts/*")
    cell = lab.resolve(lab.checked(), lab.checked().plan.slots(), None).cells[0]
    write_run(attempt / "run", cell, board="one", ends="FAIL", began=lab.now, seconds=TEST_S)
    lab.play(new=True)
    [_, first] = lab.place.nights()
    assert {str(slot): end.state for slot, end in first.ended.items()} == {SLOT: State.TESTED}
    assert (lab.place.of(first).directory / "summary.txt").read_text().endswith("FAILING: 1 failing of 1 cell\n")


def test_a_finished_run_of_what_is_not_wanted_any_more_does_not_stand_for_it(lab: Lab) -> None:
    lab.plan = ONE
    interrupt(lab, after=0)
    [attempt] = (lab.out / "nights").glob("*/attempts/*")
    cell = lab.resolve(lab.checked(), lab.checked().plan.slots(), None).cells[0]
    write_run(attempt / "run", cell, board="one", ends="FAIL", began=lab.now, seconds=TEST_S)
    lab.moved["stable"] = "+1"
    assert lab.play()[0].exit_code == 0
    assert len(lab.did("test")) == 1


def test_a_copy_of_a_cell_under_another_name_stands_for_nothing(lab: Lab) -> None:
    lab.plan = ONE.replace("testcases]}}", "testcases]}, more: {suites: [selftests/ftrace]}}")
    interrupt(lab, after=1)
    [done] = (lab.out / "nights").glob("*/cells/*")
    done.rename(done.with_name("mine"))
    assert lab.play()[0].exit_code == 0
    assert len(lab.did("test")) == 2


@fault(
    "the record of a cell that is done is damaged", where="disk", blame=Blame.NOBODY,
    survives="the night, which does the cell again; the files of its first run",
)  # fmt: skip
def test_a_damaged_record_costs_the_cell_another_run(lab: Lab) -> None:
    lab.plan = ONE.replace("testcases]}}", "testcases]}, more: {suites: [selftests/ftrace]}}")
    interrupt(lab, after=1)
    [record] = (lab.out / "nights").glob("*/cells/*/cell.json")
    record.write_text("")
    made, here = lab.play()
    assert (len(lab.did("test")), made.exit_code) == (2, 0)
    assert len(list(here.directory.glob("attempts/*/run/events.jsonl"))) == 1


def test_the_estimate_is_what_it_took_last_time(lab: Lab) -> None:
    lab.plan = ONE
    assert listed(lab.checked()) == [
        f"{SLOT}  build unknown, tests unknown",
        "cells: 1, builds: 1; without an estimate: 1",
    ]
    lab.play()
    assert listed(lab.checked()) == [
        f"{SLOT}  build about {BUILD_S / 60:.0f}m00s, tests about {TEST_S / 60:.0f}m00s",
        "cells: 1, builds: 1; about 10m00s of builds and 5m00s of tests, which overlap",
    ]
