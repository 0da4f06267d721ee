"""Suites of C programs that use kselftest_harness.h: every test in a program is a test."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from harness.build.made import read_made, read_selftest
from harness.limits import SELFTEST_BYTES
from harness.model.kernel import Build
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.model.suite import Suite
from harness.parse import kselftest
from harness.run.machine import Machine
from harness.run.stopped import Stopped
from harness.run.suites.batch import Batch, Found
from harness.run.units import Isolation

_SELECTS = b"-r name"  # in the usage text of a program that can run a test by name; older kselftest harnesses can't


def batches(suite: Suite, build: Build, isolation: Isolation) -> Iterator[Found]:
    """The tests of each program, each one alone if that is requested and the program supports it."""
    for source in sorted((build.selftests / suite.directory).glob(suite.named_in)):
        program = _bytes_of(source.with_suffix(""))
        prefix = f"{suite.name}/{source.stem}::"
        tests = [f"{prefix}{name}" for name in kselftest.names_in(read_selftest(source), program)]
        selects = _SELECTS in program
        shares = [[test] for test in tests] if isolation is Isolation.TEST and selects else [tests]
        for share in filter(None, shares):
            yield Found(batch=ProgramBatch(suite, source.stem, selects=selects), tests=tuple(share))


def _bytes_of(program: Path) -> bytes:
    """Empty if the suite was not built."""
    return read_made(program, SELFTEST_BYTES) if program.is_file() else b""


class ProgramBatch(Batch):
    """One program. `selects`: whether its tests can be selected; then each runs in a process of its own, whose exit
    code is a verdict that the test's output can't imitate."""

    def __init__(self, suite: Suite, program: str, *, selects: bool) -> None:
        super().__init__()
        self._directory = f"/payload/{suite.name}"
        self._program = program
        self._prefix = f"{suite.name}/{program}::"
        self._selects = selects
        self._was_started = False
        self._begun = ""
        self._last_line = ""
        self._stream = kselftest.ProgramStream()

    def start_over(self, test: str) -> None:
        super().start_over(test)
        self._was_started = False  # nothing in it was to blame

    @property
    def _current(self) -> str:
        return self._begun

    def _advance(self, test: str, machine: Machine) -> None:
        process = self._process
        if not process.belongs_to(machine):
            self._start(test, machine)
        deadline = time.monotonic() + machine.time_limit(test)
        while test not in self._outcomes:
            line = process.next_line(machine, deadline=deadline, what=self._begun or test)
            if line is None:
                ended = self._stream.finish(process.returncode or 0)
                if ended is None:
                    raise self._stopped_by_its_end(test)
                self._end(ended)
                continue
            assert isinstance(line, str), "programs print no marks"
            self._last_line = line.strip() or self._last_line
            for mark in self._stream.feed(line):
                if isinstance(mark, kselftest.Begun):
                    self._begun = f"{self._prefix}{mark.name}"
                    deadline = time.monotonic() + machine.time_limit(self._begun)
                else:
                    self._end(mark)

    def _end(self, ended: kselftest.Ended) -> None:
        self._outcomes[self._begun] = self._process.outcome(ended.verdict, ended.reason)
        self._begun = ""

    def _start(self, test: str, machine: Machine) -> None:
        """Start the program with `test`, or with all its tests if it can't select."""
        self._begun = self._last_line = ""
        if self._was_started and not self._selects:
            reason = f"{self._program} stopped before it and can't be resumed in the middle"
            raise Stopped(Outcome(Verdict.NOTRUN, reason))
        self._was_started = True
        name = test.removeprefix(self._prefix)
        options = f"-r {shlex.quote(name)}" if self._selects else ""
        self._stream = kselftest.ProgramStream(name if self._selects else "")
        self._process.start(machine, f"cd {self._directory} && ./{shlex.quote(self._program)} {options} 2>&1")

    def _stopped_by_its_end(self, test: str) -> Stopped:
        code = self._process.returncode
        if code in (0, 4) and not self._begun:
            reason = f"{self._program} left it out: {self._last_line or f'exit code {code}'}"
            return Stopped(Outcome(Verdict.SKIP, reason))
        reason = f"{self._program} ended without a verdict on it (exit code {code}): {self._last_line}"
        return Stopped(Outcome(Verdict.UNRESOLVED, reason))
