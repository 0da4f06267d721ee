"""Following ftracetest's output: recorded from 7.3.4 (cut), and the form of kernels without --ktap."""

import pytest

from harness.model.result import Verdict
from harness.parse.ftracetest import Begun, Ended, FtracetestStream
from tests.boards import is_a
from tests.conftest import DATA


def _marks(text: str) -> list[Begun | Ended]:
    stream = FtracetestStream()
    return [mark for line in text.splitlines() for mark in stream.feed(line)]


def test_recorded_run_of_7_3() -> None:
    marks = _marks((DATA / "ftracetest/ktap-7.3.log").read_text())
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
    ended = [mark for mark in _marks((DATA / "ftracetest/ktap-7.3.log").read_text()) if isinstance(mark, Ended)]
    assert ended[2].reason == "./ftracetest: 20: echo: echo: I/O error"
    assert ended[3].reason == "We cannot test cpu hotplug with a single cpu online"
    assert ended[0].reason == ""
    assert ended[5].reason == "after `[ 1 -le 1 ]`"
    assert ended[6].reason == "the test expects to fail"


def test_kernels_without_ktap() -> None:
    marks = _marks(
        "=== Ftrace unit tests ===\n"
        "[1] Basic trace file checkexecute: /payload/selftests/ftrace/test.d/00basic/basic1.tc\n"
        "+ checkreq\n"
        "\t[PASS]\n"
        "[2] Needs moreexecute: /payload/selftests/ftrace/test.d/x/more.tc\n"
        "Required tracer wakeup is not configured.\n"
        "\t[\x1b[34mUNSUPPORTED\x1b[0m]\n"
        "[3] (instance)  Basic trace file checkexecute (instance) : "
        "/payload/selftests/ftrace/test.d/00basic/basic1.tc\n"
        "last line without end\t[FAIL]\n"
    )
    assert marks == [
        Begun("/payload/selftests/ftrace/test.d/00basic/basic1.tc", instance=False),
        Ended(Verdict.PASS, ""),
        Begun("/payload/selftests/ftrace/test.d/x/more.tc", instance=False),
        Ended(Verdict.SKIP, "Required tracer wakeup is not configured."),
        Begun("/payload/selftests/ftrace/test.d/00basic/basic1.tc", instance=True),
        marks[-1],
    ]
    assert is_a(Ended, marks[-1]).verdict is Verdict.FAIL


A, B, C = (Begun(f"/t/test.d/{name}.tc", instance=False) for name in "abc")
B_AGAIN = Begun(B.path, instance=True)
ORDER = [A, B, C, B_AGAIN]
LOST = Ended(Verdict.UNRESOLVED, "ftracetest printed no verdict for it")
PASS = Ended(Verdict.PASS, "")


def _in_order(*lines: str) -> tuple[list[Begun | Ended], FtracetestStream]:
    stream = FtracetestStream(ORDER)
    return [mark for line in ("TAP version 13", "1..4", *lines) for mark in stream.feed(line)], stream


def test_a_test_that_prints_ktap_of_its_own_is_not_believed() -> None:
    marks, _ = _in_order(
        "execute: /t/test.d/a.tc",
        "ok 7 not the number of this test",
        "execute: /t/test.d/z.tc",
        "execute: /t/test.d/a.tc",
        "\t[PASS]",
        "ok 1 (instance) which this is not",
        "+ echo execute: /t/test.d/b.tc",
        "not ok 1 the real one",
    )
    assert marks[0] == A
    assert [is_a(Ended, mark).verdict for mark in marks[1:]] == [Verdict.FAIL]


def test_a_verdict_of_a_kernel_without_ktap_has_no_number() -> None:
    marks = _marks("[1] firstexecute: /t/test.d/a.tc\nok 1 of the test's own\n\t[FAIL]\n")
    assert [getattr(mark, "verdict", None) for mark in marks] == [None, Verdict.FAIL]


def test_tests_without_description() -> None:
    marks, _ = _in_order(
        *("execute: /t/test.d/a.tc", "ok 1"),
        *("execute: /t/test.d/b.tc", "not ok 2 # UNRESOLVED"),
        *("execute: /t/test.d/c.tc", "ok 3 # SKIP"),
        *("execute (instance) : /t/test.d/b.tc", "ok 4 (instance)"),
    )
    assert [mark.verdict for mark in marks if isinstance(mark, Ended)] == [
        Verdict.PASS,
        Verdict.UNRESOLVED,
        Verdict.SKIP,
        Verdict.PASS,
    ]


@pytest.mark.parametrize(
    ("glued", "verdict"),
    [
        ("no line end here:ok 1 some test", Verdict.PASS),
        ("no line end herenot ok 1 some test", Verdict.FAIL),
        ("2 of 2 lookups ok 1 skippednot ok 1 some test", Verdict.FAIL),
        ("ok 1 is what the test printsnot ok 1 some test # UNRESOLVED", Verdict.UNRESOLVED),
        ("no line endok 1", Verdict.PASS),
    ],
)
def test_a_verdict_behind_output_without_a_line_end(glued: str, verdict: Verdict) -> None:
    begin = ("execute: /t/test.d/a.tc", "+ printf %s", glued)
    marks, stream = _in_order(*begin)
    assert (marks, is_a(Ended, stream.finish()).verdict) == ([A], verdict)
    marks, _ = _in_order(*begin, "rm: a complaint", "execute: /t/test.d/b.tc", "ok 2 the next")
    assert [marks[0], *marks[2:]] == [A, B, PASS]
    assert is_a(Ended, marks[1]).verdict is verdict


@pytest.mark.parametrize(
    "last", ["it took 3 s", f"ok {'1' * 5000}", "+ echo look: ok 1 to see", "ok 2 is another's number"]
)
def test_words_that_are_no_verdict_are_none(last: str) -> None:
    marks, stream = _in_order("execute: /t/test.d/a.tc", "a lookok 1 of its own", "+ [ 1 -eq 1 ]", last)
    assert (marks, stream.finish()) == ([A], None)
    assert stream.feed("execute: /t/test.d/b.tc") == (B,)


def test_a_test_without_a_verdict_takes_none_from_the_next() -> None:
    marks, _ = _in_order(
        *("execute: /t/test.d/a.tc", "+ killall sh"),
        *("execute: /t/test.d/b.tc", "not ok 2 the second"),
        *("execute: /t/test.d/c.tc", "no line endexecute (instance) : /t/test.d/b.tc", "ok 4 (instance) the second"),
    )
    failed = Ended(Verdict.FAIL, "")
    assert marks == [A, LOST, B, failed, C, LOST, B_AGAIN, PASS]


def test_what_was_not_given_in_any_order_begins_where_another_test_runs() -> None:
    marks = _marks("execute: /t/test.d/a.tc\nexecute: /t/test.d/a.tc\nexecute: /t/test.d/z.tc\nok 2 z\n")
    assert marks == [A, LOST, Begun("/t/test.d/z.tc", instance=False), PASS]


def test_the_reason_is_found_before_a_verdict_that_is_glued_to_it() -> None:
    _, stream = _in_order("execute: /t/test.d/a.tc", "sh: cannot create x: Invalid argumentnot ok 1 a test")
    assert stream.finish() == Ended(Verdict.FAIL, "sh: cannot create x: Invalid argument")
