"""What commands print: no control characters on a terminal, whatever was written by others."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main as command
from harness.cli import output
from harness.errors import UserError
from tests.faults.catalogue import Blame, fault

ODD = "x\x1b[2J\x1b]0;title\x07\x9b31m\u202ey\ud800"


@pytest.mark.parametrize("err", [False, True])
def test_what_is_told_is_printable(err: bool, capsys: pytest.CaptureFixture[str]) -> None:
    output.tell(f"{ODD}\tand\nmore", err=err)
    told = capsys.readouterr()
    assert (told.err if err else told.out) == "x31my\tand\nmore\n"


@fault(
    "an error quotes a target's escape sequences, and a line that looks like another message",
    where="hostile target",
    blame=Blame.USER,
    survives="the message; its lines are told from other messages",
)
def test_an_error_is_printable_and_no_line_of_it_looks_like_another(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError(f"b: found {ODD}\r\nharness: all is well", details=[f"{ODD}\nharness: all is well"])
    assert command._complain(error) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "harness: b: found x31my"
    assert all(line.startswith("  ") for line in lines[1:])


@fault(
    "a command on the target prints escape sequences",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="its words on a terminal; every character in a file",
)
def test_a_targets_output_is_cleaned_for_a_terminal_and_whole_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = ODD.removesuffix("\ud800")
    output.pass_on(line)
    assert capsys.readouterr().out == f"{line}\n"
    near, far = pty.openpty()
    with open(far, "w") as terminal:  # noqa: PTH123  # a descriptor
        monkeypatch.setattr("sys.stdout", terminal)
        output.pass_on(line)
        terminal.flush()
        assert os.read(near, 1000) == b"x31my\r\n"
    os.close(near)


def _unread(program: str) -> int:
    """The exit code of a Python program whose standard output and error nobody reads."""
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run([sys.executable, "-c", program], stdout=write, stderr=write, check=False).returncode
    finally:
        os.close(write)


@pytest.mark.parametrize(
    "begun",
    [
        "from harness.cli.output import tell; say = tell",
        "from harness.cli.output import tell; say = lambda text: tell(text, err=True)",
        "from harness.display import Display; say = Display().say",
    ],
    ids=["output", "error", "progress"],
)
def test_what_is_begun_goes_on_when_nobody_reads_any_more(begun: str) -> None:
    """Here: to an exit code of its own. Nobody's pipe is a fault of the kernel's, exit code 1."""
    assert _unread(f"{begun}; say('one'); say('two'); import sys; sys.exit(7)") == 7


def test_a_targets_output_that_nobody_reads_ends_the_command() -> None:
    program = """
import click, sys
import harness.cli.main as main
from harness.cli.output import READER_GONE, pass_on

@click.command()
def on_and_on():
    while True:
        pass_on("line")

main.cli = on_and_on
main.main()
"""
    assert _unread(program) == output.READER_GONE
