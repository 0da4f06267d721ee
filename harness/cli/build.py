"""`harness build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.boards.inventory import read_inventory
from harness.campaign.request import BuildOptions
from harness.cli.options import board_options, build_options, selftests_option
from harness.cli.output import tell


@click.command(epilog="Example: harness build --kernel ~/linux --patches v6-0001-arm64-ftrace.patch")
@build_options
@selftests_option
@board_options
def build(board_name: str, boards_file: Path | None, **given: Any) -> None:
    """Build the kernel, its modules, the selftests and the test modules; print their directory."""
    board = read_inventory(boards_file).board(board_name)
    options = BuildOptions(**given).checked()
    from harness.campaign.kernel import build_for
    from harness.display import Display

    with Display() as display:
        made = build_for(options, board, display, is_booted=False)
    tell(str(made.directory))
