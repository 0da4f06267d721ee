"""Boards for the length of a run: reached, locked against others on this host, acquired where other hosts share them,
and guarded where several of our processes use them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import HarnessError, UserError
from harness.model.board import Access, BoardEntry, BoardSpec
from harness.target.base import Say, silent
from harness.target.holding import lock, place
from harness.target.holding.guard import guarded
from harness.target.holding.held import HeldBoard
from harness.target.methods.table import boot_method


def ensure_reachable(board: BoardSpec, *, wait: float | None = None) -> None:
    """Before `board` is acquired: InfraError at once where it can't be reached from here, or somebody has it and nobody
    wants to `wait`."""
    try:
        with locked(board):
            _check(board)
    except lock.InUse:  # so its line is not ours to open
        if wait is None:
            raise


@contextmanager
def acquire(board: BoardSpec, *, wait: float | None, say: Say) -> Iterator[HeldBoard]:
    """`board` as it can be booted: ours within the ``with``, on this host and where other hosts use it too. `wait` is
    how many seconds to wait for the former."""
    with locked(board, wait=wait, say=say) as descriptors, _on_its_place(board, descriptors, say=say) as held:
        yield held


@contextmanager
def acquire_pool(
    board: BoardSpec, peers: Sequence[BoardEntry], *, wanted: int | None, wait: float | None, say: Say
) -> Iterator[tuple[HeldBoard, ...]]:
    """`board`, as `acquire` has it, and with it those of `peers` that are free and can be reached, `wanted` boards in
    all (None: all of them). What is left out, and why, is said. Several are to be booted by processes of ours."""
    with ExitStack() as until_done:
        held = [until_done.enter_context(acquire(board, wait=wait, say=say))]
        for peer in peers:
            if wanted is not None and len(held) == wanted:
                break
            try:
                held.append(until_done.enter_context(_acquire_free(peer, say=say)))
            except HarnessError as error:
                say(f"board {peer.board.name} left out: {error.message}")
        if wanted is not None and len(held) < wanted and board.pool:
            say(f"-j: {len(held)} of {wanted} boards: pool {board.pool!r} has no more that can be had")
        if len(held) > 1:
            held = [until_done.enter_context(guarded(each)) for each in held]
        yield tuple(held)


def user_of(entry: BoardEntry) -> str:
    """Who uses the board now; empty where nobody does, or its entry does not tell which machine it is."""
    return str(lock.holder_of(_machine(entry.board)) or "") if _is_told(entry) else ""


@contextmanager
def locked_entry(entry: BoardEntry) -> Iterator[None]:
    """Hold the lock of a board that may not be fit for use, where its entry tells which machine it is."""
    with ExitStack() as until_done:
        if _is_told(entry):
            until_done.enter_context(locked(entry.board))
        yield


@contextmanager
def locked(board: BoardSpec, *, wait: float | None = None, say: Say = silent) -> Iterator[tuple[int, ...]]:
    """Hold the lock of `board` on this host: the descriptors that hold it, none where no one else can have the board.
    `wait`: as many seconds, and `say` is told for whom. Raises lock.InUse, without `wait` at once."""
    machine = _machine(board)
    if not machine:
        yield ()
        return
    with lock.acquired(board.name, machine, purpose=command_line(), wait=wait, say=say) as descriptor:
        yield (descriptor,)


def access_before(board: BoardSpec) -> Access:
    """How `board` is reached, as far as it is known before it is acquired: a place is asked. UserError or InfraError
    where the place can't be had."""
    return place.look_up(board, records=_records()) if board.labgrid else board.access


@contextmanager
def _on_its_place(board: BoardSpec, descriptors: tuple[int, ...], *, say: Say) -> Iterator[HeldBoard]:
    """The board, locked by `descriptors`, once its place is acquired where it is one."""
    if not board.labgrid:
        yield HeldBoard(spec=board, access=board.access, descriptors=descriptors)
        return
    with place.acquired(board, records=_records(), say=say) as ours:
        yield HeldBoard(spec=board, access=ours.access, descriptors=(ours.descriptor, *descriptors))


@contextmanager
def _acquire_free(entry: BoardEntry, *, say: Say) -> Iterator[HeldBoard]:
    """A board, where nobody has it and it can be reached."""
    if entry.unset:
        raise UserError(entry.unset[0])
    board = entry.board
    with locked(board) as descriptors:
        _check(board)
        with _on_its_place(board, descriptors, say=say) as held:
            yield held


def _check(board: BoardSpec) -> None:
    boot_method(board).check(board, access_before(board))


def _machine(board: BoardSpec) -> str:
    """What `board` is locked as; empty where nobody else can have it."""
    return boot_method(board).machine(board)


def _is_told(entry: BoardEntry) -> bool:
    """Whether an entry tells which machine it is, which is where its console is."""
    return not any(reason.startswith("console") for reason in entry.unset)


def _records() -> Path:
    """Where this host's harnesses note which places they hold."""
    from harness.build.cache import cache_dir

    return cache_dir("boards")


def command_line() -> str:
    """The command that this process was started as."""
    return shlex.join(["harness", *sys.argv[1:]])
