"""What a power cut leaves of a directory, without one: the operations on it are recorded, and done again up to any of
them, without the data that was not synced.

Simulated is what common file systems of Linux do (ext4 with delayed allocation, XFS, btrfs): directories change in
order, since they are journalled, and data that was not synced is not there: the file ends where it was last synced, or
it has its length with zeros in place of the data, or with a part of the data. Not simulated: data that is
written but not synced and reaches the disk in another order within one file, and disks that lie about a flush."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.faults.disk import Disk


class Left(StrEnum):
    """What is left of data that was not synced."""

    NOTHING = "nothing"
    ZEROS = "zeros"
    HALF = "half"


@dataclass
class _File:
    """A file: what it holds, and what of that is on the disk for sure."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""

    def after(self, left: Left) -> bytes:
        if bytes(self.content) == self.synced:
            return self.synced
        match left:
            case Left.NOTHING:
                return self.synced
            case Left.ZEROS:
                return self.synced + bytes(max(0, len(self.content) - len(self.synced)))
            case Left.HALF:
                return bytes(self.content[: (len(self.content) + len(self.synced)) // 2])


Operation = tuple[str, tuple[Path, ...], int, bytes]


class Journal(Disk):
    """A Disk that records what happens below `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.log: list[Operation] = []

    def wrote(self, path: Path, offset: int, data: bytes) -> None:
        self.log.append(("write", (path,), offset, data))

    def synced(self, path: Path) -> None:
        self.log.append(("sync", (path,), 0, b""))

    def changed(self, what: str, paths: tuple[Path, ...]) -> None:
        self.log.append((what, paths, 0, b""))

    def states(self, goal: Path) -> Iterator[tuple[int, Left, Path]]:
        """Yield, for a power cut after each operation, its number (from 0), what is left of unsynced data, and a
        directory with what is there then, which is `goal`."""
        for number in range(len(self.log) + 1):
            for left in Left:
                shutil.rmtree(goal, ignore_errors=True)
                goal.mkdir()
                self._restore(self.log[:number], left, goal)
                yield number, left, goal

    def _restore(self, log: list[Operation], left: Left, goal: Path) -> None:
        files, directories = _replayed(log)
        for path in directories:
            (goal / path.relative_to(self._root)).mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            copy = goal / path.relative_to(self._root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.after(left))


def _replayed(log: list[Operation]) -> tuple[dict[Path, _File], set[Path]]:
    files: dict[Path, _File] = {}
    directories: set[Path] = set()
    for what, paths, offset, data in log:
        first = paths[0]
        match what:
            case "create":
                files[first] = _File()
            case "write":
                content = files.setdefault(first, _File()).content
                content[offset : offset + len(data)] = data
            case "sync":
                if first in files:
                    files[first].synced = bytes(files[first].content)
            case "mkdir":
                directories.add(first)
            case "rename" | "replace":
                moved = {path: file for path, file in files.items() if path == first or path.is_relative_to(first)}
                for path, file in moved.items():
                    del files[path]
                    files[paths[1] / path.relative_to(first)] = file
            case "unlink" | "remove":
                files.pop(first, None)
            case "rmdir":
                directories.discard(first)
    return files, directories
