"""The traceable functions of a kernel or module: the functions, the NOPs at their entries, and the table of entries.

The compiler puts NOPs at a function's entry and their address into __patchable_function_entries
(-fpatchable-function-entry); the linker collects the addresses between __start_mcount_loc and __stop_mcount_loc.
Functions and table record the same thing, so each can be checked against the other.
arch/arm64/kernel/ftrace.c (ftrace_call_adjust) draws the sequences that arm64 knows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property

from harness.parse.code import BTI, NOP, WORD_BYTES, Code
from harness.parse.elf import FUNC, LOCAL, Elf, Section
from harness.parse.entry_records import Function, Judge, Judgement, Record
from harness.parse.entry_table import TABLE_SECTION, calls_mcount, flavour_in, table_of, table_sections
from harness.parse.flavour import Flavour, Sequences, flavour_of

__all__ = [
    "EFI_STUB", "NVHE", "POSITION_INDEPENDENT", "TABLE_SECTION",
    "Flavour", "Function", "Instrumentation", "Judgement", "Record", "calls_mcount", "flavour_in", "flavour_of",
    "instrumentation_of", "several", "table_sections",
]  # fmt: skip

_LOADED_MODULE = ".gnu.linkonce.this_module"  # what makes a relocatable file a module
_TOP = "arch|block|certs|crypto|drivers|fs|init|io_uring|ipc|kernel|lib|mm|net|samples|security|sound|tools|virt"
_TREE = re.compile(f"^(?:.*/)?src/(?=(?:{_TOP})/)")
# Code among the kernel's functions that comes from elsewhere, by the prefixes of its symbols.
NVHE, EFI_STUB, POSITION_INDEPENDENT = "__kvm_nvhe_", "__efistub_", "__pi_"


class Instrumentation:
    """The functions of one file and its table of entries."""

    def __init__(self, elf: Elf, flavour: Flavour) -> None:
        self.elf = elf
        self.flavour = flavour
        self._code = Code(elf)
        self._sequences = Sequences(self._code, flavour)

    @cached_property
    def table(self) -> tuple[int, ...]:
        """The table as it is in the file, including empty entries (0)."""
        return table_of(self.elf)

    @cached_property
    def entries(self) -> tuple[int, ...]:
        """The addresses in the table, sorted, without empty entries."""
        return tuple(sorted(entry for entry in self.table if entry))

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Every record of the table, in its order, with what is to be said about it."""
        return tuple(self._records())

    def _records(self) -> Iterator[Record]:
        seen: set[int] = set()
        for place, address in enumerate(self.table):
            judgement, told, function = self._judge.judge(address)
            if place >= self._read:
                judgement, told = (
                    Judgement.UNREAD,
                    f"in another section {TABLE_SECTION} than the first, the only one read",
                )
            elif address and address in seen:
                judgement, told = Judgement.TWICE, "in the table twice"
            seen.add(address)
            offset = address - function.address if function else None
            yield Record(place, address, function, offset, judgement, told)

    @cached_property
    def _read(self) -> int:
        """How many records of the table the kernel reads: of a module those in the first section of their name."""
        sections = table_sections(self.elf)
        if sections and self.elf.named(_LOADED_MODULE):
            return sections[0].size // 8
        return len(self.table)

    @cached_property
    def lost(self) -> tuple[Function, ...]:
        """The functions that have the NOPs, and no record where it belongs."""
        return tuple(function for function in self.functions if function.nops and not function.listed)

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function in code, sorted by address."""
        return tuple(self._functions())

    def _functions(self) -> Iterator[Function]:
        code = {section.number: section.name for section, _ in self._code.sections}
        found: dict[int, tuple[list[str], int, int, bool]] = {}
        for symbol in self.elf.symbols:
            if symbol.kind == FUNC and symbol.section in code:
                names, size, section, exported = found.get(symbol.address, ([], 0, symbol.section, False))
                names.append(symbol.name)
                exported = exported or symbol.binding != LOCAL
                found[symbol.address] = (names, max(size, symbol.size), section, exported)
        listed = set(self.table[: self._read])
        for address, (names, size, section, exported) in sorted(found.items()):
            yield Function(
                names=tuple(names),
                address=address,
                size=size,
                section=code[section],
                exported=exported,
                nops=self._sequences.complete(address),
                listed=self._sequences.record_of(address) in listed,
                # the debug information of a function may begin behind the NOPs, so ask about its last instruction
                source=_in_tree(self.elf.source_of(address + max(size - WORD_BYTES, 0))),
            )

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self._sequences, self.functions)

    # -- instructions -------------------------------------------------------------------------------------------

    def word(self, address: int) -> int | None:
        """Return the instruction at `address`; None if there is no code."""
        return self._code.word(address)

    def section_of(self, address: int) -> Section | None:
        """Return the section of the instruction at `address`; None if there is no code."""
        return self._code.section_of(address)

    def wrong_with(self, entry: int) -> str:
        """Return what is wrong with the code that a table entry points to; empty if nothing is."""
        return self._judge.judge(entry)[1]

    def spare_nops(self, function: Function) -> tuple[int, int]:
        """How many more NOPs than the flavour's stand right before and right behind those of an instrumented
        function. Code and padding may add some to one function, but not to all."""
        first = function.address - self.flavour.before * WORD_BYTES
        bti = 1 if self.word(function.address) in BTI else 0
        last = function.address + (bti + self.flavour.behind) * WORD_BYTES
        return self._code.run_of_nops(first - WORD_BYTES, -WORD_BYTES), self._code.run_of_nops(last)

    # -- places -------------------------------------------------------------------------------------------------

    def function_at(self, entry: int) -> Function | None:
        """Return the function that the table's `entry` belongs to, also where it stands in the wrong place."""
        return self._judge.owner(entry)

    def call_site(self, entry: int) -> int:
        """The address that ftrace makes of `entry` (rec->ip): the last NOP, which becomes the call."""
        label = entry + self.flavour.before * WORD_BYTES
        if self.flavour.before and self.word(label) in BTI:
            label += WORD_BYTES
        return label + (self.flavour.behind - 1) * WORD_BYTES

    def nameless_nops(self) -> set[int]:
        """Where the flavour's NOPs, and no more, stand before code that belongs to no symbol: at entries of functions
        that were overridden, and in places where code left a gap. (Padding right before a symbol is none.)"""
        covered = sorted((s.address, s.address + s.size) for s in self.elf.symbols if s.size and s.section)
        return {
            place
            for section, words in self._code.sections
            for begin, end in _gaps(covered, section.address, section.address + len(words) * WORD_BYTES)
            for place in self._nops_between(begin, end)
        }

    def _nops_between(self, begin: int, end: int) -> Iterator[int]:
        size = (self.flavour.before + self.flavour.behind) * WORD_BYTES
        for place in range(begin, end - size + 1, WORD_BYTES):
            label = place + self.flavour.before * WORD_BYTES
            if self.flavour.before and place % 8:
                continue
            skipped = WORD_BYTES if self.flavour.before and self.word(label) in BTI else 0
            behind = label + skipped + self.flavour.behind * WORD_BYTES
            places = [*range(place, label, WORD_BYTES), *range(label + skipped, behind, WORD_BYTES)]
            if behind < end and all(self.word(nop) == NOP for nop in places) and self.word(behind) != NOP:
                yield place

    def names_of(self, entry: int) -> tuple[str, ...]:
        """What the kernel may call the function that `entry` belongs to (kallsyms): one of its names, another symbol at
        its address, or where it has no name the symbol that stands before it."""
        function = self.function_at(entry)
        addresses, symbols = self._code_symbols
        if function is not None:
            return tuple(dict.fromkeys((*function.names, *symbols.get(function.address, ()))))
        before = addresses[bisect_right(addresses, self.call_site(entry)) - 1]
        return tuple(symbols[before])

    @cached_property
    def _code_symbols(self) -> tuple[list[int], dict[int, list[str]]]:
        code = self._code.numbers
        found: dict[int, list[str]] = {}
        for symbol in self.elf.symbols:
            if symbol.section in code and symbol.name and not symbol.name.startswith(("$", ".L")):
                found.setdefault(symbol.address, []).append(symbol.name)
        return sorted(found), found

    def region(self, begin: str, end: str) -> range | None:
        """The addresses between two symbols; None where the file has not both."""
        begins, ends = self._symbol_places.get(begin), self._symbol_places.get(end)
        return range(begins, ends) if begins is not None and ends is not None else None

    @cached_property
    def _symbol_places(self) -> dict[str, int]:
        return {symbol.name: symbol.address for symbol in self.elf.symbols if symbol.section}


def instrumentation_of(elf: Elf) -> Instrumentation | None:
    """The same without a kernel configuration, in the flavour that the file shows; None where it shows none."""
    flavour = flavour_in(elf)
    return Instrumentation(elf, flavour) if flavour else None


def several(things: Iterable[object], limit: int = 8) -> str:
    """List the first of `things` and the number of the others, for messages."""
    told = [str(thing) for thing in things]
    more = f", … and {len(told) - limit} more" if len(told) > limit else ""
    return f"{', '.join(told[:limit])}{more}"


def _gaps(covered: list[tuple[int, int]], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """What of [begin, end) none of the sorted intervals covers."""
    for number in range(bisect_right(covered, (begin, 0)), len(covered)):
        low, high = covered[number]
        if low >= end:
            break
        if low > begin:
            yield begin, low
        begin = max(begin, high)
    if begin < end:
        yield begin, end


def _in_tree(source: str | None) -> str | None:
    """A source's path inside the kernel tree, which lies in a directory ``src`` wherever it was compiled. One kernel
    may name it in several ways: relative, absolute, and as ccache found it in another workspace."""
    return _TREE.sub("", source) if source else source
