"""Programs that end with whoever started them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.tied import run_tied, tied
from tests.faults.catalogue import Blame, fault


def test_it_is_the_program_with_its_words_and_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        tied(["sh", "-c", 'pwd; echo "$0 $1"; exit 7', "a b", "$HOME"]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.stdout == f"{tmp_path}\na b $HOME\n"
    assert done.returncode == 7


def test_it_does_not_start_where_whoever_started_it_has_died_meanwhile(tmp_path: Path) -> None:
    """The kernel tells a child of its parent's death only if that came after the child had asked for it."""
    words = tied(["touch", "started"])
    subprocess.run(["sh", "-c", '"$@"; true', "sh", *words], cwd=tmp_path, timeout=10, check=False)  # somebody else's
    assert not (tmp_path / "started").exists()
    subprocess.run(words, cwd=tmp_path, timeout=10, check=True)
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize(("signal", "told"), [("KILL", ""), ("TERM", "was asked to end\n")])
def test_it_gets_the_signal_when_its_parent_is_killed(tmp_path: Path, signal: str, told: str) -> None:
    program = "trap 'echo was asked to end; exit' TERM; echo up; while :; do sleep 0.05; done"
    script = (
        "import subprocess, sys, time\nfrom harness.tied import tied\n"
        f"subprocess.Popen(tied(['sh', '-c', {program!r}], signal={signal!r}))\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "up\n"
        os.kill(parent.pid, 9)
        assert parent.stdout.read() == told  # and ends, because nobody has it open any more


@fault(
    "SIGKILL while a program that started others runs",
    where="killed",
    blame=Blame.NOBODY,
    survives="nothing: all of them end",
)
def test_all_that_it_starts_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "told")
    program = f"exec > {tmp_path / 'told'}; sleep 600 & echo up; sleep 600; true"
    script = f"from harness.tied import run_tied\nrun_tied(['sh', '-c', {program!r}], limit=600)\n"
    with subprocess.Popen([sys.executable, "-c", script]) as parent, (tmp_path / "told").open() as lines:
        assert lines.readline() == "up\n"
        parent.kill()
        assert lines.read() == ""  # and ends, because nobody has it open any more


def test_a_program_is_run_to_its_end() -> None:
    assert run_tied(["sh", "-c", "cat; echo out; echo err >&2; exit 7"], limit=60) == (7, "out\nerr\n")
