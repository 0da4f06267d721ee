"""Repeats a failure under function_graph, limited to the functions of its report.

The trace is read while it grows, on the terminal that is for people: what a kernel had traced is gone with it, and
while one CPU prints its report, another one still passes on what led there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import shortage
from harness.errors import HarnessError
from harness.parse.graphtime import graph_events
from harness.report.graphtrace import trace_events
from harness.report.text import one_line
from harness.target.base import Target
from harness.target.line.console import Console

TEXT, DOCUMENT = "trace.txt", "trace.json"
_INSTANCE = "/sys/kernel/tracing/instances/harness-repro"
_SIZE_KIB = 8192  # of each CPU's buffer
_MOST_BYTES = 32 << 20  # of a trace that are kept: its end
_QUIET_S = 1.0  # after which nothing more is expected
_LONGEST_S = 20.0
_POLL_S = 0.1
_LIMIT_S = 120.0
_COLUMNS = 400  # a line must not be broken


class Tracing:
    """Traces `functions` on each machine that is to fail; once one has, its trace is in `directory`."""

    def __init__(self, functions: Sequence[str], directory: Path, *, say: Callable[[str], None]) -> None:
        self._functions = functions
        self._directory = directory
        self._say = say
        self._trace = bytearray()
        self._stream: Console | None = None
        self._why_not = ""

    def begin(self, target: Target) -> None:
        """Start tracing. What keeps that from working is told with the result: the test is repeated in any case."""
        self._trace, self._stream = bytearray(), None
        try:
            done = target.run(_commands(self._functions), timeout=_LIMIT_S)
            self._why_not = "" if done.ok else one_line(done.output) or "it has no function_graph in instances"
            if self._why_not:
                return
            stream = target.terminal(rows=50, columns=_COLUMNS).stream
        except HarnessError as error:
            self._why_not = error.message
            return
        stream.listen_raw(self._add)
        # its own calls are left out, or the trace would feed itself
        reading = f"stty -echo -onlcr; cd {_INSTANCE} && echo $$ > set_ftrace_notrace_pid; exec cat trace_pipe\n"
        self._stream = stream
        stream.send(reading.encode())

    def _add(self, data: bytes) -> None:
        self._trace += data
        if len(self._trace) > 2 * _MOST_BYTES:
            del self._trace[:-_MOST_BYTES]

    def keep(self, _target: Target, why: str) -> None:
        """Wait for the rest of the trace, and write it."""
        stream = self._stream
        if stream is None:
            self._say(f"{why}: no trace: {self._why_not}")
            return
        deadline = time.monotonic() + _LONGEST_S
        while time.monotonic() < deadline and not stream.wait_closed(_POLL_S):
            if time.monotonic() - stream.last_activity > _QUIET_S:
                break
        text = bytes(self._trace).decode("utf-8", "replace")
        events = [*graph_events(text.splitlines())]
        with shortage.reported(self._directory):
            (self._directory / TEXT).write_text(text, encoding="utf-8")
            (self._directory / DOCUMENT).write_text(trace_events(events))
        self._say(
            f"{why}: {len(events)} traced calls of its {len(self._functions)} functions, in "
            f"{self._directory / TEXT}; {DOCUMENT} there is for ui.perfetto.dev"
        )


def _commands(functions: Sequence[str]) -> str:
    """Shell commands that trace `functions`, as many of them as can be traced, in an instance of its own: the tests use
    the usual one."""
    adding = f"for each in {' '.join(functions)}; do echo $each >> set_ftrace_filter; done 2> /dev/null"
    return "; ".join(
        (
            f"mkdir -p {_INSTANCE} && cd {_INSTANCE} || exit 1",
            f"echo 0 > tracing_on; echo {_SIZE_KIB} > buffer_size_kb",
            adding,
            "grep -qv '^#' set_ftrace_filter || { echo 'none of its functions can be traced'; exit 1; }",
            "echo function_graph > current_tracer || exit 1",
            "for each in abstime proc tail; do echo 1 > options/funcgraph-$each; done",
            "echo 1 > tracing_on",
        )
    )
