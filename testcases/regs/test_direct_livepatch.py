"""A direct call and a livepatch on one function: both change where its calls go. The direct call's ops_func says
whether they may share it (kernel/trace/ftrace.c, prepare_direct_functions_for_ipmodify and
__ftrace_hash_update_ipmodify; BPF's trampolines have one)."""

import contextlib

import pytest

from harness.run.api.guest import Guest, number
from harness.run.api.livepatch import Livepatches
from harness.run.api.modules import Module, Modules
from harness.run.api.text import Text

FUNCTION = "calls_saved"
PATCH = "klp_calls"
BUSY = "Device or resource busy"

_places = pytest.mark.parametrize("place", ["near", "far"])
_orders = pytest.mark.parametrize("first", ["direct", "livepatch"])


def _calls_seen(calls: Module, direct: Module) -> int:
    """Call the function, whose arguments, result and registers have to survive; returns how many calls the direct call
    has seen."""
    assert calls.read("saved").splitlines()[0] == "wrong 0"
    seen = direct.read("seen").split()
    assert seen[0] == "calls"
    return number(seen[1], "direct: calls")


def _patched_runs(guest: Guest) -> int:
    return number(guest.line(f"/sys/module/{PATCH}/parameters/runs"), f"{PATCH}: runs")


@_places
@_orders
def test_shared(guest: Guest, modules: Modules, livepatches: Livepatches, text: Text, place: str, first: str) -> None:
    """With an ops_func both work, whichever came first: the trampoline runs once a call and goes on to the new
    function. When one of them goes the other stays; when both have gone the call site is a NOP again."""
    modules.require("direct")
    modules.require(PATCH)
    with (
        modules.placed("calls", place) as calls,
        modules.load("direct") as direct,
        livepatches.at_hand(PATCH) as patch,
    ):
        if first == "direct":
            direct.write("share", FUNCTION)
        patch.insert()
        patch.wait()
        if first == "livepatch":
            direct.write("share", FUNCTION)
        seen = [(_calls_seen(calls, direct), _patched_runs(guest))]
        asked = direct.read("asked")
        if first == "direct":
            direct.write("detach")
        else:
            patch.disable()
        seen.append((_calls_seen(calls, direct), _patched_runs(guest)))
        asked_at_the_end = direct.read("asked")
        if first == "direct":
            patch.disable()
        else:
            direct.write("detach")
        seen.append((_calls_seen(calls, direct), _patched_runs(guest)))
        is_called = text.site(f"calls:{FUNCTION}").is_called
    assert asked == ("peer" if first == "direct" else "self")
    assert asked_at_the_end == ("peer" if first == "direct" else "self alone")
    assert seen == ([(1, 1), (1, 2), (1, 2)] if first == "direct" else [(1, 1), (2, 1), (2, 1)])
    assert not is_called


def test_livepatch_comes_and_goes(guest: Guest, modules: Modules, livepatches: Livepatches, text: Text) -> None:
    """A livepatch comes to a function with a direct call that can share it, and goes: the ops_func is told of both,
    and no call is lost."""
    modules.require("direct")
    modules.require(PATCH)
    with modules.placed("calls", "far") as calls, modules.load("direct") as direct:
        direct.write("share", FUNCTION)
        seen = [_calls_seen(calls, direct)]
        before = text.site(f"calls:{FUNCTION}")
        with livepatches.in_effect(PATCH):
            seen.append(_calls_seen(calls, direct))
            runs = _patched_runs(guest)
        seen.append(_calls_seen(calls, direct))
        after = text.site(f"calls:{FUNCTION}")
        asked = direct.read("asked")
        direct.write("detach")
    assert seen == [1, 2, 3]
    assert runs == 1
    assert asked == "peer alone"
    assert after == before


@_places
@_orders
def test_refused_without_an_ops_func(
    guest: Guest, modules: Modules, livepatches: Livepatches, place: str, first: str
) -> None:
    """Without an ops_func the second to come is refused, the first works on, and the second is taken once the first
    has gone."""
    modules.require("direct")
    modules.require(PATCH)
    with modules.placed("calls", place) as calls, modules.load("direct") as direct, contextlib.ExitStack() as stack:
        if first == "direct":
            direct.write("attach", FUNCTION)
            assert livepatches.refused(PATCH) == BUSY
            assert _calls_seen(calls, direct) == 1
            direct.write("detach")
            stack.enter_context(livepatches.in_effect(PATCH))
            assert _calls_seen(calls, direct) == 1
            assert _patched_runs(guest) == 1
        else:
            patch = stack.enter_context(livepatches.in_effect(PATCH))
            assert direct.refusal("attach", FUNCTION) == BUSY
            assert _calls_seen(calls, direct) == 0
            assert _patched_runs(guest) == 1
            patch.disable()
            direct.write("attach", FUNCTION)
            assert _calls_seen(calls, direct) == 1
            direct.write("detach")
