"""Checks for Patchwork: one for each suite, with a state that blames the patch only for what the kernel did."""

from __future__ import annotations

import json
import re

import pytest

from harness.model.record import BoardRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.report.patchwork import checks_json

COMPLETE = RunEnd(kind=EndKind.COMPLETE)


def checks(
    *results: Result, ended: RunEnd | None = COMPLETE, board: str = "virt", **given: str
) -> list[dict[str, str]]:
    run = RunResults(record=RunRecord(board=BoardRecord(name=board)), results=results, ended=ended)
    return json.loads(checks_json(run, **given))  # type: ignore[no-any-return]


def test_one_check_for_each_suite() -> None:
    built, booted, *found = checks(
        Result(test="testcases/a.py::test_a", verdict=Verdict.PASS),
        Result(test="selftests/ftrace/test.d/x.tc", verdict=Verdict.FAIL),
        Result(test="selftests/ftrace/test.d/y.tc", verdict=Verdict.PASS),
        url="https://ci.example.org/1",
    )
    assert found == [
        {
            "state": "success",
            "context": "arm64-ftrace-virt-testcases",
            "description": "1 PASS",
            "target_url": "https://ci.example.org/1",
        },
        {
            "state": "fail",
            "context": "arm64-ftrace-virt-selftests-ftrace",
            "description": "1 FAIL, 1 PASS: selftests/ftrace/test.d/x.tc",
            "target_url": "https://ci.example.org/1",
        },
    ]
    assert [built["context"], booted["context"]] == ["arm64-ftrace-virt-build", "arm64-ftrace-virt-boot"]


@pytest.mark.parametrize("reason", ["not built", "not booted"])
def test_what_failed_before_and_is_well_now_has_a_new_check(reason: str) -> None:
    """Patchwork shows the latest check of each context: a failure without a later one would stay for ever."""
    kind = EndKind.NOT_BUILT if reason == "not built" else EndKind.NOT_BOOTED
    failed = checks(ended=RunEnd(kind=kind, reason="why", blames_kernel=True))
    (bad,) = [check["context"] for check in failed if check["state"] == "fail"]
    later = checks(Result(test="testcases/t", verdict=Verdict.PASS))
    assert {check["context"]: check["state"] for check in later}[bad] == "success"


@pytest.mark.parametrize(
    ("verdicts", "ended", "state", "told"),
    [
        ("PASS XFAIL SKIP", COMPLETE, "success", "1 XFAIL, 1 SKIP, 1 PASS"),
        ("PASS ERROR", COMPLETE, "warning", "1 ERROR, 1 PASS: the lab failed, this says nothing about the patch"),
        ("PASS NOTRUN", None, "warning", "1 NOTRUN, 1 PASS: the lab failed"),
        ("ERROR CRASH", COMPLETE, "fail", "1 CRASH, 1 ERROR: testcases/t1"),
        ("TIMEOUT", COMPLETE, "fail", "1 TIMEOUT: testcases/t0"),
        ("UNRESOLVED", COMPLETE, "fail", "1 UNRESOLVED: testcases/t0"),
        ("SKIP SKIP", COMPLETE, "warning", "2 SKIP: nothing was tested"),
        ("PASS", RunEnd(kind=EndKind.INTERRUPTED), "warning", "1 PASS; the run was not complete"),
    ],
)
def test_states(verdicts: str, ended: RunEnd | None, state: str, told: str) -> None:
    results = [Result(test=f"testcases/t{n}", verdict=Verdict[name]) for n, name in enumerate(verdicts.split())]
    *_, check = checks(*results, ended=ended)
    assert check["state"] == state
    assert check["description"].startswith(told)


@pytest.mark.parametrize(("blames_kernel", "state"), [(True, "fail"), (False, "warning")])
def test_a_kernel_that_does_not_boot(blames_kernel: bool, state: str) -> None:
    ended = RunEnd(kind=EndKind.NOT_BOOTED, reason="it panicked", blames_kernel=blames_kernel)
    _, check = checks(Result(test="t", verdict=Verdict.NOTRUN), ended=ended)
    assert (check["state"], check["context"]) == (state, "arm64-ftrace-virt-boot")
    assert check["description"] == "the target could not be booted: it panicked"


def test_no_test_is_no_success() -> None:
    _, check = checks()
    assert (check["state"], check["description"]) == ("warning", "no test was run")


def test_whatever_names_hold_patchwork_takes_the_check() -> None:
    hostile = "x\n\x1b[2J" + "é/.. " * 200
    *_, check = checks(Result(test=hostile, verdict=Verdict.FAIL), board=hostile, prefix="my lab")
    assert re.fullmatch(r"[-a-zA-Z0-9_]{1,255}", check["context"])
    assert check["description"].isprintable()
    assert len(check["description"]) <= 200
