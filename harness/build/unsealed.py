"""Looks for damage in builds of older harnesses, which recorded no digests: whether Image can have been made from the
vmlinux beside it. That finds one that was emptied, cut or zeroed, not one with a flipped bit."""

from __future__ import annotations

import struct
from pathlib import Path

from harness.limits import ELF_BYTES, open_regular
from harness.products import Damaged

_MAGIC = b"ARM\x64"  # Documentation/arch/arm64/booting.rst
_MAGIC_AT = 0x38
_ELF64 = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD = 1
_MOST_SEGMENTS = 64  # a kernel has four
_HEAD_BYTES = 64 * 1024
_PAGE_BYTES = 4096
_NOTHING = bytes(_PAGE_BYTES)


def check_image(directory: Path, *, remedy: str) -> None:
    """Raises Damaged if the build's Image can't be whole."""
    path = directory / "Image"
    try:
        image, vmlinux = ELF_BYTES.read(path), _loaded_part(directory / "vmlinux")
    except OSError as error:
        raise Damaged(
            f"{error.filename}: expected a file of the build, found none that can be read; {remedy}"
        ) from None
    if image[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        found = f"{len(image)} bytes without that" if image else "an empty file"
        raise Damaged(f"{path}: damaged: expected an arm64 kernel image ({_MAGIC!r} at {_MAGIC_AT:#x}), found {found}; "
                      f"{remedy}")  # fmt: skip
    try:
        segments = _segments(vmlinux)
        if max(offset + length for _, offset, length in segments) > len(vmlinux):
            raise ValueError("a part of one")
    except ValueError as error:
        raise Damaged(f"{directory / 'vmlinux'}: damaged: expected an ELF file, found {error}; {remedy}") from None
    start = min(address for address, _, _ in segments)
    size = max(address + length for address, _, length in segments) - start
    if len(image) < size:
        raise Damaged(f"{path}: damaged: expected at least {size} bytes, as vmlinux says, found {len(image)}; {remedy}")
    for address, offset, length in segments:
        for at in range(0, length - _PAGE_BYTES, _PAGE_BYTES):
            page = image[address - start + at : address - start + at + _PAGE_BYTES]
            if page == _NOTHING and vmlinux[offset + at : offset + at + _PAGE_BYTES] != _NOTHING:
                raise Damaged(
                    f"{path}: damaged: expected at byte {address - start + at} what vmlinux has, found zeros; {remedy}"
                )


def _loaded_part(path: Path) -> bytes:
    """Return a kernel's ELF file up to the end of what is loaded: a tenth of it, without the debug information."""
    size = path.stat().st_size
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
        try:
            end = max(offset + length for _, offset, length in _segments(head))
        except ValueError:
            return head
        ELF_BYTES.check(min(end, size), place=str(path))
        return head + file.read(max(0, min(end, size) - len(head)))


def _segments(vmlinux: bytes) -> list[tuple[int, int, int]]:
    """Return physical address, offset and length of what is loaded from an ELF file. Raises ValueError."""
    if vmlinux[: len(_ELF64)] != _ELF64:
        raise ValueError("another beginning")
    found = []
    try:
        fields = _HEADER.unpack_from(vmlinux)
        table, entry, count = fields[5], fields[9], min(fields[10], _MOST_SEGMENTS)
        for number in range(count):
            kind, _, offset, _, address, length, _, _ = _SEGMENT.unpack_from(vmlinux, table + number * entry)
            if kind == _LOAD and length:
                found.append((address, offset, length))
    except (struct.error, OverflowError):
        raise ValueError("one with a broken table of segments") from None
    if not found:
        raise ValueError("one of which nothing is loaded")
    return found
