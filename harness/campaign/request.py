"""What can be asked for, as values. Standard library only, so that whoever makes a request starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.model.kernel import DEFAULT_SOURCE


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which kernel is meant: a finished build, or what to build."""

    build_dir: Path | None
    kernel: str
    patches: tuple[Path, ...]
    kconfigs: tuple[Path, ...]
    toolchain: str | None
    allow_plain_ftrace: bool
    jobs: int | None

    def checked(self) -> BuildOptions:
        """The same; UserError where it asks for what can't be had together."""
        if self.build_dir and (self.patches or self.kconfigs or self.toolchain or self.kernel != DEFAULT_SOURCE):
            raise UserError(
                "--build names a finished kernel: --kernel, --patches, --kconfig and --toolchain can't change it"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run: which kernel, on which board (`wait`: for how many seconds to wait for one in use), which tests (all
    suites where none is named), how they are run, and where the run's files go (None: below out/).

    `workers`: machines side by side; None: as many as suit host and board. `isolation`: test, file or crash; None: what
    the board can."""

    kernel: BuildOptions
    board_name: str
    boards_file: Path | None = None
    wait: float | None = None
    suites: tuple[str, ...] = ()
    keyword: str = ""
    maxfail: int = 0
    timeout_factor: float = 1.0
    hammer_seconds: float = 5.0
    workers: int | None = 1
    isolation: str | None = None
    expectations: tuple[Path, ...] = ()
    out_dir: Path | None = None
