"""What the commands print: the one place, with `harness/display.py`, from which text gets to a terminal.

Much of it was written by others: a kernel's release (EXTRAVERSION), the names in a series, what a target, a lab or a
client of our servers said. An escape sequence in it could change what the terminal shows, so none gets there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import click

from harness import shortage
from harness.errors import UserError
from harness.report.text import clean

READER_GONE = 141  # the exit code of a command whose output nobody reads any more, as a shell gives it (SIGPIPE)


def tell(text: object, *, err: bool = False) -> None:
    """Print `text`, with only printable characters, tabs and line ends. If its reader is gone (`harness run | head`),
    what was begun goes on unseen, to its own exit code."""
    try:
        click.echo(clean(str(text)), err=err)
    except BrokenPipeError:
        _abandon(sys.stderr if err else sys.stdout)


def _abandon(stream: TextIO) -> None:
    """Let what is still written to a stream go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def abandon_unwritable() -> None:
    """Let output that can't be written go: Python would try again at its end, and replace the exit code by 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _abandon(stream)


def write(path: Path, text: str) -> None:
    """Write `text` and a line end to a file that the user named, instead of printing it."""
    try:
        path.write_text(f"{clean(text)}\n", encoding="utf-8")
    except OSError as error:
        told = UserError(f"--out: expected a file to write to, found {path}: {error.strerror}")
        raise shortage.of(error, where=path) or told from error


def pass_on(line: str) -> None:
    """Print a line of a target's output: to a terminal like `tell`, to a file or a pipe as it came. The command ends if
    its reader is gone: it may have found what it waited for."""
    if sys.stdout.isatty():
        tell(line)
        return
    try:
        click.echo(line, color=True)  # without it, click takes some escape sequences out
    except BrokenPipeError:
        _abandon(sys.stdout)
        raise click.exceptions.Exit(READER_GONE) from None
