"""The harness is killed at every step of its work: what is left is read for what it is, and the next one goes on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.cache import scratch_dir
from harness.errors import EXIT_INFRA, EXIT_OK, UserError
from harness.model.result import Verdict
from harness.run.documents import read_results, write_documents
from harness.target.holding import lock
from tests.fakerun import TESTS, documented, left_partial, recorded
from tests.faults.catalogue import Blame, fault
from tests.faults.killing import killed


def _given(run_dir: Path) -> set[str]:
    """The tests whose verdicts events.jsonl has, read without our parsers."""
    told = []
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        try:
            told.append(json.loads(line))
        except ValueError:
            continue
    return {each["test"] for each in told if each["kind"] == "finished"}


@fault(
    "SIGKILL after any write, sync or rename of a run", where="killed", blame=Blame.NOBODY,
    survives="every verdict that was written; documents whole or absent, and can be made",
)  # fmt: skip
def test_a_run_that_is_killed_anywhere_has_the_results_it_had(tmp_path: Path) -> None:
    steps = killed("run", signal.SIGKILL, tmp_path)
    assert len(steps) > 25
    assert {"replace .report.html", "write .junit.xml"} <= {
        ".".join(each["what"].split(".")[:3]) for each in steps if "partial" in each["what"]
    }
    for each in steps:
        run_dir, where = tmp_path / str(each["step"]) / "run", each["what"]
        assert each["status"] == -signal.SIGKILL, where
        documented(run_dir)
        if not (run_dir / "events.jsonl").exists():
            with pytest.raises(UserError, match="expected the directory of a run"):
                read_results(run_dir)
            continue
        results = write_documents(run_dir)
        passed = {result.test for result in results.results if result.verdict is Verdict.PASS}
        assert passed == _given(run_dir), where
        assert results.exit_code in (EXIT_OK, EXIT_INFRA), where
        assert len(documented(run_dir)) == len(results.results), where
        assert left_partial(run_dir) == [], where
    assert passed == set(TESTS)


@pytest.mark.parametrize(
    ("number", "first"),
    [
        pytest.param(signal.SIGTERM, 1, marks=fault(
            "SIGTERM after any write, sync or rename of a run", where="killed", blame=Blame.INFRA,
            survives="every verdict until then; the documents, or what they are made from")),
        pytest.param(signal.SIGINT, 2, marks=fault(
            "Ctrl-C after any write, sync or rename of a run", where="killed", blame=Blame.INFRA,
            survives="every verdict until then; the documents, or what they are made from")),
    ],
)  # fmt: skip
def test_a_run_that_is_interrupted_anywhere_ends_in_order(tmp_path: Path, number: int, first: int) -> None:
    """Both signals are handled alike, so each is sent at every other step."""
    steps = killed("run", number, tmp_path, first=first, stride=2)
    assert len(steps) > 12
    in_order = 0
    for each in steps:
        run_dir, where = tmp_path / str(each["step"]) / "run", each["what"]
        assert each["status"] in (EXIT_OK, EXIT_INFRA, 130), where
        verdicts = recorded(run_dir)
        assert set(verdicts.values()) <= {Verdict.PASS, Verdict.NOTRUN, Verdict.ERROR}, where
        told = documented(run_dir)
        assert not told or {test for test, verdict in told.items() if verdict == "PASS"} == _given(run_dir), where
        assert left_partial(run_dir) == [], where
        assert told or each["status"] == 130, where
        in_order += each["status"] == EXIT_INFRA
        attempts = [result.attempts for result in read_results(run_dir).results] if verdicts else []
        assert all(len(each) < 2 for each in attempts), where
    assert in_order > 8  # all while tests run, however many documents are written then


@fault(
    "SIGKILL after any step of taking a board's lock", where="killed", blame=Blame.NOBODY,
    survives="the board, free for the next; no ticket counts",
)  # fmt: skip
def test_a_harness_that_is_killed_while_it_takes_a_lock_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = killed("lock", signal.SIGKILL, tmp_path)
    assert len(steps) > 5
    for each in steps:
        assert each["status"] == -signal.SIGKILL
        monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path / str(each["step"]) / "run"))
        assert lock.holder_of("command x") is None, each["what"]
        with lock.acquired("b", "command x", purpose="the next"):
            holder = lock.holder_of("command x")
            assert holder
            assert holder.purpose == "the next"


@fault(
    "SIGKILL while a snapshot is saved", where="killed", blame=Blame.NOBODY,
    survives="nothing of it: the next run removes it",
)  # fmt: skip
def test_a_snapshot_that_was_not_finished_is_removed_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def save() -> None:
        with scratch_dir("snapshots") as directory:
            for name in ("ram", "root.qcow2", "state.partial"):
                (directory / name).write_bytes(b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)

    assert _in_a_process(save) == -signal.SIGKILL
    assert len(list(tmp_path.rglob("state.partial"))) == 1
    with scratch_dir("snapshots"):
        assert list(tmp_path.rglob("state.partial")) == []


_SWITCHING = """
import sys
from pathlib import Path
from harness.model.board import Access, BoardSpec, CommandSwitch, Power
from harness.model.boot import UbootBoot
from harness.target.holding.guard import Guard
from harness.target.holding.held import HeldBoard
from harness.target.power import switch_of
told = sys.argv[1]
on = ("sh", "-c", f"echo begun >> {told}; echo; sleep 60; echo on >> {told}")
switch = CommandSwitch(on=on, off=("sh", "-c", f"echo off >> {told}"))
board = HeldBoard(spec=BoardSpec(name="b", boot=UbootBoot(tftp_root="/t")), access=Access(power=Power(switch=switch)))
guard = Guard(board)
print(guard._process.pid, flush=True)
switch_of(board.power).on()
"""


@fault(
    "SIGKILL while a power command runs", where="killed", blame=Blame.NOBODY,
    survives="the board, switched off; the command does not go on",
)  # fmt: skip
def test_a_harness_that_is_killed_while_it_switches_leaves_the_board_off(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.touch()
    words = [sys.executable, "-c", _SWITCHING, str(told)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        guard = int(process.stdout.readline())
        while not told.read_text():
            time.sleep(0.01)
        [command] = {int(child) for child in _children(process.pid)} - {guard}
        process.kill()
    for pid in (command, guard):
        with contextlib.suppress(ProcessLookupError):
            assert select.select([os.pidfd_open(pid)], [], [], 30.0)[0], f"{pid} did not end"
    assert told.read_text() == "begun\noff\n"


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _in_a_process(work: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
