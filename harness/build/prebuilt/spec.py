"""Which ``--kernel SPEC`` means a kernel that is built already, and which kernel that is."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

from harness.build.apt import check_suite_name
from harness.build.materialize import TAR_SUFFIXES
from harness.errors import UserError
from harness.model.names import is_name
from harness.model.prebuilt import PrebuiltKind, PrebuiltSpec
from harness.userpath import user_path

PREFIX, DEBIAN = "prebuilt:", "debian-image:"
_PACKAGES = (".deb", ".rpm")
_SUFFIXES = ", ".join((*_PACKAGES, *TAR_SUFFIXES))
_URL, _CHECKSUM = re.compile(r"https?://"), "#sha256="
_PACKAGE = re.compile(r"linux-image-[a-z0-9][a-z0-9.+-]*")
_DEBUGGING = ("-dbg", "-dbgsym")  # which have the symbols of a kernel, and no kernel
_OF_SOURCES = ("git:", "debian:")
_MARKS = ("Image", "Image.gz", "vmlinuz", "vmlinuz.efi", "boot", "lib/modules", "usr/lib/modules", "modules.tar.xz")


def parse_prebuilt_spec(text: str) -> PrebuiltSpec | None:
    """Parse the value of --kernel if it means a kernel that is built already; None: it means a source, or nothing.
    Raises UserError."""
    text = text.strip()
    if text.startswith(DEBIAN):
        return _debian(text)
    if text.startswith(_OF_SOURCES):
        return None
    plain = text.removeprefix(PREFIX)
    if _URL.match(plain) and (plain != text or _CHECKSUM in plain or plain.endswith(_PACKAGES)):
        return _url(text, plain)
    if not plain:
        raise UserError(f"{text}: expected a path or a URL behind it, found nothing")
    path = user_path(plain).absolute()
    if text.startswith(PREFIX) or text.endswith(_PACKAGES):
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
    if not _PACKAGE.fullmatch(package) or package.endswith(_DEBUGGING):
        raise UserError(f"{text}: expected a package such as linux-image-arm64, found {package!r}")
    return PrebuiltSpec(kind=PrebuiltKind.DEBIAN, text=text, location=package, ref=suite)


def _path(text: str, path: Path) -> PrebuiltSpec:
    if path.is_dir():
        return PrebuiltSpec(kind=PrebuiltKind.DIRECTORY, text=text, location=str(path.resolve()))
    if not path.is_file():
        raise UserError(f"{text}: no such file or directory: {path}")
    if kind := _kind_of(path.name):
        return PrebuiltSpec(kind=kind, text=text, location=str(path.resolve()))
    raise UserError(f"{text}: expected a directory, or a file whose name ends in one of {_SUFFIXES}")


def _url(text: str, plain: str) -> PrebuiltSpec:
    url, _, checksum = plain.partition(_CHECKSUM)
    if not re.fullmatch(r"[0-9a-f]{64}", checksum):
        raise UserError(f"{text}: expected a checksum behind the URL, {_CHECKSUM} and 64 hexadecimal digits")
    try:
        parts = urllib.parse.urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # a port that is none, half an IPv6 address
        is_whole = False
    if not is_whole or "@" in parts.netloc or parts.query:
        raise UserError(f"{text}: expected a URL of a host and a path, without a user and a query")
    name = urllib.parse.unquote(parts.path.rpartition("/")[2])
    if not _kind_of(name) or not is_name(name):
        raise UserError(f"{text}: expected a file whose name ends in one of {_SUFFIXES}")
    return PrebuiltSpec(kind=PrebuiltKind.URL, text=text, location=url, ref=checksum)


def _kind_of(name: str) -> PrebuiltKind | None:
    if name.endswith(".deb"):
        return PrebuiltKind.DEB
    if name.endswith(".rpm"):
        return PrebuiltKind.RPM
    return PrebuiltKind.TARBALL if name.endswith(TAR_SUFFIXES) else None


def needs_of(spec: PrebuiltSpec) -> set[str]:
    """The stages (host.STAGES) for which tools are needed to unpack it, besides the usual ones."""
    path = Path(spec.location)
    packages = [path, *(path.glob("*.rpm") if spec.kind is PrebuiltKind.DIRECTORY else ())]
    return {"rpm"} if any(each.name.endswith(".rpm") for each in packages) else set()
