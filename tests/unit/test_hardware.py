"""A board before it is booted: what can't work is told before the build."""

from __future__ import annotations

import pytest

from harness.errors import InfraError
from harness.model.board import Board, CommandConsole, CommandSwitch, Power, SerialConsole, UbootBoot
from harness.target.boot import boot_method

POWER = Power(switch=CommandSwitch(on=("true",), off=("true",)))


def board(console: CommandConsole | SerialConsole, *secrets: str) -> Board:
    return Board(name="b", boot=UbootBoot(tftp_root="/t"), console=console, power=POWER, secrets=secrets)


def check(board: Board) -> None:
    boot_method(board).check(board)


def test_a_console_command_that_works():
    check(board(CommandConsole(argv=("cat",))))


def test_a_console_command_that_is_not_installed():
    absent = CommandConsole(argv=("sh", "-c", "no-such-ipmitool -P swordfish sol activate"))
    with pytest.raises(
        InfraError, match=r"expected it to stay open, it ended at once.*no-such-ipmitool: not found"
    ) as told:
        check(board(absent, "swordfish"))
    assert "swordfish" not in told.value.message


def test_a_serial_device_that_is_not_there(tmp_path):
    with pytest.raises(InfraError, match=r"b\.console: expected a serial device at .*/ttyX, found none"):
        check(board(SerialConsole(device=str(tmp_path / "ttyX"))))
