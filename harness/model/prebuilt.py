"""A kernel that somebody else built: what ``--kernel SPEC`` says of it, and where its files are."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from pathlib import Path

PREFIX, DEBIAN = "prebuilt:", "debian-image:"
PACKAGES = (".deb", ".rpm")
URL, CHECKSUM = re.compile(r"https?://"), "#sha256="


def names_prebuilt(text: str) -> bool:
    """Return whether ``--kernel`` with `text` means a kernel that is built already, whatever is there; the path of a
    directory may do so, too."""
    text = text.strip()
    return text.startswith((DEBIAN, PREFIX)) or text.endswith(PACKAGES) or bool(URL.match(text) and CHECKSUM in text)


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
