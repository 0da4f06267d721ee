"""Reliable stack traces, on which livepatch relies: right where the kernel says so, refused where it can't tell."""

import contextlib
from collections.abc import Callable

import pytest

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import Frame, KlpStacks, KlpTarget
from harness.run.api.livepatch import UNPATCHED, Livepatches
from harness.run.api.tracefs import Tracefs

Kretprobe = Callable[[str], contextlib.AbstractContextManager[None]]

_KTHREAD = ["klp_stacks_inner", "klp_stacks_middle", "klp_stacks_outer", "klp_stacks_thread", "kthread"]
_TASK = ["klp_target_sleep", "klp_target_callee", "klp_target_caller", "sleep_show"]
_SLEEPS = "is sleeping on function klp_target_caller"


def _from(function: str, frames: list[Frame] | None) -> list[str]:
    """The functions of a trace from `function` outwards."""
    assert frames is not None, "the kernel says that it can't tell"
    functions = [frame.function for frame in frames]
    assert functions.count(function) == 1, functions
    return functions[functions.index(function) :]


def _ends_alike(plain: list[Frame], frames: list[Frame] | None) -> bool:
    """Whether a plain trace, which leaves the scheduler's own functions out, is what a reliable one ends in."""
    return bool(plain) and frames is not None and frames[-len(plain) :] == plain


def test_kthread(stacks: KlpStacks) -> None:
    """The reliable trace of a sleeping kernel thread is the nest of functions it sleeps in, down to the bottom frame
    that every kernel thread has (Documentation/livepatch/reliable-stacktrace.rst, "identifying successful
    termination")."""
    with stacks.sleeping_kthread() as kthread:
        assert _from("klp_stacks_inner", stacks.reliable(kthread)) == [*_KTHREAD, "ret_from_fork"]


def test_return_addresses_are_behind_calls(stacks: KlpStacks) -> None:
    """Every entry is an address inside its function, behind the call that led on (reliable-stacktrace.rst)."""
    with stacks.sleeping_kthread() as kthread:
        frames = stacks.reliable(kthread)
        assert frames is not None
        assert all(0 < frame.offset <= frame.size and frame.offset % 4 == 0 for frame in frames), frames
        assert _ends_alike(stacks.plain(kthread), frames)


def test_user_task(target: KlpTarget, stacks: KlpStacks) -> None:
    """The reliable trace of a task asleep in a system call shows callee and caller and goes down to the entry from
    user mode."""
    with target.sleeper() as sleeper:
        functions = _from("klp_target_sleep", stacks.reliable(sleeper.pid))
        assert functions[: len(_TASK)] == _TASK
        assert "vfs_read" in functions
        assert functions[-1].startswith("el0"), functions


def test_every_sleeping_task_is_reliable(guest: Guest, stacks: KlpStacks) -> None:
    """All tasks of an idle system, kernel threads and others, have reliable stacks: else no transition would ever end
    (HAVE_RELIABLE_STACKTRACE)."""
    tasks = stacks.all_asleep()
    assert len([task for task in tasks if task.kthread]) > 20
    assert any(not task.kthread for task in tasks)
    # one that was interrupted just before it went to sleep is rightly none; it is not so twice
    unreliable = {task.pid for task in tasks if task.entries <= 0}
    assert [task for task in stacks.all_asleep() if task.entries <= 0 and task.pid in unreliable] == []


def test_page_fault_is_unreliable(target: KlpTarget, stacks: KlpStacks) -> None:
    """A task that sleeps in a page fault taken in the kernel has an exception boundary on its stack: whether the
    caller's address is still in the link register can't be told, so the trace is refused; the plain one goes on
    (reliable-stacktrace.rst, "Link register unreliability")."""
    with target.sleeper("fault") as sleeper:
        assert stacks.reliable(sleeper.pid) is None
        functions = [frame.function for frame in stacks.plain(sleeper.pid)]
        assert "klp_target_page" in functions
        assert "klp_target_faulting" in functions
        assert "klp_target_caller" in functions
        target.wake()
        assert sleeper.wait() == "1042 original"


def test_graph_traced_frame_is_recovered(target: KlpTarget, stacks: KlpStacks, tracefs: Tracefs) -> None:
    """A function on the stack that function_graph traces returns to return_to_handler; the trace shows its caller
    instead, the very address it shows untraced (reliable-stacktrace.rst, "Rewriting of return addresses";
    ftrace_graph_ret_addr)."""
    with target.sleeper() as sleeper:
        untraced = stacks.reliable(sleeper.pid)
        target.wake()
        sleeper.wait()
    with (
        tracefs.filter("klp_target_callee", "klp_target_caller"),
        tracefs.tracer("function_graph"),
        target.sleeper() as sleeper,
    ):
        assert stacks.reliable(sleeper.pid) == untraced
        assert _ends_alike(stacks.plain(sleeper.pid), untraced)


def test_kretprobed_frame_is_recovered(target: KlpTarget, stacks: KlpStacks, kretprobe: Kretprobe) -> None:
    """The same for a function whose return a kretprobe catches (kretprobe_find_ret_addr)."""
    with target.sleeper() as sleeper:
        untraced = stacks.reliable(sleeper.pid)
        target.wake()
        sleeper.wait()
    with kretprobe("klp_target:klp_target_callee"), target.sleeper() as sleeper:
        assert stacks.reliable(sleeper.pid) == untraced
        assert _ends_alike(stacks.plain(sleeper.pid), untraced)


def test_graph_traced_and_kretprobed_frames_are_recovered(
    target: KlpTarget, stacks: KlpStacks, tracefs: Tracefs, kretprobe: Kretprobe
) -> None:
    """Both at once on one function, and function_graph on everything around it."""
    with (
        kretprobe("klp_target:klp_target_callee"),
        tracefs.filter(":mod:klp_target", "vfs_read", "ksys_read", "seq_read*"),
        tracefs.tracer("function_graph"),
        target.sleeper() as sleeper,
    ):
        functions = _from("klp_target_sleep", stacks.reliable(sleeper.pid))
        assert functions[: len(_TASK)] == _TASK
        assert functions[-1].startswith("el0"), functions


def _hold_and_release(livepatches: Livepatches, target: KlpTarget, file: str, reason: str) -> None:
    """Patch the caller of what a task sleeps in: the task holds the transition because of `reason`, and no other
    does; once it has left, the transition ends."""
    with (
        target.sleeper(file) as sleeper,
        livepatches.transition() as transition,
        livepatches.load("klp_caller") as patch,
    ):
        transition.wait_held(sleeper, reason)
        transition.wait_only(sleeper)
        assert patch.in_transition
        assert transition.state(sleeper) == UNPATCHED
        target.wake()
        assert sleeper.wait() == "1042 original"
        patch.wait()


def test_graph_traced_callee_holds(livepatches: Livepatches, target: KlpTarget, tracefs: Tracefs) -> None:
    """The caller of a graph-traced function that sleeps can't be patched before it returns (qa_test_klp TC10)."""
    with tracefs.filter("klp_target_callee"), tracefs.tracer("function_graph"):
        _hold_and_release(livepatches, target, "sleep", _SLEEPS)


def test_page_faulting_callee_holds(livepatches: Livepatches, target: KlpTarget) -> None:
    """The caller of a function that sleeps in a page fault can't be patched before it returns (qa_test_klp TC11)."""
    _hold_and_release(livepatches, target, "fault", "has an unreliable stack")


def test_kretprobed_callee_holds(livepatches: Livepatches, target: KlpTarget, kretprobe: Kretprobe) -> None:
    """The caller of a kretprobed function that sleeps can't be patched before it returns (qa_test_klp TC12)."""
    with kretprobe("klp_target:klp_target_callee"):
        _hold_and_release(livepatches, target, "sleep", _SLEEPS)


@pytest.mark.parametrize("how", ["function_graph", "kretprobe"])
def test_caught_return_elsewhere_does_not_hold(
    livepatches: Livepatches, target: KlpTarget, tracefs: Tracefs, kretprobe: Kretprobe, how: str
) -> None:
    """A task asleep in a function whose return is caught is switched where it sleeps, when what is patched is not on
    its stack: its trace is reliable all the same."""
    with contextlib.ExitStack() as stack:
        if how == "kretprobe":
            stack.enter_context(kretprobe("klp_target:klp_target_callee"))
        else:
            stack.enter_context(tracefs.filter("klp_target_callee"))
            stack.enter_context(tracefs.tracer("function_graph"))
        sleeper = stack.enter_context(target.sleeper())
        transition = stack.enter_context(livepatches.transition())
        patch = stack.enter_context(livepatches.load("klp_first"))
        patch.wait()
        assert transition.reasons(sleeper) == []
        assert sleeper.asleep
