"""Testcases that need no booted kernel come first, and have their verdicts whatever the boot does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.errors import BootError, HarnessError, InfraError
from harness.model.boot import QemuBoot
from harness.model.kernel import Build
from harness.model.progress import NoDisplay
from harness.model.result import Verdict
from harness.run import inprocess, session
from harness.run.documents import read_results
from tests.boards import held, spec
from tests.faketarget import FakeTarget
from tests.records import build_json

BOARD = held(spec("fake", boot=QemuBoot()))
TESTS = """
def test_guest(guest):
    guest.check("true")

def test_through_others(tracefs):
    pass

def test_good(build):
    assert build.release == "7.3.4"

def test_bad(kernel_files):
    assert kernel_files.version == (6, 1)
"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    project = tmp_path / "project"
    (project / "testcases").mkdir(parents=True)
    (project / "testcases/test_x.py").write_text(TESTS)
    sys.modules.pop("testcases.test_x", None)  # pytest would take the one of the test before for ours
    monkeypatch.setattr(inprocess, "PROJECT", project)
    monkeypatch.setattr(inprocess, "TESTCASES", project / "testcases")
    directory = tmp_path / "build"
    build_json(directory)
    return Build(directory=directory, release="7.3.4", key="k")


class Machine:
    """What boots: counts how often, and fails if it is given an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.boots = 0
        self._error = error

    def boot(self) -> tuple[FakeTarget, float]:
        self.boots += 1
        if self._error:
            raise self._error
        return FakeTarget(lambda command: ["release 7.3.4"] if "echo release" in command else []), 1.0


def run(build: Build, machine: Machine, run_dir: Path, *, keyword: str = "", maxfail: int = 0) -> int:
    run_dir.mkdir()
    _, code = session.run(
        build,
        session.Selection(suites=frozenset({"testcases"}), keyword=keyword, maxfail=maxfail),
        board=BOARD,
        boot=machine.boot,
        run_dir=run_dir,
        command="harness run",
        display=NoDisplay(),
    )
    return code


def verdicts(run_dir: Path) -> dict[str, Verdict]:
    return {result.test.rpartition("::")[2]: result.verdict for result in read_results(run_dir).results}


def order(run_dir: Path) -> list[str]:
    """What happened in which order: tests by name, and the boot."""
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    told = [event for event in events if event["kind"] in ("started", "booted")]
    return [event["test"].rpartition("::")[2] if event["kind"] == "started" else "booted" for event in told]


def test_they_run_before_the_boot(build: Build, tmp_path: Path) -> None:
    assert run(build, Machine(), tmp_path / "run") == 1
    assert order(tmp_path / "run") == ["test_good", "test_bad", "booted", "test_guest", "test_through_others"]
    assert verdicts(tmp_path / "run") == {
        "test_good": Verdict.PASS,
        "test_bad": Verdict.FAIL,
        "test_guest": Verdict.PASS,
        "test_through_others": Verdict.PASS,
    }


@pytest.mark.parametrize("error", [BootError("it panicked"), InfraError("no power")])
def test_the_record_of_a_boot_that_failed_has_the_exit_code_of_the_command(
    build: Build, tmp_path: Path, error: HarnessError
) -> None:
    with pytest.raises(type(error)):
        run(build, Machine(error), tmp_path / "run", keyword="good or guest")
    assert json.loads((tmp_path / "run/results.json").read_text())["exit_code"] == error.exit_code


def test_a_kernel_that_does_not_boot_leaves_them_their_verdicts(build: Build, tmp_path: Path) -> None:
    with pytest.raises(BootError, match="panicked at boot"):
        run(build, Machine(BootError("the kernel panicked at boot")), tmp_path / "run")
    assert verdicts(tmp_path / "run") == {
        "test_good": Verdict.PASS,
        "test_bad": Verdict.FAIL,
        "test_guest": Verdict.NOTRUN,
        "test_through_others": Verdict.NOTRUN,
    }
    assert read_results(tmp_path / "run").exit_code == BootError.exit_code
    reasons = {result.reason for result in read_results(tmp_path / "run").results if result.verdict is Verdict.NOTRUN}
    assert all("the kernel panicked at boot" in reason for reason in reasons)


@pytest.mark.parametrize(("keyword", "maxfail"), [("good or bad", 0), ("", 1)])
def test_nothing_is_booted_for_nothing(build: Build, tmp_path: Path, keyword: str, maxfail: int) -> None:
    """Neither when only they were chosen, nor when one of them was the last failure that was allowed."""
    machine = Machine()
    assert run(build, machine, tmp_path / "run", keyword=keyword, maxfail=maxfail) == 1
    assert machine.boots == 0
    assert verdicts(tmp_path / "run")["test_bad"] is Verdict.FAIL


def test_without_any_of_them_the_boot_comes_first(build: Build, tmp_path: Path) -> None:
    assert run(build, Machine(), tmp_path / "run", keyword="guest or others") == 0
    assert order(tmp_path / "run") == ["booted", "test_guest", "test_through_others"]
