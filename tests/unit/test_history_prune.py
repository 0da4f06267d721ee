"""Old runs are removed from the history, not from the disk, and the file gets smaller."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from harness.cli.history import history
from harness.errors import UserError
from harness.model.fault import Fault, FaultKind
from harness.model.result import BootTime, Repeat, Result, Verdict
from harness.store import queries
from harness.store.database import opened
from harness.store.prune import prune
from tests.faults.catalogue import Blame, fault
from tests.unit.test_history import called, run_dir
from tests.unit.test_store import added, run
from tests.unit.test_store import writer as another_process

CRASH = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
FAIL = (Result(test="a", verdict=Verdict.FAIL, reason="why"),)
KNOWN = (Result(test="a", verdict=Verdict.XFAIL, actual=Verdict.FAIL, reason="known"),)
REPEATED = (
    Result(
        test="b",
        verdict=Verdict.CRASH,
        reason="the crash of a run that goes",
        fault=CRASH,
        repeats=(Repeat(verdict=Verdict.CRASH, fault=CRASH),),
    ),
)


def names(path: Path) -> list[str]:
    with opened(path) as connection:
        return sorted(stored.id[-2:] for stored in queries.latest_runs(connection, limit=1000))


def test_old_runs_go_and_nothing_that_only_they_referred_to_stays(tmp_path: Path) -> None:
    path = tmp_path / "h"
    added(path, run(1, REPEATED), run(2, FAIL), run(3, FAIL))
    done = prune(path, before=1002.5, keep_failures=False)
    assert (done.runs, done.results, done.kept) == (2, 2, 0)
    assert names(path) == ["03"]
    with opened(path) as connection:
        texts = [row[0] for row in connection.execute("SELECT text FROM texts")]
        assert texts == ["why"]
        assert queries.all_tests(connection) == ("a",)
        assert connection.execute("SELECT count(*) FROM repeats").fetchone() == (0,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert queries.outcomes_of(connection, run(3).record.id)[0].reason == "why"


def test_the_boots_of_runs_that_stay_stay(tmp_path: Path) -> None:
    booted = [dataclasses.replace(run(n), boots=(BootTime(board=f"board {n}", seconds=2.0),)) for n in (1, 2)]
    added(tmp_path / "h", *booted)
    prune(tmp_path / "h", before=1001.5, keep_failures=False)
    with opened(tmp_path / "h") as connection:
        query = "SELECT texts.text FROM boots JOIN texts ON texts.id = boots.board"
        assert connection.execute(query).fetchall() == [("board 2",)]
        assert "board 1" not in [row[0] for row in connection.execute("SELECT text FROM texts")]


def test_unexpected_failures_can_be_kept(tmp_path: Path) -> None:
    added(tmp_path / "h", run(1, FAIL), run(2, KNOWN), run(3, REPEATED), run(4, FAIL[:0]))
    done = prune(tmp_path / "h", before=2000.0, keep_failures=True)
    assert (done.runs, done.kept) == (2, 2)
    assert names(tmp_path / "h") == ["01", "03"]


def test_the_file_gets_smaller(tmp_path: Path) -> None:
    path = tmp_path / "h"
    results = tuple(Result(test=f"t{n}", verdict=Verdict.FAIL, reason=f"reason {n} " * 20) for n in range(300))
    added(path, *(run(number, results) for number in range(120)), run(200, FAIL))
    done = prune(path, before=1150.0, keep_failures=False)
    assert done.runs == 120
    assert done.size == path.stat().st_size < done.size_before / 10


def test_nothing_old(tmp_path: Path) -> None:
    added(tmp_path / "h", run())
    assert prune(tmp_path / "h", before=0.0, keep_failures=False).runs == 0
    assert names(tmp_path / "h") == ["01"]


def test_there_is_no_history(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a history, found none"):
        prune(tmp_path / "h", before=0.0, keep_failures=False)
    assert not (tmp_path / "h").exists()


def test_others_write_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "h"
    added(path, *(run(number) for number in range(1, 200)))
    other = another_process(path, 5000, 5010)
    prune(path, before=1200.5, keep_failures=False)
    said = [int(line) for line in other.communicate()[0].splitlines()]
    assert other.returncode == 0
    with opened(path) as connection:
        assert {int(stored.id[-8:]) for stored in queries.latest_runs(connection, limit=1000)} == set(said)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@fault("a run is removed from the history, and its directory added again", where="disk", blame=Blame.NOBODY,
       survives="the run: its directory was never touched")  # fmt: skip
def test_the_verb_says_what_it_removed_and_a_directory_brings_it_back(tmp_path: Path) -> None:
    old = run_dir(tmp_path, 1, one=Verdict.FAIL, two=Verdict.PASS)
    path = tmp_path / "h"
    called(history, "add", "--history", path, old, run_dir(tmp_path, 2, one=Verdict.PASS))
    words = ("prune", "--history", path, "--older-than", f"{int(time.time() / 86400 - 1e9 / 86400) - 3}d")
    assert (
        ": 1 runs removed with 1 results, 1 older ones kept because of their failures; "
        in called(history, *words, "--keep-failures")[1]
    )
    assert f"{path}: 1 runs removed with 2 results; 0.1 MB before" in called(history, *words)[1]
    assert names(path) == []
    assert called(history, "add", "--history", path, old)[1].endswith("1 of 1 runs added\n")
    assert names(path) == ["01"]


@pytest.mark.parametrize("age", ["", "400", "-1d", "1.5d", "9999999d", "d", "4y"])
def test_an_age_that_is_none(tmp_path: Path, age: str) -> None:
    with pytest.raises(UserError, match="--older-than: expected an age in days or weeks, as 400d or 60w"):
        called(history, "prune", "--history", tmp_path / "h", "--older-than", age)
