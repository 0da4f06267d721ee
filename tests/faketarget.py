"""A target for logic tests: answers commands as scripted, prints on a real Console, can die, hang and go silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator

from harness.target.base import Completed, LineSink, TargetLost, Terminal
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.shells.serial import finish

# A step of an answer: a line of output, or one of these.
HANG = object()  # nothing more comes
LOST = object()  # the channel closes


class Kmsg(str):
    """A step: lines that the kernel prints on its console."""


Step = str | Kmsg | object
Script = Callable[[str], Iterable[Step]]


class FakeRunning:
    def __init__(self, target: FakeTarget, steps: Iterable[Step], returncode: int) -> None:
        self.command = ""
        self.done = False
        self.returncode: int | None = None
        self._target = target
        self._steps: Iterator[Step] = iter(steps)
        self._code = returncode
        self._stuck = False

    def next_line(self, timeout: float) -> str | None:
        if self._stuck:
            time.sleep(min(timeout, 0.01))
            return None
        for step in self._steps:
            if step is HANG:
                self._stuck = True
                return None
            if step is LOST:
                self._target.cut()
                raise TargetLost("fake: the channel closed")
            if isinstance(step, Kmsg):
                self._target.kernel_says(step)
                continue
            self._target.last_word = time.monotonic()
            return str(step)
        self.done, self.returncode = True, self._code
        return None


class FakeTarget:
    """`script` turns a command into steps; unknown commands answer nothing, with exit code 0."""

    def __init__(
        self, script: Script, *, alive: bool = True, went_down: bool = False, connected: bool = True, late: str = ""
    ) -> None:
        ours, self._kernel = socket.socketpair()
        self.console = Console(SocketTransport(ours), log=None, name="fake")
        self.last_word = time.monotonic()
        self.boot_seconds = 1.0
        self.went_down = went_down
        self.line_lost = ""  # why nobody can tell whether it lives
        self.commands: list[str] = []
        self.closed = False
        self.diagnosed = 0
        self._script = script
        self._alive = alive
        self._connected = connected
        self._late = late
        self._lines = 0
        self.console.listen(self._count)

    def _count(self, _time: float, _line: str) -> None:
        self._lines += 1

    def kernel_says(self, text: str) -> None:
        """Print on the console, and wait until the console has read it."""
        goal = self._lines + text.count("\n") + 1
        self._kernel.sendall(text.encode() + b"\n")
        while self._lines < goal and not self.console.closed:
            time.sleep(0.001)

    def cut(self) -> None:
        self._kernel.shutdown(socket.SHUT_WR)
        self.console.wait_closed(5)

    def start(self, command: str) -> FakeRunning:
        self.commands.append(command)
        steps = self._script(command)
        if not isinstance(steps, list):  # endless
            return FakeRunning(self, steps, 0)
        code = next((int(step[5:]) for step in steps if isinstance(step, str) and step.startswith("exit=")), 0)
        return FakeRunning(
            self, [step for step in steps if not (isinstance(step, str) and step.startswith("exit="))], code
        )

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return finish(self.start(command), started=time.monotonic(), timeout=timeout, on_line=on_line)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self.commands.append(f"put {path} {len(content)} {mode:o}")

    def get(self, path: str) -> bytes:
        return b""

    def catch_up(self) -> None:
        if self._late:
            self.kernel_says(self._late)
        self._late = ""

    def is_connected(self, *, timeout: float) -> bool:
        return self._connected

    def is_alive(self, *, timeout: float) -> bool:
        if self.line_lost:
            raise TargetLost(self.line_lost)
        return self._alive

    def diagnose(self) -> None:
        self.diagnosed += 1

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        raise AssertionError("nobody types at a fake")

    def close(self) -> None:
        self.closed = True
        self._kernel.close()
        self.console.close()
