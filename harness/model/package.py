"""A Debian package as a package list names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AptPackage:
    """One version of a package, from the signed package list. `size` in bytes, `sha256` in hex. `depends`: the names of
    the packages that it depends on, the first one of alternatives."""

    name: str
    version: str
    sha256: str
    size: int
    depends: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}.deb"

    @property
    def wanted(self) -> str:
        """The argument that makes apt select exactly this version."""
        return f"{self.name}={self.version}"
