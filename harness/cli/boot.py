"""`harness boot`."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from harness.boards.inventory import read_inventory
from harness.boards.lease import acquire, ensure_reachable
from harness.campaign.request import BuildOptions
from harness.cli.options import Waiting, board_options, build_options, selftests_option, wait_option
from harness.cli.output import pass_on
from harness.errors import UserError
from harness.target.methods.table import boot_method


@click.command(
    cls=Waiting,
    context_settings={"ignore_unknown_options": True},
    epilog="Examples: harness boot   ·   harness boot -- uname -a   ·   Ctrl-] leaves the console",
)
@build_options
@selftests_option
@board_options
@wait_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def boot(board_name: str, boards_file: Path | None, wait: float | None, command: tuple[str, ...], **given: Any) -> int:
    """Boot the kernel and open its console, or run COMMAND on it and exit with its exit code."""
    options = BuildOptions(**given).checked()
    board = read_inventory(boards_file).board(board_name)
    ensure_reachable(board, wait=wait)
    if not command and not sys.stdin.isatty():
        raise UserError(
            "boot: expected a terminal on standard input for the console, found none; give a command: "
            "harness boot -- COMMAND"
        )
    from harness.campaign.kernel import build_for
    from harness.campaign.machine import booter
    from harness.display import Display
    from harness.run.directory import new_directory
    from harness.run.watched import run_watched
    from harness.target.shells.interactive import interact

    with contextlib.ExitStack() as until_closed:
        with Display() as display:
            made = build_for(options, board, display)
            held = until_closed.enter_context(acquire(board, wait=wait, say=display.say))
            logs = new_directory(None, "boot-")
            display.say(f"{board.name}: {boot_method(board).announce(board)}")
            start = booter(held, made, logs, display, verify=options.verify)  # keeps in the cache what it boots
            target, seconds = start()
            display.say(
                f"{board.name}: kernel {made.release} answers after {seconds:.1f} s; its log: {logs / 'console.log'}"
            )
        if command:
            # a single word may be a whole command line; several words are a command and its arguments
            line = command[0] if len(command) == 1 else shlex.join(command)
            return run_watched(target, line, limits=board.limits, on_line=pass_on)
        try:
            interact(target)
        finally:
            target.close()
    return 0
