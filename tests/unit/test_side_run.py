"""Runs in processes of their own, and which finished ones can stand for a new one."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.run import side_run
from harness.run.documents import read_results
from harness.run.session import key_of_testcases
from harness.run.side_run import Ended, Plan, SideRuns, finished

PLAN = Plan(kernel="k1", board="qemu-virt", suite="testcases", keyword="(test_a.py and test_a)")


def recorded(
    directory: Path,
    *,
    ended: str | None = "complete",
    planned: tuple[str, ...] = ("testcases/a",),
    **properties: object,
) -> Path:
    """A run's directory with the events of a run of PLAN, with some `properties` different."""
    told: dict[str, object] = {
        "kernel_key": "k1",
        "board": "qemu-virt",
        "suites": ["testcases"],
        "keyword": PLAN.keyword,
    }
    told |= {"testcases": key_of_testcases(), **properties}
    events: list[dict[str, object]] = [
        {"kind": "run", "time": 1.0, **told},
        {"kind": "planned", "time": 1.0, "tests": planned},
    ]
    if ended:
        events.append({"kind": "ended", "time": 2.0, "why": ended})
    directory.mkdir(parents=True)
    lines = (json.dumps({"kind": each.pop("kind"), "time": each.pop("time"), "data": each}) for each in events)
    (directory / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return directory


def test_a_finished_run_of_the_same_stands_for_a_new_one(tmp_path: Path) -> None:
    assert finished(recorded(tmp_path / "run"), PLAN)


def test_a_run_of_the_whole_suite_stands_for_some_of_it(tmp_path: Path) -> None:
    assert finished(recorded(tmp_path / "run", keyword=""), PLAN)


@pytest.mark.parametrize(
    "different",
    [
        {"kernel_key": "k2"},
        {"board": "other"},
        {"suites": ["selftests/ftrace"]},
        {"keyword": "other"},
        {"testcases": "changed since"},
        {"ended": "interrupted"},
        {"ended": "the target could not be booted: the kernel panicked"},
        {"ended": None},
        {"planned": ()},
    ],
    ids=str,
)
def test_another_run_does_not(different: dict[str, Any], tmp_path: Path) -> None:
    assert not finished(recorded(tmp_path / "run", **different), PLAN)


def test_a_kernel_that_came_to_the_same_is_the_same(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", kernel_key="k2", kernel_made="m1")
    assert finished(run, dataclasses.replace(PLAN, made="m1"))
    assert not finished(run, dataclasses.replace(PLAN, made="m2"))
    assert not finished(recorded(tmp_path / "old", kernel_key="k2", kernel_made=""), PLAN)


def test_no_run_does_not(tmp_path: Path) -> None:
    assert not finished(tmp_path / "nowhere", PLAN)


def test_in_tree_tests_do_not_change_with_ours(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", suites=["selftests/ftrace"], testcases="changed since", keyword="fgraph")
    plan = Plan(kernel="k1", board="qemu-virt", suite="selftests/ftrace")
    assert not finished(run, plan)
    assert finished(run, plan, any_keyword=True)


@pytest.mark.parametrize(
    ("ended", "code", "told"),
    [
        ("the target could not be booted: the kernel panicked", 1, "the kernel panicked"),
        ("the target could not be booted: no QEMU", 3, ""),  # the lab's fault
        ("complete", 1, ""),
    ],
)
def test_a_kernel_that_does_not_boot_is_told_from_a_lab_that_does_not(
    ended: str, code: int, told: str, tmp_path: Path
) -> None:
    recorded(tmp_path / "run", ended=ended)
    assert Ended(code=code, results=read_results(tmp_path / "run"), last_line="").not_booted == told


def test_a_run_that_can_not_start_says_why(tmp_path: Path) -> None:
    with SideRuns(["--timeout-factor", 2.0]) as side_runs:
        ended = side_runs.run(tmp_path / "no-build", PLAN, tmp_path / "out/run")
    assert (ended.code, ended.results) == (2, None)
    assert "expected a finished build" in (tmp_path / "out/run.log").read_text()


def test_runs_end_with_who_started_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for Python sleeps for ever."""
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\necho up\nexec sleep 600\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(sleeper))
    codes = []
    with SideRuns([]) as side_runs:
        work = threading.Thread(target=lambda: codes.append(side_runs.run(tmp_path, PLAN, tmp_path / "out/run").code))
        work.start()
        deadline = time.monotonic() + 10
        while not ((tmp_path / "out/run.log").is_file() and (tmp_path / "out/run.log").read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    work.join(timeout=10)
    assert codes == [-15]
    assert side_runs.run(tmp_path, PLAN, tmp_path / "out/later").code == 3


def test_all_runs_have_the_same_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are that do not."""
    now = [100.0]

    class Hanging:
        def terminate(self) -> None: ...

        def wait(self, *, timeout: float) -> None:
            now[0] += timeout
            raise subprocess.TimeoutExpired("a run", timeout)

        def kill(self) -> None:
            killed.append(self)

    killed: list[Hanging] = []
    monkeypatch.setattr(side_run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    runs = SideRuns([])
    runs._running |= {Hanging() for _ in range(5)}  # type: ignore[misc]
    runs.stop()
    assert (len(killed), now[0]) == (5, 130.0)
