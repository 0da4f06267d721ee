"""events.jsonl, written by several processes at once."""

from __future__ import annotations

import errno
import json
import multiprocessing
from pathlib import Path

import pytest

from harness.model.event import Note
from harness.run.eventlog import EventLog

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
        self._room = room

    def write(self, data: bytes) -> int:
        taken = min(len(data), self._room)
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= taken
        self.text += data[:taken]
        return taken


class Growing(Nearly):
    """Somebody makes room when it is full."""

    def write(self, data: bytes) -> int:
        self._room = self._room or 1000
        return super().write(data)


@pytest.mark.parametrize("room", [0, 1, 20])
def test_an_event_that_a_full_disk_does_not_take_is_an_error(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.close()
    monkeypatch.setattr(log, "_file", Nearly(room))
    with pytest.raises(OSError, match="No space left on device"):
        log.write(Note(text="a word"))


def test_the_event_behind_one_that_was_cut_off_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.close()
    disk = Growing(10)
    monkeypatch.setattr(log, "_file", disk)

    with pytest.raises(OSError, match="No space left on device"):
        log.write(Note(text="cut off"))
    log.write(Note(text="whole"))
    assert [json.loads(line)["data"]["text"] for line in disk.text.splitlines()[1:]] == ["whole"]
