"""The history's file: what goes in comes out, once, whatever happens to the writer."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import InfraError, UserError
from harness.model.fault import Fault, FaultKind
from harness.model.history import Cell
from harness.model.record import (
    BoardRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import BootTime, EndKind, Repeat, Result, RunEnd, RunResults, Verdict
from harness.store import database, queries
from harness.store.database import history_file, opened
from harness.store.ingest import add_run
from harness.store.prune import prune
from harness.store.schema import MIGRATIONS, VERSION
from tests.faults.catalogue import Blame, fault

PANIC = Fault(kind=FaultKind.PANIC, title="panic: Oops in f (kernel/x.c:12)")
KERNEL = KernelRecord(
    release="7.3.4",
    key="k1",
    source=SourceRecord(spec="debian:@suite", version="7.3.4-1"),
    patches=(PatchRecord(name="a", sha256="aa"),),
    fragments=("base", "ftrace"),
    toolchain=ToolchainRecord(name="gcc", command="aarch64-linux-gnu-gcc", version="12.2.0"),
)
RECORD = RunRecord(
    id="20260101T000000.000Z-00000001",
    harness=HarnessRecord(version="1"),
    host="lab",
    kernel=KERNEL,
    board=BoardRecord(name="virt", details={"accelerator": "tcg"}),
    suites=("testcases",),
)
RESULTS = (
    Result(test="a", verdict=Verdict.PASS, seconds=1.5),
    Result(test="b", verdict=Verdict.CRASH, reason="it crashed", fault=PANIC, board="virt"),
    Result(test="c", verdict=Verdict.XFAIL, actual=Verdict.FAIL),
)


def run(number: int = 1, results: tuple[Result, ...] = RESULTS, *, is_ended: bool = True) -> RunResults:
    record = dataclasses.replace(RECORD, id=f"20260101T000000.000Z-{number:08}")
    end = RunEnd(kind=EndKind.COMPLETE) if is_ended else None
    return RunResults(record=record, results=results, started=1000.0 + number, seconds=9.0, ended=end)


def added(path: Path, *runs: RunResults) -> list[bool]:
    with opened(path, writable=True) as connection:
        return [add_run(connection, each, directory=Path("/runs") / each.record.id) for each in runs]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "made/history.sqlite"
    assert added(path, run()) == [True]
    with opened(path) as connection:
        (stored,) = queries.latest_runs(connection)
        outcomes = queries.outcomes_of(connection, stored.id)
    assert stored.cell == Cell(board="virt (tcg)", config="base+ftrace", toolchain="gcc 12")
    assert (stored.kernel.release, stored.kernel.version, stored.kernel.patches) == ("7.3.4", "7.3.4-1", ("aa",))
    assert (stored.started, stored.seconds, stored.end, stored.requested) == (1001.0, 9.0, "complete", "testcases")
    assert [(o.test, o.verdict, o.actual, o.seconds, o.is_known) for o in outcomes] == [
        ("a", Verdict.PASS, Verdict.PASS, 1.5, False),
        ("b", Verdict.CRASH, Verdict.CRASH, 0.0, False),
        ("c", Verdict.XFAIL, Verdict.FAIL, 0.0, True),
    ]
    assert (outcomes[1].reason, outcomes[1].signature, outcomes[1].board) == ("it crashed", PANIC.signature, "virt")


@pytest.mark.parametrize("blames_kernel", [True, False])
def test_whether_the_kernel_kept_it_from_booting(tmp_path: Path, *, blames_kernel: bool) -> None:
    end = RunEnd(kind=EndKind.NOT_BOOTED, reason="it panicked", blames_kernel=blames_kernel)
    added(tmp_path / "h", dataclasses.replace(run(), ended=end))
    with opened(tmp_path / "h") as connection:
        (stored,) = queries.latest_runs(connection)
    assert (stored.end, stored.blames_kernel) == ("not booted", blames_kernel)


@pytest.mark.parametrize("blames_kernel", [True, False])
def test_a_kernel_that_did_not_boot_is_a_failure_to_keep(tmp_path: Path, *, blames_kernel: bool) -> None:
    end = RunEnd(kind=EndKind.NOT_BOOTED, blames_kernel=blames_kernel)
    added(tmp_path / "h", dataclasses.replace(run(1, (Result(test="a", verdict=Verdict.NOTRUN),)), ended=end))
    assert prune(tmp_path / "h", before=2000.0, keep_failures=True).kept == blames_kernel


def test_a_run_is_in_it_once_and_completed_when_its_directory_says_more(tmp_path: Path) -> None:
    path = tmp_path / "h"
    killed = run(results=RESULTS[:1], is_ended=False)
    assert added(path, killed, killed, run(), run()) == [True, False, True, False]
    with opened(path) as connection:
        assert len(queries.outcomes_of(connection, RECORD.id)) == 3
        assert queries.latest_runs(connection)[0].end == "complete"


def test_a_run_without_an_id_is_in_it_once(tmp_path: Path) -> None:
    old = dataclasses.replace(run(), record=RunRecord(host="lab"))
    part = dataclasses.replace(old, results=RESULTS[:2])
    assert added(tmp_path / "h", part, old, old, part) == [True, True, False, False]
    with opened(tmp_path / "h") as connection:
        (stored,) = queries.latest_runs(connection)
        assert len(queries.outcomes_of(connection, stored.id)) == 3


def test_of_several_copies_the_one_that_says_most_stays_whatever_comes_first(tmp_path: Path) -> None:
    begun, killed, ended = run(results=RESULTS[:1], is_ended=False), run(is_ended=False), run()
    for number, order in enumerate(itertools.permutations([begun, killed, ended])):
        added(tmp_path / str(number), *order)
        with opened(tmp_path / str(number)) as connection:
            assert queries.latest_runs(connection)[0].end == "complete"
            assert len(queries.outcomes_of(connection, RECORD.id)) == 3


def test_a_later_harness_that_reads_more_out_of_the_same_events_corrects_what_is_there(tmp_path: Path) -> None:
    other = dataclasses.replace(RESULTS[1], fault=dataclasses.replace(PANIC, title="panic: Oops in g (kernel/x.c:12)"))
    assert added(tmp_path / "h", run(), run(results=(RESULTS[0], other, RESULTS[2]))) == [True, True]
    with opened(tmp_path / "h") as connection:
        assert queries.outcomes_of(connection, RECORD.id)[1].signature != PANIC.signature
    kernel = dataclasses.replace(KERNEL, source=SourceRecord(spec="debian:@suite", version="7.3.4-2"))
    assert added(tmp_path / "h", dataclasses.replace(run(), record=dataclasses.replace(RECORD, kernel=kernel))) == [
        True
    ]


def test_a_run_that_moved_is_found_where_it_is(tmp_path: Path) -> None:
    added(tmp_path / "h", run())
    with opened(tmp_path / "h", writable=True) as connection:
        assert not add_run(connection, run(), directory=Path("/elsewhere"))
    with opened(tmp_path / "h") as connection:
        assert queries.run_in(connection, Path("/elsewhere")) == RECORD.id


BOOTS = (BootTime(board="a", seconds=2.0), BootTime(board="a", seconds=4.5), BootTime(board="b", seconds=1e300))


def boots_in(path: Path) -> list[tuple[object, ...]]:
    with opened(path) as connection:
        query = "SELECT texts.text, number, milliseconds FROM boots JOIN texts ON texts.id = boots.board ORDER BY 1"
        return list(connection.execute(query))


def test_how_long_boards_took_to_boot_is_stored(tmp_path: Path) -> None:
    booted = dataclasses.replace(run(), boots=BOOTS)
    assert added(tmp_path / "h", booted, booted) == [True, False]
    assert boots_in(tmp_path / "h") == [("a", 2, 3250), ("b", 1, 10**9)]


def test_a_run_that_an_older_harness_took_in_gets_its_boot_times_when_it_is_added_again(tmp_path: Path) -> None:
    assert added(tmp_path / "h", run(), dataclasses.replace(run(), boots=BOOTS)) == [True, True]
    assert len(boots_in(tmp_path / "h")) == 2
    with opened(tmp_path / "h") as connection:
        assert len(queries.latest_runs(connection)) == 1


def test_two_machines_that_gave_the_same_id_have_two_runs(tmp_path: Path) -> None:
    other = dataclasses.replace(run(results=RESULTS[:1]), record=dataclasses.replace(RECORD, host="another lab"))
    assert added(tmp_path / "h", run(), other, run(), other) == [True, True, False, False]
    with opened(tmp_path / "h") as connection:
        names = [stored.id for stored in queries.latest_runs(connection)]
        assert sorted(len(queries.outcomes_of(connection, name)) for name in names) == [1, 3]
        assert min(names) == RECORD.id
        assert max(names).startswith(f"{RECORD.id}@")


def test_whatever_a_target_wrote_can_be_stored(tmp_path: Path) -> None:
    odd = Result(test="a\udcff", verdict=Verdict.FAIL, reason="\udc80 \0 '; DROP TABLE runs; --" + "x" * 10_000)
    added(tmp_path / "h", run(results=(odd,)))
    with opened(tmp_path / "h") as connection:
        (outcome,) = queries.outcomes_of(connection, RECORD.id)
    assert outcome.test == "a\\udcff"
    assert outcome.reason.startswith("\\udc80 \0 '; DROP")


def test_what_fails_inside_leaves_nothing(tmp_path: Path) -> None:
    added(tmp_path / "h", run())

    def add_and_fail() -> None:
        with opened(tmp_path / "h", writable=True) as connection:
            add_run(connection, run(2), directory=tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    with opened(tmp_path / "h") as connection:
        assert len(queries.latest_runs(connection)) == 1


def test_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_HISTORY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert history_file() == tmp_path / "arm64-ftrace-harness/history.sqlite"
    monkeypatch.setenv("HARNESS_HISTORY", "/lab/h")
    assert history_file() == Path("/lab/h")
    assert history_file(Path("/given")) == Path("/given")


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a history, found none"), opened(tmp_path / "h"):
        pass
    assert not (tmp_path / "h").exists()


@fault("the history's file is a text, or another program's database", where="disk", blame=Blame.USER,
       survives="that file, unchanged")  # fmt: skip
@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("kind", ["text", "database"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, *, kind: str, writable: bool) -> None:
    path = tmp_path / "h"
    if kind == "text":
        path.write_text("my notes, longer than a header of SQLite " * 50)
    else:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (x)")
    content = path.read_bytes()
    with pytest.raises(UserError, match="expected a history of this harness, found"), opened(path, writable=writable):
        pass
    assert path.read_bytes() == content


@fault("the history's file was written by a newer harness", where="disk", blame=Blame.USER, survives="that file")
def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    added(tmp_path / "h", run())
    with sqlite3.connect(tmp_path / "h") as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UserError, match=f"found version {VERSION + 1}"), opened(tmp_path / "h", writable=True):
        pass


@fault("pages of the history's file are overwritten", where="disk", blame=Blame.INFRA,
       survives="the run directories, from which it is made again")  # fmt: skip
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "h"
    added(path, *(run(number) for number in range(1, 100)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(InfraError, match=r"damaged.*harness history add DIR"), opened(path) as connection:
        queries.latest_runs(connection)


def test_migrations_are_applied_once_by_whoever_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added(tmp_path / "h", run())
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x); CREATE TABLE more (x)"))
    monkeypatch.setattr(database, "VERSION", VERSION + 1)
    assert added(tmp_path / "h", run(2)) == [True]
    assert added(tmp_path / "h", run(3)) == [True]
    with opened(tmp_path / "h") as connection:
        assert len(queries.latest_runs(connection)) == 3


WRITER = """
import sys
from pathlib import Path
from tests.unit.test_store import added, run
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    added(Path(sys.argv[1]), run(number))
    print(number, flush=True)
"""


def writer(path: Path, first: int, end: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WRITER, str(path), str(first), str(end)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])


def test_ten_write_at_once(tmp_path: Path) -> None:
    writers = [writer(tmp_path / "h", 100 * number, 100 * number + 5) for number in range(10)]
    assert [each.wait(120.0) for each in writers] == [0] * 10
    for each in writers:
        each.communicate()
    with opened(tmp_path / "h") as connection:
        assert len(queries.latest_runs(connection, limit=1000)) == 50


@fault("SIGKILL of a process that writes to the history", where="killed", blame=Blame.NOBODY,
       survives="every run that was acknowledged; the file, whole")  # fmt: skip
def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "h"
    said: list[int] = []
    for killed in range(3):
        process = writer(path, 1000 * killed + 1, 1000 * killed + 1000)
        assert process.stdout is not None
        said += [int(process.stdout.readline()) for _ in range(3)]
        os.kill(process.pid, signal.SIGKILL)
        said += [int(line) for line in process.stdout]
        process.wait()
    with opened(path, writable=True) as connection:
        stored = {int(each.id[-8:]) for each in queries.latest_runs(connection, limit=10_000)}
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert all(len(queries.outcomes_of(connection, f"20260101T000000.000Z-{number:08}")) == 3 for number in stored)
    assert set(said) <= stored


def test_no_question_reads_all_results(tmp_path: Path) -> None:
    """Whatever is asked, results are looked up along an index; there may be millions of them."""
    repeated = dataclasses.replace(RESULTS[1], repeats=(Repeat(verdict=Verdict.PASS),))
    added(tmp_path / "h", run(1, (RESULTS[0], repeated)), run(2))
    asked: list[str] = []
    with opened(tmp_path / "h", writable=True) as connection:
        connection.set_trace_callback(asked.append)
        for stored in queries.latest_runs(connection, good=True) + queries.latest_runs(connection):
            queries.outcomes_of(connection, stored.id)
            queries.latest_runs(connection, cell=stored.cell, kernel=stored.kernel, until=stored.started)
            queries.history_in(connection, "a", [stored])
        add_run(connection, run(1), directory=Path("/runs"))
        connection.set_trace_callback(None)
        plans = [
            str(step[3])
            for statement in asked
            if not statement.startswith("--")
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]
    assert any(plan.startswith("SEARCH results USING") for plan in plans)
    assert any(plan.startswith("SEARCH repeats USING") for plan in plans)
    assert not [plan for plan in plans if plan.startswith(("SCAN results", "SCAN repeats", "SCAN texts"))]
