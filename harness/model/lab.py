"""What the plan's process and the workers of a lab tell each other. These values travel between machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.errors import InfraError


class Gone(InfraError):
    """A worker, or the connection to it, was lost before it answered, or it is about to go. It may still be doing what
    it was asked."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a worker offers. `harness`: its version; `testcases`: the hash of its testcases. `boards`: by name, whether
    the board is one machine that only this host may use (an emulated one, or one of a labgrid place, is not). `locks`:
    identifies the directory with the locks of its boards: workers with the same one can't use a board at once. `kept`:
    keys of cells that run there or have run, and that nobody has fetched. `kvm`: whether arm64 kernels run without
    emulation."""

    host: str
    harness: str
    testcases: str
    locks: str
    boards: Mapping[str, bool] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    cpus: int = 1
    architecture: str = ""
    kvm: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """A cell to run. `key`: identifies its results: asked for again, a cell that is done is not run again. `build`: the
    address of its build. `words`: options of ``harness run``; `expectations`: the texts of the files for it."""

    key: str
    build: str
    board: str
    words: tuple[str, ...]
    expectations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """An archive: how many bytes, and their SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """How the run of an order ended: its exit code and last line; `results`: the archive of its files. `was_ended`: it
    did not come to its own end, somebody asked it to."""

    code: int
    last_line: str
    results: Parcel
    was_ended: bool = False
