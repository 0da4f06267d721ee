"""Two inspected files side by side: whose functions gained or lost a record, and what else is different."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.inspection import Comparison, Group, Inspection


def compare(first: Inspection, second: Inspection) -> Comparison:
    """Compare the tables of two files. Functions are the same if they share a name, so two static functions of one
    name in different source files count as one."""
    one, other = _recorded(first), _recorded(second)
    without_one, without_other = _names(first.left_out), _names(second.left_out)
    return Comparison(
        first=first.name,
        second=second.name,
        changes=tuple(_changes(first, second)),
        gained=tuple(sorted((other - one) & without_one)),
        lost=tuple(sorted((one - other) & without_other)),
        only_first=tuple(sorted(one - other - without_other)),
        only_second=tuple(sorted(other - one - without_one)),
    )


def _recorded(found: Inspection) -> set[str]:
    return {name for names in found.recorded for name in names}


def _names(groups: tuple[Group, ...]) -> set[str]:
    """Names without the source files that may follow them."""
    return {name.partition(" (")[0] for group in groups for name in group.names}


def _changes(first: Inspection, second: Inspection) -> Iterator[tuple[str, str, str]]:
    for what, one, other in zip(_PROPERTIES, _values(first), _values(second), strict=True):
        if one != other:
            yield what, one, other


_PROPERTIES = (
    "release", "built", "flavour", "BTI at the entry", "return address signed", "shadow call stack", "kCFI",
    "records", "empty records", "functions", "functions with a record", "records without a symbol", "trampolines",
    "faults",
)  # fmt: skip


def _values(found: Inspection) -> tuple[str, ...]:
    entry = found.entry
    return (
        found.release or "unknown",
        found.built or "unknown",
        entry.kind.value,
        _how_many(entry.bti, len(found.recorded)),
        _how_many(entry.pac, len(found.recorded)),
        _yes(entry.shadow_stack),
        _yes(entry.kcfi),
        str(found.table.records),
        str(found.table.empty),
        str(found.functions),
        f"{len(found.recorded)} ({found.share:.1%})",
        str(found.nameless),
        "; ".join(found.trampolines.present) or "none",
        "; ".join(f"{len(group)} {group.what}" for group in found.wrong) or "none",
    )


def _how_many(count: int, of: int) -> str:
    """Roughly: two kernels rarely have the same number."""
    if not count:
        return "none"
    return "all" if count >= of else "most" if 2 * count >= of else "some"


def _yes(count: int) -> str:
    return "yes" if count else "no"
