"""A kernel that somebody else built: what ``--kernel SPEC`` says of it, and where its files are."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path


def names_prebuilt(text: str) -> bool:
    """Return whether ``--kernel`` with `text` means a kernel that is built already, whatever files there are. (The path
    of a directory may do so, too: build/prebuilt/spec.py looks into it.)"""
    text = text.strip()
    is_url = text.startswith(("http://", "https://")) and "#sha256=" in text
    return is_url or text.startswith(("debian-image:", "prebuilt:")) or text.endswith((".deb", ".rpm"))


class PrebuiltKind(enum.StrEnum):
    """The forms that ``--kernel SPEC`` takes for a kernel that is built already."""

    DEBIAN = "debian-image"
    DIRECTORY = "directory"
    TARBALL = "tarball"
    DEB = "deb"
    RPM = "rpm"
    URL = "url"


@dataclass(frozen=True, kw_only=True)
class PrebuiltSpec:
    """``--kernel SPEC``, parsed but not resolved. `location`: a path, a URL, or a package's name; `ref`: Debian's
    suite, or the SHA-256 of what is at the URL; `text`: the spec as given."""

    kind: PrebuiltKind
    text: str
    location: str
    ref: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What was found among the files of a built kernel. `image`: in any form that arm64 kernels come in; `config`: its
    configuration's file; None: there is none (the kernel may hold it itself). `modules`: the directory that is
    /lib/modules/RELEASE; `vmlinux`: the ELF file with symbols, maybe packed; `dtbs`: device trees; `selftests`: the
    directory that the kernel's selftests were installed to."""

    image: Path
    config: Path | None = None
    modules: Path | None = None
    system_map: Path | None = None
    vmlinux: Path | None = None
    dtbs: tuple[Path, ...] = field(default=())
    selftests: Path | None = None
