"""The documents of a run: each format is written, whichever there are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report.formats import FORMATS, Format
from harness.run import documents


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of one test, recorded."""
    events = [
        {"kind": "planned", "time": 1.0, "data": {"tests": ["testcases/a.py::t"]}},
        {"kind": "started", "time": 2.0, "test": "testcases/a.py::t", "data": {}},
        {
            "kind": "finished",
            "time": 3.0,
            "test": "testcases/a.py::t",
            "data": {"verdict": "PASS", "reason": "", "seconds": 1.0, "log": "logs/t.log"},
        },
        {"kind": "ended", "time": 4.0, "data": {"why": "complete"}},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/t.log").write_text("said in the test\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("junit.xml", 'name="t"'),
        ("results.json", '"test": "testcases/a.py::t"'),
        ("report.html", "testcases/a.py::t"),
        ("summary.md", "## OK: 1 PASS"),
    ],
)
def test_each_format_has_a_file_of_its_own(run_dir: Path, file: str, says: str) -> None:
    documents.write_documents(run_dir)
    assert says in (run_dir / file).read_text()
    assert [each.file for each in FORMATS].count(file) == 1


def test_one_more_format_is_written_too(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Format(
        file="list.txt",
        render=lambda results, logs, _past: "".join(
            f"{one.verdict} {one.test}: {logs(one.log or '')}" for one in results.results
        ),
    )
    monkeypatch.setattr(documents, "FORMATS", (*FORMATS, listing))
    documents.write_documents(run_dir)
    assert (run_dir / "list.txt").read_text() == "PASS testcases/a.py::t: said in the test\n"
