"""What a build may leave for programs outside its sandbox to meet: files, directories, and links that stay among them.

A link is judged by the directory that is used, or copied, as a whole. Whatever stays in that leads to the same place
wherever a copy of it lies; a link that leads elsewhere in the workspace would not."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.build.treelinks import link_target, stays_inside
from harness.errors import BuildError

_MOST_NESTED = 64  # directories in one another; kernel trees have a third of that
_CANT_BE_READ = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP)


class UnusableOutput(BuildError):
    """What a build left can't be used, or must not be met by programs outside its sandbox; its workspace is thrown
    away."""


def _never(link: Path) -> bool:
    return False


def strays(directory: Path, *, is_expected: Callable[[Path], bool] = _never) -> Iterator[tuple[Path, str]]:
    """Yield each file below `directory` that nobody outside the sandbox should meet, and what it is: links that lead
    out of `directory`, devices, pipes and sockets, set-id files, and what can't be read. `is_expected`: asked about
    links that lead out. Follows no link, not even if `directory` is one."""
    top = os.fspath(directory)
    if not stat.S_ISDIR(directory.lstat().st_mode):
        yield directory, "which is no directory"
        return
    pending = [(top, 0)]
    while pending:
        at, depth = pending.pop()
        try:
            with os.scandir(at) as entries:
                for entry in entries:
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if why := _stray(directory, entry.path, mode, depth, is_expected):
                        yield Path(entry.path), why
                    elif stat.S_ISDIR(mode):
                        pending.append((entry.path, depth + 1))
        except FileNotFoundError:  # removed meanwhile, from a directory that others use as well
            continue
        except OSError as error:
            if error.errno not in _CANT_BE_READ:
                raise
            yield Path(at), f"which can't be read: {error.strerror}"


def refuse_strays(directory: Path, *, is_expected: Callable[[Path], bool] = _never) -> None:
    """Raise UnusableOutput if `directory`, which a build has written, holds strays."""
    for path, why in strays(directory, is_expected=is_expected):
        raise UnusableOutput(
            f"the kernel's build left {os.fsencode(path).decode(errors='replace')}, {why}; such a file can only be "
            "meant for programs outside the build's sandbox: look at the patches before you build them again"
        )


def is_real(directory: Path, *, below: Path) -> bool:
    """Return whether `directory` is one, and is reached from `below` through directories alone, not through links."""
    at = below
    for part in directory.relative_to(below).parts:
        at /= part
        try:
            if not stat.S_ISDIR(at.lstat().st_mode):
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def make_real(directory: Path, *, below: Path) -> None:
    """Create `directory` and its parents as far as they are missing. Raises UnusableOutput if a build has put something
    else on the way there from `below`, such as a link."""
    at = below
    for part in directory.relative_to(below).parts:
        at /= part
        try:
            at.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(at.lstat().st_mode):
                raise UnusableOutput(
                    f"{at}: expected a directory, which kbuild makes there, found something else; look at the patches "
                    "before you build them again"
                ) from None


def _stray(top: Path, path: str, mode: int, depth: int, is_expected: Callable[[Path], bool]) -> str:
    if stat.S_ISLNK(mode):
        name = os.path.relpath(path, top)
        target = link_target(top, name)
        if target is None or stays_inside(name, target, functools.partial(link_target, top)):
            return ""
        return "" if is_expected(Path(path)) else f"a symbolic link that leads out of {top.name}"
    if stat.S_ISDIR(mode):
        if depth >= _MOST_NESTED:
            return "a directory in more than anybody nests"
        return "" if mode & stat.S_IRUSR and mode & stat.S_IXUSR else "a directory that its owner may not read"
    if not stat.S_ISREG(mode):
        return "which is neither a file nor a directory"
    if mode & (stat.S_ISUID | stat.S_ISGID):
        return "a set-user-ID or set-group-ID file"
    return "" if mode & stat.S_IRUSR else "a file that its owner may not read"
