"""Runs that earlier harnesses recorded, one directory for each version of events.jsonl, fold to the results that these
harnesses made of them (results.json beside it)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.result import Result, Verdict
from harness.report.results_json import results_json
from harness.run.documents import read_results

RUNS = Path(__file__).resolve().parents[1] / "data/runs"
ALL = sorted(path.parent for path in RUNS.glob("*/*/events.jsonl"))
NAMES = [str(path.relative_to(RUNS)) for path in ALL]


def documents(run_dir: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was made of the run when it was recorded, and what is made of it now."""
    return json.loads((run_dir / "results.json").read_text()), json.loads(results_json(read_results(run_dir)))


@pytest.mark.parametrize("run_dir", ALL, ids=NAMES)
def test_test_by_test_a_run_has_the_results_it_had(run_dir: Path) -> None:
    then, now = documents(run_dir)
    assert [each["test"] for each in now["results"]] == [each["test"] for each in then["results"]]
    for before, after in zip(then["results"], now["results"], strict=True):
        assert _same(before, after)


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """A known outcome tells more than it did."""
    expected, now = before.get("expected"), after["expected"]
    same = now == expected if expected is None else now is not None and now.items() >= expected.items()
    return same and all(after[name] == before[name] for name in before.keys() - {"expected"})


@pytest.mark.parametrize("run_dir", ALL, ids=NAMES)
def test_what_documents_told_of_a_run_they_still_tell(run_dir: Path) -> None:
    then, now = documents(run_dir)
    assert now["properties"].items() >= then["properties"].items()
    for name in then.keys() - {"results", "properties"}:
        assert now[name] == then[name]


def test_every_version_that_there_was_has_a_run() -> None:
    versions = {json.loads(path.read_text().partition("\n")[0]).get("v", 1) for path in RUNS.glob("*/*/events.jsonl")}
    assert versions == {1, 2}


def results(name: str) -> dict[str, Result]:
    return {result.test.rpartition("/")[2]: result for result in read_results(RUNS / name).results}


def test_a_killed_run_of_version_1() -> None:
    told = results("v1/killed")
    (cut_off,) = [result for result in told.values() if result.verdict is Verdict.ERROR]
    assert cut_off.reason == "the run ended while this test was running"
    assert read_results(RUNS / "v1/killed").ended is None


def test_boards_of_a_run_of_version_1() -> None:
    assert {result.board for result in results("v1/twins").values()} == {"one", "two"}
    assert read_results(RUNS / "v1/twins").record.boards == ("one", "two")


@pytest.mark.parametrize(
    ("name", "test", "boards"),
    [
        ("v1/worker-died", "test_dies.py::test_dies", ["b0", "b0"]),
        ("v1/board-lost", "test_reboots.py::test_reboots", ["b0", "b1"]),
    ],
)
def test_an_attempt_that_version_1_knew_only_the_beginning_of(name: str, test: str, boards: list[str]) -> None:
    result = results(name)[test]
    assert [each.board for each in result.attempts] == boards
    assert [each.verdict for each in result.attempts] == [Verdict.ERROR, Verdict.PASS]
    assert (result.verdict, result.reason) == (Verdict.PASS, "")


@pytest.mark.parametrize(
    ("name", "test", "lost"),
    [
        ("v2/worker-died", "test_dies.py::test_dies", ("b0", "gw0/boot-1", "its worker died: Not properly terminated")),
        (
            "v2/board-lost",
            "test_reboots.py::test_reboots",
            ("b0", "gw0/boot-1", "b0.power: the switch does not answer"),
        ),
        ("v2/machine-lost", "test_it.py::test_one", ("fake", "restored-2", "fake: the channel closed")),
    ],
)
def test_an_attempt_of_version_2_says_where_it_was_made_and_why_it_was_lost(
    name: str, test: str, lost: tuple[str, str, str]
) -> None:
    result = results(name)[test]
    first, second = result.attempts
    assert (first.board, first.machine, first.reason) == lost
    assert first.verdict is Verdict.ERROR
    assert first.seconds > 0
    assert (result.verdict, result.machine, result.log) == (Verdict.PASS, second.machine, second.log)
    assert second.machine != first.machine
