"""Which run a name on the command line means."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from harness import shortage
from harness.errors import UserError
from harness.model.event import RunBegun
from harness.model.history import StoredRun
from harness.parse.events import parse_events
from harness.run.documents import read_results
from harness.run.eventlog import EVENTS, event_lines
from harness.store import queries
from harness.store.database import Connection, history_file, opened
from harness.store.ingest import run_name, storable

LATEST = "latest"
LAST_GOOD = "last-good"
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_CLOCKS_DIFFER_S = 86400.0  # between machines that work; a run from later than that has no right to be the latest
_CANDIDATES = 200
_GIT_LIMIT_S = 10.0


def resolve(
    connection: Connection, name: str, *, than: StoredRun | None = None, repository: Path | None = None
) -> StoredRun:
    """Find a run by its id, the beginning of one, its directory, `latest`, `last-good`, or what its kernel was built
    from: a git commit (or the first digits of one), a tag or version, or a name that git knows in `repository`.

    `latest` and kernels mean the latest run before `than` of its cell (without `than`: of any), `last-good` the latest
    one in which tests passed and none failed, of those with the same request if there are any. Raises UserError if
    there is no such run, or more than one id begins like that."""
    if name in (LATEST, LAST_GOOD):
        return _newest(connection, name, than=than)
    path = Path(name)
    if name and _is_directory(path) and not queries.run_named(connection, storable(name)):
        return _in_directory(connection, path)
    name = storable(name)
    runs = queries.runs_like(connection, name)
    if len(runs) == 1:
        return runs[0]
    if runs:
        raise UserError(
            f"{name}: expected the beginning of one run's id, several begin like that: {runs[0].id}, {runs[1].id}"
        )
    found = queries.run_in(connection, path.absolute()) if os.sep in name else ""  # its files are gone
    run = queries.run_named(connection, found) or _of_kernel(connection, name, than=than, repository=repository)
    if run:
        return run
    wanted = f"its id or directory, {LATEST}, {LAST_GOOD}, or the commit, tag or version of its kernel"
    raise UserError(f"{name}: expected a run in the history ({wanted}), found none; see `harness history`")


def directory_of(name: Path, *, history: Path | None = None) -> Path:
    """Return the directory of a run, given that or another name of the run (see `resolve`). UserError if the history
    has no such run, or its files are not here."""
    file = history_file(history)
    if _is_directory(name) or not file.exists():
        return name
    with opened(file) as connection:
        run = resolve(connection, str(name))
    directory = Path(run.directory)
    if not _is_directory(directory):
        raise UserError(f"{name}: expected the files of the run {run.id} in {directory} (of {run.host}), found none")
    return directory


def split_range(text: str) -> tuple[str, str]:
    """Split ``A..B``. UserError for anything else."""
    older, dots, newer = text.partition("..")
    if not dots or not older or not newer or newer.startswith("."):
        raise UserError(f"{text}: expected two runs, or a range of kernels as v7.2..v7.3")
    return older, newer


def _newest(connection: Connection, name: str, *, than: StoredRun | None) -> StoredRun:
    cell, until = (than.cell, than.started) if than else (None, time.time() + _CLOCKS_DIFFER_S)
    runs = queries.latest_runs(
        connection, cell=cell, until=until, good=name == LAST_GOOD, limit=1 if than is None else _CANDIDATES
    )
    runs = tuple(run for run in runs if than is None or run.id != than.id)
    alike = [run for run in runs if than and run.requested == than.requested]
    found = next(iter((*alike, *runs) if name == LAST_GOOD else runs), None)
    if found is None:
        where = f" of the cell {than.cell} before {than.id}" if than else ""
        raise UserError(f"{name}: expected such a run{where}, the history has none; see `harness history`")
    return found


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _in_directory(connection: Connection, directory: Path) -> StoredRun:
    try:
        name = _name_in(connection, directory)
    except OSError as error:
        raise shortage.of(error, where=directory) or UserError(
            f"{directory}: expected the directory of a run, can't read it: {error.strerror}"
        ) from error
    found = queries.run_named(connection, name)
    if found is None:
        raise UserError(
            f"{directory}: expected a run in the history, found none; `harness history add {directory}` takes it in"
        )
    return found


def _name_in(connection: Connection, directory: Path) -> str:
    """Return the name that the history has for the run whose files are in `directory`, whichever copy it took in."""
    path = directory / EVENTS
    first = next(parse_events(event_lines(path)), None) if path.is_file() else None
    if isinstance(first, RunBegun) and first.record.id:
        return run_name(connection, first.record, started=first.time)
    results = read_results(directory)
    return run_name(connection, results.record, started=results.started)


def _of_kernel(
    connection: Connection, name: str, *, than: StoredRun | None, repository: Path | None
) -> StoredRun | None:
    """The latest run of a kernel that was built from the commit or version `name`; UserError if all of its runs are of
    other cells than `than`."""

    def runs_of(**wanted: str) -> tuple[StoredRun, ...]:
        return queries.latest_runs(connection, limit=_CANDIDATES, **wanted)  # type: ignore[arg-type]

    runs = _runs_of(name, runs_of, repository)
    here = [run for run in runs if than is None or (run.cell == than.cell and run.id != than.id)]
    if runs and not here and than:
        others = ", ".join(dict.fromkeys(str(run.cell) for run in runs))
        raise UserError(f"{name}: expected a run of that kernel of the cell {than.cell}, found runs of {others}")
    series = than.kernel.patches if than else ()
    return next(iter(sorted(here, key=lambda run: (run.kernel.patches != series, bool(run.kernel.patches)))), None)


def _runs_of(
    name: str, runs_of: Callable[..., tuple[StoredRun, ...]], repository: Path | None
) -> tuple[StoredRun, ...]:
    if _COMMIT.fullmatch(name) and (runs := runs_of(commit=name)):
        commits = sorted({run.kernel.commit for run in runs})
        if len(commits) > 1:
            raise UserError(f"{name}: expected the first digits of one commit, found {commits[0]} and {commits[1]}")
        return runs
    commit = _git_commit(name, repository) if repository else ""
    runs = runs_of(commit=commit) if commit else ()
    if not runs and name:
        runs = runs_of(version=name)
    if commit and not runs:
        raise UserError(
            f"{name}: expected a run in the history whose kernel was built from the commit {commit[:12]} of "
            f"{repository}, found none; `harness run --kernel git:{repository}#{name}` makes one"
        )
    return runs


def _git_commit(name: str, repository: Path) -> str:
    """Return the commit that git calls `name` in `repository`; empty if it knows none."""
    if not name or name.startswith("-"):
        return ""
    words = ["git", "-C", str(repository), "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_GIT_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
