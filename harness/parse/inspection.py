"""What a kernel's or module's ELF file says about how its functions can be traced (`harness inspect`).

No build and no configuration is needed: the records and the code that they point to show the flavour; symbols,
sections and the release tell the rest. Where a file can't tell, the inspection says so instead of guessing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from harness.errors import UserError
from harness.model.inspection import WHOLE_FILES, Entry, Group, Inspection, Kind, Table, Trampolines
from harness.model.regions import REGIONS
from harness.parse.code import BTI, WORD_BYTES
from harness.parse.elf import Elf
from harness.parse.entry_table import MCOUNT_SECTION, calls_mcount, flavour_in, table_of
from harness.parse.flavour import Flavour
from harness.parse.instrumentation import EFI_STUB, NVHE, POSITION_INDEPENDENT, Function, Instrumentation
from harness.parse.kernel_strings import version_of

_ARM64 = 183
_MODULE = ".gnu.linkonce.this_module"
_PAC = frozenset({0xD503233F, 0xD503237F})  # paciasp, pacibsp
_PAC_WITHIN = 8  # instructions from the entry
_PUSH_X18 = bytes.fromhex("5e8600f8")  # str x30, [x18], #8
_CFI_BREAK = re.compile(rb"[\x00\x20\x40\x60\x80\xa0\xc0\xe0][\x00-\x7f]\x30\xd4")  # brk #0x8000 to #0x83ff
_MOST_ALIGNED = 64
_ARGS_SINCE = (6, 2)  # DYNAMIC_FTRACE_WITH_ARGS took the place of WITH_REGS on arm64
_PLT_ENTRY_BYTES = 12
_NOT_FUNCTIONS = frozenset({".plt", ".init.plt", ".text.ftrace_trampoline", ".init.text.ftrace_trampoline"})
_MODULE_TEXT = {".noinstr.text": "noinstr", ".kprobes.text": "kprobes", ".cpuidle.text": "cpuidle"}
_ELSEWHERE = (
    (NVHE, "at EL2 (KVM's nVHE code)"),
    (EFI_STUB, "the EFI stub"),
    (POSITION_INDEPENDENT, "position independent, before the kernel is mapped"),
)
_KERNELS = ("ftrace_caller", "ftrace_regs_caller", "return_to_handler", "ftrace_stub_direct_tramp")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a file beside its ELF structure. `unsized`: its symbols come from kallsyms, so they have no
    sizes, and labels in assembler files look like functions."""

    form: str
    release: str = ""
    built: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    config_from: str = ""
    unsized: bool = False
    notes: tuple[str, ...] = ()


def check_machine(header: bytes, *, name: str) -> None:
    """Raise UserError unless an ELF file's first bytes are those of 64-bit little-endian arm64."""
    if header[4:6] != b"\x02\x01" or int.from_bytes(header[18:20], "little") != _ARM64:
        bits = {1: "32-bit", 2: "64-bit"}.get(header[4] if len(header) > 4 else 0, "unknown")
        order = "big" if header[5:6] == b"\x02" else "little"
        machine = int.from_bytes(header[18:20], "big" if order == "big" else "little")
        raise UserError(
            f"{name}: expected an ELF file for arm64 (64-bit little-endian, machine {_ARM64}), found a {bits} "
            f"{order}-endian one for machine {machine}: this inspects arm64 kernels and modules only"
        )


def inspect_elf(elf: Elf, facts: Facts) -> Inspection:
    """Inspect one file. Raises UserError for a damaged one."""
    flavour = flavour_in(elf)
    if flavour is not None:
        return _Patchable(elf, facts, flavour).inspection()
    if calls_mcount(elf):
        return _Mcount(elf, facts, Flavour(0, 2, False)).inspection()
    return _Untraced(elf, facts, Flavour(0, 2, False)).inspection()


class _Untraced:
    """A file without records; the others build on it."""

    def __init__(self, elf: Elf, facts: Facts, flavour: Flavour) -> None:
        self._elf = elf
        self._facts = facts
        self._flavour = flavour
        self._code = Instrumentation(elf, flavour)
        self._functions = [each for each in self._code.functions if each.section not in _NOT_FUNCTIONS]
        self._symbols = {symbol.name for symbol in elf.symbols}
        self._is_module = bool(elf.named(_MODULE))
        self._recorded = self._with_record()

    def inspection(self) -> Inspection:
        return Inspection(
            name=self._elf.name,
            form=self._facts.form,
            release=self._facts.release,
            built=self._facts.built,
            entry=self._entry(),
            table=self._table(),
            functions=len(self._functions),
            recorded=tuple(each.names for each in self._recorded),
            nameless=self._nameless(),
            aligned=self._aligned(),
            left_out=tuple(_groups(self._left_out())),
            trampolines=self._trampolines(),
            wrong=tuple(_groups(self._wrong())),
            notes=tuple(self._notes()),
        )

    def _with_record(self) -> list[Function]:
        return []

    def _records(self) -> Sequence[int]:
        return ()

    def _nameless(self) -> int:
        return 0

    def _wrong(self) -> Iterator[tuple[str, str]]:
        return iter(())

    # -- flavour ------------------------------------------------------------------------------------------------

    def _kind(self) -> tuple[Kind, str]:
        return Kind.NONE, "its lack of a table of function entries"

    def _entry(self) -> Entry:
        kind, known_from = self._kind()
        code = [self._elf.content(section) for section in self._elf.sections if section.flags & 4]
        return Entry(
            kind=kind,
            known_from=known_from,
            bti=sum(self._code.word(each.address) in BTI for each in self._recorded),
            pac=sum(self._signs(each.address) for each in self._recorded),
            shadow_stack=sum(content.count(_PUSH_X18) for content in code),
            kcfi=sum(1 for content in code for found in _CFI_BREAK.finditer(content) if not found.start() % WORD_BYTES),
        )

    def _signs(self, function: int) -> bool:
        return any(self._code.word(function + place * WORD_BYTES) in _PAC for place in range(_PAC_WITHIN))

    # -- table --------------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        records = self._records()
        filled = [record for record in records if record]
        where = Counter(section.name if section else "no code" for section in map(self._code.section_of, filled))
        return Table(
            records=len(records),
            empty=len(records) - len(filled),
            in_order=all(one <= other for one, other in pairwise(filled)),
            sections=dict(where.most_common()),
        )

    def _aligned(self) -> dict[int, int]:
        found = Counter(self._alignment(each.address) for each in self._recorded)
        return dict(sorted(found.items()))

    def _alignment(self, address: int) -> int:
        section = self._code.section_of(address) if self._elf.relocatable else None
        most = min(_MOST_ALIGNED, section.alignment or 1) if section else _MOST_ALIGNED
        return min(address & -address or most, most)

    # -- functions without a record -----------------------------------------------------------------------------

    def _left_out(self) -> Iterator[tuple[str, str]]:
        """Every function without a record, as (why, its name)."""
        recorded = {each.address for each in self._recorded}
        traced = {each.source for each in self._recorded}
        regions = [(region, self._code.region(region.begin, region.end)) for region in REGIONS]
        places = [(region.name, place) for region, place in regions if place]
        for each in self._functions:
            if each.address not in recorded:
                yield self._why(each, places, traced), str(each)

    def _why(self, function: Function, places: Sequence[tuple[str, range]], traced: set[str | None]) -> str:
        for prefix, what in _ELSEWHERE:
            if function.all_named(prefix):
                return what
        for name, place in places:
            if function.address in place:
                return f"section {name}"
        if function.section in _MODULE_TEXT:
            return f"section {_MODULE_TEXT[function.section]}"
        if function.source and function.source.endswith(".S"):
            return "assembler files"
        if function.source and function.source not in traced:
            return WHOLE_FILES
        if function.source:
            return "single functions in source files that are traced (notrace and the like)"
        if not function.size and not self._facts.unsized:
            return "labels without a size (assembler)"
        return "no NOPs at the entry (notrace, a file's Makefile or assembler: only debug information could tell)"

    # -- trampolines --------------------------------------------------------------------------------------------

    def _trampolines(self) -> Trampolines:
        if not self._is_module:
            return Trampolines(present=tuple(name for name in _KERNELS if name in self._symbols))
        return self._of_module()

    def _of_module(self) -> Trampolines:
        kind, _ = self._kind()
        init = [each for each in self._recorded if each.section.startswith(".init")]
        slots = {Kind.WITH_REGS: "2 slots", Kind.NOPS: "1 slot, with DYNAMIC_FTRACE_WITH_REGS 2"}.get(kind, "1 slot")
        wanted = {".text.ftrace_trampoline": bool(self._recorded), ".init.text.ftrace_trampoline": bool(init)}
        present, missing = [], []
        for name, needed in wanted.items():
            if sections := self._elf.named(name):
                size = sum(section.size for section in sections)
                present.append(
                    f"{name}: {slots} of {_PLT_ENTRY_BYTES} bytes, made by the module loader ({size} in the file)"
                )
            elif needed:
                missing.append(name)
        return Trampolines(present=tuple(present), missing=tuple(missing))

    def _notes(self) -> Iterator[str]:
        yield from self._facts.notes
        if not self._functions:
            yield "no function symbols (stripped): functions, share and what is left out can't be known"
        elif not self._facts.unsized and not any(each.source for each in self._functions):
            yield "no debug information: the source files of functions without a record can't be known"


class _Patchable(_Untraced):
    """A file with -fpatchable-function-entry."""

    def _with_record(self) -> list[Function]:
        return [each for each in self._functions if each.listed]

    def _records(self) -> Sequence[int]:
        return self._code.table

    def _nameless(self) -> int:
        return sum(record.function is None and bool(record.address) for record in self._code.records)

    def _wrong(self) -> Iterator[tuple[str, str]]:
        for record in self._code.records:
            if record.judgement.wrong:
                who = record.function.name if record.function else f"{record.address:#x}"
                yield f"records {record.judgement.value}", f"{who}: {record.told}"
        if not self._facts.unsized:
            for function in self._code.lost:
                yield "functions with the NOPs and no record: they can't be traced", str(function)

    def _kind(self) -> tuple[Kind, str]:
        before, config = self._flavour.before, self._facts.config
        if config:
            return _configured(before, config), self._facts.config_from
        if before and self._is_module:
            return Kind.CALL_OPS, "the module's code; kernels use this form for CALL_OPS only"
        if self._is_module or not {"ftrace_caller", "ftrace_regs_caller"} & self._symbols:
            version = version_of(self._facts.release)
            if before or version == (0, 0):
                return (Kind.BEFORE if before else Kind.NOPS), "the code; what ftrace makes of it, the kernel decides"
            kind = Kind.WITH_ARGS if version >= _ARGS_SINCE else Kind.WITH_REGS
            return kind, f"the code, and the release: WITH_ARGS from {_ARGS_SINCE[0]}.{_ARGS_SINCE[1]} on"
        if before:
            plain = "ftrace_call" in self._symbols  # patched where the call to the tracer is not taken from the ops
            return (Kind.BEFORE_PLAIN if plain else Kind.CALL_OPS), "the code, and the kernel's symbols"
        kind = Kind.WITH_REGS if "ftrace_regs_caller" in self._symbols else Kind.WITH_ARGS
        return kind, "the code, and the kernel's symbols (ftrace_regs_caller)"

    def _notes(self) -> Iterator[str]:
        yield from super()._notes()
        if self._facts.unsized and self._code.lost:
            yield (
                f"{len(self._code.lost)} functions begin with NOPs and have no record, which in a raw Image may be "
                f"those of alternatives: {_some(self._code.lost)}"
            )


class _Mcount(_Untraced):
    """A file whose functions call _mcount."""

    def _records(self) -> Sequence[int]:
        return table_of(self._elf, MCOUNT_SECTION) or table_of(self._elf)

    def _with_record(self) -> list[Function]:
        addresses = [each.address for each in self._functions]
        owners = {bisect_right(addresses, record) - 1 for record in self._records() if record}
        return [self._functions[place] for place in sorted(owners) if place >= 0]

    def _kind(self) -> tuple[Kind, str]:
        return Kind.MCOUNT, "the records, which point to calls"

    def _wrong(self) -> Iterator[tuple[str, str]]:
        seen: set[int] = set()
        for record in self._records():
            word = self._code.word(record) if record else None
            if record and (word is None or word >> 26 != 0x25):
                yield "records that point to no call", f"{record:#x}"
            if record and record in seen:
                yield "records there twice", f"{record:#x}"
            seen.add(record)


def _configured(before: int, config: Mapping[str, str]) -> Kind:
    """The kind of a kernel whose configuration is known."""
    if before:
        return Kind.CALL_OPS if config.get("DYNAMIC_FTRACE_WITH_CALL_OPS") == "y" else Kind.BEFORE_PLAIN
    if config.get("DYNAMIC_FTRACE_WITH_REGS") == "y":
        return Kind.WITH_REGS
    return Kind.WITH_ARGS if config.get("DYNAMIC_FTRACE_WITH_ARGS") == "y" else Kind.NOPS


def _groups(pairs: Iterable[tuple[str, str]]) -> list[Group]:
    """The names by what is said of them, the most first."""
    found: dict[str, list[str]] = {}
    for what, name in pairs:
        found.setdefault(what, []).append(name)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [Group(what=what, names=tuple(names)) for what, names in ordered]


def _some(functions: Sequence[Function], limit: int = 4) -> str:
    more = ", …" if len(functions) > limit else ""
    return ", ".join(each.name for each in functions[:limit]) + more
