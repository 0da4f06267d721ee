"""Following ftracetest's output: recorded from 7.3.4 (cut), and the form of kernels without --ktap."""

from harness.model.result import Verdict
from harness.parse.ftracetest import Begun, Ended, FtracetestStream
from tests.conftest import DATA


def _marks(text):
    stream = FtracetestStream()
    return [mark for mark in map(stream.feed, text.splitlines()) if mark]


def test_recorded_run_of_7_3():
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


def test_reasons_tell_what_the_log_says():
    ended = [mark for mark in _marks((DATA / "ftracetest/ktap-7.3.log").read_text()) if isinstance(mark, Ended)]
    assert ended[2].reason == "./ftracetest: 20: echo: echo: I/O error"
    assert ended[3].reason == "We cannot test cpu hotplug with a single cpu online"
    assert ended[0].reason == ""
    assert ended[5].reason == "after `[ 1 -le 1 ]`"
    assert ended[6].reason == "the test expects to fail"


def test_kernels_without_ktap():
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
    assert marks[-1].verdict is Verdict.FAIL


def test_a_test_that_prints_ktap_of_its_own_is_not_believed():
    stream = FtracetestStream()
    stream.feed("execute: /payload/selftests/ftrace/test.d/a.tc")
    assert stream.feed("ok 7 not the number of this test") is None
    assert stream.feed("execute: /payload/selftests/ftrace/test.d/b.tc") is None
    assert isinstance(stream.feed("not ok 1 the real one"), Ended)
