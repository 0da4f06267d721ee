"""Boards that are held: what keeps them ours, what travels to other processes, and how often boards.yaml is read."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import pytest

from harness.boards import inventory
from harness.boards.lease import acquire, user_of
from harness.cli.main import cli
from harness.model.board import BoardEntry, BoardSpec, CommandConsole, CommandSwitch, Login, Power, Ssh
from harness.model.boot import KexecBoot, QemuBoot
from harness.parse.boards import Lookup, parse_boards
from harness.target.base import silent
from harness.target.holding.guard import Guard
from tests.boards import held, spec

POWER = Power(switch=CommandSwitch(on=("true",), off=("true",)))


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def _board(**keys: Any) -> BoardSpec:
    return spec(console=CommandConsole(argv=("cat",)), power=POWER, **keys)


def test_a_held_board_is_reached_as_its_entry_says_and_has_the_locks_descriptor(locks: Path) -> None:
    board = _board()
    with acquire(board, wait=None, say=silent) as ours:
        descriptor, _claim = ours.descriptors
        [lock] = locks.glob("*.lock")
        assert os.path.samestat(os.fstat(descriptor), lock.stat())
        assert (ours.spec, ours.access, ours.is_guarded) == (board, board.access, False)
        assert f"process {os.getpid()}: harness" in user_of(BoardEntry(board=board))
    assert user_of(BoardEntry(board=board)) == ""


def test_nobody_else_can_have_a_machine_that_is_started_for_a_run(locks: Path) -> None:
    with acquire(spec(boot=QemuBoot()), wait=None, say=silent) as ours:
        assert ours.descriptors == ()
    assert not locks.exists()


def test_a_board_whose_entry_does_not_tell_its_console_is_used_by_nobody_known(locks: Path) -> None:
    board = _board()
    with acquire(board, wait=None, say=silent):
        assert user_of(BoardEntry(board=board, unset=("console.run: ${X} has no value",))) == ""


def test_a_lease_does_not_travel_to_another_process() -> None:
    board = held(_board())
    assert pickle.loads(pickle.dumps(board)) == board
    with pytest.raises(TypeError, match="b: its lease belongs to this process"):
        pickle.dumps(replace(board, descriptors=(3,)))


class Watched(Guard):
    """A guard that keeps what its process is told."""

    told: bytes = b""

    def _send(self, data: bytes) -> None:
        self.told += data
        super()._send(data)


def test_a_guard_is_told_how_to_switch_the_board_and_nothing_else() -> None:
    ssh = Ssh(host="s", login=Login(password="swordfish"))
    board = held(_board(boot=KexecBoot(), ssh=ssh, secrets=("swordfish",), cmdline="quiet"))
    guard = Watched(board)
    guard.release()
    assert pickle.loads(guard.told) == board.power
    assert board.power.restarts
    for other in (b"swordfish", b"quiet", b"cat"):
        assert other not in guard.told


def test_a_board_without_a_system_of_its_own_is_left_off() -> None:
    assert not held(_board()).power.restarts


POOL = """
defaults:
  cat:
    console: {kind: command, run: cat}
    power: {kind: command, on: "true", off: "true"}
    boot: {method: uboot, tftp_root: .}
    pool: equal
boards:
  a: {like: cat, console: {run: [cat, -u]}}
  b: {like: cat, console: {run: [cat, -v]}}
"""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files are parsed."""
    found: list[str] = []

    def counted(text: str, *, place: str, lookup: Lookup) -> dict[str, BoardEntry]:
        found.append(place)
        return parse_boards(text, place=place, lookup=lookup)

    monkeypatch.setattr(inventory, "parse_boards", counted)
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["boards"],
        ["boards", "check", "a"],
        ["boot", "--board", "a", "--build", "nowhere", "--", "true"],
        ["run", "--board", "a", "--build", "nowhere", "-j", "2"],
    ],
    ids=" ".join,
)
def test_boards_yaml_is_read_once_for_a_command(
    words: list[str], parsed: list[str], locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.yaml").write_text(POOL)
    monkeypatch.setenv("HARNESS_BOARDS", str(tmp_path / "b.yaml"))
    click.testing.CliRunner().invoke(cli, words)
    assert parsed == ["b.yaml"]


def test_the_same_machine_has_one_user_whatever_it_is_called(locks: Path) -> None:
    with acquire(_board(), wait=None, say=silent):
        other = replace(_board(), name="another")
        assert "harness" in user_of(BoardEntry(board=other))
