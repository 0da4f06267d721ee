"""events.jsonl: written, read back, and read where it is damaged, or older or newer than this harness."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

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
from harness.model.fault import Fault, FaultKind
from harness.model.record import (
    BoardRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.model.result import Attempt, Condition, EndKind, Expectation, Repeat, Result, RunEnd, Standing, Verdict
from harness.parse.events import VERSION, event_from_json, event_to_json, parse_events
from harness.run.eventlog import event_lines
from tests.faults.catalogue import Blame, fault

RECORD = RunRecord(
    id="20260131T235959.123Z-5f2c1a9e",
    schema=VERSION,
    harness=HarnessRecord(version="0.1.0", commit="c0ffee", is_dirty=True),
    host="labhost (x86_64)",
    build="k",
    kernel=KernelRecord(
        release="7.3.4",
        key="a",
        made="b",
        source=SourceRecord(spec="x", version="7.3.4-1", checksum="sha256:1", identity="2"),
        patches=(PatchRecord(name="1.patch", sha256="3"),),
        fragments=("base.config",),
        toolchain=ToolchainRecord(name="gcc", command="aarch64-linux-gnu-gcc", version="12.2.0"),
        without={"X": "why"},
    ),
    board=BoardRecord(name="qemu-virt", details={"accelerator": "tcg", "threads": "multi"}),
    boards=("one", "two"),
    suites=("testcases",),
    keyword="not x",
    isolation="test",
    workers=2,
    testcases="t",
    command="harness run",
)
CRASH = Attempt(
    verdict=Verdict.XFAIL,
    actual=Verdict.CRASH,
    reason="known",
    seconds=1.5,
    started=2.0,
    log="logs/a.log",
    machine="gw0/boot-1",
    board="one",
    fault=Fault(kind=FaultKind.OOPS, title="oops in x", lines=("a", "b"), is_whole=False),
    expectations=(
        Expectation(verdicts=(Verdict.FAIL,), reason="no more", until="7.2", standing=Standing.EXPIRED),
        Expectation(
            verdicts=(Verdict.CRASH, Verdict.FAIL),
            reason="because",
            test="a*",
            faults=("oops in x",),
            messages=("m", "n"),
            issue="https://bugs.example.org/1",
            until="2026-12-31",
            place="e: expectations.1",
        ),
        Expectation(verdicts=(Verdict.FAIL,), reason="not now", standing=Standing.OTHER),
    ),
)
FIRST = RunBegun(time=1.5, record=RECORD)
SECOND = Started(time=2.0, test="testcases/a.py::test_é\u2028\n", worker="gw0", machine="gw0/boot-1")
EVENTS: list[Event] = [
    FIRST,
    SECOND,
    RunBegun(time=1.0, record=RunRecord(schema=VERSION)),
    RunChanged(time=1.0, isolation="crash"),
    RunChanged(time=1.0, workers=1),
    Planned(time=1.0, tests=("a", "b")),
    Planned(time=1.0, tests=()),
    Finished(time=3.0, board="one", result=Result(test="a", **vars(CRASH))),
    Finished(time=3.0, result=Result(test="a", verdict=Verdict.PASS, actual=Verdict.PASS)),
    AttemptEnded(time=3.0, worker="gw0", board="one", test="a", attempt=CRASH),
    *(
        Repeated(time=3.0, board="one", test="a", repeat=Repeat(condition=condition, **vars(CRASH)))
        for condition in Condition
    ),
    Booted(time=2.0, seconds=12.5, factor=9.5, restored=True, machine="restored-2"),
    Note(time=3.0, text="\udc80\x00\x1b[0m ]]> </script> \U0001f427"),
    Note(time=3.0, test="a", text="left a kprobe", is_problem=True),
    *(RunEnded(time=4.0, end=RunEnd(kind=kind, reason="why")) for kind in EndKind),
    RunEnded(time=4.0, end=RunEnd(kind=EndKind.COMPLETE)),
    RunEnded(time=4.0, end=RunEnd(kind=EndKind.NOT_BOOTED, blames_kernel=True)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_round_trip(event: Event) -> None:
    line = event_to_json(event)
    assert "\n" not in line
    assert line.isascii()
    unknown: Counter[str] = Counter()
    assert event_from_json(line, unknown=unknown) == event
    assert not unknown
    assert set(json.loads(line)) <= {"v", "kind", "time", "test", "data"}


def test_every_kind_of_event_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__subclasses__())


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_truncated_last_line_is_passed_over_in_silence(cut: int) -> None:
    lines = [event_to_json(FIRST) + "\n", event_to_json(SECOND)[:cut]]
    assert list(parse_events(lines)) == [FIRST]


@fault(
    "lines in the middle of events.jsonl are damaged",
    where="disk",
    blame=Blame.NOBODY,
    survives="all other events; a note says how many",
)
def test_damaged_lines_are_counted_and_reported() -> None:
    told: list[int] = []
    lines = ["{", event_to_json(FIRST), "", '{"kind": "started"}', event_to_json(SECOND), "{tr"]
    events = list(parse_events(lines, on_damage=lambda number, _why: told.append(number)))
    assert events == [
        FIRST,
        SECOND,
        Note(time=SECOND.time, text="events.jsonl: 2 damaged lines skipped (line 1, 4)"),
    ]
    assert told == [1, 4]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("[]", "expected an object, found list"),
        ('{"kind": "run"}', "time: expected a number, found None"),
        ('{"kind": "run", "time": true}', "time: expected a number"),
        ('{"kind": "run", "time": NaN}', "time: expected a number"),
        ('{"kind": "dance", "time": 1}', "found 'dance'"),
        ('{"v": 2, "kind": "dance", "time": 1}', "found 'dance'"),
        ('{"v": 3, "kind": 7, "time": 1}', "found 7"),
        ('{"v": "2", "kind": "run", "time": 1}', "v: expected a version"),
        ('{"v": 0, "kind": "run", "time": 1}', "v: expected a version"),
        ('{"v": true, "kind": "run", "time": 1}', "v: expected a version"),
        ('{"kind": ["run"], "time": 1}', "run"),
        ('{"kind": "run", "time": 1, "test": 5}', "test: expected a string, found 5"),
        ('{"kind": "run", "time": 1, "data": []}', r"data: expected an object, found \[\]"),
        ('{"kind": "started", "time": 1}', "test: expected the id of a test"),
        ('{"kind": "finished", "time": 1, "data": {"verdict": "PASS"}}', "test: expected the id of a test"),
        ("", "Expecting value"),
    ],
)
def test_what_is_no_event(line: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        event_from_json(line)


def test_absurd_lines_break_nothing() -> None:
    lines = ["[" * 100_000, '{"kind": "run", "time": 1' + "0" * 400 + "}", event_to_json(FIRST)]
    assert next(iter(parse_events(lines))) == FIRST


# --- older and newer ones ---------------------------------------------------------------------------------------


def line(kind: str, *, version: int | None = None, test: str | None = None, **data: Any) -> str:
    told = {"kind": kind, "time": 1.0, "data": data}
    return json.dumps(told | ({"v": version} if version else {}) | ({"test": test} if test else {}))


def test_what_only_newer_harnesses_know_is_no_damage() -> None:
    damage: list[int] = []
    lines = [
        line("dance", version=VERSION + 1),
        line("dance", version=VERSION + 1),
        line("started", version=VERSION + 1, test="a", mood="good"),
        line("started", version=VERSION, test="b", mood="good"),  # fields may come without a new version
        line("ended", version=VERSION, why="struck by lightning", reason="at noon"),
        line("note", text="last"),
    ]
    events = list(parse_events(lines, on_damage=lambda number, _why: damage.append(number)))
    assert damage == []
    assert events == [
        Started(time=1.0, test="a"),
        Started(time=1.0, test="b"),
        RunEnded(time=1.0, end=RunEnd(kind=EndKind.OTHER, reason="struck by lightning: at noon")),
        Note(time=1.0, text="last"),
        Note(
            time=1.0,
            text="events.jsonl: a newer harness wrote what this one does not know: "
            "2 events of kind 'dance', 2 fields started.mood",
        ),
    ]


@pytest.mark.parametrize(
    ("data", "end"),
    [
        ({"why": "complete"}, RunEnd(kind=EndKind.COMPLETE)),
        ({}, RunEnd(kind=EndKind.COMPLETE)),
        ({"why": "maxfail"}, RunEnd(kind=EndKind.MAXFAIL)),
        ({"why": "interrupted", "reason": "SIGTERM"}, RunEnd(kind=EndKind.INTERRUPTED, reason="SIGTERM")),
        ({"why": "collection failed"}, RunEnd(kind=EndKind.COLLECTION_FAILED)),
        (
            {"why": "the target could not be booted: b0.power: no answer"},
            RunEnd(kind=EndKind.NOT_BOOTED, reason="b0.power: no answer"),
        ),
        ({"why": "workers kept dying, at last: killed"}, RunEnd(kind=EndKind.WORKERS_LOST, reason="killed")),
        ({"why": "something else"}, RunEnd(kind=EndKind.OTHER, reason="something else")),
    ],
)
def test_how_a_run_of_version_1_ended(data: dict[str, str], end: RunEnd) -> None:
    fields: dict[str, Any] = dict(data)
    event = event_from_json(line("ended", **fields))
    assert event == RunEnded(time=1.0, end=end)
    if data.get("why", "").startswith("the"):
        assert str(end) == data["why"]  # people read what they always did


def test_what_a_run_of_version_1_came_to_is_a_change() -> None:
    assert event_from_json(line("run", workers=1)) == RunChanged(time=1.0, workers=1)
    assert event_from_json(line("run", isolation="crash")) == RunChanged(time=1.0, isolation="crash")
    begun = event_from_json(line("run", workers=1, kernel="7.3.4", mood="good"))
    assert begun == RunBegun(time=1.0, record=RunRecord(kernel=KernelRecord(release="7.3.4")))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"verdict": "SPLENDID"},
        {"verdict": 5},
        {"verdict": None, "seconds": "long", "fault": "yes", "expected": [], "log": "", "actual": "maybe"},
    ],
)
def test_odd_data_is_our_error(data: dict[str, Any]) -> None:
    event = event_from_json(line("finished", test="a", **data))
    assert isinstance(event, Finished)
    result = event.result
    assert result.verdict is Verdict.ERROR
    assert "unknown verdict" in result.reason
    assert (result.seconds, result.fault, result.expected, result.log, result.actual) == (0.0, None, None, None, None)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, None, 10**400])
def test_odd_times_are_none(seconds: float | None) -> None:
    event = event_from_json(line("finished", test="a", verdict="PASS", seconds=seconds))
    assert isinstance(event, Finished)
    assert event.result.seconds == 0.0


@pytest.mark.parametrize(("actual", "standing"), [("CRASH", Standing.MET), ("PASS", Standing.OTHER)])
def test_the_known_outcome_of_a_run_of_version_1(actual: str, standing: Standing) -> None:
    event = event_from_json(
        line("finished", test="a", verdict="XFAIL", actual=actual, expected={"verdicts": ["CRASH"], "reason": "known"})
    )
    assert isinstance(event, Finished)
    assert event.result.expected == Expectation(verdicts=(Verdict.CRASH,), reason="known", standing=standing)


@pytest.mark.parametrize("damage", ["text", 5, [None, "x"], {"verdicts": ["FAIL"]}])
def test_odd_known_outcomes_are_none(damage: object) -> None:
    event = event_from_json(line("finished", version=VERSION, test="a", verdict="FAIL", expectations=damage))
    assert isinstance(event, Finished)
    assert event.result.expectations == ()


def test_odd_faults_and_plans() -> None:
    event = event_from_json(line("finished", test="a", verdict="CRASH", fault={"kind": "unheard of", "lines": None}))
    assert isinstance(event, Finished)
    assert event.result.fault == Fault(kind=FaultKind.BUG, title="", lines=())
    assert event_from_json(line("planned", tests=5)) == Planned(time=1.0, tests=())


@fault(
    "a line of events.jsonl that is deeper or longer than can be read",
    where="hostile input",
    blame=Blame.NOBODY,
    survives="all other lines",
)
def test_a_line_above_the_limits_is_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too deep to be read"):
        event_from_json("[" * 100_000)
    monkeypatch.setenv(EVENT_BYTES.variable, "200")
    notes = [event_to_json(Note(time=1.0, text=text)) for text in ("first", "x" * 500, "last")]
    (tmp_path / "events.jsonl").write_text("\n".join(notes) + "\n")
    told: list[str] = []
    found = [*parse_events(event_lines(tmp_path / "events.jsonl"), on_damage=lambda _, why: told.append(why))]
    assert [event.text for event in found if isinstance(event, Note)][:2] == ["first", "last"]
    assert told[0] == "longer than 200 bytes (HARNESS_LIMIT_EVENT_BYTES)"
