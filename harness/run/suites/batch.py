"""Batches: a selftest program runs many tests at once, and their results are read one by one.

ftracetest takes about four seconds to start under emulation, however few files it gets, and some livepatch scripts can
only be run as a whole. So several tests share one process on the target, and each waits for its own verdict.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from harness import clock
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.run.machine import Machine
from harness.run.stopped import Stopped
from harness.run.suites.marks import Mark, Marks
from harness.run.transcript import Transcript
from harness.target.base import RunningCommand


class Batch(ABC):
    """Tests that share a process. Subclasses start it and read the verdicts from its output."""

    def __init__(self) -> None:
        self._chosen: list[str] = []
        self._outcomes: dict[str, Outcome] = {}
        self._stopped: dict[str, Outcome] = {}
        self._process = _Process()

    def choose(self, tests: Sequence[str]) -> None:
        """Set the tests whose outcomes will be requested, in this order."""
        self._chosen = list(tests)

    def outcome(self, test: str, machine: Machine) -> Outcome:
        """Run until `test` has its verdict. Raises Stopped; the next call then starts the remaining tests again."""
        while test not in self._outcomes and test not in self._stopped:
            try:
                self._advance(test, machine)
            except Stopped as stopped:
                current = self._current or test
                if current == test:
                    raise
                # another test of the batch was running: it is to blame, and this one continues elsewhere
                self._stopped[current] = dataclasses.replace(stopped.outcome, log=self._process.log())
                machine.discard(f"{stopped.outcome.verdict} in {current}")
        if test in self._stopped:
            raise Stopped(self._stopped[test])
        if test == self._chosen[-1]:
            # the programs restore the system at their end; a failure there is blamed on the last test
            self._process.drain(machine, limit=machine.time_limit(test), what=test)
        return self._outcomes.pop(test)

    def start_over(self, test: str) -> None:
        """`test` will be requested once more, because the kernel was not what stopped it."""
        self._stopped.pop(test, None)

    def log_of_stopped(self, test: str) -> str:
        """The output of `test`, which was stopped."""
        return self._stopped[test].log if test in self._stopped else self._process.log()

    @property
    @abstractmethod
    def _current(self) -> str:
        """The test that is running, as far as known; empty: unknown."""

    @abstractmethod
    def _advance(self, test: str, machine: Machine) -> None:
        """Start the process if none is running, and read until `_outcomes` has `test`."""


class _Process:
    """The process of a batch, and its output for the current test."""

    def __init__(self) -> None:
        self._epoch = 0
        self._printed = Transcript()
        self._began = 0.0
        self._running: RunningCommand | None = None
        self._marks = Marks()
        self._held_empty = False

    def start(self, machine: Machine, command: str, marks: Marks | None = None) -> None:
        machine.leave_faults_behind()
        target = machine.target
        self._running = target.start(command)
        self._marks = marks or Marks()
        self._epoch = machine.epoch
        self._begin()

    def belongs_to(self, machine: Machine) -> bool:
        """Whether the process was started on the present target and has not ended."""
        return self._running is not None and self._epoch == machine.epoch and machine.is_up and not self._running.done

    def next_line(self, machine: Machine, *, deadline: float, what: str) -> str | Mark | None:
        """Return the next line of output, or the next mark, which is in no log; None when the process has ended."""
        assert self._running is not None
        line = machine.next_line(self._running, deadline=deadline, what=what)
        if line is None:
            return None
        mark = self._marks.of(line)
        if self._held_empty and not mark:
            self._printed.add("")
        self._held_empty = not line  # the line before a mark belongs to it
        if mark:
            return mark
        if line:
            self._printed.add(line)
        return line

    def drain(self, machine: Machine, *, limit: float, what: str) -> None:
        """Wait until the process has ended, so that the next one finds the shell free and the system idle."""
        deadline = time.monotonic() + limit
        while self.belongs_to(machine) and self.next_line(machine, deadline=deadline, what=what) is not None:
            pass

    @property
    def returncode(self) -> int | None:
        return self._running.returncode if self._running else None

    def log(self) -> str:
        text = self._printed.text()
        return f"{text}\n" if text else ""

    def outcome(self, verdict: Verdict, reason: str) -> Outcome:
        """The outcome of the test that is ending; the next test begins."""
        now = clock.now()
        began, log = self._began, self.log()
        self._begin()
        return Outcome(verdict, reason, log=log, started=began, seconds=now - began, ended=time.monotonic())

    def _begin(self) -> None:
        self._printed = Transcript()
        self._held_empty = False
        self._began = clock.now()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Tests of a build that share a process. `tests`: their ids, in the order they run; `tools`: the programs that a
    test calls in addition to those of its whole suite."""

    batch: Batch
    tests: tuple[str, ...]
    tools: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
