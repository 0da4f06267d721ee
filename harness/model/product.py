"""Files that the harness made or downloaded, as they were when they were complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What a file is recognized by: its size in bytes and its SHA-256 in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files and symbolic links below a directory: relative path to digest, and relative path to destination."""

    files: Mapping[str, Digest] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Product:
    """A file and the digest on record. `remedy`: what to do if it is damaged."""

    path: Path
    digest: Digest
    remedy: str
