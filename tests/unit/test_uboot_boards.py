"""Boards as people report them: each is stopped at its prompt, loads a file, and starts a kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import InfraError
from harness.target.methods.uboot import Load, Uboot
from tests.unit.scripted_boards import Board, ScriptedBoard, described

BOARDS = list(described())
FILE = Load(name="harness/Image", size=1234, address="kernel_addr_r", key="boot.kernel_at", crc32=0x0BADCAFE)
MOST_KEYS = 200


def named(boards: list[Board]) -> list[object]:
    return [pytest.param(board, id=board.board) for board in boards]


@pytest.fixture
def far(request: pytest.FixtureRequest) -> Iterator[ScriptedBoard]:
    scripted = ScriptedBoard(request.param)
    yield scripted
    scripted.close()


def test_there_are_many_boards_and_none_is_described_twice() -> None:
    assert len({board.board for board in BOARDS}) == len(BOARDS) >= 30
    assert all(board.special for board in BOARDS)


@pytest.mark.parametrize("far", named([board for board in BOARDS if not board.refuses]), indirect=True)
def test_a_board_is_stopped_and_boots_what_it_is_told_to(far: ScriptedBoard, request: pytest.FixtureRequest) -> None:
    board: Board = request.node.callspec.params["far"]
    uboot = Uboot(far.console, board.spec, place="b")
    far.switch_on()
    uboot.stop()
    typed = len(far.typed)
    assert typed < MOST_KEYS
    assert "U-Boot 2023.01" in uboot.command("version")
    uboot.network()
    assert uboot.load(FILE) == "0x40400000"
    uboot.boot("1", "2:3", "4", arguments="console=ttyS0 " + "x" * 500)
    assert far.commands[-1] == "booti 1 2:3 4"
    assert not far.booted


@pytest.mark.parametrize("far", named([board for board in BOARDS if board.refuses]), indirect=True)
def test_a_board_that_cannot_be_stopped_says_why(far: ScriptedBoard, request: pytest.FixtureRequest) -> None:
    board: Board = request.node.callspec.params["far"]
    uboot = Uboot(far.console, board.spec, place="b")
    far.switch_on()
    with pytest.raises(InfraError, match=board.refuses):
        uboot.stop()
    assert len(far.typed) < MOST_KEYS
