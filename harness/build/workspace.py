"""Workspaces: source and object trees that are kept, so that the next build makes only what changed.

Each workspace belongs to one origin of sources (a Debian package, a directory, a git URL) and is used by one build
at a time. A second build that runs meanwhile gets another workspace; nobody waits and nobody is disturbed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.build.cache import cache_dir, try_locked
from harness.model.kernel import Source, SourceKind

_MOST = 16


@dataclass(frozen=True)
class Workspace:
    """One directory: `source` (the tree), `objects` (make's O=), `series` (which patches are applied)."""

    directory: Path

    @property
    def source(self) -> Path:
        return self.directory / "src"

    @property
    def objects(self) -> Path:
        return self.directory / "obj"

    @property
    def series(self) -> Path:
        return self.directory / "series"

    @property
    def stages(self) -> Path:
        """The records of what stands here, and of what it was made."""
        return self.directory / "stages"

    @property
    def optional_suites(self) -> Path:
        """Selftests that are made apart from the others, a directory each."""
        return self.directory / "optional-suites"

    @property
    def modules(self) -> Path:
        """Copies of the testcases' C sources, and what is made from them."""
        return self.directory / "testmodules"


@contextlib.contextmanager
def workspace_for(source: Source, *, flavour: str) -> Iterator[Workspace]:
    """A workspace for `source` that nobody else uses for the length of the ``with``.

    `flavour` (toolchain and fragments) is what would force a full rebuild when changed: each has its own."""
    name = f"{origin_name(source)}-{flavour}"
    for number in range(_MOST):
        directory = cache_dir("workspaces", f"{name}-{number}")
        with try_locked(directory.parent / f"{directory.name}.lock") as mine:
            if mine:
                yield Workspace(directory)
                return
    raise AssertionError(f"more than {_MOST} builds of {name} at once")


def origin_name(source: Source) -> str:
    """A directory name for where `source` comes from, the same for each of its versions and states."""
    spec = source.spec
    match spec.kind:
        case SourceKind.DEBIAN:
            origin = f"debian-{source.version.split('-')[0].rsplit('.', 1)[0]}-{spec.ref}"
        case SourceKind.VERSION:
            origin = f"linux-{'.'.join(spec.location.split('.')[:2])}"
        case _:
            digest = hashlib.sha256(spec.location.encode()).hexdigest()[:10]
            origin = f"{spec.kind}-{Path(spec.location).name}-{digest}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", origin)
