"""Archives that travel between machines: made here, checked and unpacked there, whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from harness import shortage
from harness.build.untar import Damaged, untar
from harness.errors import InfraError, UserError
from harness.limits import Limit
from harness.model.lab import Parcel
from harness.products import rename_synced

CHUNK_BYTES = 4 << 20
"""How much travels at once."""
SUFFIX = ".tar.gz"
_LEVEL = 1  # a network is rarely slower than better compression


def pack(directory: Path, archive: Path, *, name: str, also: tuple[Path, ...] = ()) -> Parcel:
    """Write an archive with `directory`, called `name` in it, and the files `also`. It has its name only when it is
    complete and on the disk. What is neither file, directory nor link is left out. Raises InfraError."""
    partial = archive.with_name(f".{archive.name}.{os.getpid()}.partial")
    try:
        with (
            partial.open("wb") as file,
            gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, filename="", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path, called in ((directory, name), *((path, path.name) for path in also)):
                if path.exists():
                    tar.add(path, called, filter=_plain)
        parcel = parcel_of(partial)
        rename_synced(partial, archive)
    except OSError as error:
        wrong = InfraError(f"{error.filename or archive}: can't be packed: {error.strerror or error}")
        raise shortage.of(error, where=archive.parent) or wrong from error
    finally:
        partial.unlink(missing_ok=True)
    return parcel


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() or member.issym() or member.islnk() else None


def parcel_of(archive: Path) -> Parcel:
    """Return what identifies an archive. Raises OSError."""
    with archive.open("rb") as file:
        return Parcel(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=file.tell())


def read_chunk(archive: Path, offset: int) -> bytes:
    """Return the chunk at `offset`. Raises OSError."""
    with archive.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)


def collect(parcel: Parcel, archive: Path, read: Callable[[int], bytes], *, limit: Limit, place: str) -> None:
    """Write an archive that arrives in chunks: `read` returns the one at an offset. Raises InfraError if it is not what
    was announced, UserError if it is larger than `limit`; `place`: where it comes from, for messages."""
    limit.check(parcel.size, place=place)
    digest, size = hashlib.sha256(), 0
    with shortage.reported(archive), archive.open("wb") as file:
        while size < parcel.size:
            data = read(size)
            if not data or len(data) > CHUNK_BYTES:
                raise InfraError(f"{place}: expected a chunk of at most {CHUNK_BYTES} bytes, found {len(data)}")
            digest.update(data)
            size += len(data)
            file.write(data)
    if (size, digest.hexdigest()) != (parcel.size, parcel.sha256):
        found = f"found {size} bytes with SHA-256 {digest.hexdigest()}"
        raise InfraError(f"{place}: expected an archive of {parcel.size} bytes with SHA-256 {parcel.sha256}, {found}")


def unpack(archive: Path, directory: Path, *, place: str, say: Callable[[str], None]) -> None:
    """Unpack an archive into a new directory, which is removed again if that fails. `say` gets what was left out:
    devices, and links that lead out of their directory. Raises InfraError or UserError."""
    directory.mkdir()
    try:
        left_out = untar(archive, directory, suffix=SUFFIX, tick=_no_tick)
    except BaseException as error:
        shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, Damaged):
            raise InfraError(f"{place}: expected an archive, found: {error}", details=error.details) from None
        if isinstance(error, UserError):  # of whoever made it, not of whoever plays the night
            raise InfraError(f"{place}: {error.message}") from None
        if isinstance(error, OSError):
            wrong = InfraError(f"{error.filename or directory}: can't be written: {error.strerror}")
            raise shortage.of(error, where=directory.parent) or wrong from error
        raise
    if left_out:
        say(f"{place}: left out, because they are no files or lead out of it: {', '.join(left_out[:5])}")


def _no_tick(_file: IO[bytes]) -> None:
    """Nobody watches."""
