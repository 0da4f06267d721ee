"""SHA-256 of large files, cached so that a second run need not read them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from harness import jsonfile, shortage
from harness.build.cache import cache_dir
from harness.errors import InfraError, UserError
from harness.model.progress import Progress, Silent

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path, *, progress: Progress | None = None, fresh: bool = False) -> str:
    """Return the SHA-256 of the file's content in hex. The file is read once; later calls use the cached checksum as
    long as the path and `stamp_of` stay the same. `fresh`: read it in any case. Raises UserError if the file can't be
    read."""
    progress = progress or Silent()
    path = path.absolute()
    try:
        stamp = stamp_of(path)
        with contextlib.suppress(OSError, InfraError, ValueError, TypeError, KeyError):
            known = jsonfile.read_object(_note_of(path))
            if known["stamp"] == stamp and not fresh:
                return str(known["sha256"])
        digest = _read_through(path, total=stamp[0], progress=progress)
        unchanged = stamp_of(path) == stamp
    except OSError as error:
        raise shortage.of(error, where=path) or UserError(f"{path}: cannot be read: {error.strerror}") from error
    if unchanged:
        remember(path, digest)
    return digest


def remember(path: Path, sha256: str) -> None:
    """Cache the checksum of a file whose content was hashed while it was written; a cache that is read-only stays
    without it."""
    told = {"path": os.fspath(path), "stamp": stamp_of(path), "sha256": sha256}
    with contextlib.suppress(OSError, InfraError):
        write_atomically(_note_of(path.absolute()), json.dumps(told))


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees either the old or the new text, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    except BaseException:  # a full disk gets back what it gave
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def _note_of(path: Path) -> Path:
    return cache_dir("checksums") / (hashlib.sha256(os.fsencode(path)).hexdigest()[:32] + ".json")


def stamp_of(file: Path | os.stat_result) -> list[int]:
    """Return what changes whenever the content of a file does. The time of the last modification can be set, so a
    replaced file may have the former one's; inode and time of change can't."""
    status = file.stat() if isinstance(file, Path) else file
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def _read_through(path: Path, *, total: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress.advance(f"checksum of {path.name}", done, total)
    return digest.hexdigest()
