"""A leased board, which boot methods get, and the identity of machines."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.model.board import Access, BoardSpec, CommandConsole, NetworkConsole, SerialConsole
from harness.target.power import BoardPower

_BY_ID = Path("/dev/serial/by-id")


@dataclass(frozen=True, kw_only=True)
class HeldBoard:
    """A board that this process has leased.

    `access`: how it is reached, from its entry or from the acquired labgrid place. `descriptors`: open files that hold
    the lease for as long as any process has them open; the guard inherits them. `is_guarded`: a guard of another
    process of ours takes care of the board."""

    spec: BoardSpec
    access: Access
    descriptors: tuple[int, ...] = ()
    is_guarded: bool = False

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def power(self) -> BoardPower:
        """How to switch the board, and the state in which its users expect it."""
        assert self.access.power
        return BoardPower(name=self.name, spec=self.access.power, restarts=self.spec.boot.has_own_system)

    def __getstate__(self) -> dict[str, object]:
        """Pickle for another process; descriptors are left out, because their numbers mean other files there."""
        if self.descriptors:
            raise TypeError(f"{self.name}: its lease belongs to this process; see guard.guarded")
        return dict(self.__dict__)


def machine_of(board: BoardSpec) -> str:
    """Return what identifies a board on this host, whatever name boards.yaml gives it: the location of its console."""
    if board.labgrid:
        return f"place {board.labgrid.coordinator.casefold()} {board.labgrid.place}"
    match board.access.console:
        case SerialConsole(device=device):
            return f"device {_lasting_name(device)}"
        case NetworkConsole(host=host, port=port):
            return f"port {host.casefold()}:{port}"
        case CommandConsole(argv=argv):
            return f"command {' '.join(argv)}"
        case _:
            return f"board {board.name}"


def _lasting_name(device: str) -> str:
    """Return that name of a serial device which stays the same when it is unplugged and plugged in again."""
    real = os.path.realpath(device)
    links = sorted(_BY_ID.glob("*"))
    return next((str(link) for link in links if os.path.realpath(link) == real), real)
