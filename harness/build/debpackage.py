"""The files in a Debian package, read one after the other; nothing is written to the disk.

The package is untrusted: its archive may be cut short, have headers that take any amount of memory, or hold terabytes
of zeros in a file that nobody asks for."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from harness.build.command import TimedOut, killed, started
from harness.errors import UserError
from harness.limits import INSPECT_FILES, Deadline

_END_S = 10.0  # for dpkg-deb to end once it has printed everything
_CHUNK_BYTES = 1 << 20
_LONGEST_NAME_BYTES = 4 << 10  # PATH_MAX: tarfile keeps all headers in memory
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_KNOWN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
          tarfile.DIRTYPE, tarfile.FIFOTYPE, *_LONG)  # fmt: skip # deb(5)


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """A file in a package; `content` can be read until the next file is taken."""

    path: PurePosixPath
    size: int
    content: IO[bytes]


@contextlib.contextmanager
def files_in(package: Path, *, deadline: Deadline) -> Iterator[Iterator[PackedFile]]:
    """Yield the regular files in a Debian package. Raises UserError for a damaged package, also where that is noticed
    while one of its files is read, for one with too many files, and when the time is over; TimedOut if dpkg-deb does
    not end once it has printed everything."""
    with (
        tempfile.TemporaryFile() as said,
        started(["dpkg-deb", "--fsys-tarfile", str(package.absolute())], stderr=said) as process,
        killed(process, after=deadline.left + 1.0),  # when `deadline` is over for sure
    ):
        try:
            output = _Output(process, deadline, str(package))
            with tarfile.open(fileobj=output, mode="r|", tarinfo=_Header) as archive:
                yield _files(archive, str(package))
            while output.read(_CHUNK_BYTES):  # what pads the archive
                pass
        except (tarfile.TarError, EOFError) as error:
            raise _damaged(package, str(error)) from error
        except RecursionError as error:  # tarfile's: it reads a header that is about the next one, and so on
            raise _damaged(package, "too many tar headers in a row") from error
        # tarfile takes an archive that ends behind a whole file for a whole one
        try:
            status = process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"{package}: dpkg-deb did not end within {_END_S:.0f} s after its last output and was stopped; see "
                f"whether `dpkg-deb --fsys-tarfile {package} > /dev/null` ends, and try again"
            ) from None
        if status:
            deadline.check(place=str(package))  # then it was killed
            said.seek(0)
            lines = said.read(_CHUNK_BYTES).decode(errors="replace").split("\n")
            raise _damaged(package, next(filter(None, lines), f"dpkg-deb ended with status {status}"))


def _damaged(package: Path, why: str) -> UserError:
    return UserError(f"{package}: expected a whole Debian package, found a damaged one: {why}")


def _files(archive: tarfile.TarFile, name: str) -> Iterator[PackedFile]:
    for count, member in enumerate(archive):
        INSPECT_FILES.check(count, place=name)
        if content := archive.extractfile(member) if member.isfile() else None:
            yield PackedFile(path=PurePosixPath(member.name), size=member.size, content=content)


class _Header(tarfile.TarInfo):
    """A header that a Debian package may have."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Raises ReadError for another one, and for a name that would take much memory."""
        header = super().frombuf(buf, encoding, errors)
        if header.type not in _KNOWN:
            raise tarfile.ReadError(f"a tar header of type {header.type!r}, which no Debian package has")
        if header.type in _LONG and header.size > _LONGEST_NAME_BYTES:
            raise tarfile.ReadError(f"a name of {header.size} bytes")
        return header


class _Output(io.RawIOBase):
    """What a program prints, as long as there is time: tarfile reads through files that nobody asks for, too."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: Deadline, place: str) -> None:
        super().__init__()
        assert process.stdout is not None
        self._stream, self._deadline, self._place = process.stdout, deadline, place

    def read(self, size: int = -1, /) -> bytes:
        self._deadline.check(place=self._place)
        data = self._stream.read(size)
        if not data:  # it may have been killed
            self._deadline.check(place=self._place)
        return data
