"""A disk that is full from the n-th operation on, without a disk: Python's own functions that change files fail."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_REAL_OPEN = io.open
_WRITES = set("wax+")
_OF_DIRECTORIES = ("mkdir", "rename", "replace", "symlink", "unlink", "remove", "rmdir")
_FREEING = ("unlink", "remove", "rmdir")  # a full disk does not refuse these


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

    def wrote(self, path: Path, offset: int, data: bytes) -> None:
        """`data` is in the file `path` now."""

    def synced(self, path: Path) -> None:
        """All of the file `path` is on the disk now."""

    def changed(self, what: str, paths: tuple[Path, ...]) -> None:
        """A function of os that changes directories (its name: `what`) has succeeded."""


class _Raw(io.FileIO):
    """A file on a Disk."""

    disk: Disk

    def write(self, data: Any) -> int:
        if self.disk.fails(f"write {Path(str(self.name)).name}"):
            half = memoryview(data)[: len(data) // 2]
            if half:
                super().write(half)
            raise OSError(self.disk._error, os.strerror(self.disk._error))
        at = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
        taken = int(super().write(data) or 0)
        self.disk.wrote(Path(str(self.name)), at, bytes(data[:taken]))
        return taken


def _open(disk: Disk, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
    """open(), for a file on `disk` that is opened to be written."""
    is_new = not Path(file).exists()
    if is_new:
        disk.check(f"create {Path(file).name}", os.fspath(file))
    raw = _Raw(file, mode.replace("b", "").replace("t", ""))
    raw.disk = disk
    if is_new or "w" in mode:
        disk.changed("create", (Path(file),))
    if buffering == 0:
        return raw
    buffered = io.BufferedWriter(raw) if "+" not in mode else io.BufferedRandom(raw)
    return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **more)


def _checked(disk: Disk, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, a function of paths, which fails where `disk` says so."""

    def change(*paths: Any, **more: Any) -> Any:
        is_here = any(map(disk.is_here, paths))
        needs_room = real.__name__ not in _FREEING and not (real.__name__ == "mkdir" and Path(paths[0]).exists())
        if is_here and needs_room:
            disk.check(f"{real.__name__} {Path(str(paths[0])).name}", os.fspath(paths[0]))
        done = real(*paths, **more)
        if is_here:
            disk.changed(real.__name__, tuple(Path(path) for path in paths if isinstance(path, str | os.PathLike)))
        return done

    return change


@contextlib.contextmanager
def mounted(disk: Disk) -> Iterator[Disk]:
    """Let what this process does to files below the root of `disk` happen there."""

    def opened(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        is_written = bool(_WRITES & set(mode)) and disk.is_here(file)
        return _open(disk, file, mode, *rest, **more) if is_written else _REAL_OPEN(file, mode, *rest, **more)

    def sync(file: int, real: Callable[[int], None] = os.fsync) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        if disk.is_here(path):
            disk.check("sync")
        real(file)
        disk.synced(path)

    def datasync(file: int, real: Callable[[int], None] = os.fdatasync) -> None:
        real(file)
        disk.synced(Path(f"/proc/self/fd/{file}").readlink())

    changes: list[tuple[Any, str, Any]] = [(owner, "open", opened) for owner in (io, builtins)]
    changes += [(os, name, _checked(disk, getattr(os, name))) for name in _OF_DIRECTORIES]
    changes += [(os, "fsync", sync), (os, "fdatasync", datasync)]
    changes.append((shutil, "_USE_CP_SENDFILE", False))  # otherwise it writes without Python's write
    with contextlib.ExitStack() as until_done:
        for owner, name, new in changes:
            until_done.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, new)
        yield disk
