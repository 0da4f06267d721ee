"""What `harness inspect` finds out about a kernel or a module: how its functions can be traced."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

WHOLE_FILES = "source files in which no function has a record (by their Makefile)"


class Kind(enum.Enum):
    """What is at a function's entry, and what ftrace makes of it."""

    NONE = "no function tracing"
    MCOUNT = "calls of _mcount (-pg)"
    NOPS = "2 NOPs (-fpatchable-function-entry=2)"
    WITH_REGS = "2 NOPs (-fpatchable-function-entry=2), DYNAMIC_FTRACE_WITH_REGS"
    WITH_ARGS = "2 NOPs (-fpatchable-function-entry=2), DYNAMIC_FTRACE_WITH_ARGS without CALL_OPS"
    BEFORE = "2 NOPs before and 2 behind the entry (-fpatchable-function-entry=4,2)"
    CALL_OPS = "2 NOPs before and 2 behind the entry (-fpatchable-function-entry=4,2), DYNAMIC_FTRACE_WITH_CALL_OPS"
    BEFORE_PLAIN = "2 NOPs before and 2 behind the entry (-fpatchable-function-entry=4,2), without CALL_OPS"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Functions, records or symbols that have something in common: what, and their names."""

    what: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The flavour, and how it is known. `bti`, `pac`: how many of the functions with a record have a BTI at their
    entry, sign their return address near it; `shadow_stack`: pushes to a shadow call stack (register x18) in the code;
    `kcfi`: checks of indirect calls in the code."""

    kind: Kind
    known_from: str
    bti: int = 0
    pac: int = 0
    shadow_stack: int = 0
    kcfi: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """The records of function entries: how many, how many of them empty, and whether their order is that of addresses;
    `sections`: how many there are for each section of code that they point to."""

    records: int = 0
    empty: int = 0
    in_order: bool = True
    sections: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trampolines:
    """What carries a call to a tracer. `present`: what the file has, each with a word on it; `missing`: what a module
    of this kind should have and has not."""

    present: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What one file says about itself. `form`: what kind of file it is; `functions`: how many its symbols tell of;
    `recorded`: the names of those with a record, all names of each; `left_out`: those without, by reason; `aligned`:
    how many functions with a record begin at a multiple of 4, 8, 16 … bytes and no larger one; `wrong`: what is at
    fault; `notes`: what can't be known from this file, and why."""

    name: str
    form: str
    release: str = ""
    built: str = ""
    entry: Entry
    table: Table
    functions: int = 0
    recorded: tuple[tuple[str, ...], ...] = ()
    nameless: int = 0
    aligned: Mapping[int, int] = field(default_factory=dict)
    left_out: tuple[Group, ...] = ()
    trampolines: Trampolines = Trampolines()
    wrong: tuple[Group, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Which part of the functions has a record."""
        return len(self.recorded) / self.functions if self.functions else 0.0


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The modules of a package or directory, added up. `skipped`: how many were not read; `kinds`: how many are of each
    flavour; `untraced`: those without records; `without_trampoline`: those that lack a section for one, by section;
    `wrong`: as for a kernel, each name being MODULE: FUNCTION."""

    count: int
    skipped: int = 0
    records: int = 0
    functions: int = 0
    recorded: int = 0
    nameless: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    untraced: tuple[str, ...] = ()
    without_trampoline: tuple[Group, ...] = ()
    wrong: tuple[Group, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """An argument of `harness inspect`: a kernel or module, or what is in a package or directory. `unread`: what is
    said of each file in it that can't be read, beginning with its place."""

    name: str
    files: tuple[Inspection, ...]
    modules: Modules | None = None
    unread: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        return any(each.wrong for each in self.files) or bool(self.modules and self.modules.wrong)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two files side by side. `changes`: properties with another value, as (what, one, other); `gained`, `lost`:
    functions of both that only the second, or only the first, has a record of; `only_first`, `only_second`: recorded
    functions that the other has not at all."""

    first: str
    second: str
    changes: tuple[tuple[str, str, str], ...]
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
