"""The history of runs: taking run directories in, and finding the two sides of a comparison."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.build.finished import load_record
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
LATEST = "latest"
LAST_GOOD = "last-good"


def add(history: Path, directories: Iterable[Path]) -> int:
    """Take in runs; return how many of them were new or said more than before. Each is kept as soon as it is in."""
    added = 0
    for directory in directories:
        results = read_results(directory)
        with opened(history, writable=True) as connection:
            added += add_run(connection, results, directory=directory.resolve())
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


def before(made: Build, board: BoardSpec, failure: Result, *, history: Path | None = None) -> Tally:
    """Count the passes and failures of a test in the runs of earlier kernels in the same cell, as far as the history
    knows them: without patches, or with the same ones."""
    record = RunRecord(
        kernel=load_record(made.directory).kernel,
        board=BoardRecord(name=board.name, details=boot_method(board).properties(board)),
    )
    kernel = kernel_of(record)
    try:
        with opened(history_file(history)) as connection:
            runs = queries.latest_runs(connection, cell=cell_of(record), limit=_NIGHTS)
            runs = tuple(run for run in runs if run.kernel != kernel and run.kernel.patches in ((), kernel.patches))
            return passes_and_failures(_side(connection, runs[0], list(runs)), failure) if runs else Tally()
    except HarnessError:
        return Tally()


def sides(connection: Connection, older: str, newer: str) -> tuple[Side, Side]:
    """Find the two runs, and all others that say something about their kernels.

    The older side has the runs of the same cell that follow the same line of kernels, up to that run. The newer side
    has all runs with that very kernel."""
    new = resolve(connection, newer)
    return sides_of(connection, resolve(connection, older, than=new), new)


def sides_of(connection: Connection, old: StoredRun, new: StoredRun) -> tuple[Side, Side]:
    """Find all runs that say something about the kernels of two."""
    before = [
        run
        for run in queries.latest_runs(connection, cell=old.cell, until=old.started, limit=_NIGHTS)
        if run.kernel.line == old.kernel.line
        and run.id != new.id
        and (run.kernel != new.kernel or old.kernel == new.kernel)
    ]
    since = [
        run
        for run in queries.latest_runs(connection, cell=new.cell, limit=_NIGHTS)
        if run.kernel == new.kernel and run.id != old.id and (old.kernel != new.kernel or run.started > old.started)
    ]
    return _side(connection, old, before), _side(connection, new, since)


def _side(connection: Connection, run: StoredRun, runs: list[StoredRun]) -> Side:
    chosen = {each.id: each for each in (*runs, run)}
    ordered = sorted(chosen.values(), key=lambda each: (each.started, each.id))
    return Side(run=run, runs=[(each, by_test(queries.outcomes_of(connection, each.id))) for each in ordered])


def resolve(connection: Connection, name: str, *, than: StoredRun | None = None) -> StoredRun:
    """Find a run by its id, the beginning of one, its directory, `latest`, or `last-good`: the latest one before `than`
    of the same cell in which no test failed. UserError if there is none, or more than one."""
    if name in (LATEST, LAST_GOOD):
        found = _newest(connection, than=than, is_good=name == LAST_GOOD)
        if not found:
            where = f" of the cell {than.cell} before {than.id}" if than else ""
            raise UserError(f"{name}: expected such a run{where}, the history has none; see `harness history`")
        return found
    if Path(name).is_dir():
        name = queries.run_in(connection, str(Path(name).resolve())) or name
    runs = queries.runs_like(connection, name)
    if len(runs) == 1:
        return runs[0]
    if runs:
        raise UserError(
            f"{name}: expected the beginning of one run's id, several begin like that: {runs[0].id}, {runs[1].id}"
        )
    hint = f"; `harness history add {name}` takes it in" if Path(name).is_dir() else "; see `harness history`"
    raise UserError(
        f"{name}: expected a run in the history (its id or directory, {LATEST}, {LAST_GOOD}), found none{hint}"
    )


def _newest(connection: Connection, *, than: StoredRun | None, is_good: bool) -> StoredRun | None:
    cell, until = (than.cell, than.started) if than else (None, None)
    for run in queries.latest_runs(connection, cell=cell, until=until, limit=1000):
        if (than is None or run.id != than.id) and (not is_good or queries.is_good(connection, run.id)):
            return run
    return None
