"""events.jsonl, written by several processes at once."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

from harness.model.result import EventKind
from harness.run.eventlog import EventLog

_LINES = 200


def _write(path: Path, name: str) -> None:
    log = EventLog(path)
    for number in range(_LINES):
        log.write(EventKind.FINISHED, test=f"{name}-{number}", text=name * 20_000)


def test_long_events_of_several_processes_do_not_mix(tmp_path):
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
