"""Real U-Boot (Debian's u-boot-qemu) in QEMU, over lines that treat what it says in several ways."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.build.host import ensure_host
from harness.errors import InfraError
from harness.model.boot import UbootBoot
from harness.target.line.console import Console
from harness.target.line.transport import SocketTransport
from harness.target.methods.autoboot import NotStopped
from harness.target.methods.uboot import Uboot
from tests.faults.catalogue import Blame, fault

U_BOOT = "/usr/lib/u-boot/qemu_arm64/u-boot.bin"
ENVIRONMENT_BYTES = 0x40000
FLASH_BYTES = 64 << 20

Way = Callable[[bytes], bytes]


def as_it_is(data: bytes) -> bytes:
    return data


def late(text: bytes) -> Callable[[], Way]:
    """A line that comes up when this text has been said, and shows what follows it."""

    def way() -> Way:
        kept = bytearray()

        def pass_on(data: bytes) -> bytes:
            if not kept.startswith(b"\0"):
                kept.extend(data)
                _, found, behind = bytes(kept).partition(text)
                if not found:
                    return b""
                kept[:] = b"\0"
                return behind
            return data

        return pass_on

    return way


def with_ends(end: bytes) -> Callable[[], Way]:
    return lambda: lambda data: data.replace(b"\n", end)


def stamped(stamp: Callable[[], bytes], end: bytes = b"\n") -> Callable[[], Way]:
    """A console server that puts a time before each line as soon as that begins."""

    def way() -> Way:
        begins = [True]

        def pass_on(data: bytes) -> bytes:
            out = b""
            for line in data.splitlines(keepends=True):
                out += (stamp() if begins[0] else b"") + line.replace(b"\n", end)
                begins[0] = line.endswith(b"\n")
            return out

        return pass_on

    return way


class Machine:
    """QEMU with U-Boot; `console`: our side of its line. `typed`: what was sent to it, in pieces."""

    def __init__(self, directory: Path, *, environment: dict[str, str] | None, way: Way) -> None:
        self._directory, self._environment, self._way = directory, environment, way
        ours, self._server = socket.socketpair()
        self._uart, self._qemu_end = socket.socketpair()
        self.console = Console(SocketTransport(ours), log=None, name="board")
        self.typed: list[bytes] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._threads = [threading.Thread(target=job, daemon=True) for job in (self._out, self._in)]
        for thread in self._threads:
            thread.start()

    def switch_on(self) -> None:
        fd = self._qemu_end.fileno()
        words = ["-M", "virt", "-cpu", "cortex-a57", "-m", "256", "-bios", U_BOOT, "-accel", "tcg"]
        if self._environment is not None:
            flash = self._directory / "environment"
            flash.write_bytes(_flash(self._environment))
            with flash.open("ab") as file:
                file.truncate(FLASH_BYTES)
            words += ["-drive", f"if=pflash,format=raw,index=1,file={flash}"]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", "qemu-system-aarch64", "-nodefaults", "-no-user-config",
             "-display", "none", *words, "-chardev", f"socket,id=line,fd={fd}", "-serial", "chardev:line"],
            pass_fds=(fd,), stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _out(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._uart.recv(4096):
                self._server.sendall(self._way(data))

    def _in(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(4096):
                self.typed.append(data)
                self._uart.sendall(data)

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        self.console.close()
        for end in (self._uart, self._qemu_end, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10.0)
        for end in (self._uart, self._qemu_end, self._server):
            end.close()


def _flash(environment: dict[str, str]) -> bytes:
    """U-Boot's environment as its flash holds it."""
    text = b"".join(f"{name}={value}".encode() + b"\0" for name, value in environment.items())
    body = text.ljust(ENVIRONMENT_BYTES - 4, b"\0")
    return zlib.crc32(body).to_bytes(4, "little") + body


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    ensure_host(needed_for={"qemu", "u-boot"})
    made: list[Machine] = []

    def start(environment: dict[str, str] | None = None, way: Callable[[], Way] = lambda: as_it_is) -> Machine:
        made.append(Machine(tmp_path, environment=environment, way=way()))
        return made[-1]

    yield start
    for each in made:
        each.close()


def uboot_of(machine: Machine, **boot: Any) -> Uboot:
    return Uboot(machine.console, UbootBoot(**{"tftp_root": "/t", "uboot_seconds": 60.0, **boot}), place="b")


def stopped(machine: Machine, **boot: Any) -> Uboot:
    uboot = uboot_of(machine, **boot)
    machine.switch_on()
    uboot.stop()
    return uboot


seconds = itertools.count(1)
STAMPS = {
    "[   12.345678] ": lambda: b"[%5d.%06d] " % (next(seconds), 345678),
    "[2026-01-01 12:00:00] ": lambda: b"[2026-01-01 12:00:00] ",
    "12:00:00.123 ": lambda: b"12:00:00.123 ",
}


@pytest.mark.parametrize(
    ("way", "boot"),
    [
        pytest.param(lambda: as_it_is, {}, id="as it is"),
        pytest.param(lambda: as_it_is, {"stop_text": "U-Boot 2023.01"}, id="the banner is the text"),
        pytest.param(late(b"Core:"), {}, id="a line that comes up after the banner"),
        pytest.param(late(b"Hit any key to "), {}, id="a line that comes up with the text"),
        pytest.param(late(b"Hit any key to stop autoboot:  2 "), {"stop_from": "power-on"}, id="silent until it stops"),
        pytest.param(with_ends(b"\r\n"), {}, id="CR CR LF",
                     marks=fault("lines end in CR CR LF", where="console", blame=Blame.NOBODY, survives="the boot")),
        *(pytest.param(stamped(stamp), {}, id=name) for name, stamp in STAMPS.items()),
        pytest.param(stamped(STAMPS["12:00:00.123 "], b"\r\n"), {"stop_from": "power-on"}, id="all of it"),
    ],
)  # fmt: skip
def test_real_uboot_is_stopped_and_answers(
    machine: Callable[..., Machine], way: Callable[[], Way], boot: dict[str, Any]
) -> None:
    uboot = stopped(machine(way=way), **boot)
    assert "U-Boot 20" in uboot.command("version")
    assert uboot.value("kernel_addr_r", key="boot.kernel_at") == "0x40400000"
    uboot.command(f"setenv bootargs '{'x' * 400}'")
    assert uboot.command("printenv bootargs") == f"bootargs={'x' * 400}"
    with pytest.raises(InfraError, match=r"No ethernet found.*see boot\.before"):
        uboot.network()


def test_arguments_that_its_shell_changes_do_not_boot(machine: Callable[..., Machine]) -> None:
    """findings/uboot-quotes-do-not-protect.sh"""
    uboot = stopped(machine())
    with pytest.raises(
        InfraError, match=r"cmdline: .*expected bootargs `a\\b`, found `ab`; leave ' and \\ out of cmdline"
    ):
        uboot.boot("1", "2:3", "4", arguments=r"a\b")


def test_keys_from_power_on_stop_an_autoboot_that_waits_for_no_time(machine: Callable[..., Machine]) -> None:
    """With bootdelay=0 U-Boot looks once whether a key was typed, in the instant when it prints its question."""
    environment = {"bootdelay": "0", "bootcmd": "echo booted by itself; while true; do sleep 1; done"}
    uboot = stopped(machine(environment), stop_from="power-on", stop_every_ms=50)
    assert uboot.command("printenv bootdelay") == "bootdelay=0"


def test_an_autoboot_that_is_off_needs_no_key(machine: Callable[..., Machine]) -> None:
    far = machine({"bootdelay": "-1", "bootcmd": "echo booted by itself"})
    assert stopped(far).command("printenv bootdelay") == "bootdelay=-1"
    assert b" " not in far.typed


def test_a_boot_command_that_takes_its_time_is_left_with_ctrl_c(machine: Callable[..., Machine]) -> None:
    far = machine({"bootdelay": "-2", "bootcmd": "echo stop autoboot; while true; do sleep 1; done"})
    assert stopped(far).command("printenv bootdelay") == "bootdelay=-2"


@fault("U-Boot does not look at keys (bootdelay=-2)", where="boot", blame=Blame.INFRA,
       survives="the last lines; the rate and the number of keys")  # fmt: skip
def test_an_autoboot_that_hears_no_key(machine: Callable[..., Machine]) -> None:
    loops = "mw.l 0x41000000 0x14000000; echo Starting kernel ...; go 0x41000000"
    far = machine({"bootdelay": "-2", "bootcmd": loops})
    started = time.monotonic()
    with pytest.raises(NotStopped, match=r"did not stop when it was sent ' ', \d+ times from power-on") as caught:
        stopped(far, stop_from="power-on", stop_every_ms=200)
    assert any("Starting kernel" in line for line in caught.value.details)
    keys = b"".join(far.typed).count(b" ")
    assert 0 < keys <= 1 + (time.monotonic() - started) / 0.2
