"""What other machines' runs may contain, and what a history may: nothing of it ends in a traceback, or is lost."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.campaign.history import add, remember
from harness.errors import UserError
from harness.model.event import Finished, Planned, RunBegun
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, HarnessRecord, KernelRecord, PatchRecord, RunRecord, SourceRecord
from harness.model.result import Repeat, Result, Verdict
from harness.parse.events import event_to_json
from harness.run.documents import read_results
from harness.store import database, ingest, queries
from harness.store.database import opened
from harness.store.schema import MIGRATIONS, VERSION
from tests.faults.catalogue import Blame, fault
from tests.unit.test_store import RECORD, added, run

BAD = "\udcff\0'\"<b>\x1b[2J"
ALL_BAD = RunRecord(
    id=BAD,
    harness=HarnessRecord(version=BAD),
    host=BAD,
    build=BAD,
    kernel=KernelRecord(
        release=BAD,
        key=BAD,
        source=SourceRecord(spec=f"git:{BAD}", version=BAD, checksum=BAD),
        patches=(PatchRecord(name=BAD, sha256=BAD),),
        fragments=(BAD,),
    ),
    board=BoardRecord(name=BAD, details={"accelerator": BAD}),
    suites=(BAD,),
    keyword=BAD,
)
CRASH = Result(
    test=BAD,
    verdict=Verdict.CRASH,
    reason=BAD,
    seconds=1e9,
    board=BAD,
    fault=Fault(kind=FaultKind.OOPS, title=BAD),
    repeats=(Repeat(verdict=Verdict.CRASH, fault=Fault(kind=FaultKind.OOPS, title=BAD)),),
)


def events_in(directory: Path, *lines: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return directory


@fault("every text of a run's record and results has bytes that are no text", where="hostile input", blame=Blame.NOBODY,
       survives="the run, with those bytes written out")  # fmt: skip
def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    directory = events_in(
        tmp_path / "run-\udcff",
        event_to_json(RunBegun(time=1e9, record=ALL_BAD)),
        event_to_json(Finished(time=1e9, result=CRASH)),
    )
    assert add(tmp_path / "h", [directory, directory]) == 1
    with opened(tmp_path / "h") as connection:
        (stored,) = queries.latest_runs(connection)
        (outcome,) = queries.outcomes_of(connection, stored.id)
        assert queries.run_in(connection, directory.resolve()) == stored.id
    assert stored.id.startswith("\\udcff")
    assert (outcome.test, outcome.verdict) == (stored.id, Verdict.CRASH)


def test_a_planned_test_without_a_name(tmp_path: Path) -> None:
    directory = events_in(
        tmp_path / "run",
        event_to_json(RunBegun(time=1e9, record=RECORD)),
        event_to_json(Planned(time=1e9, tests=("",))),
    )
    assert remember(read_results(directory), directory, history=tmp_path / "h").startswith("in the history")


def test_tests_that_only_differ_in_what_can_not_be_stored_are_one(tmp_path: Path) -> None:
    both = [dataclasses.replace(CRASH, test=name) for name in ("a\udcff", "a\\udcff")]
    assert added(tmp_path / "h", run(results=tuple(both))) == [True]
    with opened(tmp_path / "h") as connection:
        assert [o.repeat is None for o in queries.outcomes_of(connection, RECORD.id)] == [True, False, False]


def test_what_is_far_too_long_is_cut_and_stays_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_LONGEST_NAME", 5)
    monkeypatch.setattr(ingest, "_LONGEST_TITLE", 5)
    monkeypatch.setattr(ingest, "_LONGEST_REASON", 5)
    monkeypatch.setattr(ingest, "_LONGEST_TEXT", 5)
    one, two = (
        dataclasses.replace(CRASH, test=f"long name {n}", fault=Fault(kind=FaultKind.OOPS, title=f"long title {n}"))
        for n in (1, 2)
    )
    added(tmp_path / "h", run(results=(one, two)))
    with opened(tmp_path / "h") as connection:
        (stored,) = queries.latest_runs(connection)
        first, second, *_ = queries.outcomes_of(connection, stored.id)
    assert first.test != second.test
    assert first.test.startswith("long ")
    assert (str(first.signature), len(first.reason), stored.cell.board) == ("long [oops]", 10, "virt ")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE results SET verdict = 99", "the verdict 99"),
        ("UPDATE texts SET text = 'Bang [new kind]' WHERE text LIKE '%[oops]'", r"the fault 'Bang \[new kind\]'"),
        ("UPDATE repeats SET condition = 'cold'", "the condition 'cold'"),
    ],
)
def test_what_only_a_newer_harness_knows_is_named(tmp_path: Path, change: str, told: str) -> None:
    added(tmp_path / "h", run(results=(dataclasses.replace(CRASH, reason=""),)))
    with sqlite3.connect(tmp_path / "h") as other:
        other.execute(change)
    with (
        pytest.raises(UserError, match=f"the history has {told}, which this harness does not know"),
        opened(tmp_path / "h") as connection,
    ):
        queries.outcomes_of(connection, RECORD.id)


def test_a_file_that_nothing_was_added_to(tmp_path: Path) -> None:
    (tmp_path / "h").touch()
    with pytest.raises(UserError, match="found an empty file: no run has been added yet"), opened(tmp_path / "h"):
        pass


@fault("a file of one byte in the history's place, which SQLite takes for an empty one", where="disk",
       blame=Blame.USER, survives="that file")  # fmt: skip
@pytest.mark.parametrize("writable", [True, False])
def test_a_file_of_one_byte(tmp_path: Path, *, writable: bool) -> None:
    (tmp_path / "h").write_bytes(b"x")
    with pytest.raises(UserError, match="found a file of one byte"), opened(tmp_path / "h", writable=writable):
        pass
    assert (tmp_path / "h").read_bytes() == b"x"


def test_an_older_file_is_brought_up_to_date_by_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(tmp_path / "h", run())
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x)"))
    monkeypatch.setattr(database, "VERSION", VERSION + 1)
    with opened(tmp_path / "h") as connection:
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)


FIRST = """
import sys
from pathlib import Path
from typing import Any
from tests.unit.test_store import added, run
print(flush=True)
sys.stdin.read()
added(Path(sys.argv[1]), run(int(sys.argv[2])))
"""


def test_several_make_the_file_at_once(tmp_path: Path) -> None:
    """None may take what another has half made for another program's database."""
    words = [sys.executable, "-c", FIRST, str(tmp_path / "h")]
    processes = [
        subprocess.Popen(
            [*words, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        for number in range(6)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(120.0) for process in processes] == [0] * 6
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    with opened(tmp_path / "h") as connection:
        assert len(queries.latest_runs(connection)) == 6


def test_several_turn_the_log_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite then says at once that the file is locked, without the wait that it has for other statements."""
    refused: list[str] = []

    class Busy(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if "journal_mode" in statement and len(refused) < 3:
                refused.append(statement)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *words, **more: connect(*words, factory=Busy, **more))
    assert added(tmp_path / "h", run()) == [True]
    assert len(refused) == 3
