"""`harness mutants`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.boards.inventory import read_inventory
from harness.campaign.request import BuildOptions
from harness.cli.options import board_options, build_options, number, request_from
from harness.cli.output import tell
from harness.errors import UserError


@click.command(epilog="Example: harness mutants --only x8-not-restored --named")
@build_options
@board_options
@click.option("--only", multiple=True, metavar="NAME", help="Only this mutant of tests/mutants/. Repeatable.")
@click.option("--list", "list_only", is_flag=True, help="List the mutants and build nothing.")
@click.option("--named", is_flag=True, help="Run only those of our tests that must catch the mutant.")
@click.option(
    "--selftests", is_flag=True, help="Also run the in-tree selftests, up to the first one that catches the mutant."
)
@click.option("-k", "keyword", default="", metavar="EXPR", help="With --selftests: only tests whose names match.")
@click.option(
    "--baselines", default=1, type=click.IntRange(1), help="Runs on the unpatched kernel, to rule out chance."
)
@click.option("--parallel", default=1, type=click.IntRange(1, 8), metavar="N", help="Number of guests in parallel.")
@click.option("--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiply every test's time limit.")
@click.option("--out", type=click.Path(path_type=Path), default="out/mutants", show_default=True, metavar="DIR",
              help="Directory for the files of all runs; finished runs in it are not repeated.")  # fmt: skip
def mutants(
    board_name: str,
    boards_file: Path | None,
    only: tuple[str, ...],
    list_only: bool,
    timeout_factor: float,
    **given: Any,
) -> int:
    """Test kernels that contain a deliberate bug; print which tests caught it."""
    from harness.campaign.mutants import Hunt, Hunter, all_mutants, choose
    from harness.display import Display
    from harness.report import kill_table
    from harness.run.side_run import SideRuns

    board = read_inventory(boards_file).board(board_name)
    chosen = choose(only, all_mutants())
    if list_only:
        tell("\n".join(f"{mutant.name}: {mutant.title}" for mutant in chosen))
        return 0
    options, hunt = request_from(BuildOptions, given), request_from(Hunt, given)
    if options.build_dir:
        raise UserError(
            "--build: a mutant has to be built, a finished build can't be used; name its kernel source with --kernel"
        )
    shared = ["--wait=inf", "--timeout-factor", timeout_factor, *(["--boards", boards_file] if boards_file else [])]
    with Display() as display, SideRuns(shared) as side_runs:
        table = Hunter(hunt, options, board=board, side_runs=side_runs, display=display).table(chosen)
    tell("\n".join(kill_table.text(table)))
    return table.exit_code
