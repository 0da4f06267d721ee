"""Which boards of a pool run the tests of one run: those that are free and can be reached."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.boards.inventory import Inventory, read_inventory
from harness.boards.lease import acquire_pool
from harness.errors import InfraError, UserError
from harness.model.board import BoardSpec
from harness.target.holding import lock
from harness.target.holding.held import HeldBoard, machine_of
from tests.faults.catalogue import Blame, fault

ENTRY = """
  {name}:
    console: {{kind: tcp, host: 127.0.0.1, port: {port}}}
    power: {{kind: command, on: "true", off: "echo {name} >> {path}/off"}}
    boot: {{method: uboot, tftp_root: /t}}
    pool: "{pool}"
"""


class Lab:
    """A file of boards: a, b, c and d are equal; `single` has no pool, `virtual` is QEMU's. Consoles can be opened,
    until they are `closed`."""

    def __init__(self, path: Path, until_over: ExitStack) -> None:
        self.file = path / "boards.yaml"
        self.said: list[str] = []
        self._path = path
        text = "boards:\n  virtual: {boot: {method: qemu}}\n"
        self._listeners: dict[str, socket.socket] = {}
        for name in ("a", "b", "c", "d", "single"):
            listener = until_over.enter_context(socket.create_server(("127.0.0.1", 0)))
            self._listeners[name] = listener
            pool = "" if name == "single" else "equal"
            text += ENTRY.format(name=name, port=listener.getsockname()[1], path=path, pool=pool)
        self.file.write_text(text)

    def close(self, name: str) -> None:
        """Nobody listens at this console any more."""
        self._listeners[name].close()

    def board(self, name: str) -> BoardSpec:
        return self.inventory.board(name)

    @property
    def inventory(self) -> Inventory:
        return read_inventory(self.file)

    def together(self, wanted: int | None) -> list[HeldBoard]:
        """The boards that `-j wanted` gets with a, which then are given back."""
        board = self.board("a")
        peers = self.inventory.peers_of(board, wanted)
        with acquire_pool(board, peers, wanted=wanted, wait=None, say=self.said.append) as held:
            assert all(lock.holder_of(machine_of(each.spec)) for each in held)
        assert not any(lock.holder_of(machine_of(each.spec)) for each in held)
        return list(held)

    @property
    def switched(self) -> str:
        return (self._path / "off").read_text() if (self._path / "off").exists() else ""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("HARNESS_LOCKS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ExitStack() as until_over:
        yield Lab(tmp_path, until_over)


def _names(boards: list[HeldBoard]) -> list[str]:
    return [board.name for board in boards]


def _peers(lab: Lab, name: str, wanted: int | None) -> list[str]:
    return [entry.board.name for entry in lab.inventory.peers_of(lab.board(name), wanted)]


@pytest.mark.parametrize(("wanted", "names"), [(2, ["a", "b"]), (3, ["a", "b", "c"]), (None, ["a", "b", "c", "d"])])
def test_as_many_as_are_wanted(lab: Lab, wanted: int | None, names: list[str]) -> None:
    boards = lab.together(wanted)
    assert _names(boards) == names
    assert all(board.is_guarded for board in boards)
    assert (lab.said, lab.switched) == ([], "")


def test_the_one_that_is_named_comes_first(lab: Lab) -> None:
    assert _peers(lab, "c", 2) == ["a", "b", "d"]


def test_one_board_is_had_as_ever(lab: Lab) -> None:
    [board] = lab.together(1)
    assert not board.is_guarded


def test_more_than_there_are_is_said(lab: Lab) -> None:
    assert _names(lab.together(5)) == ["a", "b", "c", "d"]
    assert lab.said == ["-j: 4 of 5 boards: no other board of pool 'equal' is available"]


def test_what_is_in_use_or_not_to_be_reached_is_left_out_and_another_takes_its_place(lab: Lab) -> None:
    lab.close("c")
    taken = lab.board("b")
    with lock.acquired(taken.name, machine_of(taken), purpose="somebody's test"):
        assert _names(lab.together(2)) == ["a", "d"]
    in_use, unreachable = lab.said
    assert in_use.startswith("board b left out: b: in use by ")
    assert "somebody's test" in in_use
    assert unreachable.startswith("board c left out: c.console: expected a console server at 127.0.0.1:")


def test_where_all_others_are_left_out_the_one_that_is_named_is_alone(lab: Lab) -> None:
    for name in "bcd":
        lab.close(name)
    [board] = lab.together(None)
    assert not board.is_guarded
    assert len(lab.said) == 3


def test_the_one_that_is_named_has_to_be_had(lab: Lab) -> None:
    taken = lab.board("a")
    with lock.acquired(taken.name, machine_of(taken), purpose="somebody's test"), pytest.raises(lock.InUse):
        lab.together(2)


def test_a_board_whose_values_are_missing_is_left_out(lab: Lab) -> None:
    lab.file.write_text(lab.file.read_text().replace("echo b", "echo ${NOWHERE}"))
    assert _names(lab.together(2)) == ["a", "c"]
    assert lab.said == ["board b left out: power.off: expected the environment variable NOWHERE to be set, found none"]


@fault("Ctrl-C while a run has several boards", where="killed", blame=Blame.NOBODY, survives="all boards, off and free")
def test_a_run_that_breaks_off_leaves_all_of_them_off(lab: Lab) -> None:
    board = lab.board("a")

    def broken(error: type[BaseException]) -> None:
        peers = lab.inventory.peers_of(board, 2)
        with pytest.raises(error), acquire_pool(board, peers, wanted=2, wait=None, say=lab.said.append):
            raise error("over")

    broken(InfraError)
    assert lab.switched == ""
    broken(KeyboardInterrupt)
    assert sorted(lab.switched.split()) == ["a", "b"]


def test_a_board_without_a_pool_has_no_peers(lab: Lab) -> None:
    assert _peers(lab, "single", None) == _peers(lab, "single", 1) == []
    with pytest.raises(
        UserError, match=r"-j 2: expected a board that has equal ones, single has no `pool`; give equal"
    ):
        _peers(lab, "single", 2)


def test_qemus_machines_are_made_not_found(lab: Lab) -> None:
    assert _peers(lab, "virtual", 3) == []
