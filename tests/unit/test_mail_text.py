"""The mail about a comparison: short, one paragraph for each cause, nothing where nothing is new, and no line of it is
somebody else's."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterable

import pytest

from harness.model.comparison import Comparison
from harness.model.fault import Fault, FaultKind
from harness.model.history import Cell, Outcome, StoredKernel, StoredRun
from harness.model.result import EndKind, Verdict
from harness.report.compare import Side, by_test, compare
from harness.report.mail_text import Background, mail_subject, mail_text, shell_lines

OLD, NEW = StoredKernel(version="7.3.3-1"), StoredKernel(version="7.3.4-1", patches=("aa",), commit="0123456789abcdef")
HERE = Cell(board="virt (tcg)", config="base+ftrace", toolchain="gcc 12")
OOPS = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)").signature
COMMAND = ("harness", "run", "--kernel", "debian:@suite", "--board", "virt")


def did(
    verdict: Verdict, test: str = "testcases/a.py::test_t", *, reason: str = "", actual: Verdict | None = None
) -> Outcome:
    signature = OOPS if verdict is Verdict.CRASH else None
    return Outcome(
        test=test, verdict=verdict, actual=actual or verdict, seconds=1.0, reason=reason, signature=signature
    )


PASS = did(Verdict.PASS)


def compared(before: Iterable[Iterable[Outcome]], since: Iterable[Outcome], cell: Cell = HERE) -> Comparison:
    """Runs of an older kernel, in the order of time, and one of a newer kernel."""
    sides = []
    for name, kernel, where, runs in (("old", OLD, HERE, [*before]), ("new", NEW, cell, [since])):
        stored = [
            (
                StoredRun(id=f"{name}-{n}", kernel=kernel, cell=where, started=float(n), requested="all"),
                by_test(outcomes),
            )
            for n, outcomes in enumerate(runs)
        ]
        sides.append(Side(run=stored[-1][0], runs=stored))
    return compare(*sides)


def background(**given: object) -> Background:
    runs = {f"old-{n}": StoredRun(id=f"old-{n}", kernel=OLD) for n in range(30)}
    runs["new-0"] = StoredRun(id="new-0", kernel=NEW)
    return Background(runs=runs, command=COMMAND, **given)  # type: ignore[arg-type]


def test_a_new_failure_is_told_with_all_that_one_acts_on() -> None:
    tests = [f"testcases/a.py::test_{n}" for n in range(8)]
    comparison = compared(
        [[did(Verdict.PASS, test) for test in tests]] * 20, [did(Verdict.CRASH, test) for test in tests]
    )
    text = mail_text(comparison, background())
    assert text.splitlines()[:2] == [
        "old: 7.3.3-1 on virt (tcg), 1970-01-01 00:00 UTC, run old-19",
        "new: 7.3.4-1 + 1 patch on virt (tcg), 1970-01-01 00:00 UTC, run new-0",
    ]
    assert text.count("NEW FAILURE: CRASH: Oops in f (kernel/x.c) [oops]\n  * testcases/a.py::test_0\n") == 1
    assert "  and 3 more tests\n" in text
    assert "failed 0 of 20 before, 1 of 1 since; worse with a probability of" in text
    assert "last good kernel: 7.3.3-1, run old-19\n" in text
    assert "first bad kernel: 7.3.4-1 + 1 patch (0123456789ab), run new-0\n" in text
    assert "  harness run --kernel debian:@suite --board virt --suite testcases -k \\\n    '(test_0)'\n" in text
    assert mail_subject(comparison) == "[harness] 7.3.4-1 + 1 patch on virt (tcg): 8 new failures"


def test_a_kernel_that_does_not_build_is_reproduced_by_building_it() -> None:
    built = compared([[PASS]], [did(Verdict.FAIL, "build", reason="x.c:1:1: error: no C")])
    new = dataclasses.replace(built.new, end=EndKind.NOT_BUILT)
    old = Side(run=built.old, runs=[(built.old, by_test([PASS]))])
    unbuilt = Side(run=new, runs=[(new, by_test([did(Verdict.FAIL, "build", reason="x.c:1:1: error: no C")]))])
    text = mail_text(compare(old, unbuilt), background())
    assert "NEW FAILURE: FAIL: x.c:1:1: error: no C\n  * build\n" in text
    assert "reproduce:\n  harness build --kernel debian:@suite --board virt\n" in text
    assert "VANISHED" not in text


@pytest.mark.parametrize(
    ("before", "since"),
    [
        ([[PASS]] * 9, [PASS]),
        ([[PASS]] * 9, [did(Verdict.ERROR, reason="the line was lost")]),
        ([[PASS]] * 9, [did(Verdict.NOTRUN)]),
        ([[PASS]] * 9, [did(Verdict.XFAIL, actual=Verdict.FAIL)]),
        ([[did(Verdict.FAIL)]] * 9, [did(Verdict.FAIL)]),
        ([[did(Verdict.FAIL if n % 4 == 0 else Verdict.PASS)] for n in range(40)], [did(Verdict.FAIL)]),
        ([[PASS]] * 30, [did(Verdict.FAIL), *[PASS] * 20]),
        ([[PASS]] * 9, [PASS, did(Verdict.PASS, "testcases/a.py::test_added")]),
    ],
    ids=["same", "error", "not run", "known", "still failing", "flaky", "not repeatable", "appeared"],
)  # fmt: skip
def test_where_nothing_is_new_there_is_no_text(before: list[list[Outcome]], since: list[Outcome]) -> None:
    comparison = compared(before, since)
    assert mail_text(comparison, background()) == ""
    assert mail_subject(comparison).endswith(": nothing new")


@pytest.mark.parametrize(
    ("before", "since", "told"),
    [
        ([[PASS]], [did(Verdict.FAIL, reason="so")], "NEW FAILURE: FAIL: so"),
        ([[did(Verdict.NOTRUN)]], [did(Verdict.FAIL)], "  last good kernel: none in the history\n"),
        ([[PASS, did(Verdict.PASS, "u")]], [PASS], "VANISHED: planned in the old run"),
        ([[PASS]], [did(Verdict.SKIP, reason="no CONFIG_X")], "SKIPPED NOW: SKIP: no CONFIG_X"),
        ([[did(Verdict.FAIL)]] * 9, [PASS], "FIXED: PASS"),
        ([[PASS]], [PASS, did(Verdict.FAIL, "u", reason="so")], "APPEARED: FAIL: so"),
    ],
)
def test_what_is_new_is_told(before: list[list[Outcome]], since: list[Outcome], told: str) -> None:
    assert told in mail_text(compared(before, since), background())


def test_what_is_no_news_is_counted_beside_news() -> None:
    since = [
        did(Verdict.FAIL, reason="so"),
        did(Verdict.PASS, "u"),
        did(Verdict.ERROR, "v", reason="the line was lost"),
    ]
    text = mail_text(compared([[PASS, did(Verdict.PASS, "u"), did(Verdict.PASS, "v")]] * 9, since), background())
    assert text.endswith("other tests: 1 infrastructure, 1 same\n")
    since.append(did(Verdict.FAIL, "w"))
    since += [did(Verdict.PASS, "w")] * 20
    before = [[PASS, did(Verdict.PASS, "u"), did(Verdict.PASS, "v"), did(Verdict.PASS, "w")]] * 30
    told = mail_text(compared(before, since), background()).splitlines()[-2:]
    assert (
        " ".join(told).replace("  | ", "")
        == "other tests: 1 infrastructure, 1 same, 1 that failed and passed, likely by chance"
    )
    assert "line was lost" not in text


def test_many_tests_that_one_cause_broke_and_that_work_again_are_one_paragraph() -> None:
    tests = [f"t{n}" for n in range(30)]
    text = mail_text(
        compared([[did(Verdict.CRASH, test) for test in tests]] * 9, [did(Verdict.PASS, test) for test in tests])
    )
    assert (text.count("FIXED"), "and 25 more tests" in text) == (1, True)


def test_other_boards_and_configurations_are_told_in_a_line() -> None:
    others = [
        (Cell(board="rpi4", config="base+ftrace", toolchain="gcc 12"), did(Verdict.PASS)),
        (Cell(board="virt (tcg)", config="base+kasan", toolchain="clang 19"), did(Verdict.CRASH)),
    ]
    told = background(elsewhere={PASS.test: others})
    text = mail_text(compared([[PASS]] * 9, [did(Verdict.CRASH)]), told)
    line = "elsewhere: PASS on rpi4; CRASH (the same) on this board with kasan without ftrace clang 19"
    assert line in " ".join(text.replace("  | ", "").split())


def test_the_text_has_at_most_sixty_lines_and_ends_with_the_command() -> None:
    tests = [f"testcases/{'d' * 60}/a.py::test_{n}" for n in range(100)]
    since = [did(Verdict.FAIL, test, reason=f"because of {n} " + "x" * 200) for n, test in enumerate(tests)]
    text = mail_text(compared([[did(Verdict.PASS, test) for test in tests]], since), background())
    lines = text.splitlines()
    assert 50 <= len(lines) <= 60
    assert max(map(len, lines)) <= 78
    assert any(
        line.startswith("and 9") and line.endswith("more causes, which `harness compare` tells") for line in lines
    )
    assert "reproduce:" in lines


@pytest.mark.parametrize("given", ["Reviewed-by: A <a@example.org>", "diff --git a/x b/x", "--- a/x", ">From x", "-- "])
def test_no_line_begins_with_the_words_of_others(given: str) -> None:
    hostile = "\x1b[2J\r\n" + "\n".join([given] * 3) + "\u2028" + f"{'y' * 60} {given} {'z' * 100} {given}"
    test = f"selftests/livepatch/x.sh::{given} {'y' * 70} {given} {'z' * 90}"
    cell = Cell(board=f"b {given} {'c' * 60} {given}")
    text = mail_text(
        compared([[did(Verdict.PASS, test)]] * 9, [did(Verdict.FAIL, test, reason=hostile)], cell), background()
    )
    for line in text.splitlines():
        assert not line.lstrip().startswith(given.strip()), text
        assert line.isprintable()
    assert "NEW FAILURE" in text
    assert "\n" not in mail_subject(compared([[PASS]], [did(Verdict.FAIL)], cell))


def test_the_command_runs_each_cause_and_nothing_else() -> None:
    tests = [
        "selftests/ftrace/test.d/a/b.tc[instance]",
        "selftests/livepatch/t.sh::not a 'state' and so",
        "testcases/x.py::test_a[1-2]",
    ]
    since = [did(Verdict.FAIL, test, reason=test) for test in tests]
    text = mail_text(compared([[did(Verdict.PASS, test) for test in tests]] * 9, since), background())
    begin = text.index("reproduce:\n") + len("reproduce:\n")
    shell = text[begin:].partition("\n\n")[0].replace("harness", "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[:-2] == [
        *COMMAND[1:],
        "--suite",
        "selftests/ftrace",
        "--suite",
        "selftests/livepatch",
        "--suite",
        "testcases",
    ]
    assert set(words[-1].split(" or ")) == {"(test.d/a/b.tc[instance])", "(a and state and so)", "(test_a[1-2])"}


@pytest.mark.parametrize("word", ["", "a b", "it's", "x" * 300, "'" * 90, '$(id) `id` \\ " !' * 9, "ü" * 100])
def test_a_shell_reads_the_lines_as_the_words(word: str) -> None:
    lines = shell_lines(["printf", "%s\\n", "first", word, "last"])
    assert max(map(len, lines)) <= 78
    done = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == f"first\n{word}\nlast\n"


def test_words_that_a_terminal_would_act_on_are_in_no_command() -> None:
    odd = Background(command=("harness", "run", "--kernel", "a\nb"))
    assert "reproduce" not in mail_text(compared([[PASS]] * 9, [did(Verdict.FAIL)]), odd)
