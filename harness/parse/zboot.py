"""Self-unpacking EFI kernels (CONFIG_EFI_ZBOOT, vmlinuz.efi): where the packed Image is in them.

drivers/firmware/efi/libstub/zboot-header.S writes their header."""

from __future__ import annotations

import struct

from harness.errors import UserError

_HEADER = struct.Struct("<4s4sIIII32s")
_MAGIC, _TYPE = b"MZ\0\0", b"zimg"
_KNOWN = ("gzip", "xz", "zstd", "zstd22", "bzip2")


def is_zboot(data: bytes) -> bool:
    """Whether these are the first bytes of such a file."""
    return len(data) >= _HEADER.size and data[:2] == _MAGIC[:2] and data[4:8] == _TYPE


def zboot_payload(data: bytes, *, name: str) -> bytes:
    """Return the packed Image in `data`; empty if it is no such file. Raises UserError for a damaged one, and for a
    packer that is not known."""
    if not is_zboot(data):
        return b""
    _magic, _type, begin, size, _reserved, _reserved, packer = _HEADER.unpack_from(data)
    said = packer.split(b"\0", 1)[0].decode("ascii", errors="replace")
    if said not in _KNOWN:
        raise UserError(
            f"{name}: expected a zboot kernel packed by gzip, xz, zstd or bzip2, found {said!r}: give its Image"
        )
    if not size or begin + size > len(data):
        raise UserError(f"{name}: expected a whole zboot kernel, found {len(data)} bytes instead of {begin + size}")
    return data[begin : begin + size]
