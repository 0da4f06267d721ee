"""Commands over a byte stream. Two random markers frame each one, so that no output of the target is mistaken for the
end of a command. The one that tells the end is not printed before, so what recorded the beginning (a trace of system
calls, say) does not have it."""

from __future__ import annotations

import base64
import contextlib
import queue
import re
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable

from harness.errors import UserError
from harness.target.base import CommandTimeout, Completed, LineSink, RunningCommand, TargetLost
from harness.target.line.console import Console
from harness.target.line.textlines import LONGEST_OUTPUT_LINE
from harness.target.line.transport import Transport

_MOST_OUTPUT = 64 << 20  # characters kept of one command's output; the rest is dropped with a note
_MOST_WAITING = 4 << 20  # characters that nobody has read yet
_STRING = 64  # approximate overhead of a string object, in bytes
_PUT_CHUNK_BYTES = 48 << 10
_EXIT_CODE = re.compile(r"[0-9]{1,3}")


class Running:
    """A running command of a Shell: read its lines until `done`; then `returncode` is its exit code."""

    def __init__(self, shell: Shell, command: str, *, begin: str, end: str) -> None:
        """`begin` and `end`: the markers that its frame prints."""
        self.command = command
        self.returncode: int | None = None
        self._shell = shell
        self._begin = begin
        self._end = end
        self._begun = False
        self._held_empty = False
        self._ready: deque[str] = deque()

    def next_line(self, timeout: float) -> str | None:
        """Return the next line of output; None if none came within `timeout` seconds, or if the command has ended.

        Raises TargetLost when the channel closed, or when what arrived can't be the frame's."""
        if self._ready:
            return self._ready.popleft()
        deadline = time.monotonic() + timeout
        while not self._ready and not self.done:
            block = self._shell.take(max(0.0, deadline - time.monotonic()))
            if block is None:
                self._shell.check_open(self.command)
                return None
            self._take(block)
        return self._ready.popleft() if self._ready else None

    @property
    def done(self) -> bool:
        """Whether the command has ended and all of its lines were read."""
        return self.returncode is not None and not self._ready

    def _take(self, block: str) -> None:
        """Keep the lines of `block` that belong to this command."""
        lines = block[:-1].split("\n")
        if self._begun and self._end not in block:
            self._keep(lines)
            return
        mine: list[str] = []
        for line in lines:
            if not self._begun:
                self._begun = line == self._begin
            elif line.startswith(f"{self._end} "):
                self._keep(mine)
                self.returncode = self._exit_code(line.removeprefix(self._end).strip())
                self._shell.ended(self)
                return  # what follows belongs to no command
            else:
                mine.append(line)
        self._keep(mine)

    def _exit_code(self, told: str) -> int:
        if not _EXIT_CODE.fullmatch(told):
            raise TargetLost(
                f"{self._shell.console.name}: expected the exit code of `{_short(self.command)}`, found {told[:40]!r}: "
                "the line changes what it carries, or another program writes to it"
            )
        return int(told)

    def _keep(self, lines: list[str]) -> None:
        """Make `lines` available. The frame adds a line end before the end marker, so an empty line is held back until
        it is known not to be that one."""
        if not lines:
            return
        if self._held_empty:
            self._ready.append("")
        self._held_empty = not lines[-1]
        self._ready.extend(lines[:-1] if self._held_empty else lines)


class _Waiting(queue.Queue[str]):
    """A queue of blocks of lines, bounded by their total size rather than their number."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._size = 0

    def _qsize(self) -> int:
        return self._size

    def _put(self, item: str) -> None:
        super()._put(item)
        self._size += len(item) + _STRING

    def _get(self) -> str:
        item = super()._get()
        self._size -= len(item) + _STRING
        return item


class Shell:
    """A shell at the other end of `console`, which reads commands from it and has no prompt and no echo (see
    harness/build/overlay/harness-init). It runs one command at a time. `why_closed`: returns why `console` ended, if
    that is known."""

    def __init__(self, console: Console, *, why_closed: Callable[[], str] = lambda: "") -> None:
        self.console = console
        self._why_closed = why_closed
        self._waiting = _Waiting(maxsize=_MOST_WAITING)
        self._running: Running | None = None
        console.listen_blocks(self._arrived)

    @classmethod
    def over(cls, transport: Transport, *, name: str, why_closed: Callable[[], str] = lambda: "") -> Shell:
        """Return a shell at the other end of `transport`, whose lines may be long: they are in no log of their own."""
        console = Console(transport, log=None, name=name, longest_line=LONGEST_OUTPUT_LINE)
        return cls(console, why_closed=why_closed)

    def _arrived(self, _time: float, block: str) -> None:
        """Keep lines for `take`; while there are too many, the target has to wait."""
        while not self.console.closing:
            with contextlib.suppress(queue.Full):
                self._waiting.put(block, timeout=0.2)
                return

    def start(self, command: str) -> Running:
        """Start `command` in a subshell with nothing on its standard input.

        Raises TargetLost while an earlier command that exceeded its limit still runs."""
        if self._running:
            raise TargetLost(f"{self.console.name}: the shell is still busy with `{_short(self._running.command)}`")
        with contextlib.suppress(queue.Empty):
            while True:  # late output of background commands
                self._waiting.get_nowait()
        begin, end = (f"@@{secrets.token_hex(8)}" for _ in range(2))
        self._running = Running(self, command, begin=begin, end=end)
        # eval of a quoted word: a syntax error ends the subshell, never the shell
        frame = f"printf '\\n{begin}\\n'; (eval {shlex.quote(command)}) </dev/null 2>&1; "
        self.console.send((frame + f"printf '\\n{end} %d\\n' $?\n").encode())
        return self._running

    def take(self, timeout: float) -> str | None:
        """Return the next lines that arrived, whatever they belong to, each ending in a line feed."""
        with contextlib.suppress(queue.Empty):
            return self._waiting.get(timeout=timeout)
        return None

    def check_open(self, command: str) -> None:
        """Raise TargetLost if the channel has closed and nothing is left to read."""
        if self.console.closed and self._waiting.empty():
            why = self._why_closed()
            ran = f"while `{_short(command)}` ran"
            raise TargetLost(f"{why} ({ran})" if why else f"{self.console.name}: the channel closed {ran}")

    def ended(self, running: Running) -> None:
        """Note that `running` has ended; called by it."""
        if self._running is running:
            self._running = None

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        """Run `command` to its end; see Target.run."""
        started = time.monotonic()
        return finish(self.start(command), started=started, timeout=timeout, on_line=on_line)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file; the command line carries it in base64, in pieces."""
        quoted = shlex.quote(path)
        for start in range(0, len(content) or 1, _PUT_CHUNK_BYTES):
            piece = base64.b64encode(content[start : start + _PUT_CHUNK_BYTES]).decode()
            redirect = ">" if start == 0 else ">>"
            done = self.run(f"base64 -d {redirect} {quoted} <<'@@'\n{piece}\n@@", timeout=120.0)
            if not done.ok:
                raise UserError(f"{path}: can't be written on the target: {done.output.strip()}")
        self.run(f"chmod {mode:o} {quoted}")

    def get(self, path: str) -> bytes:
        """Read a file. Raises TargetLost if what arrives is damaged."""
        done = self.run(f"base64 -w 76 {shlex.quote(path)}", timeout=120.0)
        if not done.ok:
            raise UserError(f"{path}: can't be read on the target: {done.output.strip()}")
        if len(done.output) >= _MOST_OUTPUT:
            raise UserError(f"{path}: larger than {_MOST_OUTPUT * 3 // 4 >> 20} MiB, which is the most that is read")
        try:
            return base64.b64decode("".join(done.output.split()), validate=True)
        except ValueError as error:
            told = f"{self.console.name}: {path} arrived damaged: expected base64, found otherwise ({error})"
            raise TargetLost(f"{told}; the line changes what it carries, or another program writes to it") from None

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of a file in hex; empty if it can't be read."""
        return self.run(f"sha256sum {shlex.quote(path)}", timeout=120.0).output.lstrip("\\").partition(" ")[0]


def finish(running: RunningCommand, *, started: float, timeout: float, on_line: LineSink | None = None) -> Completed:
    """Wait for `running` to end; raises CommandTimeout `timeout` seconds after `started` (monotonic)."""
    lines: list[str] = []
    kept = 0
    while not running.done:
        left = started + timeout - time.monotonic()
        if left <= 0:
            raise CommandTimeout(f"`{_short(running.command)}` did not end within {timeout:.0f} s")
        line = running.next_line(min(left, 1.0))
        if line is None:
            continue
        if on_line:
            on_line(line)
        kept += len(line)
        if kept < _MOST_OUTPUT:
            lines.append(line)
    if kept >= _MOST_OUTPUT:
        lines.append(f"[output truncated: only {_MOST_OUTPUT} characters are kept]")
    assert running.returncode is not None
    return Completed(
        command=running.command,
        returncode=running.returncode,
        output="\n".join(lines),
        seconds=time.monotonic() - started,
    )


def _short(command: str) -> str:
    first = command.strip().partition("\n")[0]
    return first if len(first) <= 80 else first[:77] + "..."
