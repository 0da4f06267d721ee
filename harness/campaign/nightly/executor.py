"""Who carries out the cells of a night: the seam between planning and machines.

The plan's process decides what is built and tested where and when. An executor only does it, and may do it elsewhere;
what a test leaves arrives in a directory here."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.campaign.nightly.place import RUN
from harness.errors import EXIT_INFRA, EXIT_KERNEL, EXIT_OK, EXIT_USER, UserError
from harness.model.night import Cell, State
from harness.model.result import EndKind, RunResults
from harness.run.documents import read_results

_OVER = (EndKind.COMPLETE, EndKind.MAXFAIL)
_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, kw_only=True)
class Tested:
    """How an attempt at a cell ended. `code`: the exit code of its run; `run`: its id; `is_over`: whether the run came
    to its own end, or the kernel did not boot: it has all the results that it can have; `spares_board`: whether
    it ended for a reason that says nothing about the board: somebody ended it, or this host lacks something."""

    code: int
    board: str = ""
    run: str = ""
    seconds: float = 0.0
    is_over: bool = False
    spares_board: bool = False
    reason: str = ""

    @property
    def state(self) -> State | None:
        """What the attempt makes of its cell; None: it failed through no fault of kernel or plan."""
        if self.code == EXIT_USER:
            return State.REFUSED
        return State.TESTED if self.is_over and self.code in (EXIT_OK, EXIT_KERNEL) else None


class Executor(Protocol):
    """Builds and tests cells. All methods but `build` are called by several threads at once."""

    def build(self, cell: Cell) -> float | None:
        """Have the build of a cell where its boards can use it until the night ends, or it is released; return how many
        seconds it took when it was made. Raises HarnessError."""

    def test(self, cell: Cell, board: str, place: Path) -> Tested:
        """Run a cell whose build there is on one of its candidates; the run's files are in `place`/run afterwards.
        Raises HarnessError."""

    def probe(self, board: str) -> str:
        """Look at a board without using it; return what is wrong with it, empty if nothing is."""

    def stop(self) -> None:
        """End what is running, and begin nothing any more."""


@runtime_checkable
class Releasing(Protocol):
    """An executor that keeps builds no longer than they are needed: with hundreds of them the disk would fill."""

    def release(self, build: str) -> None:
        """No cell needs the build with this key any more. Called by several threads at once."""


def left_in(place: Path, *, code: int | None = None, board: str = "", reason: str = "") -> Tested:
    """Return how the attempt in `place` ended, from what it left. `code`: the exit code of its run; None: not known,
    because nobody saw its end."""
    try:
        results = read_results(place / RUN)
    except UserError:
        spares = _is_ended_by_signal(code)
        return Tested(code=EXIT_INFRA if code is None else code, board=board, spares_board=spares, reason=reason)
    code = _code(results) if code is None else code
    return Tested(
        code=code,
        board=board or results.record.board.name,
        run=results.record.id,
        seconds=results.seconds,
        is_over=_is_over(results),
        spares_board=_is_ended_by_signal(code) or bool(results.ended and results.ended.kind is EndKind.INTERRUPTED),
        reason=_reason(results, code, reason),
    )


def _reason(results: RunResults, code: int, told: str) -> str:
    """What there is to say besides the results: nothing where a run came to its end as it should."""
    ended = results.ended
    if ended and ended.blames_kernel:
        return str(ended)
    if _is_over(results) and code in (EXIT_OK, EXIT_KERNEL):
        return ""
    return told or (str(ended) if ended else "it was killed")


def _is_over(results: RunResults) -> bool:
    if results.ended is None:
        return False
    return bool(results.ended.kind in _OVER and results.results) or results.ended.blames_kernel


def _code(results: RunResults) -> int:
    return EXIT_KERNEL if results.ended and results.ended.blames_kernel else results.exit_code


def _is_ended_by_signal(code: int | None) -> bool:
    return code is not None and (code < 0 or code == _INTERRUPTED)
