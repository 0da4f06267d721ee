"""`harness history`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from harness.cli.options import seconds_of
from harness.cli.output import tell

_FILE = click.option("--history", "file", type=click.Path(path_type=Path, dir_okay=False), help="The history's file.")


@click.group(invoke_without_command=True, epilog="Examples: harness history   ·   harness history add out/run-*")
@_FILE
@click.pass_context
def history(context: click.Context, file: Path | None) -> None:
    """Show the latest runs of the history, which takes in every run as it ends."""
    context.obj = file
    if context.invoked_subcommand is None:
        _show(file)


def _show(file: Path | None) -> None:
    from harness.report.text import moment, one_line
    from harness.store.database import history_file, opened
    from harness.store.queries import latest_runs

    with opened(history_file(file)) as connection:
        runs = latest_runs(connection)
    for run in runs:
        words = (run.id, f"{moment(run.started)} UTC", run.kernel.name, run.cell.board, run.end or "killed")
        tell("  ".join(map(one_line, words)))


@history.command("add", epilog="Example: harness history add /lab/runs/*")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@_FILE
@click.pass_obj
def add(given: Path | None, directories: tuple[Path, ...], file: Path | None) -> None:
    """Take in run directories, of whatever machine; what is there already changes nothing."""
    from harness.campaign.history import add as taken_in
    from harness.store.database import history_file

    path = history_file(file or given)
    added = taken_in(path, directories)
    tell(f"{path}: {added} of {len(directories)} runs added")


@history.command("prune", epilog="Example: harness history prune --older-than 400d --keep-failures")
@click.option("--older-than", "age", required=True, metavar="AGE", help="Days or weeks, as 400d or 60w.")
@click.option("--keep-failures", is_flag=True, help="Keep runs with an unexpected failure, be it of a test or to boot.")
@_FILE
@click.pass_obj
def prune(given: Path | None, age: str, keep_failures: bool, file: Path | None) -> None:
    """Remove old runs from the history, and make its file smaller. The directories of the runs are not touched: a run
    whose directory is added again is in it again."""
    from harness.store.database import history_file
    from harness.store.prune import prune as removed

    path = history_file(file or given)
    done = removed(path, before=time.time() - seconds_of(age), keep_failures=keep_failures)
    kept = f", {done.kept} older ones kept because of their failures" if keep_failures else ""
    sizes = f"{done.size_before / 1e6:.1f} MB before, {done.size / 1e6:.1f} MB now"
    tell(f"{path}: {done.runs} runs removed with {done.results} results{kept}; {sizes}")
