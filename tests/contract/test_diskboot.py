"""A kernel that U-Boot loads from the own system's disk: a real sshd on loopback, and a scripted U-Boot that speaks
when the own system was told to reboot. With real U-Boot and a disk: tests/e2e/test_twin_grub.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.board import BoardSpec, CommandSwitch, Login, Power, Ssh
from harness.model.boot import UbootBoot, UbootDiskBoot
from harness.target.base import Media, silent
from harness.target.methods import diskboot
from harness.target.methods.start import Start
from tests.boards import held, spec
from tests.contract import sshd
from tests.contract.conftest import write_tool
from tests.unit.scripted_uboot import AUTOBOOT, BANNER, ScriptedUboot

pytestmark = pytest.mark.skipif(bool(sshd.missing()), reason=sshd.missing())
VARIABLES = {"kernel_addr_r": "0x40400000", "ramdisk_addr_r": "44000000", "fdt_addr_r": "43000000"}


class Switch:
    """A power switch that is not needed."""

    def on(self) -> None:
        raise AssertionError

    def off(self) -> None:
        raise AssertionError


@pytest.fixture
def board(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardSpec]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_tool(tools, "df", f"echo x; echo /dev/mmcblk0p1 9000000 1 8000000 1% {tmp_path}/disk")
    write_tool(tools, "reboot", f"echo x > {tmp_path}/rebooted")
    with sshd.running(tmp_path, path=str(tools)) as server:
        yield spec(
            name="b",
            boot=UbootDiskBoot(
                directory=f"{tmp_path}/disk/harness",
                partition="mmc 0:1",
                uboot=UbootBoot(tftp_root="", fdt="43000000", before=("usb start",)),
                system_seconds=20.0,
            ),
            power=Power(switch=CommandSwitch(on=("true",), off=("true",)), off_seconds=0.01, check_silence=False),
            ssh=Ssh(host="127.0.0.1", port=server.port, login=Login(key=str(server.key))),
        )


@pytest.fixture
def sized(media: Media) -> Media:
    """Each part has a size of its own."""
    for number, path in enumerate((media.image, media.root, media.payload)):
        assert path
        path.write_bytes(b"x" * (0x1000 + number))
    return media


def started(board: BoardSpec, media: Media, tmp_path: Path, answers: dict[str, str]) -> list[str]:
    """`diskboot.start`; the commands that U-Boot got."""
    told = {f"printenv {name}": f"{name}={value}\r\n" for name, value in VARIABLES.items()}
    far = ScriptedUboot({**told, **answers}, banner="")
    far._say(BANNER + AUTOBOOT + "\r\nStarting kernel ...\r\nb login: ")  # when the own system was started

    def speak() -> None:
        while not (tmp_path / "rebooted").exists():
            time.sleep(0.01)
        far._say(BANNER + AUTOBOOT)

    threading.Thread(target=speak, daemon=True).start()
    try:
        diskboot.start(
            Start(
                board=held(board),
                media=media,
                line=far.console,
                switch=Switch(),
                arguments="rdinit=/x",
                logs=tmp_path,
                say=silent,
            )
        )
    finally:
        far.close()
    return far.commands


LOADS = {
    r"load mmc 0:1 0x40400000 /harness/\w+-harness": "4096 bytes read in 3 ms (1 MiB/s)\r\n",
    r"load mmc 0:1 44000000 /harness/\w+-harness": "4097 bytes read in 3 ms (1 MiB/s)\r\n",
    r"load mmc 0:1 44001001 /harness/\w+-harness": "4098 bytes read in 3 ms (1 MiB/s)\r\n",
    r"load mmc 0:1 43000000 /harness/\w+-harness": "4 bytes read in 3 ms (1 MiB/s)\r\n",
    r"booti .*": "Starting kernel ...\r\n",
}


def test_the_kernel_is_loaded_from_the_disk(board: BoardSpec, sized: Media, tmp_path: Path) -> None:
    commands = started(board, sized, tmp_path, LOADS)
    assert "usb start" in commands
    assert any("panic=60 harness.alone=300 rdinit=/x" in command for command in commands)
    assert commands[-1] == "booti 0x40400000 44000000:2003 43000000"
    brought = {path.name for path in (tmp_path / "disk/harness").iterdir()}
    assert {command.rpartition("/")[2] for command in commands if command.startswith("load")} == brought


def test_a_device_tree_of_the_build(board: BoardSpec, sized: Media, tmp_path: Path) -> None:
    (tmp_path / "x.dtb").write_bytes(b"tree")
    assert isinstance(board.boot, UbootDiskBoot)
    board = replace(board, boot=replace(board.boot, dtb="x.dtb"))
    commands = started(board, replace(sized, dtbs=tmp_path), tmp_path, LOADS)
    assert any(command.startswith("load mmc 0:1 43000000 /harness/") for command in commands)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("** Invalid partition 1 **\r\nCouldn't find partition mmc 0:1\r\n", "expected 4096 bytes, it can't load it"),
        ("4000 bytes read in 3 ms (1 MiB/s)\r\n", "expected 4096 bytes, 4000 came"),
    ],
)
def test_a_partition_that_is_another_one(
    board: BoardSpec, sized: Media, tmp_path: Path, answer: str, told: str
) -> None:
    with pytest.raises(InfraError, match=told) as raised:
        started(board, sized, tmp_path, {r"load mmc .*": answer})
    assert "see whether boot.partition is the one that has" in raised.value.message
    assert raised.value.details[0] in answer
