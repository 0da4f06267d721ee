"""function_graph's trace as Chrome's trace events, a JSON document that Perfetto (ui.perfetto.dev) shows."""

from __future__ import annotations

import json
from collections.abc import Iterable

from harness.parse.graphtime import GraphEvent


def trace_events(events: Iterable[GraphEvent]) -> str:
    """Return the document. All tasks are threads of one process, the kernel."""
    shown: list[dict[str, object]] = []
    names: dict[int, str] = {}
    for event in events:
        names.setdefault(event.pid, event.task)
        one: dict[str, object] = {"ph": event.phase, "ts": event.at_us, "pid": 0, "tid": event.pid}
        if event.phase != "E":
            one |= {"name": event.function, "args": {"cpu": event.cpu}}
        if event.phase == "X":
            one["dur"] = event.duration_us or 0.0
        shown.append(one)
    threads = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": pid, "args": {"name": name}}
        for pid, name in sorted(names.items())
    ]
    kernel = {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "kernel"}}
    return json.dumps({"traceEvents": [kernel, *threads, *shown]}) + "\n"
