"""Damages files of the cache, also so that only reading them shows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build import seal
from harness.build.checksum import stamp_of


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


HOW: dict[str, Callable[[Path], None]] = {
    "emptied": empty,
    "cut short": cut,
    "zeroed": zero,
    "changed by one bit": flip_a_bit,
    "removed": remove,
}


def unnoticed(damage: Callable[[Path], None], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage a file as a disk does it: size and times stay as they were."""
    before = path.stat()
    stamp, size = stamp_of(before), before.st_size
    damage(path)
    assert path.stat().st_size == size

    def stamped(file: Path | os.stat_result) -> list[int]:
        found = file.stat() if isinstance(file, Path) else file
        return stamp if found.st_ino == before.st_ino else stamp_of(found)

    monkeypatch.setattr(seal, "stamp_of", stamped)
