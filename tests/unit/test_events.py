"""events.jsonl: written, read back, and read where it is damaged."""

from __future__ import annotations

import json

import pytest

from harness.model.result import Event, EventKind
from harness.report.events import event_from_json, event_to_json, parse_events

FIRST = Event(kind=EventKind.RUN, time=1.5, data={"kernel": "7.3.4", "patches": ["a", "b"]})
SECOND = Event(kind=EventKind.STARTED, time=2.0, test="testcases/a.py::test_é\u2028\n")


@pytest.mark.parametrize(
    "event",
    [FIRST, SECOND, Event(kind=EventKind.NOTE, time=3.0, data={"text": "\udc80\x00\x1b[0m ]]> </script> \U0001f427"})],
)
def test_round_trip(event: Event) -> None:
    line = event_to_json(event)
    assert "\n" not in line
    assert line.isascii()
    assert event_from_json(line) == event
    assert set(json.loads(line)) <= {"kind", "time", "test", "data"}


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_truncated_last_line_is_passed_over_in_silence(cut: int) -> None:
    lines = [event_to_json(FIRST) + "\n", event_to_json(SECOND)[:cut]]
    assert list(parse_events(lines)) == [FIRST]


def test_damaged_lines_are_counted_and_told() -> None:
    told: list[int] = []
    lines = ["{", event_to_json(FIRST), "", '{"kind": "started"}', event_to_json(SECOND), "{tr"]
    events = list(parse_events(lines, on_damage=lambda number, _why: told.append(number)))
    assert events[:2] == [FIRST, SECOND]
    (note,) = events[2:]
    assert note.kind is EventKind.NOTE
    assert note.data["text"] == "events.jsonl: 2 damaged lines passed over (line 1, 4)"
    assert note.time == SECOND.time
    assert told == [1, 4]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[]", "expected an object, found list"),
        ('{"kind": "run"}', "time: expected a number, found None"),
        ('{"kind": "run", "time": true}', "time: expected a number"),
        ('{"kind": "run", "time": NaN}', "time: expected a number"),
        ('{"kind": "dance", "time": 1}', "dance"),
        ('{"kind": ["run"], "time": 1}', "run"),
        ('{"kind": "run", "time": 1, "test": 5}', "test: expected a string, found 5"),
        ('{"kind": "run", "time": 1, "data": []}', r"data: expected an object, found \[\]"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_event(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        event_from_json(line)


def test_absurd_lines_break_nothing() -> None:
    lines = ["[" * 100_000, '{"kind": "run", "time": 1' + "0" * 400 + "}", event_to_json(FIRST)]
    assert next(iter(parse_events(lines))) == FIRST
