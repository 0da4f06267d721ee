"""The one door to SQLite: opens the history's file, and turns SQLite's errors into ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from harness import shortage
from harness.errors import HarnessError, InfraError, UserError
from harness.store.schema import APPLICATION_ID, MIGRATIONS, VERSION

Connection = sqlite3.Connection  # a transaction on the history
_VARIABLE = "HARNESS_HISTORY"
_WAIT_S = 60.0  # for other writers, each of which takes a fraction of a second
_AGAIN = "it can be made again from the run directories: `harness history add DIR...`"


def history_file(given: Path | None = None) -> Path:
    """Return the path of the history: as given, else of $HARNESS_HISTORY, else below $XDG_DATA_HOME."""
    named = given or (Path(os.environ[_VARIABLE]) if os.environ.get(_VARIABLE) else None)
    return named or platformdirs.user_data_path("arm64-ftrace-harness", appauthor=False) / "history.sqlite"


@contextlib.contextmanager
def opened(path: Path, *, writable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the history at `path`; created if missing and `writable`. Everything that is done with the connection is one
    transaction, which is on the disk when this ends, or has not happened.

    Raises UserError if `path` is something else, or of a newer harness, and InfraError if it is damaged, or can't be
    read or written."""
    if not writable and not path.exists():
        raise UserError(
            f"{path}: expected a history, found none; runs are added to it when they end, see `harness history`"
        )
    with _errors(path):
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path if writable else f"file:{_quoted(path)}?mode=ro",
            uri=not writable,
            timeout=_WAIT_S,
            isolation_level=None,
        )
        with contextlib.closing(connection):
            _prepare(connection, path, writable=writable)
            connection.execute("BEGIN IMMEDIATE" if writable else "BEGIN")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _prepare(connection: sqlite3.Connection, path: Path, *, writable: bool) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and not (writable and is_empty and version == 0):
        raise UserError(f"{path}: expected a history of this harness, found another database; name another file")
    if version > VERSION:
        raise UserError(
            f"{path}: expected a history of version {VERSION} or older, found version {version}, made by a newer "
            "harness; use that, or name another file"
        )
    connection.execute("PRAGMA foreign_keys = ON")
    if writable:
        # readers and writers at once; every commit is synced, so what was acknowledged survives a power cut
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if version < VERSION:
            _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version, in one transaction; another process may do it at the same time."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for number in range(version, VERSION):
            for statement in MIGRATIONS[number].split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise shortage.of(error, where=path) or UserError(
            f"{path}: expected a file for the history, found: {error.strerror}"
        ) from error
    except sqlite3.Error as error:
        raise _told(error, path) from error


def _told(error: sqlite3.Error, path: Path) -> HarnessError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return UserError(f"{path}: expected a history of this harness, found something else; name another file")
    if code == sqlite3.SQLITE_CORRUPT:
        return InfraError(f"{path}: the history is damaged ({error}); move it away: {_AGAIN}")
    if code == sqlite3.SQLITE_FULL:
        return shortage.of(OSError(28, os.strerror(28)), where=path) or InfraError(f"{path}: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InfraError(f"{path}: expected to be able to write within {_WAIT_S:.0f} s, others still do; try again")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return InfraError(f"{path}: expected a history that can be read and written, found: {error}")
    return InfraError(f"{path}: {error}")
