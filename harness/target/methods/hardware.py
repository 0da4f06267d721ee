"""A board on a serial line: U-Boot or the board's own system starts its kernel, log and shells share the line, and
commands and files go over SSH if there is a network."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, InfraError
from harness.model.board import Access, BoardSpec, CommandConsole
from harness.products import verified_on_failure
from harness.target.base import (
    CommandTimeout,
    Completed,
    LineSink,
    Media,
    RunningCommand,
    Say,
    TargetLost,
    Terminal,
    silent,
)
from harness.target.holding.guard import Guard
from harness.target.holding.held import HeldBoard
from harness.target.line.console import Console
from harness.target.line.open import open_line, open_when_there, where
from harness.target.line.reconnect import ReconnectingTransport
from harness.target.line.serialmux import AUX, COMMANDS, KERNEL, SerialMux
from harness.target.methods import sysrq
from harness.target.methods.autoboot import LOGIN
from harness.target.methods.bootfailure import RESET, another_system, boot_failure
from harness.target.methods.checks import stays_open
from harness.target.methods.start import Start, Starting
from harness.target.power import Switch, leave, switch_of
from harness.target.shells.serial import Shell

if TYPE_CHECKING:
    from harness.target.shells.ssh import SshHost

_CATCH_UP_S = 5.0
_CATCH_UP_BAD_LINE_S = 30.0  # a frame may have to be requested several times
_INIT = f"rdinit=/harness/board-init {sysrq.ENABLED}"


def describe(board: BoardSpec) -> str:
    """Describe the machine in one line, for `harness boards`."""
    access, place = board.access, board.labgrid
    teller = "place" if place else "kernel"
    over = f", ssh {access.ssh.host or f'as its {teller} tells'}" if access.ssh else ""
    reached = f"labgrid place {place.place} at {place.coordinator}" if place else f"console {where(access.console)}"
    return access.redacted(f"{board.boot.method}, {reached}{over}")


def check(board: BoardSpec, access: Access) -> None:
    """Check that the board's line can be opened, before an hour of building rather than after it."""
    try:
        if isinstance(access.console, CommandConsole):  # always starts, and ends at once if it can't connect
            stays_open(access.console, board=board.name)
        elif access.console:  # a labgrid place has one only after it is acquired
            line = open_line(access.console, board=board.name)
            line.shut()
            line.close()
    except HarnessError as error:
        raise _redacted(error, access) from None


@dataclass
class BoardTarget:
    """A Target on real hardware; made by `boot_board`. `_net`: its SSH connection, if any."""

    console: Console
    boot_seconds: float
    _board: HeldBoard
    _line: Console
    _mux: SerialMux
    _switch: Switch
    _guard: Guard | None
    _shells: dict[str, Shell]
    _net: SshHost | None = None
    _caught_up: bool = False  # nothing was run since the last catch-up
    _closed: bool = False

    @property
    def _commands(self) -> Shell | SshHost:
        return self._net or self._shells[COMMANDS]

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        self._caught_up = False
        return self._commands.run(command, timeout=timeout, on_line=on_line)

    def start(self, command: str) -> RunningCommand:
        self._caught_up = False
        return self._commands.start(command)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self._commands.put(content, path, mode=mode)
        self._verify(content, path)

    def get(self, path: str) -> bytes:
        content = self._commands.get(path)
        self._verify(content, path)
        return content

    def _verify(self, content: bytes, path: str) -> None:
        """Verify the checksum: a serial line may lose or change bytes silently."""
        if self._net:
            return
        if self._shells[COMMANDS].checksum(path) != hashlib.sha256(content).hexdigest():
            raise TargetLost(f"{path}: what came over {self._board.name}'s serial line has a different checksum")

    @property
    def last_word(self) -> float:
        words = [shell.console.last_activity for shell in self._shells.values()]
        return max([*words, *([self._net.last_word] if self._net else [])])

    @property
    def went_down(self) -> bool:
        return self._mux.reset.is_set()

    def is_alive(self, *, timeout: float) -> bool:
        try:
            return self._shells[AUX].run("echo alive", timeout=timeout).output.strip() == "alive"
        except (TargetLost, CommandTimeout):
            if self._mux.lost:
                raise TargetLost(self._mux.lost) from None
            return False

    def is_connected(self, *, timeout: float) -> bool:
        return not self._net or self._net.still_there(timeout=timeout)

    def catch_up(self) -> None:
        """The log's channel may be slower than the one for verdicts, so send a message through it and wait for that."""
        if self._caught_up:
            return
        self._caught_up = True
        token, arrived = secrets.token_hex(6), threading.Event()
        limit = _CATCH_UP_BAD_LINE_S if self._mux.is_bad else _CATCH_UP_S
        self._mux.mark(token)
        stop = self.console.listen(lambda _time, text: arrived.set() if token in text else None)
        try:
            self._shells[AUX].run(f"echo 'harness: {token}' > /dev/kmsg", timeout=limit)
            arrived.wait(limit)
        except (TargetLost, CommandTimeout):
            pass  # the next command reports it
        finally:
            stop()

    def diagnose(self) -> None:
        for key in "9lw":  # everything on the console, backtraces of the CPUs, the blocked tasks
            if self._line.send_break():
                self._line.send(key.encode())
                self.console.expect(sysrq.ANSWER, timeout=2.0)

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        self._mux.hand_over()
        self._line.send(b"\n@I\n")
        self._line.expect(r"# ?$", timeout=10.0)
        self._line.send(f" stty rows {rows} cols {columns}\r".encode())
        return Terminal(stream=self._line, has_kernel_log=True)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._net:
            self._net.close()
        _end(
            self._board,
            self._switch,
            self._guard,
            self._mux,
            [self.console, *(shell.console for shell in self._shells.values()), self._line],
        )


def boot_board(board: HeldBoard, media: Media, *, starting: Starting, logs: Path, say: Say = silent) -> BoardTarget:
    """Boot `media` on `board` with `starting`, and wait until its shell answers. Writes serial.log (the raw line from
    before power-on) and console.log (the boot loader's and the kernel's part of it) to `logs`.

    Raises InfraError if console, power, U-Boot or the own system fails or a file is damaged, BootError if the kernel
    panics or hangs."""
    try:
        with verified_on_failure(media.products):
            return _boot(board, media, starting=starting, logs=logs, say=say)
    except HarnessError as error:
        raise _redacted(error, board.access) from None


def _redacted(error: HarnessError, access: Access) -> HarnessError:
    error.message = access.redacted(error.message)
    error.details = tuple(access.redacted(line) for line in error.details)
    return error


def _boot(board: HeldBoard, media: Media, *, starting: Starting, logs: Path, say: Say) -> BoardTarget:
    console_spec = board.access.console
    assert console_spec
    transport = ReconnectingTransport(
        lambda: open_line(console_spec, board=board.name),
        first=lambda: open_when_there(console_spec, board=board.name),
    )
    line = Console(transport, log=logs / "serial.log", name=f"{board.name}'s serial line")
    switch, guard = switch_of(board.power), None if board.is_guarded else Guard(board)
    mux = SerialMux(line, place=board.name)
    transport.on_gap = mux.gap
    console = Console(mux.channels[KERNEL], log=logs / "console.log", name=f"{board.name}'s console")
    consoles = [console, line]
    job = Start(
        board=board, media=media, line=line, switch=switch, arguments=_arguments(board.spec), logs=logs, say=say
    )
    try:
        started = starting(job)
        kernel_started = time.monotonic()
        shells = {
            name: Shell.over(mux.channels[name], name=f"{board.name}.{name}", why_closed=lambda: mux.lost)
            for name in (COMMANDS, AUX)
        }
        consoles += [shell.console for shell in shells.values()]
        _wait_until_up(board.spec, mux, line, console, shells[COMMANDS], since=kernel_started)
        net = _network(board, shells[COMMANDS], say)
    except BaseException:
        _end(board, switch, guard, mux, consoles)
        raise
    return BoardTarget(
        console=console,
        boot_seconds=time.monotonic() - started,
        _board=board,
        _line=line,
        _mux=mux,
        _switch=switch,
        _guard=guard,
        _shells=shells,
        _net=net,
    )


def _network(board: HeldBoard, shell: Shell, say: Say) -> SshHost | None:
    """Connect to the booted kernel over SSH; None if that fails, and the slower serial line has to do."""
    if not board.access.ssh:
        return None
    from harness.target.shells.network import NoNetwork, reach  # paramiko again

    try:
        return reach(board.access.ssh, shell, place=f"{board.name}.ssh")
    except NoNetwork as error:
        say(f"{error.message}; continuing over the serial line alone")
        return None


def _arguments(board: BoardSpec) -> str:
    return f"{_INIT} {board.cmdline}".strip()


def _wait_until_up(
    board: BoardSpec, mux: SerialMux, line: Console, console: Console, shell: Shell, *, since: float
) -> None:
    """Wait for the far end of the line's channels, and for its shell."""
    over = threading.Event()  # the outcome is known: up, panicked or reset

    def watch(_time: float, text: str) -> None:
        if "end Kernel panic" in text or text.startswith(RESET):
            over.set()

    stop = console.listen(watch)
    deadline = since + board.limits.boot
    try:
        while not mux.ready.wait(0.05):
            login = LOGIN.search("".join(line.tail(1)))  # a login prompt has no line end
            if login:
                raise another_system(board, login[0], line)
            if over.is_set() or console.closed or time.monotonic() > deadline:
                raise boot_failure(board, console, started=since)
        answer = shell.run(":", timeout=max(1.0, deadline - time.monotonic()))
        assert answer.ok
    except (TargetLost, CommandTimeout):
        raise boot_failure(board, console, started=since) from None
    finally:
        stop()


def _end(board: HeldBoard, switch: Switch, guard: Guard | None, mux: SerialMux, consoles: list[Console]) -> None:
    """Put the board into the state that its users expect and release everything, whatever fails on the way."""
    is_interrupted = False
    try:
        leave(board.power, switch)
    except InfraError:
        pass  # the next boot reports it: a board that is still on does not fall silent
    except BaseException:
        is_interrupted = True
        raise
    finally:
        if guard and not is_interrupted:  # otherwise the guard does it when we have ended
            guard.release()
        mux.close()
        for console in consoles:
            console.close()
