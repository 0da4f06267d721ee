"""Removes old runs from the history. Their directories stay; `harness history add` takes them in again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.store.database import Connection, compact, maintained, opened
from harness.store.ingest import VERDICTS

_RUNS_AT_ONCE = 50  # removed in one transaction, so that those who write need not wait for long
_FAILURES = ", ".join(str(number) for number, verdict in enumerate(VERDICTS) if verdict.is_kernel_fault)
# What nothing refers to any more, by table.
_USED = {
    "cells": "SELECT cell FROM runs",
    "kernels": "SELECT kernel FROM runs",
    "tests": "SELECT test FROM results UNION SELECT test FROM repeats",
    "texts": """
        SELECT reason FROM results WHERE reason IS NOT NULL
        UNION SELECT signature FROM results WHERE signature IS NOT NULL
        UNION SELECT board FROM results WHERE board IS NOT NULL
        UNION SELECT signature FROM repeats WHERE signature IS NOT NULL
        UNION SELECT board FROM boots
    """,
}


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was removed; how many old runs were `kept` because of their failures; the size of the file before and after,
    in bytes."""

    runs: int
    results: int
    kept: int
    size_before: int
    size: int


def prune(path: Path, *, before: float, keep_failures: bool) -> Pruned:
    """Remove the runs that began before a moment (seconds since the epoch); with `keep_failures`, not those in which a
    test failed unexpectedly, or whose kernel did not boot. Raises what `database.maintained` does.

    Killed at any moment, it leaves a history with fewer runs, and whole."""
    with maintained(path):
        size_before = _size(path)
    runs = results = 0
    while True:
        with opened(path, writable=True) as connection:
            numbers = _old_runs(connection, before=before, keep_failures=keep_failures)
            results += sum(_remove(connection, number) for number in numbers)
        runs += len(numbers)
        if not numbers:
            break
    with maintained(path) as connection:
        for table, used in _USED.items():
            connection.execute(f"DELETE FROM {table} WHERE id NOT IN ({used})")
        compact(connection)
        (kept,) = connection.execute("SELECT count(*) FROM runs WHERE started < ?", (before,)).fetchone()
    return Pruned(runs=runs, results=results, kept=kept, size_before=size_before, size=_size(path))


def _old_runs(connection: Connection, *, before: float, keep_failures: bool) -> list[int]:
    """The numbers of a few runs to remove."""
    failed = f"(blames_kernel OR EXISTS (SELECT 1 FROM results WHERE run = runs.id AND verdict IN ({_FAILURES})))"
    query = f"SELECT id FROM runs WHERE started < ?{f' AND NOT {failed}' if keep_failures else ''} LIMIT ?"
    return [row[0] for row in connection.execute(query, (before, _RUNS_AT_ONCE))]


def _remove(connection: Connection, run: int) -> int:
    """Remove a run; return how many results it had."""
    (results,) = connection.execute("SELECT count(*) FROM results WHERE run = ?", (run,)).fetchone()
    connection.execute("DELETE FROM runs WHERE id = ?", (run,))
    return int(results)


def _size(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
