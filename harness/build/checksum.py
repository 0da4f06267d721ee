"""SHA-256 of large files, cached so that a second run need not read them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from harness import shortage
from harness.build.cache import cache_dir
from harness.errors import UserError
from harness.model.progress import Progress, Silent

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path, *, progress: Progress | None = None) -> str:
    """Return the SHA-256 of the file's content in hex. The file is read once; later calls use the cached checksum as
    long as path, size and modification time (ns) stay the same. Raises UserError if the file can't be read."""
    progress = progress or Silent()
    path = path.absolute()
    note = _note_of(path)
    try:
        stamp = _stamp(path)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(note.read_text())
            if known["stamp"] == stamp:
                return str(known["sha256"])
        digest = _read_through(path, total=stamp[0], progress=progress)
        unchanged = _stamp(path) == stamp
    except OSError as error:
        raise shortage.of(error, where=path) or UserError(f"{path}: cannot be read: {error.strerror}") from error
    if unchanged:
        remember(path, digest)
    return digest


def remember(path: Path, sha256: str) -> None:
    """Cache the checksum of a file whose content was hashed while it was written."""
    note = _note_of(path.absolute())
    write_atomically(note, json.dumps({"path": os.fspath(path), "stamp": _stamp(path), "sha256": sha256}))


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees either the old or the new text, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    scratch.write_text(text)
    scratch.replace(path)


def _note_of(path: Path) -> Path:
    return cache_dir("checksums") / (hashlib.sha256(os.fsencode(path)).hexdigest()[:32] + ".json")


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _read_through(path: Path, *, total: int, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress.advance(f"checksum of {path.name}", done, total)
    return digest.hexdigest()
