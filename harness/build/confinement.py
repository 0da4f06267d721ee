"""How one program of a kernel tree is confined: what it is started through, its environment, and what it may leave."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.build.strays import UnusableOutput, is_real, refuse_strays
from harness.errors import BuildError, InfraError

_END_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """A sandbox around one program.

    `prefix`: the words before the program's own. `environment`: all the variables that it has. `writable`: the
    directories that it may write to, each below `root`, that the harness works on afterwards. `given`: all that it may
    write to. `owner`: the user that it runs as; None: ours, to whom everything belongs already. `is_expected`: which
    links out of a writable directory are no reason to refuse what it holds."""

    prefix: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    root: Path
    writable: tuple[Path, ...] = ()
    given: tuple[Path, ...] = ()
    owner: int | None = None
    is_expected: Callable[[Path], bool] = lambda link: False

    def prepare(self) -> None:
        """Make the directories that it may write to its user's. One that this user owns was given before, with all
        that is in it. Raises UnusableOutput if one is reached through a link, which would be given instead."""
        for directory in self.given:
            if directory.is_relative_to(self.root) and not is_real(directory, below=self.root):
                raise UnusableOutput(f"{directory}: expected a directory, found a link or a file in its place")
            if self.owner is not None and directory.lstat().st_uid != self.owner:
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
        them outside the sandbox, elsewhere, or would make it wait. Nothing of the sandbox runs any more."""
        for directory in self.writable:
            refuse_strays(directory, is_expected=self.is_expected)


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
    """Make `owner` the owner of `directory` and of everything in it, through no link. The directory itself comes last,
    so that it is done again if we are killed."""
    for _, directories, files, parent in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, owner, owner, dir_fd=parent, follow_symlinks=False)
    os.lchown(directory, owner, owner)
