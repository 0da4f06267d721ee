#!/usr/bin/env python3
"""Plays nights on real kernels, and shows what the harness says of each against the one before.

    .venv/bin/python bench/nights.py [--out DIR] [-j 2] [--flaky 12] [NIGHT…]

    stock      the default kernel
    again      the same kernel once more
    oops       with tests/e2e/oops-in-wakeup-tracer.patch
    mutant     with tests/mutants/parent-ip-is-own.patch
    flaky      with tests/nights/wakeup-tracer-fails-now-and-then.patch, one test in several nights

All go into one history, DIR/history.sqlite. A night that is there is not played again. The kernels are built as the
nights need them, ten minutes for the first and one or two for each other; a night takes five to ten.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HARNESS = str(ROOT / "bin/harness")
SUITES = ("testcases", "selftests/ftrace", "selftests/livepatch")
KEYWORD = "testcases or selftests/livepatch or test.d/tracer or test.d/kprobe"
FLAKY_TEST = "wakeup.tc"


@dataclass(frozen=True)
class Night:
    """`against`: the night that this one is compared with; `keyword`: the tests, if not the usual ones."""

    name: str
    patch: str = ""
    against: str = ""
    keyword: str = ""


NIGHTS = (
    Night("stock"),
    Night("again", against="stock"),
    Night("oops", patch="tests/e2e/oops-in-wakeup-tracer.patch", against="again"),
    Night("mutant", patch="tests/mutants/parent-ip-is-own.patch", against="again"),
)


def flaky(nights: int) -> tuple[Night, ...]:
    patch = "tests/nights/wakeup-tracer-fails-now-and-then.patch"
    return tuple(Night(f"flaky-{number}", patch, "again", FLAKY_TEST) for number in range(1, nights + 1))


def play(night: Night, out: Path, *, workers: str) -> None:
    """Run a night into `out`, unless it is there."""
    directory = out / night.name
    if (directory / "results.json").exists():
        return
    words = [HARNESS, "run", "--history", str(out / "history.sqlite"), "--out", str(directory), "-j", workers]
    words += [word for suite in SUITES for word in ("--suite", suite)]
    words += ["--patches", str(ROOT / night.patch)] if night.patch else []
    words += ["-k", night.keyword or KEYWORD]
    with (out / f"{night.name}.log").open("w") as log:
        code = subprocess.run(words, stdout=log, stderr=log, check=False).returncode
    last = (out / f"{night.name}.log").read_text().strip().rpartition("\n")[2]
    print(f"{night.name}: exit code {code}: {last}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("nights", nargs="*", metavar="NIGHT")
    arguments.add_argument("--out", type=Path, default=Path("out/nights"))
    arguments.add_argument("-j", dest="workers", default="2")
    arguments.add_argument("--flaky", type=int, default=12, metavar="NIGHTS")
    given = arguments.parse_args()
    known = (*NIGHTS, *flaky(given.flaky))
    if unknown := set(given.nights) - {night.name.partition("-")[0] for night in known}:
        arguments.error(f"expected some of stock, again, oops, mutant, flaky, found {', '.join(sorted(unknown))}")
    chosen = [night for night in known if not given.nights or night.name.partition("-")[0] in given.nights]
    given.out.mkdir(parents=True, exist_ok=True)
    for night in chosen:
        play(night, given.out, workers=given.workers)
    last_flaky = max((night.name for night in chosen if night.keyword), key=lambda name: int(name[6:]), default="")
    for night in chosen:
        if night.against and (not night.keyword or night.name == last_flaky):
            print(f"\n== {night.against} → {night.name}", flush=True)
            words = [HARNESS, "compare", "--history", str(given.out / "history.sqlite")]
            subprocess.run([*words, str(given.out / night.against), str(given.out / night.name)], check=False)


if __name__ == "__main__":
    main()
