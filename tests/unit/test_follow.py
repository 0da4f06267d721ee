"""A run that workers write down is shown as it comes."""

from __future__ import annotations

from pathlib import Path

from harness.model.event import Finished, Note, Started
from harness.model.progress import NoDisplay
from harness.model.result import Result, Verdict
from harness.run.eventlog import EventLog
from harness.run.workers.follow import Follower


class Shown(NoDisplay):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, test: str) -> None:
        self.seen.append(f"started {test}")

    def result(self, result: Result) -> None:
        self.seen.append(f"{result.verdict} {result.test} {result.reason} {result.seconds}")

    def problem(self, text: str) -> None:
        self.seen.append(f"problem: {text}")


def _finished(events: EventLog, test: str) -> None:
    events.write(Finished(result=Result(test=test, verdict=Verdict.FAIL, reason="why", seconds=1.5)))


def test_what_comes_after_the_beginning_is_shown_once_and_in_order(tmp_path: Path) -> None:
    path, shown = tmp_path / "events.jsonl", Shown()
    events = EventLog(path)
    events.write(Started(test="before"))
    with Follower(path, shown):
        events.write(Started(test="a"))
        events.write(Note(text="not for the display"))
        events.write(Note(text="a board is left out", is_problem=True))
        _finished(events, "a")
    assert shown.seen == ["started a", "problem: a board is left out", "FAIL a why 1.5"]


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    path, shown = tmp_path / "events.jsonl", Shown()
    events = EventLog(path)
    with Follower(path, shown), path.open("ab") as file:
        file.write(b'{broken\n\xff\xfe\n{"v": 99, "kind": "dance", "time": 1}\n')
        file.flush()
        _finished(events, "b")
    assert shown.seen == ["FAIL b why 1.5"]


def test_a_line_in_pieces_is_one_event(tmp_path: Path) -> None:
    path, shown = tmp_path / "events.jsonl", Shown()
    EventLog(path).write(Started(test="a"))
    line = path.read_bytes()
    follower = Follower(path, shown)
    for piece in (line[:10], line[10:20], line[20:]):
        with path.open("ab") as file:
            file.write(piece)
        follower._show()
    assert shown.seen == ["started a"]
    follower._file.close()
