"""A disk that is full from the n-th operation on, without a disk: Python's own functions that change files fail."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_REAL_OPEN = io.open
_WRITES = set("wax+")


class Disk:
    """What happens below `root`. Operation number `fails_at` (from 1; 0: none) fails with `error`, and so do all later
    ones unless it `recovers`. A write that fails has written half of its data. `operations`: their names."""

    def __init__(self, root: Path, *, fails_at: int = 0, error: int = errno.ENOSPC, recovers: bool = False) -> None:
        self.operations: list[str] = []
        self._root = root.resolve()
        self._fails_at = fails_at
        self._error = error
        self._recovers = recovers

    def is_here(self, path: object) -> bool:
        return isinstance(path, str | os.PathLike) and Path(os.fspath(path)).absolute().is_relative_to(self._root)

    def fails(self, what: str) -> bool:
        """Count an operation; return whether it fails."""
        self.operations.append(what)
        number = len(self.operations)
        return number == self._fails_at or (not self._recovers and 0 < self._fails_at < number)

    def check(self, what: str, path: object = None) -> None:
        """Count an operation; raises OSError if it fails."""
        if self.fails(what):
            raise OSError(self._error, os.strerror(self._error), path)


class _Raw(io.FileIO):
    """A file on a Disk."""

    disk: Disk

    def write(self, data: Any) -> int:
        if self.disk.fails(f"write {Path(str(self.name)).name}"):
            half = memoryview(data)[: len(data) // 2]
            if half:
                super().write(half)
            raise OSError(self.disk._error, os.strerror(self.disk._error))
        return int(super().write(data) or 0)


def _open(disk: Disk, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
    """open(), for a file on `disk` that is opened to be written."""
    if not Path(file).exists():
        disk.check(f"create {Path(file).name}", os.fspath(file))
    raw = _Raw(file, mode.replace("b", "").replace("t", ""))
    raw.disk = disk
    if buffering == 0:
        return raw
    buffered = io.BufferedWriter(raw) if "+" not in mode else io.BufferedRandom(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **more)


def _checked(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, a function of paths, which fails where `disk` says so."""

    def change(*paths: Any, **more: Any) -> Any:
        if any(map(disk.is_here, paths)) and not (real.__name__ == "mkdir" and Path(paths[0]).exists()):
            disk.check(f"{real.__name__} {Path(str(paths[0])).name}", os.fspath(paths[0]))
        return real(*paths, **more)

    return change


@contextlib.contextmanager
def mounted(disk: Disk) -> Iterator[Disk]:
    """Let what this process does to files below the root of `disk` happen there."""

    def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        is_written = bool(_WRITES & set(mode)) and disk.is_here(file)
        return _open(disk, file, mode, *rest, **more) if is_written else _REAL_OPEN(file, mode, *rest, **more)

    def sync(file: int, real: Callable[[int], None] = os.fsync) -> None:
        if disk.is_here(Path(f"/proc/self/fd/{file}").readlink()):
            disk.check("sync")
        real(file)

    changes = [(owner, "open", opened) for owner in (io, builtins)]
    changes += [(os, name, _checked(disk, getattr(os, name))) for name in ("mkdir", "rename", "replace", "symlink")]
    with contextlib.ExitStack() as until_done:
        for owner, name, new in (*changes, (os, "fsync", sync)):
            until_done.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield disk
