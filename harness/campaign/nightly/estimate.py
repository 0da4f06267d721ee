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
    return {slot: _estimate(checked, slot, seen.get(slot, Seen()), runs, is_built=is_built(slot)) for slot in slots}


def _estimate(checked: Checked, slot: Slot, seen: Seen, runs: Sequence[StoredRun], *, is_built: bool) -> Estimate:
    test = seen.seconds if seen.seconds is not None else _test_seconds(checked, slot, runs)
    if is_built:
        return Estimate(build=0.0, test=test)
    return Estimate(build=seen.build_seconds or _build_seconds(checked, slot, runs), test=test)


def _test_seconds(checked: Checked, slot: Slot, runs: Sequence[StoredRun]) -> float | None:
    """How long the latest runs of the same tests took on such boards, in this configuration if there were any."""
    boards = {board.name for board in checked.boards[slot.board]}
    tests = checked.plan.suites[slot.suites]
    requested = " ".join([*sorted(choose_suites(tests.suites)), *([f"-k {tests.keyword}"] if tests.keyword else [])])
    alike = [run for run in runs if run.cell.board.partition(" (")[0] in boards and run.requested == requested]
    nearest = [run for run in alike if run.cell.config == _config(checked, slot)] or alike
    took = [run.seconds for run in nearest if run.end == EndKind.COMPLETE][:_OF_ONE_CELL]
    return statistics.median(took) if took else None


def _config(checked: Checked, slot: Slot) -> str:
    """The configuration of a slot as the history names it; that of a kernel that others built has no name."""
    if slot.is_built:
        return ""
    board = checked.boards[slot.board][0]
    paths = [*(Path(name) for name in board.kconfigs), *checked.fragments(slot.configuration)]
    return "+".join([*FRAGMENTS, *(path.name.removesuffix(".config") for path in paths)])


def _build_seconds(checked: Checked, slot: Slot, runs: Sequence[StoredRun]) -> float | None:
    """How long the latest builds of this configuration took that there still is a record of."""
    config = _config(checked, slot)
    compiler = "" if slot.is_built else "clang" if "clang" in slot.toolchain else "gcc"
    alike = [run for run in runs if run.cell.config == config and run.cell.toolchain.startswith(compiler)]
    took = []
    for run in alike[:_RECORDS]:
        with contextlib.suppress(HarnessError):
            if (seconds := load_record(Path(run.directory)).seconds) is not None:
                took.append(seconds)
    return statistics.median(took) if took else None
