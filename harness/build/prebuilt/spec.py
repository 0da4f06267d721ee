"""Which ``--kernel SPEC`` means a kernel that is built already, and which kernel that is."""

from __future__ import annotations

import re
from pathlib import Path

from harness.build.apt import check_suite_name
from harness.build.materialize import TAR_SUFFIXES
from harness.errors import UserError
from harness.model.prebuilt import PrebuiltKind, PrebuiltSpec

PREFIX, DEBIAN = "prebuilt:", "debian-image:"
_PACKAGE = re.compile(r"linux-image-[a-z0-9][a-z0-9.+-]*")
_MARKS = ("Image", "Image.gz", "vmlinuz", "vmlinuz.efi", "boot", "lib/modules", "usr/lib/modules", "modules.tar.xz")


def parse_prebuilt_spec(text: str) -> PrebuiltSpec | None:
    """Parse the value of --kernel if it means a kernel that is built already; None: it means a source, or nothing.
    Raises UserError."""
    text = text.strip()
    if text.startswith(DEBIAN):
        return _debian(text)
    path = Path(text.removeprefix(PREFIX)).expanduser().absolute()
    if text.startswith(PREFIX):
        return _path(text, path)
    if text.endswith(".deb"):
        return _path(text, path)
    if path.is_dir() and not (path / "Kconfig").exists() and any((path / mark).exists() for mark in _MARKS):
        return _path(text, path)
    return None


def _debian(text: str) -> PrebuiltSpec:
    package, mark, suite = text.removeprefix(DEBIAN).rpartition("@")
    if not mark:
        raise UserError(f"{text}: the suite is missing: {text}@trixie")
    check_suite_name(suite)
    package = package or "linux-image-arm64"
    if not _PACKAGE.fullmatch(package):
        raise UserError(f"{text}: expected a package such as linux-image-arm64, found {package!r}")
    return PrebuiltSpec(kind=PrebuiltKind.DEBIAN, text=text, location=package, ref=suite)


def _path(text: str, path: Path) -> PrebuiltSpec:
    if path.is_dir():
        return PrebuiltSpec(kind=PrebuiltKind.DIRECTORY, text=text, location=str(path.resolve()))
    if not path.is_file():
        raise UserError(f"{text}: no such file or directory: {path}")
    if path.name.endswith(".deb"):
        return PrebuiltSpec(kind=PrebuiltKind.DEB, text=text, location=str(path.resolve()))
    if path.name.endswith(TAR_SUFFIXES):
        return PrebuiltSpec(kind=PrebuiltKind.TARBALL, text=text, location=str(path.resolve()))
    expected = ", ".join((".deb", *TAR_SUFFIXES))
    raise UserError(f"{text}: expected a directory, or a file whose name ends in one of {expected}")
