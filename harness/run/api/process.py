"""Commands in the background on the guest, killed at the end of every ``with``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from harness.run.api.guest import Guest, number

_used: set[str] = set()  # output files of running processes


class Process:
    """A command that runs while the test continues."""

    def __init__(self, guest: Guest, pid: int, output: str) -> None:
        self._guest = guest
        self.output_file = output
        self.pid = pid

    @property
    def running(self) -> bool:
        """Whether it is still running; a zombie is not."""
        return self._state not in ("", "Z", "X")

    @property
    def asleep(self) -> bool:
        """Whether it sleeps in the kernel."""
        return self._state in ("S", "D")

    @property
    def _state(self) -> str:
        return task_state(self._guest, self.pid)

    @property
    def preempted(self) -> int:
        """How often it was preempted (involuntary context switches)."""
        found = self._guest.check(f"sed -n 's/^nonvoluntary_ctxt_switches:[^0-9]*//p' /proc/{self.pid}/status")
        return number(found, f"/proc/{self.pid}/status: nonvoluntary_ctxt_switches")

    @property
    def output(self) -> str:
        """What it has printed so far, without the last line end."""
        return self._guest.read(self.output_file).rstrip("\n")

    def wait(self, *, seconds: float = 5.0) -> str:
        """Wait until it has ended; returns its output, which should be a few lines."""
        self._guest.wait_until(lambda: not self.running, f"process {self.pid} has ended", seconds=seconds)
        # this starts no process
        return self._guest.check(f'while read -r line; do echo "$line"; done < {self.output_file}').rstrip("\n")

    def kill(self) -> None:
        """Kill it if necessary, and wait until it is gone."""
        self._guest.run(f"kill -KILL {self.pid}")
        self._guest.wait_until(lambda: not self.running, f"process {self.pid} is gone", seconds=5.0)


def task_state(guest: Guest, pid: int) -> str:
    """The state letter of a task in /proc/PID/stat; "" if the task is gone."""
    line = guest.run(f'[ -e /proc/{pid}/stat ] && read -r line < /proc/{pid}/stat && echo "$line"')
    return line.output.rpartition(") ")[2][:1] if line.ok else ""


@contextlib.contextmanager
def background(guest: Guest, command: str) -> Iterator[Process]:
    """Run the simple command `command` (for more, ``bash -c '…'``) while the test continues; it is killed at the end of
    the ``with`` if necessary. A command that can't be killed must be released before."""
    output = next(name for n in itertools.count(1) if (name := f"/tmp/harness-background-{n}") not in _used)
    _used.add(output)
    try:
        started = guest.check(f": >{output}; (exec {command}) </dev/null >{output} 2>&1 & echo $!")
        process = Process(guest, number(started, "the process id"), output)
        try:
            yield process
        finally:
            process.kill()
    finally:
        _used.discard(output)
