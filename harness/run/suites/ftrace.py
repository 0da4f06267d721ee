"""selftests/ftrace: every .tc file is a test, and its re-run in a tracing instance is another one."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.build.made import read_selftest
from harness.model.kernel import Build
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.model.suite import FTRACE
from harness.parse import ftracetest
from harness.run.machine import Machine
from harness.run.stopped import Stopped
from harness.run.suites import warm_ftracetest
from harness.run.suites.batch import Batch, Found
from harness.run.suites.marked_ftracetest import marked, marks_for
from harness.run.suites.marks import Mark, Marks
from harness.run.units import Isolation

DIRECTORY = f"/payload/{FTRACE.name}"
_MARKED = f"{DIRECTORY}/ftracetest-marked"
_INSTANCE = "[instance]"
_CHUNK = 16  # .tc files that share a process: fewer mean more start-ups, more mean more re-runs after a crash
_ASKED = re.compile(r"\bCONFIG_(\w+)=")
_STRTONUM = re.compile(r"\bstrtonum\b")


def batches(build: Build, isolation: Isolation) -> Iterator[Found]:
    """Some files, then the re-runs of those that request one (in ftracetest's order), and so on."""
    directory = build.selftests / FTRACE.directory
    for tests in _shares(directory, isolation):
        tools = {test: tools_of(directory / file_of(test)) for test in tests}
        lacking = {test: why for test in tests if (why := _lacking(directory / file_of(test), build))}
        yield Found(batch=FtraceBatch(directory / "ftracetest", lacking=lacking), tests=tuple(tests), tools=tools)


def _lacking(testcase: Path, build: Build) -> str:
    """Which symbol the kernel lacks that a .tc file asks for in a message of its own, such as a sample module's; empty
    if there is none. What the target prints is not asked."""
    for symbol in _ASKED.findall(read_selftest(testcase)):
        if build.config.get(symbol) not in ("y", "m"):
            return f"this kernel has no CONFIG_{symbol}: {build.without.get(symbol, 'not configured')}"
    return ""


def _shares(directory: Path, isolation: Isolation) -> Iterator[list[str]]:
    """The ids of the tests that share a process, process by process."""
    files = sorted(directory.glob(FTRACE.named_in))
    for chunk in _chunks(files, _CHUNK if isolation is Isolation.CRASH else 1):
        plain = [test_id(str(path), instance=False) for path in chunk]
        again = [test_id(str(path), instance=True) for path in chunk if _runs_in_instance(path)]
        if isolation is Isolation.TEST:
            yield from ([test] for test in (*plain, *again))
        else:
            yield plain + again


def _chunks(files: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]


def _runs_in_instance(path: Path) -> bool:
    """The same question as ftracetest's test_on_instance."""
    lines = read_selftest(path).splitlines()
    return any(line.startswith("#") and "instance" in line.partition("flags:")[2] for line in lines)


def tools_of(testcase: Path) -> frozenset[str]:
    """Which of the occasional tools a .tc file calls."""
    text = "\n".join(
        line for line in read_selftest(testcase).splitlines() if not line.lstrip().startswith("# description")
    )
    called = {tool for tool in FTRACE.occasional_tools if re.search(rf"(?<![\w/.-]){re.escape(tool)}(?![\w.-])", text)}
    return frozenset(called | ({"gawk"} if _STRTONUM.search(text) else set()))


class FtraceBatch(Batch):
    """Some .tc files in one ftracetest process, and the re-runs in a tracing instance of those that request it.
    `upstream`: the kernel's own ftracetest, on this host. `lacking`: what the kernel lacks for a test: it calls itself
    unresolved then, which is no fault of the kernel."""

    def __init__(self, upstream: Path, *, lacking: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._lacking = lacking or {}
        self._upstream = upstream
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
            assert machine.target  # boots or restores now, so that it is known whether an ftracetest is waiting there
            plain, again = self._files(test)
            marks = marks_for(len({*plain, *again}))
            process.start(machine, self._command(test, plain, again, machine, marks), marks)
            self._stream = ftracetest.FtracetestStream()
        deadline = time.monotonic() + machine.time_limit(test)
        while test not in self._outcomes:
            said = process.next_line(machine, deadline=deadline, what=self._begun or test)
            if said is None:
                if fresh:
                    reason = f"ftracetest ended without running it (exit code {process.returncode})"
                    raise Stopped(Outcome(Verdict.UNRESOLVED, reason))
                return  # it was started for other tests; the next iteration starts one for this test
            if not isinstance(said, Mark):
                self._stream.feed(said)
                continue
            for event in self._stream.said(said.words):
                if isinstance(event, ftracetest.Begun):
                    self._begun = test_id(event.path, instance=event.instance)
                    deadline = time.monotonic() + machine.time_limit(self._begun)
                else:
                    self._outcomes[self._begun] = process.outcome(*self._judged(event.verdict, event.reason))
                    self._begun = ""

    def _judged(self, verdict: Verdict, reason: str) -> tuple[Verdict, str]:
        """The verdict on the test that has ended."""
        if verdict is Verdict.UNRESOLVED and (why := self._lacking.get(self._begun)):
            return Verdict.SKIP, why
        return verdict, reason

    def _files(self, test: str) -> tuple[list[str], list[str]]:
        """The files of `test` and of the later tests in the batch that have no outcome yet: those to run, and those to
        run again in an instance."""
        rest = [other for other in self._chosen[self._chosen.index(test) :] if self._is_open(other)]
        plain = [_path_of(other) for other in rest if not other.endswith(_INSTANCE)]
        return plain, [_path_of(other) for other in rest if other.endswith(_INSTANCE)]

    def _command(self, test: str, plain: Sequence[str], again: Sequence[str], machine: Machine, marks: Marks) -> str:
        """The command for ftracetest with these files. After a crash, re-runs of files may remain whose plain run is
        over; then only the loop over instances runs."""
        if machine.take_waiting_ftracetest():
            return warm_ftracetest.going_command(plain, again, marks)
        if _MARKED not in machine.remembered:
            machine.target.put(marked(read_selftest(self._upstream)).encode(), _MARKED, mode=0o755)
            machine.remembered[_MARKED] = True
        only_again = test.endswith(_INSTANCE)
        paths = " ".join(map(shlex.quote, again if only_again else plain))
        program = "ftracetest-marked"
        prepare = f"cd {DIRECTORY} && k=; grep -q -e --ktap ftracetest && k=-K"
        if only_again:
            program = "ftracetest-instances"
            prepare += f"; sed '/^# Main loop/,/^done/d' {_MARKED} > {program}; chmod +x {program}"
        # -l -: logs go to standard output, so they arrive before a crash; through cat, because the tests open standard
        # output a second time, which the command channel does not allow
        return f"{prepare}; ./{program} $k -l - {paths} 2>&1 {marks.redirection('| cat')}"

    def _is_open(self, test: str) -> bool:
        return test not in self._outcomes and test not in self._stopped


def test_id(path: str, *, instance: bool) -> str:
    """The id of a .tc file's test: ``selftests/ftrace/test.d/…``, with ``[instance]`` for the re-run."""
    inner = path[path.index("test.d/") :]
    return f"{FTRACE.name}/{inner}{_INSTANCE if instance else ''}"


def file_of(test: str) -> str:
    """The .tc file of a test id, such as ``test.d/00basic/basic1.tc``."""
    return test.removeprefix(f"{FTRACE.name}/").removesuffix(_INSTANCE)


def _path_of(test: str) -> str:
    return f"{DIRECTORY}/{file_of(test)}"
