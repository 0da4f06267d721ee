"""The upstream selftests as pytest items: every .tc file and its re-run in an instance, every TEST of every livepatch
script. They are found in the build's directory, so listing them needs no target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.model.kernel import Build
from harness.model.result import Verdict
from harness.parse import livepatch_log
from harness.run import precheck
from harness.run.batch import Batch, FtraceBatch, LivepatchBatch, Outcome, file_of, test_id
from harness.run.machine import Machine, Stopped
from harness.run.units import Isolation

FTRACE = "selftests/ftrace"
LIVEPATCH = "selftests/livepatch"
_CHUNK = 16  # .tc files that share a process: fewer cost start-ups, more cost re-runs after a crash


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
        self.group = group  # the first test of its batch: these share a target
        self.outcome: Outcome | None = None
        self.batch = batch
        self._suite = suite
        self._machine = machine
        self._skip = skip
        self._tools = tools

    def runtest(self) -> None:
        if self.reason_to_skip:
            raise Stopped(Verdict.SKIP, self.reason_to_skip)
        self.outcome = self.batch.outcome(self.test, self._machine)
        if self.outcome.verdict is not Verdict.PASS:
            raise Stopped(self.outcome.verdict, self.outcome.reason)

    @property
    def reason_to_skip(self) -> str:
        """Why it can't tell anything on this kernel or target; empty where it can."""
        return self._skip or self._machine.findings.reason_to_skip(self._suite, self._tools)

    @property
    def log(self) -> str:
        """What the test printed on the target."""
        if self.outcome:
            return self.outcome.log
        return "" if self.reason_to_skip else self.batch.log_of_stopped(self.test)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.test


def tell_batches(chosen: Sequence[pytest.Item]) -> None:
    """Tell every batch which of its tests were chosen and can run, so that it runs no others."""
    tests: dict[Batch, list[str]] = {}
    for item in chosen:
        if isinstance(item, SelftestItem) and not item.reason_to_skip:
            tests.setdefault(item.batch, []).append(item.test)
    for batch, names in tests.items():
        batch.choose(names)


class SuiteNode(pytest.Collector):
    """The pytest parent of a suite's items."""

    def collect(self) -> list[pytest.Item]:
        return []


def items(
    session: pytest.Session, *, suites: frozenset[str], build: Build, machine: Machine, isolation: Isolation
) -> Iterator[SelftestItem]:
    """Every selftest of the chosen suites, in the order they run."""
    if FTRACE in suites:
        parent = SuiteNode.from_parent(session, name=FTRACE, nodeid=FTRACE)
        for tests in _ftrace_batches(build.selftests / "ftrace", isolation):
            batch = FtraceBatch()
            for test in tests:
                tools = precheck.tools_of(build.selftests / "ftrace" / file_of(test))
                yield _item(parent, test, FTRACE, group=tests[0], batch=batch, machine=machine, tools=tools)
    if LIVEPATCH in suites:
        parent = SuiteNode.from_parent(session, name=LIVEPATCH, nodeid=LIVEPATCH)
        skip = livepatch_missing(build)
        for script in sorted((build.selftests / "livepatch").glob("test-*.sh")):
            for batch_of_script, tests in _livepatch_batches(script, isolation):
                for test in tests:
                    yield _item(
                        parent, test, LIVEPATCH, group=tests[0], batch=batch_of_script, machine=machine, skip=skip
                    )


def livepatch_missing(build: Build) -> str:
    """Why this kernel can't be livepatched; empty where it can."""
    if build.config.get("LIVEPATCH") == "y":
        return ""
    reason = build.without.get("LIVEPATCH", "CONFIG_LIVEPATCH is not set")
    return f"no livepatch in {build.release} on arm64: {reason}"


def _item(
    parent: SuiteNode,
    test: str,
    suite: str,
    *,
    group: str,
    batch: Batch,
    machine: Machine,
    skip: str = "",
    tools: frozenset[str] = frozenset(),
) -> SelftestItem:
    name = test.removeprefix(f"{suite}/")
    item: SelftestItem = SelftestItem.from_parent(
        parent, name=name, test=test, group=group, suite=suite, batch=batch, machine=machine, skip=skip, tools=tools
    )
    return item


def _ftrace_batches(directory: Path, isolation: Isolation) -> Iterator[list[str]]:
    """Test ids in batches: some files, then the re-runs of those among them that ask for one (as ftracetest does)."""
    files = sorted(directory.glob("test.d/**/*.tc"))
    for chunk in _chunks(files, _CHUNK if isolation is Isolation.CRASH else 1):
        plain = [test_id(str(path), instance=False) for path in chunk]
        again = [test_id(str(path), instance=True) for path in chunk if _runs_in_instance(path)]
        if isolation is Isolation.TEST:
            yield from ([test] for test in (*plain, *again))
        else:
            yield plain + again


def _livepatch_batches(script: Path, isolation: Isolation) -> Iterator[tuple[Batch, list[str]]]:
    """A script's TESTs, each one alone where that is asked for and the script can be cut."""
    text = script.read_text(errors="replace")
    tests = [f"{LIVEPATCH}/{script.stem}::{name}" for name in livepatch_log.names_in(text)]
    parts = [livepatch_log.resumed(text, number, alone=True) for number in range(len(tests))]
    if isolation is Isolation.TEST and len(tests) > 1 and None not in parts:
        for test, part in zip(tests, parts, strict=True):
            assert part is not None
            yield LivepatchBatch(script.name, part, [test], is_part=True), [test]
    elif tests:
        yield LivepatchBatch(script.name, text, tests), tests


def _runs_in_instance(path: Path) -> bool:
    """What ftracetest's test_on_instance asks."""
    lines = path.read_text(errors="replace").splitlines()
    return any(line.startswith("#") and "instance" in line.partition("flags:")[2] for line in lines)


def _chunks(files: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]
