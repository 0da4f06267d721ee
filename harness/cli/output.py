"""What the commands print: the one place, with `harness/display.py`, from which text gets to a terminal.

Much of it was written by others: a kernel's release (EXTRAVERSION), the names in a series, what a target, a lab or a
client of our servers said. An escape sequence in it could change what the terminal shows, so none gets there."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness import shortage
from harness.errors import UserError
from harness.report.text import clean


def tell(text: object, *, err: bool = False) -> None:
    """Print `text`, with only printable characters, tabs and line ends."""
    click.echo(clean(str(text)), err=err)


def write(path: Path, text: str) -> None:
    """Write `text` and a line end to a file that the user named, instead of printing it."""
    try:
        path.write_text(f"{clean(text)}\n", encoding="utf-8")
    except OSError as error:
        told = UserError(f"--out: expected a file to write to, found {path}: {error.strerror}")
        raise shortage.of(error, where=path) or told from error


def pass_on(line: str) -> None:
    """Print a line of a target's output: to a terminal like `tell`, to a file or a pipe as it came."""
    if sys.stdout.isatty():
        tell(line)
    else:
        click.echo(line, color=True)  # without it, click takes some escape sequences out
