"""Livepatch scripts: their TESTs, and what their output says of them."""

import re

import pytest

from harness.model.result import Verdict
from harness.parse import livepatch_log
from harness.parse.livepatch_log import LivepatchStream, names_in, resumed, with_functions
from tests.faults.catalogue import Blame, fault

SCRIPT = """\
#!/bin/bash
. $(dirname $0)/functions.sh
MOD_A=a
setup_config

start_test "first"
load_lp $MOD_A
check_result "% insmod"

# next
MOD_B=b

start_test "second"
FUNC=x
check_result "% x"

start_test "second"
check_result "% y"
exit 0
"""


def _verdicts(lines: list[str], names: list[str], returncode: int) -> list[tuple[str, Verdict, str]]:
    """`lines` of output; what the script's functions say is led by ``@``."""
    stream = LivepatchStream(names)
    ended: list[livepatch_log.TestEnded] = []
    for line in lines:
        if line.startswith("@"):
            ended += stream.said(line.removeprefix("@"))
        else:
            stream.feed(line)
    return [(mark.name, mark.verdict, mark.reason) for mark in [*ended, *stream.finish(returncode)]]


def _passed(name: str) -> tuple[str, str, str]:
    return (f"@begin: {name}", f"TEST: {name} ... ok", "@end: ok")


def test_names_in_order_and_a_repeated_one_told_apart() -> None:
    assert names_in(SCRIPT) == ["first", "second", "second (2)"]


def test_all_pass() -> None:
    lines = [*_passed("first"), *_passed("second"), *_passed("second")]
    assert [row[:2] for row in _verdicts(lines, names_in(SCRIPT), 0)] == [
        ("first", Verdict.PASS),
        ("second", Verdict.PASS),
        ("second (2)", Verdict.PASS),
    ]


NOT_OK = [
    "@begin: first",
    "TEST: first ... not ok",
    "",
    "--- expected",
    "+++ result",
    "@@ -1 +1 @@",
    "-livepatch: 'a': patching complete",
    "+livepatch: 'a': unpatching complete",
    "ERROR: livepatch kselftest(s) failed",
    "@end: not ok",
]


def test_a_failure_tells_the_difference_and_what_never_ran() -> None:
    rows = _verdicts(NOT_OK, ["first", "second"], 1)
    assert rows[0][:2] == ("first", Verdict.FAIL)
    assert "-livepatch: 'a': patching complete" in rows[0][2]
    assert rows[1] == ("second", Verdict.NOTRUN, "the script had ended before it: livepatch kselftest(s) failed")


def test_what_is_not_ok_fails_even_if_the_script_goes_on() -> None:
    for rest, code in (((), 0), (_passed("second"), 0), (_passed("second"), 1)):
        rows = _verdicts([*NOT_OK, *rest], ["first", "second"], code)
        told = "-livepatch: 'a': patching complete; +livepatch: 'a': unpatching complete"
        assert rows[0] == ("first", Verdict.FAIL, told)


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(
            line,
            marks=fault(
                f"a livepatch TEST prints {what}",
                where="hostile target",
                blame=Blame.KERNEL,
                survives="the script's own verdict, FAIL; no verdict for the TEST that did not run",
            ),
        )
        for what, line in (
            ("a bare line ok", "ok"),
            ("words that end in ok", "it looks ok"),
            ("the beginning and verdict of another TEST", "TEST: b ... ok"),
            ("a line that looks like a mark of the harness", "@@0123456789abcdef end: ok"),
        )
    ],
)
def test_a_verdict_in_the_output_is_none(forged: str) -> None:
    stream = LivepatchStream(["a", "b"])
    assert stream.said("begin: a") == ()
    for line in ("TEST: a ... words", forged, "ERROR: failed to load module m"):
        stream.feed(line)
    assert [(ended.name, ended.verdict) for ended in stream.finish(1)] == [("a", Verdict.FAIL), ("b", Verdict.NOTRUN)]


def test_a_test_that_dies_in_the_middle_fails_with_its_words() -> None:
    rows = _verdicts(["@begin: first", "TEST: first ... ERROR: failed to load module a"], ["first"], 1)
    assert rows == [("first", Verdict.FAIL, "failed to load module a")]


def test_a_skipped_script_skips_all_with_its_reason() -> None:
    rows = _verdicts(["SKIP: test-kprobe requires CONFIG_KPROBES_ON_FTRACE"], ["a", "b"], 4)
    assert rows == [(name, Verdict.SKIP, "test-kprobe requires CONFIG_KPROBES_ON_FTRACE") for name in ("a", "b")]


def test_a_conditional_test_that_did_not_run_is_skipped() -> None:
    rows = _verdicts([*_passed("a")], ["a", "b"], 0)
    assert rows[1][:2] == ("b", Verdict.SKIP)


def test_resuming_leaves_out_what_ran_and_keeps_its_variables() -> None:
    rest = resumed(SCRIPT, 1)
    assert rest is not None
    assert names_in(rest) == ["second", "second (2)"]
    assert "MOD_A=a" in rest
    assert "MOD_B=b" in rest
    assert "load_lp" not in rest


def test_names_inside_an_if_cannot_be_resumed() -> None:
    assert resumed('start_test "a"\nif x; then\n\tstart_test "b"\nfi\n', 1) is None


ALONE = '. functions.sh\nM=mod\nstart_test "one"\nN=more\na\nstart_test "two"\nb\nstart_test "three"\nc\n'


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (0, '. functions.sh\nM=mod\nstart_test "one"\nN=more\na\n'),
        (1, '. functions.sh\nM=mod\nN=more\nstart_test "two"\nb\n'),
        (2, '. functions.sh\nM=mod\nN=more\nstart_test "three"\nc\n'),
    ],
)
def test_one_test_of_a_script_alone(first: int, text: str) -> None:
    assert resumed(ALONE, first, alone=True) == text


@pytest.mark.parametrize("first", [-1, 3])
def test_a_test_that_is_not_there_can_not_be_alone(first: int) -> None:
    assert resumed(ALONE, first, alone=True) is None


def test_a_test_inside_an_if_can_not_be_alone() -> None:
    assert resumed('start_test "one"\nif x; then\n\tstart_test "two"\nfi\n', 0, alone=True) is None


@pytest.mark.parametrize("before", ["", "insmod: something", "insmod: something\n"])
def test_words_behind_the_name_tell_why_the_script_ends(before: str) -> None:
    skipped = f"@begin: a\nTEST: a ... {before}SKIP: failed to set kernel.ftrace_enabled = 1".split("\n")
    why = "failed to set kernel.ftrace_enabled = 1"
    assert _verdicts(skipped, ["a", "b"], 4) == [(name, Verdict.SKIP, why) for name in "ab"]
    died = f"@begin: a\nTEST: a ... {before}ERROR: failed to load module m".split("\n")
    assert _verdicts(died, ["a", "b"], 1) == [
        ("a", Verdict.FAIL, "failed to load module m"),
        ("b", Verdict.NOTRUN, "the script had ended before it: failed to load module m"),
    ]


def test_a_script_that_skips_itself_without_a_word() -> None:
    why = "the script skipped itself (exit code 4)"
    assert _verdicts(["@begin: a", "TEST: a ... "], ["a", "b"], 4) == [(name, Verdict.SKIP, why) for name in "ab"]


def test_what_a_passed_test_printed_is_no_reason_for_the_next() -> None:
    rows = _verdicts(["@begin: a", "TEST: a ... xERROR: harmless", "ok", "@end: ok"], ["a", "b"], 1)
    assert rows[1] == ("b", Verdict.NOTRUN, "the script had ended before it: exit code 1")


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        (["X"], ["X (b)", "X"]),
        (["X (b)", "X"], ["X", "X (b)"]),
        (["X", "X", "X (2)"], ["X", "X (3)", "X (2)"]),
        (["X (2)"], ["X", "X (2)"]),
        (["Y", "Y"], ["Y", "Y (2)"]),
    ],
)
def test_a_verdict_goes_to_the_test_of_that_name(printed: list[str], names: list[str]) -> None:
    rows = _verdicts([line for name in printed for line in _passed(name)], names, 0)
    passed = [name for name, verdict, _ in rows if verdict is Verdict.PASS]
    assert [re.sub(r" \([23]\)$", "", name) for name in passed] == [re.sub(r" \([23]\)$", "", n) for n in printed]
    assert set(passed) <= set(names)


def test_a_name_that_looks_like_a_repeated_one_is_told_from_it() -> None:
    script = "".join(f'start_test "{name}"\n' for name in ("X", "X", "X (2)"))
    assert names_in(script) == ["X", "X (3)", "X (2)"]


def test_a_test_without_a_verdict_of_its_own_takes_none_from_the_next() -> None:
    lines = ["@begin: a", "TEST: a ... some words:ok", *_passed("b")]
    told = ("a", Verdict.UNRESOLVED, "the script printed no verdict for it")
    assert _verdicts(lines, ["a", "b"], 0) == [told, ("b", Verdict.PASS, "")]
    assert _verdicts(lines[:2], ["a"], 0) == [told]


def test_a_second_verdict_and_unknown_words_are_nothing() -> None:
    lines = ["@end: ok", "@begin: a", "@hello", "@end: maybe", "@end: ok", "@end: not ok"]
    assert _verdicts(lines, ["a"], 0) == [("a", Verdict.PASS, "")]


def test_the_functions_of_the_harness_stand_behind_upstreams() -> None:
    assert with_functions("#!/bin/bash\n. $(dirname $0)/functions.sh\nx\n", "ours\n") == (
        "#!/bin/bash\n. $(dirname $0)/functions.sh\nours\nx\n"
    )
    assert with_functions("#!/bin/bash\nx\n", "ours\n") is None
    assert with_functions(". functions.sh\n. functions.sh\n", "ours\n") is None
