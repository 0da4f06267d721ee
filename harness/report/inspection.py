"""Inspections in, text for a terminal or one JSON document out.

The document (keys are only ever added; any other change increments VERSION)::

    {"version": 1,
     "inspected": [                              one for each argument
       {"name": "…",
        "files": [
          {"name": "…", "form": "…", "release": "…", "built": "…",
           "entry": {"kind": "CALL_OPS", "text": "…", "known_from": "…",      kind: see model.inspection.Kind
                     "bti": 0, "pac": 0, "shadow_stack": 0, "kcfi": 0},
           "table": {"records": 0, "empty": 0, "in_order": true, "sections": {".text": 0}},
           "functions": 0, "share": 0.8, "aliases": 0, "nameless": 0,
           "recorded": [["…"]],                  each function with a record, by all its names
           "aligned": {"8": 0},                  so many of them begin at a multiple of so many bytes, and no larger one
           "left_out": [{"what": "…", "count": 0, "names": ["…"]}],
           "trampolines": {"present": ["…"], "missing": ["…"]},
           "wrong": [{"what": "…", "count": 0, "names": ["…"]}],
           "notes": ["…"]}],
        "modules": {…} | null,                   see model.inspection.Modules
        "unread": ["…"]}],                       a message for each file that can't be read
     "comparison": {…} | null}                   see model.inspection.Comparison
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence

from harness.model.inspection import WHOLE_FILES, Comparison, Group, Inspected, Inspection, Kind, Modules
from harness.report.text import one_line

VERSION = 1
_WIDTH = 16
_EXAMPLES = 3
_DIFFERENT = 12
_MESSAGES = 10


def inspection_json(inspected: Sequence[Inspected], comparison: Comparison | None) -> str:
    """The whole document, indented, ASCII only."""
    document = {
        "version": VERSION,
        "inspected": [
            {
                "name": each.name,
                "files": [_file(found) for found in each.files],
                "modules": _modules(each.modules) if each.modules else None,
                "unread": list(each.unread),
            }
            for each in inspected
        ],
        "comparison": dataclasses.asdict(comparison) if comparison else None,
    }
    return json.dumps(document, indent=1)


def _file(found: Inspection) -> dict[str, object]:
    data = dataclasses.asdict(found)
    data["entry"] = {**data["entry"], "kind": found.entry.kind.name, "text": found.entry.kind.value}
    data["share"] = found.share
    data["aliases"] = _aliases(found)
    data["left_out"] = [_group(group) for group in found.left_out]
    data["wrong"] = [_group(group) for group in found.wrong]
    return data


def _modules(found: Modules) -> dict[str, object]:
    groups = {"wrong": found.wrong, "without_trampoline": found.without_trampoline}
    return {**dataclasses.asdict(found), **{key: [_group(each) for each in value] for key, value in groups.items()}}


def _group(group: Group) -> dict[str, object]:
    return {"what": group.what, "count": len(group), "names": list(group.names)}


def inspection_text(inspected: Inspected) -> list[str]:
    """One argument, as lines."""
    lines: list[str] = []
    for found in inspected.files:
        lines += [*([""] if lines else []), one_line(found.name), *_file_lines(found)]
    if inspected.modules:
        lines += [*([""] if lines else []), f"modules in {one_line(inspected.name)}", *_module_lines(inspected.modules)]
    if unread := inspected.unread:
        more = [f"  … {len(unread) - _MESSAGES} more"] if len(unread) > _MESSAGES else []
        lines += [*([""] if lines else []), f"can't be read: {len(unread)}"]
        lines += [*(f"  {one_line(each)}" for each in unread[:_MESSAGES]), *more]
    return lines


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDTH}}{one_line(text)}"


def _file_lines(found: Inspection) -> Iterator[str]:
    yield _line("form", found.form)
    if found.release or found.built:
        yield _line("kernel", f"{found.release or 'unknown release'} {found.built}")
    yield _line("entry", found.entry.kind.value)
    yield _line("", f"known from {found.entry.known_from}")
    if found.entry.kind is not Kind.NONE:
        yield from _entry_lines(found)
        yield from _table_lines(found)
    yield from _left_out_lines(found)
    present, missing = found.trampolines.present, found.trampolines.missing
    yield _line("trampolines", ", ".join(present) or "none")
    yield from (
        _line("", f"no {each}: where the module is far from the kernel, this code of it can't be traced")
        for each in missing
    )
    yield from _group_lines("wrong", found.wrong) if found.wrong else [_line("wrong", "nothing")]
    for number, note in enumerate(found.notes):
        yield _line("unknown" if not number else "", note)


def _entry_lines(found: Inspection) -> Iterator[str]:
    entry, of = found.entry, len(found.recorded)
    stack, kcfi = _count(entry.shadow_stack, "pushes"), _count(entry.kcfi, "checks")
    yield _line("protection", f"BTI {_part(entry.bti, of)}, PAC {_part(entry.pac, of)}")
    yield _line("", f"shadow call stack {stack}, kCFI {kcfi}")


def _table_lines(found: Inspection) -> Iterator[str]:
    table = found.table
    empty = f", {table.empty} of them empty (cleared while linking: overridden weak functions)" if table.empty else ""
    where = ", ".join(f"{name} {count}" for name, count in table.sections.items())
    order = "sorted" if table.in_order else "not sorted (the kernel does that)"
    yield _line("table", f"{table.records} records{empty}; {where}; {order}")
    aliases = _aliases(found)
    named = f", {aliases} of them with several names" if aliases else ""
    yield _line("functions", f"{len(found.recorded)} of {found.functions} have a record ({found.share:.1%}){named}")
    if found.nameless:
        yield _line("", f"{found.nameless} records belong to no symbol: overridden weak functions, or names stripped")
    if found.aligned:
        most = max(found.aligned)
        parts = (f"{count} to {size}{' or more' if size == most > 8 else ''}" for size, count in found.aligned.items())
        yield _line("alignment", f"{', '.join(parts)} bytes{_needs(found)}")


def _needs(found: Inspection) -> str:
    before = found.entry.kind in (Kind.CALL_OPS, Kind.BEFORE, Kind.BEFORE_PLAIN)
    return "; the pointer before the entry needs 8" if before else ""


def _aliases(found: Inspection) -> int:
    return sum(len(names) > 1 for names in found.recorded)


def _left_out_lines(found: Inspection) -> Iterator[str]:
    if not found.functions:
        return
    yield _line("without record", f"{found.functions - len(found.recorded)} functions")
    for group in found.left_out:
        yield _line(
            "", f"{len(group)} {group.what}: {_some(_files(group) if group.what == WHOLE_FILES else group.names)}"
        )


def _files(group: Group) -> list[str]:
    """The source files of the functions, those with the most first."""
    found = Counter(name.partition(" (")[2].removesuffix(")") for name in group.names)
    return [f"{file} {count}" for file, count in found.most_common()]


def _group_lines(label: str, groups: Sequence[Group]) -> Iterator[str]:
    for number, group in enumerate(groups):
        yield _line(label if not number else "", f"{len(group)} {group.what}: {_some(group.names)}")


def _module_lines(found: Modules) -> Iterator[str]:
    yield _line("count", f"{found.count}" + (f", and {found.skipped} not read" if found.skipped else ""))
    if not found.count:
        return
    for number, (kind, count) in enumerate(found.kinds.items()):
        yield _line("entry" if not number else "", f"{count} modules: {kind}")
    share = found.recorded / found.functions if found.functions else 0.0
    yield _line("table", f"{found.records} records; {found.recorded} of {found.functions} functions ({share:.1%})")
    if found.nameless:
        yield _line("", f"{found.nameless} records belong to no symbol")
    if found.untraced:
        yield _line("no records", _some(found.untraced, 6))
    if not found.without_trampoline:
        yield _line("trampolines", "in every module that needs one")
    for number, group in enumerate(found.without_trampoline):
        yield _line("trampolines" if not number else "", f"no {group.what} in {len(group)}: {_some(group.names)}")
    yield from _group_lines("wrong", found.wrong) if found.wrong else [_line("wrong", "nothing")]


def comparison_text(found: Comparison) -> list[str]:
    """Two files side by side."""
    lines = [f"{one_line(found.first)} and {one_line(found.second)}"]
    for what, one, other in found.changes:
        lines += [_line(what, one), _line("", f"→ {one_line(other)}")] if len(what) < _WIDTH else [
            f"  {what}", _line("", one), _line("", f"→ {one_line(other)}")
        ]  # fmt: skip
    if not found.changes:
        lines.append(_line("properties", "the same"))
    for label, names in (
        ("gained a record", found.gained),
        ("lost their record", found.lost),
        ("recorded, and not in the second file", found.only_first),
        ("recorded, and not in the first file", found.only_second),
    ):
        lines.append(f"  {len(names)} functions {label}{': ' if names else ''}{_some(names, _DIFFERENT)}")
    return lines


def _part(count: int, of: int) -> str:
    if not count:
        return "none"
    return "at every entry" if count == of else f"{count} of {of} entries"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count else "none"


def _some(names: Sequence[str], most: int = _EXAMPLES) -> str:
    more = f", … {len(names) - most} more" if len(names) > most else ""
    return one_line(", ".join(names[:most]) + more)
