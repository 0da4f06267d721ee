#!/usr/bin/env python
"""What the sandbox of builds costs: `harness build` in it and without it, in turns.

    .venv/bin/python bench/sandbox.py [--edits 5] [--builds 2] [--compiles 6] [--keep DIR]

*empty*: a program that does nothing; in the sandbox, with the look at what it may have left in the trees of a kernel
build. A build starts five or six programs. *compiled*: one directory of the kernel, by make alone and without ccache.
*edited*: one file of the kernel is edited by a patch, as in bench/iterate.py; most of the time goes to what make, the
linker and pahole do anew. *from scratch*: there are no objects, and all of them come from ccache. Both ways have
workspaces and a ccache of their own in DIR, which is used as XDG_CACHE_HOME; they take turns, and the second begins
every other turn. Wall time says little on a loaded machine, so the CPU time of all processes stands beside it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.iterate import HARNESS, Edits, Took, call, measured
from bench.machine import describe, spread
from harness.build.cache import cache_root
from harness.build.command import run
from harness.build.sandbox import View, find_sandbox
from harness.build.toolchain import find_toolchain
from harness.build.workspace import Workspace

WAYS = {"without": ["--no-sandbox"], "sandboxed": []}
PART = "kernel/time"
_LEAST_S = 1.0  # what a ratio can be of


class Bench:
    """Builds in a cache of their own, below `directory`."""

    def __init__(self, directory: Path) -> None:
        usual = cache_root()
        self._cache = directory / "arm64-ftrace-harness"
        self._environment = {"XDG_CACHE_HOME": str(directory)}
        self._edits = Edits(directory)
        os.environ |= self._environment  # for what runs without the command line
        self._sandbox = find_sandbox()
        if not self._cache.is_dir():
            self._cache.mkdir(parents=True)
            for name in ("downloads", "apt"):
                if (usual / name).is_dir():
                    shutil.copytree(usual / name, self._cache / name)

    def prepare(self) -> None:
        """Fill both workspaces and both ccaches."""
        self._edits.another()
        for way in WAYS:
            print(f"first build, {way}", flush=True)
            self._build(way)

    def edited(self, way: str) -> None:
        """Build with another constant in one file."""
        self._edits.another()
        self._build(way)

    def from_scratch(self, way: str) -> None:
        """Build without objects."""
        self._build(way)

    def forget(self, way: str) -> None:
        """Remove the objects of this way's workspace, and what was built from them."""
        for workspace in (self._cache / "workspaces").iterdir():
            if workspace.is_dir() and workspace.name.endswith("-sandboxed-0") == (way == "sandboxed"):
                for tree in (*workspace.glob("obj-*"), *workspace.glob("made-*")):
                    shutil.rmtree(tree)
        shutil.rmtree(self._cache / "builds")

    def empty(self, way: str) -> None:
        """Run `true`, which might have written to the trees of the sandboxed workspace."""
        self._run(way, ["true"], Workspace(self._workspace, self._configuration).written_by_make)

    def compiled(self, way: str) -> None:
        """Compile a part of the kernel in object trees beside the workspaces' own."""
        objects = self._objects(way)
        shutil.rmtree(objects / PART, ignore_errors=True)
        self._run(way, self._make(objects, f"{PART}/"), [objects])

    def prepare_compiling(self) -> None:
        """Make what all files need."""
        for way in WAYS:
            objects = self._objects(way)
            shutil.copy(self._workspace / f"obj-{self._configuration}/.config", objects)
            self._run(way, self._make(objects, "olddefconfig", "prepare"), [objects])

    def clean(self) -> None:
        """Remove the object trees of `compiled`."""
        for way in WAYS:
            shutil.rmtree(self._objects(way))

    @property
    def _workspace(self) -> Path:
        return next((self._cache / "workspaces").glob("*-sandboxed-0"))

    @property
    def _configuration(self) -> str:
        return next(self._workspace.glob("obj-*")).name.removeprefix("obj-")

    def _objects(self, way: str) -> Path:
        """An object tree below the workspace, so that the sandbox shows it."""
        objects = self._workspace / f"bench-{way}"
        objects.mkdir(exist_ok=True)
        return objects

    def _make(self, objects: Path, *targets: str) -> list[str]:
        toolchain = find_toolchain()
        source = self._workspace / "src"
        return ["make", "-j2", "-C", str(source), f"O={objects}", "ARCH=arm64", *toolchain.make_args, *targets]

    def _run(self, way: str, words: list[str], writable: list[Path]) -> None:
        view = View(root=self._workspace, writable=tuple(writable), is_expected=lambda link: True)  # kbuild's own
        confinement = self._sandbox.confine(view) if way == "sandboxed" else None
        done = run(words, timeout=3600, confinement=confinement)
        if done.status:
            sys.exit(f"{words}: exit code {done.status}\n{done.stderr[-2000:]}")

    def _build(self, way: str) -> None:
        call([HARNESS, "build", *WAYS[way], "--patches", self._edits.patch], **self._environment)


def rounds(
    count: int, work: Callable[[str], None], before: Callable[[str], None] = lambda way: None
) -> Iterator[dict[str, Took]]:
    """Yield what `work` takes each way, `count` times."""
    for number in range(count):
        took: dict[str, Took] = {}
        for way in (list(WAYS), list(reversed(WAYS)))[number % 2]:
            before(way)
            own = time.process_time()
            one, _ = measured(lambda way=way: work(way))  # type: ignore[misc]
            took[way] = Took(one.wall, one.cpu + time.process_time() - own)
        yield took


def tell(name: str, every: Iterator[dict[str, Took]]) -> None:
    """Print each round as it ends, then the medians."""
    done: list[dict[str, Took]] = []
    for took in every:
        done.append(took)
        line = "; ".join(f"{way} {one.wall:.2f} s, CPU {one.cpu:.2f} s" for way, one in took.items())
        print(f"{name} {len(done)}: {line}; load {os.getloadavg()[0]:.1f}", flush=True)
    if not done:
        return
    for way in WAYS:
        print(f"{name}, {way}, wall s   {spread([took[way].wall for took in done], digits=2)}")
        print(f"{name}, {way}, CPU s    {spread([took[way].cpu for took in done], digits=2)}")
    for what in ("wall", "cpu"):
        if not min(getattr(took["without"], what) for took in done) > _LEAST_S:
            continue  # of nothing
        ratios = [getattr(took["sandboxed"], what) / getattr(took["without"], what) for took in done]
        print(f"{name}, ratio of {what}: {spread(ratios, digits=3)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--compiles", type=int, default=6)
    parser.add_argument("--builds", type=int, default=2, help="from scratch")
    parser.add_argument("--keep", type=Path, help="the cache to use, kept for the next time")
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="bench-sandbox-") as scratch:
        bench = Bench(options.keep or Path(scratch))
        if options.edits or options.builds or not options.keep:
            bench.prepare()
        tell("empty", rounds(20, bench.empty))
        bench.prepare_compiling()
        tell("compiled", rounds(options.compiles, bench.compiled))
        bench.clean()
        tell("edited", rounds(options.edits, bench.edited))
        tell("from scratch", rounds(options.builds, bench.from_scratch, bench.forget))
    print(describe())


if __name__ == "__main__":
    main()
