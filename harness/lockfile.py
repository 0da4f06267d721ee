"""Files as locks. A flock is released by the kernel when the last descriptor of the open file is closed: when its
process has ended, however it died.

A flock belongs to a file, not to its name. A file that is removed while somebody waits for its lock is not the one that
others find there afterwards, so whoever gets a lock has to look whether it is the file's (`is_at`), and try again if it
is not."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from harness import shortage
from harness.errors import InfraError

_TRIES = 10


def is_at(file: int, path: Path) -> bool:
    """Return whether the open file `file` is the one at `path`."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))


def try_lock(file: int) -> bool:
    """Lock the open file `file` unless somebody else has; return whether it is ours."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locked_file(path: Path, *, wait: bool) -> int | None:
    """Open the file `path` (created if missing), lock it, and return its descriptor, which holds the lock. If somebody
    else has the lock: wait for it, or return None at once. Raises InfraError if the file is replaced all the time."""
    for _ in range(_TRIES):
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:
            raise shortage.forbidden(path) from None
        with contextlib.ExitStack() as unless_ours:
            unless_ours.callback(os.close, file)
            if wait:
                fcntl.flock(file, fcntl.LOCK_EX)
            elif not try_lock(file):
                return None
            if is_at(file, path):
                unless_ours.pop_all()
                return file
    raise InfraError(f"{path}: expected a lock file that stays, it was replaced {_TRIES} times; see what removes it")
