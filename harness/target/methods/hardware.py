"""A board on a serial line: its kernel started by U-Boot or by the board's own system, its line shared by log and
shells; commands and files go over SSH where there is a network."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BootError, HarnessError, InfraError, KernelError
from harness.model.board import Access, BoardSpec, CommandConsole
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
from harness.target.methods import grubcfg
from harness.target.methods.checks import stays_open
from harness.target.methods.panic import panic_reason
from harness.target.methods.start import Start, Starting
from harness.target.methods.uboot import LOGIN
from harness.target.power import Switch, leave, switch_of
from harness.target.shells.serial import Shell

if TYPE_CHECKING:
    from harness.target.shells.ssh import SshHost

_LAST_LINES = 40
_CATCH_UP = 5.0
_WHOLE_TAIL = 1000  # lines
_HANDED_OVER = 0.5  # seconds for the last words of what starts the kernel, where it is not known what they are
# they are U-Boot's; an own system's kernel's; GRUB's; an EFI stub's, which speaks through the firmware
_LAST_WORDS = re.compile(rf"Starting kernel|Starting new kernel|\bBye!$|harness \w+: {grubcfg.STARTING}$|EFI stub: ")
_RESET = "U-Boot "
_INIT = "rdinit=/harness/board-init"


def describe(board: BoardSpec) -> str:
    """One line about the machine, for `harness boards`."""
    access, place = board.access, board.labgrid
    teller = "place" if place else "kernel"
    over = f", ssh {access.ssh.host or f'as its {teller} tells'}" if access.ssh else ""
    reached = f"labgrid place {place.place} at {place.coordinator}" if place else f"console {where(access.console)}"
    return access.redacted(f"{board.boot.method}, {reached}{over}")


def check(board: BoardSpec, access: Access) -> None:
    """See that the board's line can be opened: before an hour of building, not after."""
    try:
        if isinstance(access.console, CommandConsole):  # starts in any case, and ends where it can't
            stays_open(access.console, board=board.name)
        elif access.console:  # a place's is there when that is acquired
            line = open_line(access.console, board=board.name)
            line.shut()
            line.close()
    except HarnessError as error:
        raise _redacted(error, access) from None


@dataclass
class BoardTarget:
    """A Target on real hardware; made by `boot_board`. `_net`: where it is reached over the network."""

    console: Console
    boot_seconds: float
    _board: HeldBoard
    _line: Console
    _mux: SerialMux
    _switch: Switch
    _guard: Guard | None
    _shells: dict[str, Shell]
    _net: SshHost | None = None
    _caught_up: bool = False  # nothing was run since the last time
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
        """A serial line may lose or change bytes without a word."""
        if self._net:
            return
        if self._shells[COMMANDS].checksum(path) != hashlib.sha256(content).hexdigest():
            raise TargetLost(f"{path}: what came over {self._board.name}'s serial line has another checksum")

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
        """The log has a way of its own, which may be slower than a verdict's: a message is sent along it."""
        if self._caught_up:
            return
        self._caught_up = True
        token, arrived = secrets.token_hex(6), threading.Event()
        stop = self.console.listen(lambda _time, text: arrived.set() if token in text else None)
        try:
            self._shells[AUX].run(f"echo 'harness: {token}' > /dev/kmsg", timeout=_CATCH_UP)
            arrived.wait(_CATCH_UP)
        except (TargetLost, CommandTimeout):
            pass  # whoever asks next is told
        finally:
            stop()

    def diagnose(self) -> None:
        for key in "9lw":  # everything on the console, backtraces of the CPUs, the blocked tasks
            if self._line.send_break():
                self._line.send(key.encode())
                self.console.expect(r"sysrq: [^\n]*\n", timeout=2.0)

    def terminal(self, *, rows: int, columns: int) -> Terminal:
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
    """Boot `media` on `board`, started by `starting`, and wait until its shell answers; leaves serial.log (the line as
    it was, from before power-on) and console.log (the boot loader's and the kernel's part of it) in `logs`.

    Raises InfraError where console, power, U-Boot or own system fail, BootError where the kernel panics or hangs."""
    try:
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
            name: Shell(Console(mux.channels[name], log=None, name=f"{board.name}.{name}"), why_closed=lambda: mux.lost)
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
    """The connection to the booted kernel; None where it has to do with the serial line, which is slower but works."""
    if not board.access.ssh:
        return None
    from harness.target.shells.network import NoNetwork, reach  # paramiko again

    try:
        return reach(board.access.ssh, shell, place=f"{board.name}.ssh")
    except NoNetwork as error:
        say(f"{error.message}; going on over the serial line alone")
        return None


def _arguments(board: BoardSpec) -> str:
    return f"{_INIT} {board.cmdline}".strip()


def _wait_until_up(
    board: BoardSpec, mux: SerialMux, line: Console, console: Console, shell: Shell, *, since: float
) -> None:
    """Wait for the far end of the line's channels, and for the shell behind it."""
    over = threading.Event()  # something decided: up, panicked, started anew

    def watch(_time: float, text: str) -> None:
        if "end Kernel panic" in text or text.startswith(_RESET):
            over.set()

    stop = console.listen(watch)
    deadline = since + board.limits.boot
    try:
        while not mux.ready.wait(0.05):
            login = LOGIN.search("".join(line.tail(1)))  # it ends no line
            if login:
                raise _another_system(board, login[0], line)
            if over.is_set() or console.closed or time.monotonic() > deadline:
                raise _boot_failure(board, console, started=since)
        answer = shell.run(":", timeout=max(1.0, deadline - time.monotonic()))
        assert answer.ok
    except (TargetLost, CommandTimeout):
        raise _boot_failure(board, console, started=since) from None
    finally:
        stop()


def _another_system(board: BoardSpec, prompt: str, line: Console) -> InfraError:
    return InfraError(
        f"{board.name}: expected the harness's own shell, but another system asks {prompt.strip()!r}; see whether "
        "cmdline names a root or an init of its own (root=, init=, rdinit=)",
        details=line.tail(_LAST_LINES),
    )


def _boot_failure(board: BoardSpec, console: Console, *, started: float) -> InfraError | KernelError:
    tail = console.tail(_LAST_LINES)
    reason = panic_reason(tail)
    if reason:
        return BootError(f"the kernel panicked at boot: {reason}", details=tail)
    if console.closed:
        return InfraError(
            f"{board.name}: the serial line was lost while the kernel booted, and did not come back; see its cable or "
            "console server",
            details=tail,
        )
    quiet = time.monotonic() - console.last_activity
    said = _said_since_start(console.tail(_WHOLE_TAIL))
    by_kernel = itertools.takewhile(lambda line: not line.startswith(_RESET), said or ())
    spoke = console.last_activity > started + _HANDED_OVER if said is None else any(by_kernel)
    if not spoke:
        return _said_nothing(board, time.monotonic() - started, tail)
    if any(line.startswith(_RESET) for line in said or tail):
        return BootError("the board reset while booting; the last console lines follow", details=tail)
    return BootError(
        f"no shell within {board.limits.boot:.0f} s (console silent for {quiet:.0f} s); the last console lines follow",
        details=tail,
    )


def _said_since_start(lines: list[str]) -> list[str] | None:
    """What follows the last words of what started the kernel; None where those are not in `lines`."""
    for number in range(len(lines) - 1, -1, -1):
        if _LAST_WORDS.search(lines[number]):
            return [line.strip() for line in lines[number + 1 :]]
    return None


def _said_nothing(board: BoardSpec, seconds: float, tail: list[str]) -> InfraError:
    """A broken kernel and one that is told of another machine look alike from here. Nothing says that it is the
    kernel's fault: one that starts at all on a board whose entry is right would have spoken."""
    has_earlycon = "earlycon" in board.cmdline
    advice = (
        "it has `earlycon` already, so look at the device tree first"
        if has_earlycon
        else "with `cmdline: earlycon` a kernel that starts at all speaks at once"
    )
    return InfraError(
        f"{board.name}: expected the kernel to speak on its console, it said nothing in {seconds:.0f} s after it was "
        "started. Its device tree is of another machine (boot.dtb), its console another line (console= in cmdline), it "
        f"lies where it can't run, or it is broken before its console is up. To find out: {advice}; boot a kernel that "
        "is known to work there, the distribution's, with this entry",
        details=tail,
    )


def _end(board: HeldBoard, switch: Switch, guard: Guard | None, mux: SerialMux, consoles: list[Console]) -> None:
    """Leave the board as its users expect it and release everything, whatever fails on the way."""
    try:
        leave(board.power, switch)
    except InfraError:
        pass  # the next boot says so: a board that is still on does not fall silent
    finally:
        if guard:
            guard.release()
        mux.close()
        for console in consoles:
            console.close()
