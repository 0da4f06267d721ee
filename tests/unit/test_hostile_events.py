"""events.jsonl with values of other types: what can be read is reported, and a note names line and field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.model.event import Finished, Note
from harness.model.result import Verdict
from harness.parse.events import event_from_json, parse_events
from harness.parse.fields import Fields, shown
from harness.report.fold import fold
from harness.report.summary import summary_lines
from harness.run.documents import read_results, write_documents
from tests.boards import is_a
from tests.conftest import DATA
from tests.faults.catalogue import Blame, fault

RECORDED = (DATA / "runs/v2/machine-lost/events.jsonl").read_text().splitlines()
ODD: list[Any] = [
    *(None, True, 0, -1, 1e308, 10**30, int("9" * 4000), float("nan"), float("inf"), "", "\ud800", "a\0b", "x" * 5000),
    *("\x1b[2J", "../..", [], ["x"], [None], [[1]], [{}], {}, {"a": 1}, {"": None}),
]


def odd(what: str, *, blame: Blame = Blame.NOBODY, survives: str) -> pytest.MarkDecorator:
    return fault(f"events.jsonl: {what}", where="hostile input", blame=blame, survives=survives)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _paths(each, (*path, key))


def _changed(line: str, path: tuple[Any, ...], value: object) -> str:
    told = json.loads(line)
    inner = told
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(told)


@odd("every field holds every odd value, one at a time", survives="all other lines")
@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_an_odd_value_in_any_field_costs_its_line_at_most(number: int) -> None:
    others = [*RECORDED[:number], *RECORDED[number + 1 :]]
    least = {result.test for result in fold(parse_events(others)).results}
    for path in _paths(json.loads(RECORDED[number])):
        for value in ODD:
            lines = [*RECORDED[:number], _changed(RECORDED[number], path, value), *RECORDED[number + 1 :], "{}", "{}"]
            assert least <= {result.test for result in fold(parse_events(lines)).results}, (path, shown(value))


@odd("all fields of a result hold odd values", survives="all documents, with the verdict that can be read")
@pytest.mark.parametrize("value", ODD, ids=lambda value: shown(value, 20))
def test_documents_are_made_of_odd_values(value: object, tmp_path: Path) -> None:
    names = ("reason", "seconds", "started", "log", "fault", "expectations", "actual", "machine", "board", "worker")
    told = {"v": 2, "kind": "finished", "time": 1.7e9, "test": "a\ud800\x1b[2J", "data": {"verdict": "FAIL"}}
    run = {
        "v": 2,
        "kind": "run",
        "time": 1.7e9,
        "data": dict.fromkeys(("kernel", "patches", "without", "board"), value),
    }
    fault_of = told | {
        "test": "b",
        "data": {"verdict": "CRASH", "fault": dict.fromkeys(("kind", "title", "lines"), value)},
    }
    told["data"] = {"verdict": "FAIL"} | dict.fromkeys(names, value)
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, (run, told, fault_of))) + "\n")
    results = write_documents(tmp_path)
    assert [result.verdict for result in results.results] == [Verdict.FAIL, Verdict.CRASH]
    for name in ("junit.xml", "results.json", "report.html"):
        assert (tmp_path / name).stat().st_size
    "\n".join(summary_lines(results, run_dir=tmp_path)).encode()  # as it goes to the terminal


@odd("values of another type than the format has", survives="the rest of the line; a note names line and field")
def test_values_of_another_type_are_named() -> None:
    data = {"verdict": "FAIL", "seconds": "long", "log": ["x"], "fault": {"title": 7, "lines": [1], "kind": {}}}
    odd_line = json.dumps({"v": 2, "kind": "finished", "time": 1.0, "test": "a", "data": data})
    run = json.dumps({"v": 2, "kind": "run", "time": 1.0, "data": {"workers": 1.5, "patches": [5], "without": []}})
    events = list(parse_events([run, "", odd_line]))
    assert is_a(Finished, events[1]).result.verdict is Verdict.FAIL
    assert is_a(Note, events[-1]).text == (
        "events.jsonl: 7 values of another type read as missing (line 1: patches: expected a list of objects, found 5; "
        "line 1: without: expected an object, found []; line 1: workers: expected a whole number, found 1.5; "
        "line 3: seconds: expected a number, found 'long'; line 3: log: expected a string, found ['x']; "
        "line 3: fault.kind: expected a string, found {}; line 3: fault.lines: expected a list of strings, found 1)"
    )


def test_a_note_of_many_odd_values_is_short() -> None:
    line = json.dumps({"kind": "note", "time": 1.0, "data": {"text": ["x" * 1000]}})
    note = is_a(Note, list(parse_events([line] * 5000))[-1])
    assert note.text.startswith("events.jsonl: 5000 values of another type")
    assert note.text.endswith("; …)")
    assert len(note.text) < 2000


@pytest.mark.parametrize("time", ["-1.0", "1e12", "1e300"])
def test_a_time_that_no_calendar_has_is_damage(time: str) -> None:
    with pytest.raises(ValueError, match="time: expected seconds since 1970"):
        event_from_json(f'{{"kind": "note", "time": {time}}}')


def test_a_duration_of_thirty_years_is_none() -> None:
    fields = Fields({"seconds": 1e308})
    assert fields.seconds("seconds") == 0.0
    assert fields.wrong == ["seconds: expected seconds, found 1e+308"]


@odd("no line of it is an event", blame=Blame.USER, survives="the first line's number, and what is wrong with it")
@pytest.mark.parametrize("text", ["junk\n[]\n", '[]\n{"kind": 5, "time": 1}\n', "[" * 200, "junk", "\0\1\2", "{}\n"])
def test_a_file_without_any_event_is_wrong_input(text: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"events\.jsonl: expected the events of a run, found none; line 1: ") as caught:
        read_results(tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "{", '{"v": 2, "ki', "\0\0\0", '{"v": 2\0\0'])
def test_an_empty_file_is_a_run_that_was_killed_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    assert read_results(tmp_path).results == ()
