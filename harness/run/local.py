"""Tests in the run's own process, on its one machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from harness.model.known import KnownOutcomes
from harness.model.progress import RunDisplay
from harness.run.assembly import assemble
from harness.run.inprocess import Ended
from harness.run.preparing import Preparation
from harness.run.rig import Rig
from harness.run.supply import OneMachine

Pytest = Callable[[Sequence[object], Sequence[str]], Ended]


class LocalRun:
    """Runs tests of `rig` here. `known`: the known outcomes to compare with; `pytest`: runs pytest with plugins and
    further arguments; `display`: shows progress."""

    def __init__(self, rig: Rig, *, known: KnownOutcomes, pytest: Pytest, display: RunDisplay) -> None:
        self.rig = rig
        self.known = known
        self.pytest = pytest
        self.display = display
        self.preparation = Preparation(rig, say=self.say)

    def run(self, *, only: frozenset[str] | None = None, is_announced: bool = False) -> Ended:
        """Run the chosen tests, or `only` some of them (pytest node ids). `is_announced`: the plan has already been
        recorded and shown."""
        plugins = assemble(
            self.rig,
            OneMachine(self.rig, self.preparation),
            known=self.known,
            display=self.display,
            announce=None if is_announced else self.announce,
            only=only,
        )
        return dataclasses.replace(self.pytest(plugins, ()), boot_failure=self.preparation.failure)

    def announce(self, tests: Sequence[str]) -> None:
        """Record and show which tests there are."""
        self.rig.recorder.planned(tests)
        self.display.planned(tests)

    def say(self, problem: str) -> None:
        """Record and show what people should know."""
        self.rig.recorder.note(problem)
        self.display.problem(problem)
