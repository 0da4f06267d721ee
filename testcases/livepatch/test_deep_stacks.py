"""A function far up a sleeper's stack, with many frames below it."""

import contextlib

import pytest

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpStacks, KlpTarget
from harness.run.api.livepatch import UNPATCHED, Livepatches
from harness.run.api.tracefs import Tracefs

_DEPTH = "/sys/module/klp_target/parameters/depth"
_SLEEPS = "is sleeping on function klp_target_caller"
_UNRELIABLE = "has an unreliable stack"


@pytest.mark.parametrize(
    ("depth", "tracer", "reason"),
    [
        pytest.param(70, "function_graph", _SLEEPS, id="70 traced frames"),
        pytest.param(120, None, _UNRELIABLE, id="more frames than are looked at"),
    ],
)
def test_deep_below_the_function(
    guest: Guest,
    livepatches: Livepatches,
    target: KlpTarget,
    tracefs: Tracefs,
    depth: int,
    tracer: str | None,
    reason: str,
) -> None:
    """A task asleep far below the patched function holds the transition until it leaves. The livepatch core looks at a
    hundred frames (MAX_STACK_ENTRIES); of a stack that has more it does not know what is farther up, and must not take
    those that it sees for all. Traced by function_graph, each frame returns to return_to_handler, and the shadow stack
    has no room for the deepest (kernel/trace/fgraph.c: SHADOW_STACK_SIZE)."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(guest.value(_DEPTH, str(depth)))
        if tracer:
            stack.enter_context(tracefs.filter("klp_target_down", "klp_target_deep", "klp_target_caller"))
            stack.enter_context(tracefs.tracer(tracer))
        sleeper = stack.enter_context(target.sleeper("deep"))
        transition = stack.enter_context(livepatches.transition())
        patch = stack.enter_context(livepatches.load("klp_caller"))
        transition.wait_held(sleeper, reason)
        transition.wait_only(sleeper)
        assert transition.state(sleeper) == UNPATCHED
        assert patch.in_transition
        target.wake()
        assert sleeper.wait() == "1042 original"
        patch.wait()


def test_every_frame_is_there(guest: Guest, target: KlpTarget, stacks: KlpStacks, tracefs: Tracefs) -> None:
    """The reliable trace of such a stack has each of its frames, as often as the function was called, traced by
    function_graph or not."""
    with guest.value(_DEPTH, "70"):
        with target.sleeper("deep") as sleeper:
            untraced = stacks.reliable(sleeper.pid)
            target.wake()
            sleeper.wait()
        with (
            tracefs.filter("klp_target_down", "klp_target_deep", "klp_target_caller"),
            tracefs.tracer("function_graph"),
            target.sleeper("deep") as sleeper,
        ):
            traced = stacks.reliable(sleeper.pid)
    assert untraced is not None
    functions = [frame.function for frame in untraced]
    first = functions.index("klp_target_sleep")
    assert functions[first + 1 : first + 74] == ["klp_target_down"] * 71 + ["klp_target_deep", "klp_target_caller"]
    assert traced == untraced
