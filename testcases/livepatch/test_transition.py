"""The transition: every task is switched at a moment when it runs none of the patched functions, and only then."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from harness.run.api.guest import Guest
from harness.run.api.klp_modules import KlpStacks, KlpTarget
from harness.run.api.livepatch import NO_TRANSITION, PATCHED, UNPATCHED, Livepatches
from harness.run.api.modules import DIRECTORY, Modules
from harness.run.api.process import background

_SLEEPS = "is sleeping on function klp_target_caller"

# The shortest limit there is, ten seconds: after fifteen tries, one a second, the kernel sends signals to those that
# were not switched, which could hide that they never are by themselves.
_SOON = 0.0


def test_sleeper_in_the_function_holds_the_transition(
    guest: Guest, livepatches: Livepatches, target: KlpTarget
) -> None:
    """A task that sleeps below the patched function is not switched, and the transition waits for it alone; it goes
    on in the old function, is switched on its way out, and the transition ends (livepatch.rst, "Consistency
    model")."""
    with target.sleeper() as sleeper, livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_held(sleeper, _SLEEPS)
        transition.wait_only(sleeper)
        assert transition.state(sleeper) == UNPATCHED
        assert patch.in_transition
        assert patch.enabled
        target.wake()
        assert sleeper.wait() == "1042 original"
        patch.wait()
        assert transition.not_yet(NO_TRANSITION) == set()


def test_each_task_has_its_own_version(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """While one task still is in the old function, a new one, whose parent has been switched, calls the new one. The
    old task calls the version before this patch as long as it has not left the kernel, which is an earlier patch's
    here (livepatch.rst, "per-task consistency"; klp_ftrace_handler, klp_copy_process)."""
    with (
        livepatches.in_effect("klp_first"),
        target.sleeper() as old,
        livepatches.transition() as transition,
        livepatches.load("klp_caller") as patch,
    ):
        transition.wait_only(old)
        with target.sleeper() as new:
            assert transition.state(new) == PATCHED
            target.wake()
            assert old.wait() == "1042 klp_first"
            assert new.wait() == "2042 klp_caller"
        patch.wait()


def test_sleeper_elsewhere_does_not_hold(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """A task asleep in other functions, of the very module, is switched where it sleeps (livepatch.rst: "the stacks
    of sleeping tasks")."""
    with (
        target.sleeper() as sleeper,
        livepatches.transition() as transition,
        livepatches.in_effect("klp_first"),
    ):
        assert transition.reasons(sleeper) == []
        assert target.says == "klp_first"
        assert sleeper.asleep


def test_sleeper_in_the_new_function_holds_disabling(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """A task asleep below the new function keeps the patch from being taken back, until it leaves (livepatch.rst,
    "Disabling")."""
    with livepatches.load("klp_caller") as patch, livepatches.transition() as transition:
        patch.wait()
        with target.sleeper() as sleeper:
            patch.begin_disabling()
            transition.wait_held(sleeper, _SLEEPS)
            transition.wait_only(sleeper, goal=UNPATCHED)
            assert transition.state(sleeper) == PATCHED
            assert patch.in_transition
            assert not patch.enabled
            target.wake()
            assert sleeper.wait() == "2042 klp_caller"
            patch.wait_gone()


def test_disabled_while_in_transition(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """A patch disabled before its transition is over is taken back at once: the task that held it is in the old
    function anyway (livepatch.rst: "reversed … by writing the opposite value"; klp_reverse_transition)."""
    with target.sleeper() as sleeper, livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        patch.disable()
        assert sleeper.asleep
        target.wake()
        assert sleeper.wait() == "1042 original"
        with target.sleeper() as another:
            target.wake()
            assert another.wait() == "1042 original"


def test_enabled_again_while_taken_back(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """A patch enabled again before it was taken back is in effect for all at once (klp_reverse_transition)."""
    with livepatches.load("klp_caller") as patch, livepatches.transition() as transition:
        patch.wait()
        with target.sleeper() as sleeper:
            patch.begin_disabling()
            transition.wait_held(sleeper, _SLEEPS, tries=1)
            patch.enable_again()
            patch.wait()
            assert patch.enabled
            assert sleeper.asleep
            target.wake()
            assert sleeper.wait() == "2042 klp_caller"
        with target.sleeper() as another:
            target.wake()
            assert another.wait() == "2042 klp_caller"


def test_forced(guest: Guest, livepatches: Livepatches, target: KlpTarget) -> None:
    """Forcing ends a transition that a task holds: it counts as switched where it sleeps, so it goes on in the old
    function and calls new ones (livepatch.rst, "force"; ABI/testing/sysfs-kernel-livepatch)."""
    with target.sleeper() as sleeper, livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_held(sleeper, _SLEEPS, tries=1)
        patch.force()
        patch.wait()
        assert sleeper.asleep
        target.wake()
        assert sleeper.wait() == "1042 klp_caller"  # nothing is consistent any more
        assert patch.refuses("force", "1")  # no transition any more


def test_one_transition_at_a_time(livepatches: Livepatches, target: KlpTarget) -> None:
    """While one patch is in transition another one is refused, and an earlier one can't be disabled; afterwards both
    work (livepatch.rst: "only one patch in transition"; __klp_enable_patch, __klp_disable_patch)."""
    with livepatches.in_effect("klp_first") as first:
        with target.sleeper() as sleeper, livepatches.load("klp_caller") as patch:
            assert patch.in_transition
            assert livepatches.refused("klp_second") == "Device or resource busy"
            assert first.refuses("enabled", "0")
            assert first.enabled
            target.wake()
            sleeper.wait()
            patch.wait()
            with livepatches.in_effect("klp_second"):
                assert (target.says, target.says_other) == ("klp_second", "klp_first")
        first.disable()
        assert (target.says, target.says_other) == ("original", "original")


def test_busy_user_task_is_switched_on_its_way_to_user_mode(
    guest: Guest,
    livepatches: Livepatches,
    target: KlpTarget,
    quiet_cpu: Callable[[int], AbstractContextManager[None]],
) -> None:
    """A task that runs on a CPU of its own, without a system call and without ever being scheduled away, is switched
    when it returns to user mode from an interrupt: the only place where it can be (TIF_PATCH_PENDING in
    exit_to_user_mode_loop(), formerly do_notify_resume(); "arm64: implement live patching" of the series)."""
    spin = "taskset -c 1 chrt -f 50 awk 'BEGIN { while (1) n++ }'"
    with livepatches.at_hand("klp_first") as patch, quiet_cpu(1), background(guest, spin) as spinner:
        guest.wait_until(
            lambda: "awk" in guest.read(f"/proc/{spinner.pid}/comm") and not spinner.asleep, "awk computes"
        )
        before = spinner.preempted
        # insmod itself returns only when CPU 1 has run some work for it, after the spinner's end
        with livepatches.load_in_background(patch, cpu=0) as insmod:
            switched = f"[ $(cat /proc/{spinner.pid}/patch_state) = {PATCHED} ]"
            guest.wait_until(lambda: guest.run(switched).ok, "the spinner is switched", seconds=_SOON)
            assert spinner.preempted == before, "the spinner was not alone on its CPU: nothing is proved"
            spinner.kill()
            assert insmod.wait() == ""
        patch.wait()


def test_busy_kthread_is_switched_by_the_scheduler(
    guest: Guest,
    modules: Modules,
    livepatches: Livepatches,
    target: KlpTarget,
    stacks: KlpStacks,
    quiet_cpu: Callable[[int], AbstractContextManager[None]],
) -> None:
    """A kernel thread that never leaves its CPU is switched when it calls schedule() (livepatch.rst: "CPU-bound
    kthreads"; __klp_sched_try_switch, there since 6.16), its own stack found reliable."""
    if modules.version < (6, 16):
        pytest.skip("a task that runs is not switched in schedule() before 6.16")
    with livepatches.at_hand("klp_first") as patch, quiet_cpu(1), stacks.busy_kthread(cpu=1) as busy:
        with livepatches.load_in_background(patch, cpu=0) as insmod:
            switched = f"[ $(cat /proc/{busy}/patch_state) = {PATCHED} ]"
            guest.wait_until(lambda: guest.run(switched).ok, "the kthread is switched", seconds=_SOON)
            stacks.write("busy", "")
            assert insmod.wait() == ""
        patch.wait()


def test_idle_cpus_are_switched(
    guest: Guest, livepatches: Livepatches, quiet_cpu: Callable[[int], AbstractContextManager[None]]
) -> None:
    """An idle CPU's task, which runs whenever the kernel looks, is switched in the idle loop, woken for that: it is
    found running once at most in a transition (do_idle, wake_up_if_idle in klp_try_complete_transition). What the
    test runs is kept on CPU 0; whether CPU 1 idles at the moment of a try is chance, so there are several."""
    repeated = []
    with quiet_cpu(1), livepatches.transition() as transition, livepatches.at_hand("klp_version") as patch:
        watch = f"{{ while read -r busy < {patch.directory}/transition && [ $busy = 1 ]; do :; done; }} 2>/dev/null; :"
        for _ in range(3):
            for begin in (f"insmod {DIRECTORY}/{patch.name}.ko", f"echo 0 > {patch.directory}/enabled"):
                before = len(transition.held)
                guest.check(f"{begin} && {watch}")
                idle = [held.comm for held in transition.held[before:] if held.comm.startswith("swapper/")]
                repeated += [cpu for cpu in set(idle) if idle.count(cpu) > 1]
            patch.wait_gone()
            patch.remove()
    assert repeated == []


def test_many_sleeping_kthreads_are_switched_at_once(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, stacks: KlpStacks
) -> None:
    """Sleeping kernel threads, whose bottom frame the unwinder has to know, do not hold the transition for one try
    (livepatch.rst, "the stacks of sleeping tasks"; "finished reliable stacktrace", v4)."""
    with stacks.sleeping_kthread() as kthread, livepatches.transition() as transition:
        asleep = {task.pid for task in stacks.all_asleep() if task.kthread}
        assert kthread in asleep
        assert len(asleep) > 20
        with livepatches.in_effect("klp_first"):
            held = [task for task in transition.held if task.pid in asleep]
            assert not any("unreliable" in task.reason for task in held), held
            assert not any("sleeping" in task.reason for task in held), held
            assert transition.reasons(kthread) == []
