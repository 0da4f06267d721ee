"""The directories of runs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness import shortage
from harness.errors import UserError
from harness.run.eventlog import EVENTS


def new_directory(wanted: Path | None, prefix: str) -> Path:
    """`wanted`, or a new directory below out/ named after the time; two runs that start in the same second get two."""
    path = wanted or Path("out") / time.strftime(f"{prefix}%Y%m%d-%H%M%S")
    try:
        path.mkdir(parents=True, exist_ok=wanted is not None)
    except FileExistsError:
        return new_directory(path.with_name(f"{path.name}-{os.getpid()}"), prefix)
    except OSError as error:
        wrong = UserError(f"{path}: expected a directory to write to, can't create it: {error.strerror}")
        raise shortage.of(error, where=path) or wrong from None
    if (path / EVENTS).exists():
        raise UserError(f"{path}: already contains a run; name another directory with --out")
    return path


def point_latest(run_dir: Path) -> None:
    """Replace out/latest in one step, so that it always exists."""
    fresh = run_dir.with_name(f".latest.{os.getpid()}")
    fresh.symlink_to(run_dir.name)
    fresh.replace(run_dir.with_name("latest"))
