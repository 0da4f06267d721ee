"""Batches: a selftest program that runs many tests in one go, whose results are taken one by one.

ftracetest needs about four seconds to start under emulation, however few files it is given, and a livepatch script
can only be run as a whole. So several tests share one process on the target; each waits for its own verdict.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.result import Verdict
from harness.run.lab import Lab, Stopped
from harness.run.transcript import Transcript
from harness.target.base import RunningCommand


@dataclass(frozen=True)
class Outcome:
    """What became of one test of a batch. `log`: what it printed; `started`: seconds since the epoch; `ended`: when
    its verdict came (time.monotonic)."""

    verdict: Verdict
    reason: str
    log: str
    started: float
    seconds: float
    ended: float


class Batch(ABC):
    """Tests that share a process. Subclasses start it and read verdicts out of what it prints."""

    def __init__(self) -> None:
        self._chosen: list[str] = []
        self._outcomes: dict[str, Outcome] = {}
        self._stopped: dict[str, tuple[Stopped, str]] = {}
        self._process = _Process()

    def choose(self, tests: Sequence[str]) -> None:
        """These are the tests, in this order, whose outcomes will be asked for."""
        self._chosen = list(tests)

    def outcome(self, test: str, lab: Lab) -> Outcome:
        """Run until `test` has its verdict. Raises Stopped; the next call then starts the rest anew."""
        while test not in self._outcomes and test not in self._stopped:
            try:
                self._advance(test, lab)
            except Stopped as stopped:
                current = self._current or test
                if current == test:
                    raise
                # another test of the batch ran just then: it is to blame, and this one goes on elsewhere
                self._stopped[current] = (stopped, self._process.log())
                lab.discard(f"{stopped.verdict} in {current}")
        if test in self._stopped:
            raise self._stopped[test][0]
        if test == self._chosen[-1]:
            # the programs put the system back at their end; what goes wrong there belongs to the last test
            self._process.drain(lab, limit=lab.time_limit(test), what=test)
        return self._outcomes.pop(test)

    def start_over(self, test: str) -> None:
        """`test` is going to be asked for once more: what stopped it was no doing of the kernel's."""
        self._stopped.pop(test, None)

    def log_of_stopped(self, test: str) -> str:
        """What `test`, which was stopped, had printed."""
        return self._stopped[test][1] if test in self._stopped else self._process.log()

    @property
    @abstractmethod
    def _current(self) -> str:
        """The test that runs now, as far as it is known; empty: none that is known."""

    @abstractmethod
    def _advance(self, test: str, lab: Lab) -> None:
        """Start the process where none runs, and read on until `_outcomes` has `test`."""


class _Process:
    """The process of a batch and what it printed for the test that runs now."""

    def __init__(self) -> None:
        self._epoch = 0
        self._printed = Transcript()
        self._began = 0.0
        self._running: RunningCommand | None = None

    def start(self, lab: Lab, command: str) -> None:
        lab.leave_faults_behind()
        target = lab.target
        self._running = target.start(command)
        self._epoch = lab.epoch
        self._begin()

    def belongs_to(self, lab: Lab) -> bool:
        """Whether the process was started on the target that the lab has now, and has not ended."""
        return self._running is not None and self._epoch == lab.epoch and lab.is_up and not self._running.done

    def next_line(self, lab: Lab, *, deadline: float, what: str) -> str | None:
        assert self._running is not None
        line = lab.next_line(self._running, deadline=deadline, what=what)
        if line is not None:
            self._printed.add(line)
        return line

    def drain(self, lab: Lab, *, limit: float, what: str) -> None:
        """Wait until the process has ended, so that the next one finds the shell free and the system at rest."""
        deadline = time.monotonic() + limit
        while self.belongs_to(lab) and self.next_line(lab, deadline=deadline, what=what) is not None:
            pass

    @property
    def returncode(self) -> int | None:
        return self._running.returncode if self._running else None

    def log(self) -> str:
        text = self._printed.text()
        return f"{text}\n" if text else ""

    def outcome(self, verdict: Verdict, reason: str) -> Outcome:
        """The outcome of the test that ends now; the next one begins with it."""
        now = time.time()
        outcome = Outcome(verdict, reason, self.log(), self._began, now - self._began, time.monotonic())
        self._begin()
        return outcome

    def _begin(self) -> None:
        self._printed = Transcript()
        self._began = time.time()


@dataclass(frozen=True, kw_only=True)
class Found:
    """Tests of a build that share a process. `tests`: their ids, in the order they run; `tools`: the programs that a
    test calls besides those that all of its suite call."""

    batch: Batch
    tests: tuple[str, ...]
    tools: Mapping[str, frozenset[str]] = field(default_factory=dict)
