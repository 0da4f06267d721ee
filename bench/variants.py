#!/usr/bin/env python3
"""Runs what is told by function entries on kernels configured otherwise, and compares the verdicts.

    .venv/bin/python bench/variants.py run NAME… [--out DIR] [-- OPTION…]   builds kconfigs/variants/NAME.config
    .venv/bin/python bench/variants.py compare STOCK RUN…                   directories of runs

`run` runs all testcases and thirty of the kernel's own selftests; `stock` is a NAME, too. What follows ``--`` goes to
`harness run`, such as another --kernel. `compare` prints, in Markdown, how many verdicts there are of each kind, and
each test whose verdict is another one than in STOCK, by its reason."""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN = ("run", "--no-history", "--no-confirm")  # as measured: only the tests, and nothing left in the user's history
CLANG = ("--toolchain", "clang-19")
OPTIONS: dict[str, tuple[str, ...]] = {
    "stock": (),
    "size": (),
    "distro": (),
    "clang-bti": (*CLANG, "--board", "qemu-virt-bti"),
    "clang-kcfi": CLANG,
    "thinlto": CLANG,
    "pages-16k": (),
    "pages-64k": (),
    "kasan": ("--timeout-factor", "3"),
    "lockdep": ("--timeout-factor", "2"),
}
SELFTESTS = {
    "selftests/ftrace": [
        "00basic/basic2",
        "direct/ftrace-direct",
        "direct/kprobe-direct",
        "dynevent/add_remove_fprobe",
        "dynevent/add_remove_fprobe_module",
        "dynevent/add_remove_multiple_fprobe",
        "ftrace/fgraph-filter",
        "ftrace/fgraph-filter-stack",
        "ftrace/fgraph-multi",
        "ftrace/fgraph-profiler",
        "ftrace/fgraph-retval",
        "ftrace/func-filter-glob",
        "ftrace/func-filter-stacktrace",
        "ftrace/func_event_triggers",
        "ftrace/func_hotplug",
        "ftrace/func_mod_trace",
        "ftrace/func_profiler",
        "ftrace/func_set_ftrace_file",
        "ftrace/func_stack_tracer",
        "ftrace/func_traceonoff_triggers",
        "kprobe/kprobe_ftrace",
        "kprobe/kprobe_module",
        "kprobe/kretprobe_args",
        "kprobe/kretprobe_entry_arg",
    ],
    "selftests/livepatch": [
        "test-ftrace::livepatch",
        "test-ftrace::trace",
        "test-livepatch::basic",
        "test-livepatch::module",
    ],
}
"""What they have in common: all of them change the entries of functions, or are called from there. The livepatch ones
are the beginnings of six names."""


def keyword() -> str:
    """Return the -k that selects the testcases and the thirty selftests."""
    files = [f"{name.partition('/')[2]}.tc" for name in SELFTESTS["selftests/ftrace"]]
    return f"testcases or (not instance and ({' or '.join([*files, *SELFTESTS['selftests/livepatch']])}))"


def words(name: str, out: Path) -> list[str]:
    """Return the command that builds and runs the variant `name`."""
    suites = ("testcases", *SELFTESTS)
    fragment = () if name == "stock" else ("--kconfig", str(ROOT / f"kconfigs/variants/{name}.config"))
    chosen = [word for suite in suites for word in ("--suite", suite)]
    return [str(ROOT / "bin/harness"), *RUN, *chosen, "-k", keyword(), *OPTIONS[name], *fragment, "--out", str(out)]


@dataclass(frozen=True)
class Run:
    """`verdicts`: by test, with the reason; `told`: what the kernel was made from and with."""

    name: str
    told: str
    seconds: float
    verdicts: dict[str, tuple[str, str]]


def read(directory: Path) -> Run:
    """Read a run's results.json."""
    found: dict[str, Any] = json.loads((directory / "results.json").read_text())
    properties = found["properties"]
    verdicts = {result["test"]: (result["verdict"], result["reason"]) for result in found["results"]}
    told = f"{properties['kernel']}, {properties['compiler']}"
    return Run(directory.name, told, found["seconds"], verdicts)


def is_chosen(test: str) -> bool:
    """Whether a test is one of those that `run` runs: a stock run may have more."""
    if test.startswith("testcases/"):
        return True
    suite = next((suite for suite in SELFTESTS if test.startswith(f"{suite}/")), "")
    rest = test.removeprefix(f"{suite}/").removeprefix("test.d/")
    if suite.endswith("ftrace"):
        return rest.removesuffix(".tc") in SELFTESTS[suite]
    return any(rest.startswith(name) for name in SELFTESTS.get(suite, ()))


def compared(stock: Run, runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of the table, and below it the differences of each run."""
    stock = Run(stock.name, stock.told, stock.seconds, {k: v for k, v in stock.verdicts.items() if is_chosen(k)})
    kinds = ("PASS", "SKIP", "XFAIL", "FAIL", "CRASH")
    yield f"| run | kernel | {' | '.join(kinds)} | others | differences |"
    yield f"|{'---|' * (len(kinds) + 4)}"
    for run in (stock, *runs):
        counts = collections.Counter(verdict for verdict, _ in run.verdicts.values())
        others = sum(count for kind, count in counts.items() if kind not in kinds)
        cells = [
            run.name,
            run.told,
            *(str(counts[kind]) for kind in kinds),
            str(others),
            str(len(differences(stock, run))),
        ]
        yield f"| {' | '.join(cells)} |"
    for run in runs:
        by_reason = collections.defaultdict(list)
        for test, change, reason in differences(stock, run):
            by_reason[change, _general(reason)].append(test)
        yield f"\n{run.name}:\n"
        for (change, reason), tests in sorted(by_reason.items(), key=lambda item: -len(item[1])):
            shown = tests[0] if len(tests) == 1 else f"{len(tests)} tests, such as {tests[0]}"
            yield f"- {change}: {shown}: {reason or 'no reason'}"


def differences(stock: Run, run: Run) -> list[tuple[str, str, str]]:
    """Return the tests with another verdict, with both verdicts and the reason."""
    found = []
    for test in sorted({*stock.verdicts, *run.verdicts}):
        before, why_before = stock.verdicts.get(test, ("absent", ""))
        now, why = run.verdicts.get(test, ("absent", ""))
        if before != now:
            found.append((test, f"{before} → {now}", why or why_before))
    return found


def _general(reason: str) -> str:
    """Return the first line, without numbers that differ from test to test."""
    first = reason.strip().splitlines()[0] if reason.strip() else ""
    return re.sub(r"0x[0-9a-f]+", "0x…", first)[:300]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    run.add_argument("names", nargs="+", choices=OPTIONS)
    run.add_argument("--out", type=Path, default=ROOT / "out")
    compare = verbs.add_parser("compare")
    compare.add_argument("directories", nargs="+", type=Path)
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, more = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    if given.verb == "compare":
        stock, *runs = [read(directory) for directory in given.directories]
        print("\n".join(compared(stock, runs)))
        return 0
    commands = [[*words(name, given.out / f"variant-{name}"), *more] for name in given.names]
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    sys.exit(main())
