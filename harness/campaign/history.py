"""The history of runs: taking run directories in, and finding the two sides of a comparison."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.build.finished import load_record
from harness.campaign.naming import LAST_GOOD, LATEST, resolve
from harness.errors import HarnessError, UserError
from harness.model.board import BoardSpec
from harness.model.comparison import Tally
from harness.model.history import StoredRun
from harness.model.kernel import Build
from harness.model.record import BoardRecord, RunRecord
from harness.model.result import Result, RunResults
from harness.report.compare import Side, by_test, passes_and_failures
from harness.run.documents import read_results
from harness.store import queries
from harness.store.database import Connection, history_file, opened
from harness.store.ingest import add_run, cell_of, kernel_of
from harness.target.methods.table import boot_method

_NIGHTS = 60  # earlier runs that count as evidence

__all__ = ["LAST_GOOD", "LATEST", "add", "earlier", "remember", "resolve", "sides", "sides_of", "sides_with_results"]


class NoResultsError(UserError):
    """A run that can't be compared with any other, because it has no results."""


def add(history: Path, directories: Sequence[Path]) -> int:
    """Take in runs; return how many of them were new or said more than before. Each is kept as soon as it is in.

    What is no directory of a run does not keep the others out: UserError names it when all of them are in."""
    added, problems = 0, []
    for directory in directories:
        try:
            results = read_results(directory)
        except UserError as error:
            problems.append(error.message)
            continue
        except OSError as error:
            problems.append(f"{directory}: expected the directory of a run, can't read it: {error.strerror}")
            continue
        with opened(history, writable=True) as connection:
            added += add_run(connection, results, directory=directory.resolve())
    if len(problems) == 1 == len(directories):
        raise UserError(problems[0])
    if problems:
        others = f"{added} runs were added, {len(directories) - len(problems) - added} were there"
        raise UserError(f"{len(problems)} of {len(directories)} are no runs; {others}", details=problems)
    return added


def remember(results: RunResults, run_dir: Path, *, history: Path | None = None) -> str:
    """Take in a run that has just ended; return what to say. What goes wrong here is no fault of the run."""
    path = history_file(history)
    try:
        with opened(path, writable=True) as connection:
            add_run(connection, results, directory=run_dir.resolve())
    except HarnessError as error:
        return f"not in the history: {error.message}; later, `harness history add {run_dir}` takes it in"
    return f"in the history as {results.record.id}"


def earlier(made: Build, board: BoardSpec, *, history: Path | None = None) -> Callable[[Result], Tally]:
    """Return what counts the passes and failures of a test in the runs of earlier kernels in the same cell, as far as
    the history knows them: without patches, or with the same ones. The history is read when the first test asks."""

    @functools.cache
    def side() -> Side | None:
        try:
            return _earlier_side(made, board, history)
        except HarnessError:
            return None

    def counted(failure: Result) -> Tally:
        known = side()
        return passes_and_failures(known, failure) if known else Tally()

    return counted


def _earlier_side(made: Build, board: BoardSpec, history: Path | None) -> Side | None:
    record = RunRecord(
        kernel=load_record(made.directory).kernel,
        board=BoardRecord(name=board.name, details=boot_method(board).properties(board)),
    )
    kernel = kernel_of(record)
    with opened(history_file(history)) as connection:
        runs = queries.latest_runs(connection, cell=cell_of(record), limit=_NIGHTS)
        runs = tuple(run for run in runs if run.kernel != kernel and run.kernel.patches in ((), kernel.patches))
        return _side(connection, runs[0], list(runs)) if runs else None


def sides(connection: Connection, older: str, newer: str, *, repository: Path | None = None) -> tuple[Side, Side]:
    """Find the two runs (naming.resolve), and all others that say something about their kernels.

    The older side has the runs of the same cell that follow the same line of kernels, up to that run. The newer side
    has all runs with that very kernel."""
    new = resolve(connection, newer, repository=repository)
    old = resolve(connection, older, than=new, repository=repository)
    if old.id == new.id:
        raise UserError(f"expected two runs, found that {older} and {newer} are the same one, {new.id}")
    return sides_with_results(connection, old, new)


def sides_with_results(connection: Connection, old: StoredRun, new: StoredRun) -> tuple[Side, Side]:
    """Return what `sides_of` does. Raises NoResultsError if one of the two runs has no results."""
    found = sides_of(connection, old, new)
    for side in found:
        if not side.outcomes:
            end = side.run.end or "killed"
            raise NoResultsError(
                f"{side.run.id}: expected a run with results, it has none ({end}); compare another one"
            )
    return found


def sides_of(connection: Connection, old: StoredRun, new: StoredRun) -> tuple[Side, Side]:
    """Find all runs that say something about the kernels of two."""
    before = [
        run
        for run in queries.latest_runs(
            connection, cell=old.cell, line=old.kernel.line, until=old.started, limit=_NIGHTS
        )
        if run.id != new.id and (run.kernel != new.kernel or old.kernel == new.kernel)
    ]
    since = [
        run
        for run in queries.latest_runs(connection, cell=new.cell, kernel=new.kernel, limit=_NIGHTS)
        if run.id != old.id and (old.kernel != new.kernel or run.started > old.started)
    ]
    return _side(connection, old, before), _side(connection, new, since)


def _side(connection: Connection, run: StoredRun, runs: list[StoredRun]) -> Side:
    chosen = {each.id: each for each in (*runs, run)}
    ordered = sorted(chosen.values(), key=lambda each: (each.started, each.id))
    outcomes = queries.outcomes_in(connection, [each.id for each in ordered])
    return Side(run=run, runs=[(each, by_test(outcomes[each.id])) for each in ordered])
