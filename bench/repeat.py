#!/usr/bin/env python
"""How often a selftest fails by chance: some .tc files, each run many times on machines restored from one snapshot.

    .venv/bin/python bench/repeat.py --build DIR [--runs 200] [-j 2] test.d/ftrace/func-filter-pid.tc …

The build is copied, with its big files linked, and its selftests get as many copies of each file as runs are wanted.
`harness run` then runs them like any others, each on its own machine, including re-runs in an instance. Prints how
often every file got each verdict, and why. The copy and the run are kept in --keep, or removed."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import RUN, describe

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 4 * 3600.0
MARK = "_repeat_"


def copied(build: Path, place: Path, files: list[str], runs: int) -> None:
    """A copy of `build` in `place` whose selftests, here and in the payload, hold each of `files` `runs` times."""
    place.mkdir(parents=True)
    for entry in build.iterdir():
        if entry.name not in ("selftests", "payload.ext4"):
            (place / entry.name).symlink_to(entry.absolute())
    shutil.copytree(build / "selftests", place / "selftests", symlinks=True)
    shutil.copyfile(build / "payload.ext4", place / "payload.ext4")
    commands = []
    for file in files:
        source = place / "selftests/ftrace" / file
        for number in range(runs):
            copy = source.with_name(f"{source.stem}{MARK}{number:04}.tc")
            shutil.copy2(source, copy)
            inside = f"/selftests/ftrace/{copy.relative_to(place / 'selftests/ftrace')}"
            commands += [f"write {copy} {inside}", f"set_inode_field {inside} mode 0100755"]
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", str(place / "payload.ext4")],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        timeout=600.0,
        check=True,
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("debugfs ")]
    if errors:
        sys.exit("\n".join(errors[:5]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--harness", type=Path, default=ROOT / "bin/harness", help="another checkout's, to compare")
    parser.add_argument("-j", default="2")
    parser.add_argument("--keep", type=Path, help="where the copy and the run stay")
    parser.add_argument("files", nargs="+", metavar="test.d/…/X.tc")
    options = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        copied(options.build, place / "build", options.files, options.runs)
        words = [options.harness, *RUN, "--build", place / "build", "--suite", "selftests/ftrace", "-k", MARK]
        words += ["--out", place / "out", "-j", options.j]
        done = subprocess.run(words, timeout=LIMIT_S, check=False, stdout=subprocess.DEVNULL)
        if done.returncode not in (0, 1):
            sys.exit(f"harness run ended with exit code {done.returncode}")
        results = json.loads((place / "out/results.json").read_text())["results"]
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        name, _, rest = result["test"].partition(MARK)
        test = f"{name}.tc{rest.partition('.tc')[2]}"
        verdicts[test][result["verdict"]] += 1
        if result["verdict"] != "PASS":
            reasons[test][f"{result['verdict']}: {result['reason']}"] += 1
    for test, counts in sorted(verdicts.items()):
        print(f"{test}: {', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())}")
        for reason, count in reasons[test].most_common(5):
            print(f"    {count} × {reason}")


if __name__ == "__main__":
    main()
