"""Archives that are the same, byte for byte, whoever packs the same files, and that are written whole or not at all."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from harness import shortage
from harness.errors import UserError
from harness.products import rename_synced

_LEVEL = 9


def packed(files: Mapping[str, bytes], *, top: str, executable: frozenset[str] = frozenset()) -> bytes:
    """Return a .tar.gz of `files` by their paths below the directory `top`. `executable`: those that are programs."""
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(f"{top}/{name}")  # owner, group and time: 0
            member.size = len(files[name])
            member.mode = 0o755 if name in executable else 0o644
            archive.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(tarball.getvalue(), compresslevel=_LEVEL, mtime=0)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that the user named; what has that name already is replaced at the end. Raises UserError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        rename_synced(partial, path)
    except OSError as error:
        told = UserError(f"{path}: expected a file to write to, found: {error.strerror}")
        raise shortage.of(error, where=path.parent) or told from error
    finally:
        partial.unlink(missing_ok=True)
