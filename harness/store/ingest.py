"""Takes runs into the history. A run that is there already is replaced if its directory says more now, so adding one
twice, or again after it was killed and continued, changes nothing or completes it; in whatever order copies of it come,
the one that says most stays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.model.fault import Fault
from harness.model.history import Cell, StoredKernel
from harness.model.record import RunRecord
from harness.model.result import Attempt, BootTime, Result, RunResults, Verdict
from harness.store.database import Connection

VERDICTS = tuple(Verdict)  # their numbers in the file: never reorder, only append
# Characters; what is longer was written by nobody who meant it.
_LONGEST_REASON = 500
_LONGEST_NAME = 1000
_LONGEST_TITLE = 500
_LONGEST_TEXT = 4000
_LONGEST_BOOT_S = 1e6
_UNANSWERED = VERDICTS.index(Verdict.NOTRUN)

_Row = tuple[object, ...]


def add_run(connection: Connection, results: RunResults, *, directory: Path) -> bool:
    """Add a run; False if the history has it as it is, or a copy that says more."""
    run, outcomes, repeats = _run_row(results), _outcome_rows(results.results), _repeat_rows(results.results)
    boots = _boot_rows(results.boots)
    said = (run, outcomes, repeats, *([boots] if boots else []))  # without boots as harnesses said it that had none
    digest = hashlib.blake2b(repr(said).encode(), digest_size=16).digest()
    name = run_name(connection, results.record, started=results.started)
    found = connection.execute("SELECT id, digest, directory FROM runs WHERE name = ?", (name,)).fetchone()
    if found and found[1] == digest:
        connection.execute("UPDATE runs SET directory = ? WHERE id = ?", (stored_path(directory), found[0]))
        return False
    if found and _said(connection, found[0]) > _says(results):
        return False
    if found:
        connection.execute("DELETE FROM runs WHERE id = ?", (found[0],))
    record = results.record
    cursor = connection.execute(
        'INSERT INTO runs (name, digest, cell, kernel, directory, started, seconds, "end", blames_kernel, host,'
        " harness, requested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name,
            digest,
            _cell(connection, cell_of(record)),
            _kernel(connection, kernel_of(record)),
            stored_path(directory),
            *run[-7:],
        ),
    )
    _add_results(connection, cursor.lastrowid or 0, outcomes, repeats)
    _add_boots(connection, cursor.lastrowid or 0, boots)
    return True


def run_name(connection: Connection, record: RunRecord, *, started: float) -> str:
    """Return the name under which the history has or would have a run: its id. Should two machines have given the same
    one, the run that is added later gets its host's behind it."""
    name = storable(record.id, _LONGEST_NAME) or _name_of(record, started)
    host = storable(record.host, _LONGEST_TEXT)
    found = connection.execute("SELECT host FROM runs WHERE name = ?", (name,)).fetchone()
    return name if found is None or found[0] == host else f"{name}@{_short_hash(host)}"


def _name_of(record: RunRecord, started: float) -> str:
    """Return a name for a run of a harness that gave it none: equal for all copies and prefixes of its events."""
    return f"unnamed-{_short_hash(repr((started, record.host, record.build)))}"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()


def _says(results: RunResults) -> tuple[bool, int, int]:
    """How much a run's directory says: whether the run has ended, how many tests have an outcome, repetitions."""
    answered = sum(result.verdict is not Verdict.NOTRUN for result in results.results)
    return results.ended is not None, answered, sum(len(result.repeats) for result in results.results)


def _said(connection: Connection, run: int) -> tuple[bool, int, int]:
    """How much the stored copy of a run says."""
    query = (
        "SELECT \"end\" <> '', (SELECT count(*) FROM results WHERE run = runs.id AND verdict <> ?),"
        " (SELECT count(*) FROM repeats WHERE run = runs.id) FROM runs WHERE id = ?"
    )
    has_ended, answered, repeats = connection.execute(query, (_UNANSWERED, run)).fetchone()
    return bool(has_ended), answered, repeats


def stored_path(directory: Path) -> str:
    """Return how the history writes a directory's path, which may have any bytes."""
    return storable(str(directory), _LONGEST_TEXT)


def cell_of(record: RunRecord) -> Cell:
    """Return the cell that a run belongs to."""
    accelerator = record.board.details.get("accelerator", "")
    tools = record.kernel.toolchain
    name = "clang" if "clang" in f"{tools.name} {tools.command}" else "gcc" if tools.command or tools.name else ""
    config = "+".join(name.removesuffix(".config") for name in record.kernel.fragments)
    return Cell(
        board=storable(f"{record.board.name} ({accelerator})" if accelerator else record.board.name, _LONGEST_TEXT),
        config=storable(config, _LONGEST_TEXT),
        toolchain=storable(f"{name} {tools.version.partition('.')[0]}".strip(), _LONGEST_TEXT),
    )


def kernel_of(record: RunRecord) -> StoredKernel:
    """Return what identifies the kernel of a run."""
    kernel, source = record.kernel, record.kernel.source
    return StoredKernel(
        key=storable(kernel.key, _LONGEST_TEXT),
        release=storable(kernel.release, _LONGEST_TEXT),
        source=storable(source.spec, _LONGEST_TEXT),
        version=storable(source.version, _LONGEST_TEXT),
        commit=storable(source.checksum, _LONGEST_TEXT) if source.spec.startswith("git:") else "",
        patches=tuple(storable(patch.sha256, _LONGEST_TEXT) for patch in kernel.patches),
    )


def requested(record: RunRecord) -> str:
    """Return which tests a run was asked for."""
    return " ".join((*record.suites, *([f"-k {record.keyword}"] if record.keyword else [])))


# -- rows: what is stored, with texts that are not yet numbers ---------------------------------------------------------


def _run_row(results: RunResults) -> _Row:
    """What identifies a run, then its last seven columns."""
    record = results.record
    return (
        record.id,
        cell_of(record),
        kernel_of(record),
        results.started,
        results.seconds,
        results.ended.kind.value if results.ended else "",
        bool(results.ended and results.ended.blames_kernel),
        storable(record.host, _LONGEST_TEXT),
        storable(str(record.harness), _LONGEST_TEXT),
        storable(requested(record), _LONGEST_TEXT),
    )


def _outcome_rows(results: Iterable[Result]) -> list[tuple[str, int, int, int, str, str, str]]:
    """Test, verdict, actual verdict, milliseconds, reason, signature, board."""
    return [
        (
            stored_test(result.test),
            VERDICTS.index(result.verdict),
            VERDICTS.index(result.actual or result.verdict),
            round(1000 * result.seconds),
            storable(result.reason, _LONGEST_REASON),
            _signature(result.fault),
            storable(result.board, _LONGEST_TEXT),
        )
        for result in results
    ]


def _repeat_rows(results: Iterable[Result]) -> list[tuple[str, int, int, int, str, str]]:
    """Test, number, verdict, milliseconds, signature, condition."""
    return list(_numbered((result, repeat) for result in results for repeat in result.repeats))


def _boot_rows(boots: Iterable[BootTime]) -> list[tuple[str, int, int]]:
    """Board, how often it booted, milliseconds in the median."""
    times: dict[str, list[float]] = {}
    for boot in boots:
        if boot.board:
            times.setdefault(storable(boot.board, _LONGEST_TEXT), []).append(min(boot.seconds, _LONGEST_BOOT_S))
    return [(board, len(each), round(1000 * statistics.median(each))) for board, each in times.items()]


def _numbered(pairs: Iterable[tuple[Result, Attempt]]) -> Iterator[tuple[str, int, int, int, str, str]]:
    counts: Counter[str] = Counter()
    for result, repeat in pairs:
        test = stored_test(result.test)
        verdict = VERDICTS.index(repeat.actual or repeat.verdict)
        condition = str(getattr(repeat, "condition", ""))
        yield test, counts[test], verdict, round(1000 * repeat.seconds), _signature(repeat.fault), condition
        counts[test] += 1


def stored_test(test: str) -> str:
    """Return how the history writes a test's id."""
    name = storable(test)
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…{_short_hash(name)}"


def _signature(fault: Fault | None) -> str:
    if fault is None:
        return ""
    if len(fault.title) > _LONGEST_TITLE:
        fault = dataclasses.replace(fault, title=fault.title[:_LONGEST_TITLE])
    return str(fault.signature)


def storable(text: str, longest: int | None = None) -> str:
    """SQLite takes no lone surrogates, which stand for undecodable bytes of a console or of a path."""
    return text[:longest].encode("utf-8", "backslashreplace").decode()


# -- writing -----------------------------------------------------------------------------------------------------------


def _cell(connection: Connection, cell: Cell) -> int:
    return _number(connection, "cells", ("board", "config", "toolchain"), (cell.board, cell.config, cell.toolchain))


def _kernel(connection: Connection, kernel: StoredKernel) -> int:
    columns = ("key", "release", "source", "version", "git_commit", "patches")
    patches = json.dumps(kernel.patches)
    values = (kernel.key, kernel.release, kernel.source, kernel.version, kernel.commit, patches)
    return _number(connection, "kernels", columns, values)


def _number(connection: Connection, table: str, columns: tuple[str, ...], values: tuple[str, ...]) -> int:
    """Return the number of a row of `table`, which is made if it is not there."""
    where = " AND ".join(f"{column} = ?" for column in columns)
    row = connection.execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()
    if row:
        return int(row[0])
    marks = ", ".join("?" * len(columns))
    return connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values).lastrowid or 0


def _numbers(connection: Connection, table: str, column: str, texts: Iterable[str]) -> dict[str, int]:
    return {text: _number(connection, table, (column,), (text,)) for text in dict.fromkeys(texts)}


def _add_boots(connection: Connection, run: int, boots: Sequence[tuple[str, int, int]]) -> None:
    texts = _numbers(connection, "texts", "text", (board for board, _, _ in boots))
    connection.executemany(
        "INSERT INTO boots (run, board, number, milliseconds) VALUES (?, ?, ?, ?)",
        ((run, texts[board], number, milliseconds) for board, number, milliseconds in boots),
    )


def _add_results(
    connection: Connection,
    run: int,
    outcomes: Sequence[tuple[str, int, int, int, str, str, str]],
    repeats: Sequence[tuple[str, int, int, int, str, str]],
) -> None:
    """Two names that only differ in what can't be stored are one test, of which the last result stays."""
    tests = _numbers(connection, "tests", "name", (*(row[0] for row in outcomes), *(row[0] for row in repeats)))
    words = (*(text for row in outcomes for text in row[4:]), *(row[4] for row in repeats))
    texts = {"": None} | _numbers(connection, "texts", "text", filter(None, words))
    connection.executemany(
        "INSERT OR REPLACE INTO results (run, test, verdict, actual, milliseconds, reason, signature, board)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (run, tests[test], verdict, actual, milliseconds, texts[reason], texts[signature], texts[board])
            for test, verdict, actual, milliseconds, reason, signature, board in outcomes
        ),
    )
    connection.executemany(
        "INSERT INTO repeats (run, test, number, verdict, milliseconds, signature, condition)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (run, tests[test], number, verdict, milliseconds, texts[signature], condition)
            for test, number, verdict, milliseconds, signature, condition in repeats
        ),
    )
