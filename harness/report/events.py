"""events.jsonl: one JSON object a line, appended as things happen, so that a killed run loses nothing but its last
line. The form: ``{"kind": "finished", "time": 1700000000.0, "test": "…", "data": {…}}``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness.model.result import Event, EventKind


def event_to_json(event: Event) -> str:
    """One line, without its line end."""
    record: dict[str, Any] = {"kind": event.kind.value, "time": event.time}
    if event.test is not None:
        record["test"] = event.test
    if event.data:
        record["data"] = dict(event.data)
    # ASCII: lone surrogates (undecodable console bytes) survive as escapes where UTF-8 would refuse them.
    return json.dumps(record, ensure_ascii=True, default=str)


def event_from_json(line: str) -> Event:
    """The event of one line. ValueError, with what is wrong, where it is none."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {type(record).__name__}")
    time = record.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise ValueError(f"time: expected a number, found {time!r}")
    test = record.get("test")
    if test is not None and not isinstance(test, str):
        raise ValueError(f"test: expected a string, found {test!r}")
    data = record.get("data", {})
    if not isinstance(data, dict):
        raise ValueError(f"data: expected an object, found {data!r}")
    return Event(kind=EventKind(str(record.get("kind"))), time=float(time), test=test, data=data)


def parse_events(lines: Iterable[str], *, on_damage: Callable[[int, str], None] | None = None) -> Iterator[Event]:
    """The events of a whole file.

    A damaged last line is what SIGKILL leaves and is passed over in silence. Other damaged lines are passed over
    too, and told: `on_damage` gets the line's number and what is wrong with it, and a NOTE at the end
    of the events says how many there were.
    """
    damaged: list[int] = []
    pending: tuple[int, str] | None = None  # damaged; whether it is the last line shows when another one follows
    time = 0.0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if pending is not None:
            damaged.append(pending[0])
            if on_damage is not None:
                on_damage(*pending)
            pending = None
        try:
            event = event_from_json(line)
        except (ValueError, OverflowError, RecursionError) as error:
            pending = (number, str(error))
            continue
        time = event.time
        yield event
    if damaged:
        where = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
        text = f"events.jsonl: {len(damaged)} damaged lines passed over (line {where})"
        yield Event(kind=EventKind.NOTE, time=time, data={"text": text})
