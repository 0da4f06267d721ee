"""The cells that a night has not begun, by what they wait for: a build, or a board. No threads, no I/O.

Nothing here takes longer with more cells, except what concerns all of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence

from harness.model.night import Cell, Slot

_Boards = tuple[str, ...]


class Waiting:
    """`cells` are in the order in which they come. Each leaves by `take` or `drop`; what was taken comes back by
    `give_back`, or is over with `over`."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._rank = {cell.slot: number for number, cell in enumerate(cells)}
        self._last = len(cells)
        self._here = {cell.slot: cell for cell in cells}
        self._unbuilt: dict[str, dict[Slot, Cell]] = {}
        self._ready: dict[_Boards, list[tuple[int, Slot]]] = {cell.candidates: [] for cell in cells}
        self._open = Counter(cell.candidates for cell in cells)
        self._open_builds = Counter(cell.build for cell in cells)
        self._of_board: dict[str, list[_Boards]] = {}
        for cell in cells:
            self._unbuilt.setdefault(cell.build, {})[cell.slot] = cell
        for boards in self._open:
            for board in boards:
                self._of_board.setdefault(board, []).append(boards)

    @property
    def boards(self) -> tuple[str, ...]:
        """All boards that any of the cells may run on."""
        return tuple(self._of_board)

    def all(self) -> list[Cell]:
        """Everything that waits."""
        return list(self._here.values())

    def next_unbuilt(self) -> Cell | None:
        """The first cell whose build is not there."""
        of_build = next(iter(self._unbuilt.values()), None)
        return next(iter(of_build.values())) if of_build else None

    def built(self, build: str) -> list[Cell]:
        """The build is there; return the cells that wait for a board now."""
        cells = list(self._unbuilt.pop(build, {}).values())
        for cell in cells:
            heapq.heappush(self._ready[cell.candidates], (self._rank[cell.slot], cell.slot))
        return cells

    def postpone(self, build: str) -> None:
        """Let a build come after all others."""
        if build in self._unbuilt:
            self._unbuilt[build] = self._unbuilt.pop(build)

    def of_build(self, build: str) -> list[Cell]:
        """The cells that wait for a build."""
        return list(self._unbuilt.get(build, {}).values())

    def take(self, board: str, may: Callable[[Cell], bool]) -> Cell | None:
        """Take the first cell for a board whose build is there, of those that it `may` run."""
        passed: list[tuple[_Boards, tuple[int, Slot]]] = []
        try:
            while queues := [boards for boards in self._of_board[board] if self._ready[boards]]:
                boards = min(queues, key=lambda each: self._ready[each][0])
                entry = heapq.heappop(self._ready[boards])
                cell = self._here.get(entry[1])
                if cell is None:  # it was dropped
                    continue
                if may(cell):
                    del self._here[cell.slot]
                    return cell
                passed.append((boards, entry))
            return None
        finally:
            for boards, entry in passed:
                heapq.heappush(self._ready[boards], entry)

    def give_back(self, cell: Cell, *, last: bool = False) -> None:
        """A cell that was taken waits for a board again; `last`: behind all others."""
        if last:
            self._last += 1
            self._rank[cell.slot] = self._last
        self._here[cell.slot] = cell
        heapq.heappush(self._ready[cell.candidates], (self._rank[cell.slot], cell.slot))

    def drop(self, cell: Cell) -> bool:
        """A cell that waits is over; return whether it was waiting."""
        if self._here.pop(cell.slot, None) is None:
            return False
        if of_build := self._unbuilt.get(cell.build):
            of_build.pop(cell.slot, None)
            if not of_build:
                del self._unbuilt[cell.build]
        self.over(cell)
        return True

    def over(self, cell: Cell) -> None:
        """A cell that was taken does not come back."""
        self._open[cell.candidates] -= 1
        self._open_builds[cell.build] -= 1

    def is_open(self, cell: Cell) -> bool:
        """Whether any cell for the same boards is not over."""
        return self._open[cell.candidates] > 0

    def is_build_needed(self, build: str) -> bool:
        """Whether any cell of a build is not over."""
        return self._open_builds[build] > 0

    def is_wanted(self, board: str) -> bool:
        """Whether any cell that a board may run is not over: it waits, or it is being run and may come back."""
        return any(self._open[boards] for boards in self._of_board[board])
