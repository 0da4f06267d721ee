"""A direct call behind other tracers of the same function, and at functions that can't reach its trampoline."""

import contextlib
import re
from collections.abc import Iterator

import pytest

from harness.model.kernel import Build
from harness.run.api.guest import Guest
from harness.run.api.modules import REACH_BYTES, Module, Modules
from harness.run.api.text import Text
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches

FUNCTION = "calls_saved"
SITE = f"calls:{FUNCTION}"
_RECORD = re.compile(rf": (?P<what>before|behind|{FUNCTION}|direct_seen)\b(?:.* value=(?P<value>0x[0-9a-f]+))?")


@pytest.fixture
def direct(modules: Modules) -> Iterator[Module]:
    """The module direct, near the kernel."""
    with modules.placed("direct", "near") as module:
        yield module


def test_order(direct: Module, tracefs: Tracefs, modules: Modules, text: Text) -> None:
    """Each call meets a kprobe on the function's first instruction, then the tracers, then the direct call, then the
    function, where the next kprobe is; each sees the argument, and nothing is changed by it. The tracers come after
    the direct call and leave before it."""
    with modules.load("calls") as calls:
        direct.write("attach", FUNCTION)
        site = text.site(SITE)
        behind = site.ip + 4 - site.address
        with (
            tracefs.instance("order") as instance,
            instance.filter(FUNCTION, "direct_seen"),
            instance.probe(f"p:before {FUNCTION} value=%x0:x64", f"p:behind {FUNCTION}+{behind} value=%x0:x64"),
            instance.tracer("function") as trace,
        ):
            results = [calls.read("saved")]
            records = [(found["what"], found["value"]) for found in _RECORD.finditer(trace.text)]
        results.append(calls.read("saved"))
        left = text.site(SITE)
        seen = direct.read("seen")
        direct.write("detach")
    assert [result.splitlines()[0] for result in results] == ["wrong 0"] * 2
    assert records == [("before", "0x1000"), (FUNCTION, None), ("direct_seen", None), ("behind", "0x1000")]
    assert seen == "calls 2 argument 1000"
    assert left == site


def test_inside_the_graph(direct: Module, tracefs: Tracefs, modules: Modules) -> None:
    """The graph tracer opens a call before its direct call runs, so that this is the first thing inside it, and closes
    it when the function has returned to its caller."""
    with modules.load("calls") as calls:
        direct.write("attach", "calls_tree_left")
        with (
            tracefs.filter("calls_tree_*", "direct_seen"),
            tracefs.tracer("function_graph") as trace,
        ):
            assert calls.read("tree") == "464"
            (root,) = trace.graphs
        seen = direct.read("seen")
        direct.write("detach")
    left, right = root.calls
    assert left.function == "calls_tree_left"
    assert left.callees == ["direct_seen", "calls_tree_leaf", "calls_tree_leaf"]
    assert right.function == "calls_tree_right"
    assert right.callees == ["calls_tree_left"]
    assert right.calls[0].callees == left.callees
    assert seen.startswith("calls 2 ")


def test_behind_everything_at_once(direct: Module, tracefs: Tracefs, modules: Modules, watches: Watches) -> None:
    """The function tracer, the graph tracer, an ops that reads arguments, a kprobe, a kretprobe and a direct call on
    one function: each sees the one call, and arguments, result and callee-saved registers are what they were."""
    with modules.load("calls") as calls, contextlib.ExitStack() as stack:
        direct.write("attach", FUNCTION)
        watch = stack.enter_context(watches.attach(FUNCTION, "args"))
        function = stack.enter_context(tracefs.instance("function"))
        stack.enter_context(function.filter(FUNCTION))
        stack.enter_context(
            function.probe(f"p:before {FUNCTION} value=%x0:x64", f"r:result {FUNCTION} value=$retval:x64")
        )
        called = stack.enter_context(function.tracer("function"))
        stack.enter_context(tracefs.filter(FUNCTION))
        nested = stack.enter_context(tracefs.tracer("function_graph"))
        result = calls.read("saved").splitlines()[0]
        watched = watch.seen()
        probed = re.findall(r" (before|result): .* value=(0x[0-9a-f]+)", called.text)
        counts = watched.hits, len(called.calls_of(FUNCTION)), len(nested.graphs_of(FUNCTION))
        seen = direct.read("seen")
        direct.write("detach")
    assert result == "wrong 0"
    assert counts == (1, 1, 1)
    assert [watched.registers[f"x{i}"] for i in range(8)] == [0x1000 + i for i in range(8)]
    assert probed == [("before", "0x1000"), ("result", "0xefff")]
    assert seen == "calls 1 argument 1000"


@pytest.mark.parametrize(
    ("function", "trampoline"), [("near", "farthest"), ("farthest", "near"), ("kernel", "farthest")]
)
def test_trampoline_out_of_reach(
    build: Build,
    guest: Guest,
    tracefs: Tracefs,
    modules: Modules,
    text: Text,
    function: str,
    trampoline: str,
) -> None:
    """A trampoline beyond the reach of the function's branch is reached through ftrace_caller: at once, by the ops at
    the call site, with CALL_OPS; after the tracers without (arch/arm64/kernel/ftrace.c, ftrace_find_callable_addr).
    It is so while tracers come and go, too."""
    modules.require("direct")
    site, file = (SITE, "") if function != "kernel" else ("cmdline_proc_show", "/proc/cmdline")
    with contextlib.ExitStack() as stack:
        if function == "near":
            calls = stack.enter_context(modules.placed("calls", "near"))
        direct = stack.enter_context(modules.placed("direct", trampoline))
        if function == "farthest":
            calls = stack.enter_context(modules.placed("calls", "farthest"))
        away = abs(text.address("direct:direct_trampoline") - text.site(site).ip)
        if away < REACH_BYTES:
            pytest.skip(f"the two modules lie only {away >> 20} MB from each other, within a branch's reach")

        def call() -> None:
            if file:
                assert guest.read(file)
            else:
                assert calls.read("saved").splitlines()[0] == "wrong 0"

        direct.write("attach", site.rpartition(":")[2])
        entries = [text.entry_called(site)]
        literal, ops = text.site(site).literal, text.address("direct:ops")
        call()
        with tracefs.filter(site.rpartition(":")[2]), tracefs.tracer("function") as trace:
            call()
            traced = len(trace.calls_of(site.rpartition(":")[2]))
            entries.append(text.entry_called(site))
        call()
        entries.append(text.entry_called(site))
        seen = direct.read("seen")
        direct.write("detach")
        call()
        after = direct.read("seen")
    assert entries == [("ftrace_caller", function == "farthest")] * 3
    if build.config.get("DYNAMIC_FTRACE_WITH_CALL_OPS") == "y":
        assert literal == ops, f"expected the ops of the direct call at the call site, {ops:#x}, found {literal:#x}"
    assert traced == 1
    assert seen.startswith("calls 3 argument ")
    assert after == seen


@pytest.mark.parametrize("place", ["near", "far"])
def test_trampoline_within_reach(modules: Modules, watches: Watches, text: Text, place: str) -> None:
    """A trampoline within reach is called by the function itself, without a detour, unless others watch the function
    too."""
    modules.require("direct")
    with modules.placed("calls", place) as calls, modules.load("direct") as direct:
        direct.write("attach", FUNCTION)
        goal = text.address("direct:direct_trampoline")
        goals = [text.site(SITE).destination == goal]
        with watches.attach(FUNCTION):
            goals.append(text.site(SITE).destination == goal)
            entry = text.entry_called(SITE)
        goals.append(text.site(SITE).destination == goal)
        assert calls.read("saved").splitlines()[0] == "wrong 0"
        seen = direct.read("seen")
        direct.write("detach")
    assert goals == [True, False, True]
    assert entry == ("ftrace_caller", place == "far")
    assert seen == "calls 1 argument 1000"
