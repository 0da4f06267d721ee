"""`harness inspect` on a kernel that was built: every form of it tells the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import harness

pytestmark = pytest.mark.kernel


def inspected(path: Path) -> dict[str, Any]:
    done = harness("inspect", "--json", path, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["inspected"][0]
    return found


def recorded(found: dict[str, Any]) -> set[str]:
    return {name for names in found["recorded"] for name in names}


def test_vmlinux_and_its_image_have_the_same_table(build: Path, tmp_path: Path) -> None:
    """The Image is elsewhere, so that its System.map is not beside it."""
    image = tmp_path / "Image"
    shutil.copyfile(build / "Image", image)
    stripped = tmp_path / "vmlinux"
    subprocess.run(
        [shutil.which("aarch64-linux-gnu-strip") or "strip", "-o", stripped, build / "vmlinux"], check=True, timeout=120
    )
    [whole] = inspected(build / "vmlinux")["files"]
    for path, form in ((image, "raw arm64 Image"), (stripped, "vmlinux without symbols")):
        [found] = inspected(path)["files"]
        assert found["form"] == f"{form}, symbols from kallsyms"
        assert found["table"] == whole["table"]
        assert len(found["recorded"]) == len(whole["recorded"]) > 10_000
        assert recorded(found) >= recorded(whole)  # a label may stand at a function's address
        assert found["entry"] == whole["entry"]


def test_the_directory_of_a_build_with_its_modules(build: Path) -> None:
    done = harness("inspect", "--modules", "--json", build, cwd=build)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)["inspected"]
    assert [file["form"] for file in found["files"]] == ["vmlinux"]
    assert found["modules"]["count"] == len([*build.rglob("*.ko")])
    assert found["modules"]["records"] > 0
    assert not found["modules"]["wrong"]
