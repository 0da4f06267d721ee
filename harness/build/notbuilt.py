"""What is known of a kernel that does not build."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from harness.build.made import read_made
from harness.build.strays import is_real
from harness.build.workspace import Workspace
from harness.errors import BuildError
from harness.limits import SOURCE_BYTES
from harness.model.kernel import Patch
from harness.model.record import BuildRecord

_LONGEST_LOG_BYTES = 16 << 20  # the end of it, where the errors are


class NotBuilt(BuildError):
    """A kernel does not build. `record`: of the build that failed, with the errors; `log`: what make printed; `config`:
    the kernel's configuration, empty if the build did not come so far; `patches`: its series."""

    def __init__(
        self,
        error: BuildError,
        *,
        record: BuildRecord,
        log: str = "",
        config: bytes = b"",
        patches: Sequence[Patch] = (),
    ) -> None:
        super().__init__(error.message, details=error.details)
        self.record = record
        self.log = log
        self.config = config
        self.patches = patches


def errors_of(error: BuildError, workspace: Workspace) -> tuple[str, ...]:
    """Return why a kernel does not build: the first line says it. Paths are from the top of its source."""
    lines = error.details or (error.message,)
    return tuple(line[: len(line) - len(line.lstrip())] + workspace.outside(line) for line in lines)


def log_of(path: Path) -> str:
    """Read what make printed, as far as that is possible."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_LOG_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""


def config_of(workspace: Workspace) -> bytes:
    """Read the configuration, as far as that is possible."""
    with contextlib.suppress(OSError, BuildError):
        if is_real(workspace.objects, below=workspace.directory):
            return read_made(workspace.objects / ".config", SOURCE_BYTES)
    return b""
