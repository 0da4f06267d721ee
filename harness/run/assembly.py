"""What collects, runs and judges the tests of a rig, put together; alike in the run's own process and in workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.layout import EXPECTATIONS
from harness.model.progress import NoDisplay, RunDisplay
from harness.parse.expectations import parse_expectations
from harness.run.collecting import Collection
from harness.run.rig import Rig
from harness.run.runner import Runner
from harness.run.supply import Supply


def assemble(
    rig: Rig,
    supply: Supply,
    *,
    display: RunDisplay | None = None,
    announce: Callable[[Sequence[str]], None] | None = None,
    only: frozenset[str] | None = None,
) -> list[object]:
    """The pytest plugins. `announce`, `only`: see Collection."""
    expectations = parse_expectations(
        EXPECTATIONS.read_text(), place=EXPECTATIONS.name, release=rig.build.release, board=rig.board.name
    )
    collection = Collection(rig, announce=announce, only=only)
    runner = Runner(
        rig, collection=collection, supply=supply, expectations=expectations, display=display or NoDisplay()
    )
    return [collection, runner]
