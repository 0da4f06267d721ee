"""What the history says about a run, for its documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.campaign.history import remember, sides_of
from harness.errors import HarnessError
from harness.model.history import StoredRun
from harness.model.past import Past
from harness.model.result import EndKind, RunResults
from harness.report.compare import by_test
from harness.report.past import LONGEST, Run, past_of
from harness.run.documents import Recall, write_documents
from harness.store import queries
from harness.store.database import Connection, history_file, opened
from harness.store.ingest import run_name

_NIGHTS = 60  # earlier runs among which one to compare with is looked for


def recalling(run_dir: Path, *, history: Path | None, say: Callable[[str], None]) -> Recall:
    """Return what takes a run that has just ended into the history, and asks that about it."""

    def recall(results: RunResults) -> Past | None:
        if not results.results:
            return None  # of an empty selection: nothing to remember
        say(remember(results, run_dir, history=history))
        return past(results, history=history, say=say)

    return recall


def report_again(run_dir: Path, *, history: Path | None, say: Callable[[str], None]) -> RunResults:
    """Write the documents of a run again, with what the history says now, if there is one that has the run."""
    return write_documents(run_dir, recall=lambda results: past(results, history=history, say=say))


def past(results: RunResults, *, history: Path | None, say: Callable[[str], None]) -> Past | None:
    """Return what the history says about a run; None if there is no history, the run is not in it, or it has no
    earlier run of the same cell. What goes wrong is only said: documents can do without."""
    path = history_file(history)
    if history is None and not path.exists():
        return None
    try:
        with opened(path) as connection:
            new = queries.run_named(connection, run_name(connection, results.record, started=results.started))
            old = _baseline(connection, new) if new else None
            return _past(connection, old, new) if old and new else None
    except HarnessError as error:
        say(f"the documents say nothing of earlier runs: {error.message}")
        return None


def _baseline(connection: Connection, run: StoredRun) -> StoredRun | None:
    """The latest earlier run of the cell with another kernel, which had no patches or the same ones; if there is none,
    the latest one with the same kernel. Those that were asked for the same tests come first. Of a kernel that did
    not build nothing else is known."""
    earlier = [
        each
        for each in queries.latest_runs(connection, cell=run.cell, until=run.started, limit=_NIGHTS)
        if each.id != run.id and each.end != EndKind.NOT_BUILT
    ]
    others = [each for each in earlier if each.kernel != run.kernel and each.kernel.patches in ((), run.kernel.patches)]
    same = [each for each in earlier if each.kernel == run.kernel]
    alike = [each for each in (*others, *same) if each.requested == run.requested]
    return next(iter((*alike, *others, *same)), None)


def _past(connection: Connection, old: StoredRun, new: StoredRun) -> Past:
    before, since = sides_of(connection, old, new)
    read: dict[str, Run] = {run.id: (run, outcomes) for side in (before, since) for run, outcomes in side.runs}
    for run in queries.latest_runs(connection, cell=new.cell, until=new.started, limit=LONGEST):
        if run.id not in read:
            read[run.id] = run, by_test(queries.outcomes_of(connection, run.id))
    runs = [each for each in read.values() if each[0].cell == new.cell and each[0].started <= new.started]
    return past_of(before, since, sorted(runs, key=lambda each: (each[0].started, each[0].id == new.id, each[0].id)))
