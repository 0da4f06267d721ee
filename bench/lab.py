#!/usr/bin/env python
"""A night on three workers, which are killed at random moments: no result may be lost or be there twice, no board be
used twice at once or be left powered.

    .venv/bin/python bench/lab.py [--cells 200] [--kills 50] [--seconds 1] [--seed 7] [--out DIR]

Each worker is in a network namespace of its own, connected to the plan's process by a virtual Ethernet and TLS; all of
that is in a namespace of this program, so the host's network stays as it is. Two workers are on one host (a cache, a
spool and locks of its own) and offer board a, the third is on another host and offers board b. Runs are stand-ins of
`--seconds`, with real leases, guards and power switches (tests/labprograms.py); everything else is the harness. At
random moments, 1 to 7 seconds apart, a random worker gets SIGKILL, and is started again within 2 seconds. Needs root
(network namespaces). Exit code 1 if anything is wrong."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from harness.campaign.lab.addresses import Address, Credentials  # noqa: E402
from harness.model.night import Morning, State  # noqa: E402
from harness.run.documents import read_results  # noqa: E402
from tests.fakelab import FakeLab, Plays, make_credentials, playing  # noqa: E402

PLAN = """
kernels: {{stable: {{kernel: 7.3.4}}}}
configurations: {{default: [], size: [variants/size]}}
boards: [twins]
suites: {{ours: {{suites: [testcases]}}}}
defaults: {{repetitions: {repetitions}}}
"""
_WORKERS = (("alpha", "a"), ("alpha", "a"), ("beta", "b"))
_NETWORK = "10.213.7"  # of this program's namespaces only
_BETWEEN_S, _AWAY_S = (1.0, 7.0), (0.0, 2.0)
_INSIDE = "--inside"  # the namespace of this program
_LIMIT_S = 3600.0
_OFF_S = 120.0  # for guards


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def make_network(names: list[str]) -> None:
    """Make a namespace for each worker, and connect them to ours."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "lab", "type", "bridge")
    ip("addr", "add", f"{_NETWORK}.1/24", "dev", "lab")
    ip("link", "set", "lab", "up")
    for number, name in enumerate(names):
        ip("netns", "add", name)
        ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{number}", "master", "lab", "up")
        ip("-n", name, "addr", "add", f"{_NETWORK}.{number + 11}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")


class Killer(threading.Thread):
    """Kills workers, and starts them again."""

    def __init__(
        self, lab: FakeLab, scheduler: Address, tls: Credentials, names: list[str], *, kills: int, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.killed = 0
        self._kills = kills
        self._lab = lab
        self._scheduler = scheduler
        self._tls = tls
        self._names = names
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._workers = [self._begin(number) for number in range(len(names))]

    def _begin(self, number: int) -> subprocess.Popen[bytes]:
        host, board = _WORKERS[number]
        before = ("ip", "netns", "exec", self._names[number])
        return self._lab.worker(self._scheduler, board, host=host, tls=self._tls, before=before)

    def run(self) -> None:
        while self.killed < self._kills and not self._over.wait(self._chance.uniform(*_BETWEEN_S)):
            number = self._chance.randrange(len(self._workers))
            self._workers[number].send_signal(signal.SIGKILL)
            self._workers[number].wait()
            self.killed += 1
            self._over.wait(self._chance.uniform(*_AWAY_S))
            self._workers[number] = self._begin(number)

    def end(self) -> None:
        self._over.set()
        self.join()


def wrong(lab: FakeLab, made: Morning, runs: dict[str, str], cells: int) -> list[str]:
    """What should not be. `runs`: by cell, the id of the run whose results it has."""
    found = []
    states = Counter(row.ended.state for row in made.rows)
    if states != {State.TESTED: cells} or len(runs) != cells:
        found.append(f"lost: of {cells} cells {len(runs)} have results, {dict(states)}")
    if twice := [run for run, count in Counter(runs.values()).items() if count > 1]:
        found.append(f"doubled: {len(twice)} runs are the results of several cells")
    if used := lab.used_at_once():
        found.append(f"used twice at once: {', '.join(used)}")
    if powered := lab.powered():
        found.append(f"left powered: {', '.join(powered)}")
    return found


def wait_for_guards(lab: FakeLab) -> None:
    deadline = time.monotonic() + _OFF_S
    while lab.powered() and time.monotonic() < deadline:
        time.sleep(0.1)


def play(out: Path, names: list[str], *, cells: int, kills: int, seconds: float, seed: int) -> int:
    lab, said = FakeLab(out / "lab"), list[str]()
    (lab.root / "seconds").write_text(str(seconds))
    tls = make_credentials(out / "tls")
    began = time.monotonic()
    with playing(tls, address=Address(host=f"{_NETWORK}.1", port=0), say=said) as (scheduler, there):
        killer = Killer(lab, scheduler, tls, names, kills=kills, seed=seed)
        killer.start()
        try:
            plays = Plays(lab, out, PLAN.format(repetitions=cells // 2), there, said)
            made, here = plays.made(_LIMIT_S)
            wall = time.monotonic() - began
        finally:
            killer.end()
            lab.end()
    wait_for_guards(lab)
    (out / "said").write_text("".join(f"{line}\n" for line in said))
    run_dirs = {row.ended.slot.directory: here.cell(row.ended.slot) / "run" for row in made.rows}
    runs = {name: read_results(path).record.id for name, path in run_dirs.items() if path.is_dir()}
    begun, passed = len(lab.did("begins")), len(lab.did("passed"))
    sent = sum(len(list((lab.root / host).glob("cache/*/builds/lab-*"))) for host in ("alpha", "beta"))
    print(f"{cells} cells in {wall:.0f} s; {killer.killed} workers killed")
    print(f"runs begun: {begun}, passed: {passed}; passed and made again: {passed - len(runs)}; builds sent: {sent}")
    print(f"cells that lost a worker: {sum('was lost' in line for line in said)} times; {'; '.join(made.boards)}")
    problems = wrong(lab, made, runs, cells)
    problems += [f"{killer.killed} kills instead of {kills}: the night was too short"] if killer.killed < kills else []
    print("\n".join(problems) or "nothing lost, nothing doubled, no board used twice at once, none left powered")
    return bool(problems)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.inside:
        os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv, _INSIDE])
    names = [f"lab-{os.getpid()}-{number}" for number in range(len(_WORKERS))]
    out = given.out or Path(tempfile.mkdtemp(prefix="lab-"))
    try:
        make_network(names)
        return play(out.absolute(), names, cells=given.cells, kills=given.kills, seconds=given.seconds, seed=given.seed)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
