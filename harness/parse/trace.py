"""The text of tracefs' ``trace`` file: calls of the function tracer, call trees of function_graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NAME = r"(?P<function>[A-Za-z_.$][\w.$]*)(?:\+(?P<offset>0x[0-9a-f]+)(?:/0x[0-9a-f]+)?)?(?: \[(?P<module>\w+)\])?"
# the address of a caller that has been freed since, as __init functions are, stands for itself; a function that a
# kretprobe was at first returns to the probe's trampoline, which the kernel doesn't take for a caller
_CALLER = r"(?P<parent>0x[0-9a-f]+|\[unknown/kretprobe'd\]|[A-Za-z_.$][\w.$]*)"
_PARENT = rf"{_CALLER}(?:\+(?P<parent_offset>0x[0-9a-f]+)(?:/0x[0-9a-f]+)?)?(?: \[\w+\])?"
# "            bash-71      [001] d..2.    12.345678: vfs_read <-ksys_read"
_TASK = r"(?P<task>.{1,64})-(?P<pid>\d{1,10})\s{1,20}\[(?P<cpu>\d{1,5})\]"
_CALL = re.compile(rf"^\s*+{_TASK}.{{0,64}}?\s[\d.]{{1,30}}: {_NAME}(?:\(.*\))? <-{_PARENT}")
# " => vfs_read+0x10/0x300"
_FRAME = re.compile(rf"^\s*=> {_NAME}")
# " 1)   0.512 us    |    fput();", " 1)               |  ksys_read() {",
# " 1)  + 12.3 us    |  } /* ksys_read ret=0x0 */", in 6.12 "} /* ksys_read = 0x0 */"
# with the option funcgraph-proc: " 1)    cat-123     |   0.512 us    |  fput();"
_GRAPH = re.compile(
    r"^\s*+(?:(?P<cpu>\d{1,5})\))?(?:\s*+(?P<task>\S[^|]*-(?P<pid>\d{1,10}))\s*\|)?(?P<duration>[^|]*)\|(?P<indent>\s*)(?P<rest>.*)$"
)
_OPEN = re.compile(rf"^{_NAME}\(.*\) \{{")
_LEAF = re.compile(rf"^{_NAME}\(.*\);(?P<tail>.*)$")
_RETURN = re.compile(r"(?: ret=| = )(?P<value>-?(?:0x)?[0-9a-fA-F]+)")


@dataclass(frozen=True)
class TraceCall:
    """One line of the function tracer. Offsets are None unless the option ``sym-offset`` was on."""

    function: str
    parent: str
    pid: int
    cpu: int
    module: str | None = None
    offset: int | None = None
    parent_offset: int | None = None


@dataclass
class GraphCall:
    """One call in a tree; `retval` as printed (``0x0``, ``-22``) where the kernel records it."""

    function: str
    module: str | None = None
    retval: str | None = None
    calls: list[GraphCall] = field(default_factory=list)

    @property
    def callees(self) -> list[str]:
        """The functions called directly, in order."""
        return [call.function for call in self.calls]


def function_calls(text: str) -> Iterator[TraceCall]:
    """Return every call in the function tracer's output; other lines (comments, lost events) are skipped."""
    for line in text.split("\n"):
        match = _CALL.match(line)
        if match:
            yield TraceCall(
                function=match["function"],
                parent=match["parent"],
                pid=int(match["pid"]),
                cpu=int(match["cpu"]),
                module=match["module"],
                offset=_hex(match["offset"]),
                parent_offset=_hex(match["parent_offset"]),
            )


def stack_traces(text: str) -> Iterator[list[str]]:
    """Return every stack trace, as function names, innermost first."""
    stack: list[str] | None = None
    for line in text.split("\n"):
        if "<stack trace>" in line:
            if stack is not None:
                yield stack
            stack = []
        elif stack is not None:
            frame = _FRAME.match(line)
            if frame:
                stack.append(frame["function"])
            else:
                yield stack
                stack = None
    if stack is not None:
        yield stack


def graph_calls(text: str) -> list[GraphCall]:
    """The top-level call trees in function_graph's output. Each task's lines are followed apart where the option
    funcgraph-proc tells them, else each CPU's, which breaks the tree of a task that goes to another CPU meanwhile."""
    tops: list[GraphCall] = []
    stacks: dict[str, list[GraphCall]] = {}
    for line in text.split("\n"):
        match = _GRAPH.match(line)
        if not match or line.lstrip().startswith("#"):
            continue
        is_task = match["pid"] and int(match["pid"])  # 0 is each CPU's idle task
        stack = stacks.setdefault(match["pid"] if is_task else f"CPU {match['cpu']}", [])
        rest = match["rest"].strip()
        opened, leaf = _OPEN.match(rest), _LEAF.match(rest)
        if opened or leaf:
            found = opened or leaf
            assert found is not None
            call = GraphCall(found["function"], found["module"], _retval(leaf["tail"]) if leaf else None)
            (stack[-1].calls if stack else tops).append(call)
            if opened:
                stack.append(call)
        elif rest.startswith("}") and stack:
            stack.pop().retval = _retval(rest)
    return tops


def _retval(text: str) -> str | None:
    match = _RETURN.search(text)
    return match["value"] if match else None


def _hex(text: str | None) -> int | None:
    return int(text, 16) if text else None
