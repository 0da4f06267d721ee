"""A history that looks like a lab's: thirty nights of three cells, with a regression, a flaky test, a crash on two
boards, and nights on which the lab failed. It is the same every time.

`python -m tests.simulated FILE` writes it; `harness web --history FILE` then shows it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.model.fault import Fault, FaultKind
from harness.model.record import (
    BoardRecord,
    HarnessRecord,
    KernelRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import BootTime, EndKind, Result, RunEnd, RunResults, Verdict
from harness.store.database import opened
from harness.store.ingest import add_run

NIGHTS = 30
FIRST_S = 1793491200.0  # 2026-11-01 00:00 UTC
_DAY_S = 86400.0
_WHERE = "ftrace_graph_stop (kernel/trace/fgraph.c:871)"
CRASH = Fault(kind=FaultKind.OOPS, title=f"Oops: Unable to handle kernel NULL pointer dereference in {_WHERE}")
FLAKY = "testcases/function/test_hotplug.py::test_traced_cpu_comes_back"
BROKEN = "selftests/ftrace/test.d/ftrace/fgraph-filter.tc"
CRASHING = "selftests/ftrace/test.d/ftrace/fgraph-multi.tc"
_OTHERS = """
selftests/ftrace/test.d/ftrace/fgraph-filter-stack.tc
selftests/ftrace/test.d/ftrace/func-filter-glob.tc
selftests/ftrace/test.d/ftrace/func-filter-pid.tc
selftests/ftrace/test.d/ftrace/func_hotplug.tc
selftests/ftrace/test.d/ftrace/func_profiler.tc
selftests/ftrace/test.d/ftrace/func_set_ftrace_file.tc
selftests/ftrace/test.d/ftrace/tracing-error-log.tc
selftests/ftrace/test.d/kprobe/kprobe_args.tc
selftests/ftrace/test.d/kprobe/kprobe_args_string.tc
selftests/ftrace/test.d/kprobe/kprobe_ftrace.tc
selftests/ftrace/test.d/kprobe/kretprobe_args.tc
selftests/ftrace/test.d/kprobe/multiple_kprobes.tc
selftests/ftrace/test.d/kprobe/probepoint.tc
selftests/livepatch/test-callbacks.sh::target module before livepatch
selftests/livepatch/test-ftrace.sh::livepatch interaction
selftests/livepatch/test-livepatch.sh::basic function patching
selftests/livepatch/test-shadow-vars.sh::shadow variables
selftests/livepatch/test-state.sh::system state modification
selftests/livepatch/test-syscall.sh::patch getpid
testcases/function/test_calls.py::test_every_call_and_its_caller
testcases/function/test_graph.py::test_depth
testcases/function/test_graph.py::test_times_are_nested
testcases/function/test_modules.py::test_init_is_traced
testcases/function/test_order.py::test_entries_in_order
testcases/livepatch/test_transition.py::test_sleeper_holds_it
testcases/livepatch/test_replace.py::test_cumulative
testcases/livepatch/test_forced.py::test_forced_transition
testcases/livepatch/test_kprobe.py::test_ip_is_refused
"""
TESTS = (BROKEN, CRASHING, FLAKY, *_OTHERS.strip().split("\n"))


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One cell: `pace` is how long its tests take, against QEMU's."""

    board: str
    details: tuple[tuple[str, str], ...]
    compiler: tuple[str, str]
    fragments: tuple[str, ...]
    pace: float


LABS = (
    Lab(board="qemu-virt", details=(("accelerator", "tcg"),), compiler=("aarch64-linux-gnu-gcc", "12.2.0"),
        fragments=("base", "ftrace", "livepatch"), pace=1.0),
    Lab(board="qemu-virt", details=(("accelerator", "tcg"),), compiler=("clang", "19.1.7"),
        fragments=("base", "ftrace", "livepatch"), pace=1.1),
    Lab(board="rpi4", details=(), compiler=("aarch64-linux-gnu-gcc", "12.2.0"), fragments=("base", "ftrace", "rpi4"),
        pace=0.4),
)  # fmt: skip


def runs() -> Iterator[RunResults]:
    """Yield the runs in the order in which they were made."""
    for night in range(NIGHTS):
        for number, lab in enumerate(LABS):
            if lab.board == "rpi4" and night in (6, 7):
                continue  # it was away
            yield _run(night, number, lab)


def _run(night: int, number: int, lab: Lab) -> RunResults:
    version = f"7.3.{4 + night // 10}"
    record = RunRecord(
        id=f"202611{night + 1:02}T0{number + 1}0000.000Z-{number:08x}",
        harness=HarnessRecord(version="0.1.0"),
        host="lab",
        kernel=KernelRecord(
            release=f"{version}-test",
            key=f"{version}-{lab.compiler[0]}",
            source=SourceRecord(spec="debian:@trixie-backports", version=f"{version}-1"),
            fragments=lab.fragments,
            toolchain=ToolchainRecord(name=lab.compiler[0], command=lab.compiler[0], version=lab.compiler[1]),
        ),
        board=BoardRecord(name=lab.board, details=dict(lab.details)),
        suites=("selftests/ftrace", "selftests/livepatch", "testcases"),
    )
    power_failed = lab.board == "rpi4" and night in (12, 21)
    results = tuple(_result(test, night, lab, power_failed=power_failed) for test in TESTS)
    started = FIRST_S + _DAY_S * night + 3600 * (number + 1)
    end = RunEnd(kind=EndKind.WORKERS_LOST if power_failed else EndKind.COMPLETE)
    is_killed = night == 17 and number == 1
    return RunResults(
        record=record,
        results=results[: len(results) // 2] if is_killed else results,
        started=started,
        seconds=sum(result.seconds for result in results),
        boots=() if power_failed else (BootTime(board=lab.board, seconds=_boot_s(night, lab)),),
        ended=None if is_killed else end,
    )


def _boot_s(night: int, lab: Lab) -> float:
    """The Raspberry Pi boots from a card that becomes slower."""
    usual = 24.0 + 0.4 * max(0, night - 15) if lab.board == "rpi4" else 2.3
    return usual * random.Random(f"boot {night} {lab.board} {lab.compiler}").uniform(0.95, 1.1)


def _result(test: str, night: int, lab: Lab, *, power_failed: bool) -> Result:
    chance = random.Random(f"{test} {night} {lab.board} {lab.compiler}")
    usual = lab.pace * (2 + sum(test.encode()) % 25)
    seconds = round(usual * chance.uniform(0.9, 1.15), 2)
    if power_failed and chance.random() < 0.7:
        return Result(test=test, verdict=Verdict.NOTRUN, reason="the board did not come back after a power cycle")
    if "kprobe_ftrace" in test:
        return Result(test=test, verdict=Verdict.SKIP, reason="KPROBES_ON_FTRACE is not set", seconds=0.3)
    if test == FLAKY and chance.random() < (0.4 if night >= 18 else 0.07):
        return Result(test=test, verdict=Verdict.FAIL, reason="cpu1: expected 200 entries, found 187", seconds=seconds)
    if test == BROKEN and night >= 24:
        reason = "set_graph_function: expected schedule alone, found 3 functions more"
        return Result(test=test, verdict=Verdict.FAIL, reason=reason, seconds=0.6 * seconds)
    if test == CRASHING and night >= 22 and "clang" not in lab.compiler and chance.random() < 0.45:
        return Result(test=test, verdict=Verdict.CRASH, reason=CRASH.title, fault=CRASH, seconds=0.3 * seconds)
    if test.endswith("func_profiler.tc") and night >= 19:
        seconds *= 2.4
    return Result(test=test, verdict=Verdict.PASS, seconds=seconds)


def write(path: Path) -> None:
    """Add the runs to the history at `path`."""
    with opened(path, writable=True) as connection:
        for results in runs():
            add_run(connection, results, directory=Path("/srv/runs") / results.record.id)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
