"""An ops may change the instruction pointer: the basis of livepatch, tested in kernels without livepatch, too."""

import pytest

from harness.run.api.modules import Module, Modules
from harness.run.api.tracefs import Tracefs
from harness.run.api.watch import Watches

pytestmark = pytest.mark.usefixtures("patchable")
OWN = f"wide {0xFFFF_FFFF_FFFF_FFFF ^ 0x0123_4567_89AB_CDEF:x}"
ELSEWHERE = f"wide {0x0123_4567_89AB_CDEF + 0x1000000:x}"


def _wide(calls: Module) -> str:
    return calls.read("args").splitlines()[5]


@pytest.mark.parametrize("place", ["near", "far"])
def test_calls_go_elsewhere_and_come_back(modules: Modules, place: str) -> None:
    """With another pc in the registers the call goes there, with its arguments, and returns to the caller
    (FTRACE_OPS_FL_IPMODIFY, include/linux/ftrace.h; "this set … livepatching the kernel proper does work")."""
    with modules.placed("calls", place) as calls, modules.load("redirect") as redirect:
        results = [_wide(calls)]
        redirect.write("attach", "0 calls_wide")
        results.append(_wide(calls))
        redirect.write("detach", "0")
        results.append(_wide(calls))
    assert results == [OWN, ELSEWHERE, OWN]


def test_next_to_tracers(tracefs: Tracefs, modules: Modules, watches: Watches) -> None:
    """Others that watch the function see the call, and the graph tracer its return, whatever the pc is by then."""
    with (
        modules.load("calls") as calls,
        modules.load("redirect") as redirect,
        tracefs.filter("calls_wide"),
        tracefs.tracer("function_graph") as trace,
        watches.attach("calls_wide") as watch,
    ):
        redirect.write("attach", "0 calls_wide")
        result = _wide(calls)
        redirect.write("detach", "0")
        trees = [(tree.function, tree.callees) for tree in trace.graphs]
        hits = watch.seen().hits
    assert result == ELSEWHERE
    assert trees == [("calls_wide", [])]
    assert hits == 1


def test_only_one_may(modules: Modules) -> None:
    """A second ops that changes the pc of the same function is refused; at another function it is accepted
    (kernel/trace/ftrace.c: __ftrace_hash_update_ipmodify)."""
    with modules.load("calls"), modules.load("redirect") as redirect:
        redirect.write("attach", "0 calls_wide")
        assert redirect.refuses("attach", "1 calls_wide")
        redirect.write("attach", "1 calls_negative")
