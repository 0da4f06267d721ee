"""The whole of the upstream ftrace and livepatch selftests: one machine and a shell script, against `harness run -j`.

Both in one run, one after the other, with the same kernel and root file system. The script is what a developer does by
hand: one QEMU, ftracetest, then the livepatch scripts. If its machine dies, the running test is counted with its time
limit (kselftest has none; the harness's own is used), and the rest of the suite is lost, as by hand.

    .venv/bin/python bench/whole.py --build $(bin/harness build) [--workers auto] [--runs 3] [--suite ftrace]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import RUN, describe, spread
from harness.boards.inventory import read_inventory
from harness.build.finished import load_build
from harness.build.rootfs import root_image
from harness.model.progress import Silent
from harness.parse import livepatch_log
from harness.run import limits
from harness.run.suites.ftrace import test_id
from harness.target.base import Media
from harness.target.methods.qemu import command_line, own_storage

_SILENCE_S = 900.0  # without output, after which the script's machine counts as hung
_FTRACE = "cd /payload/selftests/ftrace && ./ftracetest -K -l - 2>&1 | cat; echo @@ over"
_LIVEPATCH = "cd /payload/selftests/livepatch; for t in test-*.sh; do echo @@ $t; ./$t 2>&1; echo @@ ended $?; done"


@dataclass
class Outcome:
    """`verdicts` by test id; `seconds` of the whole; `lost`: the test in which the machine died."""

    seconds: float = 0.0
    verdicts: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def by_hand(build: Path, suite: str, scripts: Path) -> Outcome:
    """One machine, one script; none of the harness's own options for speed."""
    board = read_inventory(None).board("qemu-virt")
    made = load_build(build)
    root = root_image(progress=Silent())
    media = Media(image=made.image, root=root.path, payload=made.payload)
    pairs = {name: socket.socketpair() for name in ("kernel", "cmd", "aux", "tty", "qmp")}
    fds = {name: pair[1].fileno() for name, pair in pairs.items()}
    words = [
        word.replace(" norandmaps", "") for word in command_line(board, media, own_storage(media), fds=fds, accel="tcg")
    ]
    outcome = Outcome()
    started = time.monotonic()
    process = subprocess.Popen(words, pass_fds=tuple(fds.values()), stderr=subprocess.DEVNULL)
    for _, theirs in pairs.values():
        theirs.close()
    drained = [pairs[name][0] for name in ("kernel", "tty", "aux", "qmp")]
    for each in drained:
        each.setblocking(False)
    command = _FTRACE if suite == "ftrace" else f"{_LIVEPATCH}; echo @@ over"
    pairs["cmd"][0].sendall(command.encode() + b"\n")
    pairs["cmd"][0].settimeout(1.0)
    try:
        _follow(pairs["cmd"][0], drained, outcome, suite, scripts)
    finally:
        process.kill()
        process.wait()
    outcome.seconds = time.monotonic() - started
    outcome.seconds += sum(limits.budget(test) * 20 + limits.UNSCALED_S for test in outcome.lost)
    return outcome


def _follow(channel: socket.socket, drained: list[socket.socket], outcome: Outcome, suite: str, scripts: Path) -> None:
    reader = Ftrace(outcome) if suite == "ftrace" else Livepatch(outcome, scripts / "livepatch")
    rest, last = b"", time.monotonic()
    while time.monotonic() - last < _SILENCE_S:
        for each in drained:  # nobody may wait for us to read
            with contextlib.suppress(BlockingIOError):
                each.recv(1 << 16)
        try:
            data = channel.recv(1 << 16)
        except TimeoutError:
            continue
        last = time.monotonic()
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"@@ over":
                return
            reader.feed(line.decode(errors="replace"))
    outcome.lost.append(reader.current)


_TOLD = {" # SKIP": "SKIP", " # XFAIL": "XFAIL", " # UNRESOLVED": "UNRESOLVED"}


class Ftrace:
    """Takes verdicts out of what ftracetest prints by itself, and believes them."""

    _EXECUTE = re.compile(r"execute(?P<again> \(instance\) ?)?: (?P<path>/\S+\.tc)$")
    _VERDICT = re.compile(r"(?P<ok>not ok|ok) \d+\b.*?(?P<told> # [A-Z]+)?$")

    def __init__(self, outcome: Outcome) -> None:
        self.current = ""
        self._outcome = outcome

    def feed(self, line: str) -> None:
        if begun := self._EXECUTE.match(line):
            self.current = test_id(begun["path"], instance=bool(begun["again"]))
        elif self.current and (ended := self._VERDICT.match(line)):
            verdict = "PASS" if ended["ok"] == "ok" else "FAIL"
            self._outcome.verdicts[self.current] = _TOLD.get(ended["told"], verdict)


class Livepatch:
    """Takes verdicts out of what the livepatch scripts print by themselves, each script led by its name and followed by
    its exit code, and believes them."""

    _BEGUN = re.compile(r"TEST: (?P<name>.*?) \.\.\. ?(?P<rest>.*)$")

    def __init__(self, outcome: Outcome, scripts: Path) -> None:
        self.current = ""
        self._outcome = outcome
        self._scripts = scripts
        self._stream = livepatch_log.LivepatchStream([])

    def feed(self, line: str) -> None:
        ended: list[livepatch_log.TestEnded] = []
        if line.startswith("@@ ended "):
            ended = self._stream.finish(int(line.split()[-1]))
        elif line.startswith("@@ "):
            name = line.removeprefix("@@ ")
            self.current = f"selftests/livepatch/{name.removesuffix('.sh')}"
            self._stream = livepatch_log.LivepatchStream(livepatch_log.names_in((self._scripts / name).read_text()))
        else:
            if begun := self._BEGUN.match(line):
                ended += self._stream.said(f"begin: {begun['name']}")
            self._stream.feed(line)
            if (begun["rest"] if begun else line) == "ok":
                ended += self._stream.said("end: ok")
        for each in ended:
            self._outcome.verdicts[f"{self.current}::{each.name}"] = str(each.verdict)


def with_harness(given: argparse.Namespace, suites: list[str], directory: Path) -> Outcome:
    """`harness run` of all `suites`, from its start to its end, documents included."""
    words = [sys.executable, "-m", "harness", *RUN, "--build", str(given.build), "-j", given.workers]
    words += [word for suite in suites for word in ("--suite", f"selftests/{suite}")]
    words += ["--boards", str(given.boards)] if given.boards else []
    started = time.monotonic()
    subprocess.run([*words, "--out", str(directory)], check=False, capture_output=True)
    seconds = time.monotonic() - started
    results = json.loads((directory / "results.json").read_text())["results"]
    return Outcome(seconds=seconds, verdicts={each["test"]: each["verdict"] for each in results})


def _tell(name: str, outcome: Outcome) -> None:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(Counter(outcome.verdicts.values()).items()))
    lost = f"; the machine died in {', '.join(outcome.lost)}" if outcome.lost else ""
    print(f"{name:<20} {outcome.seconds:7.1f} s  {counts}{lost}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--suite", choices=["ftrace", "livepatch"], action="append")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--runs", type=int, default=1, help="of the harness; the script runs once")
    parser.add_argument("--boards", type=Path, help="another boards.yaml for the harness")
    given = parser.parse_args()
    print(describe(), flush=True)
    suites = given.suite or ["ftrace", "livepatch"]
    script = 0.0
    ours: list[float] = []
    verdicts: dict[str, str] = {}
    for suite in suites:
        done = by_hand(given.build, suite, given.build / "selftests")
        _tell(f"{suite} by hand", done)
        script += done.seconds
        verdicts |= done.verdicts
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(given.runs):
            run = with_harness(given, suites, Path(scratch, f"{number}"))
            _tell(f"harness {number + 1}", run)
            ours.append(run.seconds)
            for test in sorted(verdicts.keys() | run.verdicts.keys()):
                hand, ran = verdicts.get(test, "nothing"), run.verdicts.get(test, "nothing")
                if hand != ran:
                    print(f"  {test}: by hand {hand}, harness {ran}", flush=True)
    print(f"by hand {script:.1f} s, harness {spread(ours)} s")
    print(f"ratio {spread([each / script for each in ours], digits=3)}; to reach: 0.25")
    print(describe())


if __name__ == "__main__":
    main()
