"""The ftracetest that waits for its files, made of a small one with the upstream shape and run by a real sh."""

import re
import subprocess
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.parse.ftracetest import Begun, Ended, FtracetestStream
from harness.run.suites import warm_ftracetest
from harness.run.suites.marked_ftracetest import marks_for
from harness.run.suites.warm_ftracetest import going_command, waiting_command, warmed
from tests.unit.small_ftracetest import FUNCTIONS, UPSTREAM


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the small ftracetest; FIFOs and all are in it."""
    (tmp_path / "tracing/instances").mkdir(parents=True)
    (tmp_path / "test.d").mkdir()
    (tmp_path / "test.d/functions").write_text(FUNCTIONS)
    (tmp_path / "test.d/good.tc").write_text("# flags: instance\ncat $HERE/sched_rt\n")
    (tmp_path / "test.d/bad.tc").write_text("false\n")
    (tmp_path / "sched_rt").write_text("950000\n")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setattr(warm_ftracetest, "_FILES", str(tmp_path / "files"))
    monkeypatch.setattr(warm_ftracetest, "_OUTPUT", str(tmp_path / "output"))
    here = warm_ftracetest._WAIT.replace("/run/ftracetest.files", "$HERE/files")
    monkeypatch.setattr(warm_ftracetest, "_WAIT", here)
    return tmp_path


def _sh(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def _warm(place: Path, text: str = UPSTREAM) -> subprocess.CompletedProcess[str]:
    program = place / "ftracetest-warm"
    program.write_text(warmed(text))
    program.chmod(0o755)
    return _sh(waiting_command(str(place), program.name))


def _went(place: Path, plain: list[str], again: list[str]) -> list[str]:
    """The output; what the runner says is led by ``@``."""
    first, second = ([str(place / "test.d" / name) for name in names] for names in (plain, again))
    marks = marks_for(len(plain) + len(again))
    lines = _sh(going_command(first, second, marks)).stdout.splitlines()
    return [f"@{mark.words}" if (mark := marks.of(line)) else line for line in lines]


def _marks(lines: list[str]) -> tuple[list[tuple[str, bool]], list[str]]:
    stream = FtracetestStream()
    marks = [mark for line in lines if line[:1] == "@" for mark in stream.said(line[1:])]
    begun = [(mark.path.rpartition("/")[2], mark.instance) for mark in marks if isinstance(mark, Begun)]
    return begun, [mark.verdict.name for mark in marks if isinstance(mark, Ended)]


def test_waits_with_the_reset_done_and_the_system_as_it_was(place: Path) -> None:
    waiting = _warm(place)
    assert waiting.returncode == 0
    assert waiting.stdout.splitlines() == ["reset tracing"]
    assert (place / "sched_rt").read_text() == "950000\n"
    _went(place, [], [])


def test_same_files_in_the_same_order_with_the_same_verdicts(place: Path) -> None:
    _warm(place)
    lines = _went(place, ["good.tc", "bad.tc"], ["good.tc"])
    assert _marks(lines) == ([("good.tc", False), ("bad.tc", False), ("good.tc", True)], ["PASS", "FAIL", "PASS"])
    assert "1..3" in lines
    assert lines[-1] == "ftracetest ended with 0"


def test_nothing_is_lost_where_it_ends_before_anybody_reads(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _warm(place)
    slow = place / "bin/cat"
    slow.parent.mkdir()
    # only the reader is slow: it waits until the copy has ended
    slow.write_text(f"#!/bin/sh\nwhile pgrep -f {place}/ftracetest-warm; do :; done > /dev/null\nexec /bin/cat\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=":")
    lines = _went(place, ["bad.tc"], [])
    assert _marks(lines) == ([("bad.tc", False)], ["FAIL"])


def test_first_test_is_not_reset_again_but_the_next_ones_are(place: Path) -> None:
    _warm(place)
    lines = [line for line in _went(place, ["good.tc", "bad.tc"], ["good.tc"]) if line.startswith(("reset", "execute"))]
    lines = [re.sub(r"ftracetest\.\w+|/\S+/", "", line) for line in lines]
    assert lines == [
        "execute: good.tc",
        "execute: bad.tc",
        "reset tracing",
        "reset tracing",
        "execute (instance) : good.tc",
        "reset ",
        "reset at the end",
    ]


def test_one_rerun_alone_is_reset_in_its_instance(place: Path) -> None:
    _warm(place)
    lines = _went(place, [], ["good.tc"])
    assert _marks(lines) == ([("good.tc", True)], ["PASS"])
    assert [line.split(".")[0] for line in lines if line.startswith("reset")] == [
        "reset ftracetest",
        "reset at the end",
    ]


@pytest.mark.parametrize(
    ("triggers", "filters", "done"),
    [
        (None, None, ["triggers", "filters"]),  # an older kernel
        ("", "", []),
        ("sched:sched_switch\ttraceoff\n", "", ["triggers"]),
        ("", "sched:sched_switch\tprev_pid == 1\n", ["filters"]),
    ],
)
def test_the_last_reset_leaves_out_what_the_kernel_says_is_not_there(
    place: Path, triggers: str | None, filters: str | None, done: list[str]
) -> None:
    for name, text in (("triggers", triggers), ("filters", filters)):
        if text is not None:
            (place / "tracing" / f"show_event_{name}").write_text(text)
    (place / "test.d/functions").write_text(
        "reset_trigger() { echo reset triggers; }\nreset_events_filter() { echo reset filters; }\n"
        "initialize_system() { reset_trigger; reset_events_filter; }\n"
        "finish_system() { echo reset at the end; initialize_system; }\n"
    )
    _warm(place)
    lines = _went(place, ["good.tc"], [])
    last = lines[lines.index("reset at the end") :]
    assert [line.removeprefix("reset ") for line in last if line.startswith("reset ")][1:] == done


def test_resets_before_tests_are_whole(place: Path) -> None:
    """Whatever the last one may leave out."""
    for name in ("triggers", "filters"):
        (place / "tracing" / f"show_event_{name}").write_text("")
    (place / "test.d/functions").write_text(
        "reset_trigger() { echo reset triggers; }\nreset_events_filter() { echo reset filters; }\n"
        "initialize_system() { reset_trigger; reset_events_filter; }\nfinish_system() { initialize_system; }\n"
    )
    assert _warm(place).stdout.splitlines() == ["reset triggers", "reset filters"]
    lines = _went(place, ["good.tc", "bad.tc"], [])
    assert [line for line in lines if line.startswith("reset")] == ["reset triggers", "reset filters"]


def test_real_time_limit_is_off_during_tests_and_put_back(place: Path) -> None:
    _warm(place)
    assert "-1" in _went(place, ["good.tc"], [])
    assert (place / "sched_rt").read_text() == "950000\n"


def test_where_the_early_reset_fails_each_test_resets_itself(place: Path) -> None:
    (place / "test.d/functions").write_text("initialize_system() { false; echo reset; }\nfinish_system() { :; }\n")
    assert _warm(place).returncode == 0
    lines = _went(place, ["good.tc"], [])
    assert _marks(lines) == ([("good.tc", False)], ["FAIL"])


def test_one_that_ends_before_it_waits_says_why(place: Path) -> None:
    waiting = _warm(place, UPSTREAM.replace("KTAP=1\n", 'echo "Error: not configured" >&2; exit 1\n'))
    assert waiting.returncode == 1
    assert "Error: not configured" in waiting.stdout
    assert waiting.stdout.splitlines()[-1] == "ftracetest ended with 1"


def test_older_ftracetest_without_ktap_and_with_another_name_for_the_reset() -> None:
    older = re.sub(r"^if \[ \"\$KTAP\" = \"1\" \]; then\n  echo \"TAP(.*\n)*?fi\n", "", UPSTREAM, flags=re.MULTILINE)
    older = older.replace("(cd $TRACING_DIR; initialize_system)\n", "", 1).replace(
        "initialize_system", "initialize_ftrace"
    )
    assert "set -e; initialize_ftrace)\n" in warmed(older)


def test_an_unknown_ftracetest_is_not_guessed_at() -> None:
    with pytest.raises(InfraError, match="plain tests"):
        warmed(UPSTREAM.replace("# Main loop", "# The loop"))
