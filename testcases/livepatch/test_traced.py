"""Livepatched functions that are traced, and other mechanisms that redirect a function."""

import contextlib
from collections.abc import Callable

import pytest

from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Trace, Tracefs

_TRACERS = pytest.mark.parametrize("tracer", ["function", "function_graph"])


def _was_called(trace: Trace, tracer: str, function: str) -> bool:
    return bool(trace.calls_of(function) if tracer == "function" else trace.graphs_of(function))


@_TRACERS
def test_patch_a_traced_function(tracefs: Tracefs, livepatches: Livepatches, target: KlpTarget, tracer: str) -> None:
    """A function that is traced is patched: calls are recorded, the new code runs, and after the patch has gone they
    still are recorded (qa_test_klp TC13; TC15 with the graph tracer)."""
    with tracefs.filter("klp_target_name"), tracefs.tracer(tracer) as trace:
        with livepatches.in_effect("klp_second"):
            tracefs.write("trace", "")
            assert target.says == "klp_second"
            assert "klp_target_name" in tracefs.read("trace")
        tracefs.write("trace", "")
        assert target.says == "original"
        assert _was_called(trace, tracer, "klp_target_name")


@_TRACERS
def test_trace_a_patched_function(tracefs: Tracefs, livepatches: Livepatches, target: KlpTarget, tracer: str) -> None:
    """A function that is patched is traced, the old name and the new function both; the new code runs while it is
    and when it no longer is (qa_test_klp TC14; TC16 with the graph tracer)."""
    with livepatches.in_effect("klp_second"):
        with tracefs.filter("klp_target_name", "klp_name_name"), tracefs.tracer(tracer) as trace:
            assert target.says == "klp_second"
            assert "klp_target_name" in trace.text
            assert "klp_name_name" in trace.text
        assert target.says == "klp_second"
    assert target.says == "original"


def test_traced_in_every_way_at_once(
    tracefs: Tracefs,
    livepatches: Livepatches,
    target: KlpTarget,
    kretprobe: Callable[[str], contextlib.AbstractContextManager[None]],
) -> None:
    """function_graph, a kretprobe and a livepatch on one function, with the function profiler's ops beside: each sees
    the call, the new code's value comes back."""
    with (
        kretprobe("klp_target:klp_target_name"),
        tracefs.filter("klp_target_name"),
        tracefs.tracer("function_graph") as trace,
        livepatches.load("klp_second") as patch,
    ):
        patch.wait()
        tracefs.write("trace", "")
        assert target.says == "klp_second"
        assert "klp_return:" in trace.text
        assert trace.graphs_of("klp_target_name")


def test_refused_while_another_modifies_the_ip(modules: Modules, livepatches: Livepatches, target: KlpTarget) -> None:
    """A function has one ftrace_ops at most that changes where it goes: while there is another one the patch is
    refused, and can be loaded when it has gone (qa_test_klp TC17; FTRACE_OPS_FL_IPMODIFY in ftrace-uses.rst)."""
    with modules.load("klp_redirect") as other:
        other.write("ops", "1")
        assert target.says == "klp_redirect"
        assert livepatches.refused("klp_second") == "Device or resource busy"
        assert target.says == "klp_redirect"
        with livepatches.in_effect("klp_callbacks"):  # of another function of that module
            assert target.says == "klp_redirect"
        other.write("ops", "0")
        with livepatches.in_effect("klp_second"):
            assert target.says == "klp_second"


def test_another_that_modifies_the_ip_is_refused(modules: Modules, livepatches: Livepatches, target: KlpTarget) -> None:
    """The other way round: while a function is patched nobody else may change where it goes."""
    with livepatches.load("klp_second") as patch, modules.load("klp_redirect") as other:
        patch.wait()
        assert other.refuses("ops", "1")
        assert target.says == "klp_second"
        patch.disable()
        other.write("ops", "1")
        assert target.says == "klp_redirect"


def test_kprobe_that_changes_the_ip(modules: Modules, livepatches: Livepatches, target: KlpTarget) -> None:
    """A kprobe that sends the function elsewhere. On arm64 kprobes use a breakpoint, not ftrace (there is no
    KPROBES_ON_FTRACE), so the livepatch core can't know of it and does not refuse the patch, as TC17 has it for x86;
    what must hold is that either has its effect: the kprobe, hit first, as long as it is there, then the patch."""
    with modules.load("klp_redirect") as other:
        other.write("probe", "1")
        assert target.says == "klp_redirect"
        with livepatches.in_effect("klp_second"):
            assert target.says == "klp_redirect"
            other.write("probe", "0")
            assert target.says == "klp_second"
            other.write("probe", "1")
            assert target.says == "klp_redirect"
        assert target.says == "klp_redirect"
        other.write("probe", "0")
        assert target.says == "original"
