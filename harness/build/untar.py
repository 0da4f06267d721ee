"""Unpacks a source tarball that others made: files, directories and links within it, and nothing else.

Why not tar(1): as root it creates device nodes and set-id files, and it knows no limits. Links are created last, so
nothing is ever written through one.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from harness.build.command import killed, started
from harness.build.treelinks import link_target, stays_inside
from harness.errors import UserError
from harness.limits import TREE_BYTES, TREE_FILES, TREE_SECONDS, Deadline
from harness.parse.diff_names import is_too_long

UNPACKERS = {".tar": "", ".tar.xz": "xz", ".tar.gz": "gzip", ".tgz": "gzip", ".tar.bz2": "bzip2", ".tar.zst": "zstd"}
"""The program that unpacks a file of each suffix."""

_CHUNK_BYTES = 1 << 20
_BLOCK_BYTES = 16 << 10  # tarfile copies what it has read ahead at each read of a header or a file
# Of a long name, or of the properties of one file. Python takes time that grows with the square of it.
_LONGEST_HEADER_BYTES = 16 << 10
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, b"X")
_INVALID = (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError)
# What the file system answers to names that contradict each other, or that it can't have.
_CONTRADICTIONS = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


class Damaged(Exception):
    """It is no tarball, or a part of one; `details`: what the unpacking program said."""

    def __init__(self, reason: str, *, details: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.details = details


class _Member(tarfile.TarInfo):
    """Refuses what tarfile would take as the end of the archive, or work on for ever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            member = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error
        if member.type in _HEADERS and member.size > _LONGEST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {member.size} bytes")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file")
        return member

    def _refuse_sparse(self, *_: Any) -> None:
        raise tarfile.ReadError("a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Stream:
    """Counts what is read and asks the clock."""

    def __init__(self, stream: IO[bytes], *, place: str, tick: Callable[[], None], deadline: Deadline) -> None:
        self._stream = stream
        self._place = place
        self._tick = tick
        self._deadline = deadline
        self._bytes = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        before, self._bytes = self._bytes, self._bytes + len(data)
        if self._bytes // _CHUNK_BYTES != before // _CHUNK_BYTES or not data:
            self.check()
            self._tick()
        return data

    def check(self) -> None:
        TREE_BYTES.check(self._bytes, place=self._place)
        self._deadline.check(place=self._place)


def untar(
    path: Path,
    directory: Path,
    *,
    suffix: str,
    tick: Callable[[IO[bytes]], None],
    wanted: Callable[[str], bool] = lambda _name: True,
) -> tuple[str, ...]:
    """Unpack the tarball `path`, whose name ends in `suffix`, into an empty directory. Returns what was left out:
    devices, pipes and links that lead out of the top directory.

    No owners, and no permissions beyond those of owner, group and others. `tick` gets the file, at the position up to
    which it was read. `wanted`: which members to write, by their names without a leading ``./``. Raises UserError if
    the tarball is above a limit or a name in it leads out, Damaged if it is none, and OSError if the files can't be
    written."""
    with path.open("rb") as file:
        unpacker = UNPACKERS[suffix]
        if not unpacker:
            deadline = Deadline.start(TREE_SECONDS)
            return _extract(file, path, directory, tick=lambda: tick(file), wanted=wanted, deadline=deadline)
        # xz may use several cores if the archive consists of blocks, but not as much memory as the archive asks for.
        env = {"XZ_DEFAULTS": "--threads=0 --memlimit-decompress=1GiB"}
        words = [unpacker, "--decompress", "--stdout"]
        with started(words, stdin=file, env=env, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            try:
                left_out = untar_output(process, directory, place=str(path), tick=lambda: tick(file), wanted=wanted)
            except Damaged as error:
                process.kill()
                raise Damaged(str(error), details=_last_lines(process.stderr)) from error
            if process.wait() != 0:
                raise Damaged(f"{unpacker} failed", details=_last_lines(process.stderr))
            return left_out


def untar_output(
    process: subprocess.Popen[bytes],
    directory: Path,
    *,
    place: str,
    tick: Callable[[], None] = lambda: None,
    wanted: Callable[[str], bool] = lambda _name: True,
) -> tuple[str, ...]:
    """Unpack the uncompressed tarball that a program prints as `untar` does; `place`: its name in messages. The program
    is killed when the time is over: it might print nothing, for ever."""
    assert process.stdout is not None
    deadline = Deadline.start(TREE_SECONDS)
    with killed(process, after=deadline.left + 1.0):  # when `deadline` is over for sure
        return _extract(process.stdout, Path(place), directory, tick=tick, wanted=wanted, deadline=deadline)


def _last_lines(stream: IO[bytes]) -> tuple[str, ...]:
    return tuple(stream.read().decode(errors="replace").splitlines()[-8:])


def _extract(
    file: IO[bytes],
    path: Path,
    directory: Path,
    *,
    tick: Callable[[], None],
    wanted: Callable[[str], bool],
    deadline: Deadline,
) -> tuple[str, ...]:
    stream = _Stream(file, place=str(path), tick=tick, deadline=deadline)
    unpacking = _Unpacking(directory, place=str(path), wanted=wanted)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES, tarinfo=_Member) as archive:  # type: ignore[call-overload]
            for member in archive:
                archive.members = []  # it would keep them all
                unpacking.add(member, archive)
        while stream.read(_CHUNK_BYTES):
            pass  # so that the unpacking program ends, and shows by its exit code whether the file was whole
        unpacking.link(stream.check)
    except _INVALID as error:
        raise Damaged(str(error)) from error
    except OSError as error:
        if error.errno not in _CONTRADICTIONS:
            raise
        name = str(error.filename2 or error.filename or "")  # a link's own, not where it leads
        name = name.removeprefix(f"{directory}/")[:200]
        raise UserError(f"{path}: refused: {name!r}: its members contradict each other: {error.strerror}") from error
    return tuple(unpacking.left_out)


class _Unpacking:
    """Writes members; symbolic links are put off to the end."""

    def __init__(self, directory: Path, *, place: str, wanted: Callable[[str], bool]) -> None:
        self.left_out: list[str] = []
        self._top = directory
        self._wanted = wanted
        self._place = place
        self._count = 0
        self._links: dict[str, tarfile.TarInfo] = {}
        self._directories: set[str] = set()
        self._is_root = os.geteuid() == 0

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._count += 1
        TREE_FILES.check(self._count, place=self._place)
        name = self._inside(member.name)
        if not name or not self._wanted(name):
            return
        self._links.pop(name, None)
        self._make_parent(name)
        if member.isdir():
            (self._top / name).mkdir(exist_ok=True)
        elif member.issym():
            (self._top / name).unlink(missing_ok=True)
            self._links[name] = member
        elif member.islnk():
            self._link_hard(name, self._inside(member.linkname, of=name))
        elif member.isreg():
            self._write(member, archive, name)
        else:
            self.left_out.append(name)

    def _inside(self, name: str, *, of: str = "") -> str:
        """`of`: the member whose link leads to `name`; empty: `name` is a member's own."""
        what = f"{of[:200]!r} is a link whose target" if of else "a member's name"
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise UserError(f"{self._place}: refused: {what} leads out of the archive: {name[:200]!r}")
        if parts and is_too_long("/".join(parts)):
            raise UserError(f"{self._place}: refused: {what} is too long: {name[:200]!r}")
        return "/".join(parts)

    def _write(self, member: tarfile.TarInfo, archive: tarfile.TarFile, name: str) -> None:
        content = archive.extractfile(member)
        assert content is not None
        path, mode = os.fspath(self._top / name), member.mode & 0o777
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        # As tar does it: only root's files get the archive's permissions regardless of the umask.
        try:
            handle = os.open(path, flags, mode)
        except FileExistsError:  # the name came before
            os.unlink(path)  # noqa: PTH108 (a hundred thousand files: their paths cost more than the calls)
            handle = os.open(path, flags, mode)
        with open(handle, "wb", buffering=0) as out:  # noqa: PTH123 (a descriptor)
            shutil.copyfileobj(content, out, _CHUNK_BYTES)
            if self._is_root:
                os.fchmod(handle, mode)
            _set_time(handle, member)

    def _make_parent(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent not in self._directories:
            (self._top / parent).mkdir(parents=True, exist_ok=True)
            self._directories.add(parent)

    def _link_hard(self, name: str, source: str) -> None:
        if source in self._links:
            self._links[name] = self._links[source]
            return
        path = self._top / name
        if source == name or not (self._top / source).is_file():
            raise UserError(
                f"{self._place}: refused: {name!r} is a link to {source[:200]!r}, which is no file before it"
            )
        path.unlink(missing_ok=True)
        os.link(self._top / source, path)

    def link(self, check: Callable[[], None]) -> None:
        """Create the symbolic links, then remove those that lead out of the top directory of their own path."""
        for name, member in self._links.items():
            path = self._top / name
            path.symlink_to(member.linkname)
            _set_time(path, member)
        for name, member in self._links.items():
            check()
            top, _, below = name.partition("/")
            if not below or not stays_inside(below, member.linkname, functools.partial(link_target, self._top / top)):
                (self._top / name).unlink()
                self.left_out.append(name)


def _set_time(path: Path | int, member: tarfile.TarInfo) -> None:
    if 0 <= member.mtime < 1 << 40:
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=isinstance(path, int))
