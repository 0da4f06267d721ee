"""The one door to SQLite: opens the history's file, and turns SQLite's errors into ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from harness import shortage
from harness.errors import HarnessError, InfraError, UserError
from harness.store.schema import APPLICATION_ID, MIGRATIONS, VERSION

Connection = sqlite3.Connection  # a transaction on the history
_VARIABLE = "HARNESS_HISTORY"
_AGAIN_S = 0.01
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
    with _connected(path, writable=writable) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE" if writable else "BEGIN")
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


@contextlib.contextmanager
def maintained(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the history at `path` for maintenance: each statement is a transaction of its own. References are not
    checked: of a row that is deleted, SQLite would look for references in all rows of other tables.

    Raises what `opened` does, and UserError if there is no history."""
    _ensure_there(path)
    with _connected(path, writable=True) as connection:
        yield connection


def compact(connection: sqlite3.Connection) -> None:
    """Give the room of what was deleted back to the file system."""
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _ensure_there(path: Path) -> None:
    if not path.exists():
        raise UserError(
            f"{path}: expected a history, found none; runs are added to it when they end, see `harness history`"
        )


@contextlib.contextmanager
def _connected(path: Path, *, writable: bool) -> Iterator[sqlite3.Connection]:
    if not writable:
        _ensure_there(path)
    with _errors(path), contextlib.ExitStack() as at_the_end:
        with _errors_of_files(path):  # what is done with the connection has files of its own
            if writable:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = at_the_end.enter_context(contextlib.closing(_connection(path, writable=writable)))
            if _version_in(connection, path, writable=writable) < VERSION and not writable:
                with contextlib.closing(_connection(path, writable=True)) as other:
                    _prepare(other)
            if writable:
                _prepare(connection)
        yield connection


def _connection(path: Path, *, writable: bool) -> sqlite3.Connection:
    name = path if writable else f"file:{_quoted(path)}?mode=ro"
    return sqlite3.connect(name, uri=not writable, timeout=_WAIT_S, isolation_level=None)


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _version_in(connection: sqlite3.Connection, path: Path, *, writable: bool) -> int:
    """Return the version of the file, 0 for an empty one that is to be written. Raises UserError if it is not ours, or
    newer than we are."""
    connection.execute("BEGIN")  # otherwise another process may make the tables between one question and the next
    application, version = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
    )
    is_empty = not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] and version == 0
    connection.rollback()
    if is_empty and path.stat().st_size == 1:  # SQLite takes that for none: old systems had no files of no bytes
        raise UserError(f"{path}: expected a history of this harness, found a file of one byte; name another file")
    if application != APPLICATION_ID and is_empty and not writable:
        raise UserError(f"{path}: expected a history, found an empty file: no run has been added yet")
    if application != APPLICATION_ID and not is_empty:
        raise UserError(f"{path}: expected a history of this harness, found another database; name another file")
    if version > VERSION:
        raise UserError(
            f"{path}: expected a history of version {VERSION} or older, found version {version}, made by a newer "
            "harness; use that, or name another file"
        )
    return version


def _prepare(connection: sqlite3.Connection) -> None:
    """Make a connection that writes; the file becomes one of this version."""
    # readers and writers at once; every commit is synced, so what was acknowledged survives a power cut
    _log_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
        _migrate(connection)


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Turn the write-ahead log on, which the file then keeps. SQLite does not wait where several do so at once."""
    ends = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


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
    except sqlite3.Error as error:
        raise _told(error, path) from error


@contextlib.contextmanager
def _errors_of_files(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise shortage.of(error, where=path) or UserError(
            f"{path}: expected a file for the history, found: {error.strerror}"
        ) from error


def _told(error: sqlite3.Error, path: Path) -> HarnessError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return UserError(f"{path}: expected a history of this harness, found something else; name another file")
    if code == sqlite3.SQLITE_CORRUPT:
        return InfraError(f"{path}: the history is damaged ({error}); move it away: {_AGAIN}")
    if code == sqlite3.SQLITE_FULL:
        return shortage.of(OSError(28, os.strerror(28)), where=path) or InfraError(f"{path}: {error}")
    if code == sqlite3.SQLITE_INTERRUPT:
        return InfraError(f"{path}: expected an answer within the time limit, it takes longer; ask for fewer runs")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return InfraError(f"{path}: expected to be able to write within {_WAIT_S:.0f} s, others still do; try again")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return InfraError(f"{path}: expected a history that can be read and written, found: {error}")
    return InfraError(f"{path}: {error}")
