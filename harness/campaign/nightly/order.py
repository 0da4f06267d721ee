"""In which order a night's cells come, and which of them the time suffices for. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.model.night import Cell, Estimate, Seen, Slot
from harness.report.summary import duration

_NEVER = 1 << 30
_UNKNOWN_S = 3600.0  # what a build may take of which nothing is known: what is ready comes first


def ordered(cells: Sequence[Cell], seen: Mapping[Slot, Seen], estimates: Mapping[Slot, Estimate]) -> tuple[Cell, ...]:
    """Return the cells in the order in which they are begun: what earlier nights did not begin (the longest waiting
    first), then by priority, then what changed, then what was not seen for the longest. Of what is equal in all that,
    builds that cost least for each of their cells come first, and the cells of one build together."""
    sharing = Counter(cell.build for cell in cells)

    def rank(cell: Cell) -> tuple[object, ...]:
        known = seen.get(cell.slot, Seen())
        build = estimates.get(cell.slot, Estimate()).build
        return (
            -known.late,  # not what the lab failed: a cell that takes all night in vain would come first for ever
            -cell.settings.priority,
            known.identity == cell.identity,
            -(_NEVER if known.nights_ago is None else known.nights_ago),
            cell.slot.repetition,  # first of all once, then again
            (_UNKNOWN_S if build is None else build) / sharing[cell.build],
            cell.slot.kernel,
            cell.build,
            cell.slot,
        )

    return tuple(sorted(cells, key=rank))


def why_not(estimate: Estimate, *, is_built: bool, left: float | None) -> str:
    """Say why a cell is not begun with `left` seconds to go (None: without end); empty if it can be. What is unknown is
    tried."""
    if left is None:
        return ""
    if left <= 0:
        return "the night's time was over"
    needed = (0.0 if is_built else estimate.build or 0.0) + (estimate.test or 0.0)
    return f"needs about {duration(needed)}, {duration(left)} were left" if needed > left else ""


def why_first(cell: Cell, seen: Seen) -> str:
    """Say in a few words what a cell's place in the order comes from."""
    if seen.owed:
        return f"not done for {seen.owed} {'night' if seen.owed == 1 else 'nights'}"
    if seen.nights_ago is None:
        return "new"
    if seen.identity != cell.identity:
        return "changed"
    return "unchanged" if seen.nights_ago == 1 else f"unchanged, last run {seen.nights_ago} nights ago"
