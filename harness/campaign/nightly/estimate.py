"""How long cells probably take: as in earlier nights of the plan, else as in other runs that the history knows."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.build.finished import load_record
from harness.campaign.kernel import FRAGMENTS
from harness.campaign.nightly.cells import Checked
from harness.errors import HarnessError
from harness.model.history import StoredRun
from harness.model.night import Estimate, Seen, Slot
from harness.model.result import EndKind
from harness.run.session import choose_suites
from harness.store import queries
from harness.store.database import history_file, opened

_RUNS = 1000
_OF_ONE_CELL = 5
_RECORDS = 10  # build.json files that are looked for


def estimates(
    checked: Checked,
    slots: Sequence[Slot],
    seen: Mapping[Slot, Seen],
    *,
    is_built: Callable[[Slot], bool],
) -> dict[Slot, Estimate]:
    """Return what each of `slots` probably takes."""
    runs: Sequence[StoredRun] = ()
    with contextlib.suppress(HarnessError), opened(history_file(checked.request.history)) as connection:
        runs = queries.latest_runs(connection, limit=_RUNS)
    past = _Past(checked, runs)
    return {slot: _estimate(past, slot, seen.get(slot, Seen()), is_built=is_built(slot)) for slot in slots}


def _estimate(past: _Past, slot: Slot, seen: Seen, *, is_built: bool) -> Estimate:
    test = seen.seconds if seen.seconds is not None else past.test_seconds(slot)
    if is_built:
        return Estimate(build=0.0, test=test)
    return Estimate(build=seen.build_seconds or past.build_seconds(slot), test=test)


class _Past:
    """What `runs` of the history, the latest first, say about slots. Slots that are alike in what matters are looked up
    once: there may be a hundred thousand."""

    def __init__(self, checked: Checked, runs: Sequence[StoredRun]) -> None:
        self._checked = checked
        self._runs = runs
        self._tests: dict[tuple[str, str, str], float | None] = {}
        self._builds: dict[tuple[str, str], float | None] = {}
        self._configs: dict[tuple[str, str], str] = {}

    def test_seconds(self, slot: Slot) -> float | None:
        """How long the latest runs of the same tests took on such boards, in this configuration if there were any."""
        alike = (slot.board, slot.suites, self._config(slot))
        if alike not in self._tests:
            self._tests[alike] = self._test_seconds(*alike)
        return self._tests[alike]

    def build_seconds(self, slot: Slot) -> float | None:
        """How long the latest builds of this configuration took that there still is a record of."""
        alike = (self._config(slot), "" if slot.is_built else "clang" if "clang" in slot.toolchain else "gcc")
        if alike not in self._builds:
            self._builds[alike] = self._build_seconds(*alike)
        return self._builds[alike]

    def _test_seconds(self, board: str, suites: str, config: str) -> float | None:
        boards = {each.name for each in self._checked.boards[board]}
        tests = self._checked.plan.suites[suites]
        words = [*sorted(choose_suites(tests.suites)), *([f"-k {tests.keyword}"] if tests.keyword else [])]
        requested = " ".join(words)
        alike = [
            run for run in self._runs if run.cell.board.partition(" (")[0] in boards and run.requested == requested
        ]
        nearest = [run for run in alike if run.cell.config == config] or alike
        took = [run.seconds for run in nearest if run.end == EndKind.COMPLETE][:_OF_ONE_CELL]
        return statistics.median(took) if took else None

    def _build_seconds(self, config: str, compiler: str) -> float | None:
        alike = [run for run in self._runs if run.cell.config == config and run.cell.toolchain.startswith(compiler)]
        took = []
        for run in alike[:_RECORDS]:
            with contextlib.suppress(HarnessError):
                if (seconds := load_record(Path(run.directory)).seconds) is not None:
                    took.append(seconds)
        return statistics.median(took) if took else None

    def _config(self, slot: Slot) -> str:
        """The configuration of a slot as the history names it; that of a kernel that others built has no name."""
        if slot.is_built:
            return ""
        alike = (slot.board, slot.configuration)
        if alike not in self._configs:
            board = self._checked.boards[slot.board][0]
            paths = [*(Path(name) for name in board.kconfigs), *self._checked.fragments(slot.configuration)]
            self._configs[alike] = "+".join([*FRAGMENTS, *(path.name.removesuffix(".config") for path in paths)])
        return self._configs[alike]
