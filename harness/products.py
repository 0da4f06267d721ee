"""Checks that files which were complete once still are: whatever a damaged one leads to, it is never the kernel's
fault. Also how a file becomes complete: nothing gets its final name before its content is on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import HarnessError, InfraError
from harness.model.product import Digest, Product


class Damaged(InfraError):
    """A file is not what was recorded when it was complete."""


def digest_of(path: Path) -> Digest:
    """Return size and SHA-256 of a file, by reading it. Raises OSError."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(size=file.tell(), sha256=sha256)


def check_size(product: Product) -> os.stat_result:
    """Return the status of the file. Raises Damaged if there is no regular file, or one of another size."""
    try:
        status = product.path.lstat()
    except OSError as error:
        raise _damaged(product, f"found none: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise _damaged(product, "found something that is not a regular file")
    if status.st_size != product.digest.size:
        raise _damaged(product, f"found {status.st_size} bytes")
    return status


def verify(product: Product) -> None:
    """Read the whole file. Raises Damaged if it differs from what is on record."""
    check_size(product)
    try:
        found = digest_of(product.path)
    except OSError as error:
        raise _damaged(product, f"can't read it: {error.strerror}") from None
    if found != product.digest:
        raise _damaged(product, f"found {found.size} bytes with SHA-256 {found.sha256}")


@contextlib.contextmanager
def verified_on_failure(products: Iterable[Product]) -> Iterator[None]:
    """If the block fails, verify `products`: Damaged replaces the error, which a damaged file explains."""
    try:
        yield
    except HarnessError as error:
        try:
            for product in products:
                verify(product)
        except Damaged as damage:
            raise Damaged(damage.message, details=(f"it led to: {error.message}", *error.details)) from error
        raise


def _damaged(product: Product, finding: str) -> Damaged:
    digest = product.digest
    return Damaged(
        f"{product.path}: damaged: expected a file of {digest.size} bytes with SHA-256 {digest.sha256}, {finding}; "
        f"{product.remedy}"
    )


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_synced(partial: Path, final: Path) -> None:
    """Give `partial` its final name once its content is on the disk, so that no power cut leaves half a file there."""
    sync(partial)
    partial.replace(final)
    sync(final.parent)
