"""Adds up the inspections of many modules."""

from __future__ import annotations

from collections import Counter

from harness.model.inspection import Group, Inspection, Kind, Modules


class ModuleSum:
    """The sum so far."""

    def __init__(self) -> None:
        self.count = 0
        self.skipped = 0
        self._records = self._functions = self._recorded = self._nameless = 0
        self._kinds: Counter[str] = Counter()
        self._untraced: list[str] = []
        self._without_trampoline: dict[str, list[str]] = {}
        self._wrong: dict[str, list[str]] = {}

    def add(self, name: str, found: Inspection) -> None:
        self.count += 1
        self._records += found.table.records
        self._functions += found.functions
        self._recorded += len(found.recorded)
        self._nameless += found.nameless
        self._kinds[found.entry.kind.value] += 1
        if found.entry.kind is Kind.NONE:
            self._untraced.append(name)
        for section in found.trampolines.missing:
            self._without_trampoline.setdefault(section, []).append(name)
        for group in found.wrong:
            self._wrong.setdefault(group.what, []).extend(f"{name}: {each}" for each in group.names)

    def skip(self) -> None:
        """Count a module that is not read."""
        self.skipped += 1

    def modules(self) -> Modules | None:
        """The sum; None if there are no modules."""
        if not self.count and not self.skipped:
            return None
        return Modules(
            count=self.count,
            skipped=self.skipped,
            records=self._records,
            functions=self._functions,
            recorded=self._recorded,
            nameless=self._nameless,
            kinds=dict(self._kinds.most_common()),
            untraced=tuple(self._untraced),
            without_trampoline=_groups(self._without_trampoline),
            wrong=_groups(self._wrong),
        )


def _groups(found: dict[str, list[str]]) -> tuple[Group, ...]:
    return tuple(Group(what=what, names=tuple(names)) for what, names in sorted(found.items()))
