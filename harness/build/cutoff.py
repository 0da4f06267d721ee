"""Recognizes a directory that was being written when the host went down: a power cut may leave files there that are
empty or full of zeros, with times that make them look finished.

While the directory is written, a marker in it names this boot of the host. It is removed when everything is on the
disk. A killed process is no reason for doubt, because what it wrote is in the host's memory, and comes to the disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness import shortage
from harness.build import command
from harness.errors import InfraError
from harness.products import sync

_MARKER = "not-on-disk"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SYNC = ("sync", "--file-system")
_SYNC_LIMIT_S = 1800.0


def was_cut_off(directory: Path) -> bool:
    """Return whether the directory was being written when the host went down."""
    try:
        return (directory / _MARKER).read_text() != _this_boot()
    except FileNotFoundError:
        return False


def _this_boot() -> str:
    """Return what names this boot; the same for all boots in a container that hides it."""
    try:
        return _BOOT.read_text()
    except OSError:
        return ""


def mark(directory: Path) -> None:
    """Mark `directory` as being written. Raises InfraError if it can't be."""
    marker = directory / _MARKER
    try:
        marker.write_text(_this_boot())
        sync(marker)
        sync(directory)
    except OSError as error:
        wrong = InfraError(f"{marker}: can't be written: {error.strerror}")
        raise shortage.of(error, where=directory) or wrong from error


@contextlib.contextmanager
def synced_after(directory: Path) -> Iterator[None]:
    """After the block, wait until all that was written to the marked `directory` is on the disk."""
    try:
        yield
    except KeyboardInterrupt:  # who interrupts does not want to wait; the mark stays until the next build has ended
        raise
    except BaseException:
        _settle(directory)
        raise
    _settle(directory)


def _settle(directory: Path) -> None:
    if command.run([*_SYNC, directory], timeout=_SYNC_LIMIT_S).status == 0:
        with contextlib.suppress(OSError):  # then the next build removes it
            (directory / _MARKER).unlink(missing_ok=True)
