"""How tests come by a machine, and what happens when one is lost or none is to be had."""

from __future__ import annotations

import pytest

from harness.model.result import Result
from harness.run.collecting import needs_target
from harness.run.preparing import Preparation
from harness.run.rig import Rig
from harness.run.suites import selftests


class Supply:
    """What is the same for all: the rig's machine is there when it is used, and a test is run again if its machine was
    lost and another one can be restored. Subclasses say what is different for theirs."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def before_next(self, item: pytest.Item, session: pytest.Session) -> None:
        """`item` is the next one, of which nothing has begun; what can't be run leaves `session.items`."""

    def begin(self, item: pytest.Item) -> None:
        """A test that needs a target is about to begin."""

    def is_to_run_again(self, error: BaseException) -> bool:
        """Whether `error`, which ended an attempt, tells nothing of the test, and another attempt may."""
        return self.rig.machine.restores and self.rig.machine.was_lost(error)

    def give_up_attempt(self, attempt: Result, log: str) -> None:
        """Write down an attempt that is to be followed by another one, and make way for that. Where that is not made in
        this process, this does not return."""
        self.rig.recorder.lost(attempt, log, why=attempt.reason)
        self.rig.machine.discard(f"{attempt.verdict} in {attempt.test}")

    def before_verdict(self) -> None:
        """A test is over; its result is about to be written down."""


class OneMachine(Supply):
    """The machine of the run's own process: prepared when the first test that needs it is the next one. With a kernel
    that does not boot, that one and all behind it stay NOTRUN."""

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
        selftests.choose_in_batches(session.items)  # what the target lacks is known now
