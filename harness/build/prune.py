"""Keeps the cache within its limits: what nobody has used for long, and the least recently used of what is too much, is
removed, unless somebody uses it now. Workspaces have limits of their own (workspace.py)."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.build.cache import cache_dir, cache_root, try_locked
from harness.build.inuse import nobody_uses
from harness.build.seal import MANIFEST, maker_lock, manifest_of
from harness.errors import UserError
from harness.model.progress import Progress

SIZE_VARIABLE, AGE_VARIABLE = "HARNESS_CACHE_GB", "HARNESS_CACHE_DAYS"
_DEFAULT_GB, _DEFAULT_DAYS = 10.0, 60.0
_DAY_S = 86400.0
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's blocks are
GONE = ".gone-"
_FILES = {"rootfs": "root-*.ext4", "initramfs": "*.cpio.gz", "downloads": "**/linux-*.tar.*"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`size`: bytes of builds, root images, archives of them and downloads together; `age`: seconds since something was
    last used."""

    size: float
    age: float

    @property
    def too_old(self) -> str:
        """The reason for the removal of something that exceeds `age`."""
        return f"not used for {_days(self.age)} ({AGE_VARIABLE})"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something in the cache that is removed as a whole. `lock`: what its users lock (inuse.py); `size`: bytes on the
    disk; `used`: time of the last use."""

    path: Path
    lock: Path
    size: int
    used: float

    @property
    def name(self) -> str:
        return str(self.path.relative_to(cache_root()))


def limits_from_environment() -> Limits:
    """Read the limits; raises UserError."""
    size, age = _number(SIZE_VARIABLE, _DEFAULT_GB), _number(AGE_VARIABLE, _DEFAULT_DAYS)
    return Limits(size=size * 1e9, age=age * _DAY_S)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not value > 0:  # nan is not, either
        raise UserError(f"${variable}: expected a number above 0, found {text!r}")
    return value


def prune(limits: Limits, progress: Progress) -> None:
    """Remove what exceeds `limits`, the least recently used first, and say so."""
    clear_left_over(cache_dir("builds"))
    for entry, why in surplus(limits, remove):
        progress.say(f"cache: removed {entry.name} ({entry.size / 1e6:.0f} MB): {why}")


def surplus(limits: Limits, remove: Callable[[Entry], bool]) -> Iterator[tuple[Entry, str]]:
    """Have what exceeds `limits` removed by `remove`, the least recently used first; yield what was removed, with the
    reason."""
    kept = sorted(entries(), key=lambda entry: entry.used)
    total = sum(entry.size for entry in kept)
    for entry in kept:
        age = time.time() - entry.used
        if age > limits.age:
            why = limits.too_old
        elif total > limits.size:
            why = f"{total / 1e9:.1f} GB of such files are more than {limits.size / 1e9:g} ({SIZE_VARIABLE})"
        else:
            continue
        if remove(entry):
            total -= entry.size
            yield entry, why


def entries() -> Iterator[Entry]:
    """Yield what the limits apply to."""
    for path in _below("builds", "*"):
        if path.is_dir() and not path.name.startswith("."):
            yield from _entry(path, lock=path)
    for kind, pattern in _FILES.items():
        for path in _below(kind, pattern):
            if path.is_file() and not path.name.startswith(".") and not path.name.endswith((".lock", MANIFEST)):
                manifest = manifest_of(path)
                yield from _entry(path, lock=manifest if manifest.exists() else path)


def _below(kind: str, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted((cache_root() / kind).glob(pattern))
    return []


def _entry(path: Path, *, lock: Path) -> Iterator[Entry]:
    with contextlib.suppress(OSError):  # another process has removed it
        yield Entry(path=path, lock=lock, size=size_of(path), used=lock.stat().st_mtime)


def size_of(path: Path) -> int:
    """Return how many bytes a file, or everything below a directory, takes on the disk."""
    total = path.lstat().st_blocks * _BLOCK_BYTES
    for inner, names, files in os.walk(path):
        for name in (*names, *files):
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(inner, name)).st_blocks * _BLOCK_BYTES  # noqa: PTH118
    return total


def usage() -> list[str]:
    """Describe what the cache holds, a line for each kind, and the limits. Raises UserError for an invalid limit."""
    limits, found = limits_from_environment(), list(entries())
    lines = []
    for kind in ("builds", *_FILES):
        these = [entry for entry in found if entry.name.startswith(f"{kind}/")]
        used = sum(is_in_use(entry) for entry in these)
        lines.append(f"{kind}: {len(these)}, {_gb(sum(entry.size for entry in these))}, {used} in use")
    total = _gb(sum(entry.size for entry in found))
    lines.append(f"together: {total} of {limits.size / 1e9:g} GB ({SIZE_VARIABLE})")
    lines.append(f"removed at the end of a build: what was not used for {_days(limits.age)} ({AGE_VARIABLE})")
    workspaces = [path for path in _below("workspaces", "*") if path.is_dir() and not path.name.startswith(".")]
    return [
        *lines,
        f"workspaces: {len(workspaces)}, {_gb(sum(map(size_of, workspaces)))}, of which the last used ones are kept",
    ]


def _days(seconds: float) -> str:
    days = seconds / _DAY_S
    return f"{days:g} day{'' if days == 1 else 's'}"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def is_in_use(entry: Entry) -> bool:
    """Return whether somebody uses an entry, or makes it."""
    with nobody_uses(entry.lock) as is_free:
        return not is_free


def remove(entry: Entry) -> bool:
    """Remove an entry unless somebody uses it; return whether it was removed."""
    if entry.path.is_dir():
        return _remove_directory(entry.path)
    if not entry.path.exists():
        return False
    with try_locked(maker_lock(entry.path)) as nobody_makes_it:
        return nobody_makes_it and _remove_file(entry.path)


def _remove_directory(path: Path) -> bool:
    with nobody_uses(path) as is_free:
        if not is_free:
            return False
        try:
            gone = _renamed(path)
        except OSError:  # another user's
            return False
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _remove_file(path: Path) -> bool:
    """Remove a file whose `maker_lock` is ours."""
    manifest = manifest_of(path)
    with nobody_uses(manifest if manifest.exists() else path) as is_free:
        if not is_free:
            return False
        try:
            manifest.unlink(missing_ok=True)  # first: without it the file is none, wherever this is interrupted
            path.unlink()
            maker_lock(path).unlink()
        except OSError:  # another user's
            return False
    return True


def set_aside(directory: Path) -> None:
    """Remove a directory whose users' lock the caller holds; it is out of the way at once."""
    shutil.rmtree(_renamed(directory), ignore_errors=True)


def _renamed(directory: Path) -> Path:
    return directory.rename(directory.with_name(f"{GONE}{secrets.token_hex(8)}"))


def clear_left_over(directory: Path) -> None:
    """Remove what killed harnesses left: directories that were not finished, or not removed to the end."""
    for path in (*directory.glob(".*.partial"), *directory.glob(f"{GONE}*")):
        with nobody_uses(path) as is_free:
            if is_free:
                shutil.rmtree(path, ignore_errors=True)
