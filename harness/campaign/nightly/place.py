"""The files of a plan's nights.

    boards.json                which boards failed, and which are in quarantine
    nights/ID/night.json       the night; complete when it is finished
    nights/ID/cells/SLOT/      a cell that is done: cell.json, and run/ as `harness run` leaves it
    nights/ID/attempts/SLOT.N/ a cell that is not done, or not yet; it becomes cells/SLOT by one rename

So whatever is in cells/ is whole, however the night was killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.checksum import write_atomically
from harness.errors import InfraError, UserError
from harness.lockfile import locked_file
from harness.model.night import BoardHealth, Cell, Ended, Night, Slot
from harness.parse.night_records import (
    ended_from_json,
    ended_to_json,
    health_from_json,
    health_to_json,
    night_from_json,
    night_to_json,
)
from harness.products import rename_synced, sync

CELL, NIGHT, BOARDS, ASKED, RUN = "cell.json", "night.json", "boards.json", "asked", "run"
_REMEMBERED = 60  # nights


@dataclass(frozen=True)
class Place:
    """The directory of a plan's nights."""

    root: Path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other nights of this directory away. Raises InfraError if there is one."""
        with _usable(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            file = locked_file(self.root / ".lock", wait=False)
        if file is None:
            raise InfraError(f"{self.root}: a night of this plan is going on in another process; wait for its end")
        try:
            yield
        finally:
            os.close(file)

    def nights(self) -> tuple[Night, ...]:
        """The latest nights on record, the latest first."""
        found = sorted((path for path in (self.root / "nights").glob("*/" + NIGHT)), reverse=True)[:_REMEMBERED]
        read = (_read_night(path) for path in found)
        return tuple(night for night in read if night)

    def begin(self, night: Night) -> NightPlace:
        """Make the directory of a new night."""
        place = self.of(night)
        with _usable(self.root):
            place.directory.mkdir(parents=True, exist_ok=True)
            place.write(night)
        return place

    def of(self, night: Night) -> NightPlace:
        return NightPlace(self.root / "nights" / night.id)

    def health(self) -> dict[str, BoardHealth]:
        """What is known of boards; nothing of those that never failed."""
        with contextlib.suppress(OSError, ValueError):
            return health_from_json(jsonfile.read_bytes(self.root / BOARDS))
        return {}

    def keep_health(self, boards: Mapping[str, BoardHealth]) -> None:
        with _usable(self.root):
            write_atomically(self.root / BOARDS, health_to_json(boards))


def new_id(now: float, there: tuple[Night, ...]) -> str:
    """Return an id for a night that begins now, behind all others; numbers follow one of a time that is to come."""
    name = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    last = max((night.id for night in there), default="")
    if name > last:
        return name
    first, _, number = last.partition("+")
    return f"{first}+{int(number) + 1 if number.isdecimal() else 1:05}"


@dataclass(frozen=True)
class NightPlace:
    """The directory of one night."""

    directory: Path

    def cell(self, slot: Slot) -> Path:
        return self.directory / "cells" / slot.directory

    def done(self) -> dict[Slot, Ended]:
        """What is done."""
        found = {}
        for path in sorted((self.directory / "cells").glob(f"*/{CELL}")):
            ended = read_ended(path)
            if ended and ended.slot.directory == path.parent.name:
                found[ended.slot] = ended
        return found

    def attempt(self, cell: Cell) -> Path:
        """Make a directory for another attempt at a cell."""
        with _usable(self.directory):
            path = self._numbered(cell.slot)
            write_atomically(path / ASKED, cell.identity)
        return path

    def _numbered(self, slot: Slot) -> Path:
        """Make an empty directory for an attempt."""
        number = 1
        while True:
            path = self.directory / "attempts" / f"{slot.directory}.{number}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                number += 1
            else:
                return path

    def attempts(self) -> dict[str, list[tuple[Path, str]]]:
        """The attempts that are there, by the names of their slots' directories: of each slot the latest first, each
        with the identity of what was asked for."""
        found: dict[str, list[tuple[Path, str]]] = {}
        numbered = [path for path in (self.directory / "attempts").glob("*.*") if path.suffix[1:].isdecimal()]
        for path in sorted(numbered, key=lambda path: int(path.suffix[1:]), reverse=True):
            with contextlib.suppress(OSError, ValueError):
                found.setdefault(path.stem, []).append((path, jsonfile.read_bytes(path / ASKED).decode()))
        return found

    def publish(self, attempt: Path, ended: Ended) -> Path:
        """Make an attempt the cell's result, whole or not at all."""
        final = self.cell(ended.slot)
        with _usable(self.directory):
            partial = attempt / f".{CELL}.partial"
            partial.write_text(ended_to_json(ended))
            rename_synced(partial, attempt / CELL)
            final.parent.mkdir(exist_ok=True)
            if final.exists():  # its record was damaged later, or the plan asked for something else then
                final.rename(self._numbered(ended.slot))
            attempt.rename(final)
            sync(final.parent)
        return final

    def write(self, night: Night) -> None:
        with _usable(self.directory):
            partial = self.directory / f".{NIGHT}.{os.getpid()}.partial"
            partial.write_text(night_to_json(night))
            rename_synced(partial, self.directory / NIGHT)

    def document(self, name: str, text: str) -> Path:
        """Write a document beside the cells."""
        path = self.directory / name
        with _usable(self.directory):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, text)
        return path


def read_ended(path: Path) -> Ended | None:
    """Return what became of a cell, from the file `path`; None if there is none."""
    try:
        return ended_from_json(jsonfile.read_bytes(path))
    except (OSError, ValueError):
        return None


def _read_night(path: Path) -> Night | None:
    try:
        night = night_from_json(jsonfile.read_bytes(path))
    except (OSError, ValueError):
        return None
    return night if night.id == path.parent.name else None


@contextlib.contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = "every cell that is done; the same command goes on from there"
        short = shortage.of(error, where=directory, kept=kept)
        raise short or UserError(f"{directory}: expected a directory to write to, found: {error.strerror}") from error
