"""Identity: the id of a run, and which harness this is."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import secrets
import subprocess
import time
from pathlib import Path

from harness import __version__
from harness.model.record import HarnessRecord

_PACKAGE = Path(__file__).resolve().parents[1]
_COMMIT = _PACKAGE / "commit"  # the commit that a package was built from (bin/hatch_build.py); a checkout has none
_DISTRIBUTION = "arm64-ftrace-harness"
_GIT_LIMIT_S = 10.0


def new_run_id() -> str:
    """A unique id that sorts by time: ``20260131T235959.123Z-5f2c1a9e``."""
    now = time.time()
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return f"{moment}.{int(now * 1000) % 1000:03}Z-{secrets.token_hex(4)}"


@functools.cache
def running_harness() -> HarnessRecord:
    """The harness that this process runs. Asked for once: what a process has imported stays, whatever is committed."""
    return this_harness()


def this_harness(package: Path = _PACKAGE) -> HarnessRecord:
    """The harness in `package`: from its checkout, its package, or pip's record of a repository."""
    record = _of_checkout(package.parent) or _as_packaged(package / _COMMIT.name) or _as_installed()
    return record or HarnessRecord(version=__version__)


def _of_checkout(directory: Path) -> HarnessRecord | None:
    if not (directory / ".git").exists():  # otherwise git might find an unrelated repository around this directory
        return None
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return None
    return HarnessRecord(
        version=__version__, commit=commit, is_dirty=bool(_git(directory, "status", "--porcelain", "-uno"))
    )


def _git(directory: Path, *words: str) -> str:
    """git's output; empty if it fails."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(directory), *words],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_GIT_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _as_packaged(file: Path) -> HarnessRecord | None:
    try:
        commit, _, modified = file.read_text().strip().partition(" ")
    except OSError:
        return None
    return HarnessRecord(version=__version__, commit=commit, is_dirty=bool(modified))


def _as_installed() -> HarnessRecord | None:
    """What pip records when it installs from a repository (PEP 610)."""
    try:
        text = importlib.metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
        commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return None
    return HarnessRecord(version=__version__, commit=str(commit)) if commit else None
