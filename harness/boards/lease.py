"""Leases of boards for the length of a run: check that a board is reachable, lock it on this host, acquire its labgrid
place if other hosts share it, and guard it if several of our processes use it."""

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
    """Check `board` before it is acquired. Raises InfraError at once if it can't be reached from here, or if it is in
    use and `wait` is None."""
    try:
        with locked(board):
            _check(board)
    except lock.InUse:  # somebody else uses its line, which can't be checked then
        if wait is None:
            raise


@contextmanager
def acquire(board: BoardSpec, *, wait: float | None, say: Say) -> Iterator[HeldBoard]:
    """Acquire `board` for the length of the ``with``, on this host and, if other hosts share it, from labgrid. `wait`:
    how many seconds to wait for the lock on this host; None: not at all. Raises InfraError if the board can't be
    acquired."""
    with locked(board, wait=wait, say=say) as descriptors, _on_its_place(board, descriptors, say=say) as held:
        yield held


@contextmanager
def acquire_pool(
    board: BoardSpec, peers: Sequence[BoardEntry], *, wanted: int | None, wait: float | None, say: Say
) -> Iterator[tuple[HeldBoard, ...]]:
    """Acquire `board` like `acquire`, and with it those of `peers` that are free and reachable, up to `wanted` boards
    in all (None: no limit). `say` gets the reason for each peer that is left out. Several boards are guarded by this
    process, so that other processes of ours can boot them."""
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
            say(f"-j: {len(held)} of {wanted} boards: no other board of pool {board.pool!r} is available")
        if len(held) > 1:
            held = [until_done.enter_context(guarded(each)) for each in held]
        yield tuple(held)


def user_of(entry: BoardEntry) -> str:
    """Describe who uses the board now; empty if nobody does, or if its entry does not identify the machine."""
    return str(lock.holder_of(_machine(entry.board)) or "") if _identifies_machine(entry) else ""


@contextmanager
def locked_entry(entry: BoardEntry) -> Iterator[None]:
    """Hold the lock of a board whose entry may be incomplete, if the entry identifies the machine."""
    with ExitStack() as until_done:
        if _identifies_machine(entry):
            until_done.enter_context(locked(entry.board))
        yield


@contextmanager
def locked(board: BoardSpec, *, wait: float | None = None, say: Say = silent) -> Iterator[tuple[int, ...]]:
    """Hold the lock of `board` on this host and yield the descriptors that hold it; none if nobody else can use the
    board. `wait`: wait this many seconds for it, and report to `say` who uses the board. Raises lock.InUse, at once if
    `wait` is None."""
    machine = _machine(board)
    if not machine:
        yield ()
        return
    with lock.acquired(board.name, machine, purpose=command_line(), wait=wait, say=say) as descriptors:
        yield descriptors


def is_only_here(board: BoardSpec) -> bool:
    """Whether `board` is a machine that nothing but the locks of this host keeps others from using."""
    return bool(_machine(board)) and not board.labgrid


def lock_domain() -> str:
    """Return what tells the locks of this host from those of every other one. Raises InfraError."""
    return lock.domain()


def access_before(board: BoardSpec) -> Access:
    """Return how `board` is reached, as far as that is known before it is acquired; the coordinator is asked about a
    labgrid place. Raises UserError or InfraError if the place can't be acquired."""
    return place.look_up(board, records=_records()) if board.labgrid else board.access


@contextmanager
def _on_its_place(board: BoardSpec, descriptors: tuple[int, ...], *, say: Say) -> Iterator[HeldBoard]:
    """Acquire the labgrid place of `board`, if it has one, and yield the board; `descriptors` hold its lock."""
    if not board.labgrid:
        yield HeldBoard(spec=board, access=board.access, descriptors=descriptors)
        return
    with place.acquired(board, records=_records(), say=say) as ours:
        yield HeldBoard(spec=board, access=ours.access, descriptors=(ours.descriptor, *descriptors))


@contextmanager
def _acquire_free(entry: BoardEntry, *, say: Say) -> Iterator[HeldBoard]:
    """Acquire a board that is free and reachable; raises HarnessError if it is not."""
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
    """Return the name under which `board` is locked; empty if nobody else can use it."""
    return boot_method(board).machine(board)


def _identifies_machine(entry: BoardEntry) -> bool:
    """Return whether an entry identifies its machine, which it does by its console."""
    return not any(reason.startswith("console") for reason in entry.unset)


def _records() -> Path:
    """Return the directory in which the harnesses of this host record the places that they hold."""
    from harness.build.cache import cache_dir

    return cache_dir("boards")


def command_line() -> str:
    """Return the command line of this process."""
    return shlex.join(["harness", *sys.argv[1:]])
