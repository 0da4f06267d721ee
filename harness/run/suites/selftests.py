"""The upstream selftests as pytest items. They are found in the build directory, so listing them needs no target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.build import hostheaders
from harness.build.made import read_selftest
from harness.model.kernel import Build
from harness.model.outcome import Outcome
from harness.model.result import Verdict
from harness.model.suite import NOT_BUILT, UPSTREAM, Suite
from harness.run.machine import Machine
from harness.run.stopped import Stopped
from harness.run.suites.batch import Batch, Found
from harness.run.suites.table import FINDERS
from harness.run.units import Isolation

ALL = "all"  # the name of what stands for all tests of a suite that is not there


class SelftestItem(pytest.Item):
    """One selftest; runs as part of its batch."""

    def __init__(
        self,
        *,
        test: str,
        group: str,
        suite: str,
        batch: Batch,
        machine: Machine,
        skip: str,
        tools: frozenset[str],
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.test = test
        self.group = group  # the first test of its batch; tests of a batch share a target
        self.outcome: Outcome | None = None
        self.batch = batch
        self._suite = suite
        self._machine = machine
        self._skip = skip
        self._tools = tools

    def runtest(self) -> None:
        if self.reason_to_skip:
            raise Stopped(Outcome(Verdict.SKIP, self.reason_to_skip))
        self.outcome = self.batch.outcome(self.test, self._machine)
        if self.outcome.verdict is not Verdict.PASS:
            raise Stopped(self.outcome)

    @property
    def reason_to_skip(self) -> str:
        """Why the test is pointless on this kernel or target; empty if it can run."""
        return self._skip or self._machine.findings.reason_to_skip(self._suite, self._tools)

    @property
    def log(self) -> str:
        """The test's output on the target."""
        if self.outcome:
            return self.outcome.log
        return "" if self.reason_to_skip else self.batch.log_of_stopped(self.test)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.test


def choose_in_batches(chosen: Sequence[pytest.Item]) -> None:
    """Set in every batch which of its tests were chosen and can run, so that it runs no others."""
    tests: dict[Batch, list[str]] = {}
    for item in chosen:
        if isinstance(item, SelftestItem) and not item.reason_to_skip:
            tests.setdefault(item.batch, []).append(item.test)
    for batch, names in tests.items():
        batch.choose(names)


class _Absent(Batch):
    """Stands for the tests of a suite whose names are not known, because the build has no files of it."""

    @property
    def _current(self) -> str:
        return ""

    def _advance(self, test: str, machine: Machine) -> None:
        raise AssertionError(f"{test} is skipped, so nothing can run it")


class SuiteNode(pytest.Collector):
    """The pytest parent of a suite's items."""

    def collect(self) -> list[pytest.Item]:
        return []


def items(
    session: pytest.Session, *, suites: frozenset[str], build: Build, machine: Machine, isolation: Isolation
) -> Iterator[SelftestItem]:
    """Every selftest of the chosen suites, in the order they run. Of a suite that the build lacks, one that stands for
    all of them and is skipped with the reason."""
    for suite in UPSTREAM:
        if suite.name in suites:
            parent = SuiteNode.from_parent(session, name=suite.name, nodeid=suite.name)
            skip = why_not(suite, build)
            shares = list(FINDERS[suite](build, isolation))
            if not shares and suite.name in build.unbuilt:
                skip = skip or build.unbuilt[suite.name]
                shares = [Found(batch=_Absent(), tests=(f"{suite.name}/{ALL}",))]
            for found in shares:
                for test in found.tests:
                    yield _item(parent, test, suite, found=found, machine=machine, skip=skip)


def why_not(suite: Suite, build: Build) -> str:
    """Why a suite is pointless on this build's kernel; empty if it can run."""
    for symbol in suite.needs:
        if build.config.get(symbol) not in ("y", "m"):
            reason = build.without.get(symbol, f"CONFIG_{symbol} is not set")
            return f"no {suite.directory} in {build.release} on arm64: {reason}"
    told = build.selftests / suite.directory / NOT_BUILT
    if told.exists():
        why = read_selftest(told).strip()
        where = "on this host" if hostheaders.is_why(why) else f"for {build.release}"
        return f"{suite.name} does not build {where}: {why}"
    return ""


def _item(parent: SuiteNode, test: str, suite: Suite, *, found: Found, machine: Machine, skip: str) -> SelftestItem:
    item: SelftestItem = SelftestItem.from_parent(
        parent,
        name=test.removeprefix(f"{suite.name}/"),
        test=test,
        group=found.tests[0],
        suite=suite.name,
        batch=found.batch,
        machine=machine,
        skip=skip,
        tools=found.tools.get(test, frozenset()),
    )
    return item
