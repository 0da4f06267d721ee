"""A board that is ours: what a boot method gets, and what tells one machine from another."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.model.board import Access, BoardSpec, CommandConsole, NetworkConsole, SerialConsole
from harness.target.power import BoardPower

_BY_ID = Path("/dev/serial/by-id")


@dataclass(frozen=True, kw_only=True)
class HeldBoard:
    """A board that is ours, here and now.

    `access`: how it is reached, as its entry says or the place that was acquired. `descriptors`: files that keep it
    ours for as long as a process has them open; whoever sees to the board after our end inherits them. `is_guarded`:
    another process of ours sees to that."""

    spec: BoardSpec
    access: Access
    descriptors: tuple[int, ...] = ()
    is_guarded: bool = False

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def power(self) -> BoardPower:
        """What it takes to switch it, and to leave it as its users expect."""
        assert self.access.power
        return BoardPower(name=self.name, spec=self.access.power, restarts=self.spec.boot.has_own_system)

    def __getstate__(self) -> dict[str, object]:
        """For another process, where a number of ours would be another file's."""
        if self.descriptors:
            raise TypeError(f"{self.name}: its lease belongs to this process; see guard.guarded")
        return dict(self.__dict__)


def machine_of(board: BoardSpec) -> str:
    """What tells a board from every other one of this host, whatever boards.yaml calls it: where its console is."""
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
    """Of all the names of a serial device the one that it has again when it was plugged in anew."""
    real = os.path.realpath(device)
    links = sorted(_BY_ID.glob("*"))
    return next((str(link) for link in links if os.path.realpath(link) == real), real)
