"""Puts together what collects, runs and judges the tests of a rig, in the run's own process and in workers alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.model.known import KnownOutcomes
from harness.model.progress import NoDisplay, RunDisplay
from harness.run.collecting import Collection
from harness.run.rig import Rig
from harness.run.runner import Runner
from harness.run.supply import Supply


def assemble(
    rig: Rig,
    supply: Supply,
    *,
    known: KnownOutcomes,
    display: RunDisplay | None = None,
    announce: Callable[[Sequence[str]], None] | None = None,
    only: frozenset[str] | None = None,
) -> list[object]:
    """The pytest plugins. `known`: the known outcomes to compare with; `announce`, `only`: see Collection."""
    collection = Collection(rig, announce=announce, only=only)
    runner = Runner(rig, collection=collection, supply=supply, known=known, display=display or NoDisplay())
    return [collection, runner]
