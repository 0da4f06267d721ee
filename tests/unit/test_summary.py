"""What a person reads at the end of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model.fault import Fault, FaultKind
from harness.model.result import Expectation, Result, RunResults, Verdict
from harness.report.summary import duration, overall_line, summary_lines

KNOWN = Expectation(verdicts=(Verdict.FAIL,), reason="fixed in 7.4")


def run(*results: Result, ended: str | None = "complete", notes: tuple[str, ...] = ()) -> RunResults:
    return RunResults(properties={}, results=results, seconds=683.0, ended=ended, notes=notes)


def test_the_whole_text() -> None:
    fault = Fault(kind=FaultKind.PANIC, title="panic: boom in f")
    results = run(
        Result(test="selftests/ftrace/a.tc", verdict=Verdict.PASS),
        Result(
            test="selftests/ftrace/b.tc", verdict=Verdict.CRASH, fault=fault, reason="panic: boom in f", log="logs/b"
        ),
        Result(test="selftests/ftrace/c.tc", verdict=Verdict.XFAIL, expected=KNOWN, actual=Verdict.FAIL),
        Result(test="testcases/d.py::d", verdict=Verdict.FAIL, reason="expected 1,\nfound 2", log="logs/d"),
        Result(test="testcases/e.py::e", verdict=Verdict.PASS, expected=KNOWN),
        Result(test="testcases/f.py::f", verdict=Verdict.SKIP, reason="not here"),
        Result(test="testcases/g.py::g", verdict=Verdict.NOTRUN, reason="interrupted"),
        Result(test="testcases/h.py::h", verdict=Verdict.NOTRUN, reason="interrupted"),
        notes=("rebooted once",),
    )
    assert summary_lines(results, run_dir=Path("out/run")) == [
        "selftests/ftrace  1 CRASH, 1 XFAIL, 1 PASS",
        "testcases         1 FAIL, 2 NOTRUN, 1 SKIP, 1 PASS",
        "CRASH      selftests/ftrace/b.tc",
        "             panic: boom in f",
        "             out/run/logs/b",
        "FAIL       testcases/d.py::d",
        "             expected 1, found 2",
        "             out/run/logs/d",
        "NOTRUN     testcases/g.py::g and 1 more: interrupted",
        "PASS       testcases/e.py::e: passed unexpectedly (fixed in 7.4)",
        "note       rebooted once",
        "FAILED: 1 CRASH, 1 FAIL, 2 NOTRUN, 1 XFAIL, 1 SKIP, 2 PASS in 11m23s",
    ]


@pytest.mark.parametrize(
    ("verdict", "ended", "line"),
    [
        (Verdict.PASS, "complete", "OK: 1 PASS in 11m23s"),
        (Verdict.XFAIL, "complete", "OK: 1 XFAIL in 11m23s"),
        (Verdict.TIMEOUT, "maxfail", "FAILED: 1 TIMEOUT in 11m23s (maxfail)"),
        (Verdict.ERROR, "complete", "BROKEN: 1 ERROR in 11m23s"),
        (Verdict.PASS, None, "BROKEN: 1 PASS in 11m23s (killed)"),
    ],
)
def test_the_overall_line(verdict: Verdict, ended: str | None, line: str) -> None:
    assert overall_line(run(Result(test="a", verdict=verdict), ended=ended)) == line


def test_no_tests() -> None:
    assert summary_lines(run(), run_dir=Path("out")) == ["OK: no tests in 11m23s"]


def test_hostile_text_stays_on_its_line() -> None:
    hostile = "a\x1b[2Jb\r\n\x00c\ud800\x07"
    result = Result(test=hostile, verdict=Verdict.FAIL, reason=hostile, log="logs/x")
    lines = summary_lines(run(result, notes=(hostile,), ended=hostile), run_dir=Path("out"))
    assert all(line.isprintable() for line in lines)
    assert "FAIL       ab c" in lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3599.6, "1h00m"),
     (3725, "1h02m")],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
