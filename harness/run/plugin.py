"""The pytest plugin: chooses what runs, gives every test its verdict, writes it down the moment it is known."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BootError, CrashError, HarnessError, InfraError
from harness.model.kernel import Build
from harness.model.progress import RunDisplay
from harness.model.result import EventKind, Fault, Result, Verdict
from harness.parse.expectations import Expectations
from harness.report.text import clean
from harness.target.base import CommandTimeout

from . import precheck, selftests
from .eventlog import EventLog
from .lab import Lab, Stopped

TESTCASES = "testcases"
_OVER = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.ERROR)  # verdicts after which a target is not used again


@dataclass
class _Outcome:
    verdict: Verdict = Verdict.PASS
    reason: str = ""
    fault: Fault | None = None
    text: str = ""


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
        list_only: bool = False,
        hammer_seconds: float = 5.0,
    ) -> None:
        self.hammer_seconds = hammer_seconds
        self.build = build
        self.lab = lab
        self.suites = suites
        self.planned: list[str] = []
        self.collection_errors: list[str] = []
        self.boot_failure: HarnessError | None = None
        self.internal_error = ""
        self._run_dir = run_dir
        self._events = events
        self._expectations = expectations
        self._list_only = list_only
        self._display = display
        self.stopped_early = False
        self._outcome = _Outcome()
        self._looked = False  # whether the target was booted and looked at, or an attempt made

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
        items.extend(selftests.items(session, suites=self.suites, build=self.build, lab=self.lab))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # what is told from files comes first: it has its verdicts even when the kernel then does not boot
        session.items.sort(key=needs_target)
        self.planned = [id_of(item) for item in session.items]
        if not self._list_only:
            self._events.write(EventKind.PLANNED, tests=self.planned)
            self._display.planned(self.planned)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        if self._list_only:
            session.items.clear()
        self._prepare_for(session.items[0] if session.items else None, session)
        return (yield)

    def _prepare_for(self, item: pytest.Item | None, session: pytest.Session) -> None:
        """Boot and look at the target before the first test that needs it; with a kernel that does not boot, that one
        and all behind it stay NOTRUN."""
        if item is None or self._looked or not needs_target(item) or session.shouldfail or session.shouldstop:
            return
        self._looked = True
        try:
            assert self.lab.target
            self.lab.findings = precheck.check(self.lab.run, self.build, suites=self.suites)
        except HarnessError as error:
            self.boot_failure = error
        except Stopped as stopped:
            lines = stopped.fault.lines if stopped.fault else ()
            kind = CrashError if stopped.verdict.is_kernel_fault else InfraError
            self.boot_failure = kind(f"before the first test: {stopped.reason}", details=lines[-40:])
        if self.boot_failure:
            session.items[:] = [known for known in session.items if not needs_target(known)]
        selftests.tell_batches(session.items)
        for problem in self.lab.findings.problems:
            self._events.note(problem)
            self._display.problem(problem)

    # -- running ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, Any, Any]:
        test = id_of(item)
        self._outcome = _Outcome()
        self._events.write(EventKind.STARTED, test=test)
        self._display.started(test)
        if not isinstance(item, selftests.SelftestItem):
            self.lab.leave_faults_behind()
        started = time.time()
        answer = yield
        self._finish(item, test, started)
        self._prepare_for(nextitem, item.session)
        return answer

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if error is not None:
            first = first_of(error)
            if isinstance(first, KeyboardInterrupt):  # putting things back failed then, on a shell that was busy
                item.session.shouldstop = "interrupted"
            outcome = outcome_of(first)
            outcome.text = "" if isinstance(item, selftests.SelftestItem) else report.longreprtext
            if self._outcome.verdict in (Verdict.PASS, Verdict.SKIP):
                self._outcome = outcome
        if hasattr(report, "wasxfail"):
            self._outcome = _Outcome(Verdict.XFAIL if report.skipped else Verdict.PASS, str(report.wasxfail))
        if report.when == "call" and error is None and self._fault_of(item):
            self._outcome = _Outcome(Verdict.CRASH)  # _finish fills it in; here for --maxfail
            report.outcome = "failed"
        # what --maxfail counts are unexpected failures
        counted = self._outcome.verdict.is_kernel_fault or self._outcome.verdict.is_infra_fault
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
            outcome = _Outcome(Verdict.CRASH, fault.title, fault, outcome.text)
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
        self._display.result(result)

    def _fault_of(self, item: pytest.Item) -> Fault | None:
        """The kernel report that came while `item` ran; in a batch the next test may have begun since."""
        if not isinstance(item, selftests.SelftestItem):
            return self.lab.fault()
        return self.lab.fault_before(item.outcome.ended) if item.outcome else None

    def _result(self, test: str, outcome: _Outcome, started: float, seconds: float, log: str | None) -> Result:
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


def first_of(error: BaseException) -> BaseException:
    """What ended the test: `error`, or the finding that came before it, where putting things back failed as well."""
    first, earlier = error, error.__context__
    while earlier is not None:
        if isinstance(earlier, Stopped | AssertionError | KeyboardInterrupt):
            first = earlier
        earlier = earlier.__context__
    return first


def outcome_of(error: BaseException) -> _Outcome:
    """The verdict that an exception in a test means."""
    match error:
        case KeyboardInterrupt():
            return _Outcome(Verdict.ERROR, "interrupted while this test was running")
        case Stopped():
            return _Outcome(error.verdict, error.reason, error.fault)
        case pytest.skip.Exception():
            return _Outcome(Verdict.SKIP, str(error))
        case CrashError():
            return _Outcome(Verdict.CRASH, error.message)
        case CommandTimeout():
            return _Outcome(Verdict.TIMEOUT, error.message)
        case InfraError():
            return _Outcome(Verdict.ERROR, error.message)
        case BootError():  # a kernel that does not come up again: this test has not begun
            return _Outcome(Verdict.NOTRUN, error.message)
        case HarnessError():
            return _Outcome(Verdict.ERROR, error.message)
        case AssertionError() | pytest.fail.Exception():
            return _Outcome(Verdict.FAIL, str(error).partition("\n")[0] or "assertion failed")
        case ValueError() | LookupError() if _raised_in_a_test(error):
            return _Outcome(Verdict.FAIL, f"what the kernel told is not as expected: {type(error).__name__}: {error}")
    return _Outcome(Verdict.ERROR, f"{type(error).__name__}: {error}")


def _raised_in_a_test(error: BaseException) -> bool:
    """Whether a testcase itself, and no code of the harness, met `error`: it unpacked one call tree, say, and there
    was none."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).name.startswith("test_")
