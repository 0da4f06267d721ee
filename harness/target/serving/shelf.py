"""Puts the files that a board loads into a directory that the lab's server serves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import Protocol

from harness import shortage
from harness.errors import InfraError
from harness.model.names import as_name
from harness.model.product import Digest
from harness.products import digest_of, rename_synced

KEEP_S = 14 * 86400.0
"""Seconds after which a file that no board has loaded is removed."""

_OURS = re.compile(r"[0-9a-f]{12}-.+|\.[0-9a-f]{12}-.+\.\d+\.partial")


class Shelf(Protocol):
    """A place from which a board can load files."""

    def offer(self, path: Path) -> str:
        """Offer the file `path` to the board; return the name under which the board finds it."""
        ...


class Directory:
    """The directory `harness` below `root`, which a server serves; `place`: its name in messages. Old files are
    removed."""

    def __init__(self, root: Path, *, place: str) -> None:
        self._directory = root / "harness"
        try:
            make_directory(self._directory)
        except OSError as error:
            raise InfraError(
                f"{place}: expected a directory to write to at {root}, can't make `harness` there: {error.strerror}"
            ) from None
        clear_old(self._directory)

    def offer(self, path: Path) -> str:
        return f"harness/{publish(path, self._directory)}"


def make_directory(path: Path) -> None:
    """Make the directory `path`, if it is missing, so that a server may read it whatever our umask."""
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        path.chmod(0o755)


def publish(path: Path, directory: Path) -> str:
    """Copy `path` into `directory` under a name made from its content, unless it is there already; return that name.
    What has the name but another content (a file cut short, somebody else's) is replaced."""
    digest = _digest_of(path)
    name = f"{digest.sha256[:12]}-{as_name(path.name)}"  # U-Boot's shell reads it
    if _has(directory / name, digest):
        with contextlib.suppress(OSError):  # another user's file, which is theirs to maintain
            os.utime(directory / name)  # so that `clear_old` keeps it
        return name
    partial = directory / f".{name}.{os.getpid()}.partial"
    try:
        shutil.copyfile(path, partial)
        partial.chmod(0o644)
        rename_synced(partial, directory / name)
    except OSError as error:
        if isinstance(error, PermissionError) and not os.access(directory, os.W_OK):
            owner = shortage.owner_of(directory)
            raise InfraError(
                f"{directory}: expected a directory that you may write to, it belongs to {owner}; "
                "make it writable for all who use it (a group, and mode 2775), or serve another directory"
            ) from None
        wrong = f"{directory / name}: expected the content of {path}, or that it can be written: {error.strerror}"
        needed = f"{shortage.told_size(digest.size)} for {path.name}"
        short = shortage.of(error, where=directory, needed=needed)
        raise short or InfraError(f"{wrong}; remove what has that name") from None
    finally:
        partial.unlink(missing_ok=True)
    if not _has(directory / name, digest):
        raise InfraError(
            f"{directory / name}: expected {digest.size} bytes with SHA-256 {digest.sha256}, which were just written "
            "there, found others; see its disk, and who else writes to this directory"
        )
    return name


def _digest_of(path: Path) -> Digest:
    try:
        return digest_of(path)
    except OSError as error:
        raise InfraError(f"{path}: expected a file for the board to load, can't read it: {error.strerror}") from None


def _has(path: Path, digest: Digest) -> bool:
    """Return whether there is a regular file with this content that a server may read."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        is_served = stat.S_ISREG(status.st_mode) and status.st_mode & 0o444 == 0o444
        return is_served and status.st_size == digest.size and digest_of(path) == digest
    return False


def clear_old(directory: Path) -> None:
    """Remove the files in `directory` that `publish` created and that nobody has used for KEEP_S; nothing else."""
    oldest = time.time() - KEEP_S
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            status = path.lstat()
            if _OURS.fullmatch(path.name) and stat.S_ISREG(status.st_mode) and status.st_mtime < oldest:
                path.unlink()
