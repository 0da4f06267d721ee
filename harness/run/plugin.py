"""The pytest plugin: chooses what runs, gives every test its verdict, writes it down the moment it is known."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from harness.errors import CrashError, HarnessError, InfraError
from harness.model.fault import Fault
from harness.model.kernel import Build
from harness.model.progress import RunDisplay
from harness.model.result import EventKind, Result, Verdict
from harness.parse.expectations import Expectations
from harness.report.text import clean
from harness.run import precheck, selftests, warmup
from harness.run.eventlog import EventLog
from harness.run.lab import Lab, Stopped
from harness.run.meaning import Meaning, first_of, meaning_of
from harness.run.units import Isolation, cpus_for
from harness.target.base import TargetLost

TESTCASES = "testcases"
FILES = "files"
_RERUNS = 5  # of a test whose machine was lost
_OVER = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.ERROR)  # verdicts after which a target is not used again


@dataclass(frozen=True)
class Planned:
    """A test that will run. `group`: what shares its target, or, with the tests that need none, `FILES`."""

    test: str
    group: str
    needs_target: bool = True


class Plugin:
    """What `harness run` registers with pytest under the name ``harness-run``."""

    def __init__(
        self,
        *,
        build: Build,
        lab: Lab,
        suites: frozenset[str],
        run_dir: Path,
        events: EventLog,
        expectations: Expectations,
        display: RunDisplay,
        isolation: Isolation = Isolation.CRASH,
        list_only: bool = False,
        is_worker: bool = False,
        hammer_seconds: float = 5.0,
    ) -> None:
        self.hammer_seconds = hammer_seconds
        self.build = build
        self.lab = lab
        self.suites = suites
        self.planned: dict[str, Planned] = {}
        self.only: frozenset[str] | None = None  # where not all that were chosen are to run
        self.collection_errors: list[str] = []
        self.boot_failure: HarnessError | None = None
        self.internal_error = ""
        self._run_dir = run_dir
        self._events = events
        self._expectations = expectations
        self._list_only = list_only
        self.display = display
        self.stopped_early = False
        self.lost_workers = ""  # why workers died, where nobody was left to go on
        self._outcome = Meaning()
        self._isolation = isolation
        self._is_worker = is_worker
        self._looked = is_worker  # whether the target was booted and looked at, or an attempt made
        self._ready_for_tests = is_worker
        self._is_told = False
        self._group = ""  # of the test before
        self._reruns_left = 0
        self._is_lost = False

    # -- collection ---------------------------------------------------------------------------------------------

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """testcases/ is always pytest's argument (it needs one); skip it when it was not chosen."""
        if self.suites & {TESTCASES} or any(suite.startswith(f"{TESTCASES}/") for suite in self.suites):
            return None
        return True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.collection_errors.append(report.longreprtext)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the upstream selftests, before -k chooses among all."""
        items.extend(
            selftests.items(session, suites=self.suites, build=self.build, lab=self.lab, isolation=self._isolation)
        )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # what is told from files comes first: it has its verdicts even when the kernel then does not boot
        session.items.sort(key=needs_target)
        if self.only is not None:
            session.items[:] = [item for item in session.items if item.nodeid in self.only]
        self.planned = {item.nodeid: self._plan(item) for item in session.items}
        if self._is_worker:
            selftests.tell_batches(session.items)
        elif not self._list_only and not self._is_told:
            self.tell_planned()

    def tell_planned(self) -> None:
        """Write down, and show, which tests there are."""
        self._is_told = True
        tests = [planned.test for planned in self.planned.values()]
        self._events.write(EventKind.PLANNED, tests=tests)
        self.display.planned(tests)

    def _plan(self, item: pytest.Item) -> Planned:
        test = id_of(item)
        if not needs_target(item):
            return Planned(test, FILES, needs_target=False)
        if isinstance(item, selftests.SelftestItem):
            return Planned(test, item.group)
        return Planned(test, test if self._isolation is Isolation.TEST else test.partition("::")[0])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        if self._list_only:
            session.items.clear()
        self._prepare_for(session.items[0] if session.items else None, session)
        return (yield)

    def _prepare_for(self, item: pytest.Item | None, session: pytest.Session) -> None:
        """Boot and look at the target before the first test that needs it; with a kernel that does not boot, that one
        and all behind it stay NOTRUN."""
        if item is None or self._ready_for_tests or not needs_target(item) or session.shouldfail or session.shouldstop:
            return
        if not self._looked:
            self.make_ready()
        self._ready_for_tests = True
        if self.boot_failure:
            session.items[:] = [known for known in session.items if not needs_target(known)]
        selftests.tell_batches(session.items)

    def make_ready(self) -> None:
        """Boot and look at the target, and where the board can, keep it as it is then; `boot_failure` says what went
        wrong."""
        self._looked = True
        try:
            assert self.lab.target
            self.lab.findings = precheck.check(self.lab.run, self.build, suites=self.suites)
            if self.lab.can_keep:
                self._warm_up()
                self._keep()
        except HarnessError as error:
            self.boot_failure = error
        except Stopped as stopped:
            lines = stopped.fault.lines if stopped.fault else ()
            kind = CrashError if stopped.verdict.is_kernel_fault else InfraError
            self.boot_failure = kind(f"before the first test: {stopped.reason}", details=lines[-40:])
        for problem in self.lab.findings.problems:
            self.tell(problem)

    def _warm_up(self) -> None:
        """Where the kernel fails at what tests would do first, they are to find it out, on a machine that has not."""
        try:
            why_not = warmup.warm_up(self.lab, self.build, with_ftracetest=selftests.FTRACE in self.suites)
        except (Stopped, TargetLost) as error:
            why_not = f"warming up failed, so every test does it itself: {error}"
            self.lab.discard(why_not)
        if why_not:
            self.tell(why_not)

    def _keep(self) -> None:
        why_not = self.lab.keep()
        if why_not:
            self.tell(f"no snapshot, so a target is booted anew after a crash only: {why_not}")
            self._events.write(EventKind.RUN, isolation=str(Isolation.CRASH))  # what it has come to

    def tell(self, problem: str) -> None:
        """Write down, and show, what people should know."""
        self._events.note(problem)
        self.display.problem(problem)

    # -- running ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        test = id_of(item)
        self._outcome = Meaning()
        self._begin(item, test)
        self._events.write(EventKind.STARTED, test=test)
        self.display.started(test)
        self._reruns_left = _RERUNS
        started = time.time()
        answer = yield
        while self._is_lost:
            self._run_again(item, nextitem)
        self._finish(item, test, started)
        self._prepare_for(nextitem, item.session)
        return answer

    def _begin(self, item: pytest.Item, test: str) -> None:
        """Give a test its target: one that nobody used, or, where tests share one, that of the test before."""
        if not needs_target(item):
            return
        group = self._plan(item).group
        is_new = group != self._group
        self._group = group
        if is_new or not isinstance(item, selftests.SelftestItem):  # one in the middle of a batch takes what there is
            fresh = is_new and self._isolation is not Isolation.CRASH
            self.lab.begin(test, fresh=fresh, cpus=cpus_for(test))

    def _may_run_again(self, error: BaseException) -> bool:
        return self._reruns_left > 0 and self.lab.restores and self.lab.was_lost(error)

    def _run_again(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """The machine went away, by no doing of the kernel's: the test has told nothing."""
        self._is_lost = False
        self._reruns_left -= 1
        self._events.note(f"{id_of(item)}: run again, because {self._outcome.reason}")
        self.lab.discard(f"{self._outcome.verdict} in {id_of(item)}")
        self._outcome = Meaning()
        if isinstance(item, selftests.SelftestItem):
            item.batch.start_over(item.test)
        runtestprotocol(item, nextitem=nextitem)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo.value if call.excinfo else None
        is_first = False  # whether this is what the test's verdict comes from
        if error is not None:
            first = first_of(error)
            if isinstance(first, KeyboardInterrupt):  # putting things back failed then, on a shell that was busy
                item.session.shouldstop = "interrupted"
            outcome = meaning_of(first)
            outcome.text = "" if isinstance(item, selftests.SelftestItem) else report.longreprtext
            is_first = self._outcome.verdict in (Verdict.PASS, Verdict.SKIP)
            if is_first:
                self._outcome = outcome
        if hasattr(report, "wasxfail"):
            self._outcome = Meaning(Verdict.XFAIL if report.skipped else Verdict.PASS, str(report.wasxfail))
        if report.when == "call" and error is None and self._fault_of(item):
            self._outcome = Meaning(Verdict.CRASH)  # _finish fills it in; here for --maxfail
            report.outcome = "failed"
        # what --maxfail counts are unexpected failures
        counted = self._outcome.verdict.is_kernel_fault or self._outcome.verdict.is_infra_fault
        if error is not None and is_first and self._may_run_again(first_of(error)):
            self._is_lost = True
        counted = counted and not self._is_lost
        if report.outcome != "passed":
            known = self._expectations.of(id_of(item))
            report.outcome = (
                "failed" if counted and not (known and self._outcome.verdict in known.verdicts) else "skipped"
            )
            if report.outcome == "skipped":
                report.longrepr = (str(item.path), 0, self._outcome.reason)
        return report

    def _finish(self, item: pytest.Item, test: str, started: float) -> None:
        outcome = self._outcome
        fault = self._fault_of(item)
        if fault and outcome.fault is None:
            outcome = Meaning(Verdict.CRASH, fault.title, fault, outcome.text)
        if outcome.verdict in _OVER or fault:
            self.lab.discard(f"{outcome.verdict} in {test}")
        seconds = time.time() - started
        log = outcome.text
        if isinstance(item, selftests.SelftestItem):
            log = item.log
            if item.outcome:
                started, seconds = item.outcome.started, item.outcome.seconds
        elif item._report_sections:
            log = "\n".join([log, *(f"-- {name} --\n{text}" for _, name, text in item._report_sections)])
        result = self._result(test, outcome, started, seconds, self._write_log(test, log))
        self._record(result)
        self.display.result(result)

    def _fault_of(self, item: pytest.Item) -> Fault | None:
        """The kernel report that came while `item` ran; in a batch the next test may have begun since."""
        if not isinstance(item, selftests.SelftestItem):
            return self.lab.fault()
        return self.lab.fault_before(item.outcome.ended) if item.outcome else None

    def _result(self, test: str, outcome: Meaning, started: float, seconds: float, log: str | None) -> Result:
        known = self._expectations.of(test)
        verdict, reason = outcome.verdict, clean(" ".join(outcome.reason.split()))
        as_known = known is not None and verdict in known.verdicts
        if known and as_known and (verdict.is_kernel_fault or verdict.is_infra_fault):
            verdict, reason = Verdict.XFAIL, f"known {verdict}: {known.reason} ({reason})"
        return Result(
            test=test,
            verdict=verdict,
            actual=outcome.verdict,
            reason=reason,
            started=started,
            seconds=round(seconds, 3),
            log=log,
            fault=outcome.fault,
            expected=known,
        )

    def _record(self, result: Result) -> None:
        fault, known = result.fault, result.expected
        self._events.write(
            EventKind.FINISHED,
            test=result.test,
            verdict=str(result.verdict),
            actual=str(result.actual),
            reason=result.reason,
            started=result.started,
            seconds=result.seconds,
            log=result.log,
            fault={"kind": str(fault.kind), "title": fault.title, "lines": list(fault.lines)} if fault else None,
            expected={"verdicts": [str(v) for v in known.verdicts], "reason": known.reason} if known else None,
        )

    def _write_log(self, test: str, text: str) -> str | None:
        if not text.strip():
            return None
        # the name comes from our own ids, never from the target
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", test)[-200:].strip("_") + ".log"
        path = self._run_dir / "logs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
        return f"logs/{name}"

    def pytest_internalerror(self, excrepr: object) -> None:
        self.internal_error = str(excrepr)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.stopped_early = bool(session.shouldfail)
        self.lab.close()


def id_of(item: pytest.Item) -> str:
    """The test's id in results: ``testcases/…`` or ``selftests/…``."""
    return item.test if isinstance(item, selftests.SelftestItem) else item.nodeid


def needs_target(item: pytest.Item) -> bool:
    """Whether a test wants a booted kernel: upstream's do, and ours that use the fixture ``guest``, if only through
    others."""
    return isinstance(item, selftests.SelftestItem) or "guest" in getattr(item, "fixturenames", ())
