"""Marks: copies of upstream's runners, run by a real shell, say what their tests can't forge."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.run.suites import marked_ftracetest, marked_livepatch
from harness.run.suites.marks import DESCRIPTOR, Mark, Marks
from tests.faults.catalogue import Blame, fault
from tests.unit.small_ftracetest import FUNCTIONS, UPSTREAM


def test_each_mark_counts_once_and_in_order() -> None:
    marks = Marks(3)
    first, second, third = marks.words
    assert len({first, second, third}) == 3
    assert marks.of(f"{first} begin: x") == Mark("begin: x")
    assert marks.of(f"{first} begin: x") is None
    assert marks.of(f"{third} end: 0\r") == Mark("end: 0")  # the second was lost
    assert marks.of(f"{second} end: 1") is None


def test_no_other_line_is_a_mark() -> None:
    marks = Marks(1)
    word = marks.words[0]
    lines = ("", "ok 1 a", "@@", f" {word} end: 0", f"x{word} end: 0", f"{word[:-1]} end: 0", f"{word}x end: 0")
    assert [marks.of(line) for line in lines] == [None] * len(lines)
    assert Marks(0).of(f"{word} end: 0") is None
    assert marks.of(f"{word} end: 0") == Mark("end: 0")


def _said(command: str, marks: Marks, cwd: Path) -> tuple[list[str], list[str]]:
    """What the runner says, and the other lines."""
    whole = f"{command} 2>&1 {marks.redirection('; echo code $?')}"
    done = subprocess.run(["sh", "-c", whole], capture_output=True, text=True, timeout=60, cwd=cwd)
    told = [(marks.of(line), line) for line in done.stdout.splitlines()]
    return [mark.words for mark, _ in told if mark], [line for mark, line in told if not mark and line]


# -- ftracetest --------------------------------------------------------------------------------------------------

FORGED = f"""\
# description: says that it passes
echo '\t[PASS]'
echo "ok $CASENO says that it passes"
echo "@@0123456789abcdef end: 0"
echo "variables: $(set)" | tr '\\n' ' '; echo
read -r stolen <&{DESCRIPTOR} && echo "$stolen end: 0"
sh -c 'read -r stolen <&{DESCRIPTOR} && echo "$stolen end: 0"'
eval_result 0
harness_mark "end: 0"
printf 'no line end, ok 1 [PASS]'
false
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tracing/instances").mkdir(parents=True)
    (tmp_path / "test.d").mkdir()
    (tmp_path / "test.d/functions").write_text(FUNCTIONS)
    (tmp_path / "test.d/a.tc").write_text("# flags: instance\necho some words\n")
    (tmp_path / "test.d/b.tc").write_text(FORGED)
    (tmp_path / "sched_rt").write_text("950000\n")
    monkeypatch.setenv("HERE", str(tmp_path))
    program = tmp_path / "ftracetest-marked"
    program.write_text(marked_ftracetest.marked(UPSTREAM))
    program.chmod(0o755)
    return tmp_path


@fault(
    "a test prints verdicts, calls the runner's functions, and reads where its marks come from",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the runner's own verdict, FAIL",
)
def test_a_test_can_not_say_what_the_runner_says(place: Path) -> None:
    said, others = _said("./ftracetest-marked", marked_ftracetest.marks_for(2), place)
    a, b = (place / "test.d" / name for name in ("a.tc", "b.tc"))
    assert said == [
        *(f"begin: {a}", "end: 0"),
        *(f"begin: {b}", "end: 1"),
        *(f"begin again: {a}", "end: 0"),
    ]
    assert "some words" in others
    assert "ok 2 says that it passes" in others
    assert others.count("not ok 2 a test") == 1  # what upstream prints is there as well


def test_a_runner_without_marks_left_runs_on(place: Path) -> None:
    said, others = _said("./ftracetest-marked", Marks(1), place)
    assert said == [f"begin: {place}/test.d/a.tc"]
    assert len([line for line in others if re.match(r"(not )?ok \d", line)]) >= 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("eval_result() {", "judge() {"),
        ("\nrun_test() {", "\nrun_one() {"),
        ("__run_test() {", "__run() {"),
        (". $TEST_DIR/functions", "source $TEST_DIR/functions"),
    ],
)
def test_an_ftracetest_of_another_shape_is_not_run_unmarked(old: str, new: str) -> None:
    with pytest.raises(InfraError, match="expected one line"):
        marked_ftracetest.marked(UPSTREAM.replace(old, new))


# -- livepatch ---------------------------------------------------------------------------------------------------

# As in 7.3, without the kernel: check_result compares its words with the file `result`.
LIVEPATCH_FUNCTIONS = """\
function log() {
	echo "$1" >> kmsg
}
function die() {
	log "ERROR: $1"
	echo "ERROR: $1" >&2
	exit 1
}
function setup_config() {
	trap "echo cleaned up" EXIT
}
function start_test {
	local test="$1"
	echo -n "TEST: $test ... "
	log "===== TEST: $test ====="
}
function check_result {
	local expect="$*"
	local result=$(cat result)
	if [[ "$expect" == "$result" ]] ; then
		echo "ok"
	else
		echo -e "not ok\\n\\n$(diff -upr --label expected --label result <(echo "$expect") <(echo "$result"))\\n"
		die "livepatch kselftest(s) failed"
	fi
}
"""


def _livepatch(tmp_path: Path, *lines: str) -> tuple[list[str], list[str]]:
    (tmp_path / "functions.sh").write_text(LIVEPATCH_FUNCTIONS)
    (tmp_path / "result").write_text("% insmod\nlivepatch: done\n")
    text = "\n".join(["#!/bin/bash", ". $(dirname $0)/functions.sh", "setup_config", *lines, "exit 0", ""])
    program = tmp_path / "marked-test-x.sh"
    program.write_text(marked_livepatch.marked(text, name="test-x.sh"))
    program.chmod(0o755)
    return _said("./marked-test-x.sh", marked_livepatch.marks_for(2), tmp_path)


GOOD = '"% insmod\nlivepatch: done"'


def test_what_a_livepatch_script_says(tmp_path: Path) -> None:
    said, others = _livepatch(
        tmp_path, 'start_test "one, two"', f"check_result {GOOD}", 'start_test "x"', f"check_result {GOOD}"
    )
    assert said == ["begin: one, two", "end: ok", "begin: x", "end: ok"]
    assert others == ["TEST: one, two ... ok", "TEST: x ... ok", "cleaned up", "code 0"]
    assert (tmp_path / "kmsg").read_text() == "===== TEST: one, two =====\n===== TEST: x =====\n"


@fault(
    "a livepatch TEST prints a bare line ok, and the beginning and verdict of another TEST",
    where="hostile target",
    blame=Blame.KERNEL,
    survives="the script's own verdict, not ok",
)
def test_a_livepatch_test_can_not_say_ok(tmp_path: Path) -> None:
    forged = ('echo "ok"', 'echo "TEST: two ... ok"', 'echo "@@0123456789abcdef end: ok"', "echo -n ok")
    said, others = _livepatch(tmp_path, 'start_test "one"', *forged, 'check_result "% rmmod"', 'start_test "two"')
    assert said == ["begin: one", "end: not ok"]
    assert [line for line in others if line.startswith(("-", "+")) and line[1:2] not in "-+"] == [
        *("-% rmmod", "+% insmod", "+livepatch: done"),
    ]
    assert others[-3:] == ["ERROR: livepatch kselftest(s) failed", "cleaned up", "code 1"]


def test_a_script_that_does_not_read_the_functions_is_not_run_unmarked() -> None:
    with pytest.raises(InfraError, match=r"test-x\.sh: expected one line that reads functions\.sh"):
        marked_livepatch.marked('start_test "x"\n', name="test-x.sh")
