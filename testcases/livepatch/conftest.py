"""Fixtures of the livepatch tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from harness.run.api.guest import Guest
from harness.run.api.hold import Hold
from harness.run.api.klp_modules import KlpStacks, KlpTarget
from harness.run.api.modules import Modules
from harness.run.api.tracefs import Tracefs


@pytest.fixture(autouse=True)
def _can_livepatch(needs: Callable[..., None]) -> None:
    """Skip all livepatch tests on a kernel without livepatch."""
    needs("LIVEPATCH")


@pytest.fixture
def target(guest: Guest, modules: Modules) -> Iterator[KlpTarget]:
    """The module klp_target, loaded."""
    with modules.load("klp_target"):
        yield KlpTarget(guest)


@pytest.fixture
def stacks(guest: Guest, modules: Modules) -> Iterator[KlpStacks]:
    """The module klp_stacks, loaded."""
    with modules.load("klp_stacks"):
        yield KlpStacks(guest)


@pytest.fixture
def hold(guest: Guest, modules: Modules) -> Iterator[Hold]:
    """The module hold, loaded."""
    with modules.load("hold"):
        yield Hold(guest)


@pytest.fixture
def kretprobe(tracefs: Tracefs) -> Callable[[str], contextlib.AbstractContextManager[None]]:
    """A kretprobe event on a function, ``module:function``, for the length of a ``with``."""

    return lambda function: tracefs.probe(f"r:klp_return {function}")


@pytest.fixture
def quiet_cpu(guest: Guest) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Keep all others away from a CPU on which a real-time task is to run undisturbed, for the length of a ``with``:
    commands run on CPU 0, the watchdogs, one of which takes the CPU now and then, and what lends starving tasks some
    time are off. Skips the test if the target lacks the CPU."""

    @contextlib.contextmanager
    def quiet(cpu: int) -> Iterator[None]:
        guest.need_cpus(cpu + 1)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_pinned(guest))
            stack.enter_context(_set(guest, "/proc/sys/kernel/soft_watchdog", "0"))
            stack.enter_context(_set(guest, "/sys/module/workqueue/parameters/watchdog_thresh", "0"))
            stack.enter_context(_set(guest, "/proc/sys/kernel/sched_rt_runtime_us", "-1"))
            stack.enter_context(_set(guest, f"/sys/kernel/debug/sched/fair_server/cpu{cpu}/runtime", "0"))
            yield

    return quiet


@contextlib.contextmanager
def _pinned(guest: Guest) -> Iterator[None]:
    """Pin the shell that runs the test's commands ($$), and so the commands, to CPU 0."""
    before = guest.check("taskset -p $$").rsplit(" ", 1)[1].strip()
    guest.check("taskset -p 1 $$")
    try:
        yield
    finally:
        guest.check(f"taskset -p {before} $$")


def _set(guest: Guest, path: str, value: str) -> contextlib.AbstractContextManager[None]:
    """Keep `value` in a kernel file for the length of the ``with``, if this kernel has the file."""
    return guest.value(path, value) if guest.exists(path) else contextlib.nullcontext()
