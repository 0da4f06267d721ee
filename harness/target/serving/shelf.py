"""What a board loads, laid down in the directory of a server that is the lab's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Protocol

from harness.errors import InfraError

KEEP_S = 14 * 86400.0
"""What no board has loaded for so long is removed."""

_OURS = re.compile(r"[0-9a-f]{12}-.+|\.[0-9a-f]{12}-.+\.\d+\.partial")


class Shelf(Protocol):
    """Where a board finds what it loads."""

    def offer(self, path: Path) -> str:
        """Have the board find the file `path`; the name under which it does."""
        ...


class Directory:
    """`harness` below `root`, which a server serves; `place` is what messages call that. Old files are removed."""

    def __init__(self, root: Path, *, place: str) -> None:
        self._directory = root / "harness"
        try:
            self._directory.mkdir(exist_ok=True)
        except OSError as error:
            raise InfraError(
                f"{place}: expected a directory to write to at {root}, can't make `harness` there: {error.strerror}"
            ) from None
        clear_old(self._directory)

    def offer(self, path: Path) -> str:
        return f"harness/{publish(path, self._directory)}"


def publish(path: Path, directory: Path) -> str:
    """Copy `path` into `directory` under a name that says which file it is, unless it is there; the name."""
    status = path.stat()
    told = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    name = f"{hashlib.sha256(told.encode()).hexdigest()[:12]}-{path.name}"
    if (directory / name).exists():
        with contextlib.suppress(OSError):  # somebody else's; he sees to it
            os.utime(directory / name)  # `clear_old` sees that this one is used
        return name
    partial = directory / f".{name}.{os.getpid()}.partial"
    try:
        shutil.copyfile(path, partial)
        partial.chmod(0o644)
        partial.rename(directory / name)
    except OSError as error:
        raise InfraError(f"{directory}: can't write {name}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return name


def clear_old(directory: Path) -> None:
    """Remove what `publish` left in `directory` and nobody has used for KEEP_S; nothing else, whatever it is."""
    oldest = time.time() - KEEP_S
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            status = path.lstat()
            if _OURS.fullmatch(path.name) and stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                path.unlink()
