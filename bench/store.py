#!/usr/bin/env python
"""How large the history gets, and how long it takes to add a run to it and to ask it something.

    .venv/bin/python bench/store.py [--runs 2200] [--tests 460] [--times 15] [--seed 1] [--file FILE] [--plans]

Makes a history of RUNS runs with TESTS results each: four cells over a year and a half, a new kernel version every week
and a series of patches now and then; tests that are flaky, skipped, known to fail or crash, and repetitions of
failures. The history is kept as FILE if one is given; a FILE that is there already is used. --plans only prints what
SQLite does for each question.

Each figure is the median of TIMES measurements, with the smallest and the largest. Needs no kernel."""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, spread
from harness.campaign.history import add, sides
from harness.campaign.stale import stale
from harness.model.event import Finished, Planned, Repeated, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.known import KnownOutcome
from harness.model.record import (
    BoardRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import Condition, EndKind, Expectation, Repeat, Result, RunEnd, RunResults, Verdict
from harness.parse.events import event_to_json
from harness.report.compare import compare
from harness.report.compare_text import comparison_text
from harness.store import queries
from harness.store.database import Connection, opened
from harness.store.ingest import add_run
from harness.store.prune import prune

_DAY_S = 86400.0
_BEGIN = 1.7e9
_CELLS = (
    ("qemu-virt", "tcg", ("base", "ftrace", "livepatch"), "aarch64-linux-gnu-gcc", "12.2.0"),
    ("qemu-virt", "tcg", ("base", "ftrace", "livepatch", "variants/size"), "aarch64-linux-gnu-gcc", "12.2.0"),
    ("rpi4", "", ("base", "ftrace", "livepatch", "boards/rpi4"), "aarch64-linux-gnu-gcc", "12.2.0"),
    ("qemu-virt", "tcg", ("base", "ftrace", "livepatch"), "clang", "19.1.0"),
)
_GROUPS = ("00basic", "dynevent", "event", "fgraph", "ftrace", "instances", "kprobe", "trigger/inter-event")
_VERSION_NIGHTS = 7
Question = Callable[[Connection], object]


def _version(number: int) -> str:
    """The kernel of a run."""
    week = number // len(_CELLS) // _VERSION_NIGHTS
    return f"7.{week // 10}.{week % 10}"


class Lab:
    """Makes up runs. Equal seeds make equal runs."""

    def __init__(self, *, tests: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self.tests = [self._test(number) for number in range(tests)]
        # how often a test fails: most never, a few always or now and then
        self._rates = [self._chance.choice((0.0,) * 40 + (0.01, 0.05, 0.2, 1.0)) for _ in self.tests]
        self._skipped = [self._chance.random() < 0.04 for _ in self.tests]
        self._usual = [self._chance.lognormvariate(1.0, 0.8) for _ in self.tests]

    def _test(self, number: int) -> str:
        group = _GROUPS[number % len(_GROUPS)]
        if number % 3 == 0:
            return f"testcases/{group.replace('/', '_')}/test_{number // 24}.py::test_case_{number}"
        return f"selftests/ftrace/test.d/{group}/case-{number}.tc{'[instance]' if number % 5 == 0 else ''}"

    def run(self, number: int) -> RunResults:
        """The run with this number; each night has one of each cell."""
        night, cell = divmod(number, len(_CELLS))
        board, accelerator, fragments, compiler, version = _CELLS[cell]
        week, is_trial = night // _VERSION_NIGHTS, night % 5 == 4
        kernel = KernelRecord(
            release=_version(number),
            key=f"{week:08x}{cell:08x}{night if is_trial else 0:08x}",
            source=SourceRecord(
                spec="git:https://example.org/linux#main",
                version=_version(number),
                checksum=f"{week:040x}",
            ),
            patches=(PatchRecord(name="series", sha256=f"{night:064x}"),) if is_trial else (),
            fragments=fragments,
            toolchain=ToolchainRecord(name="", command=compiler, version=version),
        )
        began = _BEGIN + night * _DAY_S + cell * 3600.0
        record = RunRecord(
            id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(began))}.000Z-{number:08x}",
            harness=HarnessRecord(version="0.1.0", commit=f"{night:040x}"),
            host="lab (x86_64)",
            kernel=kernel,
            board=BoardRecord(name=board, details={"accelerator": accelerator} if accelerator else {}),
            suites=("selftests/ftrace", "selftests/livepatch", "testcases"),
        )
        results = tuple(self._result(each, board) for each in range(len(self.tests)))
        end = RunEnd(kind=EndKind.COMPLETE) if self._chance.random() < 0.97 else None
        return RunResults(record=record, results=results, started=began, seconds=1500.0, ended=end)

    def _result(self, number: int, board: str) -> Result:
        chance, test = self._chance, self.tests[number]
        seconds = self._usual[number] * chance.lognormvariate(0.0, 0.2)
        if self._skipped[number]:
            return Result(test=test, verdict=Verdict.SKIP, reason=f"needs a symbol that {test} names", board=board)
        if chance.random() < 0.0005:
            return Result(test=test, verdict=Verdict.ERROR, reason="the line to the board was lost", board=board)
        if chance.random() >= self._rates[number]:
            return Result(test=test, verdict=Verdict.PASS, seconds=seconds, board=board)
        if self._rates[number] == 1.0:
            return Result(
                test=test, verdict=Verdict.XFAIL, actual=Verdict.FAIL, reason=f"known FAIL: {test}", board=board
            )
        if number % 4 == 0:
            title = (
                f"Oops: Unable to handle kernel paging request in function_{number} (kernel/trace/trace_{number}.c:9)"
            )
            crash = Fault(kind=FaultKind.OOPS, title=title)
            again = self._repeats(number, Verdict.CRASH, crash)
            return Result(
                test=test, verdict=Verdict.CRASH, reason=title, fault=crash, seconds=seconds, board=board, repeats=again
            )
        reason = f"line {chance.randrange(100)}: expected {chance.randrange(10**6)} events, found {chance.randrange(9)}"
        again = self._repeats(number, Verdict.FAIL, None)
        return Result(test=test, verdict=Verdict.FAIL, reason=reason, seconds=seconds, board=board, repeats=again)

    def _repeats(self, number: int, failure: Verdict, fault: Fault | None) -> tuple[Repeat, ...]:
        def one(condition: Condition) -> Repeat:
            fails = self._chance.random() < self._rates[number]
            return Repeat(
                verdict=failure if fails else Verdict.PASS,
                seconds=self._usual[number],
                fault=fault if fails else None,
                condition=condition,
            )

        restored = [one(Condition.RESTORED) for _ in range(self._chance.choice((8, 20)))]
        return (*restored, *(one(Condition.BOOTED) for _ in range(5)))


def fill(path: Path, lab: Lab, runs: int) -> None:
    """Add runs, many in one transaction; say how far it is."""
    for begin in range(0, runs, 100):
        with opened(path, writable=True) as connection:
            for number in range(begin, min(begin + 100, runs)):
                add_run(connection, lab.run(number), directory=Path(f"/lab/runs/{number}"))
        print(f"\r{min(begin + 100, runs)} of {runs} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def write_events(directory: Path, run: RunResults) -> Path:
    """Write the directory of a run."""
    directory.mkdir()
    times = run.started
    with (directory / "events.jsonl").open("w") as file:
        for event in (
            RunBegun(time=times, record=run.record),
            Planned(time=times, tests=tuple(result.test for result in run.results)),
            *(Finished(time=times, result=result) for result in run.results),
            *(Repeated(time=times, test=each.test, repeat=again) for each in run.results for again in each.repeats),
            RunEnded(time=times, end=RunEnd(kind=EndKind.COMPLETE)),
        ):
            file.write(event_to_json(event) + "\n")
    return directory


def questions(lab: Lab, runs: int) -> dict[str, Question]:
    """What pages and comparisons ask."""
    known = [
        KnownOutcome(expectation=Expectation(verdicts=(Verdict.FAIL,), reason="why", test=pattern, place="here"))
        for pattern in (*lab.tests[:20], "selftests/ftrace/test.d/fgraph/*")
    ]

    def compared(older: str, newer: str) -> Question:
        return lambda connection: comparison_text(compare(*sides(connection, older, newer)))

    def two_nights(connection: Connection) -> str:
        new, *others = queries.latest_runs(connection, limit=100)
        old = next(run for run in others if run.cell == new.cell and run.kernel != new.kernel)
        return comparison_text(compare(*sides(connection, old.id, new.id)))

    def last_good(connection: Connection) -> object:
        new = queries.latest_runs(connection, limit=1)[0]
        return queries.latest_runs(connection, cell=new.cell, until=new.started, good=True)

    return {
        "the latest 30 runs": lambda connection: queries.latest_runs(connection),
        "the latest 1000 runs": lambda connection: queries.latest_runs(connection, limit=1000),
        "all results of a run": lambda connection: queries.outcomes_of(
            connection, queries.latest_runs(connection, limit=1)[0].id
        ),
        "good runs of a cell": last_good,
        "`compare` of the latest runs of two kernels": two_nights,
        "`compare A..B` of two versions": compared(_version(runs // 2), _version(runs - 1)),
        "21 known issues: which were not seen": lambda connection: stale(
            connection, known, days=30, runs=20, now=_BEGIN + 550 * _DAY_S
        ),
    }


def row(what: str, times: int, act: Callable[[int], object], *, limit: float) -> None:
    """Print how long `act` takes, and how much of a CPU, which depends less on what else runs here."""
    wall, cpu = [], []
    for number in range(times):
        begin, used = time.perf_counter(), time.process_time()
        act(number)
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    print(f"| {what} | {spread(wall, digits=3)} | {spread(cpu, digits=3)} | {limit} |", flush=True)


@contextlib.contextmanager
def history(file: Path | None, lab: Lab, runs: int) -> Iterator[Path]:
    """A history to measure, thrown away at the end: a new one, or a copy of `file`, which is made if it is missing."""
    with tempfile.TemporaryDirectory(prefix="bench-store-") as directory:
        path = Path(directory) / "history.sqlite"
        if file is None:
            fill(path, lab, runs)
        else:
            if not file.exists():
                fill(file, lab, runs)
            shutil.copy(file, path)
        yield path


def plans(path: Path, asked: dict[str, Question]) -> None:
    """Print SQLite's plan of each different statement that a question leads to."""
    for what, question in asked.items():
        statements: dict[str, None] = {}
        with opened(path) as connection:
            connection.set_trace_callback(lambda statement, seen=statements: seen.setdefault(statement))  # type: ignore[misc]
            question(connection)
            connection.set_trace_callback(None)
            told: dict[str, None] = {}
            for statement in statements:
                if statement.lstrip().startswith("SELECT"):
                    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
                    told.setdefault("; ".join(row[3] for row in rows))
        print(f"\n{what}")
        for plan in told:
            print(f"  {plan}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2200)
    parser.add_argument("--tests", type=int, default=460)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--plans", action="store_true")
    given = parser.parse_args()
    lab = Lab(tests=given.tests, seed=given.seed)
    with (
        history(given.file, lab, given.runs) as path,
        tempfile.TemporaryDirectory(prefix="bench-store-runs-") as scratch,
    ):
        asked = questions(lab, given.runs)
        if given.plans:
            plans(path, asked)
            return
        with opened(path) as connection:
            (results,) = connection.execute("SELECT count(*) FROM results").fetchone()
            (repeats,) = connection.execute("SELECT count(*) FROM repeats").fetchone()
        size = path.stat().st_size
        print(describe())
        print(
            f"\n{results} results and {repeats} repetitions, {size / 1e6:.0f} MB, {size / results:.0f} bytes a result\n"
        )
        print("| | seconds | of a CPU | at most |\n|---|---|---|---|")
        for what, question in asked.items():

            def ask(_number: int, question: Question = question) -> None:
                with opened(path) as connection:
                    question(connection)

            row(what, given.times, ask, limit=0.3)
        new = [lab.run(given.runs + 4 * number) for number in range(2 * given.times)]
        runs = [write_events(Path(scratch) / str(number), run) for number, run in enumerate(new)]

        def take(number: int) -> None:
            with opened(path, writable=True) as connection:
                add_run(connection, new[number], directory=runs[number])

        row(f"a run of {given.tests} results as it ends", given.times, take, limit=0.5)
        row("`history add` of its directory", given.times, lambda n: add(path, [runs[given.times + n]]), limit=0.5)
        begin = time.perf_counter()
        done = prune(path, before=_BEGIN + 200 * _DAY_S, keep_failures=False)
        print(
            f"\n`history prune` of {done.runs} runs took {time.perf_counter() - begin:.1f} s,"
            f" {done.size_before / 1e6:.0f} MB before, {done.size / 1e6:.0f} MB after"
        )


if __name__ == "__main__":
    main()
