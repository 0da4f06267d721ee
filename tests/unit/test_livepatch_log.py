"""Livepatch scripts: their TESTs, and what their output says of them."""

import pytest

from harness.model.result import Verdict
from harness.parse.livepatch_log import LivepatchStream, names_in, resumed

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


def _verdicts(lines, names, returncode):
    stream = LivepatchStream(names)
    ended = [mark for mark in map(stream.feed, lines) if mark] + stream.finish(returncode)
    return [(mark.name, mark.verdict, mark.reason) for mark in ended]


def test_names_in_order_and_a_repeated_one_told_apart():
    assert names_in(SCRIPT) == ["first", "second", "second (2)"]


def test_all_pass():
    lines = ["TEST: first ... ok", "TEST: second ... ok", "TEST: second ... ok"]
    assert [row[:2] for row in _verdicts(lines, names_in(SCRIPT), 0)] == [
        ("first", Verdict.PASS),
        ("second", Verdict.PASS),
        ("second (2)", Verdict.PASS),
    ]


def test_a_failure_tells_the_difference_and_what_never_ran():
    lines = [
        "TEST: first ... not ok",
        "",
        "--- expected",
        "+++ result",
        "@@ -1 +1 @@",
        "-livepatch: 'a': patching complete",
        "+livepatch: 'a': unpatching complete",
        "ERROR: livepatch kselftest(s) failed",
    ]
    rows = _verdicts(lines, ["first", "second"], 1)
    assert rows[0][:2] == ("first", Verdict.FAIL)
    assert "-livepatch: 'a': patching complete" in rows[0][2]
    assert rows[1] == ("second", Verdict.NOTRUN, "the script had ended before it: livepatch kselftest(s) failed")


def test_a_test_that_dies_in_the_middle_fails_with_its_words():
    rows = _verdicts(["TEST: first ... ERROR: failed to load module a"], ["first"], 1)
    assert rows[0][:2] == ("first", Verdict.FAIL)
    assert "failed to load module a" in rows[0][2]


def test_a_skipped_script_skips_all_with_its_reason():
    rows = _verdicts(["SKIP: test-kprobe requires CONFIG_KPROBES_ON_FTRACE"], ["a", "b"], 4)
    assert rows == [(name, Verdict.SKIP, "test-kprobe requires CONFIG_KPROBES_ON_FTRACE") for name in ("a", "b")]


def test_a_conditional_test_that_did_not_run_is_skipped():
    rows = _verdicts(["TEST: a ... ok"], ["a", "b"], 0)
    assert rows[1][:2] == ("b", Verdict.SKIP)


def test_resuming_leaves_out_what_ran_and_keeps_its_variables():
    rest = resumed(SCRIPT, 1)
    assert rest is not None
    assert names_in(rest) == ["second", "second (2)"]
    assert "MOD_A=a" in rest
    assert "MOD_B=b" in rest
    assert "load_lp" not in rest


def test_names_inside_an_if_cannot_be_resumed():
    assert resumed('start_test "a"\nif x; then\n\tstart_test "b"\nfi\n', 1) is None


def test_words_between_a_name_and_its_verdict_do_not_hide_it():
    rows = _verdicts(["TEST: a ... insmod: something harmless", "ok", "TEST: b ... ok"], ["a", "b"], 0)
    assert [row[:2] for row in rows] == [("a", Verdict.PASS), ("b", Verdict.PASS)]


ALONE = '. functions.sh\nM=mod\nstart_test "one"\nN=more\na\nstart_test "two"\nb\nstart_test "three"\nc\n'


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (0, '. functions.sh\nM=mod\nstart_test "one"\nN=more\na\n'),
        (1, '. functions.sh\nM=mod\nN=more\nstart_test "two"\nb\n'),
        (2, '. functions.sh\nM=mod\nN=more\nstart_test "three"\nc\n'),
    ],
)
def test_one_test_of_a_script_alone(first, text):
    assert resumed(ALONE, first, alone=True) == text


@pytest.mark.parametrize("first", [-1, 3])
def test_a_test_that_is_not_there_can_not_be_alone(first):
    assert resumed(ALONE, first, alone=True) is None


def test_a_test_inside_an_if_can_not_be_alone():
    assert resumed('start_test "one"\nif x; then\n\tstart_test "two"\nfi\n', 0, alone=True) is None
