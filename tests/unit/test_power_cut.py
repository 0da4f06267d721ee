"""The power goes out at any moment of a run: what is on the disk then is read for what it is.

tests/faults/powercut.py says what is simulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import EXIT_KERNEL, UserError
from harness.model.result import Verdict
from harness.run.documents import read_results, write_documents
from harness.run.timings import learn, load
from tests.fakerun import TESTS, documented, fake_build, fake_run, fake_target
from tests.faults.catalogue import Blame, fault
from tests.faults.disk import mounted
from tests.faults.powercut import Journal


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Of a whole run, which leaves everything in its directory `run`."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with mounted(Journal(run_dir)) as journal:
        fake_run(fake_build(tmp_path / "build"), run_dir, target=fake_target())
    assert isinstance(journal, Journal)
    return journal


def _finished(journal: Journal, number: int) -> set[str]:
    """The tests whose verdicts had been synced when the power went out after `number` operations."""
    log = journal.log[:number]
    last = max((at for at, (what, paths, *_) in enumerate(log) if (what, paths[0].name) == ("sync", "events.jsonl")),
               default=0)  # fmt: skip
    lines = [data for what, paths, _, data in log[:last] if (what, paths[0].name) == ("write", "events.jsonl")]
    return {told["test"] for told in map(json.loads, lines) if told["kind"] == "finished"}


@fault(
    "the power goes out after any operation of a run", where="power cut", blame=Blame.NOBODY,
    survives="every verdict that was given; the torn line is recognised",
)  # fmt: skip
def test_after_a_power_cut_a_run_has_the_verdicts_it_had(journal: Journal, tmp_path: Path) -> None:
    most = 0
    for number, left, run_dir in journal.states(tmp_path / "left"):
        where = f"after operation {number}, {left} of the unsynced data is left"
        given = _finished(journal, number)
        try:
            results = read_results(run_dir)
        except UserError:
            assert not (run_dir / "events.jsonl").exists(), where
            continue
        passed = {result.test for result in results.results if result.verdict is Verdict.PASS}
        assert given <= passed, where
        assert results.exit_code != EXIT_KERNEL, where
        assert {result.verdict for result in results.results} <= {Verdict.PASS, Verdict.NOTRUN, Verdict.ERROR}, where
        most = max(most, len(given))
    assert most == len(TESTS)


@fault(
    "the power goes out while documents replace older ones", where="power cut", blame=Blame.NOBODY,
    survives="each document, as it was or whole",
)  # fmt: skip
def test_after_a_power_cut_each_document_is_whole(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    fake_run(fake_build(tmp_path / "build"), run_dir)
    names = ("junit.xml", "results.json", "report.html")
    for name in names:
        (run_dir / name).unlink()
    with mounted(Journal(run_dir)) as journal:
        write_documents(run_dir)
    assert isinstance(journal, Journal)
    seen = set()
    for number, left, state in journal.states(tmp_path / "left"):
        told = documented(state)  # asserts that what exists is whole
        assert told in ({}, dict.fromkeys(TESTS, "PASS")), (number, left)
        seen.add(tuple((state / name).exists() for name in names))
    assert (False, False, False) in seen
    assert (True, True, True) in seen


@fault(
    "after a power cut the documents are made anew, among torn files", where="power cut", blame=Blame.NOBODY,
    survives="documents, whole, with every verdict that was given",
)  # fmt: skip
def test_after_a_power_cut_the_documents_can_be_made(journal: Journal, tmp_path: Path) -> None:
    for number, left, run_dir in journal.states(tmp_path / "left"):
        if not (run_dir / "events.jsonl").exists() or number % 5:
            continue
        results = write_documents(run_dir)
        assert set(documented(run_dir)) == {result.test for result in results.results}, (number, left)


@fault(
    "a power cut fills the record of earlier times with zeros", where="power cut", blame=Blame.NOBODY,
    survives="the order of tests, by their limits",
)  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'{"t": 1.0, "u'])
def test_times_that_a_power_cut_has_torn_are_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "qemu.json"
    path.write_bytes(content)
    assert load(path) == {}
    learn(path, ())
    assert json.loads(path.read_text()) == {}
