"""The guard: a board is switched off when the harness is gone, and only then."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import Blame, fault

SCRIPT = """
import sys
from harness.model.board import Access, BoardSpec, CommandSwitch, Power
from harness.model.boot import UbootBoot
from harness.target.holding.guard import Guard, guarded
from harness.target.holding.held import HeldBoard
off = ("sh", "-c", f"echo off > {sys.argv[1]}")
switch = CommandSwitch(on=("true",), off=off)
access = Access(power=Power(switch=switch))
board = HeldBoard(spec=BoardSpec(name="b", boot=UbootBoot(tftp_root="/t")), access=access)
if sys.argv[2] == "for others":
    with guarded(board) as theirs:
        assert theirs.is_guarded
        print(0, flush=True)
        input()
    sys.exit()
guard = Guard(board)
print(guard._process.pid, flush=True)
if sys.argv[2] == "release":
    guard.release()
input()
"""


Start = Callable[[str], tuple[subprocess.Popen[str], int, Path]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a harness with a guard, in a process of its own: the process, the guard's id, the file that says off."""
    started: list[subprocess.Popen[str]] = []

    def run(how: str) -> tuple[subprocess.Popen[str], int, Path]:
        off = tmp_path / "off"
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, off, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        return process, int(process.stdout.readline()), off

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _wait_gone(pid: int) -> None:
    """Wait for the end of a process that is not our child, or is a zombie of one that ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], 30.0)[0], f"the guard {pid} did not end"
    finally:
        os.close(handle)


@fault(
    "SIGKILL of a harness that has a board",
    where="killed",
    blame=Blame.NOBODY,
    survives="the board, switched off by its guard",
)
def test_a_harness_that_is_killed_leaves_the_board_off(start: Start) -> None:
    process, guard, off = start("hold")
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_gone(guard)
    assert Path(off).read_text() == "off\n"


def test_a_guard_that_is_released_switches_nothing(start: Start) -> None:
    process, guard, off = start("release")
    _wait_gone(guard)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not off.exists()


def test_a_guard_is_no_part_of_the_jenkins_job_that_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_ID", "17")
    monkeypatch.setenv("JENKINS_NODE_COOKIE", "cookie")
    _, guard, _ = start("hold")
    deadline = time.monotonic() + 30
    while not (environment := Path(f"/proc/{guard}/environ").read_text().split("\0"))[1:]:
        assert time.monotonic() < deadline  # the kernel fills it in the middle of execve
    assert {"BUILD_ID=dontKillMe", "JENKINS_NODE_COOKIE=dontKillMe"} < set(environment)


def test_a_board_that_others_boot_is_switched_off_when_we_are_killed_and_only_then(start: Start) -> None:
    process, _, off = start("for others")
    assert process.communicate("\n", timeout=30)
    assert process.returncode == 0
    assert not off.exists()
    process, _, off = start("for others")
    [guard] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    _wait_gone(int(guard))
    assert off.read_text() == "off\n"
