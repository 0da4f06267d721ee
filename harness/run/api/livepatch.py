"""The testcases' own livepatches: loaded, observed in transition, removed at the end of every ``with``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from harness.parse.transition import Held, held_tasks
from harness.run.api.guest import Guest, number
from harness.run.api.modules import DIRECTORY, Module, Modules
from harness.run.api.process import Process, background
from harness.run.stopped import Refused

_SYSFS = "/sys/kernel/livepatch"
_DEBUG = ("/proc/dynamic_debug/control", "/sys/kernel/debug/dynamic_debug/control")  # the first is from 5.7
_DEBUG_QUERY = "file kernel/livepatch/transition.c"

_HASTY_TRIES = 10
_TRANSITION_S = 0.75  # the longest that a transition may take

# Files of a patch that came later (Documentation/ABI/testing/sysfs-kernel-livepatch).
_SINCE = {"patched": (6, 1), "replace": (6, 11), "stack_order": (6, 14)}

# A task's state in a transition, as in /proc/PID/patch_state.
NO_TRANSITION = -1
UNPATCHED = 0
PATCHED = 1


class Livepatch(Module):
    """One of our livepatches. Its attributes are those in sysfs (Documentation/ABI/testing/sysfs-kernel-livepatch);
    a test that reads one that this kernel's `version` does not have yet is skipped."""

    def __init__(self, guest: Guest, name: str, *, version: tuple[int, ...]) -> None:
        super().__init__(guest, name)
        self._version = version

    @property
    def directory(self) -> str:
        return f"{_SYSFS}/{self.name}"

    @property
    def in_transition(self) -> bool:
        """Whether some task has not been switched yet."""
        return self.attribute("transition") == "1"

    @property
    def enabled(self) -> bool:
        """Whether the patch is enabled, or being enabled."""
        return self.attribute("enabled") == "1"

    @property
    def replaces_all(self) -> bool:
        """Whether it replaced all earlier patches."""
        return self.attribute("replace") == "1"

    @property
    def stack_order(self) -> int:
        """Its position in loading order, from 1; the functions of the last one are in effect."""
        return number(self.attribute("stack_order"), "stack_order")

    @property
    def known(self) -> bool:
        """Whether the livepatch core knows the patch: enabled, or in a transition."""
        return self._guest.exists(self.directory)

    def patched(self, target: str = "vmlinux") -> bool:
        """Whether the patch is applied to `target`: the kernel proper, or a module."""
        return self.attribute(f"{target}/patched") == "1"

    def functions(self, target: str = "vmlinux") -> list[str]:
        """The functions of `target` that the patch replaces, as ``name,position``."""
        return sorted(self._guest.check(f"cd {self.directory}/{target} && ls -d *,*").split())

    def attribute(self, name: str) -> str:
        """A file of the patch in sysfs."""
        path = f"{self.directory}/{name}"
        since = _SINCE.get(name.rpartition("/")[2], ())
        if self._version < since and not self._guest.exists(path):
            pytest.skip(f"this kernel has no {path}: such files came with {'.'.join(map(str, since))}")
        return self._guest.line(path)

    def refuses(self, attribute: str, value: str) -> bool:
        """Whether writing `value` to a file of the patch is an error."""
        return not self._guest.run(f"echo {value} > {self.directory}/{attribute}").ok

    def wait(self, *, hurry: bool = True) -> None:
        """Wait until every task has been switched. The kernel tries once a second; with `hurry` it is told to try
        immediately."""
        self._wait(f"read -r on < {self.directory}/transition && [ $on = 0 ]", "transition finished", hurry=hurry)

    def _wait(self, condition: str, what: str, *, hurry: bool) -> None:
        """Wait until `condition` holds in the shell, which it does unless the kernel is at fault."""
        # after fifteen tries the kernel would send signals to the tasks that were not switched
        tries = iter(range(_HASTY_TRIES if hurry else 0))
        try_now = f"{{ echo 1 > /sys/module/{self.name}/parameters/hurry; }} 2>/dev/null"

        def holds() -> bool:
            in_vain = "false" if next(tries, None) is None else f"{{ {try_now}; {condition}; }}"
            return self._guest.run(f"{{ {condition}; }} || {in_vain}").ok

        if not self._guest.comes_true(holds, seconds=_TRANSITION_S):
            raise Refused(f"waited in vain for: {self.name}: {what}")

    def disable(self, *, hurry: bool = True) -> None:
        """Disable the patch, and wait until it is gone."""
        self.begin_disabling()
        self.wait_gone(hurry=hurry)

    def begin_disabling(self) -> None:
        """Start to disable the patch; a transition towards it is reversed."""
        self._guest.write(f"{self.directory}/enabled", "0")

    def enable_again(self) -> None:
        """Reverse the transition that disables the patch."""
        self._guest.write(f"{self.directory}/enabled", "1")

    def force(self) -> None:
        """Make the kernel treat the tasks that block the transition as switched."""
        self._guest.write(f"{self.directory}/force", "1")

    def take_back(self) -> None:
        """Disable the patch, whatever its state, and remove the module."""
        enabled = f"{self.directory}/enabled"
        self._guest.run(f"read -r on < {enabled} && [ $on = 1 ] && echo 0 > {enabled}")
        self.wait_gone()
        self._guest.check(f"[ ! -e /sys/module/{self.name} ] || rmmod {self.name}")

    def wait_gone(self, *, hurry: bool = True) -> None:
        """Wait until the kernel has dropped the patch and released its module."""
        module = f"/sys/module/{self.name}"
        unused = f"! {{ read -r users < {module}/refcnt; }} 2>/dev/null || [ $users = 0 ]"
        gone = f"{_dropped(self.name, self._version)} && {{ {unused}; }}"
        self._wait(gone, "taken back", hurry=hurry)


class Transition:
    """The tasks in a transition. Created by `Livepatches.transition`."""

    def __init__(self, guest: Guest, log: Process) -> None:
        self._guest = guest
        self._log = log

    @property
    def held(self) -> list[Held]:
        """The tasks that the kernel tried to switch and could not, with its reasons, since the ``with`` began."""
        return held_tasks(self._log.output)

    def reasons(self, task: Process | int) -> list[str]:
        """Why the kernel did not switch this task (a process, or a pid): one reason for each try."""
        pid = task.pid if isinstance(task, Process) else task
        return [held.reason for held in self.held if held.pid == pid]

    def wait_held(self, task: Process | int, reason: str, *, tries: int = 2) -> None:
        """Wait until the kernel has tried `tries` times (it does so once a second) to switch this task, and failed
        because of `reason` (the end of its message)."""

        def tried() -> bool:
            found = self.reasons(task)
            over = len(found) < tries and self.state(task) == NO_TRANSITION
            assert not over, f"the transition is over; to be a task that {reason}, the kernel said: {found}"
            return len(found) >= tries

        self._guest.wait_until(tried, f"{tries} tries to switch a task that {reason}", seconds=0.5 * tries)
        found = self.reasons(task)
        assert all(message.endswith(reason) for message in found), f"the kernel says: the task {found}"

    def state(self, task: Process | int) -> int:
        """UNPATCHED or PATCHED, NO_TRANSITION outside of one."""
        pid = task.pid if isinstance(task, Process) else task
        file = f"/proc/{pid}/patch_state"
        return number(self._guest.line(file), file)

    def not_yet(self, goal: int) -> set[int]:
        """The tasks whose state is not `goal`."""
        listed = self._guest.run(f"grep -Lsx -e '{goal}' /proc/[0-9]*/task/[0-9]*/patch_state").output
        return {number(path.rpartition("/task/")[2].partition("/")[0], f"a task in {path}") for path in listed.split()}

    def wait_only(self, task: Process | int, *, goal: int = PATCHED) -> None:
        """Wait until all tasks but this one are switched to `goal`."""
        pid = task.pid if isinstance(task, Process) else task
        self._guest.wait_until(
            lambda: self.not_yet(goal) == {pid}, f"all tasks but {pid} switched to state {goal}", seconds=1.0
        )


class Livepatches:
    """Loads livepatch modules."""

    def __init__(self, guest: Guest, modules: Modules) -> None:
        self._guest = guest
        self._modules = modules

    @contextlib.contextmanager
    def load(self, name: str, **parameters: object) -> Iterator[Livepatch]:
        """Load the livepatch module `name`; the end of the ``with`` disables it if necessary, and unloads it. When the
        body begins, the kernel has tried once to switch every task."""
        with self.at_hand(name) as patch:
            patch.insert(**parameters)
            yield patch

    @contextlib.contextmanager
    def in_effect(self, name: str, **parameters: object) -> Iterator[Livepatch]:
        """Load the livepatch module `name` and wait until every task has been switched; it ends like `load`."""
        with self.load(name, **parameters) as patch:
            patch.wait()
            yield patch

    @contextlib.contextmanager
    def at_hand(self, name: str) -> Iterator[Livepatch]:
        """The livepatch module `name`, not loaded; if the body loads it, the end of the ``with`` disables and unloads
        it."""
        self._modules.require(name)
        patch = Livepatch(self._guest, name, version=self._modules.version)
        try:
            yield patch
        finally:
            patch.take_back()

    @contextlib.contextmanager
    def load_in_background(self, patch: Livepatch, *, cpu: int) -> Iterator[Process]:
        """Load a livepatch from `at_hand` on this CPU while the test continues."""
        with background(self._guest, f"taskset -c {cpu} insmod {DIRECTORY}/{patch.name}.ko") as process:
            yield process

    def refused(self, name: str, **parameters: object) -> str:
        """Load the livepatch module `name`, which the kernel must refuse; returns insmod's error message."""
        with self.at_hand(name):
            return self._modules.refused(name, **parameters)

    def toggled(self, name: str) -> str:
        """Shell commands that load a livepatch, disable it when its transition is over, and unload it."""
        here = f"{_SYSFS}/{name}"
        return (
            f"insmod {DIRECTORY}/{name}.ko; while read -r busy < {here}/transition && [ $busy = 1 ]; do :; done; "
            f"echo 0 > {here}/enabled; until {_dropped(name, self._modules.version)}; do :; done; "
            f"while ! rmmod {name}; do :; done 2> /dev/null"
        )

    @contextlib.contextmanager
    def transition(self) -> Iterator[Transition]:
        """Make the kernel log, for the duration of the ``with``, which tasks block a transition and why."""
        with background(self._guest, "dmesg --follow-new") as log:
            self._guest.wait_until(lambda: self._has_output(log), "dmesg follows the kernel log")
            control = self._dynamic_debug()
            self._guest.write(control, f"{_DEBUG_QUERY} +p")
            try:
                yield Transition(self._guest, log)
            finally:
                self._guest.write(control, f"{_DEBUG_QUERY} -p")

    def _dynamic_debug(self) -> str:
        """The file that switches debug messages; skips the test if this kernel has none."""
        found = self._guest.once(_DEBUG, lambda: [path for path in _DEBUG if self._guest.exists(path)])
        if not found:
            pytest.skip("this kernel has no CONFIG_DYNAMIC_DEBUG: it does not say which tasks it can't switch")
        return found[0]

    def _has_output(self, log: Process) -> bool:
        """Whether a new line of the kernel log arrives in `log`."""
        return self._guest.run(f"echo harness: a transition is watched > /dev/kmsg; [ -s {log.output_file} ]").ok


def _dropped(name: str, version: tuple[int, ...]) -> str:
    """The shell's condition for a disabled patch that the livepatch core is done with. It drops the patch by itself;
    up to 5.0, the patch's module does so when it is unloaded, and until then the patch is just disabled."""
    here = f"{_SYSFS}/{name}"
    if version >= (5, 1):
        return f"[ ! -e {here} ]"
    off = f"read -r on < {here}/enabled && read -r busy < {here}/transition && [ $on$busy = 00 ]"
    return f"{{ [ ! -e {here} ] || {{ {off}; }}; }}"
