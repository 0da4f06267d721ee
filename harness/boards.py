"""Which boards there are, whether they can be reached and who has them. What `harness boards` and a board that is not
there need is here, and nothing that takes long to import."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from harness.errors import HarnessError, InfraError, UserError
from harness.layout import BOARDS, BOARDS_DOCS, KCONFIGS
from harness.model.board import Board
from harness.parse.boards import parse_boards
from harness.parse.boards_schema import schema
from harness.target.base import Say
from harness.target.holding import lock, place
from harness.target.holding.guard import guarded
from harness.target.methods import table as boot
from harness.target.methods.checks import Check, Finding, findings
from harness.target.methods.table import boot_method


def boards_in(file: Path | None) -> dict[str, Board]:
    path = file or Path(os.environ.get("HARNESS_BOARDS") or BOARDS)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a file that describes boards, can't read it: {error}") from None
    return parse_boards(text, place=path.name, lookup=partial(_from_outside, beside=path.parent))


def boards_schema() -> str:
    """The JSON schema of boards.yaml, as docs/boards.schema.json has it."""
    return json.dumps(schema(BOARDS_DOCS.read_text()), indent=1, ensure_ascii=False)


def _from_outside(name: str, *, beside: Path) -> str:
    """What boards.yaml means by ``${NAME}`` (environment) or ``${file:PATH}`` (relative to the directory `beside`)."""
    kind, _, path = name.partition(":")
    if kind == "file":
        try:
            return (beside / Path(path).expanduser()).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise LookupError(f"expected a file {path}, can't read it: {reason}") from None
    if name not in os.environ:
        raise LookupError(f"expected the environment variable {name} to be set, found none")
    return os.environ[name]


def board_known(name: str, file: Path | None) -> Board:
    """The board `name`, which may not be fit for use."""
    known = boards_in(file)
    if name not in known:
        raise UserError(f"--board: expected one of {', '.join(sorted(known))}, found {name!r}")
    return known[name]


def board_named(name: str, file: Path | None) -> Board:
    board = board_known(name, file)
    if board.unset:
        first, *more = (f"boards.yaml: {name}.{reason}" for reason in board.unset)
        raise UserError(first, details=more)
    return board


def reachable_board(name: str, file: Path | None, *, wait: float | None = None) -> Board:
    """The board `name`, which is going to be booted: InfraError at once where it can't be reached from here, or
    somebody has it and nobody wants to `wait`."""
    board = board_named(name, file)
    try:
        with lock.held(board, _machine(board), purpose=command_line()):
            boot.check(board, records=_records())
    except lock.InUse:  # so its line is not ours to open
        if wait is None:
            raise
    return board


def _machine(board: Board) -> str:
    """What `board` is locked as; empty where its entry does not tell, because the console's values are missing."""
    return "" if any(reason.startswith("console") for reason in board.unset) else boot_method(board).machine(board)


@contextmanager
def had(board: Board, *, wait: float | None, say: Say) -> Iterator[Board]:
    """The board as it can be booted: ours within the ``with``, on this host and where other hosts use it too. `wait` is
    how many seconds to wait for the former."""
    with (
        lock.held(board, _machine(board), purpose=command_line(), wait=wait, say=say),
        boot.held(board, records=_records(), say=say) as ready,
    ):
        yield ready


def mates_of(board: Board, file: Path | None, wanted: int | None) -> list[Board]:
    """The boards that may run tests beside `board`, where ``-j`` asks for `wanted` (None: all there are): the others of
    its pool. UserError where it has no pool and `wanted` can't be had."""
    if wanted == 1 or boot_method(board).snapshots:
        return []
    if board.pool:
        return [other for other in boards_in(file).values() if other.pool == board.pool and other.name != board.name]
    if wanted is None:
        return []
    raise UserError(
        f"-j {wanted}: expected a board that has equal ones, {board.name} has no `pool`; give equal boards the same "
        "`pool: NAME` in boards.yaml, or leave -j out"
    )


@contextmanager
def had_together(
    board: Board, mates: Sequence[Board], *, wanted: int | None, wait: float | None, say: Say
) -> Iterator[tuple[Board, ...]]:
    """`board`, had as `had` has it, and with it those of `mates` that are free and can be reached, `wanted` boards in
    all (None: all of them). What is left out, and why, is said. Several are to be booted by processes of ours."""
    with ExitStack() as until_done:
        ready = [until_done.enter_context(had(board, wait=wait, say=say))]
        for mate in mates:
            if wanted is not None and len(ready) == wanted:
                break
            try:
                ready.append(until_done.enter_context(_had_if_free(mate, say=say)))
            except HarnessError as error:
                say(f"board {mate.name} left out: {error.message}")
        if wanted is not None and len(ready) < wanted and board.pool:
            say(f"-j: {len(ready)} of {wanted} boards: pool {board.pool!r} has no more that can be had")
        if len(ready) > 1:
            ready = [until_done.enter_context(guarded(each)) for each in ready]
        yield tuple(ready)


@contextmanager
def _had_if_free(board: Board, *, say: Say) -> Iterator[Board]:
    """`board`, where nobody has it and it can be reached."""
    if board.unset:
        raise UserError(board.unset[0])
    with lock.held(board, _machine(board), purpose=command_line()):
        boot.check(board, records=_records())
        with boot.held(board, records=_records(), say=say) as ready:
            yield ready


def _records() -> Path:
    """Where this host's harnesses note which places they hold."""
    from harness.build.cache import cache_dir

    return cache_dir("boards")


def who_has(board: Board) -> str:
    """Who uses `board` now; empty where nobody does."""
    return str(lock.holder_of(_machine(board)) or "")


def looked_at(name: str, file: Path | None) -> Iterator[Finding]:
    """What can be seen of the board `name` without booting it."""
    board = board_known(name, file)
    method = boot_method(board)
    checks = [*method.checks(board), Check(name="kconfigs", key="kconfigs", look=partial(_kconfigs, board))]
    if board.labgrid:
        known = _OnPlace(board)
        checks = [replace(c, look=partial(known.look, c.name)) if c.key == "ssh" else c for c in checks]
        checks.append(Check(name="labgrid", key="labgrid", look=known.told))
    with ExitStack() as until_seen:
        try:
            until_seen.enter_context(lock.held(board, _machine(board), purpose=command_line()))
        except InfraError as error:  # its line is not ours to open
            busy = partial(_fails, error)
            checks = [replace(check, look=busy) if check.key == "console" else check for check in checks]
        yield from findings(board, checks)


class _OnPlace:
    """A board as its labgrid place tells it, which is asked by one at a time: two would be in each other's way."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._asking = threading.Lock()
        self._known: Board | None = None

    def _asked(self) -> Board:
        with self._asking:
            self._known = self._known or place.look(self._board, records=_records())
            return self._known

    def told(self) -> str:
        """What is said of the place itself."""
        named = self._asked().labgrid
        assert named
        return f"{named.coordinator} has the place {named.place}, free or ours, with console and power"

    def look(self, name: str) -> str:
        """What the check `name` finds where the place says that the board is."""
        known = self._asked()
        [check] = [check for check in boot_method(known).checks(known) if check.name == name]
        return check.look()


def _fails(error: InfraError) -> NoReturn:
    raise error


def _kconfigs(board: Board) -> str:
    missing = [name for name in board.kconfigs if not (KCONFIGS / name).is_file()]
    if missing:
        raise UserError(f"{board.name}.kconfigs: expected files below {KCONFIGS}, found no {', '.join(missing)}")
    return ", ".join(board.kconfigs) or "none"


def command_line() -> str:
    """The command that this process was started as."""
    return shlex.join(["harness", *sys.argv[1:]])
