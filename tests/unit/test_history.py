"""The verbs over the history: taking runs in, naming them, comparing them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.build.finished import load_record
from harness.campaign.history import earlier, remember
from harness.cli.compare import compare
from harness.cli.history import history
from harness.errors import UserError
from harness.model.comparison import Tally
from harness.model.event import Finished, Planned, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.kernel import Build
from harness.model.record import BoardRecord, KernelRecord, PatchRecord, RunRecord
from harness.model.result import EndKind, Result, RunEnd, RunResults, Verdict
from harness.parse.events import event_to_json
from harness.run.documents import read_results
from harness.store.database import opened
from harness.store.ingest import add_run
from tests.boards import spec
from tests.faults.catalogue import Blame, fault
from tests.records import build_json


def run_dir(parent: Path, number: int, *, patch: str = "", **verdicts: Verdict) -> Path:
    """The directory of a run that began `number` days after another epoch."""
    directory = parent / f"run-{number}"
    directory.mkdir(parents=True)
    record = RunRecord(
        id=f"run-{number:04}",
        kernel=KernelRecord(
            release="7.3.4", key=patch or "stock", patches=(PatchRecord(sha256=patch),) if patch else ()
        ),
        board=BoardRecord(name="virt"),
    )
    events = [
        RunBegun(time=1e9 + 86400 * number, record=record),
        Planned(time=1e9 + 86400 * number, tests=tuple(verdicts)),
        *(Finished(time=1e9 + 86400 * number + 1, result=Result(test=t, verdict=v)) for t, v in verdicts.items()),
        RunEnded(time=1e9 + 86400 * number + 2, end=RunEnd(kind=EndKind.COMPLETE)),
    ]
    (directory / "events.jsonl").write_text("".join(event_to_json(event) + "\n" for event in events))
    return directory


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty good nights in the history, and a bad one with a patch."""
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path / "history"))
    good = [run_dir(tmp_path, number, one=Verdict.PASS, two=Verdict.PASS) for number in range(20)]
    bad = run_dir(tmp_path, 20, patch="aa", one=Verdict.PASS, two=Verdict.FAIL)
    assert called(history, "add", *good, bad) == (0, f"{tmp_path / 'history'}: 21 of 21 runs added\n")
    return tmp_path


def called(verb: object, *words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(verb, [str(word) for word in words], standalone_mode=False)  # type: ignore[arg-type]
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.output


def test_adding_a_run_again_changes_nothing(nights: Path) -> None:
    assert called(history, "add", nights / "run-3")[1].endswith(": 0 of 1 runs added\n")


def test_the_latest_runs_are_listed(nights: Path) -> None:
    lines = called(history)[1].splitlines()
    assert len(lines) == 21
    assert lines[0].split("  ") == ["run-0020", "2001-09-29 01:46 UTC", "7.3.4 + 1 patch", "virt", "complete"]


def test_a_board_of_another_machine_is_no_line_of_ours(tmp_path: Path) -> None:
    directory = run_dir(tmp_path, 1, one=Verdict.PASS)
    events = directory / "events.jsonl"
    events.write_text(events.read_text().replace('"virt"', '"virt\\nrun-0002  all is well"'))
    called(history, "add", "--history", tmp_path / "h", directory)
    assert len(called(history, "--history", tmp_path / "h")[1].splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [("last-good", "latest"), ("run-0019", "run-0020"), ("{}/run-19", "{}/run-20"), ("run-0019", "latest")],
)
def test_two_runs_however_they_are_named(nights: Path, old: str, new: str) -> None:
    code, text = called(compare, old.format(nights), new.format(nights))
    assert code == 1
    assert "NEW FAILURE: FAIL" in text
    assert "failed 0 of 20 before, 1 of 1 since" in text


def test_nothing_new_is_exit_0(nights: Path) -> None:
    code, text = called(compare, "run-0003", "run-0004")
    assert (code, text.splitlines()[-1]) == (0, "2 same")


def test_runs_with_other_patches_are_no_evidence(nights: Path) -> None:
    again = run_dir(nights, 21, one=Verdict.PASS, two=Verdict.FAIL)
    called(history, "add", again)
    document = json.loads(called(compare, "run-0019", "run-0021", "--json")[1])
    (two,) = (test for test in document["tests"] if test["test"] == "two")
    assert (two["before"]["failures"], two["since"]) == (0, {"passes": 0, "failures": 1})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("run-9", "expected a run in the history"),
        ("run-00", "expected the beginning of one run's id, several begin like that: run-0000, run-0001"),
        ("", "expected a run in the history"),
    ],
)
@pytest.mark.usefixtures("nights")
def test_a_name_that_means_no_run(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        called(compare, name, "latest")


def test_a_directory_that_was_never_taken_in(nights: Path) -> None:
    other = run_dir(nights / "other", 50, one=Verdict.PASS)
    with pytest.raises(UserError, match=r"found none; `harness history add .*` takes it in"):
        called(compare, other, "latest")


def test_a_directory_that_is_no_run(nights: Path) -> None:
    with pytest.raises(UserError, match="expected the directory of a run"):
        called(history, "add", nights)


def test_what_is_no_run_keeps_no_other_out(nights: Path) -> None:
    (nights / "notes").mkdir()
    new = [run_dir(nights / "new", number, one=Verdict.PASS) for number in (30, 31)]
    with pytest.raises(UserError, match="1 of 4 are no runs; 2 runs were added, 1 were there") as told:
        called(history, "add", new[0], nights / "notes", nights / "run-1", new[1])
    assert told.value.details == (
        f"{nights / 'notes'}: expected the directory of a run, with events.jsonl in it; found none",
    )
    assert called(history)[1].startswith("run-0031")


def test_a_run_is_taken_in_when_it_ends(tmp_path: Path) -> None:
    directory = run_dir(tmp_path, 1, one=Verdict.PASS)
    said = remember(read_results(directory), directory, history=tmp_path / "h")
    assert said == "in the history as run-0001"
    assert called(history, "--history", tmp_path / "h")[1].startswith("run-0001")


@fault("the history can't be written when a run ends", where="disk", blame=Blame.NOBODY,
       survives="the run, its documents and its exit code")  # fmt: skip
def test_a_history_that_cannot_be_written_costs_the_run_nothing(tmp_path: Path) -> None:
    directory = run_dir(tmp_path, 1, one=Verdict.PASS)
    (tmp_path / "h").write_text("my notes\n" * 1000)
    said = remember(read_results(directory), directory, history=tmp_path / "h")
    assert said.startswith(f"not in the history: {tmp_path / 'h'}: expected a history of this harness")
    assert said.endswith(f"`harness history add {directory}` takes it in")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A build, and a history in which a test failed in 2 of 12 earlier runs of its cell, and 3 times where that says
    nothing about it."""
    monkeypatch.setenv("HARNESS_HISTORY", str(tmp_path / "history"))
    build_json(tmp_path / "build")
    build = Build(directory=tmp_path / "build", release="7.3.4", key="k", config={})
    kernel = load_record(build.directory).kernel
    stock = dataclasses.replace(kernel, key="of yesterday")
    patched = dataclasses.replace(stock, patches=(PatchRecord(sha256="aa"),))
    nights = [(stock, "b", Verdict.FAIL if number % 6 == 2 else Verdict.PASS) for number in range(12)]
    others = [(patched, "b", Verdict.FAIL), (stock, "another", Verdict.FAIL), (kernel, "b", Verdict.FAIL)]
    with opened(tmp_path / "history", writable=True) as connection:
        for number, (each, board, verdict) in enumerate([*nights, *others]):
            record = RunRecord(id=f"run-{number:04}", kernel=each, board=BoardRecord(name=board))
            results = RunResults(record=record, results=(Result(test="one", verdict=verdict),), started=1e9 + number)
            add_run(connection, results, directory=tmp_path)
    return build


FAILURE = Result(test="one", verdict=Verdict.FAIL)


def test_how_often_a_failure_came_with_earlier_kernels(made: Build) -> None:
    assert earlier(made, spec())(FAILURE) == Tally(passes=10, failures=2)
    assert earlier(made, spec())(dataclasses.replace(FAILURE, test="two")) == Tally()
    crash = Fault(kind=FaultKind.OOPS, title="Oops in f (kernel/x.c:12)")
    crashed = Result(test="one", verdict=Verdict.CRASH, fault=crash)
    assert earlier(made, spec())(crashed) == Tally(passes=12)


def test_the_history_is_read_once_for_all_failures(made: Build, tmp_path: Path) -> None:
    before = earlier(made, spec())
    assert before(FAILURE).failures == 2
    (tmp_path / "history").unlink()
    assert before(FAILURE).failures == 2
    assert earlier(made, spec())(FAILURE) == Tally()
