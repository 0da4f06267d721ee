"""Damaged files of the cache on a booted kernel, and a pruner beside a run: who is blamed, and what stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build import seal
from harness.build.checksum import stamp_of
from harness.build.rootfs import root_image
from harness.build.seal import MANIFEST, manifest_of, seal_directory
from harness.model.progress import Silent
from harness.parse.manifest import manifest_from_json
from tests import damage
from tests.e2e.conftest import PROJECT, harness
from tests.faults.catalogue import Blame, fault

BOARDS = """
boards:
  b: {boot: {method: qemu}}
  impatient: {boot: {method: qemu}, limits: {boot: 20}}
"""
PRUNE = """
from harness.build.prune import Limits, prune
from harness.display import Display

with Display() as display:
    prune(Limits(size=0, age=0), display)
"""


@dataclass
class Cache:
    """A cache of its own, with a finished build and a root image in it."""

    home: Path
    build: Path
    root: Path

    def harness(self, verb: str, *arguments: str | Path, board: str = "b") -> subprocess.CompletedProcess[str]:
        boards = self.home / "boards.yaml"
        boards.write_text(BOARDS)
        given = (verb, "--build", self.build, "--boards", boards, "--board", board, *arguments)
        return harness(*given, cwd=self.home, environment={"XDG_CACHE_HOME": str(self.home)})

    def boot(self, *options: str, board: str = "b") -> subprocess.CompletedProcess[str]:
        return self.harness("boot", *options, "--", "echo up", board=board)

    def forget_the_change(self, path: Path, manifest: Path) -> None:
        """Let `path` look as if nothing had happened to it since its checksum was found right."""
        text = manifest.read_bytes()
        names = manifest_from_json(text.decode()).files
        assert path.relative_to(manifest.parent).as_posix() in names
        seal._note(manifest, text, {name: stamp_of(manifest.parent / name) for name in names})


def copy(source: Path, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", source, goal], check=True)


@pytest.fixture
def cache(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Copies, so that the cache of whoever runs the tests is never damaged."""
    root = root_image(progress=Silent())
    mine = tmp_path / "arm64-ftrace-harness"
    copy(root.path, mine / "rootfs" / root.path.name)
    copy(manifest_of(root.path), manifest_of(mine / "rootfs" / root.path.name))
    copied = mine / "builds" / build.name
    copy(build, copied)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (copied / MANIFEST).unlink(missing_ok=True)  # an older harness made none
    seal_directory(copied, final=copied)
    return Cache(home=tmp_path, build=copied, root=mine / "rootfs" / root.path.name)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(
            how,
            id=name,
            marks=fault(
                f"the Image of a build that --build names is {name}",
                where="boot",
                blame=Blame.INFRA,
                survives="nothing is booted; the message names file, expectation, finding and remedy",
            ),
        )
        for name, how in damage.HOW.items()
    ],
)
def test_a_damaged_image_is_never_the_kernels_fault(cache: Cache, how: Callable[[Path], None]) -> None:
    how(cache.build / "Image")
    for done in (cache.boot(), cache.harness("run", "-k", "test_text")):
        assert done.returncode == 3, done.stderr
        assert f"{cache.build}/Image: damaged: expected a file of " in done.stderr
        assert f"remove {cache.build} and build it again" in done.stderr
        assert "hangs" not in done.stderr


@pytest.mark.parametrize("how", [damage.empty, damage.cut, damage.zero])
@fault("the Image of an older harness's build, which recorded no checksums, is empty, cut short or zeroed",
       where="boot", blame=Blame.INFRA,
       survives="nothing is booted; the message names file, expectation and finding")  # fmt: skip
def test_a_damaged_image_of_an_older_harness_is_not_either(cache: Cache, how: Callable[[Path], None]) -> None:
    (cache.build / MANIFEST).unlink()
    record = json.loads((cache.build / "build.json").read_text())
    record.pop("manifest", None)
    (cache.build / "build.json").write_text(json.dumps(record))
    assert cache.boot().stdout == "up\n"
    how(cache.build / "Image")
    done = cache.boot()
    assert done.returncode == 3, done.stderr
    assert f"{cache.build}/Image: damaged: expected " in done.stderr


@fault("the Image is zeroed by the disk, without any change of size and times, and the kernel boots silently",
       where="boot", blame=Blame.INFRA, survives="the console's log; the message names the damaged file")  # fmt: skip
def test_a_silent_boot_is_verified_before_the_kernel_is_blamed(cache: Cache) -> None:
    image = cache.build / "Image"
    damage.zero(image)
    cache.forget_the_change(image, cache.build / MANIFEST)
    done = cache.boot(board="impatient")
    assert done.returncode == 3, done.stderr
    assert f"{image}: damaged: expected a file of {image.stat().st_size} bytes with SHA-256" in done.stderr
    assert "it led to: no console output within 20 s" in done.stderr
    done = cache.harness("run", "-k", "basic1", board="impatient")
    assert done.returncode == 3, done.stderr
    assert "Image: damaged" in done.stderr
    early = cache.boot("--verify")
    assert early.returncode == 3
    assert "it led to" not in early.stderr  # found before anything was booted


@fault("the root image's file system is zeroed by the disk, without any change of size and times", where="boot",
       blame=Blame.INFRA, survives="the console's log; the message names the damaged file")  # fmt: skip
def test_a_root_that_can_not_be_mounted_is_verified_as_well(cache: Cache) -> None:
    with cache.root.open("r+b") as file:
        file.write(bytes(64 * 1024))
    cache.forget_the_change(cache.root, manifest_of(cache.root))
    done = cache.boot()
    assert done.returncode == 3, done.stderr
    assert f"{cache.root}: damaged" in done.stderr
    assert "it led to: the kernel panicked at boot" in done.stderr


@fault("the cache is pruned to nothing while a run uses an old build of it", where="two users", blame=Blame.NOBODY,
       survives="the build and the root image, until the run has ended; every verdict")  # fmt: skip
def test_a_pruner_beside_a_run_leaves_what_the_run_uses(cache: Cache) -> None:
    os.utime(cache.build, (1, 1))
    boards, out = cache.home / "boards.yaml", cache.home / "out"
    boards.write_text(BOARDS)
    words: list[str | Path] = [sys.executable, "-m", "harness", "run", "--build", cache.build, "--boards", boards]
    words += ["--board", "b", "--suite", "selftests/ftrace", "-k", "basic1 or basic2 or basic3", "--out", out]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache.home)}
    prune = [sys.executable, "-c", PRUNE]
    run = subprocess.Popen(words, cwd=cache.home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        while '"started"' not in ((out / "events.jsonl").read_text() if (out / "events.jsonl").exists() else ""):
            assert run.poll() is None
            time.sleep(0.05)
        subprocess.run(prune, cwd=PROJECT, env=environment, check=True)
        assert run.poll() is None, "the run was over before anything was pruned"
        said, _ = run.communicate(timeout=300)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0, said.decode()
    assert (cache.build / "Image").exists()
    assert cache.root.exists()
    told = subprocess.run(prune, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True)
    assert not cache.build.exists()
    assert not cache.root.exists()
    assert f"cache: removed builds/{cache.build.name}" in told.stderr + told.stdout
