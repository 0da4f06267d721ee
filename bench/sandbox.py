#!/usr/bin/env python
"""What the sandbox of builds costs: `harness build` in it and without it, in turns.

    .venv/bin/python bench/sandbox.py [--edits 5] [--builds 2] [--keep DIR]

*edited*: one file of the kernel is edited by a patch, as in bench/iterate.py; most of the time goes to what make, the
linker and pahole do anew. *from scratch*: there are no objects, and all of them come from ccache, so that the sandbox's
share is as large as it gets. Both ways have workspaces and a ccache of their own in DIR, which is used as
XDG_CACHE_HOME; the ways take turns, and the second begins every other turn. Wall time says little on a loaded machine,
so the CPU time of all processes stands beside it."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.iterate import HARNESS, Edits, Took, call, measured
from bench.machine import describe, spread
from harness.build.cache import cache_root

WAYS = {"without": ["--no-sandbox"], "sandboxed": []}


class Bench:
    """Builds in a cache of their own, below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._cache = directory / "arm64-ftrace-harness"
        self._environment = {"XDG_CACHE_HOME": str(directory)}
        self._edits = Edits(directory)
        if not self._cache.is_dir():
            self._cache.mkdir(parents=True)
            for name in ("downloads", "apt"):
                if (cache_root() / name).is_dir():
                    shutil.copytree(cache_root() / name, self._cache / name)

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
            took[way], _ = measured(lambda way=way: work(way))  # type: ignore[misc]
        yield took


def tell(name: str, every: Iterator[dict[str, Took]]) -> None:
    """Print each round as it ends, then the medians."""
    done: list[dict[str, Took]] = []
    for took in every:
        done.append(took)
        line = "; ".join(f"{way} {one.wall:.1f} s, CPU {one.cpu:.1f} s" for way, one in took.items())
        print(f"{name} {len(done)}: {line}; load {os.getloadavg()[0]:.1f}", flush=True)
    if not done:
        return
    for way in WAYS:
        print(f"{name}, {way}, wall s   {spread([took[way].wall for took in done])}")
        print(f"{name}, {way}, CPU s    {spread([took[way].cpu for took in done])}")
    for what in ("wall", "cpu"):
        ratios = [getattr(took["sandboxed"], what) / getattr(took["without"], what) for took in done]
        print(f"{name}, ratio of {what}: median {statistics.median(ratios):.3f}, {spread(ratios)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--builds", type=int, default=2, help="from scratch")
    parser.add_argument("--keep", type=Path, help="the cache to use, kept for the next time")
    options = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(prefix="bench-sandbox-") as scratch:
        bench = Bench(options.keep or Path(scratch))
        bench.prepare()
        tell("edited", rounds(options.edits, bench.edited))
        tell("from scratch", rounds(options.builds, bench.from_scratch, bench.forget))
    print(describe())


if __name__ == "__main__":
    main()
