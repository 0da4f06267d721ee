"""Packages know which commit they were made from: the file harness/commit, which harness/run/identity.py reads."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GIT_S = 10.0


class CommitHook(BuildHookInterface):  # type: ignore[misc]  # hatchling has no types
    """Adds the file to wheels and source packages that are built from a checkout. A wheel that is built from a source
    package has it already; an editable install asks git each time."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not (Path(self.root) / ".git").exists():
            return
        commit = self._git("rev-parse", "HEAD")
        if not commit:
            return
        modified = " modified" if self._git("status", "--porcelain", "--untracked-files=no") else ""
        self._directory = tempfile.TemporaryDirectory(prefix="commit-")  # as long as the hook
        file = Path(self._directory.name) / "commit"
        file.write_text(f"{commit}{modified}\n")
        build_data["force_include"][str(file)] = "harness/commit"

    def _git(self, *words: str) -> str:
        try:
            command = ["git", "-C", self.root, *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""
