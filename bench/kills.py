#!/usr/bin/env python
"""A whole run whose machines are killed at random moments: no result may be lost, and no verdict may change.

    .venv/bin/python bench/kills.py --build DIR --against out/RUN [--kills 10] [--seed 7] [--out DIR]

RUN is an undisturbed run of the same suites, whose verdicts count as the right ones. At random moments, 5 to 45 seconds
apart, a random one of the run's QEMU processes gets SIGKILL. Exit code 1 if anything differs."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ("run", "--no-history", "--no-confirm")  # as measured: only the tests, and nothing left in the user's history
_BETWEEN_S = (5.0, 45.0)
_SUITES = ("selftests/ftrace", "selftests/livepatch")


def machines_of(run: int) -> list[int]:
    """The process ids of the QEMUs that the process `run` and its workers have started."""
    parents: dict[int, int] = {}
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            parents[int(entry.name)] = int(rest.split()[1])
            if name.startswith("qemu-system"):
                found.append(int(entry.name))
    return [pid for pid in found if _descends(pid, run, parents)]


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid > 1:
        pid = parents.get(pid, 0)
        if pid == ancestor:
            return True
    return False


def disturbed(build: Path, out: Path, *, kills: int, chance: random.Random) -> tuple[int, int]:
    """Run the suites into `out` and kill; how many were killed, and the run's exit code."""
    words: list[str | Path] = [ROOT / "bin/harness", *RUN, "--build", build, "-j", "auto", "--out", out]
    words += [word for suite in _SUITES for word in ("--suite", suite)]
    killed = 0
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as run:
        while run.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(timeout=chance.uniform(*_BETWEEN_S))
            machines = machines_of(run.pid) if killed < kills and _tests_run(out) else []
            if machines:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(machines), signal.SIGKILL)
                    killed += 1
    return killed, run.returncode


def _tests_run(out: Path) -> bool:
    """Whether the run is past the machine that the snapshot is made of."""
    events = out / "events.jsonl"
    return events.is_file() and '"restored": true' in events.read_text(errors="replace")


def verdicts(run: Path) -> dict[str, str]:
    return {result["test"]: result["verdict"] for result in json.loads((run / "results.json").read_text())["results"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, help="the run's files; otherwise thrown away")
    given = parser.parse_args()
    right = verdicts(given.against)
    with tempfile.TemporaryDirectory(prefix="bench-kills-") as scratch:
        out = given.out or Path(scratch, "run")
        killed, code = disturbed(given.build, out, kills=given.kills, chance=random.Random(given.seed))
        found = verdicts(out)
    others = {test: (right.get(test), found.get(test)) for test in right | found if right.get(test) != found.get(test)}
    print(f"{killed} machines killed; exit code {code}; {len(found)} of {len(right)} results, {len(others)} differ")
    for test, (was, now) in sorted(others.items()):
        print(f"  {test}: {was or 'none'} undisturbed, {now or 'none'} here")
    sys.exit(1 if others or killed < given.kills else 0)


if __name__ == "__main__":
    main()
