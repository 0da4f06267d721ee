"""Following a run of ftracetest: recorded from 7.3.4 (cut), and what tests print to look like it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from harness.model.result import Verdict
from harness.parse.ftracetest import Begun, Ended, FtracetestStream
from tests.boards import is_a
from tests.conftest import DATA
from tests.faults.catalogue import Blame, fault

_EXECUTE = re.compile(r"execute(?P<again> \(instance\) ?)?: (?P<path>/\S+\.tc)")
_RESULTS = {"ok": 0, "not ok": 1, "not ok # UNRESOLVED": 2, "ok # SKIP": 4, "ok # XFAIL": 5}


def _marks(lines: Iterable[str]) -> list[Begun | Ended]:
    """`lines` of output; what the runner says is led by ``@``."""
    stream = FtracetestStream()
    marks: list[Begun | Ended] = []
    for line in lines:
        if line.startswith("@"):
            marks += stream.said(line.removeprefix("@"))
        else:
            stream.feed(line)
    return marks


def _recorded() -> list[Begun | Ended]:
    """The recorded log, in which every line of these forms is the runner's, with what it says today added."""
    said: list[str] = []
    for line in (DATA / "ftracetest/ktap-7.3.log").read_text().splitlines():
        if begun := _EXECUTE.fullmatch(line):
            said.append(f"@begin{' again' if begun['again'] else ''}: {begun['path']}")
        said.append(line)
        if ended := re.fullmatch(r"(not ok|ok) \d+ .*?( # [A-Z]+)?", line):
            said.append(f"@end: {_RESULTS[ended[1] + (ended[2] or '')]}")
    return _marks(said)


def test_recorded_run_of_7_3() -> None:
    marks = _recorded()
    begun = [mark for mark in marks if isinstance(mark, Begun)]
    ended = [mark for mark in marks if isinstance(mark, Ended)]
    assert [mark.path.rpartition("/")[2] for mark in begun] == [
        "basic1.tc",
        "basic2.tc",
        "btf_probe_event.tc",
        "func_hotplug.tc",
        "kprobe_args_user.tc",
        "kprobe_non_uniq_symbol.tc",
        *2 * ["trigger-action-hist-xfail.tc"],
    ]
    assert [mark.instance for mark in begun] == [False] * 7 + [True]
    assert [mark.verdict for mark in ended] == [
        Verdict.PASS,
        Verdict.PASS,
        Verdict.FAIL,
        Verdict.UNRESOLVED,
        Verdict.FAIL,
        Verdict.SKIP,
        Verdict.XFAIL,
        Verdict.XFAIL,
    ]


def test_reasons_tell_what_the_log_says() -> None:
    ended = [mark for mark in _recorded() if isinstance(mark, Ended)]
    assert ended[2].reason == "./ftracetest: 20: echo: echo: I/O error"
    assert ended[3].reason == "We cannot test cpu hotplug with a single cpu online"
    assert ended[0].reason == ""
    assert ended[5].reason == "after `[ 1 -le 1 ]`"
    assert ended[6].reason == "the test expects to fail"


A, B = (Begun(f"/t/test.d/{name}.tc", instance=False) for name in "ab")
LOST = Ended(Verdict.UNRESOLVED, "ftracetest printed no verdict for it")
PASS = Ended(Verdict.PASS, "")


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(
            [line],
            marks=fault(
                f"a test's log has {what}",
                where="hostile target",
                blame=Blame.KERNEL,
                survives="the test's own verdict, FAIL; the line in its log",
            ),
        )
        for what, line in (
            (
                "a verdict as ftracetest prints it without -K",
                "<...>-12 [000] 1.0: tracing_mark_write: all is well\t[PASS]",
            ),
            ("a numbered verdict as ftracetest prints it with -K", "ok 1 the description of this test"),
            ("a verdict behind words without a line end", "some words:ok 1 the description of this test"),
            ("the beginning of another test", "execute: /t/test.d/b.tc"),
            ("a line that looks like a mark of the harness", "@@0123456789abcdef end: 0"),
        )
    ],
)
def test_a_verdict_in_a_tests_own_log_is_none(forged: list[str]) -> None:
    lines = [line if not line.startswith("@") else f" {line}" for line in forged]
    marks = _marks(["@begin: /t/test.d/a.tc", *lines, "+ false", "not ok 1 the description", "@end: 1"])
    assert marks == [A, Ended(Verdict.FAIL, "after `false`")]


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        (0, Verdict.PASS),
        (1, Verdict.FAIL),
        (2, Verdict.UNRESOLVED),
        (3, Verdict.SKIP),
        (4, Verdict.SKIP),
        (5, Verdict.XFAIL),
        (99, Verdict.FAIL),
    ],
)
def test_the_results_that_ftracetest_knows(result: int, verdict: Verdict) -> None:
    marks = _marks(["@begin again: /t/test.d/a.tc", f"@end: {result}"])
    assert marks[0] == Begun(A.path, instance=True)
    assert is_a(Ended, marks[1]).verdict is verdict


@pytest.mark.parametrize(
    "printed", ["not ok 1 it does not fail", "not ok 1", "\t[FAIL]", "words without end\t[\x1b[31mFAIL\x1b[0m]"]
)
def test_the_verdict_itself_is_no_reason(printed: str) -> None:
    marks = _marks(["@begin: /t/test.d/a.tc", "sh: cannot create x: Invalid argument", printed, "@end: 1"])
    assert marks[1] == Ended(Verdict.FAIL, "sh: cannot create x: Invalid argument")


def test_a_test_without_a_verdict_takes_none_from_the_next() -> None:
    marks = _marks(["@begin: /t/test.d/a.tc", "+ killall sh", "@begin: /t/test.d/b.tc", "@end: 0"])
    assert marks == [A, LOST, B, PASS]


def test_a_second_result_and_unknown_words_are_nothing() -> None:
    assert _marks(["@end: 0", "@begin: /t/test.d/a.tc", "@end: x", "@hello", "@end: 0", "@end: 1"]) == [A, PASS]
