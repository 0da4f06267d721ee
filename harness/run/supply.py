"""Where tests get their machines from, and what happens when one is lost or none is available."""

from __future__ import annotations

import pytest

from harness.model.result import Result
from harness.run.collecting import needs_target
from harness.run.preparing import Preparation
from harness.run.rig import Rig
from harness.run.suites import selftests


class Supply:
    """The common behaviour: the rig's machine boots when it is used, and a test runs again if its machine was lost and
    another one can be restored. Subclasses define what differs."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def before_next(self, item: pytest.Item, session: pytest.Session) -> None:
        """Called when `item` is next, before any part of it begins. Tests that can't run are removed from
        `session.items`."""

    def begin(self, item: pytest.Item) -> None:
        """Called before a test that needs a target begins."""

    def is_to_run_again(self, error: BaseException) -> bool:
        """Whether `error`, which ended an attempt, says nothing about the test, so that another attempt is
        worthwhile."""
        return self.rig.machine.restores and self.rig.machine.was_lost(error)

    def give_up_attempt(self, attempt: Result, log: str) -> None:
        """Record an attempt that another one will follow, and prepare for that. If the next attempt happens in another
        process, this does not return."""
        self.rig.recorder.lost(attempt, log, why=attempt.reason)
        self.rig.machine.discard(f"{attempt.verdict} in {attempt.test}")

    def before_verdict(self) -> None:
        """Called when a test has ended, before its result is recorded."""


class OneMachine(Supply):
    """The machine of the run's own process, prepared before the first test that needs it. If the kernel does not boot,
    this test and all later ones are NOTRUN."""

    def __init__(self, rig: Rig, preparation: Preparation) -> None:
        super().__init__(rig)
        self._preparation = preparation
        self._is_ready = False

    def before_next(self, item: pytest.Item, session: pytest.Session) -> None:
        if self._is_ready or not needs_target(item) or session.shouldfail or session.shouldstop:
            return
        self._is_ready = True
        if not self._preparation.is_done:
            self._preparation.prepare()
        if self._preparation.failure:
            session.items[:] = [other for other in session.items if not needs_target(other)]
        selftests.choose_in_batches(session.items)  # only now is it known what the target lacks
