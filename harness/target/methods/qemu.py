"""A QEMU virt machine: started here, reached over socket pairs, ended with the harness."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import available, shortage
from harness.errors import BootError, InfraError, KernelError
from harness.model.board import BoardSpec
from harness.model.boot import QemuBoot
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
from harness.target.holding.held import HeldBoard
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods import sysrq
from harness.target.methods.panic import lack_of_memory, panic_reason
from harness.target.methods.qemuhost import last_words, why_ended, why_stopped
from harness.target.methods.qemuoptions import escaped, probing
from harness.target.shells.serial import Shell
from harness.tied import tied

QEMU = "qemu-system-aarch64"
_LAST_LINES = 40
_WHOLE_TAIL = 1000  # lines
_OVERHEAD_MIB = 400  # QEMU's own memory, and a worker's
_SPARE_MIB = 1024  # left for the host
_CHANNELS = ("kernel", "cmd", "aux", "tty", "qmp")


def pick_accel(wanted: str = "auto") -> tuple[str, str]:
    """Return the accelerator (``kvm`` or ``tcg``) and the reason for the choice, for people."""
    if wanted != "auto":
        return wanted, "as boards.yaml asks"
    if platform.machine() != "aarch64":
        return "tcg", f"emulation, because this host is {platform.machine()}"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        return "tcg", f"emulation, because /dev/kvm can't be used: {error.strerror}"
    return "kvm", "this arm64 host's /dev/kvm"


def describe(board: BoardSpec) -> str:
    """Describe the machine in one line, for `harness boards`."""
    boot = qemu_boot(board)
    return f"qemu {boot.machine}, {pick_accel(boot.accel)[0]}, {boot.cpus} CPUs, {boot.memory_mib} MiB"


def announce(board: BoardSpec) -> str:
    """Describe how it is going to be booted, for a person who waits."""
    return "QEMU with {} ({})".format(*pick_accel(qemu_boot(board).accel))


def properties(board: BoardSpec) -> dict[str, str]:
    """Return the machine's properties for a run's record."""
    boot = qemu_boot(board)
    accel, _ = pick_accel(boot.accel)
    return {"accelerator": accel} | ({"threads": boot.threads} if accel == "tcg" else {})


def capacity(board: BoardSpec, wanted: int | None) -> int:
    """Return how many of these machines this host can run in parallel: `wanted` (None: as many as suit it), but no more
    than fit into its free memory; at least one."""
    room = (available.memory_mib() - _SPARE_MIB) // (qemu_boot(board).memory_mib + _OVERHEAD_MIB)
    # half again as many as CPUs: a test often waits
    return max(1, min(room, wanted or (3 * available.cpus() + 1) // 2))


def with_one_cpu(board: BoardSpec) -> BoardSpec | None:
    """Return the machine with a single CPU; None if it has one, or models a board that has another number of them."""
    boot = qemu_boot(board)
    if boot.cpus == 1 or not boot.machine.startswith("virt"):
        return None
    return dataclasses.replace(board, boot=dataclasses.replace(boot, cpus=1))


def qemu_boot(board: BoardSpec) -> QemuBoot:
    """Return the board's boot entry, which is QEMU's."""
    assert isinstance(board.boot, QemuBoot)
    return board.boot


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A machine's memory and disks. `machine`, `memory`: additions to -M, and further arguments; `drives`: serial
    number and -drive options of each disk; `inherited`: open files that QEMU inherits."""

    machine: str = ""
    memory: tuple[str, ...] = ()
    drives: tuple[tuple[str, str], ...]
    inherited: tuple[int, ...] = ()


def own_storage(media: Media) -> Storage:
    """Private memory, and disks whose changes are discarded with the machine."""
    disks = (("root", media.root), ("payload", media.payload))
    drives = tuple((serial, f"format=raw,snapshot=on,file={escaped(disk)}") for serial, disk in disks if disk)
    return Storage(drives=drives)


def command_line(
    board: BoardSpec, media: Media, storage: Storage, *, fds: dict[str, int], accel: str, in_turns: bool = False
) -> list[str]:
    """Return QEMU's arguments; `fds` maps the channels to inherited sockets. `in_turns`: emulated CPUs run one at a
    time, whatever the board's entry says."""
    boot = qemu_boot(board)
    turns = in_turns or boot.threads == "single"
    system = "root=/dev/vda rw init=/harness/harness-init"
    append = f"console=ttyAMA0 {sysrq.ENABLED} {system} {board.cmdline}".strip()
    if accel == "tcg":
        # programs at the same addresses each time: QEMU 7.2 keeps translated code by virtual address, and would
        # translate every program and library anew at every start (docs/guest-speed.md)
        append += " norandmaps"
    args = [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-M", boot.machine + storage.machine),
        *("-accel", f"tcg,thread={'single' if turns else 'multi'}" if accel == "tcg" else accel),
        *("-cpu", "host" if accel == "kvm" else boot.cpu),
        *("-smp", str(boot.cpus), "-m", str(boot.memory_mib), "-no-reboot", *storage.memory),
        *("-kernel", str(media.image), "-append", append),
        *(("-initrd", str(media.initramfs)) if media.initramfs else ()),
    ]
    for channel, fd in fds.items():
        args += ["-chardev", f"socket,id={channel},fd={fd}"]
    args += ["-mon", "chardev=qmp,mode=control", "-serial", "chardev:kernel", "-device", "virtio-rng-pci"]
    args += ["-device", "virtio-serial-pci,max_ports=8", "-device", "virtconsole,chardev=tty"]
    for channel in ("cmd", "aux"):
        args += ["-device", f"virtserialport,chardev={channel},name=harness.{channel}"]
    for serial, drive in storage.drives:
        args += ["-drive", f"if=none,id={serial},{drive}"]
        args += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
    args += ["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile="]
    return tied([*args, *boot.extra_args])


@dataclass
class QemuTarget:
    """A Target in QEMU; made by `boot_qemu`."""

    process: subprocess.Popen[bytes]
    console: Console
    tty: Console
    boot_seconds: float = 0.0
    _shells: dict[str, Shell] = field(default_factory=dict)
    _qmp: Console | None = None
    _asked: int = 0
    _asking: threading.Lock = field(default_factory=threading.Lock)  # a console's thread may ask, too

    def run(self, command: str, *, timeout: float = 60.0, on_line: LineSink | None = None) -> Completed:
        return self._shells["cmd"].run(command, timeout=timeout, on_line=on_line)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self._shells["cmd"].put(content, path, mode=mode)

    def get(self, path: str) -> bytes:
        return self._shells["cmd"].get(path)

    def start(self, command: str) -> RunningCommand:
        return self._shells["cmd"].start(command)

    @property
    def last_word(self) -> float:
        return max(shell.console.last_activity for shell in self._shells.values())

    @property
    def went_down(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            # -no-reboot: a reset or power-off ends QEMU with 0; so does a signal that asks it to end
            return self.process.wait(timeout=2.0) == 0 and not self._was_told_to_end
        return False

    @property
    def _was_told_to_end(self) -> bool:
        """Return whether QEMU, which has ended, was terminated by somebody on the host."""
        if not self._qmp:
            return False
        self._qmp.wait_closed(2.0)
        return any('"SHUTDOWN"' in line and '"guest": false' in line for line in self._qmp.tail(20))

    @property
    def why_stopped(self) -> str:
        """Why QEMU has stopped the machine, or was ended, for a reason of this host's; empty if neither."""
        if self.process.poll() is not None:
            return why_ended(self.process)
        return why_stopped(self.monitor("query-status", timeout=5.0).get("status", "")) if self._qmp else ""

    def is_alive(self, *, timeout: float) -> bool:
        try:
            return self._shells["aux"].run("echo alive", timeout=timeout).output.strip() == "alive"
        except CommandTimeout:
            if why := self.why_stopped:
                raise TargetLost(why) from None
            return False
        except TargetLost:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1.0)  # its channels close a moment before it is gone
                raise  # so there is nobody left to ask
            return False

    def is_connected(self, *, timeout: float) -> bool:
        return True  # there is no cable

    def catch_up(self) -> None:
        """Nothing to do: the kernel prints synchronously, and QEMU passes it on at once."""

    def diagnose(self) -> None:
        for key in "lw":  # backtraces of the CPUs, then the blocked tasks
            self.monitor("chardev-send-break", id="kernel")
            self.console.send(key.encode())
            self.console.expect(sysrq.ANSWER, timeout=2.0)

    def terminal(self, *, rows: int, columns: int) -> Terminal:
        # told on the command channel: what is typed before the shell has the terminal may get lost
        shell = 'i=0; until [ -n "$(ps -t hvc0 -o pid=)" ] || [ $i = 50 ]; do sleep 0.1; i=$((i+1)); done'
        self.run(f"{shell}; stty -F /dev/hvc0 rows {rows} cols {columns}", timeout=60.0)
        return Terminal(stream=self.tty, has_kernel_log=False)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for console in (self.console, self.tty, *(shell.console for shell in self._shells.values()), self._qmp):
            if console:
                console.close()

    def monitor(self, command: str, *, timeout: float = 30.0, **arguments: object) -> dict[str, Any]:
        """Send `command` to QEMU's monitor (QMP) and return its answer: its ``return``, or ``{"error": …}``."""
        with self._asking:
            return self._answer(command, timeout, arguments)

    def _answer(self, command: str, timeout: float, arguments: dict[str, object]) -> dict[str, Any]:
        assert self._qmp
        self._asked += 1  # a late answer must not be taken for the next command's
        question = {"execute": command, "arguments": arguments, "id": f"harness-{self._asked}"}
        self._qmp.send(json.dumps(question).encode() + b"\n")
        found = self._qmp.expect(rf'(\{{[^\n]*"id": "harness-{self._asked}"[^\n]*\}})\r?\n', timeout=timeout)
        silence = "it has ended" if self._qmp.closed else f"no answer within {timeout:.0f} s"
        try:
            answer = json.loads(found[1]) if found else {"error": {"desc": silence}}
            return dict(answer if "error" in answer else answer["return"])
        except (ValueError, LookupError, TypeError, RecursionError):
            return {"error": {"desc": f"an answer that is none: {found[1][:80] if found else ''!r}"}}


def boot_qemu(board: HeldBoard, media: Media, *, logs: Path, say: Say = silent) -> QemuTarget:
    """Start `board` and wait until its shell answers. `logs` gets console.log (appended) and qemu.log.

    Raises InfraError if QEMU itself fails or a file is damaged, BootError if the kernel panics, hangs or never answers.
    Call it from the main thread: the kernel ends QEMU when the thread that started it ends."""
    return boot_with(own_storage(media), board.spec, media, logs=logs)


def boot_with(storage: Storage, board: BoardSpec, media: Media, *, logs: Path) -> QemuTarget:
    """Do what `boot_qemu` does, with this `storage`."""
    started = time.monotonic()
    with verified_on_failure(media.products):
        target = start(board, media, storage, logs=logs)
        try:
            _wait_until_up(target, board, logs=logs)
        except BaseException:
            target.close()
            raise
    target.boot_seconds = time.monotonic() - started
    return target


def start(
    board: BoardSpec, media: Media, storage: Storage, *, logs: Path, more: Sequence[str] = (), in_turns: bool = False
) -> QemuTarget:
    """Start QEMU with `more` arguments, and wait for its monitor only. `in_turns`: see `command_line`."""
    assert threading.current_thread() is threading.main_thread()
    if not shutil.which(QEMU):
        raise InfraError(f"{QEMU}: not found on PATH; install qemu-system-arm (`harness doctor` lists all tools)")
    pairs = {channel: socket.socketpair() for channel in _CHANNELS}
    fds = {channel: theirs.fileno() for channel, (_, theirs) in pairs.items()}
    accel, _ = pick_accel(qemu_boot(board).accel)
    args = [*command_line(board, media, storage, fds=fds, accel=accel, in_turns=in_turns), *more]
    args += probing(media.probe, logs) if media.probe and accel == "tcg" else []
    with shortage.reported(logs), (logs / "qemu.log").open("ab") as log:
        log.write(f"$ {' '.join(args)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(*fds.values(), *storage.inherited),
            start_new_session=True,
        )
    for _, theirs in pairs.values():
        theirs.close()
    ours = {channel: pair[0] for channel, pair in pairs.items()}
    target = QemuTarget(
        process=process,
        console=Console(SocketTransport(ours["kernel"]), log=logs / "console.log", name="ttyAMA0"),
        tty=Console(SocketTransport(ours["tty"]), log=None, name="hvc0"),
        _shells={
            name: Shell.over(
                SocketTransport(ours[name]), name=f"harness.{name}", why_closed=functools.partial(why_ended, process)
            )
            for name in ("cmd", "aux")
        },
        _qmp=Console(SocketTransport(ours["qmp"]), log=None, name="qmp"),
    )
    target.monitor("qmp_capabilities")
    return target


def _wait_until_up(target: QemuTarget, board: BoardSpec, *, logs: Path) -> None:
    panicked = threading.Event()

    def watch(_time: float, line: str) -> None:
        if "end Kernel panic" in line:
            panicked.set()

    stop = target.console.listen(watch)
    limit = board.limits.boot
    deadline = time.monotonic() + limit
    try:
        first = target.start(":")  # its answer shows that the shell is running
        while not first.done:
            if panicked.is_set() or time.monotonic() > deadline:
                raise _boot_failure(target, panicked=panicked.is_set(), limit=limit, logs=logs)
            first.next_line(0.05)
    except TargetLost:
        raise _boot_failure(target, panicked=panicked.is_set(), limit=limit, logs=logs) from None
    finally:
        stop()


def _boot_failure(target: QemuTarget, *, panicked: bool, limit: float, logs: Path) -> InfraError | KernelError:
    if target.process.poll() is None:  # its channels close a moment before it is gone
        with contextlib.suppress(subprocess.TimeoutExpired):
            target.process.wait(timeout=1.0)
    target.console.wait_closed(1.0)
    tail = target.console.tail(_LAST_LINES)
    if lack := lack_of_memory(target.console.tail(_WHOLE_TAIL)):
        return InfraError(lack, details=tail)
    reason = panic_reason(tail)
    if panicked or reason:
        return BootError(f"the kernel panicked at boot: {reason}", details=tail)
    last = last_words(logs / "qemu.log")
    host = shortage.said(last, what=QEMU) if target.process.poll() else None
    if host:
        return host
    if why := target.why_stopped:
        return InfraError(f"{why}; see qemu.log", details=last)
    if target.process.poll() is not None and not tail:
        return InfraError(
            f"QEMU ended with exit code {target.process.returncode} before the kernel started", details=last
        )
    if target.process.poll() is not None:
        return BootError("the machine reset or powered off while booting; the last console lines follow", details=tail)
    quiet = time.monotonic() - target.console.last_activity
    if not tail:
        return BootError(
            f"no console output within {limit:.0f} s: the kernel hangs before its console is up, or has none"
        )
    return BootError(
        f"no shell within {limit:.0f} s (console silent for {quiet:.0f} s); the last console lines follow", details=tail
    )
