"""A run on a file system that fills up: it ends as an error of the host, and what it had found out is not lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import EXIT_INFRA
from harness.model.record import RunRecord
from harness.model.result import EndKind, Result, RunEnd, Verdict
from harness.run.conclusion import conclude, failure
from harness.run.documents import read_results, write_documents
from harness.run.recorder import Recorder
from harness.run.workers.distributor import Distributor
from harness.run.workers.worker import UNWRITTEN
from harness.shortage import Shortage
from tests.fakerun import DOCUMENTS, TESTS, documented, fake_build, fake_run, fake_target, left_partial, recorded
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import Disk, mounted


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _run_on(disk: Disk, directory: Path, run_dir: Path) -> tuple[Shortage | None, set[str]]:
    """A run whose directory is on `disk`. Returns its error, and the tests whose verdicts had arrived."""
    seen: set[str] = set()
    target = fake_target(on_verdict=lambda name: seen.add(f"selftests/ftrace/test.d/basic/{name}"))
    try:
        with mounted(disk):
            fake_run(fake_build(directory), run_dir, target=target)
    except Shortage as error:
        return error, seen
    return None, seen


@pytest.mark.parametrize(
    ("error", "recovers"),
    [
        pytest.param(
            errno.ENOSPC, False,
            marks=fault(
                "the file system of a run is full from its n-th write on, for every n", where="disk",
                blame=Blame.INFRA, survives="every verdict; documents whole or absent",
            ),
        ),
        pytest.param(
            errno.EDQUOT, True,
            marks=fault(
                "one write of a run exceeds the quota, for every write", where="disk", blame=Blame.INFRA,
                survives="every verdict and log; the documents, or the older ones",
            ),
        ),
        pytest.param(
            errno.EIO, True,
            marks=fault(
                "one write of a run ends in an I/O error, for every write", where="disk", blame=Blame.INFRA,
                survives="every verdict and log; the documents, or the older ones",
            ),
        ),
    ],
)  # fmt: skip
def test_wherever_a_run_meets_a_full_disk_it_ends_in_order(tmp_path: Path, error: int, recovers: bool) -> None:
    (tmp_path / "0").mkdir()
    whole = Disk(tmp_path / "0")
    assert _run_on(whole, tmp_path / "build-0", tmp_path / "0") == (None, set(TESTS))
    assert documented(tmp_path / "0") == dict.fromkeys(TESTS, "PASS")
    assert len(whole.operations) > 20
    for number in range(1, len(whole.operations) + 1):
        run_dir = tmp_path / str(number)
        run_dir.mkdir()
        disk = Disk(run_dir, fails_at=number, error=error, recovers=recovers)
        short, seen = _run_on(disk, tmp_path / f"build-{number}", run_dir)
        where = f"operation {number}, {whole.operations[number - 1]}"
        assert short, where
        assert short.exit_code == EXIT_INFRA
        assert str(run_dir) in short.message, where
        told = {line.rpartition(" ")[2] for line in short.details if line.startswith("not written: PASS")}
        in_documents = {test for test, verdict in documented(run_dir).items() if verdict == "PASS"}
        in_events = {test for test, verdict in recorded(run_dir).items() if verdict == "PASS"}
        assert told | in_documents | in_events == seen, where
        assert left_partial(run_dir) == [], where
        if in_documents:
            assert in_documents == seen, where


@fault(
    "the documents can not be written beside older ones",
    where="disk",
    blame=Blame.INFRA,
    survives="the older documents, whole; the events",
)
def test_documents_that_can_not_be_written_leave_the_older_ones(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    fake_run(fake_build(tmp_path / "build"), run_dir)
    for name in DOCUMENTS:
        (run_dir / name).write_text(f"older {name}")
    with mounted(Disk(run_dir)) as writes:
        write_documents(run_dir)
    for name in DOCUMENTS:
        (run_dir / name).write_text(f"older {name}")
    renames = [number for number, what in enumerate(writes.operations) if what.startswith("replace")]
    for number in range(1, renames[0] + 2):
        with mounted(Disk(run_dir, fails_at=number)), pytest.raises(Shortage, match="KiB for the documents"):
            write_documents(run_dir)
        assert [(run_dir / name).read_text() for name in DOCUMENTS] == [f"older {name}" for name in DOCUMENTS]
        assert left_partial(run_dir) == []
        assert set(recorded(run_dir)) == set(TESTS)


def test_documents_in_a_directory_of_somebody_else_are_wrong_input_and_leave_it_alone(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    fake_run(fake_build(tmp_path / "build"), run_dir)
    with (
        mounted(Disk(run_dir, fails_at=1, error=errno.EACCES)),
        pytest.raises(Exception, match=r"expected a directory to write to, found: Permission denied") as caught,
    ):
        write_documents(run_dir)
    assert type(caught.value).__name__ == "UserError"


_ON_TMPFS = """
import sys
from pathlib import Path
import subprocess
from harness.shortage import Shortage
from tests.fakerun import TESTS, documented, fake_build, fake_run, left_partial, recorded

root = Path(sys.argv[1])
build = fake_build(root / "build")
outcomes = set()
for pages in range(1, 40):
    run_dir = root / f"run-{pages}"
    run_dir.mkdir()
    size = f"size={4 * pages}k,nr_inodes=1000"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(run_dir)], check=True)
    try:
        fake_run(build, run_dir)
        outcomes.add("done")
    except Shortage as error:
        assert str(run_dir) in error.message and "free of" in error.message, error.message
        told = {line.rpartition(" ")[2] for line in error.details if line.startswith("not written: PASS")}
        passed = {test for test, verdict in {**recorded(run_dir), **documented(run_dir)}.items() if verdict == "PASS"}
        outcomes.add("cut short" if told | passed != set(TESTS) else "whole")
    assert left_partial(run_dir) == []
    if outcomes == {"done"}:
        raise SystemExit("no size was too small")
    if "done" in outcomes:
        break
print(sorted(outcomes))
"""


@fault(
    "a run on a real file system that is too small by some pages", where="disk", blame=Blame.INFRA,
    survives="every verdict; documents whole or absent",
)  # fmt: skip
def test_a_run_on_a_small_file_system(tmp_path: Path) -> None:
    words = ["unshare", "-Urm", sys.executable, "-c", _ON_TMPFS, str(tmp_path)]
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False).returncode:
        pytest.skip("mounting needs user namespaces, which this host does not allow")
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'done'" in done.stdout


class Node:
    """A worker that has ended, as xdist shows it."""

    def __init__(self, workeroutput: dict[str, object]) -> None:
        self.workeroutput = workeroutput


@fault(
    "a worker can not write its events and logs", where="disk", blame=Blame.INFRA,
    survives="its verdicts and logs, which it hands to the run's own process",
)  # fmt: skip
def test_what_a_worker_can_not_write_is_in_the_documents(tmp_path: Path) -> None:
    own = Recorder.of(tmp_path)
    own.began(RunRecord(isolation="test"))
    own.planned(["a", "b"])
    with mounted(Disk(tmp_path, fails_at=1)):
        worker = Recorder.of(tmp_path, worker="gw0")
        worker.booted(seconds=1.0, factor=1.0, restored=True)
        worker.started("a")
        assert worker.finished(Result(test="a", verdict=Verdict.PASS), "printed by a").log == "logs/a.log"
        assert worker.failure
        left = json.loads(json.dumps(worker.left_over()))
        assert worker.finished_tests() == {"a"}
        node = Node({UNWRITTEN: left})
        distributor = Distributor([], planned={}, seconds=lambda _: 1.0, recorder=own)
        distributor.pytest_testnodedown(node, None)
        assert own.failure
        assert "no space left" in own.failure.message
        assert {result.test for result in read_results(tmp_path).results if result.verdict is Verdict.PASS} == {"a"}
    own.try_again()
    results = conclude(own, tmp_path, RunEnd(kind=EndKind.INTERRUPTED))
    assert [(result.test, result.verdict, result.machine) for result in results.results] == [
        ("a", Verdict.PASS, "gw0/restored-1"),
        ("b", Verdict.NOTRUN, ""),
    ]
    assert results.ended
    assert results.ended.reason == own.failure.message
    assert (tmp_path / "logs/a.log").read_text() == "printed by a"
    assert documented(tmp_path) == {"a": "PASS", "b": "NOTRUN"}
    assert f"kept in {tmp_path}: the verdicts of 1 of 2 tests" in failure(own, tmp_path, results).message


def test_what_a_killed_process_left_of_a_document_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    fake_run(fake_build(tmp_path / "build"), run_dir)
    gone = subprocess.Popen(["true"])
    gone.wait()
    kept = [run_dir / ".mine.txt.partial", run_dir / f".junit.xml.{os.getppid()}.partial"]
    for path in (*kept, run_dir / f".junit.xml.{gone.pid}.partial"):
        path.write_text("x")
    write_documents(run_dir)
    assert sorted(left_partial(run_dir)) == sorted(kept)
