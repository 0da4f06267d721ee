"""tracefs, put back as it was at the end of every ``with``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.parse.trace import GraphCall, TraceCall, function_calls, graph_calls

from .guest import Guest

ROOT = "/sys/kernel/tracing"


class Tracefs:
    """One tracing directory: the top one, or an instance."""

    def __init__(self, guest: Guest, root: str = ROOT) -> None:
        self._guest = guest
        self.root = root

    def read(self, name: str) -> str:
        return self._guest.read(f"{self.root}/{name}")

    def write(self, name: str, text: str, *, append: bool = False) -> None:
        self._guest.write(f"{self.root}/{name}", text, append=append)

    @contextlib.contextmanager
    def tracer(self, name: str) -> Iterator[Trace]:
        """Trace with the tracer `name` (``function``, ``function_graph``) for the length of the ``with``."""
        self.write("trace", "")
        self.write("current_tracer", name)
        self.write("tracing_on", "1")
        try:
            yield Trace(self)
        finally:
            self.write("tracing_on", "0")
            self.write("current_tracer", "nop")
            self.write("trace", "")
            self.write("tracing_on", "1")

    @contextlib.contextmanager
    def filter(self, *patterns: str, file: str = "set_ftrace_filter") -> Iterator[None]:
        """Trace only functions that match (globs, ``:mod:name``), for the length of the ``with``."""
        self.write(file, "")
        for pattern in patterns:
            self.write(file, pattern, append=True)
        try:
            yield
        finally:
            self.write(file, "")

    @contextlib.contextmanager
    def kprobe(self, place: str, arguments: str = "") -> Iterator[Trace]:
        """Record every passage of `place` with `arguments` (kprobetrace.rst), for the length of the ``with``."""
        self.write("trace", "")
        self.write("kprobe_events", f"p:harness/passage {place} {arguments}", append=True)
        try:
            self.write("events/harness/passage/enable", "1")
            try:
                yield Trace(self)
            finally:
                self.write("events/harness/passage/enable", "0")
        finally:
            self.write("kprobe_events", "-:harness/passage", append=True)
            self.write("trace", "")
            self.write("tracing_on", "1")

    def graph(self, *functions: str) -> contextlib.AbstractContextManager[None]:
        """Let function_graph show only these functions and what they call."""
        return self.filter(*functions, file="set_graph_function")

    @contextlib.contextmanager
    def option(self, name: str, value: bool) -> Iterator[None]:
        """A trace option (``sym-offset``, ``funcgraph-retval``) for the length of the ``with``."""
        before = self.read(f"options/{name}").strip()
        self.write(f"options/{name}", str(int(value)))
        try:
            yield
        finally:
            self.write(f"options/{name}", before)

    def can_trace(self, function: str) -> bool:
        """Whether available_filter_functions lists `function`."""
        return self._guest.run(f"grep -qE '^{function}( |$)' {self.root}/available_filter_functions").ok


class Trace:
    """What was recorded. Recording stops when it is first read."""

    def __init__(self, tracefs: Tracefs) -> None:
        self._tracefs = tracefs
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The file ``trace``, whole."""
        if self._text is None:
            self._tracefs.write("tracing_on", "0")
            self._text = self._tracefs.read("trace")
        return self._text

    def calls_of(self, function: str) -> list[TraceCall]:
        """Every recorded call of `function` (function tracer)."""
        return [call for call in function_calls(self.text) if call.function == function]

    def graphs_of(self, function: str) -> list[GraphCall]:
        """Every recorded call tree with `function` at its top (function_graph tracer)."""
        return [call for call in graph_calls(self.text) if call.function == function]
