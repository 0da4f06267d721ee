"""Tests in the run's own process, on the one machine that it has."""

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
    """Runs tests of `rig` here. `known`: what outcomes are held against; `pytest`: runs pytest with plugins and further
    arguments; `display`: shows how it goes."""

    def __init__(self, rig: Rig, *, known: KnownOutcomes, pytest: Pytest, display: RunDisplay) -> None:
        self.rig = rig
        self._known = known
        self.pytest = pytest
        self.display = display
        self.preparation = Preparation(rig, say=self.say)

    def run(self, *, only: frozenset[str] | None = None, is_announced: bool = False) -> Ended:
        """Run the tests that were chosen, of these `only` some where it is given (by their pytest node ids).
        `is_announced`: people know which tests there are."""
        plugins = assemble(
            self.rig,
            OneMachine(self.rig, self.preparation),
            known=self._known,
            display=self.display,
            announce=None if is_announced else self.announce,
            only=only,
        )
        return dataclasses.replace(self.pytest(plugins, ()), boot_failure=self.preparation.failure)

    def announce(self, tests: Sequence[str]) -> None:
        """Write down, and show, which tests there are."""
        self.rig.recorder.planned(tests)
        self.display.planned(tests)

    def say(self, problem: str) -> None:
        """Write down, and show, what people should know."""
        self.rig.recorder.note(problem)
        self.display.problem(problem)
