"""events.jsonl: one JSON object per line, appended as things happen, so that a killed run loses only its last line.

::

    {"v": 2, "kind": "finished", "time": 1700000000.0, "test": "…", "data": {"verdict": "PASS", …}}

`v` is the version of the form; lines of harnesses that wrote none are of version 1. A line of a newer version than
VERSION is read as far as it is understood: unknown kinds and fields are skipped and counted. Fields may be added
without a new version; a new kind, or another meaning of what there is, makes one. Each line stands for itself: who
follows a run may begin in its middle."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.limits import EVENT_BYTES
from harness.model.event import (
    AttemptEnded,
    Booted,
    Event,
    Finished,
    Note,
    Planned,
    Repeated,
    RunBegun,
    RunChanged,
    RunEnded,
    Started,
)
from harness.model.result import Attempt, Condition, EndKind, Repeat, Result, RunEnd
from harness.parse.fields import Fields, filled, finite, json_object, shown
from harness.parse.outcomes import attempt_fields, attempt_to_data
from harness.parse.records import run_record_from_fields, run_record_to_data

VERSION = 3
_END_OF_TIME = 1e11  # in more than 3000 years; later dates can't be printed
_MOST_TOLD = 10  # damaged lines, wrong values or unknown fields that a note names

# -- writing ------------------------------------------------------------------------------------------------------


def event_to_json(event: Event) -> str:
    """Encode an event as one line, without its line end."""
    kind, test, data = _written(event)
    line: dict[str, object] = {"v": VERSION, "kind": kind, "time": event.time}
    if test:
        line["test"] = test
    if event.worker:
        data["worker"] = event.worker
    if event.board:
        data["board"] = event.board
    if data:
        line["data"] = data
    # ASCII: lone surrogates (undecodable console bytes) survive as escapes where UTF-8 would refuse them.
    return json.dumps(line, ensure_ascii=True)


def _written(event: Event) -> tuple[str, str, dict[str, object]]:
    """Kind, test, data."""
    match event:
        case Started():
            return "started", event.test, filled(machine=event.machine)
        case Finished():
            return "finished", event.result.test, _attempt(event.result)
        case AttemptEnded():
            return "attempt", event.test, _attempt(event.attempt)
        case Repeated():
            return "repeated", event.test, _attempt(event.repeat) | {"condition": event.repeat.condition.value}
        case Note():
            return "note", event.test, {"text": event.text} | ({"problem": True} if event.is_problem else {})
        case Booted():
            booted = {"seconds": event.seconds, "factor": event.factor, "restored": event.restored}
            return "booted", "", booted | filled(machine=event.machine)
        case RunBegun():
            return "run", "", run_record_to_data(event.record)
        case RunChanged():
            return "changed", "", filled(isolation=event.isolation, workers=event.workers)
        case Planned():
            return "planned", "", {"tests": list(event.tests)}
        case RunEnded():
            blamed = {"blames_kernel": True} if event.end.blames_kernel else {}
            return "ended", "", {"why": event.end.kind.value} | filled(reason=event.end.reason) | blamed
    raise TypeError(f"no event to write: {event!r}")


def _attempt(attempt: Attempt) -> dict[str, object]:
    data = attempt_to_data(attempt)
    del data["board"]  # the event's
    return filled(**data)


# -- reading ------------------------------------------------------------------------------------------------------

_Reader = Callable[[str, Fields, int, Mapping[str, Any]], Event]


def event_from_json(line: str, *, unknown: Counter[str] | None = None, wrong: list[str] | None = None) -> Event | None:
    """Decode one line; None for a kind that only newer harnesses know. Raises ValueError, with what is wrong, if it is
    not an event. `unknown` counts what was skipped; `wrong` gets the fields whose values are of another type, which are
    treated as missing."""
    told = json_object(line)
    version = told.get("v", 1)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"v: expected a version, found {shown(version)}")
    time = finite(told.get("time"))
    if time is None:
        raise ValueError(f"time: expected a number, found {shown(told.get('time'))}")
    if not 0 <= time < _END_OF_TIME:
        raise ValueError(f"time: expected seconds since 1970, found {shown(time)}")
    test, data = told.get("test", ""), told.get("data", {})
    if not isinstance(test, str):
        raise ValueError(f"test: expected a string, found {shown(test)}")
    if not isinstance(data, dict):
        raise ValueError(f"data: expected an object, found {shown(data)}")
    kind = told.get("kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        if version <= VERSION or not isinstance(kind, str):
            raise ValueError(f"kind: expected one of {', '.join(_READERS)}, found {shown(kind)}")
        _count(unknown, f"events of kind {shown(kind)}")
        return None
    fields = Fields(data, wrong=wrong)
    common: dict[str, Any] = {"time": time}
    if kind != "run":  # its board is the run's
        common["worker"], common["board"] = fields.text("worker"), fields.text("board")
    event = reader(test, fields, version, common)
    if version > 1:
        for name in fields.left:
            _count(unknown, f"fields {kind}.{name}")
    return event


def _count(unknown: Counter[str] | None, what: str) -> None:
    if unknown is not None:
        unknown[what] += 1


def parse_events(lines: Iterable[str], *, on_damage: Callable[[int, str], None] | None = None) -> Iterator[Event]:
    """The events of a whole file.

    A damaged last line is what SIGKILL leaves, and is passed over in silence; but if it is the only one, it has to be
    the beginning of an event. Other damaged lines are passed over too, and reported: `on_damage` gets the line's number
    and what is wrong with it, and a Note at the end of the events says how many there were. Another says what a newer
    harness wrote that this one does not know, and another which values of another type were treated as missing.
    """
    damaged: list[int] = []
    unknown: Counter[str] = Counter()
    wrong: list[str] = []
    pending: tuple[int, str] | None = None  # damaged; whether it is the last line shows when another one follows
    time: float | None = None  # of the last event
    line = ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if pending is not None:
            damaged.append(pending[0])
            if on_damage is not None:
                on_damage(*pending)
            pending = None
        try:
            odd: list[str] = []
            if len(line) > EVENT_BYTES.value:
                raise ValueError(f"longer than {EVENT_BYTES.value} bytes ({EVENT_BYTES.variable})")
            event = event_from_json(line, unknown=unknown, wrong=odd)
            wrong += (f"line {number}: {each}" for each in odd)
        except (ValueError, OverflowError, RecursionError) as error:
            pending = (number, str(error))
            continue
        if event is not None:
            time = event.time
            yield event
    if pending is not None and time is None and not _is_begun(line) and on_damage is not None:
        on_damage(*pending)
    time = time or 0.0
    if damaged:
        where = ", ".join(map(str, damaged[:_MOST_TOLD])) + (", …" if len(damaged) > _MOST_TOLD else "")
        yield Note(time=time, text=f"events.jsonl: {len(damaged)} damaged lines skipped (line {where})")
    if wrong:
        what = "; ".join(wrong[:_MOST_TOLD]) + ("; …" if len(wrong) > _MOST_TOLD else "")
        yield Note(time=time, text=f"events.jsonl: {len(wrong)} values of another type read as missing ({what})")
    if unknown:
        what = ", ".join(f"{count} {name}" for name, count in unknown.most_common(_MOST_TOLD))
        more = ", …" if len(unknown) > _MOST_TOLD else ""
        yield Note(time=time, text=f"events.jsonl: a newer harness wrote what this one does not know: {what}{more}")


def _is_begun(line: str) -> bool:
    """Whether a line can be what is left of an event whose writing was cut off; a power cut leaves zeros."""
    line = line.rstrip("\0")
    return line.startswith('{"'[: len(line)]) and not line.endswith("\n")


def _started(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return Started(test=_named(test), machine=fields.text("machine"), **common)


def _finished(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return Finished(result=Result(test=_named(test), **_attempt_fields(fields, common)), **common)


def _attempt_ended(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return AttemptEnded(test=_named(test), attempt=Attempt(**_attempt_fields(fields, common)), **common)


def _repeated(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    condition = Condition.BOOTED if fields.text("condition") == Condition.BOOTED else Condition.RESTORED
    repeat = Repeat(condition=condition, **_attempt_fields(fields, common))
    return Repeated(test=_named(test), repeat=repeat, **common)


def _attempt_fields(fields: Fields, common: Mapping[str, Any]) -> dict[str, Any]:
    told = attempt_fields(fields)
    told["board"] = common["board"]
    return told


def _named(test: str) -> str:
    if not test:
        raise ValueError("test: expected the id of a test, found none")
    return test


def _note(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return Note(test=test, text=fields.text("text"), is_problem=fields.flag("problem"), **common)


def _booted(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    fields.take("attempt")  # of version 1
    return Booted(
        seconds=fields.seconds("seconds"),
        factor=fields.number("factor") or 1.0,
        restored=fields.flag("restored"),
        machine=fields.text("machine"),
        **common,
    )


def _run(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    """Version 1 wrote what a run came to as another one of these, with nothing but that in it."""
    if version == 1 and fields.left and set(fields.left) <= {"isolation", "workers"}:
        return _changed(test, fields, version, common)
    return RunBegun(record=run_record_from_fields(fields, schema=version), **common)


def _changed(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return RunChanged(isolation=fields.text("isolation") or None, workers=fields.count("workers") or None, **common)


def _planned(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    return Planned(tests=fields.texts("tests"), **common)


def _ended(test: str, fields: Fields, version: int, common: Mapping[str, Any]) -> Event:
    why, reason = fields.text("why"), fields.text("reason")
    if version == 1:
        return RunEnded(end=_end_of_version_1(why or "complete", reason), **common)
    end = dataclasses.replace(_end(why, reason), blames_kernel=fields.flag("blames_kernel"))
    return RunEnded(end=end, **common)


def _end(why: str, reason: str) -> RunEnd:
    kind = _END_KINDS.get(why)
    if kind:
        return RunEnd(kind=kind, reason=reason)
    return RunEnd(kind=EndKind.OTHER, reason=f"{why}: {reason}" if reason else why)


def _end_of_version_1(why: str, reason: str) -> RunEnd:
    """Its `why` was a word, or a sentence with the reason in it."""
    for kind, sentence in _SENTENCES_OF_VERSION_1.items():
        if why == sentence or why.startswith(f"{sentence}: "):
            return RunEnd(kind=kind, reason=why.removeprefix(sentence).removeprefix(": "))
    return _end(why, reason)


_END_KINDS = {kind.value: kind for kind in EndKind}
_SENTENCES_OF_VERSION_1 = {
    EndKind.NOT_BOOTED: "the target could not be booted",
    EndKind.WORKERS_LOST: "workers kept dying, at last",
}
_READERS: dict[str, _Reader] = {
    "run": _run,
    "changed": _changed,
    "planned": _planned,
    "started": _started,
    "attempt": _attempt_ended,
    "repeated": _repeated,
    "finished": _finished,
    "booted": _booted,
    "note": _note,
    "ended": _ended,
}
