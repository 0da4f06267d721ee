"""Who uses what in the cache. A user holds a shared lock on an entry, and what removes entries takes an exclusive one,
without waiting. The lock is a flock on the entry itself, or on its manifest: it needs no file of its own, so it works
in a read-only directory too, and the kernel releases it however its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from harness.errors import InfraError

_WAIT_S = 10.0  # for somebody who removes an entry, which takes one rename
_POLL_S = 0.02
# File systems of other machines may refuse to lock. Nobody can tell then who uses what there, but it can be used.
_CAN_NOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF)


class Hold:
    """Keeps an entry of the cache from being removed, as long as this object and its process exist."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of it. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a lock can't be passed to another process, which has to take its own")


def hold(path: Path) -> Hold | None:
    """Return a hold on the entry that is locked by `path` (a directory, or a manifest beside a file); None if there is
    none, or if it has just been removed. Raises InfraError if somebody keeps it locked."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:  # what it holds may be readable all the same
            return Hold(-1)
        except OSError as error:
            raise InfraError(f"{path}: can't be opened: {error.strerror}") from None
        held = Hold(descriptor)
        if _lock(descriptor, fcntl.LOCK_SH):
            return held if _is_still(path, descriptor) else None
        held.close()
        if time.monotonic() > deadline:
            raise InfraError(f"{path}: another process has kept it locked for {_WAIT_S:.0f} s, so it can't be used")
        time.sleep(_POLL_S)


@contextlib.contextmanager
def nobody_uses(path: Path) -> Iterator[bool]:
    """Yield whether nobody holds the entry that is locked by `path`; if so, nobody can begin to use it before the end
    of the block, and who tries to finds it gone if it was renamed or removed by then."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # gone by now, or not ours
        yield False
        return
    try:
        yield _lock(descriptor, fcntl.LOCK_EX) and _is_still(path, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _CAN_NOT_LOCK:
            raise
        # in doubt everything is in use, and nothing is removed
        return kind == fcntl.LOCK_SH
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether `path` is the file that was locked: it may have been removed between opening and locking it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
