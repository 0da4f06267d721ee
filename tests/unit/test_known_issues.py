"""Known issues: written down from a run without touching the rest of their file, and named once they are not seen."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from harness.campaign import known
from harness.errors import UserError
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import Condition, EndKind, Repeat, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.parse.expectations import parse_expectations
from harness.parse.known_entry import known_entry, with_entry

OOPS = Fault(kind=FaultKind.OOPS, title="Oops: it's bad in f (kernel/x.c:12)")
RECORD = RunRecord(id="r", kernel=KernelRecord(release="7.3.4"), board=BoardRecord(name="virt"))
CRASH = Result(test="a[b]", verdict=Verdict.CRASH, fault=OOPS)
FAIL = Result(test="t", verdict=Verdict.FAIL, reason="expected 1: found 2; expected: FAIL with the message 'x'")
FILE = "# ours\nexpectations:\n  - test: x # keep this\n    verdict: FAIL\n    reason: so\n"


def entry(result: Result, **given: str) -> dict[str, object]:
    words = {"reason": "because", "issue": "", "who": "me", "since": "2026-11-28", "until": ""} | given
    return known_entry(result, RECORD, **words)


def test_an_entry_is_read_back_as_that_result() -> None:
    text = with_entry(FILE, entry(CRASH, issue="https://example.org/1", until="2027-01-31"), place="f")
    assert text.startswith(FILE)
    _, outcome = parse_expectations(text, place="f")
    wanted = outcome.expectation
    assert (wanted.test, wanted.verdicts, wanted.faults) == ("a[b]", (Verdict.CRASH,), (str(OOPS.signature),))
    assert (wanted.issue, wanted.until, wanted.who, wanted.since) == (
        "https://example.org/1", "2027-01-31", "me", "2026-11-28",
    )  # fmt: skip
    assert (outcome.scope.boards, outcome.scope.kernel.lowest, outcome.scope.kernel.highest) == (("virt",), (7, 3), ())


def test_the_message_is_what_the_test_said_not_what_was_expected() -> None:
    assert entry(FAIL)["message"] == "expected 1: found 2"


def test_a_flaky_failure_may_pass() -> None:
    flaky = dataclasses.replace(FAIL, repeats=(Repeat(verdict=Verdict.FAIL), Repeat(verdict=Verdict.PASS)))
    assert entry(flaky)["verdict"] == ["FAIL", "PASS"]
    one_cpu = dataclasses.replace(FAIL, repeats=(Repeat(verdict=Verdict.PASS, condition=Condition.ONE_CPU),))
    assert entry(one_cpu)["verdict"] == ["FAIL"]
    assert entry(FAIL)["verdict"] == ["FAIL"]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.SKIP, Verdict.ERROR, Verdict.NOTRUN])
def test_what_is_no_failure_can_not_be_known(verdict: Verdict) -> None:
    with pytest.raises(UserError, match=f"t: expected a failure of the kernel to be known, found {verdict}"):
        entry(Result(test="t", verdict=verdict))


@pytest.mark.parametrize("text", ["", "expectations: []\n", "# none yet\nexpectations: []\n", "expectations:\n"])
def test_the_first_entry_of_a_file(text: str) -> None:
    added = with_entry(text, entry(FAIL), place="f")
    assert [each.expectation.test for each in parse_expectations(added, place="f")] == ["t"]
    assert added.startswith("# none yet") == text.startswith("# none yet")


def test_a_malformed_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "known.yaml"
    file.write_text("expectations: {}\n")
    with pytest.raises(UserError, match=r"known\.yaml"):
        known.add_known(a_run(tmp_path, 1, FAIL), "t", file=file, reason="", issue="", who="me", until="")
    assert file.read_text() == "expectations: {}\n"


def test_a_link_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "known.yaml"
    with pytest.raises(UserError, match="expected a URL"):
        known.add_known(a_run(tmp_path, 1, FAIL), "t", file=file, reason="", issue="see my mail", who="me", until="")
    assert not file.exists()


def test_a_test_that_is_not_in_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="u: expected the id of a test of"):
        known.add_known(a_run(tmp_path, 1, FAIL), "u", file=tmp_path / "k", reason="", issue="", who="", until="")


def a_run(parent: Path, number: int, result: Result, *, days_ago: int = 0, board: str = "virt") -> Path:
    directory = parent / f"run-{number}"
    directory.mkdir()
    record = dataclasses.replace(RECORD, id=f"run-{number:03}", board=BoardRecord(name=board))
    began = time.time() - 86400 * days_ago + number
    events = [
        RunBegun(time=began, record=record),
        Planned(time=began, tests=(result.test,)),
        Finished(time=began, result=result),
        RunEnded(time=began, end=RunEnd(kind=EndKind.COMPLETE)),
    ]
    (directory / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))
    return directory
