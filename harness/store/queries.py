"""Questions to the history, each a function with types."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from harness.model.fault import FaultSignature
from harness.model.history import Cell, Outcome, StoredKernel, StoredRun
from harness.store.ingest import VERDICTS

_RUNS = """
    SELECT runs.name, cells.board, cells.config, cells.toolchain, kernels.key, kernels.release, kernels.source,
           kernels.version, kernels.git_commit, kernels.patches, runs.started, runs.seconds, runs."end", runs.host,
           runs.harness, runs.directory
    FROM runs JOIN cells ON cells.id = runs.cell JOIN kernels ON kernels.id = runs.kernel
"""
_RESULTS = """
    SELECT tests.name, results.verdict, results.actual, results.milliseconds, reasons.text, signatures.text, boards.text
    FROM results JOIN tests ON tests.id = results.test
         LEFT JOIN texts AS reasons ON reasons.id = results.reason
         LEFT JOIN texts AS signatures ON signatures.id = results.signature
         LEFT JOIN texts AS boards ON boards.id = results.board
"""


def run_named(connection: sqlite3.Connection, name: str) -> StoredRun | None:
    """Return the run with this id."""
    return next(_runs(connection.execute(f"{_RUNS} WHERE runs.name = ?", (name,))), None)


def latest_runs(connection: sqlite3.Connection, *, cell: Cell | None = None, limit: int = 30) -> tuple[StoredRun, ...]:
    """Return the latest runs, of one cell or of all; the latest first."""
    where, values = ("", ())
    if cell:
        where = "WHERE cells.board = ? AND cells.config = ? AND cells.toolchain = ?"
        values = (cell.board, cell.config, cell.toolchain)
    return tuple(_runs(connection.execute(f"{_RUNS} {where} ORDER BY runs.started DESC LIMIT ?", (*values, limit))))


def outcomes_of(connection: sqlite3.Connection, run: str) -> tuple[Outcome, ...]:
    """Return the outcomes of all tests of a run."""
    rows = connection.execute(f"{_RESULTS} WHERE results.run = (SELECT id FROM runs WHERE name = ?)", (run,))
    return tuple(map(_outcome, rows))


def history_of(connection: sqlite3.Connection, test: str, *, limit: int = 1000) -> tuple[tuple[StoredRun, Outcome], ...]:
    """Return what a test did in its latest runs, in whatever cell; the latest first."""
    names = [
        row[0]
        for row in connection.execute(
            "SELECT runs.name FROM results JOIN runs ON runs.id = results.run"
            " WHERE results.test = (SELECT id FROM tests WHERE name = ?) ORDER BY runs.started DESC LIMIT ?",
            (test, limit),
        )
    ]
    return tuple((run, outcome) for name in names for run, outcome in _one(connection, name, test))


def _one(connection: sqlite3.Connection, run: str, test: str) -> Iterator[tuple[StoredRun, Outcome]]:
    found = run_named(connection, run)
    row = connection.execute(
        f"{_RESULTS} WHERE results.run = (SELECT id FROM runs WHERE name = ?)"
        " AND results.test = (SELECT id FROM tests WHERE name = ?)",
        (run, test),
    ).fetchone()
    if found and row:
        yield found, _outcome(row)


def _runs(rows: sqlite3.Cursor) -> Iterator[StoredRun]:
    for row in rows:
        name, board, config, toolchain, key, release, source, version, commit, patches, *others = row
        started, seconds, end, host, harness, directory = others
        yield StoredRun(
            id=name,
            cell=Cell(board=board, config=config, toolchain=toolchain),
            kernel=StoredKernel(
                key=key, release=release, source=source, version=version, commit=commit, patches=tuple(json.loads(patches))
            ),
            started=started,
            seconds=seconds,
            end=end,
            host=host,
            harness=harness,
            directory=directory,
        )


def _outcome(row: Sequence[Any]) -> Outcome:
    test, verdict, actual, milliseconds, reason, signature, board = row
    return Outcome(
        test=test,
        verdict=VERDICTS[verdict],
        actual=VERDICTS[actual],
        seconds=milliseconds / 1000,
        reason=reason or "",
        signature=FaultSignature.parse(signature) if signature else None,
        board=board or "",
    )
