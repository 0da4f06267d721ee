"""How one program of a kernel tree is confined: what it is started through, its environment, and what it may leave."""

from __future__ import annotations

import contextlib
import os
import selectors
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BuildError, InfraError

_END_S = 30.0


class UnusableOutput(BuildError):
    """What a build left can't be used, or must not be met by programs outside its sandbox; its workspace is thrown
    away."""


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """A sandbox around one program.

    `prefix`: the words before the program's own. `environment`: all the variables that it has. `writable`: the
    directories that it may write to, each below `root`, that the harness works on afterwards. `given`: all that it may
    write to. `owner`: the user that it runs as; None: ours, to whom everything belongs already."""

    prefix: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path
    writable: tuple[Path, ...] = ()
    given: tuple[Path, ...] = ()
    owner: int | None = None

    def prepare(self) -> None:
        """Make the directories that it may write to its user's. One that this user owns was given before, with all
        that is in it."""
        for directory in self.given:
            if self.owner is not None and directory.stat().st_uid != self.owner:
                give(directory, self.owner)

    @contextlib.contextmanager
    def lifeline(self) -> Iterator[tuple[int, ...]]:
        """Yield descriptors for the program to inherit; when the block is left, wait until nobody holds them any more.
        The first process in the sandbox keeps them, and it ends last: after this, everything in the sandbox has
        ended. The program that made the sandbox may end a moment earlier."""
        ours, theirs = os.pipe()
        try:
            try:
                yield (theirs,)
            finally:
                os.close(theirs)
                with selectors.DefaultSelector() as ready:
                    ready.register(ours, selectors.EVENT_READ)
                    ended = ready.select(_END_S)
            if not ended:
                raise InfraError(f"the sandbox's processes did not end within {_END_S:.0f} s after it was closed")
        finally:
            os.close(ours)

    def verify(self) -> None:
        """Raise UnusableOutput if the writable directories hold something that would lead the harness, which works on
        them outside the sandbox, out of `root`, or would make it wait. Nothing of the sandbox runs any more."""
        for directory in self.writable:
            for path, why in strays(directory, root=self.root):
                raise UnusableOutput(
                    f"the kernel's build left {path}, {why}; such a file can only be meant for programs outside the "
                    "build's sandbox: look at the patches before you build them again"
                )


def refused(lines: Iterable[str]) -> BuildError | None:
    """Return the exception for a confined program that failed with these `lines` because it wrote where it may not;
    None if they say nothing of that."""
    for line in lines:
        if line.rstrip(" .'").endswith("Read-only file system"):
            return BuildError(
                "the kernel's build writes outside the directories that a build may write to; if you trust this source "
                "and its patches like your own programs, build it with --no-sandbox",
                details=[line],
            )
    return None


def give(directory: Path, owner: int) -> None:
    """Make `owner` the owner of `directory` and of everything in it. The directory itself comes last, so that it is
    done again if we are killed."""
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.lchown(os.path.join(parent, name), owner, owner)  # noqa: PTH118 - ten thousand files
    os.lchown(directory, owner, owner)


def strays(directory: Path, *, root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file below `directory` that nobody outside the sandbox should meet, and what it is: links that lead
    out of `root`, devices, pipes and sockets, set-id files."""
    inside = root.resolve()
    pending = [os.fspath(directory)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    pending.append(entry.path)
                elif why := _stray(entry.path, mode, inside):
                    yield Path(entry.path), why


def _stray(path: str, mode: int, inside: Path) -> str:
    if stat.S_ISLNK(mode):
        try:
            leads_out = not Path(path).resolve().is_relative_to(inside)
        except (OSError, RuntimeError):  # a circle of links
            leads_out = True
        return "a symbolic link that leads out of the build's directory" if leads_out else ""
    if not stat.S_ISREG(mode):
        return "which is neither a file nor a directory"
    return "a set-user-ID or set-group-ID file" if mode & (stat.S_ISUID | stat.S_ISGID) else ""
