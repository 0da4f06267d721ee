"""Collecting: which tests there are, in which order they run, and which of them share a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.run.rig import Rig
from harness.run.suites import selftests
from harness.run.units import Isolation

TESTCASES = "testcases"
FILES = "files"


@dataclass(frozen=True)
class Planned:
    """A test that will run. `group`: tests of one group share a target; `FILES` for tests that need none."""

    test: str
    group: str
    needs_target: bool = True


class Collection:
    """A pytest plugin: collects the tests of a rig's suites, our own and upstream's. When that is done, `planned` has
    them by their pytest node ids, and `announce` is called with them. `only`: the node ids of the tests that will run,
    if not all the chosen ones."""

    def __init__(
        self,
        rig: Rig,
        *,
        announce: Callable[[Sequence[str]], None] | None = None,
        only: frozenset[str] | None = None,
    ) -> None:
        self._rig = rig
        self._announce = announce
        self._only = only
        self.planned: dict[str, Planned] = {}

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """testcases/ is always pytest's argument (it needs one); skip it if it was not chosen."""
        suites = self._rig.suites
        if TESTCASES in suites or any(suite.startswith(f"{TESTCASES}/") for suite in suites):
            return None
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Add the upstream selftests, before -k selects among all tests."""
        rig = self._rig
        items.extend(
            selftests.items(session, suites=rig.suites, build=rig.build, machine=rig.machine, isolation=rig.isolation)
        )

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        # tests of files come first: they get their verdicts even if the kernel then does not boot
        session.items.sort(key=needs_target)
        if self._only is not None:
            session.items[:] = [item for item in session.items if item.nodeid in self._only]
        self.planned = {item.nodeid: self.plan(item) for item in session.items}
        selftests.choose_in_batches(session.items)
        if self._announce:
            self._announce([planned.test for planned in self.planned.values()])

    def plan(self, item: pytest.Item) -> Planned:
        """The plan for a collected test."""
        test = id_of(item)
        if not needs_target(item):
            return Planned(test, FILES, needs_target=False)
        if isinstance(item, selftests.SelftestItem):
            return Planned(test, item.group)
        return Planned(test, test if self._rig.isolation is Isolation.TEST else test.partition("::")[0])


def id_of(item: pytest.Item) -> str:
    """The test's id in results: ``testcases/…`` or ``selftests/…``."""
    return item.test if isinstance(item, selftests.SelftestItem) else item.nodeid


def needs_target(item: pytest.Item) -> bool:
    """Whether a test needs a booted kernel: upstream's do, and those of ours that use the fixture ``guest``, directly
    or through other fixtures."""
    return isinstance(item, selftests.SelftestItem) or "guest" in getattr(item, "fixturenames", ())
