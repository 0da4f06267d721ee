"""selftests/livepatch: every TEST that a script prints is a test."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.build.made import read_selftest
from harness.model.kernel import Build
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.model.suite import LIVEPATCH
from harness.parse import livepatch_log
from harness.run.machine import Machine
from harness.run.stopped import Stopped
from harness.run.suites.batch import Batch, Found
from harness.run.suites.marked_livepatch import marked, marks_for
from harness.run.suites.marks import Mark
from harness.run.units import Isolation

_DIRECTORY = f"/payload/{LIVEPATCH.name}"


def batches(build: Build, isolation: Isolation) -> Iterator[Found]:
    """The TESTs of each script."""
    for script in sorted((build.selftests / LIVEPATCH.directory).glob("test-*.sh")):
        yield from batches_of(script, isolation)


def batches_of(script: Path, isolation: Isolation) -> Iterator[Found]:
    """A script's TESTs, each one alone if that is requested and the script can be split."""
    text = read_selftest(script)
    tests = [f"{LIVEPATCH.name}/{script.stem}::{name}" for name in livepatch_log.names_in(text)]
    parts = [livepatch_log.resumed(text, number, alone=True) for number in range(len(tests))]
    if isolation is Isolation.TEST and len(tests) > 1 and None not in parts:
        for test, part in zip(tests, parts, strict=True):
            assert part is not None
            yield Found(batch=LivepatchBatch(script.name, part, [test]), tests=(test,))
    elif tests:
        yield Found(batch=LivepatchBatch(script.name, text, tests), tests=tuple(tests))


class LivepatchBatch(Batch):
    """One livepatch script, or a part of it; its tests are the TESTs that it prints. `text`: what is run."""

    def __init__(self, script: str, text: str, tests: Sequence[str]) -> None:
        super().__init__()
        self._script = script
        self._text = text
        self._names = [name_of(test) for test in tests]
        self._prefix = tests[0].partition("::")[0] if tests else ""
        self._ended = 0  # how many of the script's TESTs have ended
        self._was_started = False

    def start_over(self, test: str) -> None:
        super().start_over(test)
        # a script that can't be resumed runs again as a whole: nothing in it was to blame
        first = self._names.index(name_of(test))
        self._was_started = self._was_started and livepatch_log.resumed(self._text, first) is not None

    @property
    def _current(self) -> str:
        return f"{self._prefix}::{self._names[self._ended]}" if self._ended < len(self._names) else ""

    def _advance(self, test: str, machine: Machine) -> None:
        process = self._process
        if not process.belongs_to(machine):
            self._start(test, machine)
        deadline = time.monotonic() + machine.time_limit(test)
        while test not in self._outcomes:
            said = process.next_line(machine, deadline=deadline, what=self._current or test)
            marks: Iterable[livepatch_log.TestEnded] = ()
            if said is None:
                marks = self._stream.finish(process.returncode or 0)
                if process.returncode not in (0, 4):
                    machine.discard(f"{self._script}: exit code {process.returncode}; it may have left patches loaded")
            elif isinstance(said, Mark):
                marks = self._stream.said(said.words)
            else:
                self._stream.feed(said)
            for mark in marks:
                self._outcomes[f"{self._prefix}::{mark.name}"] = process.outcome(mark.verdict, mark.reason)
                self._ended = self._names.index(mark.name) + 1 if mark.name in self._names else self._ended
                deadline = time.monotonic() + machine.time_limit(test)

    def _start(self, test: str, machine: Machine) -> None:
        """Start the whole script or, on a fresh target after a crash, the rest of it."""
        first = self._names.index(name_of(test)) if self._was_started else 0
        self._ended = first  # set even if it can't be started: then `test` is the one that is stopped
        rest = livepatch_log.resumed(self._text, first) if first else self._text
        if rest is None:
            reason = f"{self._script} stopped before it and can't be resumed in the middle"
            raise Stopped(Outcome(Verdict.NOTRUN, reason))
        program = f"marked-{self._script}"
        machine.target.put(marked(rest, name=self._script).encode(), f"{_DIRECTORY}/{program}", mode=0o755)
        self._was_started = True
        self._stream = livepatch_log.LivepatchStream(self._names[first:])
        marks = marks_for(len(self._names) - first)
        self._process.start(machine, f"cd {_DIRECTORY} && ./{program} {marks.redirection()}", marks)


def name_of(test: str) -> str:
    """The TEST's name in a livepatch test id."""
    return test.partition("::")[2]
