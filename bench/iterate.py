#!/usr/bin/env python
"""How long a developer waits: `harness build` with nothing changed; from an edited one-file patch to a test's verdict.

    .venv/bin/python bench/iterate.py [--edits 3] [--runs 7] [--keep DIR]

Goes through the real command line, in the user's cache. Beside each edit, alternating with it, the same edit is made by
hand in the same trees and built with the same make, which is the minimum that anybody has to do; the ratio compares the
two. Wall time says little on a loaded machine, so the CPU time of all processes is printed beside it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import RUN, describe, spread
from harness.build.finished import load_record

ROOT = Path(__file__).resolve().parents[1]
HARNESS = ROOT / "bin/harness"
LIMIT_S = 3600.0
T = TypeVar("T")
FILE = "kernel/trace/fgraph.c"
MARK = "bench-iterate-edit"
PATCH = f"""\
Nothing but another constant in a function that is in use

SPDX-License-Identifier: GPL-2.0-only

--- a/{FILE}
+++ b/{FILE}
@@ -656,6 +656,7 @@
 \tint bit;
 \tint i;
 
+\tWARN_ON_ONCE(current->pid == -@N@); /* {MARK} */
 \tbit = ftrace_test_recursion_trylock(func, ret);
 \tif (bit < 0)
 \t\treturn -EBUSY;
"""


@dataclass(frozen=True)
class Took:
    """Seconds of wall and of CPU; of the latter QEMU's are part."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Verdict:
    """The first verdict after an edit: what it was, after how many seconds, and those of each part and stage."""

    told: str
    seconds: float
    parts: dict[str, float]
    stages: dict[str, float] = field(default_factory=dict)


def measured(work: Callable[[], T]) -> tuple[Took, T]:
    """What `work` and the processes it starts and awaits take, and what it returns."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.monotonic() - started, cpu), result


def call(words: Sequence[str | Path], **environment: str) -> str:
    """Run a command; its standard output. Ends the benchmark where it fails."""
    done = subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **environment}
    )
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, words))}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


class Edits:
    """One patch that is edited again and again; each edit was never built before, not even by ccache."""

    def __init__(self, directory: Path) -> None:
        self.patch = directory / "edited.patch"
        self._number = int(time.time())

    def another(self) -> int:
        self._number += 1
        self.patch.write_text(PATCH.replace("@N@", str(self._number)))
        return self._number

    def build(self) -> Path:
        """The directory of the finished build."""
        return Path(call([HARNESS, "build", "--patches", self.patch]).strip().splitlines()[-1])

    def first_verdict(self, keyword: str, out: Path) -> Verdict:
        """Edit, and run a test: the seconds until its verdict stands in events.jsonl."""
        self.another()
        started = time.time()
        call([HARNESS, *RUN, "--patches", self.patch, "--suite", "selftests/ftrace", "-k", keyword, "--out", out])
        events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
        verdict = next(event for event in events if event["kind"] == "finished")
        begun = _first(events, "run")
        tested = _first(events, "started", verdict["test"])
        parts = {"build": begun - started, "boot": tested - begun, "test": verdict["time"] - tested}
        return Verdict(str(verdict["data"].get("verdict")), verdict["time"] - started, parts)


def _first(events: Sequence[dict[str, Any]], kind: str, test: str | None = None) -> float:
    return float(next(event["time"] for event in events if event["kind"] == kind and event.get("test") == test))


class ByHand:
    """The same edit and make, without the harness, in the workspace of the build in `built`."""

    def __init__(self, built: Path) -> None:
        lines = (built / "build.log").read_text(errors="replace").splitlines()
        line = next(line for line in lines if line.startswith("$ make ") and " Image modules" in line)
        # the log has the words unquoted; only CC's value holds a space
        self._words = shlex.split(line.removeprefix("$ ").replace("CC=ccache ", "CC=ccache\\ "))
        self._file = Path(self._words[self._words.index("-C") + 1]) / FILE

    def make(self, number: int) -> None:
        """Edit the constant and make. The harness refuses a tree that others changed, so the text is put back."""
        before = self._file.read_text()
        old = next(line for line in before.splitlines() if MARK in line)
        try:
            self._file.write_text(before.replace(old, f"\tWARN_ON_ONCE(current->pid == -{number}); /* {MARK} */"))
            workspace = str(self._file.parents[3])
            call(self._words, CCACHE_BASEDIR=workspace, CCACHE_NOHASHDIR="1")
        finally:
            self._file.write_text(before)


def nothing_changed(runs: int) -> None:
    """`harness build`, which finds the build that is there."""
    took = [measured(lambda: call([HARNESS, "build"])) for _ in range(runs)]
    print(f"nothing changed, wall s       {spread([one[0].wall for one in took])}")
    print(f"nothing changed, CPU s        {spread([one[0].cpu for one in took])}", flush=True)


def edited(edits: Edits, count: int, keyword: str, keep: Path) -> None:
    """Alternate the harness's way and the way by hand."""
    edits.another()
    edits.build()  # the patch is applied and everything else is made: from here on it is edited
    rows: list[tuple[Verdict, Took, Took]] = []
    for number in range(count):
        row = _one_edit(edits, keyword, keep / f"{time.strftime('%H%M%S')}-{number}")
        rows.append(row)
        _tell(number, *row)
    print(f"edited patch to verdict, s    {spread([verdict.seconds for verdict, _, _ in rows])}")
    for name in rows[0][0].parts:
        print(f"  of it {name:<22}{spread([verdict.parts[name] for verdict, _, _ in rows])}")
    print(f"make by hand, s               {spread([hand.wall for _, _, hand in rows])}")
    print(f"ratio of wall times           {spread([verdict.seconds / hand.wall for verdict, _, hand in rows])}")
    print(f"ratio of CPU times            {spread([run.cpu / hand.cpu for _, run, hand in rows])}")


def _one_edit(edits: Edits, keyword: str, out: Path) -> tuple[Verdict, Took, Took]:
    run, verdict = measured(lambda: edits.first_verdict(keyword, out))
    built = edits.build()
    stages = load_record(built).times
    by_hand = ByHand(built)
    number = edits.another()
    hand, _ = measured(lambda: by_hand.make(number))
    return replace(verdict, stages=dict(stages)), run, hand


def _tell(number: int, verdict: Verdict, run: Took, hand: Took) -> None:
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in verdict.parts.items())
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in verdict.stages.items())
    print(f"edit {number + 1}: {verdict.told} after {verdict.seconds:.1f} s: {parts}")
    print(f"  stages of the build: {stages}")
    print(f"  CPU of the whole run {run.cpu:.1f} s; make by hand {hand.wall:.1f} s, CPU {hand.cpu:.1f} s")
    print(f"  load {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="of `harness build` with nothing changed")
    parser.add_argument("--edits", type=int, default=3)
    parser.add_argument("-k", dest="keyword", default="basic1.tc and not instance", help="the one test to run")
    parser.add_argument("--keep", type=Path, help="keep the runs' files in this directory")
    options = parser.parse_args()
    os.environ["HARNESS_NO_SANDBOX"] = "1"  # both ways work in the same trees; bench/sandbox.py has the sandbox's cost
    print(describe())
    call([HARNESS, "build"])
    nothing_changed(options.runs)
    with tempfile.TemporaryDirectory(prefix="bench-iterate-") as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        if options.edits:
            edited(Edits(Path(scratch)), options.edits, options.keyword, keep)
    print(describe())


if __name__ == "__main__":
    main()
