"""events.jsonl, written by several processes at once."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from harness.model.event import Finished, Note, Started
from harness.model.result import Result, Verdict
from harness.parse.events import parse_events
from harness.report.fold import fold
from harness.run.eventlog import EventLog
from tests.faults.catalogue import Blame, fault

_LINES = 200


def _write(path: Path, name: str) -> None:
    log = EventLog(path)
    for number in range(_LINES):
        log.write(Note(test=f"{name}-{number}", text=name * 20_000))


def test_long_events_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(event["test"] for event in events) == sorted(f"{name}-{n}" for name in "ab" for n in range(_LINES))
    assert all(set(event["data"]["text"]) == {event["test"][0]} for event in events)


class Nearly:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, room: int) -> None:
        self.text = b""
        self.room = room

    def write(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= taken
        self.text += data[:taken]
        return taken


@pytest.mark.parametrize("room", [0, 1, 20])
def test_an_event_that_a_full_disk_does_not_take_is_kept_and_told(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.close()
    monkeypatch.setattr(log, "_file", Nearly(room))
    log.write(Note(text="a word"))
    assert [event.text for event in log.unwritten if isinstance(event, Note)] == ["a word"]
    assert log.failure
    assert log.failure.errno == errno.ENOSPC


@pytest.mark.parametrize("room", [0, 1, 10])
@fault(
    "an event is cut off, and room is made before the next one",
    where="disk",
    blame=Blame.NOBODY,
    survives="both events, in order",
)
def test_what_could_not_be_written_is_written_with_the_next_event(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.close()
    disk = Nearly(room)
    monkeypatch.setattr(log, "_file", disk)
    log.write(Note(text="cut off"))
    disk.room = 1000
    log.write(Note(text="whole"))
    texts = []
    for event in parse_events(disk.text.decode().splitlines()):
        assert isinstance(event, Note)
        texts.append(event.text)
    assert [text for text in texts if "damaged" not in text] == ["cut off", "whole"]
    assert log.unwritten == []


def test_verdicts_are_on_the_disk_and_not_only_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    log = EventLog(tmp_path / "events.jsonl")
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(log.path.read_bytes().splitlines()[-1]))
    for event in (Started(test="t"), Finished(result=Result(test="t", verdict=Verdict.PASS)), Note(text="n")):
        log.write(event)
    assert [json.loads(line)["kind"] for line in synced] == ["finished"]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@fault(
    "a file system finds only when it syncs that it can not write", where="disk", blame=Blame.INFRA,
    survives="the event, in memory; it counts once",
)  # fmt: skip
def test_an_event_that_can_not_be_synced_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    log = EventLog(tmp_path / "events.jsonl")

    def sync(_file: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fdatasync", sync)
    log.write(Finished(result=Result(test="t", verdict=Verdict.FAIL)))
    assert [type(event) for event in log.unwritten] == [Finished]
    assert log.failure
    assert log.failure.errno == error
    monkeypatch.undo()
    log.write(Note(text="n"))
    assert log.unwritten == []
    with log.path.open() as lines:
        (result,) = fold(parse_events(lines)).results
    assert (result.verdict, len(result.attempts)) == (Verdict.FAIL, 0)


def test_what_can_not_be_synced_at_all_is_no_failure() -> None:
    log = EventLog(Path(os.devnull))
    log.write(Finished(result=Result(test="t", verdict=Verdict.PASS)))
    assert (log.failure, log.unwritten) == (None, [])
