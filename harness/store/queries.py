"""Questions to the history, each a function with types."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.model.fault import FaultSignature
from harness.model.history import Cell, Line, Outcome, StoredKernel, StoredRun
from harness.model.result import EndKind, Verdict
from harness.store.database import Connection
from harness.store.ingest import VERDICTS, stored_path, stored_test
from harness.store.meaning import condition_of, signature_of, verdict_of

_MOST_VALUES = 500  # in one statement
_RUN = """
    runs.name, cells.board, cells.config, cells.toolchain, kernels.key, kernels.release, kernels.source,
    kernels.version, kernels.git_commit, kernels.patches, runs.started, runs.seconds, runs."end", runs.host,
    runs.harness, runs.directory, runs.requested, runs.blames_kernel
"""
_RUNS = f"SELECT {_RUN} FROM runs JOIN cells ON cells.id = runs.cell JOIN kernels ON kernels.id = runs.kernel"
_LATEST = "ORDER BY runs.started DESC, runs.name DESC"
_BAD = ", ".join(str(n) for n, verdict in enumerate(VERDICTS) if verdict.is_kernel_fault or verdict.is_infra_fault)
_IS_GOOD = f"""
    runs."end" = '{EndKind.COMPLETE.value}'
    AND EXISTS (SELECT 1 FROM results WHERE run = runs.id AND verdict = {VERDICTS.index(Verdict.PASS)})
    AND NOT EXISTS (SELECT 1 FROM results WHERE run = runs.id AND verdict IN ({_BAD}))
"""


def run_named(connection: Connection, name: str) -> StoredRun | None:
    """Return the run with this id."""
    return next(_runs(connection.execute(f"{_RUNS} WHERE runs.name = ?", (name,))), None)


def run_in(connection: Connection, directory: Path) -> str:
    """Return the id of the latest run whose files were in `directory`, empty if there is none."""
    query = "SELECT name FROM runs WHERE directory = ? ORDER BY started DESC"
    row = connection.execute(query, (stored_path(directory),)).fetchone()
    return str(row[0]) if row else ""


def runs_like(connection: Connection, beginning: str) -> tuple[StoredRun, ...]:
    """Return the run with this id, else up to two whose ids begin like this."""
    exact = run_named(connection, beginning)
    if exact or not beginning:
        return (exact,) if exact else ()
    end = beginning + chr(0x10FFFF)
    return tuple(_runs(connection.execute(f"{_RUNS} WHERE runs.name > ? AND runs.name < ? LIMIT 2", (beginning, end))))


def latest_runs(
    connection: Connection,
    *,
    cell: Cell | None = None,
    kernel: StoredKernel | None = None,
    line: Line | None = None,
    commit: str = "",
    version: str = "",
    until: float | None = None,
    good: bool = False,
    limit: int = 30,
) -> tuple[StoredRun, ...]:
    """Return the latest runs that began by `until`, the latest first: of one cell, kernel or line of kernels, of
    kernels whose git commit begins with `commit`, or whose source has this `version`; `good`: of those only the ones
    that were complete and in which some tests passed and none failed."""
    wanted: list[tuple[str, object]] = []
    if cell:
        wanted += [("cells.board = ?", cell.board), ("cells.config = ?", cell.config)]
        wanted.append(("cells.toolchain = ?", cell.toolchain))
    if kernel:
        wanted += [("kernels.key = ?", kernel.key), ("kernels.release = ?", kernel.release)]
        wanted += [("kernels.source = ?", kernel.source), ("kernels.version = ?", kernel.version)]
        wanted += [("kernels.git_commit = ?", kernel.commit), ("kernels.patches = ?", json.dumps(kernel.patches))]
    if commit:
        wanted.append(("instr(kernels.git_commit, ?) = 1", commit))
    if version:
        wanted.append(("kernels.version = ?", version))
    if until is not None:
        wanted.append(("runs.started <= ?", until))
    conditions = [*(condition for condition, _ in wanted), *([_IS_GOOD] if good else [])]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = connection.execute(f"{_RUNS} {where} {_LATEST}", [value for _, value in wanted])
    found = (run for run in _runs(rows) if line is None or run.kernel.line == line)
    return tuple(itertools.islice(found, limit))


def outcomes_of(connection: Connection, run: str) -> tuple[Outcome, ...]:
    """Return the outcomes of all tests of a run, and those of its repetitions behind them."""
    return outcomes_in(connection, (run,))[run]


def outcomes_in(connection: Connection, runs: Iterable[str]) -> dict[str, tuple[Outcome, ...]]:
    """Return the outcomes of several runs by their ids, each as `outcomes_of` does."""
    words = _Words(connection)
    found = {}
    for name in runs:
        row = connection.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        found[name] = tuple(_outcomes(connection, row[0], words)) if row else ()
    return found


def _outcomes(connection: Connection, run: int, words: _Words) -> Iterator[Outcome]:
    query = "SELECT test, verdict, actual, milliseconds, reason, signature, board FROM results WHERE run = ?"
    for row in connection.execute(query, (run,)):
        yield _outcome(row, words)
    query = "SELECT test, verdict, milliseconds, signature, condition FROM repeats WHERE run = ?"
    for test, verdict, milliseconds, signature, condition in connection.execute(query, (run,)):
        yield Outcome(
            test=words.test(test),
            verdict=verdict_of(verdict),
            actual=verdict_of(verdict),
            seconds=milliseconds / 1000,
            signature=words.signature(signature),
            repeat=condition_of(condition),
        )


def history_in(connection: Connection, test: str, runs: Sequence[StoredRun]) -> tuple[tuple[StoredRun, Outcome], ...]:
    """Return what a test did in those of `runs` that have it, in their order."""
    words = _Words(connection)
    found: dict[str, Outcome] = {}
    number = connection.execute("SELECT id FROM tests WHERE name = ?", (stored_test(test),)).fetchone()
    for begin in range(0, len(runs), _MOST_VALUES):
        some = [run.id for run in runs[begin : begin + _MOST_VALUES]]
        rows = connection.execute(
            "SELECT runs.name, results.test, results.verdict, results.actual, results.milliseconds, results.reason,"
            " results.signature, results.board FROM runs CROSS JOIN results ON results.run = runs.id"
            f" AND results.test = ? WHERE runs.name IN ({', '.join('?' * len(some))})",
            (number[0] if number else None, *some),
        )
        found |= {row[0]: _outcome(row[1:], words) for row in rows}
    return tuple((run, found[run.id]) for run in runs if run.id in found)


def all_tests(connection: Connection) -> tuple[str, ...]:
    """Return the ids of all tests that were ever run."""
    return tuple(row[0] for row in connection.execute("SELECT name FROM tests ORDER BY name"))


def _runs(rows: Iterable[Sequence[Any]]) -> Iterator[StoredRun]:
    for row in rows:
        name, board, config, toolchain, key, release, source, version, commit, patches, *others = row
        started, seconds, end, host, harness, directory, requested, blames_kernel = others
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
            blames_kernel=bool(blames_kernel),
        )


class _Words:
    """The texts that rows refer to by number, each read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tests: dict[int, str] = {}
        self._texts: dict[int | None, str] = {None: ""}

    def test(self, number: int) -> str:
        if number not in self._tests:
            self._tests.update(self._connection.execute("SELECT id, name FROM tests"))
        return self._tests[number]

    def text(self, number: int | None) -> str:
        if number not in self._texts:
            (self._texts[number],) = self._connection.execute(
                "SELECT text FROM texts WHERE id = ?", (number,)
            ).fetchone()
        return self._texts[number]

    def signature(self, number: int | None) -> FaultSignature | None:
        return None if number is None else signature_of(self.text(number))


def _outcome(row: Sequence[Any], words: _Words) -> Outcome:
    test, verdict, actual, milliseconds, reason, signature, board = row
    return Outcome(
        test=words.test(test),
        verdict=verdict_of(verdict),
        actual=verdict_of(actual),
        seconds=milliseconds / 1000,
        reason=words.text(reason),
        signature=words.signature(signature),
        board=words.text(board),
    )
