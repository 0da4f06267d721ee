"""Batches: a selftest program that runs many tests in one go, whose results are taken one by one.

ftracetest needs about four seconds to start under emulation, however few files it is given, and a livepatch script
can only be run as a whole. So several tests share one process on the target; each waits for its own verdict.
"""

from __future__ import annotations

import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.result import Verdict
from harness.parse import ftracetest, livepatch_log
from harness.run import warm_ftracetest
from harness.run.machine import Machine, Stopped
from harness.run.transcript import Transcript
from harness.target.base import RunningCommand

FTRACE_DIRECTORY = "/payload/selftests/ftrace"
_LIVEPATCH = "/payload/selftests/livepatch"
_INSTANCE = "[instance]"


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

    def outcome(self, test: str, machine: Machine) -> Outcome:
        """Run until `test` has its verdict. Raises Stopped; the next call then starts the rest anew."""
        while test not in self._outcomes and test not in self._stopped:
            try:
                self._advance(test, machine)
            except Stopped as stopped:
                current = self._current or test
                if current == test:
                    raise
                # another test of the batch ran just then: it is to blame, and this one goes on elsewhere
                self._stopped[current] = (stopped, self._process.log())
                machine.discard(f"{stopped.verdict} in {current}")
        if test in self._stopped:
            raise self._stopped[test][0]
        if test == self._chosen[-1]:
            # the programs put the system back at their end; what goes wrong there belongs to the last test
            self._process.drain(machine, limit=machine.time_limit(test), what=test)
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
    def _advance(self, test: str, machine: Machine) -> None:
        """Start the process where none runs, and read on until `_outcomes` has `test`."""


class FtraceBatch(Batch):
    """Some .tc files in one ftracetest process, and the re-runs of those that ask for it in a tracing instance."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""
        self._stream = ftracetest.FtracetestStream()

    @property
    def _current(self) -> str:
        return self._begun

    def _advance(self, test: str, machine: Machine) -> None:
        process = self._process
        fresh = not process.belongs_to(machine)
        if fresh:
            self._begun = ""
            machine.leave_faults_behind()
            assert machine.target  # booted or restored now: that tells whether an ftracetest waits there
            process.start(machine, self._command(test, machine))
            self._stream = ftracetest.FtracetestStream()
        deadline = time.monotonic() + machine.time_limit(test)
        while test not in self._outcomes:
            line = process.next_line(machine, deadline=deadline, what=self._begun or test)
            if line is None:
                if fresh:
                    told = f"ftracetest ended without running it (exit code {process.returncode})"
                    raise Stopped(Verdict.UNRESOLVED, told)
                return  # it was started for others; the next turn starts one for this test
            mark = self._stream.feed(line)
            if isinstance(mark, ftracetest.Begun):
                self._begun = test_id(mark.path, instance=mark.instance)
                deadline = time.monotonic() + machine.time_limit(self._begun)
            elif isinstance(mark, ftracetest.Ended):
                self._outcomes[self._begun] = process.outcome(mark.verdict, mark.reason)
                self._begun = ""

    def _command(self, test: str, machine: Machine) -> str:
        """ftracetest with the file of `test` and those behind it in the batch that have no outcome yet. After a crash,
        what is left may be re-runs of files whose plain run is over; then only the loop over instances is run."""
        rest = [other for other in self._chosen[self._chosen.index(test) :] if self._is_open(other)]
        again = test.endswith(_INSTANCE)
        plain_files = dict.fromkeys(_path_of(other) for other in rest if not other.endswith(_INSTANCE))
        again_files = dict.fromkeys(_path_of(other) for other in rest if other.endswith(_INSTANCE))
        if machine.take_waiting_ftracetest():
            return warm_ftracetest.going_command([*plain_files], [*again_files])
        paths = " ".join(map(shlex.quote, again_files if again else plain_files))
        program = "ftracetest"
        prepare = f"cd {FTRACE_DIRECTORY} && k=; grep -q -e --ktap ftracetest && k=-K"
        if again:
            program = "ftracetest-instances"
            prepare += f"; sed '/^# Main loop/,/^done/d' ftracetest > {program}; chmod +x {program}"
        # -l -: logs go to standard output, so they are here before a crash; through cat, because the tests
        # open standard output a second time, which the command channel does not allow
        return f"{prepare}; ./{program} $k -l - {paths} 2>&1 | cat"

    def _is_open(self, test: str) -> bool:
        return test not in self._outcomes and test not in self._stopped


class LivepatchBatch(Batch):
    """One livepatch script, or a part of it; its tests are the TESTs that it prints. `text`: what is run, where that
    is not the script as it stands on the target."""

    def __init__(self, script: str, text: str, tests: Sequence[str], *, is_part: bool = False) -> None:
        super().__init__()
        self._script = script
        self._text = text
        self._is_part = is_part
        self._names = [name_of(test) for test in tests]
        self._prefix = tests[0].partition("::")[0] if tests else ""
        self._ended = 0  # how many of the script's TESTs are over
        self._was_started = False

    def start_over(self, test: str) -> None:
        super().start_over(test)
        # a script that can't be resumed is run as a whole again: nothing in it was to blame
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
            line = process.next_line(machine, deadline=deadline, what=self._current or test)
            marks: Iterable[livepatch_log.TestEnded | None]
            if line is None:
                marks = self._stream.finish(process.returncode or 0)
                if process.returncode not in (0, 4):
                    machine.discard(f"{self._script}: exit code {process.returncode}; it may have left patches loaded")
            else:
                marks = [self._stream.feed(line)]
            for mark in filter(None, marks):
                self._outcomes[f"{self._prefix}::{mark.name}"] = process.outcome(mark.verdict, mark.reason)
                self._ended = self._names.index(mark.name) + 1 if mark.name in self._names else self._ended
                deadline = time.monotonic() + machine.time_limit(test)

    def _start(self, test: str, machine: Machine) -> None:
        """The whole script; on a fresh target, after a crash, what is left of it."""
        first = self._names.index(name_of(test)) if self._was_started else 0
        program = self._script
        self._ended = first  # also where it can't be started: then `test` is the one that is stopped
        if first or self._is_part:
            rest = livepatch_log.resumed(self._text, first) if first else self._text
            if rest is None:
                raise Stopped(Verdict.NOTRUN, f"{self._script} stopped before it and can't be resumed in the middle")
            program = f"part-of-{self._script}"
            machine.target.put(rest.encode(), f"{_LIVEPATCH}/{program}", mode=0o755)
        self._was_started = True
        self._stream = livepatch_log.LivepatchStream(self._names[first:])
        self._process.start(machine, f"cd {_LIVEPATCH} && ./{program}")


class _Process:
    """The process of a batch and what it printed for the test that runs now."""

    def __init__(self) -> None:
        self._epoch = 0
        self._printed = Transcript()
        self._began = 0.0
        self._running: RunningCommand | None = None

    def start(self, machine: Machine, command: str) -> None:
        machine.leave_faults_behind()
        target = machine.target
        self._running = target.start(command)
        self._epoch = machine.epoch
        self._begin()

    def belongs_to(self, machine: Machine) -> bool:
        """Whether the process was started on the target that is up now, and has not ended."""
        return self._running is not None and self._epoch == machine.epoch and machine.is_up and not self._running.done

    def next_line(self, machine: Machine, *, deadline: float, what: str) -> str | None:
        assert self._running is not None
        line = machine.next_line(self._running, deadline=deadline, what=what)
        if line is not None:
            self._printed.add(line)
        return line

    def drain(self, machine: Machine, *, limit: float, what: str) -> None:
        """Wait until the process has ended, so that the next one finds the shell free and the system at rest."""
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
        """The outcome of the test that ends now; the next one begins with it."""
        now = time.time()
        outcome = Outcome(verdict, reason, self.log(), self._began, now - self._began, time.monotonic())
        self._begin()
        return outcome

    def _begin(self) -> None:
        self._printed = Transcript()
        self._began = time.time()


def test_id(path: str, *, instance: bool) -> str:
    """The id of a .tc file's test: ``selftests/ftrace/test.d/…``, with ``[instance]`` for the re-run."""
    inner = path[path.index("test.d/") :]
    return f"selftests/ftrace/{inner}{_INSTANCE if instance else ''}"


def file_of(test: str) -> str:
    """The .tc file of a test id, as ``test.d/00basic/basic1.tc``."""
    return test.removeprefix("selftests/ftrace/").removesuffix(_INSTANCE)


def _path_of(test: str) -> str:
    return f"{FTRACE_DIRECTORY}/{file_of(test)}"


def name_of(test: str) -> str:
    """The TEST's name in a livepatch test id."""
    return test.partition("::")[2]
