"""A run and the earlier ones of its cell in, what its documents say about that past out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.model.comparison import Change, Changed
from harness.model.history import Outcome, StoredRun
from harness.model.past import Past, Seen, Track
from harness.model.result import Result
from harness.report.compare import Side, compare, usual
from harness.report.compare_text import figures
from harness.report.text import one_line

LONGEST = 30  # runs of a test that are shown

Run = tuple[StoredRun, Mapping[str, Sequence[Outcome]]]


def past_of(old: Side, new: Side, runs: Sequence[Run]) -> Past:
    """Compare `new` with `old`, and collect what each of its tests did in `runs`: those of its cell up to it, in the
    order of time, itself included."""
    comparison = compare(old, new)
    told: dict[str, list[tuple[StoredRun, Outcome]]] = {test: [] for test in new.outcomes}
    for run, outcomes in runs:
        for test, each in outcomes.items():
            if test in told:
                told[test].append((run, each[0]))  # what follows it are repetitions
    return Past(
        comparison=comparison,
        tracks={
            changed.test: Track(
                changed=changed,
                seen=tuple(
                    Seen(run=run.id, started=run.started, verdict=outcome.verdict)
                    for run, outcome in told[changed.test][-LONGEST:]
                ),
                usual=usual(outcome for run, outcome in told[changed.test] if run.id != new.run.id),
            )
            for changed in comparison.changes
            if changed.test in told
        },
    )


def evidence_lines(changed: Changed) -> list[str]:
    """Return the figures behind a change, and where it happened, without what the test itself said."""
    lines = figures(changed)
    if changed.change in (Change.NEW_FAILURE, Change.FLAKIER) and changed.last_good:
        lines.append(f"last good {one_line(changed.last_good)}, first bad {one_line(changed.first_bad)}")
    return [line for line in lines if changed.new is None or line != one_line(changed.new.reason)]


def urgency(result: Result, past: Past | None) -> int:
    """Return what a list of failures is sorted by: what is new comes first, as far as that is known."""
    track = past.tracks.get(result.test) if past else None
    return list(Change).index(track.changed.change) if track else 0


def change_of(result: Result, past: Past | None) -> Changed | None:
    """Return the change of a test, None if there is none to tell."""
    track = past.tracks.get(result.test) if past else None
    return track.changed if track and track.changed.change is not Change.SAME else None
