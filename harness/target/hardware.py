"""A board on a serial line: switched on, its boot loader told what to load, its line shared by log and shells."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BootError, HarnessError, InfraError, KernelError
from harness.model.board import Board, UbootBoot

from .base import CommandTimeout, Completed, LineSink, Media, RunningCommand, Say, TargetLost, Terminal, silent
from .console import Console
from .guard import Guard
from .lines import open_line
from .panic import panic_reason
from .power import Switch, power_off, switch_of
from .reconnect import ReconnectingTransport
from .serialmux import AUX, COMMANDS, KERNEL, SerialMux
from .shell import Shell
from .tftp import TftpServer, clear_old, publish
from .tftp import check as check_tftp
from .uboot import Load, NotStopped, Uboot

_TRIES = 2  # power-ons until autoboot is caught
_LAST_LINES = 40
_INIT = "rdinit=/harness/board-init"


def describe(board: Board) -> str:
    """One line about the machine, for `harness boards`."""
    console = board.console
    assert console
    where = getattr(console, "device", "") or " ".join(getattr(console, "argv", ())) or ""
    if not where:
        where = f"{getattr(console, 'host', '')}:{getattr(console, 'port', '')}"
    return board.redacted(f"uboot, console {where}")


def announce(board: Board) -> str:
    """How it is going to be booted, for a person who waits."""
    return "a board, started by U-Boot"


def check(board: Board) -> None:
    """See that the board's line can be opened, and its TFTP server started where that is ours: before an hour of
    building, not after."""
    spec = board.boot
    assert isinstance(spec, UbootBoot)
    try:
        line = open_line(board)
    except HarnessError as error:
        raise _redacted(error, board) from None
    line.shut()
    line.close()
    if spec.tftp_serve:
        check_tftp(spec.tftp_serve, place=f"{board.name}.boot.tftp_serve")


@dataclass
class BoardTarget:
    """A Target on real hardware; made by `boot_uboot`."""

    console: Console
    boot_seconds: float
    _board: Board
    _line: Console
    _mux: SerialMux
    _switch: Switch
    _guard: Guard
    _shells: dict[str, Shell]
    _closed: bool = False

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return self._shells[COMMANDS].run(command, timeout=timeout, on_line=on_line)

    def start(self, command: str) -> RunningCommand:
        return self._shells[COMMANDS].start(command)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self._shells[COMMANDS].put(content, path, mode=mode)
        self._verify(content, path)

    def get(self, path: str) -> bytes:
        content = self._shells[COMMANDS].get(path)
        self._verify(content, path)
        return content

    def _verify(self, content: bytes, path: str) -> None:
        """A serial line may lose or change bytes without a word."""
        if self._shells[COMMANDS].checksum(path) != hashlib.sha256(content).hexdigest():
            raise TargetLost(f"{path}: what came over {self._board.name}'s serial line has another checksum")

    @property
    def last_word(self) -> float:
        return max(shell.console.last_activity for shell in self._shells.values())

    @property
    def went_down(self) -> bool:
        return self._mux.reset.is_set()

    def is_alive(self, *, timeout: float) -> bool:
        try:
            return self._shells[AUX].run("echo alive", timeout=timeout).output.strip() == "alive"
        except (TargetLost, CommandTimeout):
            return False

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
        _end(
            self._switch,
            self._guard,
            self._mux,
            [self.console, *(shell.console for shell in self._shells.values()), self._line],
        )


def boot_uboot(board: Board, media: Media, *, logs: Path, say: Say = silent) -> BoardTarget:
    """Boot `media` on `board` and wait until its shell answers; leaves serial.log (the line as it was, from before
    power-on) and console.log (the boot loader's and the kernel's part of it) in `logs`.

    Raises InfraError where console, power, U-Boot or network fail, BootError where the kernel panics or hangs."""
    try:
        return _boot(board, media, logs=logs, say=say)
    except HarnessError as error:
        raise _redacted(error, board) from None


def _redacted(error: HarnessError, board: Board) -> HarnessError:
    error.message = board.redacted(error.message)
    error.details = tuple(board.redacted(line) for line in error.details)
    return error


def _boot(board: Board, media: Media, *, logs: Path, say: Say) -> BoardTarget:
    spec = board.boot
    assert isinstance(spec, UbootBoot)
    transport = ReconnectingTransport(lambda: open_line(board))
    line = Console(transport, log=logs / "serial.log", name=f"{board.name}'s serial line")
    switch, guard = switch_of(board), Guard(board)
    mux = SerialMux(line)
    transport.on_gap = mux.gap
    console = Console(mux.channels[KERNEL], log=logs / "console.log", name=f"{board.name}'s console")
    consoles = [console, line]
    server: TftpServer | None = None
    try:
        files = _published(board, spec, media)
        if spec.tftp_serve:
            place = f"{board.name}.boot.tftp_serve"
            server = TftpServer(spec.tftp_serve, Path(spec.tftp_root), place=place, log=logs / "tftp.log")
        uboot, started = _power_up(board, spec, line, switch, say)
        _start_kernel(uboot, spec, files, board)
        kernel_started = time.monotonic()
        shells = {
            name: Shell(Console(mux.channels[name], log=None, name=f"{board.name}.{name}")) for name in (COMMANDS, AUX)
        }
        consoles += [shell.console for shell in shells.values()]
        _wait_until_up(board, mux, console, shells[COMMANDS], since=kernel_started)
    except BaseException:
        _end(switch, guard, mux, consoles)
        raise
    finally:
        if server:  # the kernel has taken over, what it needs is in the board's memory
            server.close()
    return BoardTarget(
        console=console,
        boot_seconds=time.monotonic() - started,
        _board=board,
        _line=line,
        _mux=mux,
        _switch=switch,
        _guard=guard,
        _shells=shells,
    )


def _power_up(board: Board, spec: UbootBoot, line: Console, switch: Switch, say: Say) -> tuple[Uboot, float]:
    """Power off and on, and stop U-Boot; also when it was switched on (monotonic).

    It is tried once more, and said, where autoboot was faster than we."""
    for attempt in range(1, _TRIES + 1):
        power_off(board, switch, line)
        started = time.monotonic()
        switch.on()
        uboot = Uboot(line, spec, place=board.name)
        try:
            uboot.stop()
        except NotStopped as error:
            if attempt == _TRIES:
                raise
            say(f"{error.message}; switching the board off and on once more")
            continue
        return uboot, started
    raise AssertionError("unreachable")


@dataclass(frozen=True, kw_only=True)
class _Files:
    kernel: Load
    root: Load
    payload: Load | None
    dtb: Load | None


def _published(board: Board, spec: UbootBoot, media: Media) -> _Files:
    """Put what the board loads below the TFTP server's directory; what lies there already is left."""
    directory = Path(spec.tftp_root, "harness")
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise InfraError(
            f"{board.name}.boot.tftp_root: expected a directory to write to at {spec.tftp_root}, can't make "
            f"`harness` there: {error.strerror}"
        ) from None
    clear_old(directory)

    def load(path: Path, address: str, key: str) -> Load:
        return Load(name=f"harness/{publish(path, directory)}", size=path.stat().st_size, address=address, key=key)

    dtb = None
    if spec.dtb:
        path = (media.dtbs or Path()) / spec.dtb
        if not path.is_file():
            raise InfraError(f"{board.name}.boot.dtb: expected {spec.dtb} among the build's device trees, found none")
        dtb = load(path, spec.dtb_at, "boot.dtb_at")
    return _Files(
        kernel=load(media.image, spec.kernel_at, "boot.kernel_at"),
        root=load(media.root, spec.ramdisk_at, "boot.ramdisk_at"),
        payload=load(media.payload, spec.ramdisk_at, "boot.ramdisk_at") if media.payload else None,
        dtb=dtb,
    )


def _start_kernel(uboot: Uboot, spec: UbootBoot, files: _Files, board: Board) -> None:
    uboot.network()
    kernel = uboot.load(files.kernel)
    root = uboot.load(files.root)
    size = files.root.size
    if files.payload:
        # the second archive right behind the first: the kernel unpacks one after the other
        behind = Load(
            name=files.payload.name,
            size=files.payload.size,
            address=f"{int(root, 16) + size:x}",
            key=files.payload.key,
        )
        uboot.load(behind)
        size += files.payload.size
    fdt = uboot.load(files.dtb) if files.dtb else uboot.value(spec.fdt, key="boot.fdt")
    uboot.boot(kernel, f"{root}:{size:x}", fdt, arguments=f"{_INIT} {board.cmdline}".strip())


def _wait_until_up(board: Board, mux: SerialMux, console: Console, shell: Shell, *, since: float) -> None:
    """Wait for the far end of the line's channels, and for the shell behind it."""
    over = threading.Event()  # something decided: up, panicked, started anew

    def watch(_time: float, text: str) -> None:
        if "end Kernel panic" in text or text.startswith("U-Boot "):
            over.set()

    stop = console.listen(watch)
    deadline = since + board.limits.boot
    try:
        while not mux.ready.wait(0.05):
            if over.is_set() or console.closed or time.monotonic() > deadline:
                raise _boot_failure(board, console)
        answer = shell.run(":", timeout=max(1.0, deadline - time.monotonic()))
        assert answer.ok
    except (TargetLost, CommandTimeout):
        raise _boot_failure(board, console) from None
    finally:
        stop()


def _boot_failure(board: Board, console: Console) -> InfraError | KernelError:
    tail = console.tail(_LAST_LINES)
    reason = panic_reason(tail)
    if reason:
        return BootError(f"the kernel panicked at boot: {reason}", details=tail)
    if console.closed:
        return InfraError(f"{board.name}: the serial line was lost while the kernel booted", details=tail)
    if any(line.startswith("U-Boot ") for line in tail):
        return BootError("the board reset while booting; the last console lines follow", details=tail)
    quiet = time.monotonic() - console.last_activity
    return BootError(
        f"no shell within {board.limits.boot:.0f} s (console silent for {quiet:.0f} s); the last console lines follow",
        details=tail,
    )


def _end(switch: Switch, guard: Guard, mux: SerialMux, consoles: list[Console]) -> None:
    """Power off and release everything, whatever fails on the way."""
    try:
        switch.off()
    except InfraError:
        pass  # the next boot says so: a board that is still on does not fall silent
    finally:
        guard.release()
        mux.close()
        for console in consoles:
            console.close()
