"""Direct calls: a trampoline of another user at a call site that it shares with tracers."""

import contextlib

import pytest

from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches

TRACERS = {
    "alone": [],
    "function": ["function"],
    "function_graph": ["function_graph"],
    "both": ["function", "function_graph"],
}


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("tracers", TRACERS)
def test_direct_call_next_to_tracers(tracefs: Tracefs, modules: Modules, tracers: str, place: str) -> None:
    """The trampoline runs once a call with the caller's arguments, and the callee with them too, be the site its own
    (ftrace_caller_direct) or shared (ftrace_caller_direct_late, behind the tracers; commit 2aa6ac03516d, "arm64:
    ftrace: Add direct call support")."""
    modules.require("direct")
    with contextlib.ExitStack() as stack:
        calls = stack.enter_context(modules.placed("calls", place))
        direct = stack.enter_context(modules.load("direct"))
        for tracer in TRACERS[tracers]:
            where = stack.enter_context(tracefs.instance("direct")) if tracer == "function" else tracefs
            stack.enter_context(where.filter("calls_args", "calls_saved"))
            stack.enter_context(where.tracer(tracer))
        seen = []
        for function, file in (("calls_args", "args"), ("calls_saved", "saved")):
            direct.write("attach", function)
            results = calls.read(file).splitlines()
            direct.write("detach")
            seen.append((results[0], direct.read("seen")))
    assert seen == [
        ("args " + " ".join(f"a{i}" * 8 for i in range(8)), f"calls 1 argument {'a0' * 8}"),
        ("wrong 0", "calls 1 argument 1000"),
    ]


def test_watched_behind_a_direct_call(modules: Modules, watches: Watches) -> None:
    """An ops that comes to a site with a direct call sees its calls, and the direct call goes on; when the ops has
    gone the direct call has the site for itself again."""
    modules.require("direct")
    with modules.load("calls") as calls, modules.load("direct") as direct:
        direct.write("attach", "calls_tree_leaf")
        calls.read("tree")
        with watches.attach("calls_tree_leaf") as watch:
            calls.read("tree")
            hits = watch.seen().hits
        assert calls.read("tree") == "464"
        direct.write("detach")
        seen = direct.read("seen")
    assert hits == 4
    assert seen.startswith("calls 12 ")
