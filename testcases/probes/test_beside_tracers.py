"""Fprobes and BPF's kprobe.multi, which are users of fgraph, beside the graph tracer, which is another one."""

from collections.abc import Callable

import pytest

from harness.run.api.bpf import Bpf
from harness.run.api.guest import Guest
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs

_orders = pytest.mark.parametrize("first", ["probe", "tracer"])


@_orders
def test_probe_and_graph_tracer_on_different_functions(
    tracefs: Tracefs, modules: Modules, needs: Callable[..., None], first: str
) -> None:
    """A probe at the return of one function, and the graph tracer on another: each sees its own, and neither is
    called for what the other one traces (kernel/trace/fgraph.c, function_graph_enter_regs)."""
    needs("FPROBE_EVENTS")
    probe = tracefs.probe("f:result calls_tree_right%return value=$retval:x64", file="dynamic_events")
    with modules.load("calls") as calls, tracefs.filter("calls_tree_leaf"):
        if first == "probe":
            with probe, tracefs.tracer("function_graph") as trace:
                assert calls.read("tree") == "464"
                text, graphs = trace.text, trace.graphs_of("calls_tree_leaf")
        else:
            with tracefs.tracer("function_graph") as trace, probe:
                assert calls.read("tree") == "464"
                text, graphs = trace.text, trace.graphs_of("calls_tree_leaf")
    assert len(graphs) == 4
    assert text.count(" result: ") == 1
    assert f"value={0x7C:#x}" in text


@_orders
def test_multi_and_graph_tracer_on_the_same_functions(
    tracefs: Tracefs, modules: Modules, bpf: Bpf, needs: Callable[..., None], first: str
) -> None:
    """kprobe.multi and kretprobe.multi at several functions that the graph tracer traces too: each call is seen by
    all three, with its argument and result."""
    needs("FPROBE")
    functions = ("calls_tree_root", "calls_tree_left", "calls_tree_right", "calls_tree_leaf")
    programs = (("multi", ",".join(functions)), ("multiret", ",".join(functions)))
    with modules.load("calls") as calls, tracefs.filter(*functions):
        if first == "probe":
            with bpf.attach(*programs) as attached, tracefs.tracer("function_graph") as trace:
                assert calls.read("tree") == "464"
                entered, left = attached.seen()
                (root,) = trace.graphs
        else:
            with tracefs.tracer("function_graph") as trace, bpf.attach(*programs) as attached:
                assert calls.read("tree") == "464"
                entered, left = attached.seen()
                (root,) = trace.graphs
    assert (entered.calls, left.calls) == (8, 8)
    assert left.result == 0x464  # the root returns last
    assert root.callees == ["calls_tree_left", "calls_tree_right"]


def test_livepatched_and_probed(
    modules: Modules, livepatches: Livepatches, bpf: Bpf, guest: Guest, needs: Callable[..., None]
) -> None:
    """kprobe.multi and kretprobe.multi at a function that is livepatched: the new function runs, and its argument and
    result are seen; the probes see the calls before and after the patch too."""
    needs("FPROBE")
    modules.require("klp_calls")
    with modules.load("calls") as calls, bpf.attach(("multi", "calls_saved"), ("multiret", "calls_saved")) as programs:
        calls.read("saved")
        with livepatches.in_effect("klp_calls"):
            assert calls.read("saved").splitlines()[0] == "wrong 0"
            runs = guest.line("/sys/module/klp_calls/parameters/runs")
        calls.read("saved")
        entered, left = programs.seen()
    assert runs == "1"
    assert (entered.calls, entered.argument) == (3, 0x1000)
    assert (left.calls, left.result) == (3, 0xEFFF)
