#!/usr/bin/env python
"""A night of simulated cells on simulated boards: what planning costs, and how busy the boards are.

    .venv/bin/python bench/schedule.py [--kernels 10] [--pools 50] [--each 10] [--faster 180] [--failing 2]

10 kernels, 2 toolchains, 2 configurations, 50 pools of 10 boards and 5 groups of suites are 10,000 cells with 40
builds on 500 boards. Everything is as in `harness nightly` but what takes hours: a build is a sleep of 10 minutes, a
run one of 20 to 40 and a file as a run leaves it, all `--faster` than life. `--failing`: of a hundred runs, so many
fail on the lab's account. The night's files are on the disk that --out (default: a temporary directory) is on.

The planner's own cost is the CPU time of the whole process, without what the runs' threads take to write their files.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.build import host
from harness.campaign.nightly import cells as cells_module
from harness.campaign.nightly.cells import Checked, Resolved, check, resolve
from harness.campaign.nightly.executor import Tested, left_in
from harness.campaign.nightly.night import play
from harness.campaign.request import BuildOptions, NightRequest
from harness.model.night import Cell, Settings, Slot, State
from harness.model.progress import Progress, Silent
from tests.fakenight import write_run

BUILD_S, TEST_S = 600.0, (1200.0, 2400.0)
_FARM = "  farm{0}:\n    console: {{kind: serial, device: /dev/ttyUSB0}}\n    power: {{kind: tasmota, host: h}}\n"
_FARM += "    boot: {{method: uboot, tftp_root: /t}}\n    pool: farm{0}\n"


@dataclass
class Lab:
    """An executor without machines. `spans`: of each board, when it began and ended a run; `own_cpu`: seconds of CPU
    time that belong to the runs."""

    faster: float
    failing: float
    chance: random.Random
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    own_cpu: float = 0.0
    builds: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, (time.monotonic(), time.process_time()))

    def build(self, _cell: Cell) -> float:
        self.mark("first build")
        self.builds += 1
        time.sleep(BUILD_S / self.faster)
        self.mark(f"build {self.builds}")
        return BUILD_S

    def test(self, cell: Cell, board: str, place: Path) -> Tested:
        began, cpu = time.monotonic(), time.thread_time()
        with self._lock:
            seconds, fails = self.chance.uniform(*TEST_S), self.chance.random() < self.failing
        time.sleep(seconds / self.faster)
        if not fails:
            write_run(place / "run", cell, board=board, ends="PASS", began=time.time(), seconds=seconds)
        with self._lock:
            self.runs += 1
            self.spans.setdefault(board, []).append((began, time.monotonic()))
            self.own_cpu += time.thread_time() - cpu
        return left_in(place, code=3 if fails else 0, board=board, reason="the line is dead" if fails else "")

    def probe(self, _board: str) -> str:
        return ""

    def stop(self) -> None:
        self.mark("stop")


def plan(kernels: int, pools: int) -> str:
    named = ", ".join(f"k{number}: {{kernel: 7.3.{number}}}" for number in range(1, kernels + 1))
    suites = ("function", "fgraph", "livepatch", "kprobes", "tracefs")
    groups = ", ".join(f"{name}: {{suites: [testcases], keyword: {name}}}" for name in suites)
    return (
        f"kernels: {{{named}}}\ntoolchains: [gcc, clang-19]\nconfigurations: {{default: [], size: [variants/size]}}\n"
        f"boards: [{', '.join(f'farm{number}' for number in range(pools))}]\nsuites: {{{groups}}}\n"
    )


def boards(pools: int, each: int) -> str:
    defaults = "".join(_FARM.format(number) for number in range(pools))
    entries = (f"  b{pool}-{number}: {{like: farm{pool}}}\n" for pool in range(pools) for number in range(each))
    return f"defaults:\n{defaults}boards:\n{''.join(entries)}"


@contextlib.contextmanager
def no_sources() -> Any:
    """No kernel is fetched or described; everything else that makes cells of a plan is as it is."""

    def kernel(options: BuildOptions, *_: object, source: str) -> str:
        return f"{source} {options.toolchain} {options.kconfigs}"

    replaced: list[tuple[Any, str, Any]] = [
        (host, "ensure_host", lambda **_: None),
        (cells_module, "resolve_source", lambda spec, **_: spec.text),
        (cells_module, "kernel_for", kernel),
        (cells_module, "build_key", lambda spec, testcases: f"key of {spec}"),
    ]
    before = [getattr(where, name) for where, name, _ in replaced]
    for where, name, instead in replaced:
        setattr(where, name, instead)
    try:
        yield
    finally:
        for (where, name, _), was in zip(replaced, before, strict=True):
            setattr(where, name, was)


def played(lab: Lab, directory: Path, *, kernels: int, pools: int, each: int) -> Mapping[State, int]:
    (directory / "plan.yaml").write_text(plan(kernels, pools))
    (directory / "boards.yaml").write_text(boards(pools, each))
    lab.mark("begin")
    request = NightRequest(
        plan=directory / "plan.yaml",
        boards_file=directory / "boards.yaml",
        out_dir=directory / "out",
        history=directory / "history.sqlite",
    )

    def resolver(checked: Checked, wanted: Mapping[Slot, Settings], progress: Progress) -> Resolved:
        with no_sources():
            return resolve(checked, wanted, progress)

    made, _ = play(check(request), executor=lambda _: lab, resolver=resolver, progress=Silent())
    lab.mark("end")
    return {state: sum(1 for _ in made.where(state)) for state in State}


def told(lab: Lab, states: Mapping[State, int], *, boards: int) -> str:
    count = sum(states.values())
    (begin, cpu), (first, first_cpu), (stop, stop_cpu), (end, end_cpu) = (
        lab.marks[name] for name in ("begin", "first build", "stop", "end")
    )
    cost, before = ((until - cpu) * 1000 / count for until in (stop_cpu - lab.own_cpu, first_cpu))
    spans = [sorted(each) for each in lab.spans.values()]
    busy = sum(end - begin for each in spans for begin, end in each)
    gaps = sorted(1000 * (later[0] - sooner[1]) for each in spans for sooner, later in itertools.pairwise(each))
    of_each = busy / sum(each[-1][1] - each[0][0] for each in spans)
    of_all = busy / boards / (max(each[-1][1] for each in spans) - min(each[0][0] for each in spans))
    results = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    lines = [
        f"{count} cells ({results}) on {boards} boards: {lab.builds} builds, {lab.runs} runs, {stop - first:.0f} s",
        f"planner: {cost:.2f} ms of CPU for each cell; {before:.2f} before the first build, in {first - begin:.1f} s",
        f"boards: busy {100 * of_each:.1f} % from the first run of each to its last, {100 * of_all:.1f} % of all",
        f"between two runs of a board: {statistics.median(gaps):.0f} ms, 99 of 100 at most "
        f"{gaps[int(0.99 * len(gaps))]:.0f} ms",
        f"pages: {end - stop:.1f} s, {end_cpu - stop_cpu:.1f} s of CPU",
    ]
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kernels", type=int, default=10)
    arguments.add_argument("--pools", type=int, default=50)
    arguments.add_argument("--each", type=int, default=10, metavar="BOARDS", help="of a pool")
    arguments.add_argument("--faster", type=float, default=180.0, metavar="TIMES")
    arguments.add_argument("--failing", type=float, default=2.0, metavar="PERCENT")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--out", type=Path, metavar="DIR", help="default: a temporary directory")
    given = arguments.parse_args()
    lab = Lab(faster=given.faster, failing=given.failing / 100, chance=random.Random(given.seed))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=given.out) as directory:
        states = played(lab, Path(directory), kernels=given.kernels, pools=given.pools, each=given.each)
    print(told(lab, states, boards=given.pools * given.each))
    print(f"load before: {load:.1f}, {os.cpu_count()} CPUs, {given.faster:g} times as fast as life")


if __name__ == "__main__":
    main()
