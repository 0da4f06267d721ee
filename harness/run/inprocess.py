"""pytest in this process: without its own output, cache and configuration, and with a value that says how it ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from harness import shortage
from harness.errors import HarnessError, InfraError, KernelError, UserError
from harness.layout import PROJECT, TESTCASES
from harness.model.result import EndKind, RunEnd

_NO_AUTOLOAD = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
_LINES = 15  # the last lines of an internal error that a message shows


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the tests ended, here or in workers.

    `code`: pytest's exit code. `stopped_early`: as many tests failed as --maxfail allows. `internal_error`: an error in
    pytest itself. `boot_failure`: why there is no booted kernel. `lost_workers`: why workers died, if none was left to
    continue."""

    code: int
    stopped_early: bool = False
    internal_error: str = ""
    collection_errors: tuple[str, ...] = ()
    boot_failure: HarnessError | None = None
    lost_workers: str = ""

    @property
    def end(self) -> RunEnd:
        """The same as the end of the run."""
        if self.boot_failure:
            blames_kernel = isinstance(self.boot_failure, KernelError)
            return RunEnd(kind=EndKind.NOT_BOOTED, reason=self.boot_failure.message, blames_kernel=blames_kernel)
        if self.collection_errors:
            return RunEnd(kind=EndKind.COLLECTION_FAILED)
        if self.stopped_early:  # checked first, because xdist then ends its workers by an interrupt
            return RunEnd(kind=EndKind.MAXFAIL)
        if self.code == pytest.ExitCode.INTERRUPTED:
            return RunEnd(kind=EndKind.INTERRUPTED)
        if self.code == pytest.ExitCode.INTERNAL_ERROR:
            return RunEnd(kind=EndKind.INTERNAL_ERROR, reason=self.internal_error.strip().rpartition("\n")[2])
        if self.lost_workers:
            return RunEnd(kind=EndKind.WORKERS_LOST, reason=self.lost_workers)
        return RunEnd(kind=EndKind.COMPLETE)

    def check(self, *, suites: frozenset[str], keyword: str) -> None:
        """Raise an error if the end is not about tests. `suites`, `keyword`: what had been requested."""
        if self.collection_errors:
            raise UserError("the testcases can't be collected", details=self.collection_errors)
        if self.code == pytest.ExitCode.USAGE_ERROR:
            raise UserError(f"-k: expected an expression as `fgraph and not instance`, found {keyword!r}")
        if self.code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise UserError(f"no test of {', '.join(sorted(suites))} matches -k {keyword!r}")
        if self.code == pytest.ExitCode.INTERNAL_ERROR:
            # pytest keeps what tests print in files below TMPDIR
            if short := shortage.said(self.internal_error.splitlines()[-1:], what="pytest"):
                raise short
            raise InfraError("pytest failed with an internal error", details=self.internal_error.splitlines()[-_LINES:])


class Witness:
    """A pytest plugin that records how pytest ends."""

    def __init__(self) -> None:
        self.stopped_early = False
        self.internal_error = ""
        self.collection_errors: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.collection_errors.append(report.longreprtext)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep the internal error of pytest, here or in a worker."""
        self.internal_error = self.internal_error or str(excrepr)  # later ones are consequences of the first

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.stopped_early = bool(session.shouldfail)


@contextlib.contextmanager
def without_foreign_plugins() -> Iterator[None]:
    """Keep from pytest what is meant for the user's own tests, and the plugins of other installed packages (labgrid has
    one). The environment is as before in the end."""
    before = {name: os.environ.pop(name) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", _NO_AUTOLOAD)
              if name in os.environ}  # fmt: skip
    os.environ[_NO_AUTOLOAD] = "1"
    try:
        yield
    finally:
        del os.environ[_NO_AUTOLOAD]
        os.environ.update(before)


def run_pytest(
    plugins: Sequence[object], *, suites: frozenset[str], keyword: str = "", maxfail: int = 0, more: Sequence[str] = ()
) -> Ended:
    """Run pytest with `plugins` and `more` arguments on our testcases, of which `suites` names some or none; the
    plugins contribute all other tests. `keyword`: -k; `maxfail`: 0 for no limit."""
    inner = sorted(suite for suite in suites if suite.startswith("testcases/"))
    paths = [str(PROJECT / suite) for suite in inner] or [str(TESTCASES)]
    # Without confcutdir pytest looks through every directory above, and runs the conftest.py that it finds there.
    arguments = [*paths, f"--rootdir={PROJECT}", f"--confcutdir={PROJECT}", "-c", os.devnull, "--import-mode=importlib"]
    for unwanted in ("terminal", "cacheprovider", "junitxml", "tmpdir"):
        arguments += ["-p", f"no:{unwanted}"]
    arguments += ["-p", "harness.run.fixtures", *more]
    if keyword:
        arguments += ["-k", keyword]
    if maxfail:
        arguments += [f"--maxfail={maxfail}"]
    witness = Witness()
    with without_foreign_plugins():
        code = int(pytest.main(arguments, plugins=[witness, *plugins]))
    return Ended(
        code=code,
        stopped_early=witness.stopped_early,
        internal_error=witness.internal_error,
        collection_errors=tuple(witness.collection_errors),
    )
