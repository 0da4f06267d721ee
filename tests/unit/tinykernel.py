"""A small kernel as others build it: an Image, a configuration, modules, in the layouts that they come in."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.tinyimage import TinyImage

RELEASE = "7.3.4-tiny"  # what TinyImage says
CONFIG = """\
#
# Linux/arm64 7.3.4 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="aarch64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0"
CONFIG_FUNCTION_TRACER=y
CONFIG_VIRTIO_BLK=y
"""


def image() -> bytes:
    """A raw Image."""
    return TinyImage().content()


def kernel_files(*, config: str = CONFIG, modules: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of a kernel, by their paths in a package of Debian's."""
    files = {f"boot/vmlinuz-{RELEASE}": image(), f"boot/config-{RELEASE}": config.encode()}
    base = f"usr/lib/modules/{RELEASE}"
    files[f"{base}/modules.order"] = b""
    return files | {f"{base}/kernel/{name}": content for name, content in (modules or {}).items()}


def write_files(top: Path, files: dict[str, bytes]) -> Path:
    """Write `files` below `top`."""
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def build_deb(package: Path, files: dict[str, bytes], *, executable: Sequence[str] = ()) -> Path:
    """A Debian package with `files`, at the path `package`."""
    root = write_files(package.with_suffix(".root"), files)
    for path in executable:
        (root / path).chmod(0o755)
    control = root / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text("Package: linux-image-tiny\nVersion: 1\nArchitecture: arm64\nMaintainer: a\nDescription: x\n")
    subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "-b", root, package], check=True, capture_output=True)
    return package


def build_rpm(package: Path, files: dict[str, bytes]) -> Path:
    """An RPM package with `files`: a lead, two headers without entries, and a packed cpio archive."""
    if not shutil.which("bsdtar"):
        pytest.skip("bsdtar is not installed (package libarchive-tools)")
    lead = struct.pack(">4sBBHH66sHH16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, b"tiny", 1, 5)
    header = struct.pack(">4sIII", b"\x8e\xad\xe8\x01", 0, 0, 0)
    archive = b"".join(_cpio(f"./{name}", content) for name, content in files.items()) + _cpio("TRAILER!!!", b"")
    package.write_bytes(lead + header + header + gzip.compress(archive))
    return package


def _cpio(name: str, content: bytes) -> bytes:
    fields = (0, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def build_raw_deb(package: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A Debian package whose archive has these members, whatever they are: dpkg-deb would not build all of them."""
    archive = raw_tarball(members)
    parts = {"debian-binary": b"2.0\n", "control.tar": raw_tarball([]), "data.tar": archive}
    heads = {name: f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(part):<10}`\n" for name, part in parts.items()}
    whole = b"".join(heads[name].encode() + part + b"\n" * (len(part) % 2) for name, part in parts.items())
    package.write_bytes(b"!<arch>\n" + whole)
    return package


def raw_tarball(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tarball with these members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a tarball, of any kind."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    return info, content
