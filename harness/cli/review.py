"""`harness review`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.boards.inventory import read_inventory
from harness.boards.lease import ensure_reachable
from harness.campaign.gitconfig import git_user
from harness.campaign.request import BuildOptions, ReviewRequest
from harness.cli.options import board_options, making_options, number, workers
from harness.cli.output import tell
from harness.model.kernel import DEFAULT_SOURCE

_MAKING = ("kconfigs", "toolchain", "allow_plain_ftrace", "no_era_fixes", "verify", "jobs", "no_sandbox")


@click.command(epilog="Example: harness review thread.mbox --against v5 --suite testcases -k 'not hammer'")
@click.argument("series")
@click.option(
    "--version", metavar="vN", default="", help="Of several versions in a thread this one; default: the newest."
)
@click.option(
    "--against",
    metavar="OLDER",
    default="",
    help="Compare with an older version: given as SERIES is, or as v5 of the same thread.",
)
@click.option(
    "--base",
    metavar="SPEC",
    default="",
    help="What the series applies to, as for --kernel; default: what the series says (base-commit), else "
    f"{DEFAULT_SOURCE}.",
)
@click.option(
    "--git",
    "repository",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="The git repository that has the base-commit, or the range of commits; default: the current directory.",
)
@making_options
@board_options
@click.option("--suite", "suites", multiple=True, help="Tests for the whole series, as for `harness run`. Repeatable.")
@click.option("-k", "keyword", default="", metavar="EXPR", help="Of these only the tests whose names match.")
@click.option(
    "--per-patch-suite",
    "patch_suites",
    multiple=True,
    help="Tests for each patch; default: those that matter for the files that it changes. Repeatable.",
)
@click.option(
    "--per-patch-keyword",
    "patch_keyword",
    default="",
    metavar="EXPR",
    help="Of these only the tests whose names match; without suites, of all.",
)
@click.option(
    "--rounds",
    default=2,
    show_default=True,
    type=click.IntRange(0, 50),
    help="How often a test that differs is run again on each kernel, in turns.",
)
@click.option(
    "--workers",
    default="1",
    show_default=True,
    metavar="N|auto",
    type=workers,
    help="Number of machines in parallel for each run: QEMU machines, or boards of one pool.",
)
@click.option("--timeout-factor", default=1.0, metavar="X", type=number(0.01), help="Multiply every test's time limit.")
@click.option(
    "--tester",
    default="",
    metavar="'NAME <ADDRESS>'",
    help="Who would sign a Tested-by line; default: git's user.",
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path),
    default="out/review",
    show_default=True,
    metavar="DIR",
    help="Directory for all files; what is finished in it is not done again.",
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The history that takes in the runs; default: $HARNESS_HISTORY, else one for this user.",
)
@click.option("--no-history", is_flag=True, help="Leave the runs out of the history.")
def review(**given: Any) -> int:
    """Review a patch series: each patch by itself, the whole series, and what differs from an older version of it.

    SERIES is a mailbox, a maildir, a directory of patches, a quilt series, a mail, or a range of commits (FIRST..LAST,
    git:PATH#FIRST..LAST). Prints a mail of at most 60 lines. Exits with 1 if the series has a fault, with 2 if it does
    not apply."""
    kernel = BuildOptions(build_dir=None, kernel=DEFAULT_SOURCE, patches=(), **_taken(_MAKING, given))
    request = ReviewRequest(kernel=kernel, **given | {"tester": given["tester"] or git_user()})
    board = read_inventory(request.boards_file).board(request.board_name)
    ensure_reachable(board, wait=float("inf"))
    from harness.campaign.review.reviewing import review_here
    from harness.display import Display
    from harness.report.review_mail import review_mail
    from harness.run.side_run import SideRuns

    with Display() as display, SideRuns(_shared(request)) as side_runs:
        made = review_here(request, board, side_runs, display)
    tell(review_mail(made, tester=request.tester).rstrip("\n"))
    return made.exit_code


def _taken(names: tuple[str, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Return some of the options, and remove them from `given`."""
    return {name: given.pop(name) for name in names}


def _shared(request: ReviewRequest) -> list[object]:
    """The options that all runs share."""
    words: list[object] = ["--wait=inf", "--timeout-factor", request.timeout_factor, "-j", request.workers or "auto"]
    words += ["--boards", request.boards_file] if request.boards_file else []
    words += ["--history", request.history] if request.history else []
    return [*words, *(["--no-history"] if request.no_history else [])]
