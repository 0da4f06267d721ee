"""Unpacks gzip, xz, bzip2 and zstd in memory, up to a limit, whatever the input says about its size."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Protocol

from harness.build.command import started
from harness.errors import UserError
from harness.limits import XZ_BYTES, Limit

HEAD_BYTES = 4096
_CHUNK_BYTES = 64 << 10
_PIECE_BYTES = 1 << 20  # at once: a few bytes may be packed gigabytes
_GZIP = 31  # zlib's number for a gzip stream
_ZSTD_MEMORY = "--memory=128MB"


class _Unpacker(Protocol):
    """As bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gunzip:
    """gzip with the interface of the others."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(max_length, 0))


_FORMS: tuple[tuple[bytes, str, Callable[[], _Unpacker] | None], ...] = (
    (b"\x1f\x8b", "gzip", _Gunzip),
    (b"\xfd7zXZ\0", "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_BYTES.value)),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
    (b"\x28\xb5\x2f\xfd", "zstd", None),
)


def packed_by(data: bytes) -> str:
    """The program that packed `data`, by its first bytes; empty if none of ours did."""
    return next((name for magic, name, _ in _FORMS if data.startswith(magic)), "")


def unpacked(data: bytes, *, name: str, limit: Limit, expect: Callable[[bytes], None] | None = None) -> bytes:
    """Return what is packed in `data` (`packed_by` knows it). Raises UserError for a damaged file, and for one with
    more in it than `limit`. `expect`: called with the first HEAD_BYTES of it before the rest is unpacked; it raises an
    exception if they are not worth that."""
    program, make = next((program, make) for magic, program, make in _FORMS if data.startswith(magic))
    try:
        with contextlib.closing(_zstd(data) if make is None else _streams(data, make)) as pieces:
            return _collected(pieces, name=name, limit=limit, expect=expect)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the host's; bz2 gives those of the data no number
        if "Memory usage limit" in str(error):
            raise XZ_BYTES.exceeded(place=name) from error
        raise UserError(f"{name}: expected a whole packed file, found a damaged one ({program}): {error}") from error


def _collected(pieces: Iterable[bytes], *, name: str, limit: Limit, expect: Callable[[bytes], None] | None) -> bytes:
    out, most = io.BytesIO(), limit.value  # its value is its buffer, not a copy
    for piece in pieces:
        out.write(piece)
        if expect and out.tell() >= HEAD_BYTES:
            expect(bytes(out.getbuffer()[:HEAD_BYTES]))
            expect = None
        if out.tell() > most:
            raise limit.exceeded(place=name)
    if expect:
        expect(out.getvalue())
    return out.getvalue()


def _streams(data: bytes, make: Callable[[], _Unpacker]) -> Generator[bytes]:
    """What is in all streams of a file, one behind the other; zeros may pad them."""
    at = 0
    unpacker = make()
    while True:
        if unpacker.eof:
            at -= len(unpacker.unused_data)
            while data[at : at + 1] == b"\0":  # padding between streams
                at += 1
            if at >= len(data):
                return
            unpacker = make()
        elif unpacker.needs_input and at >= len(data):
            raise EOFError("its end is missing")
        chunk = data[at : at + _CHUNK_BYTES] if unpacker.needs_input else b""
        at += len(chunk)
        yield unpacker.decompress(chunk, _PIECE_BYTES)


def _zstd(data: bytes) -> Generator[bytes]:
    """By the program: Python has no zstd."""
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as said:
        packed.write(data)
        packed.seek(0)
        with started(["zstd", "-q", "-d", "-c", _ZSTD_MEMORY], stdin=packed, stderr=said) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(_PIECE_BYTES):
                yield piece
            status = process.wait()
        if status:
            said.seek(0)
            raise OSError(said.read(300).decode(errors="replace").strip() or f"zstd ended with status {status}")
