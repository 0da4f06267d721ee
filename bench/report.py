#!/usr/bin/env python3
"""How long it takes to make the documents of a run from its events.jsonl: 1,000 and 10,000 tests, and the ratio of
both.

    .venv/bin/python bench/report.py [--runs 3] [--few 1000] [--many 10000]

One test in ten hits a kernel fault of 40 lines, one in fifty of those a fault that is new; every test has a
log of 4 kB. Each run is a process of its own. Needs no kernel and no QEMU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe, peak_rss, spread
from harness.model.event import Finished, Planned, RunBegun, RunEnded, Started
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
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
    options.add_argument("--few", type=int, default=1000)
    options.add_argument("--many", type=int, default=10_000)
    options.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        _measure(chosen.measure)
    else:
        _compare((chosen.few, chosen.many), chosen.runs)


if __name__ == "__main__":
    main()
