#!/usr/bin/env python3
"""How long it takes to make the documents of a run from its events.jsonl: 1,000 and 10,000 tests, and the ratio of
both.

    .venv/bin/python bench/report.py [--runs 3] [--few 1000] [--many 10000]
    .venv/bin/python bench/report.py --nights 60 [--runs 3] [--few 460]

With --nights: how long it takes for a run that the history has so many earlier ones of, one test in fifteen of them
flaky, with what the history says and without it.

One test in ten hits a kernel fault of 40 lines, one in fifty of those a fault that is new; every test has a
log of 4 kB. Each run is a process of its own. Needs no kernel and no QEMU.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, peak_rss, spread
from harness.model.event import Event, Finished, Planned, RunBegun, RunEnded, Started
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.parse.events import event_to_json
from harness.run.eventlog import EventLog

LOG = "".join(f"\x1b[1mline {n:03}\x1b[0m of what a test prints while it runs, on and on\r\n" for n in range(64))


def _fault(number: int) -> Fault:
    title = f"panic: Unable to handle kernel paging request in function_{number // 10 % 50}"
    frames = [f"[  12.{n:06}]  frame_{n}+0x{n:x}/0x{n + 64:x}" for n in range(39)]
    return Fault(kind=FaultKind.PANIC, title=title, lines=(f"[  12.000000] {title}", *frames))


def _result(number: int, test: str) -> Result:
    kinds = {0: Verdict.CRASH, 1: Verdict.FAIL, 2: Verdict.SKIP}
    verdict = kinds.get(number % 10, Verdict.PASS)
    return Result(
        test=test,
        verdict=verdict,
        seconds=0.5,
        reason="" if verdict is Verdict.PASS else "expected 1, found 2",
        log=f"logs/{number}.log",
        fault=_fault(number) if verdict is Verdict.CRASH else None,
    )


def make_run(run_dir: Path, tests: int) -> float:
    """Write what a run of so many tests leaves; returns the seconds that its events.jsonl alone took."""
    names = [f"selftests/ftrace/test.d/dir{n % 40}/test_{n}.tc" for n in range(tests)]
    (run_dir / "logs").mkdir()
    for number in range(tests):
        (run_dir / "logs" / f"{number}.log").write_text(LOG)
    begun = time.monotonic()
    events = EventLog(run_dir / "events.jsonl")
    kernel = KernelRecord(release="7.3.4")
    events.write(RunBegun(record=RunRecord(kernel=kernel, board=BoardRecord(name="bench"))))
    events.write(Planned(tests=tuple(names)))
    for number, name in enumerate(names):
        events.write(Started(test=name))
        events.write(Finished(result=_result(number, name)))
    events.write(RunEnded(end=RunEnd(kind=EndKind.COMPLETE)))
    events.close()
    return time.monotonic() - begun


def _measure(tests: int) -> None:
    from harness.report.summary import summary_lines
    from harness.run.documents import write_documents

    with tempfile.TemporaryDirectory(prefix="bench-report-") as scratch:
        run_dir = Path(scratch)
        events = make_run(run_dir, tests)
        before, begun, cpu = peak_rss(), time.monotonic(), time.process_time()
        results = write_documents(run_dir)
        summary_lines(results, run_dir=run_dir)
        seconds, used = time.monotonic() - begun, time.process_time() - cpu
        assert len(results.results) == tests
        size = sum((run_dir / name).stat().st_size for name in ("junit.xml", "results.json", "report.html"))
    print(json.dumps({"seconds": seconds, "cpu": used, "grown": peak_rss() - before, "events": events, "size": size}))


def _run(tests: int) -> dict[str, float]:
    argv = [sys.executable, __file__, "--measure", str(tests)]
    found: dict[str, float] = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    return found


def _nights(scratch: Path, tests: int, nights: int) -> list[Path]:
    """Write what so many nights and one more leave, each with another kernel."""
    names = [f"selftests/ftrace/test.d/dir{n % 40}/test_{n}.tc" for n in range(tests)]
    chance = random.Random(1)
    runs = []
    for night in range(nights + 1):
        record = RunRecord(id=f"night-{night:04}", kernel=KernelRecord(key=f"{night}"), board=BoardRecord(name="bench"))
        time_of_day = 1.7e9 + 86400.0 * night
        events: list[Event] = [RunBegun(time=time_of_day, record=record), Planned(time=time_of_day, tests=tuple(names))]
        for number, name in enumerate(names):
            verdict = Verdict.FAIL if number % 15 == 0 and chance.random() < 0.2 else Verdict.PASS
            events.append(Finished(time=time_of_day, result=Result(test=name, verdict=verdict, seconds=0.5)))
        events.append(RunEnded(time=time_of_day, end=RunEnd(kind=EndKind.COMPLETE)))
        runs.append(scratch / record.id)
        runs[-1].mkdir()
        (runs[-1] / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))
    return runs


def _past(tests: int, nights: int, times: int) -> None:
    from harness.campaign.history import add
    from harness.campaign.past import report_again
    from harness.run.documents import write_documents

    with tempfile.TemporaryDirectory(prefix="bench-report-") as scratch:
        history = Path(scratch) / "history.sqlite"
        runs = _nights(Path(scratch), tests, nights)
        add(history, runs)
        print(describe(), f"{times} times each", sep="\n")
        print("| documents | s | CPU s | report.html |")
        print("|---|---|---|---|")
        ways: dict[str, Callable[[], RunResults]] = {
            "without a history": partial(write_documents, runs[-1]),
            f"with {nights} earlier runs": partial(report_again, runs[-1], history=history, say=print),
        }
        for name, write in ways.items():
            seconds, used = [], []
            for _ in range(times):
                begun, cpu = time.monotonic(), time.process_time()
                write()
                seconds.append(time.monotonic() - begun)
                used.append(time.process_time() - cpu)
            size = (runs[-1] / "report.html").stat().st_size / 1000
            print(f"| {name} | {spread(seconds, digits=2)} | {spread(used, digits=2)} | {size:.0f} kB |")


def _compare(counts: tuple[int, int], runs: int) -> None:
    print(describe(), f"{runs} runs each", sep="\n")
    found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    for _ in range(runs):
        for count in counts:
            found[count].append(_run(count))
    print("| tests | documents, s | CPU s | peak RSS + | size of the documents | writing events.jsonl, s |")
    print("|---|---|---|---|---|---|")
    for count, figures in found.items():
        columns = {key: [figure[key] for figure in figures] for key in figures[0]}
        print(f"| {count} | {spread(columns['seconds'], digits=2)} | {spread(columns['cpu'], digits=2)} "
              f"| {max(columns['grown']) / (1 << 20):.0f} MB | {max(columns['size']) / (1 << 20):.0f} MB "
              f"| {spread(columns['events'], digits=2)} |")  # fmt: skip
    few, many = (statistics.median([figure["cpu"] for figure in found[count]]) for count in counts)
    print(f"{counts[1]} tests take {many / few:.1f} times the CPU time of {counts[0]}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--few", type=int)
    options.add_argument("--many", type=int, default=10_000)
    options.add_argument("--nights", type=int, help="with what the history says of so many earlier runs")
    options.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        _measure(chosen.measure)
    elif chosen.nights:
        _past(chosen.few or 460, chosen.nights, chosen.runs)
    else:
        _compare((chosen.few or 1000, chosen.many), chosen.runs)


if __name__ == "__main__":
    main()
