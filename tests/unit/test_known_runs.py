"""Known outcomes in whole runs over scripted targets: what becomes of verdicts, exit code and documents."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import RunResults, Verdict
from harness.parse.expectations import parse_expectations
from harness.run import inprocess, session
from harness.run.documents import read_results, write_documents
from tests.boards import held, spec
from tests.faketarget import FakeTarget, Kmsg
from tests.faults.catalogue import Blame, fault
from tests.records import build_json

CASES = """\
def test_crashes(guest):
    guest.run("crash")

def test_fails(guest):
    assert guest.run("true").output == "fine", "out of luck"

def test_passes(guest):
    pass
"""
CRASHES, FAILS, PASSES = (f"testcases/test_it.py::test_{name}" for name in ("crashes", "fails", "passes"))
ISSUE = "https://bugs.example.org/1"
CRASH = f"- {{test: '*crashes', verdict: CRASH, fault: 'panic: on purpose*', reason: because, issue: '{ISSUE}'}}\n"
FAIL = "- {test: '*fails', verdict: FAIL, message: '*out of luck*', reason: because}\n"
Runs = Callable[..., tuple[RunResults, int]]


def panic(why: str) -> Kmsg:
    return Kmsg(f"[    1.000000] Kernel panic - not syncing: {why}\n[    1.000000] ---[ end Kernel panic - {why} ]---")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs CASES on targets that panic when they are told to crash; `known`: entries of an expectations file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sys.modules.pop("testcases.test_it", None)  # pytest would take the one of the test before for ours
    (tmp_path / "testcases").mkdir()
    (tmp_path / "testcases/test_it.py").write_text(CASES)
    monkeypatch.setattr(inprocess, "PROJECT", tmp_path)
    monkeypatch.setattr(inprocess, "TESTCASES", tmp_path / "testcases")
    build_json(tmp_path / "build")

    def run(known: str, *, why: str = "on purpose", **selection: Any) -> tuple[RunResults, int]:
        (tmp_path / "run").mkdir()
        return session.run(
            Build(directory=tmp_path / "build", release="7.3.4", key="k", config={"LIVEPATCH": "y"}),
            session.Selection(
                suites=frozenset({"testcases"}),
                known=parse_expectations(f"expectations:\n{known}", place="mine.yaml"),
                today=date(2026, 12, 1),
                **selection,
            ),
            board=held(spec("fake", boot=QemuBoot())),
            boot=lambda: (FakeTarget(lambda command: [panic(why)] if command == "crash" else ["release 7.3.4"]), 1.0),
            run_dir=tmp_path / "run",
            command="harness run",
            display=NoDisplay(),
        )

    return run


def _verdicts(results: RunResults) -> list[Verdict]:
    return [result.verdict for result in results.results]


def _document(tmp_path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((tmp_path / "run/results.json").read_text())
    return document


def test_a_run_in_which_all_is_as_known_is_green(runs: Runs, tmp_path: Path) -> None:
    results, code = runs(CRASH + FAIL)
    assert (_verdicts(results), code) == (["XFAIL", "XFAIL", "PASS"], 0)
    document = _document(tmp_path)
    assert document["expired_expectations"] == document["unmatched_expectations"] == []
    crash = document["results"][0]
    assert crash["reason"] == f"known CRASH: because, {ISSUE} (panic: on purpose)"
    assert (crash["expected"]["place"], crash["expected"]["standing"]) == ("mine.yaml: expectations.0", "met")
    assert ISSUE in (tmp_path / "run/junit.xml").read_text()
    assert f'href="{ISSUE}"' in (tmp_path / "run/report.html").read_text()


@fault("another panic in a test with a known crash", where="kernel", blame=Blame.KERNEL, survives="the new report")
def test_another_panic_in_a_test_with_a_known_crash_is_a_crash(runs: Runs, tmp_path: Path) -> None:
    results, code = runs(CRASH + FAIL, why="by accident")
    assert (_verdicts(results), code) == (["CRASH", "XFAIL", "PASS"], 1)
    assert results.results[0].reason == "panic: by accident; expected: CRASH with the fault 'panic: on purpose*'"
    document = _document(tmp_path)
    assert [each["place"] for each in document["unmatched_expectations"]] == ["mine.yaml: expectations.0"]
    assert "Known outcomes that no test matched" in (tmp_path / "run/report.html").read_text()


def test_a_failure_of_another_kind_is_a_failure(runs: Runs) -> None:
    results, code = runs(CRASH + FAIL.replace("out of luck", "out of time"))
    assert (_verdicts(results), code) == (["XFAIL", "FAIL", "PASS"], 1)


@pytest.mark.parametrize(
    "scope", ["kernel: ..7.2", "board: other", "toolchain: clang", "toolchain: gcc 13..", "config: CONFIG_LIVEPATCH=n"]
)
def test_what_holds_elsewhere_does_not_count_here(runs: Runs, tmp_path: Path, scope: str) -> None:
    results, code = runs(CRASH.replace("reason:", f"{scope}, reason:") + FAIL)
    assert (_verdicts(results), code) == (["CRASH", "XFAIL", "PASS"], 1)
    assert _document(tmp_path)["unmatched_expectations"] == []


def test_what_holds_here_counts(runs: Runs) -> None:
    scope = "kernel: 7.3, board: f*, toolchain: gcc 12, config: [CONFIG_LIVEPATCH=y, CONFIG_KASAN=n], until: 2026-12-01"
    assert runs(CRASH.replace("reason:", f"{scope}, reason:") + FAIL)[1] == 0


@pytest.mark.parametrize("until", ["2026-11-30", "7.2"])
def test_what_expired_is_reported_and_counts_no_more(runs: Runs, tmp_path: Path, until: str) -> None:
    results, code = runs(CRASH.replace("reason:", f"until: {until}, reason:") + FAIL)
    assert (_verdicts(results), code) == (["CRASH", "XFAIL", "PASS"], 1)
    assert f"was known until {until}: because" in results.results[0].reason
    document = _document(tmp_path)
    assert [each["until"] for each in document["expired_expectations"]] == [until]
    assert "Known outcomes that have expired" in (tmp_path / "run/report.html").read_text()
    again = write_documents(tmp_path / "run")  # years later
    assert again.results == results.results


def test_an_unexpected_pass_is_reported_and_fails_nothing(runs: Runs, tmp_path: Path) -> None:
    results, code = runs(CRASH + FAIL + "- {test: '*passes', verdict: FAIL, reason: because}\n")
    assert (_verdicts(results), code) == (["XFAIL", "XFAIL", "PASS"], 0)
    document = _document(tmp_path)
    assert [each["unexpected_pass"] for each in document["results"]] == [False, False, True]
    assert document["unmatched_expectations"] == []


def test_what_was_not_chosen_met_nothing_and_missed_nothing(runs: Runs, tmp_path: Path) -> None:
    old = "- {test: '*crashes', verdict: FAIL, reason: because, until: 7.2}\n"
    results, code = runs(CRASH + FAIL + old, keyword="passes")
    assert ([result.test for result in results.results], code) == ([PASSES], 0)
    document = _document(tmp_path)
    assert document["expired_expectations"] == document["unmatched_expectations"] == []


@pytest.mark.parametrize(("why", "verdicts"), [("on purpose", ["XFAIL", "FAIL", "NOTRUN"]), ("x", ["CRASH"])])
def test_a_known_crash_does_not_count_for_maxfail_and_another_one_does(
    runs: Runs, why: str, verdicts: list[str]
) -> None:
    results, code = runs(CRASH, why=why, maxfail=1)
    assert code == 1
    assert _verdicts(results)[: len(verdicts)] == verdicts
    assert set(_verdicts(results)[len(verdicts) :]) <= {Verdict.NOTRUN}


@fault(
    "a panic behind a known failure",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the panic, which the known failure does not hide",
)
def test_a_panic_behind_a_known_failure_counts_for_maxfail(runs: Runs, tmp_path: Path) -> None:
    """The kernel's report outranks what the test itself met, also while the test's report is made."""
    (tmp_path / "testcases/test_it.py").write_text(
        "def test_fails(guest):\n    guest._machine.target.kernel_says(guest_panic)\n"
        "    assert False, 'out of luck'\n\n"
        "def test_passes(guest):\n    pass\n\n"
        f"guest_panic = {str(panic('by accident'))!r}\n"
    )
    results, code = runs(FAIL, maxfail=1)
    assert (_verdicts(results), code) == (["CRASH", "NOTRUN"], 1)
    assert results.results[0].reason.startswith("panic: by accident; expected: FAIL with the message")


def test_a_killed_run_tells_what_it_knew(runs: Runs, tmp_path: Path) -> None:
    runs(CRASH.replace("reason:", "until: 7.2, reason:") + FAIL.replace("out of luck", "out of time"))
    lines = (tmp_path / "run/events.jsonl").read_text().splitlines(keepends=True)
    upto = next(number for number, line in enumerate(lines) if json.loads(line).get("test") == PASSES)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/events.jsonl").write_text("".join(lines[: upto + 1]) + '{"kind": "fini')
    write_documents(tmp_path / "killed")
    document = json.loads((tmp_path / "killed/results.json").read_text())
    assert [each["test"] for each in document["expired_expectations"]] == ["*crashes"]
    assert [each["test"] for each in document["unmatched_expectations"]] == ["*fails"]
    assert read_results(tmp_path / "killed").ended is None
