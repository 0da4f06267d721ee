"""The modules that testcases/livepatch patches and inspects: klp_target and klp_stacks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.run.api.guest import Guest, number
from harness.run.api.modules import Module
from harness.run.api.process import task_state
from harness.run.api.sleepers import Sleepers

_RETURN_ADDRESS = re.compile(r"(?P<function>[^\s+]+)\+(?P<offset>0x[0-9a-f]+)/(?P<size>0x[0-9a-f]+)")


class KlpTarget(Sleepers):
    """klp_target.c: functions whose return value says which version ran, and functions to sleep in.

    A `sleeper` sleeps in a function that klp_target_caller() called: in klp_target_callee(), or (the file "fault") in a
    page fault in klp_target_faulting(), ("doze") where any signal wakes it, ("deep") many frames below. When woken, it
    prints the return value of klp_target_caller(), which is 1042, or 2042 for klp_caller's version, and that of
    klp_target_name(), which is called after it on the way out of the kernel."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, "klp_target")

    @property
    def says(self) -> str:
        """The return value of klp_target_name(): "original", or the name of the livepatch that is in effect."""
        return self._guest.line(f"{self.files}/name")

    @property
    def says_other(self) -> str:
        """The return value of klp_target_other()."""
        return self._guest.line(f"{self.files}/other")

    @contextlib.contextmanager
    def napper(self) -> Iterator[int]:
        """A kernel thread asleep in klp_target_nap() below klp_target_caller(), which it leaves when it is woken there;
        then it sleeps elsewhere, until `wake`, and begins anew. Its pid."""
        self.write("napper", "1")
        try:
            pid = number(self.read("napper").split()[0], "klp_target: napper")
            self._guest.wait_until(lambda: self.naps > 0 and task_state(self._guest, pid) == "S", "the napper sleeps")
            yield pid
        finally:
            self.write("napper", "0")

    @property
    def naps(self) -> int:
        """How often the napper went to sleep."""
        return number(self.read("napper").split()[1], "klp_target: naps")


@dataclass(frozen=True)
class Frame:
    """One return address of a stack trace."""

    function: str
    offset: int  # in the function
    size: int  # of the function


@dataclass(frozen=True)
class SleepingTask:
    """A sleeping task, and the number of entries in its reliable stack trace; if negative, the error code."""

    pid: int
    comm: str
    kthread: bool
    entries: int


class KlpStacks(Module):
    """klp_stacks.c: stack traces of sleeping tasks, and kernel threads whose traces can be taken."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, "klp_stacks")

    def reliable(self, pid: int) -> list[Frame] | None:
        """stack_trace_save_tsk_reliable() of the task, innermost first; None if the kernel says that it is not
        reliable."""
        self.write("pid", str(pid))
        text = self.read("reliable")
        return None if text.startswith("error -22") else _frames(text)

    def plain(self, pid: int) -> list[Frame]:
        """stack_trace_save_tsk() of the task, innermost first."""
        self.write("pid", str(pid))
        return _frames(self.read("any"))

    def all_asleep(self) -> list[SleepingTask]:
        """Every sleeping task, with the result of its reliable stack trace."""
        lines = (
            re.fullmatch(r"(\d{1,10}) (.*) (kthread|user) (-?\d{1,10})", line) for line in self.read("all").splitlines()
        )
        return [
            SleepingTask(int(line[1]), line[2], kthread=line[3] == "kthread", entries=int(line[4]))
            for line in lines
            if line
        ]

    @contextlib.contextmanager
    def sleeping_kthread(self) -> Iterator[int]:
        """A kernel thread asleep in klp_stacks_inner(), called by _middle(), _outer() and _thread(); its pid."""
        self.write("kthread", "1")
        pid = number(self.read("kthread"), "klp_stacks: kthread")
        try:
            self._guest.wait_until(lambda: task_state(self._guest, pid) in ("S", "D", "I"), "kthread asleep")
            yield pid
        finally:
            self.write("kthread", "0")

    @contextlib.contextmanager
    def busy_kthread(self, *, cpu: int) -> Iterator[int]:
        """A kernel thread that calls schedule() over and over and never leaves this CPU, on which nothing else gets to
        run; its pid."""
        self.write("busy", str(cpu))
        try:
            yield number(self.read("busy"), "klp_stacks: busy")
        finally:
            self.write("busy", "")


def _frames(text: str) -> list[Frame]:
    """The frames of a trace printed with %pS. AssertionError for a frame outside any known function."""
    frames = []
    for line in text.splitlines():
        match = _RETURN_ADDRESS.match(line)
        assert match, f"no return address in a function: {line!r} in\n{text}"
        frames.append(Frame(match["function"], int(match["offset"], 16), int(match["size"], 16)))
    return frames
