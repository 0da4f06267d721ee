"""Return values and return addresses under function_graph."""

import contextlib
import re
from collections.abc import Callable

import pytest

from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs

STACK = ["calls_stack_inner", "calls_stack_middle", "calls_stack_outer", "show_stack"]


def test_return_values(tracefs: Tracefs, modules: Modules, needs: Callable[..., None]) -> None:
    """funcgraph-retval shows what each function returned: x0 as it is at the return (ftrace.rst, "funcgraph-retval";
    commit 3646970322464, arm64: ftrace: Enable HAVE_FUNCTION_GRAPH_RETVAL)."""
    needs("FUNCTION_GRAPH_RETVAL")
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*", "calls_negative", "calls_wide"),
        tracefs.option("funcgraph-retval", True),
        tracefs.option("funcgraph-retval-hex", True),
        tracefs.tracer("function_graph") as trace,
    ):
        calls.read("args")
        (tree,) = trace.graphs_of("calls_tree_root")
        values = [trace.graphs_of(name)[0].retval for name in ("calls_wide", "calls_negative")]
    assert tree.retval is not None
    assert int(tree.retval, 16) == 0x464
    left, right = tree.calls
    assert [int(call.retval or "-1", 16) for call in (left, right, *left.calls)] == [0xC, 0x7C, 0x1, 0x2]
    assert int(values[0] or "0", 16) == 0xFFFF_FFFF_FFFF_FFFF ^ 0x0123_4567_89AB_CDEF
    assert int(values[1] or "0", 16) & 0xFFFF_FFFF == (1 << 32) - 22


def test_return_addresses(tracefs: Tracefs, modules: Modules, needs: Callable[..., None]) -> None:
    """funcgraph-retaddr shows where each call returns to, the caller itself (ftrace.rst, "funcgraph-retaddr")."""
    needs("FUNCTION_GRAPH_RETADDR")
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.option("funcgraph-retaddr", True),
        tracefs.tracer("function_graph") as trace,
    ):
        calls.read("tree")
        pairs = re.findall(r"calls_tree_(\w+).*<-(\w+)", trace.text)
    assert sorted(pairs) == sorted(
        [
            ("root", "show_tree"),
            *[("left", "calls_tree_root"), ("right", "calls_tree_root"), ("left", "calls_tree_right")],
            *[("leaf", "calls_tree_left")] * 4,
        ]
    )


def _names(stack: str) -> list[str]:
    return [line.partition("+")[0].strip() for line in stack.splitlines()]


def _ours(stack: str) -> list[str]:
    return [name for name in _names(stack) if name.startswith("calls_") or name == "show_stack"]


@pytest.mark.parametrize("means", ["untraced", "function", "function_graph", "kretprobe", "both"])
def test_stack_trace_inside(tracefs: Tracefs, modules: Modules, means: str) -> None:
    """A stack trace taken inside traced functions shows their real callers, down to the bottom, and neither
    return_to_handler nor the kretprobe trampoline: the unwinder recovers each replaced return address
    (arch/arm64/kernel/stacktrace.c, kunwind_recover_return_address; commit cd9bc2c92588, "arm64: Recover kretprobe
    modified return address in stacktrace")."""
    with modules.load("calls") as calls:
        untraced = _names(calls.read("stack"))
        if means == "untraced":
            stack = calls.read("stack")
        elif means == "kretprobe":
            with tracefs.probe("r:inner calls_stack_inner", "r:outer calls_stack_outer"):
                stack = calls.read("stack")
        elif means == "both":
            with (
                tracefs.filter("calls_stack_*"),
                tracefs.tracer("function_graph"),
                tracefs.probe("r:inner calls_stack_inner", "r:outer calls_stack_outer"),
            ):
                stack = calls.read("stack")
        else:
            with tracefs.filter("calls_stack_*"), tracefs.tracer(means):
                stack = calls.read("stack")
    assert _ours(stack) == STACK
    assert not re.search("return_to_handler|trampoline|rethook", stack)
    assert _names(stack) == untraced


def test_stack_trace_of_every_traced_caller(tracefs: Tracefs, modules: Modules) -> None:
    """The same with every function of the way traced, from the system call on."""
    with modules.load("calls") as calls:
        untraced = calls.read("stack")
        with tracefs.tracer("function_graph"):
            stack = calls.read("stack", seconds=20.0)
    assert _names(stack) == _names(untraced)
    assert "return_to_handler" not in stack


@pytest.mark.parametrize("means", ["untraced", "function_graph", "kretprobe"])
def test_stack_trace_in_an_interrupt(tracefs: Tracefs, modules: Modules, means: str) -> None:
    """A stack trace taken in an interrupt handler shows the handler's real callers and, beyond the exception, those
    of the task that was interrupted, traced functions among them."""
    with modules.load("calls") as calls, contextlib.ExitStack() as stack:
        if means == "function_graph":
            stack.enter_context(tracefs.filter("calls_stack_*", "vfs_read", "ksys_read", "seq_read*"))
            stack.enter_context(tracefs.tracer("function_graph"))
        if means == "kretprobe":
            stack.enter_context(tracefs.probe("r:outer calls_stack_outer", "r:read vfs_read", "r:ksys ksys_read"))
        names = _names(calls.read("irq_stack"))
    known = (*STACK[:3], "stack_in_irq", "show_irq_stack", "vfs_read", "ksys_read")
    assert [name for name in names if name in known] == list(known)
    assert not {"return_to_handler", "arch_rethook_trampoline", "__kretprobe_trampoline"} & set(names)


def test_kretprobe_on_the_same_function(tracefs: Tracefs, modules: Modules) -> None:
    """A kretprobe and the graph tracer on one function both see it return, the probe with the right value: two
    mechanisms that replace the same return address."""
    with (
        modules.load("calls") as calls,
        tracefs.filter("calls_tree_*"),
        tracefs.tracer("function_graph") as nested,
        tracefs.instance("probes") as instance,
        instance.probe("r:left calls_tree_left value=$retval:x64", "r:root calls_tree_root value=$retval:x64"),
        instance.recording() as trace,
    ):
        assert calls.read("tree") == "464"
        values = re.findall(r" (left|root): .* value=(0x[0-9a-f]+)", trace.text)
        (tree,) = nested.graphs
    assert [(name, int(value, 16)) for name, value in values] == [("left", 0xC), ("left", 0x18), ("root", 0x464)]
    assert tree.callees == ["calls_tree_left", "calls_tree_right"]


def test_livepatch_on_the_same_function(
    guest: Guest, tracefs: Tracefs, modules: Modules, livepatches: Livepatches
) -> None:
    """A patched function is graph-traced, the new code runs, and its callers stay as they are in the tree."""
    with (
        modules.load("calls") as calls,
        livepatches.load("klp_calls") as patch,
        tracefs.filter("calls_tree_*"),
        tracefs.tracer("function_graph") as trace,
    ):
        patch.wait()
        assert calls.read("tree") == "464"
        (tree,) = trace.graphs
        runs = guest.read("/sys/module/klp_calls/parameters/runs").strip()
    assert runs == "4"
    assert [call.callees for call in tree.calls] == [["calls_tree_leaf"] * 2, ["calls_tree_left"]]
