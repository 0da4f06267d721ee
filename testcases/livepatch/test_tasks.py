"""Tasks that fork, call another program or end in the middle of a transition."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.run.api.guest import Guest
from harness.run.api.hold import Hold
from harness.run.api.klp_modules import KlpTarget
from harness.run.api.livepatch import NO_TRANSITION, PATCHED, UNPATCHED, Livepatches
from harness.run.api.process import Process, background, task_state

_HELD = "is sleeping on function hold_sleep"

# Each begins as a shell and is held in the middle of what it does. It, or its child, prints its state in the
# transition and which version of klp_target_name() it calls.
_NAME = "/sys/kernel/debug/harness-klp_target/name"
_TELL = f'read -r state < /proc/$BASHPID/patch_state; read -r says < {_NAME}; echo "$state $says"'
_FORKS = f"bash -c 'printf forks > /proc/$$/comm; ( {_TELL} ) & wait'"
_EXECS = f"bash -c 'exec paste -d \" \" /proc/self/patch_state {_NAME}'"
# its parent becomes a program that waits for no child
_ENDS = "bash -c '(printf ends > /proc/$BASHPID/comm; exit) & exec sleep 1000'"

# copy_thread(): the child has a copy of the task, and is in no list yet; setup_arg_pages(): the old program is gone,
# the new one not yet there; exit_files(): the task has PF_EXITING
_FORK = "copy_thread", "forks"
_EXEC = "setup_arg_pages", "paste"
_EXIT = "exit_files", "ends"


@pytest.fixture
def held_up(livepatches: Livepatches, target: KlpTarget) -> Iterator[Process]:
    """A process asleep in what klp_caller and klp_hold patch: it keeps a transition from its end."""
    with target.sleeper() as sleeper:
        yield sleeper


@contextlib.contextmanager
def _held(guest: Guest, hold: Hold, where: tuple[str, str], command: str) -> Iterator[tuple[Process, int]]:
    """Run `command`, held in the middle of what it does: the process, and the pid of the task that is held."""
    function, comm = where
    with hold.at(function, comm=comm), background(guest, command) as process, contextlib.ExitStack() as stack:
        stack.callback(hold.release)  # before it is killed, which it could not be
        yield process, hold.wait()


def _switched_afterwards(
    held: contextlib.AbstractContextManager[tuple[Process, int]],
    livepatches: Livepatches,
    target: KlpTarget,
    hold: Hold,
    held_up: Process,
) -> None:
    """The task that `held` holds is in a function being patched: it is not switched there, and has been when it, or
    its child, tells in user mode what it sees."""
    with held as (process, pid), livepatches.transition() as transition, livepatches.load("klp_hold") as patch:
        transition.wait_held(pid, _HELD, tries=1)
        assert transition.state(pid) == UNPATCHED
        hold.release()
        assert process.wait() == f"{PATCHED} klp_hold"
        transition.wait_only(held_up)
        target.wake()
        assert held_up.wait() == "1042 original"
        patch.wait()


def test_fork_over_the_beginning(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process
) -> None:
    """A transition begins while a task forks: the copy was made before, the child comes into the list of tasks only
    afterwards. It gets its parent's state of that moment, not the one that was copied (klp_copy_process)."""
    with _held(guest, hold, _FORK, _FORKS) as (parent, pid), livepatches.transition() as transition:
        with livepatches.load("klp_caller") as patch:
            transition.wait_only(held_up)
            assert transition.state(pid) == PATCHED
            hold.release()
            assert parent.wait() == f"{PATCHED} klp_caller"
            target.wake()
            assert held_up.wait() == "1042 original"
            patch.wait()
        assert transition.reasons(pid) == []


def test_fork_over_the_end(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process
) -> None:
    """A transition ends while a task forks: the child, copied in the middle of it, is in none, and the next one, when
    the patch is disabled, finds it as all others (klp_copy_process; klp_init_transition warns of any other)."""
    with livepatches.transition() as transition, livepatches.load("klp_caller") as patch:
        transition.wait_only(held_up)
        with _held(guest, hold, _FORK, _FORKS) as (parent, pid):
            assert transition.state(pid) == PATCHED
            target.wake()
            assert held_up.wait() == "1042 original"
            patch.wait()
            hold.release()
            assert parent.wait() == f"{NO_TRANSITION} klp_caller"


def test_fork_by_a_task_that_is_not_switched(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process
) -> None:
    """A task forks that is not switched yet, and can't be, for it is in a function being patched. The child is like
    it; both are switched on their way to user mode, the child before it has run an instruction there (ret_to_user;
    TIF_PATCH_PENDING is inherited)."""
    _switched_afterwards(_held(guest, hold, _FORK, _FORKS), livepatches, target, hold, held_up)


def test_exec(guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process) -> None:
    """A task in the middle of an exec is switched where it sleeps, and the new program calls the new function."""
    with (
        _held(guest, hold, _EXEC, _EXECS) as (process, pid),
        livepatches.transition() as transition,
        livepatches.load("klp_caller") as patch,
    ):
        transition.wait_only(held_up)
        assert transition.reasons(pid) == []
        hold.release()
        assert process.wait() == f"{PATCHED} klp_caller"
        target.wake()
        assert held_up.wait() == "1042 original"
        patch.wait()


def test_exec_by_a_task_that_is_not_switched(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process
) -> None:
    """A task that is not switched yet calls another program: that it has to be is not forgotten with the old program,
    and it is as soon as the new one begins."""
    _switched_afterwards(_held(guest, hold, _EXEC, _EXECS), livepatches, target, hold, held_up)


@pytest.mark.parametrize("patch_name", ["klp_caller", "klp_hold"])
def test_exit(
    guest: Guest, livepatches: Livepatches, target: KlpTarget, hold: Hold, held_up: Process, patch_name: str
) -> None:
    """A task that ends is switched where it sleeps; one in a function being patched (klp_hold's) is waited for until
    it is gone. What then is left of it, a zombie without a stack that nobody waits for, holds no transition: neither
    this one nor the next (stack_trace_save_tsk_reliable: "if the task doesn't have a stack")."""
    with _held(guest, hold, _EXIT, _ENDS) as (_, pid), livepatches.transition() as transition:
        with livepatches.load(patch_name) as patch:
            if patch_name == "klp_hold":
                transition.wait_held(pid, _HELD, tries=1)
                assert transition.state(pid) == UNPATCHED
            else:
                transition.wait_only(held_up)
                assert transition.reasons(pid) == []
            hold.release()
            guest.wait_until(lambda: task_state(guest, pid) == "Z", "the task is a zombie")
            transition.wait_only(held_up)
            target.wake()
            assert held_up.wait() == "1042 original"
            patch.wait()
            patch.disable()
            assert task_state(guest, pid) == "Z"
        assert not any("unreliable" in reason for reason in transition.reasons(pid))
