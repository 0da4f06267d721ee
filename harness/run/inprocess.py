"""pytest in this process: without its own output, cache and configuration, and with an end that says how it came."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from harness.errors import HarnessError, InfraError, UserError
from harness.layout import PROJECT, TESTCASES
from harness.model.result import EndKind, RunEnd

_LINES = 15  # of an internal error, its last ones, in a message


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the tests came to their end, here or in workers.

    `code`: pytest's exit code. `stopped_early`: as many failed as --maxfail allows. `internal_error`: what pytest
    itself failed over. `boot_failure`: why there is no booted kernel. `lost_workers`: why workers died, where nobody
    was left to go on."""

    code: int
    stopped_early: bool = False
    internal_error: str = ""
    collection_errors: tuple[str, ...] = ()
    boot_failure: HarnessError | None = None
    lost_workers: str = ""

    @property
    def end(self) -> RunEnd:
        """How that ends the run."""
        if self.boot_failure:
            return RunEnd(kind=EndKind.NOT_BOOTED, reason=self.boot_failure.message)
        if self.collection_errors:
            return RunEnd(kind=EndKind.COLLECTION_FAILED)
        if self.stopped_early:  # asked first: xdist ends its workers by an interrupt then
            return RunEnd(kind=EndKind.MAXFAIL)
        if self.code == pytest.ExitCode.INTERRUPTED:
            return RunEnd(kind=EndKind.INTERRUPTED)
        if self.code == pytest.ExitCode.INTERNAL_ERROR:
            return RunEnd(kind=EndKind.INTERNAL_ERROR, reason=self.internal_error.strip().rpartition("\n")[2])
        if self.lost_workers:
            return RunEnd(kind=EndKind.WORKERS_LOST, reason=self.lost_workers)
        return RunEnd(kind=EndKind.COMPLETE)

    def check(self, *, suites: frozenset[str], keyword: str) -> None:
        """Raise what this end means where it is not about tests. `suites`, `keyword`: what had been asked for."""
        if self.collection_errors:
            raise UserError("the testcases can't be collected", details=self.collection_errors)
        if self.code == pytest.ExitCode.USAGE_ERROR:
            raise UserError(f"-k: expected an expression as `fgraph and not instance`, found {keyword!r}")
        if self.code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise UserError(f"no test of {', '.join(sorted(suites))} matches -k {keyword!r}")
        if self.code == pytest.ExitCode.INTERNAL_ERROR:
            raise InfraError("pytest failed inside", details=self.internal_error.splitlines()[-_LINES:])


class Witness:
    """A pytest plugin that sees how pytest ends."""

    def __init__(self) -> None:
        self.stopped_early = False
        self.internal_error = ""
        self.collection_errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.collection_errors.append(report.longreprtext)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep what pytest, here or in a worker, failed over."""
        self.internal_error = self.internal_error or str(excrepr)  # what follows from it comes later

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.stopped_early = bool(session.shouldfail)


def run_pytest(
    plugins: Sequence[object], *, suites: frozenset[str], keyword: str = "", maxfail: int = 0, more: Sequence[str] = ()
) -> Ended:
    """Run pytest with `plugins` and `more` arguments on our testcases, of which `suites` names some or none; of other
    tests the plugins know. `keyword`: -k; `maxfail`: 0 for no limit."""
    inner = sorted(suite for suite in suites if suite.startswith("testcases/"))
    paths = [str(PROJECT / suite) for suite in inner] or [str(TESTCASES)]
    arguments = [*paths, f"--rootdir={PROJECT}", "-c", os.devnull, "--import-mode=importlib"]
    for unwanted in ("terminal", "cacheprovider", "junitxml", "tmpdir"):
        arguments += ["-p", f"no:{unwanted}"]
    arguments += ["-p", "harness.run.fixtures", *more]
    if keyword:
        arguments += ["-k", keyword]
    if maxfail:
        arguments += [f"--maxfail={maxfail}"]
    for variable in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):  # meant for somebody's own tests
        os.environ.pop(variable, None)
    # plugins of other packages that are installed here (labgrid has one) are not for our tests
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    witness = Witness()
    code = int(pytest.main(arguments, plugins=[witness, *plugins]))
    return Ended(
        code=code,
        stopped_early=witness.stopped_early,
        internal_error=witness.internal_error,
        collection_errors=tuple(witness.collection_errors),
    )
