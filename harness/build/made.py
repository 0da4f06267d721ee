"""Reads what the programs of a kernel tree made. They may leave anything under the name of a product: a pipe, or a file
of terabytes that takes no room on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.build.strays import UnusableOutput
from harness.errors import UserError
from harness.limits import BUILD_BYTES, SELFTEST_BYTES, Limit, open_regular

# What a program that leaves something else than a file brings about. Other errors are the host's.
_THEIRS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EACCES)


def read_made(path: Path, limit: Limit, *, follow: bool = False) -> bytes:
    """Return the content of a product. Raises UnusableOutput, a BuildError, if there is no regular file, or one above
    the limit. `follow`: go where a symbolic link leads."""
    with _blamed(path):
        return limit.read(path, follow=follow)


def read_selftest(path: Path) -> str:
    """Return the text of a selftest's script or source, with lines that end in LF. Raises UnusableOutput as `read_made`
    does."""
    text = read_made(path, SELFTEST_BYTES).decode(errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a product. Raises UnusableOutput if there is no regular file."""
    with _blamed(path), open_regular(path, follow=False) as file:
        return file.read(count)


def check_sizes(trees: Iterable[Path]) -> None:
    """Raise UnusableOutput if the files in `trees` (each a directory or a file) have more bytes than a build may have,
    or can't be copied. Whoever copies a file reads its holes, too, so they count."""
    total = 0
    for tree in trees:
        for path in (tree, *tree.rglob("*")):
            if not os.path.lexists(path):
                continue
            status = path.lstat()
            if stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise UnusableOutput(f"the kernel's build left {path}, which is neither a file nor a directory")
            total += status.st_size
            with _blamed(path):
                BUILD_BYTES.check(total, place=str(path))


@contextlib.contextmanager
def _blamed(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UnusableOutput(f"the kernel's build left too much: {error.message}") from None
    except OSError as error:
        if error.errno not in _THEIRS:
            raise
        raise UnusableOutput(f"{path}: expected what kbuild makes there, found: {error.strerror}") from None
