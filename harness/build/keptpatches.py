"""The patches of a kernel as files: in the directory of its build, and of each run of it. What was given to --patches
may be gone by the time that somebody wants to build the kernel again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.build.load_patches import load_patches
from harness.errors import UserError
from harness.model.kernel import Patch
from harness.model.names import as_name
from harness.model.record import PatchRecord

_KEPT = "patches"
_LONGEST_NAME = 100


def keep_patches(patches: Sequence[Patch], directory: Path) -> None:
    """Write `patches` below `directory`, numbered in their order. Raises OSError."""
    if patches:
        (directory / _KEPT).mkdir(exist_ok=True)
    for number, patch in enumerate(patches, 1):
        stem = as_name(patch.name.rpartition("/")[2].removesuffix(".patch"), longest=_LONGEST_NAME)
        content = patch.text.encode("utf-8", "surrogateescape")
        (directory / _KEPT / f"{number:04}-{stem}.patch").write_bytes(content)


def copy_patches(build: Path, directory: Path) -> None:
    """Copy the patches of the build in `build`, if it has any, below `directory`. Raises OSError."""
    if (build / _KEPT).is_dir():
        shutil.copytree(build / _KEPT, directory / _KEPT, dirs_exist_ok=True)


def paths_of(series: Sequence[PatchRecord], *, directory: Path, given: Sequence[Path]) -> tuple[Path, ...] | None:
    """Return what to give to --patches for exactly this series: those kept below `directory`, or what was `given` the
    first time. None: neither is there any more, or is another series now."""
    if not series:
        return ()
    for paths in ((directory / _KEPT,), tuple(given)):
        try:
            found = load_patches(paths)
        except UserError:
            continue
        if [patch.sha256 for patch in found] == [patch.sha256 for patch in series]:
            return paths
    return None
