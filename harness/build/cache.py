"""The cache of downloads, sources, workspaces, builds and root images, and the locks by which harnesses share it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from harness import shortage
from harness.build.inuse import hold
from harness.errors import InfraError
from harness.lockfile import locked_file, try_lock
from harness.products import sync

_CAN_NOT_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK)  # across, or by, some file systems


def cache_root() -> Path:
    """Return the cache directory below ``$XDG_CACHE_HOME``, created if missing."""
    path = platformdirs.user_cache_path("arm64-ftrace-harness", appauthor=False)
    _make(path)
    return path


def cache_dir(*parts: str) -> Path:
    """Return a directory below the cache root, created if missing."""
    path = cache_root().joinpath(*parts)
    _make(path)
    return path


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except PermissionError:
        raise shortage.forbidden(path) from None
    except OSError as error:
        wrong = f"{path}: expected a directory for the cache, can't make it: {error.strerror}"
        raise shortage.of(error, where=path) or InfraError(f"{wrong}; name another with XDG_CACHE_HOME") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (created if missing). Waits for another holder. The lock ends with the process, however
    that dies, because the kernel releases a flock with its last file descriptor."""
    _make(path.parent)
    file = locked_file(path, wait=True)
    assert file is not None
    try:
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Like `locked`, but without waiting: yields False if somebody else holds the lock."""
    _make(path.parent)
    file = locked_file(path, wait=False)
    try:
        yield file is not None
    finally:
        if file is not None:
            os.close(file)


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock file `path`, or may do so. Neither makes it nor waits for it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return True
    try:
        return not try_lock(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def scratch_dir(kind: str) -> Iterator[Path]:
    """Yield a new directory below the cache root that is removed afterwards; if the cache can't be written, one for
    temporary files. Directories of this `kind` that killed harnesses left behind are removed first."""
    try:
        parent = cache_dir(kind)
        is_writable = os.access(parent, os.W_OK)
    except InfraError:
        is_writable = False
    if not is_writable:
        with tempfile.TemporaryDirectory(prefix=f"harness-{kind}-") as directory:
            yield Path(directory)
        return
    path = parent / f"{os.getpid()}-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as until_done:
        with locked(_turn_of(kind)):  # or others would remove a lock file before it is locked
            _clear_scratch(parent)
            until_done.enter_context(locked(path.with_name(f"{path.name}.lock")))
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def named_in(directory: Path, path: Path) -> Path:
    """Give a file of the cache a second name in `directory`; return it. Its content then stays for as long as that
    name, although others may remove the first one."""
    other = directory / path.name
    try:
        os.link(path, other)
    except OSError as error:
        if error.errno not in _CAN_NOT_LINK:
            raise
        shutil.copyfile(path, other)
    return other


def _rename_unless_there(scratch: Path, final: Path) -> None:
    while not final.is_dir():
        try:
            scratch.rename(final)
        except OSError as error:
            # Somebody published the same between our look and the renaming, and a pruner may remove it before the next.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return


@contextlib.contextmanager
def published(final: Path, *, seal: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a scratch directory beside `final`; on success `seal` it and rename it to `final`, on failure remove it.

    So `final` is always complete if it exists, even after SIGKILL or a power cut. If somebody else published the same
    meanwhile, theirs is kept."""
    held = None
    while held is None:  # what removes left-overs may be faster than the lock
        scratch = final.with_name(f".{final.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
        scratch.mkdir(parents=True)
        held = hold(scratch)
    try:
        yield scratch
        seal(scratch)
        _rename_unless_there(scratch, final)
        with contextlib.suppress(OSError):  # it is complete in any case; a power cut may make it vanish as a whole
            sync(final.parent)
    finally:
        held.close()
        shutil.rmtree(scratch, ignore_errors=True)


_TURN = ".turn"


def _turn_of(kind: str) -> Path:
    return cache_root() / f".{kind}{_TURN}"


def scratch_kinds() -> list[str]:
    """Return the kinds of `scratch_dir` that there ever were here."""
    return sorted(path.name[1:].removesuffix(_TURN) for path in cache_root().glob(f".*{_TURN}"))


def clear_scratch(kind: str) -> None:
    """Remove the directories of a `kind` that killed harnesses left behind."""
    with locked(_turn_of(kind)):
        _clear_scratch(cache_dir(kind))


def _clear_scratch(parent: Path) -> None:
    for left in parent.glob("*.lock"):
        with try_locked(left) as is_free:
            if is_free:
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
