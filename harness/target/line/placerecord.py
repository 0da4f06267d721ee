"""Records by which the harnesses of one host know each other's places: labgrid can't tell the programs of one user
apart."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness import jsonfile
from harness.errors import InfraError
from harness.lockfile import locked_file

_READ_TRIES = 5  # of a file that may be in the middle of a write
_WRITTEN_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Whereabouts:
    """The address of a place's serial line; `host` is empty if it is unknown. `is_away`: it may change at any time,
    because the coordinator or an exporter is expected back."""

    host: str
    port: int
    is_away: bool


def whereabouts(path: Path) -> Whereabouts | None:
    """Return what the record at `path` says about the line; None if nothing."""
    for _ in range(_READ_TRIES):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = jsonfile.read_object(path)
            host, port = content["line"] or ("", 0)
            return Whereabouts(host=host, port=port, is_away=content["away"])
        time.sleep(_WRITTEN_S)
    return None


def when(seconds: float) -> str:
    """Format seconds since 1970 for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


class PlaceRecord:
    """A file that one harness on this host holds at a time and loses however it ends. It says when the place was
    acquired, so that a place which was never released is recognised. `told`: the name of the place in messages;
    `purpose`: what we use it for."""

    def __init__(self, path: Path, *, told: str, purpose: str) -> None:
        self._path, self._told, self._purpose = path, told, purpose
        self._file: IO[str] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file. Raises InfraError if another harness holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = locked_file(self._path, wait=False)
        if descriptor is None:
            with self._path.open() as file:
                raise InfraError(
                    f"{self._told}: expected it to be free, another harness on this host has it: {self._holder(file)}; "
                    "wait until that ends"
                )
        with os.fdopen(descriptor, "r+") as self._file:
            yield

    def _holder(self, file: IO[str]) -> str:
        found = self._content(file)
        since = f", since {when(found['since'])}" if "since" in found else ""
        return f"{found.get('purpose', 'one that is just starting')}{since}"

    @staticmethod
    def _content(file: IO[str]) -> dict[str, Any]:
        file.seek(0)
        try:
            return dict(json.load(file))
        except (ValueError, TypeError):  # empty, or half written when the host lost power
            return {}

    def _write(self, content: dict[str, Any]) -> None:
        assert self._file
        self._file.seek(0)
        self._file.truncate()
        json.dump(content, self._file)
        self._file.flush()

    @property
    def changed(self) -> float | None:
        """The coordinator's time of our last acquisition, if the place was not released since."""
        assert self._file
        return self._content(self._file).get("changed")

    def acquired(self, changed: float, *, line: tuple[str, int] | None) -> None:
        """Record that the place is ours since the coordinator's time `changed`, and that its serial line is at `line`,
        if known."""
        self._write(
            {"changed": changed, "since": time.time(), "purpose": self._purpose, "line": line, "away": not line}
        )

    def lost_sight(self) -> None:
        """Record that the line's location is unknown until the place is `acquired` again."""
        assert self._file
        self._write({**self._content(self._file), "away": True})

    def released(self) -> None:
        self._write({})
