"""Which tests of a run fail, whether two failures are the same, and the lines that say most."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.comparison import Tally
from harness.model.fault import Fault, FaultKind
from harness.model.result import Condition, EndKind, Repeat, Result, RunEnd, RunResults, Verdict
from harness.parse.oops.scanner import FaultScanner
from harness.report.failing import BOOT, counted, fails, failure_of, is_same, outcomes, tally

LOGS = Path(__file__).parents[1] / "data/oops"


def crash(title: str = "Oops in f", verdict: Verdict = Verdict.CRASH) -> Result:
    return Result(test="t", verdict=verdict, fault=Fault(kind=FaultKind.OOPS, title=title, lines=("a", "b", "c")))


FAIL, PASS, SKIP = (Result(test="t", verdict=verdict) for verdict in (Verdict.FAIL, Verdict.PASS, Verdict.SKIP))


def report(name: str) -> Fault:
    scanner = FaultScanner()
    scanner.feed_text((LOGS / name).read_text(errors="replace"))
    scanner.finish()
    return scanner.take()[0]


@pytest.mark.parametrize(
    ("name", "what", "where"),
    [
        ("panic-freed-trampoline.log", "Unable to handle kernel paging request", "pc : 0xffff80007a000000"),
        ("kernel-bug-panic.log", "kernel BUG at arch/arm64/kernel/ftrace.c:218!", "pc : ftrace_make_call+0x1a8/0x1b0"),
        ("warning-7.3.log", "WARNING: kernel/trace/trace_functions_graph.c:991", "pc : print_graph_entry"),
        ("boot-panic-no-root.log", "Kernel panic - not syncing: VFS: Unable to mount", "CPU: 1 UID: 0 PID: 1"),
        ("atomic-context.log", "BUG: scheduling while atomic", "Modules linked in"),
    ],
)
def test_of_a_report_what_happened_and_where(name: str, what: str, where: str) -> None:
    fault = report(name)
    told = failure_of(Result(test="t", verdict=Verdict.CRASH, fault=fault))
    assert told.title == fault.title
    assert (what in told.evidence[0], where in told.evidence[1], len(told.evidence)) == (True, True, 2)


@pytest.mark.parametrize(
    ("log", "evidence"),
    [
        (
            "> assert x\nE   AssertionError: no\nE   assert 1 == 2\n\nlast words\n",
            ("E AssertionError: no", "E assert 1 == 2"),
        ),
        ("one\ntwo\nthree\n\n", ("two", "three")),
        ("", ()),
    ],
)
def test_of_a_log_what_it_asserts_or_how_it_ends(log: str, evidence: tuple[str, ...]) -> None:
    told = failure_of(Result(test="t", verdict=Verdict.FAIL, reason="so"), log)
    assert (told.title, told.evidence) == ("so", evidence)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (crash(), crash(), True),
        (crash(), crash("Oops in g"), False),
        (crash(), FAIL, False),
        (FAIL, FAIL, True),
    ],
)
def test_which_failures_are_the_same(one: Result, other: Result, same: bool) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same


def test_other_failures_are_passes_and_skips_are_nothing() -> None:
    assert tally(crash(), like=crash()) == Tally(failures=1)
    assert tally(crash("Oops in g"), like=crash()) == Tally(passes=1)
    assert tally(PASS, like=crash()) == Tally(passes=1)
    assert tally(SKIP, like=crash()) == Tally()


def test_repetitions_count() -> None:
    repeats = tuple(
        Repeat(verdict=verdict, condition=condition)
        for verdict, condition in (
            (Verdict.FAIL, Condition.RESTORED), (Verdict.PASS, Condition.BOOTED), (Verdict.FAIL, Condition.ONE_CPU),
        )
    )  # fmt: skip
    failed = Result(test="t", verdict=Verdict.FAIL, repeats=repeats)
    assert tally(failed, like=failed) == Tally(failures=2, passes=1)


@pytest.mark.parametrize("blames_kernel", [True, False])
def test_a_boot_that_failed_is_the_kernels_or_the_labs(blames_kernel: bool) -> None:
    end = RunEnd(kind=EndKind.NOT_BOOTED, reason="why", blames_kernel=blames_kernel)
    results = RunResults(results=(PASS, Result(test="u", verdict=Verdict.NOTRUN)), ended=end)
    found = outcomes(results)
    assert found.keys() == {BOOT, "t"}
    assert fails(found[BOOT]) is blames_kernel
    assert counted(found) == {Verdict.PASS: 1}


def test_a_run_with_results_has_booted() -> None:
    assert outcomes(RunResults(results=(FAIL,)))[BOOT].verdict is Verdict.PASS
    assert outcomes(RunResults(results=())) == {}


def test_known_failures_are_none() -> None:
    assert not fails(Result(test="t", verdict=Verdict.XFAIL, actual=Verdict.FAIL))
