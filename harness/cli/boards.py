"""`harness boards` and `harness boards check`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.boards.inspection import inspect
from harness.boards.inventory import boards_schema, read_inventory
from harness.boards.lease import user_of
from harness.cli.options import board_names, boards_file_option
from harness.cli.output import tell
from harness.errors import InfraError
from harness.target.methods.checks import Outcome
from harness.target.methods.table import boot_method


@click.group(invoke_without_command=True, epilog="Examples: harness boards   ·   harness boards check rpi4")
@boards_file_option
@click.option(
    "--schema", "print_schema", is_flag=True, help="Print the JSON schema of boards.yaml for editors, and exit."
)
@click.pass_context
def boards(context: click.Context, boards_file: Path | None, print_schema: bool) -> None:
    """List the boards and who uses them, and check their descriptions."""
    context.obj = boards_file
    if context.invoked_subcommand:
        return
    if print_schema:
        tell(boards_schema())
        return
    for name, entry in read_inventory(boards_file).entries.items():
        board = entry.board
        tell(f"{name:<16} {boot_method(board).describe(board)}")
        if board.description:
            tell(f"{'':<16} {board.description}")
        if board.pool:
            tell(f"{'':<16} pool {board.pool}")
        if user := user_of(entry):
            tell(f"{'':<16} in use by {user}")


@boards.command(epilog="Example: harness boards check rpi4")
@boards_file_option
@click.argument("name", shell_complete=board_names)
@click.pass_obj
def check(upper_file: Path | None, boards_file: Path | None, name: str) -> None:
    """Check within seconds everything that board NAME needs, without booting it or switching its power."""
    failed = 0
    for finding in inspect(read_inventory(boards_file or upper_file).entry(name)):
        tell(f"{finding.outcome.value:<7} {finding.name:<11} {finding.text}")
        failed += finding.outcome is Outcome.FAILED
    if failed:
        raise InfraError(f"{name}: {failed} of these checks failed; nothing was booted")
