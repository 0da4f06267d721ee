"""A lab for nights that builds, boots and waits for nothing: what it says of builds and runs is scripted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.campaign.nightly import night
from harness.campaign.nightly.cells import Checked, Resolved, check
from harness.campaign.nightly.executor import Tested, left_in
from harness.campaign.nightly.place import NightPlace, Place
from harness.campaign.request import NightRequest
from harness.errors import HarnessError
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.night import Cell, Morning, Settings, Slot, State
from harness.model.progress import Silent
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.parse.events import event_to_json

BOARDS = """
defaults:
  farm:
    console: {kind: serial, device: /dev/serial/by-id/usb-x}
    power: {kind: tasmota, host: h}
    boot: {method: uboot, tftp_root: /t}
    pool: farm
boards:
  one: {boot: {method: qemu}}
  a: {like: farm}
  b: {like: farm}
"""
PLAN = """
kernels: {stable: {kernel: 7.3.4}, next: {kernel: "7.4"}}
configurations: {default: [], size: [variants/size]}
boards: [one]
suites: {ours: {suites: [testcases]}}
"""
ONE = "kernels: {stable: {kernel: 7.3.4}}\nboards: [one]\nsuites: {ours: {suites: [testcases]}}\n"
SLOT = "stable/gcc/default/one/ours"  # the only one of that
BUILD_S, TEST_S = 600.0, 300.0
TESTS = ("testcases/t/test_a.py::test_a", "testcases/t/test_b.py::test_b")


class Lines(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@dataclass
class Lab:
    """An executor, and everything around it.

    `says`: how attempts at a slot end, one after the other, the last one again and again: PASS, FAIL, BOOT (the kernel
    does not), LAB (no results), ENDED (by a signal), GAP (results, but one of the lab's), INPUT; by ``slot`` or
    ``slot on board``. `builds`: errors of builds in the same way. `probes`: what is found wrong with a board, likewise.
    `moved`: kernels that are not what they were. `unknown`: kernels that can't be determined. `log`: what was done, in
    order; `notes`: a file that names the slots whose runs came to their end."""

    directory: Path
    plan: str = PLAN
    now: float = 1_800_000_000.0
    says: dict[str, list[str]] = field(default_factory=dict)
    builds: dict[str, list[HarnessError | None]] = field(default_factory=dict)
    probes: dict[str, list[str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, HarnessError] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    notes: Path | None = None
    stopped: bool = False
    build_s: float = BUILD_S
    test_s: float = TEST_S

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.lines = Lines()
        self.is_testing = threading.Semaphore(0)
        self.may_go_on: threading.Event | None = None
        (self.directory / "boards.yaml").write_text(BOARDS)

    @property
    def out(self) -> Path:
        return self.directory / "run"

    @property
    def place(self) -> Place:
        return Place(self.out)

    def checked(self, **more: Any) -> Checked:
        (self.directory / "plan.yaml").write_text(self.plan)
        return check(
            NightRequest(
                plan=self.directory / "plan.yaml",
                out_dir=self.out,
                boards_file=self.directory / "boards.yaml",
                history=self.directory / "history.sqlite",
                **more,
            )
        )

    def play(self, **more: Any) -> tuple[Morning, NightPlace]:
        """Play a night; the log begins anew."""
        self.log.clear()
        self.lines.said.clear()
        self.stopped = False
        return night.play(
            self.checked(**more),
            executor=lambda _: self,
            resolver=self.resolve,
            progress=self.lines,
            clock=lambda: self.now,
        )

    def did(self, what: str) -> list[str]:
        """What was done of a kind: ``build``, ``test`` or ``probe``."""
        return [line.partition(" ")[2] for line in self.log if line.startswith(f"{what} ")]

    def resolve(self, checked: Checked, wanted: Mapping[Slot, Settings], _progress: object) -> Resolved:
        cells, problems = [], {}
        for slot, settings in wanted.items():
            if slot.kernel in self.unknown:
                problems[slot] = self.unknown[slot.kernel]
                continue
            build = f"{slot.kernel}{self.moved.get(slot.kernel, '')}/{slot.toolchain}/{slot.configuration}"
            cells.append(
                Cell(
                    slot=slot,
                    identity=f"{build} {slot}",
                    asked=checked.plan.asked(slot, settings),
                    build=build,
                    tests=checked.plan.suites[slot.suites],
                    settings=settings,
                    candidates=tuple(board.name for board in checked.boards[slot.board]),
                )
            )
        return Resolved(cells=tuple(cells), problems=problems)

    # -- the executor -------------------------------------------------------------------------------------------------

    def build(self, cell: Cell) -> float | None:
        with self._lock:
            self.log.append(f"build {cell.build}")
            self.now += self.build_s
        if error := _next(self.builds, [cell.build], None):
            raise error
        return self.build_s

    def test(self, cell: Cell, board: str, place: Path) -> Tested:
        with self._lock:
            self.log.append(f"test {cell.slot} on {board}")
            self.now += self.test_s
            ends = _next(self.says, [f"{cell.slot} on {board}", str(cell.slot)], "PASS")
            began = self.now
        self.is_testing.release()
        if self.may_go_on:
            self.may_go_on.wait(60)
        code = {"PASS": 0, "FAIL": 1, "BOOT": 1, "INPUT": 2, "ENDED": -15}.get(ends or "", 3)
        if ends in ("PASS", "FAIL", "BOOT", "GAP"):
            write_run(place / "run", cell, board=board, ends=str(ends), began=began, seconds=self.test_s)
        with self._lock:
            self.log.append(f"tested {cell.slot}")
            if self.notes:
                with self.notes.open("a") as file:
                    file.write(f"{cell.slot}\n")
        return left_in(place, code=code, board=board, reason=f"it said {ends}" if code else "")

    def probe(self, board: str) -> str:
        with self._lock:
            self.log.append(f"probe {board}")
            return _next(self.probes, [board], "") or ""

    def release(self, build: str) -> None:
        with self._lock:
            self.log.append(f"release {build}")

    def stop(self) -> None:
        self.stopped = True


def _next(script: dict[str, list[Any]], keys: list[str], default: Any) -> Any:
    for key in keys:
        if key in script:
            return script[key].pop(0) if len(script[key]) > 1 else script[key][0]
    return default


def write_run(directory: Path, cell: Cell, *, board: str, ends: str, began: float, seconds: float) -> None:
    """Leave what a run leaves."""
    directory.mkdir()
    with (directory / "events.jsonl").open("w") as file:
        for event in _events(cell, board, ends, began, seconds):
            file.write(f"{event_to_json(event)}\n")
            file.flush()


def _events(cell: Cell, board: str, ends: str, began: float, seconds: float) -> Iterator[Any]:
    yield RunBegun(
        time=began,
        record=RunRecord(
            id=f"{cell.slot.directory}-{began:.0f}",
            kernel=KernelRecord(release="7.3.4", key=cell.build),
            board=BoardRecord(name=board),
            suites=cell.tests.suites,
            keyword=cell.tests.keyword,
        ),
    )
    yield Planned(time=began, tests=TESTS)
    if ends == "BOOT":
        yield RunEnded(time=began, end=RunEnd(kind=EndKind.NOT_BOOTED, reason="it panicked", blames_kernel=True))
        return
    first = {"FAIL": Verdict.FAIL, "GAP": Verdict.ERROR}.get(ends, Verdict.PASS)
    for test, verdict in zip(TESTS, (first, Verdict.PASS), strict=True):
        yield Finished(time=began + 1, result=Result(test=test, verdict=verdict, reason="because", seconds=1.0))
    yield RunEnded(time=began + seconds, end=RunEnd(kind=EndKind.COMPLETE))


def states(made: Morning) -> dict[str, State]:
    """What became of each cell."""
    return {str(row.ended.slot): row.ended.state for row in made.rows}


def reasons(made: Morning) -> dict[str, str]:
    """Why cells have no results, or not all of them."""
    return {str(row.ended.slot): row.ended.reason for row in made.rows if row.ended.reason}
