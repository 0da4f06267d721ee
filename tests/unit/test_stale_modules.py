"""Modules outside the kernel tree are made anew for another vmlinux, and only then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.build.testprograms import forget_stale_modules
from harness.build.workspace import Workspace
from tests.faults.catalogue import Blame, fault


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    for directory in (made.objects, made.modules, _selftests(made)):
        directory.mkdir(parents=True)
    (made.objects / "vmlinux").write_text("kernel")
    forget_stale_modules(made)  # the first build leaves the stamp
    return made


def _selftests(workspace: Workspace) -> Path:
    return workspace.source / "tools/testing/selftests/livepatch/test_modules"


def _make(workspace: Workspace) -> list[Path]:
    workspace.modules.mkdir(exist_ok=True)
    made = [
        workspace.modules / "klp_version.ko",
        *(_selftests(workspace) / name for name in ("a.ko", "a.o", ".a.o.cmd")),
    ]
    for path in made:
        path.write_text("made")
    (_selftests(workspace) / "a.c").write_text("source")
    return made


def test_the_same_vmlinux_keeps_them(workspace: Workspace) -> None:
    made = _make(workspace)
    forget_stale_modules(workspace)
    assert all(path.exists() for path in made)


@fault(
    "out-of-tree modules that were built for another vmlinux",
    where="cache",
    blame=Blame.NOBODY,
    survives="the sources; no stale module is loaded",
)
def test_another_vmlinux_drops_what_was_made_and_keeps_the_sources(workspace: Workspace) -> None:
    made = _make(workspace)
    (workspace.objects / "vmlinux").write_text("KERNEL")
    os.utime(workspace.objects / "vmlinux", ns=(1, 1))
    forget_stale_modules(workspace)
    assert not any(path.exists() for path in made)
    assert (_selftests(workspace) / "a.c").read_text() == "source"
    again = _make(workspace)
    forget_stale_modules(workspace)
    assert all(path.exists() for path in again)


def test_selftests_modules_of_another_configuration_are_dropped_and_its_test_modules_are_not(
    workspace: Workspace,
) -> None:
    made = _make(workspace)
    other = Workspace(workspace.directory, "other")
    for directory in (other.objects, other.modules):
        directory.mkdir(parents=True)
    shutil.copy2(workspace.objects / "vmlinux", other.objects)
    forget_stale_modules(other)
    assert [path.name for path in made if path.exists()] == ["klp_version.ko"]
