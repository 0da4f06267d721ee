"""What function_graph prints with times (options funcgraph-abstime and funcgraph-proc), and which functions of a kernel
report it can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_NAME = r"[A-Za-z_.$][\w.$]{0,255}"
# " 1234.567890 |   0)    cat-123    |   1.234 us    |  vfs_read();"
_LINE = re.compile(
    r"\s{0,40}(?P<seconds>\d{1,12})\.(?P<micros>\d{6}) \|\s{1,20}(?P<cpu>\d{1,5})\)\s{1,40}(?P<task>[^\s|][^|]{0,64})\|"
    r"(?P<duration>[^|]{0,40})\|\s{0,400}(?P<rest>\S.*)"
)
_TASK = re.compile(r"(?P<name>.{1,64}?)-(?P<pid>\d{1,10})\s*")
_DURATION = re.compile(r"(?P<us>\d{1,12}(?:\.\d{1,3})?) us")
_CALL = re.compile(rf"(?P<name>{_NAME})(?: \[\w+\])?\(")
_WORD = r"[A-Za-z0-9_.]"  # of which a shell makes nothing else
_FRAME = re.compile(
    rf"\b(?P<name>[A-Za-z_]{_WORD}{{0,255}})\+0x[0-9a-f]{{1,16}}/0x[0-9a-f]{{1,16}}(?: \[(?P<module>{_WORD}{{1,64}}))?"
)
_MOST = 64  # functions of a report


@dataclass(frozen=True, kw_only=True)
class GraphEvent:
    """One line. `phase`: X (a whole call), B (one begins) or E (one ends), as in Chrome's trace events; `at_us` and
    `duration_us`: microseconds; None: not printed."""

    phase: str
    function: str
    at_us: int
    cpu: int
    task: str
    pid: int
    duration_us: float | None = None


def graph_events(lines: Iterable[str]) -> Iterator[GraphEvent]:
    """The calls that are printed; other lines are skipped."""
    for line in lines:
        match = _LINE.match(line)
        task = _TASK.fullmatch(match["task"]) if match else None
        if match is None or task is None:
            continue
        call, duration = _CALL.match(match["rest"]), _DURATION.search(match["duration"])
        ends = match["rest"].startswith("}")
        if not call and not ends:
            continue
        rest = match["rest"].rstrip()
        yield GraphEvent(
            phase="E" if ends else "B" if rest.endswith("{") else "X",
            function=call["name"] if call else "",
            at_us=int(match["seconds"]) * 1_000_000 + int(match["micros"]),
            cpu=int(match["cpu"]),
            task=task["name"],
            pid=int(task["pid"]),
            duration_us=float(duration["us"]) if duration else None,
        )


def functions_in(lines: Iterable[str]) -> list[str]:
    """The functions on the stacks of a report, in the order printed, in the form that set_ftrace_filter takes; those of
    modules as ``f:mod:NAME``, which a kernel may remember until the module is loaded."""
    found: dict[str, None] = {}
    for line in lines:
        for match in _FRAME.finditer(line):
            name = match["name"]
            found.setdefault(f"{name}:mod:{match['module']}" if match["module"] else name)
        if len(found) >= _MOST:
            break
    return list(found)[:_MOST]
