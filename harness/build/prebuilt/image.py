"""A kernel's Image out of whatever it is packed in."""

from __future__ import annotations

from pathlib import Path

from harness.build.unpack import packed_by, unpacked
from harness.errors import UserError
from harness.limits import INSPECT_BYTES, Limit
from harness.parse import rawimage
from harness.parse.kernel_strings import banner_in
from harness.parse.zboot import zboot_payload

_LAYERS = 3


def raw_image(path: Path) -> bytes:
    """Return the raw arm64 Image in the file `path`. Raises UserError if there is none in it, OSError if it can't be
    read."""
    data = INSPECT_BYTES.read(path, follow=False)
    for _ in range(_LAYERS):
        if payload := zboot_payload(data, name=str(path)):
            data = payload
        elif packed_by(data):
            data = unpacked(data, name=str(path), limit=INSPECT_BYTES)
        else:
            break
    if not rawimage.is_image(data):
        raise UserError(f"{path}: expected a kernel for arm64 (Image, also packed), found another file")
    return data


def plain(path: Path, limit: Limit) -> bytes:
    """Return what is in a file that may be packed."""
    data = limit.read(path, follow=False)
    return unpacked(data, name=str(path), limit=limit) if packed_by(data) else data


def release_of(image: bytes, *, name: str) -> str:
    """Return the kernel's release, as ``uname -r`` says it. Raises UserError if the Image does not tell."""
    release, _ = banner_in(image)
    if not release:
        raise UserError(f"{name}: expected the line 'Linux version …' in the kernel, found none")
    return release
