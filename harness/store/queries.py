"""Questions to the history, each a function with types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.model.fault import FaultSignature
from harness.model.history import Cell, Outcome, StoredKernel, StoredRun
from harness.model.result import Condition, EndKind
from harness.store.database import Connection
from harness.store.ingest import VERDICTS

_FOREVER = 1e12

_RUNS = """
    SELECT runs.name, cells.board, cells.config, cells.toolchain, kernels.key, kernels.release, kernels.source,
           kernels.version, kernels.git_commit, kernels.patches, runs.started, runs.seconds, runs."end", runs.host,
           runs.harness, runs.directory, runs.requested
    FROM runs JOIN cells ON cells.id = runs.cell JOIN kernels ON kernels.id = runs.kernel
"""
_REPEATS = """
    SELECT tests.name, repeats.verdict, repeats.milliseconds, signatures.text, repeats.condition
    FROM repeats JOIN tests ON tests.id = repeats.test
         LEFT JOIN texts AS signatures ON signatures.id = repeats.signature
"""
_RESULTS = """
    SELECT tests.name, results.verdict, results.actual, results.milliseconds, reasons.text, signatures.text, boards.text
    FROM results JOIN tests ON tests.id = results.test
         LEFT JOIN texts AS reasons ON reasons.id = results.reason
         LEFT JOIN texts AS signatures ON signatures.id = results.signature
         LEFT JOIN texts AS boards ON boards.id = results.board
"""


def run_named(connection: Connection, name: str) -> StoredRun | None:
    """Return the run with this id."""
    return next(_runs(connection.execute(f"{_RUNS} WHERE runs.name = ?", (name,))), None)


def run_in(connection: Connection, directory: str) -> str:
    """Return the id of the run whose files were in `directory`, empty if there is none."""
    query = "SELECT name FROM runs WHERE directory = ? ORDER BY started DESC"
    row = connection.execute(query, (directory,)).fetchone()
    return str(row[0]) if row else ""


def runs_like(connection: Connection, beginning: str) -> tuple[StoredRun, ...]:
    """Return the run with this id, else up to two whose ids begin like this."""
    exact = run_named(connection, beginning)
    if exact or not beginning:
        return (exact,) if exact else ()
    end = beginning + chr(0x10FFFF)
    return tuple(_runs(connection.execute(f"{_RUNS} WHERE runs.name > ? AND runs.name < ? LIMIT 2", (beginning, end))))


def is_good(connection: Connection, run: str) -> bool:
    """Whether a run was complete and no test in it failed."""
    bad = [number for number, verdict in enumerate(VERDICTS) if verdict.is_kernel_fault or verdict.is_infra_fault]
    query = (
        'SELECT runs."end" = ? AND NOT EXISTS (SELECT 1 FROM results WHERE results.run = runs.id'
        f" AND results.verdict IN ({', '.join(map(str, bad))})) FROM runs WHERE name = ?"
    )
    row = connection.execute(query, (EndKind.COMPLETE.value, run)).fetchone()
    return bool(row and row[0])


def latest_runs(
    connection: Connection, *, cell: Cell | None = None, until: float | None = None, limit: int = 30
) -> tuple[StoredRun, ...]:
    """Return the latest runs, of one cell or of all, that began by `until`; the latest first."""
    conditions = ["runs.started <= ?"]
    values: list[float | str] = [until if until is not None else _FOREVER]
    if cell:
        conditions += ["cells.board = ?", "cells.config = ?", "cells.toolchain = ?"]
        values += [cell.board, cell.config, cell.toolchain]
    query = f"{_RUNS} WHERE {' AND '.join(conditions)} ORDER BY runs.started DESC, runs.name DESC LIMIT ?"
    return tuple(_runs(connection.execute(query, (*values, limit))))


def outcomes_of(connection: Connection, run: str) -> tuple[Outcome, ...]:
    """Return the outcomes of all tests of a run, and those of its repetitions behind them."""
    rows = connection.execute(f"{_RESULTS} WHERE results.run = (SELECT id FROM runs WHERE name = ?)", (run,))
    repeats = connection.execute(f"{_REPEATS} WHERE repeats.run = (SELECT id FROM runs WHERE name = ?)", (run,))
    return (*map(_outcome, rows), *map(_repeat, repeats))


def history_of(connection: Connection, test: str, *, limit: int = 1000) -> tuple[tuple[StoredRun, Outcome], ...]:
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


def _one(connection: Connection, run: str, test: str) -> Iterator[tuple[StoredRun, Outcome]]:
    found = run_named(connection, run)
    row = connection.execute(
        f"{_RESULTS} WHERE results.run = (SELECT id FROM runs WHERE name = ?)"
        " AND results.test = (SELECT id FROM tests WHERE name = ?)",
        (run, test),
    ).fetchone()
    if found and row:
        yield found, _outcome(row)


def _runs(rows: Iterable[Sequence[Any]]) -> Iterator[StoredRun]:
    for row in rows:
        name, board, config, toolchain, key, release, source, version, commit, patches, *others = row
        started, seconds, end, host, harness, directory, requested = others
        yield StoredRun(
            id=name,
            cell=Cell(board=board, config=config, toolchain=toolchain),
            kernel=StoredKernel(
                key=key,
                release=release,
                source=source,
                version=version,
                commit=commit,
                patches=tuple(json.loads(patches)),
            ),
            started=started,
            seconds=seconds,
            end=end,
            host=host,
            harness=harness,
            directory=directory,
            requested=requested,
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


def _repeat(row: Sequence[Any]) -> Outcome:
    test, verdict, milliseconds, signature, condition = row
    return Outcome(
        test=test,
        verdict=VERDICTS[verdict],
        actual=VERDICTS[verdict],
        seconds=milliseconds / 1000,
        signature=FaultSignature.parse(signature) if signature else None,
        repeat=Condition(condition),
    )
