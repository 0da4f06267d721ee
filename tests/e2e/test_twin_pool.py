"""Equal boards, on twins of them: one run's tests on two machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Twin
from tests.faults.catalogue import Blame, fault

POOL = """
defaults:
  twin:
    pool: twins
    power: {kind: tasmota, host: "${TWIN_HOST}:17342", password: twin}
    boot: {method: uboot, tftp_root: "${TWIN_TFTP}", uboot_seconds: 90}
    limits: {boot: 240, silence: 60}
boards:
  one: {like: twin, console: {kind: telnet, host: "${TWIN_HOST}", port: 17341}}
  two: {like: twin, console: {kind: telnet, host: "${TWIN_HOST}", port: 17343}, power: {host: "${TWIN_HOST}:17344"}}
"""
TESTS = ("--suite", "testcases/function", "-k", "test_filter or test_notrace or test_call_ops or test_nothing")


@pytest.fixture
def twins(twin: Callable[..., Twin]) -> Callable[[str], Twin]:
    """Starts the twins uboot and serial, which are the boards one and two of a file."""

    def start(boards: str = POOL) -> Twin:
        first = twin(boards=boards)
        twin("serial", boards=boards, host=first.environment["TWIN_HOST"])
        return first

    return start


def _verdicts(run_dir: Path) -> dict[str, str]:
    results = json.loads((run_dir / "results.json").read_text())["results"]
    return {result["test"]: result["verdict"] for result in results}


def _boards_of(run_dir: Path, kind: str) -> set[str]:
    """The boards that events of a kind tell of."""
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    return {event["data"]["board"] for event in events if event["kind"] == kind}


def test_two_boards_have_the_verdicts_of_one(twins: Callable[[], Twin]) -> None:
    lab = twins()
    alone = lab.harness("run", "one", *TESTS, "--out", str(lab.cwd / "alone"))
    assert alone.returncode == 0, alone.stdout + alone.stderr
    together = lab.harness("run", "one", *TESTS, "-j", "2", "--out", str(lab.cwd / "together"))
    assert together.returncode == 0, together.stdout + together.stderr
    assert "PASS" in _verdicts(lab.cwd / "alone").values()
    assert _verdicts(lab.cwd / "together") == _verdicts(lab.cwd / "alone")
    assert _boards_of(lab.cwd / "together", "booted") == {"one", "two"}
    assert _boards_of(lab.cwd / "together", "finished") == {"one", "two"}
    for board in ("one", "two"):
        assert "Linux version" in (lab.cwd / f"together/worker-{board}/console.log").read_text()
    assert not lab.is_on("uboot")
    assert not lab.is_on("serial")


@fault(
    "the power switch of one board of a pool does not answer",
    where="power",
    blame=Blame.NOBODY,
    survives="the whole run, on the other board",
)
def test_a_board_whose_power_switch_fails_is_left_out_and_the_run_is_whole(twins: Callable[[str], Twin]) -> None:
    lab = twins(POOL.replace(":17344", ":17399"))
    done = lab.harness("run", "one", *TESTS, "-j", "auto", "--out", str(lab.cwd / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = [line for line in done.stderr.splitlines() if "left out" in line]
    assert "board two left out: two.power.off: http://" in told
    assert set(_verdicts(lab.cwd / "run").values()) <= {"PASS", "SKIP"}
    assert "PASS" in _verdicts(lab.cwd / "run").values()
    assert _boards_of(lab.cwd / "run", "finished") == {"one"}
    assert not lab.is_on("uboot")


@fault("SIGKILL of a run on two boards", where="killed", blame=Blame.NOBODY, survives="both boards, off and free")
def test_a_run_that_is_killed_leaves_both_boards_off_and_free(twins: Callable[[], Twin]) -> None:
    lab = twins()
    command = [sys.executable, "-m", "harness", *lab.arguments("run", "one"), *TESTS, "-j", "2"]
    environment = {**os.environ, **lab.environment}
    process = subprocess.Popen(
        [*map(str, command)], cwd=lab.cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _wait_until(lambda: lab.is_on("uboot") and lab.is_on("serial"), seconds=300)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_until(lambda: not lab.is_on("uboot") and not lab.is_on("serial"), seconds=60)
    _wait_until(lambda: "in use" not in lab.listed(), seconds=60)


def _wait_until(is_so: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.2)  # a switch tells its state only when it is asked
