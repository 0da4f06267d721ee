"""A search in a small git repository whose kernels are texts: what a commit holds decides what its test does.

`breaks` is the file whose presence makes the test fail; `no-build`, `no-boot` and `other` are files that do what they
say. As a program: `python -m tests.fakebisect SAVES DIRECTORY` searches and is killed after so many saves."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.campaign.bisect.hunt import Built
from harness.campaign.bisect.local import bisect_here
from harness.campaign.bisect.place import Place
from harness.campaign.bisect.ranges import Ground
from harness.campaign.request import BisectRequest, BuildOptions
from harness.errors import BuildError
from harness.model.bisect import Answer, Kind, Outcome
from harness.model.progress import NoDisplay, Silent

TEST = "testcases/function/test_calls.py::test_caller"


class SilentDisplay(Silent, NoDisplay):
    """Shows nothing."""


class Repository:
    """A repository with a file for each commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=master")
        self.first = self.commit("begin")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "core.hooksPath="]
        return subprocess.run(
            ["git", *who, *words], cwd=self.path, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, *names: str) -> str:
        for name in names:
            (self.path / name).write_text(f"{name}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", names[0])
        return self.git("rev-parse", "HEAD")

    def options(self, **changes: object) -> BuildOptions:
        plain = {"build_dir": None, "patches": (), "kconfigs": (), "toolchain": None, "allow_plain_ftrace": False}
        fields = {**plain, "kernel": f"git:{self.path}", "jobs": None, **changes}
        return BuildOptions(**fields)  # type: ignore[arg-type]


@dataclass
class FakeTester:
    """See Tester. `files`: what a state holds; `bad`, `good`: how often its test fails with and without `breaks`."""

    files: Callable[[int], set[str]]
    without: Callable[[int], set[str] | str]
    bad: float = 1.0
    good: float = 0.0
    same_binaries: bool = False
    built: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def build(self, state: int) -> Built:
        self.built.append(state)
        return self._build(self.files(state))

    def build_reverted(self, change: int) -> Built | str:
        files = self.without(change)
        return files if isinstance(files, str) else self._build(files)

    def _build(self, files: set[str]) -> Built:
        if "no-build" in files:
            raise BuildError("the kernel does not build", details=["sched.c:1: error"])
        text = " ".join(sorted(files))
        binaries = "same" if self.same_binaries else " ".join(sorted(files - {"docs"}))
        return Built(directory=text, binaries=binaries, seconds=300.0)

    def repeat(self, built: Built, state: int, see: Callable[[Outcome], bool]) -> None:
        while True:
            self.repeated.append(state)
            if see(self._outcome(set(built.directory.split()))):
                return

    def _outcome(self, files: set[str]) -> Outcome:
        if "no-boot" in files:
            return Outcome(kind=Kind.NO_BOOT, failure="boot: it hung", reason="it hung")
        if "other" in files:
            return Outcome(kind=Kind.FAIL, failure="BUG in other_function [BUG]", reason="another bug")
        if self.chance.random() < (self.bad if "breaks" in files else self.good):
            return Outcome(kind=Kind.FAIL, failure="WARNING in f (a.c) [WARNING]", reason="WARNING in f")
        return Outcome(kind=Kind.PASS)


def search(
    repository: Repository, out: Path, rates: tuple[float, float] = (1.0, 0.0), /, **changes: object
) -> tuple[Answer, FakeTester]:
    """Search between the first commit and HEAD. `rates`: how often the test fails with and without `breaks`; `changes`:
    of the request."""
    fields: dict[str, object] = {
        "kernel": repository.options(),
        "test": TEST,
        "board_name": "qemu-virt",
        "good": repository.first,
        "bad": "HEAD",
        **changes,
    }
    same = bool(fields.pop("same_binaries", False))
    testers = []

    def tester_for(_request: BisectRequest, ground: Ground, _place: Place, _display: object) -> FakeTester:
        def files(state: int) -> set[str]:
            commit = ground.options(state).kernel.partition("#")[2]
            return set(repository.git("ls-tree", "--name-only", commit).split())

        def without(change: int) -> set[str] | str:
            options = ground.reverted(change)
            if isinstance(options, str):
                return options
            commit = options.kernel.partition("#")[2]
            gone = set(repository.git("show", "--name-only", "--format=", ground.range.changes[change].name).split())
            assert all(name in options.patches[-1].read_text() for name in gone)
            return set(repository.git("ls-tree", "--name-only", commit).split()) - gone

        testers.append(FakeTester(files, without, bad=rates[0], good=rates[1], same_binaries=same))
        return testers[-1]

    request = BisectRequest(**fields)  # type: ignore[arg-type]
    display = SilentDisplay()
    answer = bisect_here(request, Place(out), display, command="harness bisect", tester_for=tester_for)
    return answer, testers[-1]


def _main() -> None:
    saves, directory = int(sys.argv[1]), Path(sys.argv[2])
    left = [saves]
    save = Place.save

    def save_and_die(self: Place, progress: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, progress)  # type: ignore[arg-type]

    Place.save = save_and_die  # type: ignore[method-assign]
    repository = Repository.__new__(Repository)
    repository.path = directory / "linux"
    repository.first = sys.argv[3]
    search(repository, directory / "search", (0.5, 0.0))


if __name__ == "__main__":
    _main()
