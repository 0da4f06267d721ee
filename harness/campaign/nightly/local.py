"""The executor of one machine: builds in this process, each run in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from harness.boards.inspection import what_is_wrong
from harness.boards.inventory import Inventory
from harness.build.finished import load_record
from harness.build.prebuilt.assemble import Wish, assemble
from harness.campaign.kernel import build_kernel
from harness.campaign.nightly.cells import Recipe
from harness.campaign.nightly.executor import Tested, left_in
from harness.campaign.nightly.place import RUN
from harness.errors import InfraError
from harness.model.kernel import Build
from harness.model.night import Cell
from harness.model.progress import Progress
from harness.run.side_run import SideRuns

WAIT_S = 600  # for a board that somebody else uses, or whose earlier run is ending


class LocalExecutor:
    """See Executor. `recipes`: what the builds are made from, by their keys."""

    def __init__(
        self, recipes: Mapping[str, Recipe], *, inventory: Inventory, side_runs: SideRuns, progress: Progress
    ) -> None:
        self._recipes = recipes
        self._inventory = inventory
        self._side_runs = side_runs
        self._progress = progress
        self._builds: dict[str, Build] = {}  # each stays in the cache as long as it is here
        self._lock = threading.Lock()
        self._stopped = False

    def build(self, cell: Cell) -> float | None:
        recipe = self._recipes[cell.build]
        if isinstance(recipe.spec, Wish):
            made = assemble(recipe.spec, progress=self._progress)
        else:
            made = build_kernel(recipe.spec, recipe.options, self._progress)
        with self._lock:
            self._builds[cell.build] = made
        return load_record(made.directory).seconds

    def built(self, key: str) -> Build:
        """Return a build that this executor has made."""
        with self._lock:
            return self._builds[key]

    def test(self, cell: Cell, board: str, place: Path) -> Tested:
        with self._lock:
            if self._stopped:
                raise InfraError("the night was ended")
            build = self._builds[cell.build]
        words = ["--build", build.directory, "--board", board, "--wait", WAIT_S, *words_of(cell)]
        ended = self._side_runs.run_words(words, place / RUN)
        return left_in(place, code=ended.code, board=board, reason=ended.last_line if ended.code else "")

    def release(self, build: str) -> None:
        with self._lock:
            self._builds.pop(build, None)

    def probe(self, board: str) -> str:
        return what_is_wrong(self._inventory.entry(board))

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
        self._side_runs.stop()


def words_of(cell: Cell) -> list[object]:
    """Return the options of `harness run` that say what a cell tests, and how."""
    words: list[object] = [word for suite in cell.tests.suites for word in ("--suite", suite)]
    words += ["-k", cell.tests.keyword] if cell.tests.keyword else []
    return [*words, "--timeout-factor", cell.settings.timeout_factor, "-j", cell.settings.workers]
