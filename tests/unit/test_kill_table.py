"""Verdicts of mutants against those of the unpatched kernel, and the table of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.model.mutant import Catch, Fate, Mutant, Row, Trial
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.report import kill_table
from harness.report.kill_table import KillTable, joined, row, trial

A, B, C = (f"testcases/t/test_{name}.py::test_{name}" for name in "abc")


def run(ended: EndKind | None = EndKind.COMPLETE, **verdicts: str) -> RunResults:
    """``run(A="PASS")`` of the tests above; other names stand for themselves."""
    tests = {"A": A, "B": B, "C": C}
    results = tuple(Result(test=tests.get(name, name), verdict=Verdict(told)) for name, told in verdicts.items())
    return RunResults(results=results, ended=RunEnd(kind=ended) if ended else None, seconds=60.0)


def caught(told: Trial) -> dict[str, str]:
    return {catch.test: catch.verdict.value for catch in told.catches}


def mutant(name: str = "m", *caught_by: str) -> Mutant:
    return Mutant(name=name, title="It | is wrong", caught_by=caught_by or (A,))


# --- what counts as a catch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["FAIL", "CRASH", "TIMEOUT", "UNRESOLVED"])
def test_a_passing_test_that_does_not_pass_any_more_is_a_catch(verdict: str) -> None:
    assert caught(trial(run(A=verdict, B="PASS"), baselines=[run(A="PASS", B="PASS")])) == {A: verdict}


@pytest.mark.parametrize("verdict", ["PASS", "SKIP", "XFAIL", "ERROR", "NOTRUN"])
def test_other_verdicts_are_none(verdict: str) -> None:
    assert not trial(run(A=verdict), baselines=[run(A="PASS")]).catches


@pytest.mark.parametrize("verdict", ["FAIL", "SKIP", "XFAIL", "CRASH", "NOTRUN"])
def test_a_test_that_does_not_pass_unpatched_catches_nothing(verdict: str) -> None:
    assert not trial(run(A="CRASH"), baselines=[run(A=verdict)]).catches


def test_a_test_that_passed_only_sometimes_unpatched_catches_nothing() -> None:
    assert caught(trial(run(A="FAIL", B="FAIL"), baselines=[run(A="PASS", B="PASS"), run(A="CRASH", B="PASS")])) == {
        B: "FAIL"
    }


def test_a_test_that_the_unpatched_kernel_never_had_catches_nothing() -> None:
    assert not trial(run(A="FAIL"), baselines=[run(B="PASS")]).catches


@pytest.mark.parametrize(
    ("results", "complete"),
    [
        (run(A="PASS"), True),
        (run(A="ERROR"), False),
        (run(A="PASS", C="ERROR"), True),  # C tells nothing anyway
        (run(ended=None, A="PASS"), False),
        (run(ended=EndKind.MAXFAIL, A="PASS", B="NOTRUN"), False),
    ],
)
def test_only_a_whole_run_can_miss_a_mutant(results: RunResults, complete: bool) -> None:
    assert trial(results, baselines=[run(A="PASS", B="PASS")]).complete is complete


def test_two_suites_say_what_either_says() -> None:
    both = joined([Trial(seconds=3.0), Trial(catches=(Catch(test=A, verdict=Verdict.FAIL),), complete=False)])
    assert (caught(both), both.complete, both.seconds) == ({A: "FAIL"}, False, 3.0)


# --- a mutant's fate --------------------------------------------------------------------------------------------

CATCH = Trial(catches=(Catch(test=f"{A}[far]", verdict=Verdict.FAIL),))


@pytest.mark.parametrize(
    ("ours", "fate"),
    [(CATCH, Fate.CAUGHT), (Trial(), Fate.SURVIVED), (Trial(complete=False), Fate.UNTOLD)],
)
def test_fates(ours: Trial, fate: Fate) -> None:
    assert row(mutant(), ours=ours, in_tree=None, build=1.0).fate is fate


def test_named_tests_that_did_not_catch_it_are_told() -> None:
    made = row(mutant("m", A, B), ours=CATCH, in_tree=None, build=None)
    assert made.missed == (B,)
    assert "m: its header names t/test_b.py::test_b, which did not catch it" in kill_table.text(KillTable(rows=(made,)))


# --- the documents ----------------------------------------------------------------------------------------------


def _row(name: str, fate: Fate, **more: Any) -> Row:
    return Row(mutant=mutant(name), fate=fate, **more)


IN_TREE = Trial(catches=(Catch(test="selftests/ftrace/test.d/ftrace/x.tc", verdict=Verdict.CRASH),))
TABLE = KillTable(
    rows=(
        _row("one", Fate.CAUGHT, ours=CATCH, in_tree=Trial(), build=42.0),
        _row("two", Fate.CAUGHT, ours=CATCH, in_tree=IN_TREE, build=3.0),
        _row("three", Fate.NO_BOOT, note="the kernel panicked at boot"),
    ),
    caption=("7.3.4: 9 of our tests pass",),
)


def test_the_whole_text() -> None:
    assert kill_table.text(TABLE) == [
        "mutant  caught by our tests                 by the in-tree selftests  build  tests",
        "one     1: t/test_a.py::test_a[far] (FAIL)  missed                    42s    0.0s",
        "two     1: t/test_a.py::test_a[far] (FAIL)  1: ftrace/x.tc (CRASH)    3.0s   0.0s",
        "three   DOES NOT BOOT                       -                         -      -",
        "7.3.4: 9 of our tests pass",
        "three: does not boot: the kernel panicked at boot",
        "OK: 3 mutants: 2 caught, 1 does not boot; the in-tree selftests miss 1 of 2",
    ]


@pytest.mark.parametrize(
    ("fates", "code", "last"),
    [
        ([Fate.CAUGHT], 0, "OK: 1 mutants: 1 caught"),
        ([Fate.CAUGHT, Fate.NO_BOOT], 0, "OK: 2 mutants: 1 caught, 1 does not boot"),
        ([Fate.CAUGHT, Fate.SURVIVED], 1, "SURVIVED: m1: a test is missing (1 caught, 1 survived)"),
        ([Fate.NO_BUILD], 1, "INCOMPLETE: 1 mutants: 1 does not build"),
        ([Fate.CAUGHT, Fate.UNTOLD], 3, "INCOMPLETE: 2 mutants: 1 caught, 1 not told"),
        ([Fate.SURVIVED, Fate.UNTOLD], 1, "SURVIVED: m0: a test is missing (1 survived, 1 not told)"),
    ],
)
def test_the_last_line_and_the_exit_code(fates: list[Fate], code: int, last: str) -> None:
    table = KillTable(rows=tuple(_row(f"m{number}", fate) for number, fate in enumerate(fates)))
    assert table.exit_code == code
    assert kill_table.text(table)[-1] == last


def test_many_catches_are_counted_and_the_first_few_named() -> None:
    catches = tuple(Catch(test=f"testcases/t.py::t{number}", verdict=Verdict.FAIL) for number in range(5))
    table = KillTable(rows=(_row("m", Fate.CAUGHT, ours=Trial(catches=catches)),))
    assert "5: t.py::t0 (FAIL) …" in kill_table.text(table)[1]
    assert "5: t.py::t0 (FAIL), t.py::t1 (FAIL), t.py::t2 (FAIL) …" in kill_table.markdown(table)


def test_the_document_survives_what_a_test_is_called() -> None:
    lines = kill_table.markdown(TABLE).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 7
    assert "It \\| is wrong" in lines[2]


def test_the_table_for_programs() -> None:
    document = json.loads(kill_table.as_json(TABLE))
    assert document["exit_code"] == 0
    assert [each["fate"] for each in document["mutants"]] == ["caught", "caught", "does not boot"]
    assert document["mutants"][0]["ours"]["catches"][0]["verdict"] == "FAIL"
