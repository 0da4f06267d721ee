"""What the history says about the tests of one run, for the documents of that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.model.comparison import Changed, Comparison
from harness.model.result import Verdict


@dataclass(frozen=True, kw_only=True)
class Seen:
    """How a test ended in one run. `started`: when the run began, in seconds since the epoch."""

    run: str
    started: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Track:
    """What is known of one test. `changed`: the class of its change, with the evidence. `seen`: its latest runs in this
    cell, the oldest first; the last one is the run that the documents are about. `usual`: the median of its earlier
    durations in seconds, None if there are too few."""

    changed: Changed
    seen: tuple[Seen, ...] = ()
    usual: float | None = None


@dataclass(frozen=True, kw_only=True)
class Past:
    """A run compared with an earlier one of its cell. `tracks`: by test, for each test of the run."""

    comparison: Comparison
    tracks: Mapping[str, Track] = field(default_factory=dict)
