"""A package has the commit that it was made from; an editable install asks git."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from harness.layout import PROJECT
from tests.unit.test_records import git

pytest.importorskip("hatchling", reason="pip installs it only where it builds a package")


def hooked(root: Path, version: str = "standard") -> dict[str, str]:
    """What the hook adds: texts by their places in the package."""
    build_data: dict[str, Any] = {"force_include": {}}
    hook = runpy.run_path(str(PROJECT / "bin/hatch_build.py"))["CommitHook"](
        str(root), {}, None, None, str(root), "wheel"
    )
    hook.initialize(version, build_data)
    return {place: Path(file).read_text() for file, place in build_data["force_include"].items()}


def test_a_checkout_gives_its_commit(tmp_path: Path) -> None:
    assert hooked(tmp_path) == {}
    (tmp_path / "x").write_text("1\n")
    git(tmp_path, "init", "--quiet")
    assert hooked(tmp_path) == {}  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "m")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert hooked(tmp_path) == {"harness/commit": f"{commit}\n"}
    assert hooked(tmp_path, "editable") == {}
    (tmp_path / "x").write_text("2\n")
    assert hooked(tmp_path) == {"harness/commit": f"{commit} modified\n"}
