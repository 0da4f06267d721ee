"""A board with a system of its own on a disk: its GRUB boots the kernel once, and never a second time; or U-Boot loads
it from there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.parse.boards import parse_boards
from harness.target.base import Media
from harness.target.methods import grub, grubcfg, ownsystem
from tests.e2e.conftest import Twin
from tests.faults.catalogue import Blame, fault

OWN_SYSTEM_LIMIT_S = 300.0


@pytest.fixture
def machine(twin: Callable[..., Twin], system: Path, tmp_path: Path) -> Twin:
    """A twin with a disk of its own."""
    return on_disk(twin, system, tmp_path)


def on_disk(twin: Callable[..., Twin], keys: Path, tmp_path: Path, **options: object) -> Twin:
    disk = tmp_path / "disk"
    if not disk.exists():
        shutil.copyfile(keys / "disk", disk)
    made = twin("grub", disk=disk, **options)
    made.environment["TWIN_KEY"] = str(keys / "key")
    return made


@contextlib.contextmanager
def own_system(machine: Twin, monkeypatch: pytest.MonkeyPatch) -> Iterator[grub.Grub]:
    """Logged in to it, as soon as it answers."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    text = Path(machine.environment["HARNESS_BOARDS"]).read_text()
    board = parse_boards(text, place="boards.yaml", lookup=lambda name: os.environ.get(name, "unset"))[
        "twin-grub"
    ].board
    deadline = time.monotonic() + OWN_SYSTEM_LIMIT_S
    with contextlib.closing(ownsystem.own_system(board, board.access)) as system:
        while not system.connected:
            try:
                system.connect()
            except InfraError:
                assert time.monotonic() < deadline
                time.sleep(1.0)  # a machine that boots has no event for us
        yield grub.Grub.found(board, system)


def state(own: grub.Grub) -> str:
    """What GRUB has left in the environment block."""
    return grubcfg.value_of(own.system.get(f"{own.ours}/env"))


def until_login(machine: Twin) -> str:
    """What comes on its serial line until the own system wants a login."""
    printed, deadline = b"", time.monotonic() + OWN_SYSTEM_LIMIT_S
    while b"twin login: " not in printed:
        assert time.monotonic() < deadline, printed.decode(errors="replace")
        # closed at once as long as the twin still takes a killed harness for the line's reader
        with socket.create_connection((machine.environment["TWIN_HOST"], 17351), timeout=OWN_SYSTEM_LIMIT_S) as line:
            while b"twin login: " not in printed and (data := line.recv(4096)):
                printed += data
    return printed.decode(errors="replace")


def with_cmdline(machine: Twin, words: str) -> None:
    """twin-grub's kernel gets `words` too."""
    text = Path(machine.environment["HARNESS_BOARDS"]).read_text()
    changed = machine.cwd / "boards.yaml"
    changed.write_text(text.replace("  twin-grub:", f"  twin-grub:\n    cmdline: {words}"))
    machine.environment["HARNESS_BOARDS"] = str(changed)


def test_grub_boots_the_kernel_and_the_own_system_is_back_afterwards(
    machine: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = machine.harness("run", "twin-grub", "--suite", "testcases/function", "-k", "test_calls")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 PASS" in done.stdout
    assert machine.is_on("grub")
    with own_system(machine, monkeypatch) as own:
        assert state(own) == grubcfg.TAKEN


@fault(
    "SIGKILL between arming GRUB and the boot",
    where="killed",
    blame=Blame.NOBODY,
    survives="the board's own system, which GRUB boots from then on",
)
def test_a_harness_that_is_killed_before_its_kernel_runs(machine: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRUB has been told, so the power cycle that the guard makes ends in the kernel: to which nobody talks."""
    with_cmdline(machine, "harness.alone=10")
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, machine.arguments("boot", "twin-grub")), "--", "true"],
        cwd=machine.cwd,
        env={**os.environ, **machine.environment},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not any(b"The twin goes down." in log.read_bytes() for log in machine.cwd.glob("out/boot-*/serial.log")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    printed = until_login(machine)
    assert "harness.alone=10" in printed
    with own_system(machine, monkeypatch) as own:
        assert state(own) == grubcfg.TAKEN


@fault("a panic on a server that GRUB booted", where="kernel", blame=Blame.KERNEL, survives="the server's own system")
def test_the_own_system_is_back_after_a_crash(machine: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    done = machine.harness("boot", "twin-grub", "--", "echo c > /proc/sysrq-trigger; sleep 600")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "sysrq triggered crash" in done.stderr
    with own_system(machine, monkeypatch) as own:
        assert state(own) == grubcfg.TAKEN


@fault(
    "GRUB can not write to the disk on which it keeps the one-time boot",
    where="boot",
    blame=Blame.INFRA,
    survives="the board's own system: the kernel is not booted for ever",
)
def test_what_grub_can_not_take_back_it_does_not_boot(
    twin: Callable[..., Twin], system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = on_disk(twin, system, tmp_path)
    machine.switch("on", "grub")
    for name in ("Image", "root"):
        (tmp_path / name).write_bytes(b"MZ")
    with own_system(machine, monkeypatch) as own:
        own.prepare(Media(image=tmp_path / "Image", root=tmp_path / "root", payload=None), "abc", "rdinit=/x")
        assert own.system.run(f"mv {own.ours}/env.armed {own.ours}/env && sync").ok
    machine.switch("off", "grub")
    machine.process.terminate()
    machine.process.wait()
    machine = on_disk(twin, system, tmp_path, fault="read-only")
    machine.switch("on", "grub")
    printed = until_login(machine)
    assert "harness abc: not disarmed" in printed
    assert "harness abc: starting" not in printed


def test_u_boot_loads_the_kernel_from_the_disk_and_boots_the_own_system_by_itself(
    machine: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = machine.harness("boot", "twin-disk", "--", "cat /proc/cmdline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "panic=60 harness.alone=300 rdinit=/harness/board-init" in done.stdout
    assert machine.is_on("grub")
    with own_system(machine, monkeypatch) as own:
        assert not own.system.run("[ -e /boot/grub/custom.cfg ]").ok
