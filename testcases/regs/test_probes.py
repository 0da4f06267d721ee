"""Probes at functions that ftrace may patch, and what they see of arguments and results."""

import re
from collections.abc import Callable

import pytest

from harness.run.api.modules import Modules
from harness.run.api.tracefs import Trace, Tracefs

ARGUMENTS = " ".join(f"a{i}=%x{i}:x64" for i in range(8))
WANTED = [int(f"a{i}" * 8, 16) for i in range(8)]


def _fields(trace: Trace, event: str) -> list[int]:
    """The hexadecimal fields of the only record of `event`."""
    (line,) = [line for line in trace.text.splitlines() if f" {event}: " in line]
    return [int(value, 16) for value in re.findall(r" \w+=(0x[0-9a-f]+)", line)]


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("tracer", ["nop", "function", "function_graph"])
def test_arguments_at_a_kprobe(tracefs: Tracefs, modules: Modules, tracer: str, place: str) -> None:
    """A kprobe at a function's first instruction sees x0–x7 as the caller set them, traced or not
    (Documentation/trace/kprobes.rst)."""
    with (
        modules.placed("calls", place) as calls,
        tracefs.filter("calls_args"),
        tracefs.probe(f"p:entry calls_args {ARGUMENTS}"),
        tracefs.tracer(tracer) as trace,
    ):
        calls.read("args")
        seen = _fields(trace, "entry")
    assert seen == WANTED


@pytest.mark.parametrize("tracer", ["nop", "function", "function_graph"])
def test_result_at_a_kretprobe(tracefs: Tracefs, modules: Modules, tracer: str) -> None:
    """A kretprobe sees what the function returned, and who called it."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_wide"),
        tracefs.probe("r:result calls_wide value=$retval:x64"),
        tracefs.tracer(tracer) as trace,
    ):
        calls.read("args")
        (value,) = _fields(trace, "result")
        (line,) = [line for line in trace.text.splitlines() if " result: " in line]
    assert value == 0xFFFF_FFFF_FFFF_FFFF ^ 0x0123_4567_89AB_CDEF
    assert re.search(r"\(show_args\+0x[0-9a-f]+/0x[0-9a-f]+ \[calls\] <- calls_wide\)", line)


@pytest.mark.parametrize("place", ["near", "far"])
def test_fprobe(tracefs: Tracefs, modules: Modules, needs: Callable[..., None], place: str) -> None:
    """An fprobe sees arguments at the entry and the result at the return: the registers that ftrace_caller and
    return_to_handler saved (Documentation/trace/fprobetrace.rst)."""
    needs("FPROBE_EVENTS")
    with (
        modules.placed("calls", place) as calls,
        tracefs.probe(
            "f:entry calls_args " + " ".join(f"a{i}=$arg{i + 1}:x64" for i in range(8)),
            "f:result calls_wide%return value=$retval:x64",
            file="dynamic_events",
        ),
        tracefs.recording() as trace,
    ):
        calls.read("args")
        seen = _fields(trace, "entry"), _fields(trace, "result")
    assert seen == (WANTED, [0xFFFF_FFFF_FFFF_FFFF ^ 0x0123_4567_89AB_CDEF])


def test_no_kprobe_on_the_call_site(patchable: None, tracefs: Tracefs, modules: Modules) -> None:
    """The instruction that ftrace patches is not a kprobe's as well: two that write there would undo each other
    (kernel/kprobes.c, check_ftrace_location; arm64 has no KPROBES_ON_FTRACE)."""
    with modules.load("calls"):
        assert not tracefs.accepts("kprobe_events", "p:harness/site calls_wide+4")
        assert tracefs.accepts("kprobe_events", "p:harness/behind calls_wide+8")
        tracefs.write("kprobe_events", "-:harness/behind", append=True)
