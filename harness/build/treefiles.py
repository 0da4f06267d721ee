"""Reads, replaces and removes single files and symbolic links of a source tree, never through a symbolic link."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfraError, UserError
from harness.limits import RESULT_BYTES

ABSENT = "absent"
_LINK = "link:"


@dataclass(frozen=True, kw_only=True)
class TreeFile:
    """Content and permission bits; the content of a symbolic link (`is_link`) is where it leads."""

    content: bytes
    mode: int = 0o777
    is_link: bool = False

    @property
    def target(self) -> str:
        """The target of a symbolic link."""
        return self.content.decode("utf-8", "surrogateescape")


def digest(file: TreeFile | None) -> str:
    """Return a checksum that distinguishes versions of a file, ignoring its mode."""
    if file is None:
        return ABSENT
    return (_LINK if file.is_link else "") + hashlib.sha256(file.content).hexdigest()


def is_directory(path: Path) -> bool:
    """Whether `path` is a directory itself, rather than a symbolic link to one."""
    return path.is_dir() and not path.is_symlink()


def read(tree: Path, path: str) -> TreeFile | None:
    """The file or symbolic link at `path` below `tree`; None where there is none, where a directory is, and where the
    way there leads through a symbolic link. UserError for what is neither (a device, a pipe), or too large."""
    if link_before(tree / path, top=tree):
        return None
    try:
        status = (tree / path).lstat()
        if stat.S_ISLNK(status.st_mode):
            # As it stands there: Path.readlink would make one of "./a" and "a".
            return TreeFile(content=os.readlink(os.fsencode(tree / path)), is_link=True)  # noqa: PTH115
        if stat.S_ISREG(status.st_mode):
            return TreeFile(content=RESULT_BYTES.read(tree / path, follow=False), mode=stat.S_IMODE(status.st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    raise UserError(f"{tree / path}: expected a file, found something else (mode {status.st_mode:o})")


def link_before(path: Path, *, top: Path) -> Path | None:
    """The first symbolic link on the way from the directory `top` to `path`, which may be one itself."""
    ways = [parent for parent in path.parents if parent != top and parent.is_relative_to(top)]
    return next((parent for parent in reversed(ways) if parent.is_symlink()), None)


def write(path: Path, file: TreeFile, *, top: Path, scratch: Path) -> None:
    """Replace `path`, below the directory `top`, as a whole; never writes into the old file, which may have other
    names elsewhere. Directories there that hold no files are removed.

    `scratch`: where the new file is written before it is moved to its place. It is on the same file system but not in
    the tree, where any name may be a file's. What a killed call leaves there the next one removes.

    Not synced: what a power cut damages has the wrong checksum, and is refused by the next call.
    """
    if link := link_before(path, top=top):
        raise InfraError(f"{path}: expected plain directories on the way, found the symbolic link {link}")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch.unlink(missing_ok=True)  # it might be a link
    if file.is_link:
        scratch.symlink_to(file.target)
    else:
        scratch.write_bytes(file.content)
        scratch.chmod(file.mode)
    if is_directory(path):
        for place, _, _ in os.walk(path, topdown=False):
            Path(place).rmdir()
    scratch.replace(path)


def remove(path: Path, *, top: Path) -> None:
    """Remove a file or symbolic link, and the directories below `top` that this leaves empty; nothing where the way
    leads through a symbolic link."""
    if link_before(path, top=top):
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    for parent in path.parents:
        if parent == top or (parent.is_dir() and any(parent.iterdir())):
            return
        if parent.is_dir():
            parent.rmdir()
