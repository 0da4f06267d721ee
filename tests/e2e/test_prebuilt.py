"""A kernel that others built, in the layout of `make tar-pkg`, is tested as far as it goes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.e2e.conftest import harness

KERNEL_ONLY, OF_A_MODULE = "test_buffers", "test_every_call_and_its_caller"


def tarball_of(build: Path, directory: Path) -> Path:
    """What `make tar-pkg` would have packed of a build. Its content, and so its name in the cache, is always the
    same."""
    release = next((build / "modules").iterdir()).name
    (directory / "boot").mkdir(parents=True)
    for name, packed in (("Image", "vmlinuz"), (".config", "config"), ("System.map", "System.map")):
        shutil.copyfile(build / name, directory / "boot" / f"{packed}-{release}")
    shutil.copytree(build / "modules" / release, directory / "lib/modules" / release, symlinks=True)
    tarball = directory.with_suffix(".tar")
    same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--mode=a+rX,u+w"]
    subprocess.run(["tar", "-C", directory, *same, "-cf", tarball, "boot", "lib"], check=True)
    return tarball


def test_a_tarball_of_a_kernel_is_tested_and_what_it_lacks_is_skipped(build: Path, tmp_path: Path) -> None:
    tarball = tarball_of(build, tmp_path / "linux-arm64")
    words: list[str | Path] = [
        "--kernel",
        f"prebuilt:{tarball}",
        "--selftests",
        build / "selftests",
        "--out",
        tmp_path / "run",
    ]
    keyword = f"{KERNEL_ONLY} or basic1 or {OF_A_MODULE}"
    done = harness("run", *words, "-k", keyword, cwd=tmp_path, limit=900)
    found = json.loads((tmp_path / "run/results.json").read_text())["results"]
    results = {result["test"].rpartition("/")[2]: result for result in found}
    assert done.returncode == 0, done.stdout + done.stderr
    assert results["basic1.tc"]["verdict"] == "PASS"
    own = [result["verdict"] for name, result in results.items() if name.startswith(KERNEL_ONLY)]
    assert own
    assert set(own) == {"PASS"}
    lacking = results[f"test_calls.py::{OF_A_MODULE}"]
    assert lacking["verdict"] == "SKIP"
    assert "there are no headers of" in lacking["reason"]
