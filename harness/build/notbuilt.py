"""What is known of a kernel that does not build."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from harness.build.made import read_made
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.limits import SOURCE_BYTES
from harness.model.record import BuildRecord

LOG = "build.log"
CONFIG = "kernel.config"
_LONGEST_LOG_BYTES = 16 << 20  # the end of it, where the errors are


class NotBuilt(BuildError):
    """A kernel does not build. `record`: of the build that failed, with the errors; `files`: by name, for the directory
    of a run: what make printed and, if it came so far, the configuration."""

    def __init__(self, error: BuildError, *, record: BuildRecord, files: Mapping[str, bytes]) -> None:
        super().__init__(error.message, details=error.details)
        self.record = record
        self.files = files


def errors_of(error: BuildError, workspace: Workspace) -> tuple[str, ...]:
    """Return why a kernel does not build: the first line says it. Paths are from the top of its source."""
    return tuple(workspace.outside(line) for line in error.details or (error.message,))


def files_of(workspace: Workspace, log: Path, *, is_configured: bool) -> dict[str, bytes]:
    """Read the files of a build that failed, as far as they can be."""
    files = {}
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_LOG_BYTES))
        files[LOG] = file.read()
    if is_configured:
        with contextlib.suppress(OSError, BuildError):
            files[CONFIG] = read_made(workspace.objects / ".config", SOURCE_BYTES)
    return files
