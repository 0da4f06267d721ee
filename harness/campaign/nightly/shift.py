"""A night's work: builds are made one after the other, in the order in which cells need them, while every board tests
the cells whose builds are there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from harness.campaign.nightly.executor import Executor, Releasing, Tested
from harness.campaign.nightly.health import Health
from harness.campaign.nightly.leftover import finished
from harness.campaign.nightly.order import why_not
from harness.campaign.nightly.place import NightPlace
from harness.campaign.nightly.waiting import Waiting
from harness.errors import HarnessError, InfraError, KernelError, Unavailable, UserError
from harness.model.night import BoardHealth, Cell, Ended, Estimate, Seen, Slot, State
from harness.shortage import Shortage
from harness.target.base import Say

MOST_ATTEMPTS = 3
MOST_BUILD_ATTEMPTS = 2
PROBES = 3  # of a board that does not run a cell to its end in between
PROBE_EVERY_S = 600.0
_LONGEST_REASON = 2000  # characters; each of the cells of a build may have it
_TICK_S = 30.0  # at least so often it is looked whether the time is over


class Shift:
    """One night's work on `cells`, which are in order. `ended` gets what becomes of each.

    `deadline`: when nothing is begun any more, by `clock` (seconds since the epoch); None: never."""

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        executor: Executor,
        place: NightPlace,
        health: Health,
        seen: Mapping[Slot, Seen],
        estimates: Mapping[Slot, Estimate],
        deadline: float | None,
        clock: Callable[[], float],
        say: Say,
    ) -> None:
        self.ended: dict[Slot, Ended] = {}
        self._executor = executor
        self._place = place
        self._health = health
        self._seen = seen
        self._estimates = estimates
        self._deadline = deadline
        self._clock = clock
        self._say = say
        self._waiting = Waiting(cells)
        self._boards = self._waiting.boards
        self._turn = threading.RLock()
        self._calls = {board: threading.Condition(self._turn) for board in self._boards}
        self._idle: set[str] = set()
        self._present = set(self._boards)
        self._built: dict[str, float | None] = {}
        self._kept: set[str] = set()  # builds that the executor keeps
        self._failed_builds: dict[str, int] = {}
        self._tried: dict[Slot, list[str]] = {}
        self._attempts: dict[Slot, list[str]] = {}
        self._gaps: dict[Slot, tuple[Tested, Path]] = {}  # attempts with results of most tests, if not of all
        self._probes: Counter[str] = Counter()
        self._stopped = False
        self._error: BaseException | None = None

    def work(self) -> None:
        """Do it all. An exception stops what is running; what is done is in the night's directory then."""
        self._take_over()
        lanes: list[threading.Thread] = []
        try:
            for board in self._boards:
                lanes.append(threading.Thread(target=self._lane, args=(board,), name=f"board {board}"))
                _start(lanes[-1], of=len(self._boards))
            self._make_builds()
            for lane in lanes:
                lane.join()
            self._give_up_rest()
        finally:
            self._stop()
            for lane in lanes:
                if lane.is_alive():
                    lane.join()
        if self._error:
            raise self._error

    def _stop(self) -> None:
        self._stopped = True  # before anything that another signal could interrupt
        with self._turn:
            self._call(self._boards)
        self._executor.stop()

    def _take_over(self) -> None:
        """Take what earlier processes of this night finished, but did not get to write down."""
        attempts = self._place.attempts()
        for cell in self._waiting.all():
            for attempt, identity in attempts.get(cell.slot.directory, ()):
                if identity != cell.identity:
                    continue
                if ended := finished(attempt, cell.slot, identity=identity, asked=cell.asked):
                    self._waiting.drop(cell)
                    self._end(ended, attempt)
                    break

    # -- builds -------------------------------------------------------------------------------------------------------

    def _make_builds(self) -> None:
        while cell := self._next_build():
            try:
                seconds = self._executor.build(cell)
            except HarnessError as error:
                self._build_failed(cell, error)
            else:
                with self._turn:
                    self._built[cell.build] = seconds
                    self._kept.add(cell.build)
                    for each in self._waiting.built(cell.build):
                        self._offer(each)
                self._release_build(cell.build)  # if all of its cells were dropped meanwhile

    def _next_build(self) -> Cell | None:
        with self._turn:
            self._give_up_late()
            while not self._stopped and (cell := self._waiting.next_unbuilt()):
                if not (why := self._why_not(cell, is_built=False)):
                    return cell
                self._give_up(cell, why)
            return None

    def _build_failed(self, cell: Cell, error: HarnessError) -> None:
        """A fault of the kernel or of the plan is final. Otherwise the build is tried again when others are made."""
        state = State.NO_RESULT
        if isinstance(error, KernelError):
            state = State.NOT_BUILT
        elif isinstance(error, Unavailable):
            state = State.UNAVAILABLE
        elif isinstance(error, UserError):
            state = State.REFUSED
        reason = " ".join([error.message, *error.details[:3]])[:_LONGEST_REASON]
        with self._turn:
            self._failed_builds[cell.build] = self._failed_builds.get(cell.build, 0) + 1
            if not state.is_done and self._failed_builds[cell.build] < MOST_BUILD_ATTEMPTS:
                self._waiting.postpone(cell.build)
                self._say(f"{cell.slot}: its build failed: {reason}; it is tried again later")
                return
            of_it = self._waiting.of_build(cell.build)
        for each in of_it:
            self._drop(each, state, reason)

    # -- boards -------------------------------------------------------------------------------------------------------

    def _lane(self, board: str) -> None:
        """One board's night."""
        try:
            while self._is_usable(board) and (cell := self._take(board)):
                self._attempt(cell, board)
        except BaseException as error:
            self._error = self._error or error
            self._stop()
        finally:
            self._leave(board)

    def _is_usable(self, board: str) -> bool:
        """Look at a board that is in quarantine, several times if need be; return whether it can be used."""
        while self._health.quarantine(board) and self._is_wanted(board):
            if self._probes[board] == PROBES:
                return False
            if self._probes[board] and not self._pause(board):
                break
            self._probes[board] += 1
            if not (why := self._probed(board)):
                self._health.passed(board)
                break
            self._health.stays(board, why)
        return True

    def _pause(self, board: str) -> bool:
        """Wait until a board may be looked at again; return whether it is still wanted then."""
        with self._turn:
            left = PROBE_EVERY_S if self._deadline is None else min(PROBE_EVERY_S, self._deadline - self._clock())
            self._calls[board].wait_for(partial(self._is_not_needed, board), max(0.0, left))
        return self._is_wanted(board)

    def _probed(self, board: str) -> str:
        """Return what is wrong with a board."""
        try:
            return self._executor.probe(board)
        except HarnessError as error:
            return error.message

    def _is_wanted(self, board: str) -> bool:
        with self._turn:
            self._give_up_late()
            return not self._is_not_needed(board)

    def _is_not_needed(self, board: str) -> bool:
        return self._stopped or self._is_late() or not self._waiting.is_wanted(board)

    def _take(self, board: str) -> Cell | None:
        """Return the next cell for a board, waiting for builds and for cells that others may give back; None if there
        will be none."""
        with self._turn:
            while not self._stopped:
                self._give_up_late()
                while cell := self._waiting.take(board, partial(self._may_try, board)):
                    if not (why := self._why_not(cell, is_built=True)):
                        return cell
                    self._waiting.give_back(cell)
                    self._give_up(cell, why)
                if self._is_not_needed(board):
                    break
                self._idle.add(board)
                self._calls[board].wait(self._until_late())
                self._idle.discard(board)
        return None

    def _offer(self, cell: Cell) -> None:
        """Call one of the boards that have nothing to do and may run a cell. The caller has the turn."""
        for board in cell.candidates:
            if board in self._idle and self._may_try(board, cell):
                self._idle.discard(board)
                self._calls[board].notify_all()
                return

    def _call(self, boards: Iterable[str]) -> None:
        """Let boards look again at what there is to do. The caller has the turn."""
        for board in boards:
            self._idle.discard(board)
            self._calls[board].notify_all()

    def _may_try(self, board: str, cell: Cell) -> bool:
        """A cell that failed on a board is tried on the others first."""
        tried = self._tried.get(cell.slot, [])
        return board not in tried or self._present & set(cell.candidates) <= set(tried)

    def _attempt(self, cell: Cell, board: str) -> None:
        attempt, short = self._place.attempt(cell), False
        self._say(f"{cell.slot}: begins on {board}")
        try:
            tested = self._executor.test(cell, board, attempt)
        except HarnessError as error:
            short = isinstance(error, Shortage)
            tested = Tested(code=error.exit_code, board=board, spares_board=short, reason=error.message)
        if self._stopped and tested.state is not State.TESTED:
            return  # it did not fail, it was ended
        if tested.state:
            if tested.state is State.TESTED:
                self._health.worked(board)
                self._probes[board] = 0
            self._over(cell, self._ended(cell, tested, tested.state), attempt)
            return
        self._failed(cell, board, tested, attempt)
        if short:  # tried again at once, all cells would have failed within seconds
            self._pause(board)

    def _failed(self, cell: Cell, board: str, tested: Tested, attempt: Path) -> None:
        told = f"{board}: {tested.reason}"[:_LONGEST_REASON]
        if not tested.spares_board:
            self._health.failed(board, tested.reason)
        self._say(f"{cell.slot}: no fault of the kernel: {told}")
        with self._turn:
            self._attempts.setdefault(cell.slot, []).append(told)
            self._tried.setdefault(cell.slot, []).append(board)
            if tested.is_over:
                self._gaps[cell.slot] = (tested, attempt)
            if len(self._attempts[cell.slot]) < MOST_ATTEMPTS:
                self._waiting.give_back(cell, last=True)
                self._offer(cell)
                return
        self._over(cell, *self._given_up(cell, State.NO_RESULT, told))

    def _leave(self, board: str) -> None:
        """A board is of no use any more, or no use is made of it."""
        with self._turn:
            self._present.discard(board)
            if self._is_not_needed(board):
                return
            lost = [cell for cell in self._waiting.all() if not self._present & set(cell.candidates)]
            self._call(self._present)  # what they have tried in vain, they may have to try again
        known = self._health.quarantine(board) or BoardHealth()
        for cell in lost:
            self._drop(cell, State.NO_RESULT, f"board {board} is in quarantine: {known.reason}")

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _why_not(self, cell: Cell, *, is_built: bool) -> str:
        left = None if self._deadline is None else self._deadline - self._clock()
        return why_not(self._estimates.get(cell.slot, Estimate()), is_built=is_built, left=left)

    def _give_up_late(self) -> None:
        """When the time is over, drop everything that waits. The caller has the turn."""
        if self._is_late():
            for cell in self._waiting.all():
                self._give_up(cell, self._why_not(cell, is_built=True))

    def _give_up_rest(self) -> None:
        """Drop what the boards left behind that saw the time was over when they went."""
        with self._turn:
            for cell in self._waiting.all():
                self._give_up(cell, self._why_not(cell, is_built=True) or "no board was left")

    def _is_late(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    def _give_up(self, cell: Cell, why: str) -> None:
        """Drop a cell that the time does not suffice for; its attempts so far failed on the lab's account."""
        self._drop(cell, State.NO_RESULT if cell.slot in self._attempts else State.NOT_RUN, why)

    def _until_late(self) -> float | None:
        if self._deadline is None:
            return None
        return min(_TICK_S, max(0.01, self._deadline - self._clock()))

    def _given_up(self, cell: Cell, state: State, reason: str) -> tuple[Ended, Path | None]:
        """Return what becomes of a cell that is not tried again, and its files if it is done."""
        if state is State.NO_RESULT and cell.slot in self._gaps:
            tested, attempt = self._gaps[cell.slot]
            return self._ended(cell, tested, State.TESTED), attempt
        ended = self._ended(cell, Tested(code=0, reason=reason), state)
        return ended, self._place.attempt(cell) if state.is_done else None

    def _ended(self, cell: Cell, tested: Tested, state: State) -> Ended:
        return Ended(
            slot=cell.slot,
            state=state,
            identity=cell.identity,
            asked=cell.asked,
            code=tested.code,
            board=tested.board,
            seconds=tested.seconds,
            build_seconds=self._built.get(cell.build),
            run=tested.run,
            reason=tested.reason[:_LONGEST_REASON],
            attempts=tuple(self._attempts.get(cell.slot, ())),
            owed=0 if state.is_done else self._seen.get(cell.slot, Seen()).owed + 1,
        )

    def _drop(self, cell: Cell, state: State, reason: str) -> None:
        """A cell that waits is over, unless it is already."""
        with self._turn:
            if not self._waiting.drop(cell):
                return
        self._end(*self._given_up(cell, state, reason))
        self._release(cell)

    def _over(self, cell: Cell, ended: Ended, attempt: Path | None) -> None:
        """A cell that was taken is over."""
        self._end(ended, attempt)
        with self._turn:
            self._waiting.over(cell)
        self._release(cell)

    def _release(self, cell: Cell) -> None:
        """Let the boards and the build of a cell go that no other cell needs."""
        with self._turn:
            if not self._waiting.is_open(cell):
                self._call(board for board in cell.candidates if not self._waiting.is_wanted(board))
        self._release_build(cell.build)

    def _release_build(self, build: str) -> None:
        with self._turn:
            if build not in self._kept or self._waiting.is_build_needed(build):
                return
            self._kept.remove(build)
        if isinstance(self._executor, Releasing):
            self._executor.release(build)

    def _end(self, ended: Ended, attempt: Path | None) -> None:
        """Write down what became of a cell if it is done, and say it."""
        if attempt and ended.state.is_done:
            self._place.publish(attempt, ended)
        with self._turn:
            self.ended[ended.slot] = ended
        self._say(f"{ended.slot}: {ended.state}{f': {ended.reason}' if ended.reason else ''}")


def _start(lane: threading.Thread, *, of: int) -> None:
    try:
        lane.start()
    except RuntimeError as error:  # how Python tells that the host gives no more threads
        raise InfraError(
            f"a night on {of} boards needs as many threads, this host gives no more ({error}); end other programs, or "
            "raise the limit of processes (`ulimit -u`, TasksMax= of a service)"
        ) from None
