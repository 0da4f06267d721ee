"""tracefs; the end of every ``with`` restores the previous state."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from harness.parse.trace import GraphCall, TraceCall, function_calls, graph_calls, stack_traces
from harness.run.api.guest import Guest, number

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

    def accepts(self, name: str, text: str) -> bool:
        """Append `text` to the file `name`; returns whether the kernel accepted it."""
        return self._guest.run(f"echo {shlex.quote(text)} >> {self.root}/{name}").ok

    @contextlib.contextmanager
    def tracer(self, name: str) -> Iterator[Trace]:
        """Trace with the tracer `name` (``function``, ``function_graph``) for the duration of the ``with``."""
        self.write("trace", "")
        self.write("current_tracer", name)
        if name == "function_graph":  # a task may migrate to another CPU during a call
            self.write("trace_options", "funcgraph-proc")
        self.write("tracing_on", "1")
        try:
            yield Trace(self)
        finally:
            self.write("tracing_on", "0")
            if name == "function_graph":
                self.write("trace_options", "nofuncgraph-proc")
            self.write("current_tracer", "nop")
            self.write("trace", "")
            self.write("tracing_on", "1")

    @contextlib.contextmanager
    def recording(self) -> Iterator[Trace]:
        """Record events and probes, without a tracer, for the duration of the ``with``."""
        with self.tracer("nop") as trace:
            yield trace

    @contextlib.contextmanager
    def filter(self, *patterns: str, file: str = "set_ftrace_filter") -> Iterator[None]:
        """Trace only functions that match (globs, ``:mod:name``), for the duration of the ``with``."""
        self.write(file, "")
        for pattern in patterns:
            self.write(file, pattern, append=True)
        try:
            yield
        finally:
            self.write(file, "")

    def graph(self, *functions: str) -> contextlib.AbstractContextManager[None]:
        """Make function_graph show only these functions and what they call."""
        return self.filter(*functions, file="set_graph_function")

    def value(self, name: str, value: str) -> contextlib.AbstractContextManager[None]:
        """Change the value of the file `name` (``max_graph_depth``) for the duration of the ``with``."""
        return self._guest.value(f"{self.root}/{name}", value)

    @contextlib.contextmanager
    def option(self, name: str, value: bool) -> Iterator[None]:
        """Set a trace option (``sym-offset``, ``funcgraph-retval``) for the duration of the ``with``."""
        with self.value(f"options/{name}", str(int(value))):
            yield

    @contextlib.contextmanager
    def instance(self, name: str) -> Iterator[Tracefs]:
        """A new tracing instance, with its own tracer, filters and buffer."""
        root = f"{self.root}/instances/{name}"
        self._guest.make_directory(root)
        try:
            yield Tracefs(self._guest, root)
        finally:
            self._guest.check(f"rmdir {root}")

    @contextlib.contextmanager
    def probe(self, *definitions: str, group: str = "harness", file: str = "kprobe_events") -> Iterator[None]:
        """Define kprobe events (``p:NAME SYMBOL args``, ``r:NAME SYMBOL``), in ``dynamic_events`` also fprobes, for the
        duration of the ``with``: defined globally, enabled in this tracing directory."""
        enable = f"{self.root}/events/{group}/enable"
        try:
            for definition in definitions:
                kind, _, rest = definition.partition(":")
                self._guest.write(f"{ROOT}/{file}", f"{kind}:{group}/{rest}", append=True)
            self._guest.write(enable, "1")
            yield
        finally:
            if self._guest.exists(enable):
                self._guest.write(enable, "0")
            for name in (definition.partition(":")[2].split()[0] for definition in definitions):
                self._guest.run(f"echo -:{group}/{name} >> {ROOT}/{file}")

    @contextlib.contextmanager
    def profile(self) -> Iterator[Profile]:
        """Count calls with the function profiler for the duration of the ``with``."""
        self.write("function_profile_enabled", "1")
        try:
            yield Profile(self._guest, self)
        finally:
            self.write("function_profile_enabled", "0")

    def can_trace(self, function: str) -> bool:
        """Whether available_filter_functions lists `function`."""
        return self._guest.run(f"grep -qE '^{function}( |$)' {self.root}/available_filter_functions").ok


class Profile:
    """The function profiler's counts. Counting stops at the first read."""

    def __init__(self, guest: Guest, tracefs: Tracefs) -> None:
        self._guest = guest
        self._tracefs = tracefs

    def hits(self, function: str) -> int:
        """How often `function` was called, on all CPUs."""
        self._tracefs.write("function_profile_enabled", "0")
        text = self._guest.check(f"cat {self._tracefs.root}/trace_stat/function*")
        rows = (line.split() for line in text.splitlines())
        return sum(number(row[1], f"hits of {function}") for row in rows if len(row) > 1 and row[0] == function)


class Trace:
    """The recorded trace. Recording stops at the first read."""

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

    @property
    def calls(self) -> list[TraceCall]:
        """Every recorded call (function tracer)."""
        return list(function_calls(self.text))

    @property
    def stacks(self) -> list[list[str]]:
        """Every recorded stack trace: the functions' names, innermost first."""
        return list(stack_traces(self.text))

    def calls_of(self, function: str) -> list[TraceCall]:
        """Every recorded call of `function` (function tracer)."""
        return [call for call in self.calls if call.function == function]

    @property
    def graphs(self) -> list[GraphCall]:
        """Every recorded call tree (function_graph tracer)."""
        return graph_calls(self.text)

    def graphs_of(self, function: str) -> list[GraphCall]:
        """Every recorded call tree with `function` at its top (function_graph tracer)."""
        return [call for call in self.graphs if call.function == function]
