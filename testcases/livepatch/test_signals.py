"""The fake signal: what makes those leave the kernel that hold a transition for long."""

from collections.abc import Callable

import pytest

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import NO_TRANSITION, UNPATCHED, Livepatch, Livepatches

_SLEEPS = "is sleeping on function klp_target_caller"
_TRIES = 17  # the kernel tries once a second, and every fifteenth time sends signals first (SIGNALS_TIMEOUT)


@pytest.fixture
def signal(guest: Guest) -> Callable[[Livepatch], None]:
    """Has the kernel try so often, now, that it sends its signals, once in the test."""
    told = "dmesg | grep -c 'livepatch: signaling remaining tasks'; :"
    before = int(guest.check(told))

    def send(patch: Livepatch) -> None:
        hurry = f"/sys/module/{patch.name}/parameters/hurry"
        guest.check(f"n=0; while [ $n -lt {_TRIES} ]; do echo 1 > {hurry}; n=$((n + 1)); done")
        assert int(guest.check(told)) == before + 1, "the kernel sent no signals"

    return send


def test_system_call_is_made_anew(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, signal: Callable[[Livepatch], None]
) -> None:
    """A task that sleeps interruptibly in a function being patched is made to leave the kernel by a signal that is
    none: it is switched on its way, and goes on with the very system call, in the new function, without noticing
    (livepatch.rst: "SIGSTOP and SIGCONT … fake signal"; klp_send_signals, TIF_NOTIFY_SIGNAL)."""
    with (
        target.sleeper("doze") as sleeper,
        livepatches.transition() as transition,
        livepatches.load("klp_caller") as patch,
    ):
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        assert transition.state(sleeper) == UNPATCHED
        signal(patch)
        patch.wait()
        guest.wait_until(lambda: target.asleep == 1 and sleeper.asleep, "it sleeps again")
        assert transition.state(sleeper) == NO_TRANSITION
        assert sleeper.output == ""
        target.wake()
        assert sleeper.wait() == "2042 klp_caller"


def test_uninterruptible_sleeper_is_left_alone(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, signal: Callable[[Livepatch], None]
) -> None:
    """Who sleeps so that no signal wakes it, or only a deadly one, sleeps on, and holds the transition until it is
    woken by what it waits for; then it goes on in the old function, unharmed."""
    with target.sleeper() as sleeper, livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        signal(patch)
        transition.wait_only(sleeper)
        assert patch.in_transition
        assert sleeper.asleep
        target.wake()
        assert sleeper.wait() == "1042 original"
        patch.wait()


def test_kthread_is_woken(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, signal: Callable[[Livepatch], None]
) -> None:
    """A kernel thread, which gets no signal, is woken instead where it sleeps interruptibly; it leaves the function
    being patched, and is switched where it sleeps next (klp_send_signals: wake_up_state)."""
    with target.napper() as napper, livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_held(napper, _SLEEPS, tries=1)
        assert target.naps == 1
        signal(patch)
        patch.wait()
        assert target.naps == 1
        target.wake()
        guest.wait_until(lambda: target.naps == 2, "it naps again")
        target.write("napper", "0")  # it would hold the disabling
