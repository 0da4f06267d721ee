"""The questions that pages ask: parts of the history, limited in time and number, each a function with types.

Runs are chosen first: there are a few thousand, and all that filters name are properties of theirs. Results are then
read run by run, in the order in which the file has them, or along the index on signatures. CROSS JOIN is SQLite's way
to say which of two tables comes first; it can't know that few results have a signature."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from harness.model.history import Cell, Outcome, StoredRun
from harness.model.overview import BoardHealth, BoardNight, CountedRun, Known, Scope, Seen, SeenSignature, SeenTest
from harness.model.result import EndKind, Verdict
from harness.store.database import Connection
from harness.store.ingest import VERDICTS
from harness.store.meaning import signature_of, verdict_of
from harness.store.queries import run_named

_DAY_S = 86400
_AHEAD_S = 7 * _DAY_S  # of this host's clock: a run from later than that must not hide all others
_STEPS = 10_000  # of SQLite's machine, between two looks at the clock


def _numbers(verdicts: Iterable[Verdict]) -> str:
    return ", ".join(str(VERDICTS.index(verdict)) for verdict in verdicts)


_FAILED = _numbers(verdict for verdict in VERDICTS if verdict.is_kernel_fault)
_ERRORS = _numbers(verdict for verdict in VERDICTS if verdict.is_infra_fault)
_CRASHED = _numbers([Verdict.CRASH])
_UNANSWERED = _numbers([Verdict.NOTRUN])
# The latest runs of a scope; results are looked up by their numbers.
_CHOSEN = """
    WITH chosen AS MATERIALIZED (
        SELECT runs.id, runs.name, runs.cell, runs.kernel, runs.started, runs."end",
               runs.blames_kernel, cells.board
        FROM runs JOIN cells ON cells.id = runs.cell JOIN kernels ON kernels.id = runs.kernel
        WHERE runs.started >= :since AND runs.started < :until
              AND (:board = '' OR cells.board = :board)
              AND (:config = '' OR cells.config = :config)
              AND (:toolchain = '' OR cells.toolchain = :toolchain)
              AND (:kernel = '' OR instr(kernels.release || ' ' || kernels.version || ' ' || kernels.source || ' '
                                         || kernels.git_commit, :kernel))
        ORDER BY runs.started DESC, runs.name DESC LIMIT :runs
    )
"""
_SEEN = """
    SELECT chosen.name, tests.name, results.verdict, results.actual, results.milliseconds, reasons.text,
           signatures.text, boards.text
    FROM chosen CROSS JOIN results ON results.run = chosen.id JOIN tests ON tests.id = results.test
         LEFT JOIN texts AS reasons ON reasons.id = results.reason
         LEFT JOIN texts AS signatures ON signatures.id = results.signature
         LEFT JOIN texts AS boards ON boards.id = results.board
"""


def limit_time(connection: Connection, seconds: float) -> None:
    """Give up what takes longer than `seconds` from now: it ends in an InfraError."""
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)


def known(connection: Connection) -> Known:
    """Return what there is to choose from."""
    cells = connection.execute("SELECT board, config, toolchain FROM cells ORDER BY 1, 2, 3")
    query = "SELECT coalesce((SELECT max(started) FROM runs WHERE started <= ?), (SELECT max(started) FROM runs))"
    newest = connection.execute(query, (time.time() + _AHEAD_S,)).fetchone()[0]
    return Known(
        cells=tuple(Cell(board=board, config=config, toolchain=tool) for board, config, tool in cells), newest=newest
    )


def is_test(connection: Connection, name: str) -> bool:
    """Whether the history has a test of this name."""
    return bool(connection.execute("SELECT 1 FROM tests WHERE name = ?", (name,)).fetchone())


def runs_of(connection: Connection, scope: Scope, *, limit: int) -> tuple[CountedRun, ...]:
    """Return the latest `limit` runs of `scope` with the number of their results of each verdict, the latest first."""
    values = _values(scope, limit)
    names = [row[0] for row in connection.execute(f"{_CHOSEN} SELECT name FROM chosen", values)]
    counts: dict[str, dict[Verdict, int]] = {}
    for name, verdict, count in connection.execute(
        f"{_CHOSEN} SELECT chosen.name, results.verdict, count(*) FROM chosen CROSS JOIN results"
        " ON results.run = chosen.id GROUP BY chosen.id, results.verdict",
        values,
    ):
        counts.setdefault(name, {})[verdict_of(verdict)] = count
    runs = _Runs(connection)
    return tuple(CountedRun(run=runs[name], counts=counts.get(name, {})) for name in names)


def failures_of(connection: Connection, run: str) -> tuple[Outcome, ...]:
    """Return the failures of a run that nobody expected."""
    rows = connection.execute(
        "WITH chosen AS (SELECT id, name FROM runs WHERE name = ?)"
        f" {_SEEN} WHERE results.verdict IN ({_FAILED}) ORDER BY tests.name",
        (run,),
    )
    return tuple(_outcome(row) for row in rows)


def results_of(connection: Connection, test: str, scope: Scope, *, limit: int) -> tuple[Seen, ...]:
    """Return what a test did in the latest `limit` runs of `scope`, the latest first."""
    values = _values(scope, limit)
    query = f"{_CHOSEN} {_SEEN} WHERE results.test = (SELECT id FROM tests WHERE name = :test)"
    return _seen(connection, query, values | {"test": test})


def signature_results(connection: Connection, text: str, scope: Scope, *, limit: int) -> tuple[Seen, ...]:
    """Return the latest `limit` results in which a fault was seen, whether it was expected or not."""
    rows = connection.execute(
        f"{_CHOSEN} SELECT chosen.name, tests.name, results.verdict, results.actual, results.milliseconds,"
        " reasons.text, signatures.text, boards.text"
        " FROM texts AS signatures CROSS JOIN results"
        " ON results.signature = signatures.id CROSS JOIN chosen ON chosen.id = results.run"
        " JOIN tests ON tests.id = results.test"
        " LEFT JOIN texts AS reasons ON reasons.id = results.reason"
        " LEFT JOIN texts AS boards ON boards.id = results.board"
        " WHERE signatures.text = :text ORDER BY chosen.started DESC, tests.name LIMIT :limit",
        _values(scope) | {"text": text, "limit": limit},
    )
    runs = _Runs(connection)
    return tuple(Seen(run=runs[row[0]], outcome=_outcome(row)) for row in rows)


def signatures_of(connection: Connection, scope: Scope, *, limit: int) -> tuple[SeenSignature, ...]:
    """Return the faults that were seen, those of the most results first."""
    rows = connection.execute(
        f"{_CHOSEN} SELECT signatures.text, count(*), count(DISTINCT results.test), count(DISTINCT chosen.cell),"
        " count(DISTINCT json_array(coalesce(nullif(kernels.version, ''), kernels.release), kernels.git_commit,"
        " kernels.patches)), min(chosen.started), max(chosen.started)"
        " FROM results CROSS JOIN chosen ON chosen.id = results.run CROSS JOIN kernels ON kernels.id = chosen.kernel"
        " CROSS JOIN texts AS signatures ON signatures.id = results.signature"
        " WHERE results.signature IS NOT NULL"
        " GROUP BY results.signature ORDER BY 2 DESC, 1 LIMIT :limit",
        _values(scope) | {"limit": limit},
    )
    return tuple(
        SeenSignature(text=text, results=results, tests=tests, cells=cells, kernels=kernels, first=first, last=last)
        for text, results, tests, cells, kernels, first, last in rows
    )


def is_signature(connection: Connection, text: str) -> bool:
    """Whether a fault with this signature is in the history."""
    query = "SELECT 1 FROM texts JOIN results ON results.signature = texts.id WHERE texts.text = ? LIMIT 1"
    return bool(connection.execute(query, (text,)).fetchone())


def are_at_most(connection: Connection, scope: Scope, *, runs: int) -> bool:
    """Whether `scope` has no more than so many runs."""
    (count,) = connection.execute(f"{_CHOSEN} SELECT count(*) FROM chosen", _values(scope, runs + 1)).fetchone()
    return int(count) <= runs


def seen_tests(
    connection: Connection, scope: Scope, *, words: Sequence[str], runs: int, limit: int
) -> tuple[SeenTest, ...]:
    """Return the tests of the latest `runs` runs whose names contain all `words`, whatever their case; those that
    failed most often first."""
    contained = " AND ".join(f"instr(lower(tests.name), :word{number})" for number, _ in enumerate(words)) or "1"
    rows = connection.execute(
        f"{_CHOSEN}, told AS MATERIALIZED (SELECT results.test, count(*) AS results,"
        f" sum(results.verdict IN ({_FAILED})) AS failures,"
        f" max(CASE WHEN results.verdict IN ({_FAILED}) THEN chosen.started END) AS last"
        " FROM chosen CROSS JOIN results ON results.run = chosen.id GROUP BY results.test)"
        " SELECT tests.name, told.results, told.failures, told.last FROM told JOIN tests ON tests.id = told.test"
        f" WHERE {contained} ORDER BY told.failures DESC, tests.name LIMIT :limit",
        _values(scope, runs) | {"limit": limit} | {f"word{number}": word.lower() for number, word in enumerate(words)},
    )
    return tuple(
        SeenTest(name=name, results=results, failures=failures, last_failure=last)
        for name, results, failures, last in rows
    )


def boards_of(connection: Connection, scope: Scope, *, runs: int) -> tuple[BoardHealth, ...]:
    """Return what each board did in the latest `runs` runs of `scope`."""
    ended: dict[str, Counter[str]] = defaultdict(Counter)
    nights: dict[str, dict[int, BoardNight]] = defaultdict(dict)
    columns = 'id, board, started, "end", blames_kernel'
    chosen = connection.execute(f"{_CHOSEN} SELECT {columns} FROM chosen", _values(scope, runs))
    for run, cell, started, end, blames_kernel in chosen.fetchall():
        ended[cell][end] += 1
        day = int(started // _DAY_S)
        # run by run: SQLite would sort the results of all runs to group them
        for of_pool, results, errors, crashes in connection.execute(_OF_BOARDS, (blames_kernel, run)):
            days = nights[_board(cell, of_pool)]
            before = days.get(day, BoardNight(day=day))
            days[day] = dataclasses.replace(
                before,
                results=before.results + results,
                errors=before.errors + errors,
                crashes=before.crashes + crashes,
            )
        for of_pool, milliseconds in connection.execute(_BOOTS, (run,)):
            days = nights[_board(cell, of_pool)]
            before = days.get(day, BoardNight(day=day))
            days[day] = dataclasses.replace(before, boots=(*before.boots, milliseconds / 1000))
    return tuple(
        BoardHealth(
            board=board,
            runs=ended[board].total(),
            complete=ended[board][EndKind.COMPLETE],
            not_booted=ended[board][EndKind.NOT_BOOTED],
            nights=tuple(nights[board][day] for day in sorted(nights[board])),
        )
        for board in sorted({*ended, *nights})
    )


# Tests that did not run because the kernel does not boot are no errors of the lab.
_OF_BOARDS = f"""
    SELECT texts.text, count(*),
           sum(results.verdict IN ({_ERRORS}) AND NOT (? AND results.verdict IN ({_UNANSWERED}))),
           sum(results.actual IN ({_CRASHED}))
    FROM results LEFT JOIN texts ON texts.id = results.board WHERE results.run = ? GROUP BY results.board
"""


_BOOTS = "SELECT texts.text, boots.milliseconds FROM boots JOIN texts ON texts.id = boots.board WHERE boots.run = ?"


def _board(cell: str, of_pool: str | None) -> str:
    """Return which board it was, of those that have runs of this cell's board or pool."""
    name = cell.partition(" (")[0]
    return cell if of_pool is None or of_pool == name else f"{cell}: {of_pool}"


class _Runs(dict[str, StoredRun]):
    """The runs that rows name, each looked up once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __missing__(self, name: str) -> StoredRun:
        run = run_named(self.connection, name)
        assert run is not None, "it was named by the same transaction"
        self[name] = run
        return run


def _values(scope: Scope, runs: int = -1) -> dict[str, Any]:
    return {
        "since": scope.since,
        "until": scope.until,
        "board": scope.board,
        "config": scope.config,
        "toolchain": scope.toolchain,
        "kernel": scope.kernel,
        "runs": runs,
    }


def _seen(connection: Connection, query: str, values: dict[str, Any]) -> tuple[Seen, ...]:
    runs = _Runs(connection)
    seen = [Seen(run=runs[row[0]], outcome=_outcome(row)) for row in connection.execute(query, values)]
    return tuple(sorted(seen, key=lambda each: (each.run.started, each.run.id), reverse=True))


def _outcome(row: Sequence[Any]) -> Outcome:
    _, test, verdict, actual, milliseconds, reason, signature, board = row
    return Outcome(
        test=test,
        verdict=verdict_of(verdict),
        actual=verdict_of(actual),
        seconds=milliseconds / 1000,
        reason=reason or "",
        signature=signature_of(signature) if signature else None,
        board=board or "",
    )
