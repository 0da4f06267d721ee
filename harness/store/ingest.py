"""Takes runs into the history. A run that is there already is replaced if its directory says more now, so adding one
twice, or again after it was killed and continued, changes nothing or completes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.model.history import Cell, StoredKernel
from harness.model.record import RunRecord
from harness.model.result import Result, RunResults, Verdict
from harness.store.database import Connection

VERDICTS = tuple(Verdict)  # their numbers in the file: never reorder, only append
_LONGEST_REASON = 500  # characters


def add_run(connection: Connection, results: RunResults, *, directory: Path) -> bool:
    """Add a run; False if the history has it as it is."""
    digest = _digest(results)
    name = results.record.id or _name_of(results)
    found = connection.execute("SELECT id, digest FROM runs WHERE name = ?", (name,)).fetchone()
    if found and found[1] == digest:
        return False
    if found:
        connection.execute("DELETE FROM runs WHERE id = ?", (found[0],))
    record = results.record
    run = connection.execute(
        'INSERT INTO runs (name, digest, cell, kernel, started, seconds, "end", host, harness, directory, requested)'
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            name,
            digest,
            _cell(connection, cell_of(record)),
            _kernel(connection, kernel_of(record)),
            results.started,
            results.seconds,
            results.ended.kind.value if results.ended else "",
            record.host,
            str(record.harness),
            str(directory),
            requested(record),
        ),
    ).lastrowid
    _add_results(connection, run or 0, results.results)
    return True


def _name_of(results: RunResults) -> str:
    """Return a name for a run of a harness that gave it none: equal for all copies and prefixes of its events."""
    words = (results.started, results.record.host, results.record.build)
    return f"unnamed-{hashlib.blake2b(repr(words).encode(), digest_size=6).hexdigest()}"


def cell_of(record: RunRecord) -> Cell:
    """Return the cell that a run belongs to."""
    accelerator = record.board.details.get("accelerator", "")
    tools = record.kernel.toolchain
    name = "clang" if "clang" in f"{tools.name} {tools.command}" else "gcc" if tools.command or tools.name else ""
    return Cell(
        board=f"{record.board.name} ({accelerator})" if accelerator else record.board.name,
        config="+".join(name.removesuffix(".config") for name in record.kernel.fragments),
        toolchain=f"{name} {tools.version.partition('.')[0]}".strip(),
    )


def kernel_of(record: RunRecord) -> StoredKernel:
    """Return what identifies the kernel of a run."""
    kernel, source = record.kernel, record.kernel.source
    return StoredKernel(
        key=kernel.key,
        release=kernel.release,
        source=source.spec,
        version=source.version,
        commit=source.checksum if source.spec.startswith("git:") else "",
        patches=tuple(patch.sha256 for patch in kernel.patches),
    )


def requested(record: RunRecord) -> str:
    """Return which tests a run was asked for."""
    return " ".join((*record.suites, *([f"-k {record.keyword}"] if record.keyword else [])))


def _digest(results: RunResults) -> bytes:
    """What distinguishes a run from others and from an earlier state of itself."""
    hashed = hashlib.blake2b(digest_size=16)
    for result in results.results:
        words = (result.test, str(result.verdict), result.reason, result.seconds, len(result.repeats))
        hashed.update(repr(words).encode("utf-8", "replace"))
    hashed.update(repr((results.record.id, results.started, str(results.ended))).encode())
    return hashed.digest()


def _cell(connection: Connection, cell: Cell) -> int:
    return _number(connection, "cells", ("board", "config", "toolchain"), (cell.board, cell.config, cell.toolchain))


def _kernel(connection: Connection, kernel: StoredKernel) -> int:
    columns = ("key", "release", "source", "version", "git_commit", "patches")
    patches = json.dumps(kernel.patches)
    values = (kernel.key, kernel.release, kernel.source, kernel.version, kernel.commit, patches)
    return _number(connection, "kernels", columns, values)


def _number(connection: Connection, table: str, columns: tuple[str, ...], values: tuple[str, ...]) -> int:
    """Return the number of a row of `table`, which is made if it is not there."""
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    where = " AND ".join(f"{column} = ?" for column in columns)
    row = connection.execute(f"SELECT id FROM {table} WHERE {where}", values).fetchone()
    return int(row[0])


def _numbers(connection: Connection, table: str, column: str, texts: Iterable[str]) -> dict[str, int]:
    return {text: _number(connection, table, (column,), (text,)) for text in dict.fromkeys(texts) if text}


def _add_results(connection: Connection, run: int, results: tuple[Result, ...]) -> None:
    rows = [
        (result, _clean(result.reason)[:_LONGEST_REASON], str(result.fault.signature) if result.fault else "")
        for result in results
    ]
    tests = _numbers(connection, "tests", "name", (_clean(result.test) for result in results))
    texts = _numbers(
        connection, "texts", "text", (text for result, *words in rows for text in (*words, _clean(result.board)))
    )
    connection.executemany(
        "INSERT OR REPLACE INTO results (run, test, verdict, actual, milliseconds, reason, signature, board)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                run,
                tests[_clean(result.test)],
                VERDICTS.index(result.verdict),
                VERDICTS.index(result.actual or result.verdict),
                round(1000 * result.seconds),
                texts.get(reason),
                texts.get(signature),
                texts.get(_clean(result.board)),
            )
            for result, reason, signature in rows
        ),
    )
    _add_repeats(connection, run, results, tests)


def _add_repeats(connection: Connection, run: int, results: tuple[Result, ...], tests: Mapping[str, int]) -> None:
    rows = [
        (tests[_clean(result.test)], number, repeat)
        for result in results
        for number, repeat in enumerate(result.repeats)
    ]
    signatures = {id(repeat): str(repeat.fault.signature) for _, _, repeat in rows if repeat.fault}
    texts = _numbers(connection, "texts", "text", signatures.values())
    connection.executemany(
        "INSERT INTO repeats (run, test, number, verdict, milliseconds, signature, condition)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                run,
                test,
                number,
                VERDICTS.index(repeat.actual or repeat.verdict),
                round(1000 * repeat.seconds),
                texts.get(signatures.get(id(repeat), "")),
                repeat.condition.value,
            )
            for test, number, repeat in rows
        ),
    )


def _clean(text: str) -> str:
    """SQLite takes no lone surrogates, which stand for undecodable bytes of a console."""
    return text.encode("utf-8", "backslashreplace").decode()
