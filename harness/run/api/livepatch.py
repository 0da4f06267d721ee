"""The testcases' own livepatches: loaded, watched in transition, taken back at the end of every ``with``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.parse.transition import Held, held_tasks
from harness.run.api.guest import Guest
from harness.run.api.modules import DIRECTORY, Module, Modules
from harness.run.api.process import Process, background

_SYSFS = "/sys/kernel/livepatch"
_DEBUG = "/proc/dynamic_debug/control"
_DEBUG_QUERY = "file kernel/livepatch/transition.c"

_HASTY_TRIES = 10
_TRANSITION_S = 0.75  # the longest that a transition may take

# A task's state in a transition, as /proc/PID/patch_state tells it.
NO_TRANSITION = -1
UNPATCHED = 0
PATCHED = 1


class Livepatch(Module):
    """One of our livepatches. Its attributes are those in sysfs (Documentation/ABI/testing/sysfs-kernel-livepatch)."""

    @property
    def directory(self) -> str:
        return f"{_SYSFS}/{self.name}"

    @property
    def in_transition(self) -> bool:
        """Whether some task has not been switched yet."""
        return self.attribute("transition") == "1"

    @property
    def enabled(self) -> bool:
        """Whether the patch is on, or on its way there."""
        return self.attribute("enabled") == "1"

    @property
    def replaces_all(self) -> bool:
        """Whether it took the place of all patches before it."""
        return self.attribute("replace") == "1"

    @property
    def stack_order(self) -> int:
        """Its place in the order of loading, from 1 on; the last one's functions are in effect."""
        return int(self.attribute("stack_order"))

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
        return self._guest.line(f"{self.directory}/{name}")

    def refuses(self, attribute: str, value: str) -> bool:
        """Whether writing `value` to a file of the patch is an error."""
        return not self._guest.run(f"echo {value} > {self.directory}/{attribute}").ok

    def wait(self, *, hurry: bool = True) -> None:
        """Until every task has been switched. The kernel tries once a second; in a `hurry` it is told to try now."""
        self._wait(f"read -r on < {self.directory}/transition && [ $on = 0 ]", "transition finished", hurry=hurry)

    def _wait(self, condition: str, what: str, *, hurry: bool) -> None:
        """Until the shell finds that `condition` holds."""
        # after fifteen tries it would send signals to those that were not switched
        tries = iter(range(_HASTY_TRIES if hurry else 0))
        try_now = f"{{ echo 1 > /sys/module/{self.name}/parameters/hurry; }} 2>/dev/null"

        def holds() -> bool:
            in_vain = "false" if next(tries, None) is None else f"{{ {try_now}; {condition}; }}"
            return self._guest.run(f"{{ {condition}; }} || {in_vain}").ok

        self._guest.wait_until(holds, f"{self.name}: {what}", seconds=_TRANSITION_S)

    def disable(self, *, hurry: bool = True) -> None:
        """Take the patch back, and wait until it is gone."""
        self.begin_disabling()
        self.wait_gone(hurry=hurry)

    def begin_disabling(self) -> None:
        """Begin to take the patch back; a transition under way to it turns round."""
        self._guest.write(f"{self.directory}/enabled", "0")

    def enable_again(self) -> None:
        """Turn round the transition that takes the patch back."""
        self._guest.write(f"{self.directory}/enabled", "1")

    def force(self) -> None:
        """Have the tasks that hold the transition taken for switched."""
        self._guest.write(f"{self.directory}/force", "1")

    def take_back(self) -> None:
        """Whatever state the patch is in, disable it, and remove the module."""
        enabled = f"{self.directory}/enabled"
        self._guest.run(f"read -r on < {enabled} && [ $on = 1 ] && echo 0 > {enabled}")
        self.wait_gone()
        self._guest.check(f"[ ! -e /sys/module/{self.name} ] || rmmod {self.name}")

    def wait_gone(self, *, hurry: bool = True) -> None:
        """Until the kernel has dropped the patch, and let go of its module."""
        module = f"/sys/module/{self.name}"
        unused = f"! {{ read -r users < {module}/refcnt; }} 2>/dev/null || [ $users = 0 ]"
        gone = f"[ ! -e {self.directory} ] && {{ {unused}; }}"
        self._wait(gone, "taken back", hurry=hurry)


class Transition:
    """What is known of the tasks in a transition. Made by `Livepatches.transition`."""

    def __init__(self, guest: Guest, log: Process) -> None:
        self._guest = guest
        self._log = log

    @property
    def held(self) -> list[Held]:
        """The tasks that the kernel tried to switch and could not, with its reasons, since the ``with`` began."""
        return held_tasks(self._log.output)

    def reasons(self, task: Process | int) -> list[str]:
        """Why the kernel did not switch this task (a process, or a pid), once for each try."""
        pid = task.pid if isinstance(task, Process) else task
        return [held.reason for held in self.held if held.pid == pid]

    def wait_held(self, task: Process | int, reason: str, *, tries: int = 2) -> None:
        """Until the kernel has tried `tries` times (it does so once a second) to switch this task, and could not
        because of `reason` (the end of its message)."""

        def tried() -> bool:
            found = self.reasons(task)
            over = len(found) < tries and self.state(task) == NO_TRANSITION
            assert not over, f"the transition is over; to be a task that {reason}, the kernel said: {found}"
            return len(found) >= tries

        self._guest.wait_until(tried, f"{tries} tries to switch a task that {reason}", seconds=0.5 * tries)
        found = self.reasons(task)
        assert all(told.endswith(reason) for told in found), f"the kernel says: the task {found}"

    def state(self, task: Process | int) -> int:
        """UNPATCHED or PATCHED, NO_TRANSITION outside of one."""
        pid = task.pid if isinstance(task, Process) else task
        return int(self._guest.line(f"/proc/{pid}/patch_state"))

    def not_yet(self, goal: int) -> set[int]:
        """The tasks whose state is not `goal`."""
        listed = self._guest.run(f"grep -Lsx -e '{goal}' /proc/[0-9]*/task/[0-9]*/patch_state").output
        return {int(path.split("/")[4]) for path in listed.split()}

    def wait_only(self, task: Process | int, *, goal: int = PATCHED) -> None:
        """Until all tasks but this one are switched to `goal`."""
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
        """Load the livepatch module `name`; the end of the ``with`` disables it if need be, and unloads it. When the
        body begins the kernel has tried once to switch every task."""
        with self.at_hand(name) as patch:
            patch.insert(**parameters)
            yield patch

    @contextlib.contextmanager
    def in_effect(self, name: str, **parameters: object) -> Iterator[Livepatch]:
        """Load the livepatch module `name` and wait until every task has been switched; the end as with `load`."""
        with self.load(name, **parameters) as patch:
            patch.wait()
            yield patch

    @contextlib.contextmanager
    def at_hand(self, name: str) -> Iterator[Livepatch]:
        """The livepatch module `name`, not loaded; what is left of it at the end of the ``with`` is taken back."""
        self._modules.require(name)
        patch = Livepatch(self._guest, name)
        try:
            yield patch
        finally:
            patch.take_back()

    @contextlib.contextmanager
    def load_in_background(self, patch: Livepatch, *, cpu: int) -> Iterator[Process]:
        """Load a livepatch that is `at_hand` from this CPU while the test goes on."""
        with background(self._guest, f"taskset -c {cpu} insmod {DIRECTORY}/{patch.name}.ko") as process:
            yield process

    def refused(self, name: str, **parameters: object) -> str:
        """Load the livepatch module `name`, which the kernel has to refuse; returns the error that insmod tells."""
        with self.at_hand(name):
            return self._modules.refused(name, **parameters)

    def toggled(self, name: str) -> str:
        """Shell commands that load a livepatch, disable it when its transition is over, and unload it."""
        here = f"{_SYSFS}/{name}"
        return (
            f"insmod {DIRECTORY}/{name}.ko; while read -r busy < {here}/transition && [ $busy = 1 ]; do :; done; "
            f"echo 0 > {here}/enabled; while [ -e {here} ]; do :; done; while ! rmmod {name}; do :; done 2> /dev/null"
        )

    @contextlib.contextmanager
    def transition(self) -> Iterator[Transition]:
        """Have the kernel say, for the length of the ``with``, which tasks hold a transition and why."""
        with background(self._guest, "dmesg --follow-new") as log:
            self._guest.wait_until(lambda: self._says_something(log), "dmesg follows the kernel log")
            self._guest.write(_DEBUG, f"{_DEBUG_QUERY} +p")
            try:
                yield Transition(self._guest, log)
            finally:
                self._guest.write(_DEBUG, f"{_DEBUG_QUERY} -p")

    def _says_something(self, log: Process) -> bool:
        """Whether a new line of the kernel log is seen there."""
        return self._guest.run(f"echo harness: a transition is watched > /dev/kmsg; [ -s {log.output_file} ]").ok
