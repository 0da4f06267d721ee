"""`harness.build.command`: programs that fail, hang, have children, and outlive nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.build import command
from harness.build.command import run, started
from harness.errors import InfraError
from tests.faults.catalogue import Blame, fault
from tests.unit.toytree import write_script


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_a_failure_is_data() -> None:
    done = run(["sh", "-c", "echo out; echo 1 >&2; echo 2 >&2; exit 3"], timeout=10)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "1\n2\n")
    assert done.last_lines(1) == ("2",)
    assert run(["sh", "-c", "echo only"], timeout=10).last_lines() == ("only",)


def test_a_missing_program_is_an_infrastructure_error() -> None:
    with pytest.raises(InfraError, match=r"no-such-program: no such command on this host; `harness doctor`"):
        run(["no-such-program"], timeout=10)


def test_a_missing_directory_is_not_taken_for_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="gone: the directory vanished"):
        run(["true"], timeout=10, cwd=tmp_path / "gone")


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    script = write_script(tmp_path / "hangs", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(InfraError, match=r"hangs: did not end within 0 s and was stopped"):
        run([script], timeout=0.4)
    assert wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_program_that_ignores_the_request_is_made_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "GRACE_S", 0.2)
    script = write_script(tmp_path / "deaf", f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    with pytest.raises(InfraError):
        run([script], timeout=0.4)
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_meanwhile_the_caller_is_called() -> None:
    ticks: list[int] = []
    assert run(["sh", "-c", "sleep 0.6; echo done"], timeout=10, tick=lambda: ticks.append(1)).stdout == "done\n"
    assert ticks


def test_input_is_empty_unless_given(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("given")
    assert run(["cat"], timeout=10).stdout == ""
    with (tmp_path / "in").open("rb") as file:
        assert run(["cat"], timeout=10, stdin=file).stdout == "given"


def test_a_git_hooks_variables_do_not_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", 'echo "${GIT_DIR-unset} $LC_ALL $MORE"'], timeout=10, env={"MORE": "x"}).stdout == (
        "unset C x\n"
    )


@pytest.mark.parametrize("finishes", [False, True])
def test_what_an_interrupt_does(tmp_path: Path, finishes: bool) -> None:
    words = ["sh", "-c", f"sleep 0.5; echo done > {tmp_path}/done"]
    with pytest.raises(KeyboardInterrupt), started(words, finishes=finishes) as process:
        raise KeyboardInterrupt
    process.wait(timeout=10)
    assert (tmp_path / "done").exists() == finishes


@pytest.mark.parametrize(
    "finishes",
    [
        pytest.param(False, marks=fault("SIGKILL while a program of a build runs", where="killed", blame=Blame.NOBODY,
                                        survives="nothing: it ends too")),
        pytest.param(True, marks=fault("SIGKILL while dpkg installs", where="killed", blame=Blame.NOBODY,
                                       survives="dpkg, which ends its work")),
    ],
)  # fmt: skip
def test_what_the_death_of_the_harness_does(tmp_path: Path, finishes: bool) -> None:
    child = write_script(tmp_path / "child", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; "
                         f"sleep 1; echo done > {tmp_path}/done; exec sleep 0")  # fmt: skip
    code = f"from harness.build.command import run; run([{str(child)!r}], timeout=60, finishes={finishes})"
    harness = subprocess.Popen([sys.executable, "-c", code], cwd=Path(command.__file__).parents[2])
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait()
    assert wait_until_gone(int((tmp_path / "pid").read_text()))
    assert (tmp_path / "done").exists() == finishes
