"""SIGKILL at random moments while several processes add runs to one history and others read it.

    .venv/bin/python -m tests.faults.history_kills [--kills 50] [--seed 7]

Three processes write the directories of runs and add them, two read; a random one of the five is killed and replaced,
again and again, from the moment on at which there is no file yet. No run may be lost that a writer had said was in, no
reader may see a part of one, and the file has to be whole and hold what a file has that is made again from the
directories.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.campaign.history import add
from harness.errors import UserError
from harness.model.event import Finished, Planned, Repeated, RunBegun, RunEnded
from harness.model.fault import Fault, FaultKind
from harness.model.record import BoardRecord, KernelRecord, RunRecord
from harness.model.result import EndKind, Repeat, Result, RunEnd, Verdict
from harness.parse.events import event_to_json
from harness.store import queries
from harness.store.database import opened

_WRITERS, _READERS = 3, 2
_TESTS = 40  # of each run
_LIMIT_S = 120.0  # for anything to happen
_ROWS = {
    "runs": """
        SELECT runs.name, cells.board, cells.config, cells.toolchain, kernels.release, kernels.patches, runs.started,
               runs.seconds, runs."end", runs.host, runs.directory, runs.digest
        FROM runs JOIN cells ON cells.id = runs.cell JOIN kernels ON kernels.id = runs.kernel ORDER BY 1
    """,
    "results": """
        SELECT runs.name, tests.name, verdict, actual, milliseconds, reasons.text, signatures.text, boards.text
        FROM results JOIN runs ON runs.id = results.run JOIN tests ON tests.id = results.test
             LEFT JOIN texts AS reasons ON reasons.id = results.reason
             LEFT JOIN texts AS signatures ON signatures.id = results.signature
             LEFT JOIN texts AS boards ON boards.id = results.board
        ORDER BY 1, 2
    """,
    "repeats": """
        SELECT runs.name, tests.name, number, verdict, milliseconds, texts.text, condition
        FROM repeats JOIN runs ON runs.id = repeats.run JOIN tests ON tests.id = repeats.test
             LEFT JOIN texts ON texts.id = repeats.signature
        ORDER BY 1, 2, 3
    """,
}


@dataclass(kw_only=True)
class Played:
    """What came of it. `acknowledged`: ids of runs that were said to be in; `reads`: how often a reader found only
    whole runs; `problems`: anything that is wrong."""

    kills: int = 0
    acknowledged: set[str] = field(default_factory=set)
    reads: int = 0
    problems: list[str] = field(default_factory=list)


def play(directory: Path, *, kills: int, seed: int, longest_s: float = 0.3) -> Played:
    """Let them write and read in `directory` and kill one `kills` times, each time up to `longest_s` after another run
    was added."""
    chance, played = random.Random(seed), Played()
    history, runs = directory / "history.sqlite", directory / "runs"
    runs.mkdir()
    tags = itertools.count()
    acts: list[Callable[[int, Connection], None]] = [
        *[lambda tag, said: _write(history, runs, tag, said)] * _WRITERS,
        *[lambda _tag, said: _read(history, said)] * _READERS,
    ]
    workers = [_Worker(act, tags) for act in acts]
    try:
        while played.kills < kills and not played.problems:
            _wait_for_a_run(workers, played)
            _listen(workers, played, chance.uniform(0.0, longest_s))
            chance.choice(workers).replace(played)
            played.kills += 1
    finally:
        for worker in workers:
            worker.kill(played)
    _check(history, runs, directory / "again.sqlite", played)
    return played


class _Worker:
    """A process that does one thing until it is killed."""

    def __init__(self, act: Callable[[int, Connection], None], tags: Iterator[int]) -> None:
        self._act, self._tags = act, tags
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self.said, ours = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(target=self._act, args=(next(self._tags), ours))
        self._process.start()
        ours.close()

    def kill(self, played: Played) -> None:
        """Kill it, and take what it had said by then."""
        if self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        with contextlib.suppress(EOFError):
            while True:
                _take(self.said.recv_bytes(), played)
        self.said.close()

    def replace(self, played: Played) -> None:
        """Kill it, and start another in its place."""
        self.kill(played)
        self._start()


def _wait_for_a_run(workers: list[_Worker], played: Played) -> None:
    before, end = len(played.acknowledged), time.monotonic() + _LIMIT_S
    while len(played.acknowledged) == before and not played.problems:
        if time.monotonic() > end:
            played.problems.append(f"no run was added within {_LIMIT_S:.0f} s")
        _listen(workers, played, 1.0)


def _listen(workers: list[_Worker], played: Played, seconds: float) -> None:
    """Take what they say, for so long."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for said in wait([worker.said for worker in workers], timeout=left):
            try:
                _take(said.recv_bytes(), played)  # type: ignore[union-attr]
            except EOFError:
                played.problems.append("a process ended by itself")
                return


def _take(message: bytes, played: Played) -> None:
    kind, _, text = message.decode().partition(" ")
    if kind == "added":
        played.acknowledged.add(text)
    elif kind == "read":
        played.reads += 1
    else:
        played.problems.append(text)


def _write(history: Path, runs: Path, tag: int, said: Connection) -> None:
    for number in itertools.count():
        name = f"run-{tag:04}-{number:04}"
        _record(runs / name, name, began=1e9 + 1000.0 * tag + number)
        add(history, [runs / name])
        said.send_bytes(f"added {name}".encode())


def _record(directory: Path, name: str, *, began: float) -> None:
    """Write the events of a run."""
    directory.mkdir()
    crash = Fault(kind=FaultKind.OOPS, title=f"Oops in {name.replace('-', '_')} (kernel/x.c:12)")
    record = RunRecord(id=name, kernel=KernelRecord(release="7.3.4", key=name[:8]), board=BoardRecord(name="virt"))
    tests = [f"test-{number}" for number in range(_TESTS)]
    events = [
        RunBegun(time=began, record=record),
        Planned(time=began, tests=tuple(tests)),
        *(Finished(time=began, result=Result(test=test, verdict=Verdict.PASS, seconds=1.0)) for test in tests[2:]),
        Finished(time=began, result=Result(test=tests[0], verdict=Verdict.CRASH, fault=crash, reason=crash.title)),
        Finished(time=began, result=Result(test=tests[1], verdict=Verdict.FAIL, reason=f"because of {name}")),
        *(Repeated(time=began + n, test=tests[0], repeat=Repeat(verdict=Verdict.PASS)) for n in range(5)),
        RunEnded(time=began + 9, end=RunEnd(kind=EndKind.COMPLETE)),
    ]
    (directory / "events.jsonl").write_text("".join(f"{event_to_json(event)}\n" for event in events))


def _read(history: Path, said: Connection) -> None:
    while True:
        try:
            with opened(history) as connection:
                for run in queries.latest_runs(connection, limit=10):
                    outcomes = queries.outcomes_of(connection, run.id)
                    if len(outcomes) != _TESTS + 5 or outcomes[0].signature is None:
                        said.send_bytes(
                            f"problem {run.id}: expected {_TESTS + 5} outcomes, found {len(outcomes)}".encode()
                        )
        except UserError as error:
            if "found none" not in error.message and "no run has been added" not in error.message:
                said.send_bytes(f"problem a reader: {error.message}".encode())
        else:
            said.send_bytes(b"read")


def _check(history: Path, runs: Path, again: Path, played: Played) -> None:
    """Whether all that was said is there, and the history is what one is that is made again."""
    with opened(history, writable=True) as connection:
        played.problems += [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        played.problems += [
            f"a reference without a row: {row}" for row in connection.execute("PRAGMA foreign_key_check")
        ]
        names = {row[0] for row in connection.execute("SELECT name FROM runs")}
    played.problems += [f"{name}: lost" for name in sorted(played.acknowledged - names)]
    add(again, [runs / name for name in sorted(names)])
    _compare(history, again, played, "as they were")
    whole = [path for path in sorted(runs.iterdir()) if (path / "events.jsonl").exists()]
    for path in (history, again):
        with contextlib.suppress(UserError):  # of a directory whose writer was killed before it wrote a whole line
            add(path, whole)
    _compare(history, again, played, "with the directories of runs that were not yet in")


def _compare(history: Path, again: Path, played: Played, when: str) -> None:
    tables = []
    for path in (history, again):
        with opened(path) as connection:
            tables.append({name: connection.execute(query).fetchall() for name, query in _ROWS.items()})
    for name in _ROWS:
        one, two = (table[name] for table in tables)
        if one != two:
            differing = len(set(one) ^ set(two))
            played.problems.append(f"{name}, {when}: {differing} rows differ from a history that was made again")


def main() -> int:
    """Play it once, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="history-kills-"))
    played = play(directory, kills=given.kills, seed=given.seed)
    print(
        f"{played.kills} processes killed; {len(played.acknowledged)} runs acknowledged, {played.reads} times read; "
        f"{len(played.problems)} problems"
    )
    for problem in played.problems:
        print(f"  {problem}")
    if played.problems:
        print(f"the files: {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
