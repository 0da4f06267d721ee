#!/usr/bin/env python3
"""Run the same tests again and again on a twin whose kernel logs all the while, and see that verdicts stay the same.

    tests/twins/repeat.py --build DIR [--repetitions 10] [--keyword EXPR] [--out DIR] [--quiet-log]

The board is twin-serial of boards.yaml: one serial line, nothing else. The tests are testcases/function and those of
selftests.txt. Ten lines a second are logged, with everything on the console too (dmesg -n 8), so that they come in the
middle of the results. Exit code 1: verdicts differ, from each other or from PASS, SKIP and XFAIL.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
BOARD = "twin-serial"
SUITES = ("testcases/function", "selftests/ftrace", "selftests/livepatch")
AS_EXPECTED = {"PASS", "SKIP", "XFAIL"}

# The harness, on a board whose kernel begins to log as soon as it is booted.
LOGGING = """
import dataclasses
from harness.model.boot import UbootBoot
from harness.target.methods import table as boot

def boots(board, media, **more):
    target = method.boot(board, media, **more)
    log = "while :; do echo steady $i > /dev/kmsg; i=$((i+1)); sleep 0.1; done"
    assert target.run(f"dmesg -n 8; (i=0; {log}) > /dev/null 2>&1 &").ok
    return target

method = boot._METHODS[UbootBoot]
boot._METHODS[UbootBoot] = dataclasses.replace(method, boot=boots)
from harness.cli.main import main
main()
"""


def selftests() -> list[str]:
    lines = (HERE / "selftests.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def keyword() -> str:
    """pytest's -k expression for the tests; it knows no spaces, so a livepatch test is named by its words."""
    names = [" and ".join(re.findall(r"[\w./:-]+", name.split("/", 2)[2])) for name in selftests()]
    return "testcases or " + " or ".join(f"({name} and not [instance])" for name in names)


def one_run(arguments: argparse.Namespace, number: int, environment: dict[str, str]) -> dict[str, str]:
    """Verdicts by test."""
    out = arguments.out / str(number)
    words = ["run", "--build", arguments.build, "--board", BOARD, "--out", out, "-k", arguments.keyword or keyword()]
    words += [word for suite in SUITES for word in ("--suite", suite)]
    driver = "from harness.cli.main import main; main()" if arguments.quiet_log else LOGGING
    with (arguments.out / f"{number}.log").open("w") as log:
        subprocess.run([sys.executable, "-c", driver, *map(str, words)], env=environment, stdout=log, stderr=log)
    results = json.loads((out / "results.json").read_text())["results"]
    return {result["test"]: result["verdict"] for result in results}


def repeat(arguments: argparse.Namespace, environment: dict[str, str]) -> int:
    seen: dict[str, Counter[str]] = {}
    for number in range(1, arguments.repetitions + 1):
        started = time.monotonic()
        verdicts = one_run(arguments, number, environment)
        for test, verdict in verdicts.items():
            seen.setdefault(test, Counter())[verdict] += 1
        counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(Counter(verdicts.values()).items()))
        steady = (arguments.out / str(number) / "console.log").read_text(errors="replace").count("] steady ")
        print(f"{number}: {counted}; {steady} lines logged; {time.monotonic() - started:.0f} s", flush=True)
    spoiled = {
        test: dict(counts)
        for test, counts in seen.items()
        if counts.total() != arguments.repetitions or len(counts) > 1 or not set(counts) <= AS_EXPECTED
    }
    for test, counts in spoiled.items():
        print(f"{test}: {counts}")
    print(f"{len(seen)} tests, {arguments.repetitions} repetitions, {len(spoiled)} with a verdict that differs")
    return 1 if spoiled or not seen else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--keyword", default="")
    parser.add_argument("--quiet-log", action="store_true", help="do not log: to compare with")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path(tempfile.mkdtemp(prefix="repeat-"))
    (arguments.out / "tftp").mkdir(parents=True)
    tftp, tty = arguments.out / "tftp", arguments.out / "tty"
    twin = subprocess.Popen(
        [sys.executable, HERE / "twin.py", "serve", "serial", "--host", "auto", "--tftp", tftp, "--pty", tty],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert twin.stdout
        told = re.search(r"at ([\d.]+):", twin.stdout.readline())
        assert told
        environment = {
            **os.environ,
            "HARNESS_BOARDS": str(HERE / "boards.yaml"),
            "TWIN": str(HERE / "twin.py"),
            "TWIN_HOST": told[1],
            "TWIN_TFTP": str(tftp),
            "TWIN_TTY": str(tty),
            "TWIN_PASSWORD": "",
        }
        return repeat(arguments, environment)
    finally:
        twin.terminate()
        twin.wait()


if __name__ == "__main__":
    sys.exit(main())
