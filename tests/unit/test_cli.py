"""The command line: exit codes, one clear line for wrong input, help with an example on every verb."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click.testing
import pytest

from harness import __version__
from harness.cli import cli

VERBS = sorted(cli.commands)


def harness(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_version(tmp_path):
    assert harness("--version", cwd=tmp_path).stdout.strip().endswith(__version__)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    told = click.testing.CliRunner().invoke(cli, [verb, "--help"])
    assert told.exit_code == 0
    assert re.search(rf"Examples?:.*harness {verb}", told.output, re.DOTALL)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["boot", "--board", "none", "--", "true"], "--board: expected one of qemu-virt, "),
        (["build", "--kernel", "{tmp}/nowhere"], "nowhere"),
        (["build", "--patches", "{tmp}/nowhere.patch"], "nowhere.patch"),
        (["build", "--kconfig", "{tmp}/nowhere.config"], "nowhere.config"),
        (["run", "--suite", "no/such"], "--suite: expected one of"),
        (["run", "--build", "{tmp}"], "expected a finished build"),
        (["boot"], "a console needs a terminal"),
        (["run", "--build", "{tmp}", "--patches", "{tmp}/x.patch"], "can't change it"),
        (["boards", "--boards", "{tmp}/date.yaml"], "expected a YAML document"),
        (["build", "--boards", "{tmp}/typo.yaml", "--board", "b"], "boards.yaml: b.kconfigs: expected a file"),
        (["mutants", "--only", "no-such-bug"], "--only: expected one of exception-boundary-reliable, "),
        (["mutants", "--build", "{tmp}"], "a mutant has to be built"),
        (["report", "{tmp}/nowhere"], "expected the directory of a run"),
        (["boards", "--boards", "{tmp}/nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_input_is_exit_2_and_one_clear_line(arguments, told, tmp_path):
    (tmp_path / "date.yaml").write_text("boards: 2020-13-45")
    (tmp_path / "typo.yaml").write_text("boards: {b: {boot: {method: qemu}, kconfigs: [typo.config]}}")
    done = harness(*(word.format(tmp=tmp_path) for word in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_boards_come_from_the_file_named_in_the_environment(tmp_path):
    (tmp_path / "b.yaml").write_text("boards: {mine: {boot: {method: qemu, cpus: 3}}}")
    done = harness("boards", cwd=tmp_path, HARNESS_BOARDS=str(tmp_path / "b.yaml"))
    assert done.returncode == 0
    assert re.match(r"mine\s+qemu virt, tcg|kvm, 3 CPUs, 1024 MiB", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code(shell, tmp_path):
    done = harness("completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "_HARNESS_COMPLETE" in done.stdout


def test_boards_are_completed(tmp_path):
    words = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": "harness boot --board q", "COMP_CWORD": "3"}
    program = "import sys; sys.argv = ['harness']; from harness.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **words},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "qemu-virt" in done.stdout


def test_a_mistake_of_ours_is_one_line_and_a_file_to_report(tmp_path):
    program = (
        "import sys, harness.cli as c; sys.argv = ['harness', 'boards'];c.boards_in = lambda *a, **k: 1 / 0; c.main()"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in next(tmp_path.rglob("internal-error-*.log")).read_text()
