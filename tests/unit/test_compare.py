"""Two runs and their history: the class of each test's change, and the mail about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

import pytest

from harness.model.comparison import Change, Changed, Tally
from harness.model.fault import Fault, FaultKind
from harness.model.history import Cell, Outcome, StoredKernel, StoredRun
from harness.model.result import Condition, EndKind, Verdict
from harness.report.compare import Side, compare
from harness.report.compare_text import comparison_json, comparison_text

OLD, NEW = StoredKernel(key="old", release="7.3.4"), StoredKernel(key="new", release="7.3.4", patches=("aa",))
PASS, FAIL, SKIP, ERROR, CRASH, TIMEOUT = (
    Verdict[name] for name in ("PASS", "FAIL", "SKIP", "ERROR", "CRASH", "TIMEOUT")
)
OOPS = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)").signature
OTHER = Fault(kind=FaultKind.OOPS, title="Oops in g (kernel/x.c:12)").signature


def did(
    verdict: Verdict, test: str = "t", *, seconds: float = 1.0, reason: str = "", actual: Verdict | None = None
) -> Outcome:
    return Outcome(test=test, verdict=verdict, actual=actual or verdict, seconds=seconds, reason=reason)


def crashed(signature: object = OOPS, test: str = "t") -> Outcome:
    return Outcome(test=test, verdict=CRASH, actual=CRASH, signature=signature)  # type: ignore[arg-type]


def side(kernel: StoredKernel, *runs: Iterable[Outcome], requested: str = "all") -> Side:
    """Runs in the order of time; the last one is compared."""
    stored = [
        StoredRun(
            id=f"{kernel.key}-{number}", kernel=kernel, started=float(number), requested=requested, cell=Cell(board="b")
        )
        for number in range(len(runs))
    ]
    grouped: list[tuple[StoredRun, dict[str, list[Outcome]]]] = []
    for run, outcomes in zip(stored, runs, strict=True):
        tests: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            tests.setdefault(outcome.test, []).append(outcome)
        grouped.append((run, tests))
    return Side(run=stored[-1], runs=grouped)


def change_of(old: Side, new: Side, test: str = "t") -> Changed:
    (changed,) = (changed for changed in compare(old, new).changes if changed.test == test)
    return changed


def passed(times: int) -> list[list[Outcome]]:
    return [[did(PASS)]] * times


def test_a_failure_after_many_passes_is_new_and_likely() -> None:
    changed = change_of(side(OLD, *passed(30)), side(NEW, [did(FAIL)]))
    assert (changed.change, changed.before, changed.since) == (Change.NEW_FAILURE, Tally(passes=30), Tally(failures=1))
    assert changed.is_likely_regression
    assert (changed.last_good, changed.first_bad) == ("old-29", "new-0")


def test_a_failure_after_one_pass_is_new_and_not_certain() -> None:
    changed = change_of(side(OLD, *passed(1)), side(NEW, [did(FAIL)]))
    assert changed.change is Change.NEW_FAILURE
    assert not changed.is_likely_regression


def test_a_repetition_that_passes_makes_a_regression_unlikely() -> None:
    changed = change_of(side(OLD, *passed(30)), side(NEW, [did(FAIL), *[did(PASS)] * 20]))
    assert not changed.is_likely_regression


def test_what_failed_now_and_then_before_is_flaky() -> None:
    history = [[did(FAIL if number % 4 == 0 else PASS)] for number in range(40)]
    changed = change_of(side(OLD, *history), side(NEW, [did(FAIL)]))
    assert (changed.change, changed.is_likely_regression) == (Change.FLAKY, False)
    assert change_of(side(OLD, *history), side(NEW, [did(PASS)])).change is Change.SAME


def test_what_fails_far_more_often_is_flakier() -> None:
    history = [[did(FAIL if number % 20 == 7 else PASS)] for number in range(100)]
    changed = change_of(side(OLD, *history), side(NEW, [did(FAIL)] * 12 + [did(PASS)] * 8))
    assert (changed.change, changed.is_likely_regression) == (Change.FLAKIER, True)


def test_a_new_failure_that_is_flaky_is_told_with_its_rate() -> None:
    """As seen on a kernel that refuses a tracer one time in five: 7 of 39."""
    new = side(NEW, [did(FAIL)] * 7 + [did(PASS)] * 32)
    assert "fails 9 to 28 % of the time since" in comparison_text(compare(side(OLD, *passed(2)), new))
    solid = side(NEW, [did(FAIL)] * 9)
    assert "% of the time" not in comparison_text(compare(side(OLD, *passed(2)), solid))


def test_what_is_broken_stays_broken() -> None:
    changed = change_of(side(OLD, *[[did(FAIL)]] * 9), side(NEW, [did(FAIL)]))
    assert (changed.change, changed.is_likely_regression) == (Change.STILL_FAILING, False)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_what_never_passed_is_broken_not_flaky(times: int) -> None:
    assert change_of(side(OLD, *[[did(FAIL)]] * times), side(NEW, [did(FAIL)])).change is Change.STILL_FAILING


def test_only_what_a_test_does_since_it_last_changed_counts() -> None:
    changed = change_of(side(OLD, *passed(60), *[[did(FAIL)]] * 9), side(NEW, [did(FAIL)]))
    assert (changed.change, changed.before) == (Change.STILL_FAILING, Tally(failures=9))


def test_what_failed_and_passes_is_fixed() -> None:
    assert change_of(side(OLD, *[[did(FAIL)]] * 9), side(NEW, [did(PASS)])).change is Change.FIXED
    assert change_of(side(OLD, [did(FAIL)]), side(NEW, [did(PASS)])).change is Change.FIXED


def test_a_crash_of_another_kind_is_new_however_flaky_the_test_is() -> None:
    history = [[crashed() if number % 2 else did(PASS)] for number in range(40)]
    assert change_of(side(OLD, *history), side(NEW, [crashed()])).change is Change.FLAKY
    changed = change_of(side(OLD, *history), side(NEW, [crashed(OTHER)]))
    assert (changed.change, changed.is_likely_regression, changed.before.failures) == (Change.NEW_FAILURE, True, 0)


@pytest.mark.parametrize("verdict", [ERROR, Verdict.NOTRUN])
def test_what_the_lab_did_says_nothing_about_the_kernel(verdict: Verdict) -> None:
    changed = change_of(side(OLD, *passed(30)), side(NEW, [did(verdict, reason="line lost")]))
    assert (changed.change, changed.since.runs, changed.note) == (Change.INFRASTRUCTURE, 0, "line lost")
    history = [[did(verdict)]] * 30 + passed(3)
    assert change_of(side(OLD, *history), side(NEW, [did(PASS)])).before == Tally(passes=3)


def test_a_skip_is_neither_pass_nor_failure() -> None:
    changed = change_of(side(OLD, *passed(3)), side(NEW, [did(SKIP, reason="needs CONFIG_X")]))
    assert (changed.change, changed.note) == (Change.SKIPPED_NOW, "needs CONFIG_X")
    assert change_of(side(OLD, [did(SKIP)]), side(NEW, [did(SKIP)])).change is Change.SAME
    assert change_of(side(OLD, [did(Verdict.NOTRUN)]), side(NEW, [did(SKIP)])).change is Change.SAME
    assert change_of(side(OLD, *[[did(SKIP)]] * 9, *passed(2)), side(NEW, [did(PASS)])).before == Tally(passes=2)


def test_a_known_failure_is_known() -> None:
    assert change_of(side(OLD, *passed(30)), side(NEW, [did(Verdict.XFAIL, actual=FAIL)])).change is Change.KNOWN


def test_a_test_that_is_gone_and_one_that_is_new() -> None:
    old, new = side(OLD, [did(PASS), did(PASS, "gone")]), side(NEW, [did(PASS), did(FAIL, "added")])
    assert change_of(old, new, "gone").change is Change.VANISHED
    assert change_of(old, new, "added").change is Change.APPEARED


def test_a_test_that_was_not_asked_for_is_not_gone() -> None:
    changed = change_of(side(OLD, [did(PASS, "other"), did(PASS)]), side(NEW, [did(PASS)], requested="few"), "other")
    assert (changed.change, changed.note) == (Change.SAME, "the newer run was not asked for it")


@pytest.mark.parametrize(
    ("requested", "change"),
    [
        pytest.param("selftests/ftrace testcases", Change.VANISHED, id="more suites"),
        pytest.param("testcases -k t", Change.SAME, id="a keyword"),
        pytest.param("selftests/livepatch", Change.SAME, id="another suite"),
    ],
)
def test_a_test_that_a_wider_request_lost_is_gone(requested: str, change: Change) -> None:
    gone = "testcases/gone.py::test_it"
    old = side(OLD, [did(PASS, gone), did(PASS)], requested="testcases -k gone")
    assert change_of(old, side(NEW, [did(PASS)], requested=requested), gone).change is change


@pytest.mark.parametrize(
    ("verdict", "requested", "change"),
    [
        pytest.param(PASS, "all -k few", Change.SAME, id="it passes"),
        pytest.param(SKIP, "all -k few", Change.SAME, id="it is skipped"),
        pytest.param(FAIL, "all -k few", Change.APPEARED, id="a failure is told"),
        pytest.param(PASS, "all", Change.APPEARED, id="it was asked for"),
    ],
)
def test_a_test_that_the_older_run_was_not_asked_for_is_not_new(
    verdict: Verdict, requested: str, change: Change
) -> None:
    old, new = side(OLD, [did(PASS)], requested=requested), side(NEW, [did(PASS), did(verdict, "other")])
    changed = change_of(old, new, "other")
    assert changed.change is change
    assert changed.note == ("the older run was not asked for it" if change is Change.SAME else "")


def test_a_run_whose_failure_did_not_come_again_is_not_the_last_good_one() -> None:
    repeated = dataclasses.replace(did(PASS), repeat=Condition.ONE_CPU)
    changed = change_of(side(OLD, *passed(60), [did(FAIL), repeated]), side(NEW, *[[did(FAIL)]] * 9))
    assert changed.last_good == "old-59"


def test_the_first_bad_run_is_the_first_with_this_very_crash() -> None:
    changed = change_of(side(OLD, *passed(30)), side(NEW, [crashed(OTHER)], [did(FAIL)], [crashed()], [crashed()]))
    assert (changed.change, changed.first_bad) == (Change.NEW_FAILURE, "new-2")


def test_a_new_test_that_is_skipped_is_new() -> None:
    assert (
        change_of(side(OLD, [did(PASS)]), side(NEW, [did(PASS), did(SKIP, "added")]), "added").change is Change.APPEARED
    )


def test_a_failure_in_another_run_of_the_same_kernel_is_not_undone_by_a_pass() -> None:
    changed = change_of(side(OLD, *passed(60)), side(NEW, [crashed()], [crashed()], [did(PASS)]))
    assert (changed.change, changed.since) == (Change.NEW_FAILURE, Tally(passes=1, failures=2))
    assert changed.is_likely_regression
    assert changed.new is not None
    assert changed.new.signature == OOPS


def test_repetitions_on_unusual_machines_are_no_evidence() -> None:
    fails_there = [
        dataclasses.replace(did(FAIL), repeat=condition) for condition in (Condition.ONE_CPU, Condition.USED)
    ]
    changed = change_of(side(OLD, *passed(9)), side(NEW, [did(FAIL), *fails_there]))
    assert changed.since == Tally(failures=1)


def test_a_known_failure_that_passes_now_and_then_is_known() -> None:
    met = did(Verdict.XFAIL, actual=FAIL)
    changed = change_of(side(OLD, *passed(60)), side(NEW, [met], [met], [did(PASS)]))
    assert (changed.change, changed.is_likely_regression) == (Change.KNOWN, False)


def booted(given: Side, *blames: bool) -> Side:
    """The runs, some of which the kernel kept from booting."""
    runs = [
        (dataclasses.replace(run, blames_kernel=blamed), outcomes)
        for (run, outcomes), blamed in zip(given.runs, blames, strict=True)
    ]
    return Side(run=runs[-1][0], runs=runs)


NOT_RUN = Outcome(test="t", verdict=Verdict.NOTRUN, actual=Verdict.NOTRUN, reason="not run: it panicked")


def test_a_kernel_that_does_not_boot_is_worse() -> None:
    comparison = compare(side(OLD, *passed(9)), booted(side(NEW, [NOT_RUN]), True))
    (boot,) = comparison.of(Change.NEW_FAILURE)
    assert (boot.test, boot.before, boot.since) == ("boot", Tally(passes=9), Tally(failures=1))
    assert comparison.regressions == (boot,)
    assert "NEW FAILURE: CRASH: not run: it panicked" in comparison_text(comparison)
    assert [changed.test for changed in comparison.of(Change.INFRASTRUCTURE)] == ["t"]


def built(given: Side, *are_built: bool) -> Side:
    """The runs, some of whose kernels did not build."""
    runs = [
        (run, outcomes) if is_built else (dataclasses.replace(run, end=EndKind.NOT_BUILT), {"build": [NO_C]})
        for (run, outcomes), is_built in zip(given.runs, are_built, strict=True)
    ]
    return Side(run=runs[-1][0], runs=runs)


NO_C = Outcome(test="build", verdict=FAIL, actual=FAIL, reason="x.c:1:1: error: no C")


@pytest.mark.parametrize(
    ("before", "is_built", "change", "probability"),
    [
        ([True], False, Change.NEW_FAILURE, 1.0),
        ([False, True], False, Change.NEW_FAILURE, 1.0),  # compilers do not flake
        ([True, False], False, Change.STILL_FAILING, 0.0),
        ([True, True, True, False], True, Change.FIXED, 0.0),
        ([False, True], True, Change.SAME, 0.0),
    ],
)
def test_a_kernel_that_does_not_build(before: list[bool], is_built: bool, change: Change, probability: float) -> None:
    old, new = side(OLD, *passed(len(before))), side(NEW, [did(PASS)])
    comparison = compare(built(old, *before), built(new, is_built))
    (changed,) = (each for each in comparison.changes if each.test == "build")
    assert (changed.change, changed.probability) == (change, probability)
    others = [each.change for each in comparison.changes if each.test != "build"]
    assert others == ([Change.SAME] if is_built and any(before) else [])  # nothing vanished


def test_a_kernel_that_does_not_build_says_nothing_of_booting() -> None:
    old = booted(side(OLD, *([did(PASS)], [NOT_RUN])), False, True)
    assert change_of(old, built(side(NEW, []), False), "build").change is Change.NEW_FAILURE
    boots = compare(built(side(NEW, [], [did(PASS)]), False, True), booted(side(OLD, [NOT_RUN]), True))
    (boot,) = boots.of(Change.NEW_FAILURE)
    assert (boot.test, boot.before) == ("boot", Tally(passes=1))


def test_a_kernel_that_boots_now_and_then_is_flaky() -> None:
    old = booted(side(OLD, *([did(PASS)], [NOT_RUN]) * 10), *(False, True) * 10)
    assert change_of(old, booted(side(NEW, [NOT_RUN]), True), "boot").change is Change.FLAKY


def test_a_lab_that_boots_nothing_says_nothing_about_the_kernel() -> None:
    comparison = compare(side(OLD, *passed(9)), side(NEW, [NOT_RUN]))
    assert [(changed.test, changed.change) for changed in comparison.changes] == [("t", Change.INFRASTRUCTURE)]
    old = booted(side(OLD, [NOT_RUN], [did(PASS)]), True, False)
    assert change_of(old, side(NEW, [NOT_RUN]), "boot").change is Change.INFRASTRUCTURE


def test_a_test_that_takes_far_longer_is_slower() -> None:
    old = side(OLD, *[[did(PASS), did(PASS, "u"), did(PASS, "v")]] * 6)
    new = side(NEW, [did(PASS, seconds=9.0), did(PASS, "u"), did(PASS, "v")])
    changed = change_of(old, new)
    assert (changed.change, changed.note) == (Change.SLOWER, "9.0 s, usually 1.0 s at the pace of this run")
    assert change_of(old, new, "u").change is Change.SAME


def test_a_slower_machine_makes_no_test_slower() -> None:
    names = "tuvw"
    old = side(OLD, *[[did(PASS, name) for name in names]] * 6)
    new = side(NEW, [did(PASS, name, seconds=9.0) for name in names])
    assert {changed.change for changed in compare(old, new).changes} == {Change.SAME}


def test_the_mail_says_each_cause_once() -> None:
    tests = [f"testcases/x.py::test_{number}" for number in range(8)]
    old = side(OLD, *[[did(PASS, test) for test in tests]] * 20)
    new = side(NEW, [*(crashed(test=test) for test in tests[:7]), did(PASS, tests[7])])
    text = comparison_text(compare(old, new))
    assert text.count("NEW FAILURE: CRASH: Oops in f (kernel/x.c) [oops]") == 1
    assert "and 2 more" in text
    assert "failed 0 of 20 before, 1 of 1 since; worse with a probability of" in text
    assert "last good old-19, first bad new-0" in text
    never = comparison_text(compare(side(OLD, [did(Verdict.NOTRUN)]), side(NEW, [did(FAIL)])))
    assert "failed 1 of 1 since, without a verdict before; worse with" in never
    assert text.endswith("7 new failure, 1 same")
    assert max(map(len, text.splitlines())) <= 78


def test_the_mail_has_at_most_sixty_lines() -> None:
    old = side(OLD, [did(PASS, f"t{number}") for number in range(100)])
    new = side(NEW, [did(FAIL, f"t{number}", reason=f"because of {number}") for number in range(100)])
    comparison = compare(old, new)
    assert len(comparison_text(comparison).splitlines()) == 60
    assert len(comparison_text(comparison, most_lines=None).splitlines()) > 300


def test_nothing_new_is_nothing_but_counts() -> None:
    text = comparison_text(compare(side(OLD, *passed(9)), side(NEW, [did(PASS)])))
    assert text.splitlines()[-2:] == ["", "1 same"]


def test_what_a_target_wrote_is_no_line_of_ours() -> None:
    new = side(NEW, [did(FAIL, reason="\x1b[2J\nFIXED: all")])
    assert "\nFIXED" not in comparison_text(compare(side(OLD, *passed(9)), new))


def test_json() -> None:
    document = json.loads(comparison_json(compare(side(OLD, *passed(30)), side(NEW, [did(FAIL, reason="so")]))))
    (test,) = document["tests"]
    assert (document["counts"]["new failure"], document["likely_regressions"]) == (1, ["t"])
    assert (test["change"], test["verdict"], test["old_verdict"], test["reason"]) == (
        "new failure",
        "FAIL",
        "PASS",
        "so",
    )
    assert (test["before"], test["since"]) == ({"passes": 30, "failures": 0}, {"passes": 0, "failures": 1})
