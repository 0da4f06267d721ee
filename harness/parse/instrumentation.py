"""The traceable functions of a kernel or module: the functions, the NOPs at their entries, and the table of entries.

The compiler puts NOPs at a function's entry and their address into __patchable_function_entries
(-fpatchable-function-entry); the linker collects the addresses between __start_mcount_loc and __stop_mcount_loc.
Functions and table record the same thing, so each can be checked against the other.
arch/arm64/kernel/ftrace.c (ftrace_call_adjust) draws the sequences that arm64 knows.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.parse.elf import FUNC, LOCAL, SHF_ALLOC, SHF_EXECINSTR, Elf, Section

NOP = 0xD503201F
BTI = frozenset({0xD503241F, 0xD503245F, 0xD503249F, 0xD50324DF})  # bti, bti c, bti j, bti jc
TABLE_SECTION = "__patchable_function_entries"
_WORD_BYTES = 4
_TOP = "arch|block|certs|crypto|drivers|fs|init|io_uring|ipc|kernel|lib|mm|net|samples|security|sound|tools|virt"
_TREE = re.compile(f"^(?:.*/)?src/(?=(?:{_TOP})/)")
# Code among the kernel's functions that comes from elsewhere, by the prefixes of its symbols.
NVHE, EFI_STUB, POSITION_INDEPENDENT = "__kvm_nvhe_", "__efistub_", "__pi_"


@dataclass(frozen=True)
class Flavour:
    """How many NOPs the compiler puts before and behind a function's entry; whether a BTI may stand at the entry."""

    before: int
    behind: int
    bti: bool


def flavour_of(config: Mapping[str, str]) -> Flavour | None:
    """The flavour that a kernel configuration means; None where it has no NOPs but calls of _mcount, or nothing."""
    bti = config.get("ARM64_BTI_KERNEL") == "y"
    if config.get("DYNAMIC_FTRACE_WITH_CALL_OPS") == "y":
        return Flavour(2, 2, bti)
    if "y" in (config.get("DYNAMIC_FTRACE_WITH_ARGS"), config.get("DYNAMIC_FTRACE_WITH_REGS")):
        return Flavour(0, 2, bti)
    return None


@dataclass(frozen=True)
class Function:
    """One function, by all its names. `nops`: the sequence of the flavour is at its entry; `listed`: the table points
    there; `exported`: not static; `source`: the file it was compiled from, where that is known."""

    names: tuple[str, ...]
    address: int
    size: int
    section: str
    exported: bool
    nops: bool
    listed: bool
    source: str | None

    @property
    def instrumented(self) -> bool:
        return self.nops or self.listed

    @property
    def name(self) -> str:
        return self.names[0]

    def all_named(self, prefix: str) -> bool:
        """Whether it has no name that does not begin with `prefix`: not a function of the kernel with an alias."""
        return all(name.startswith(prefix) for name in self.names)

    def __str__(self) -> str:
        return f"{self.name} ({self.source})" if self.source else self.name


class Instrumentation:
    """The functions of one file and its table of entries."""

    def __init__(self, elf: Elf, flavour: Flavour) -> None:
        self.elf = elf
        self.flavour = flavour
        code = sorted((section for section in elf.sections if _is_code(section)), key=lambda section: section.address)
        self._code = [(section, _words(elf, section)) for section in code]
        # An empty one may stand at another's address.
        self._filled = [(section, words) for section, words in self._code if len(words)]
        self._begins = [section.address for section, _ in self._filled]

    @cached_property
    def table(self) -> tuple[int, ...]:
        """The table as it is in the file, including empty entries (0)."""
        if self.elf.relocatable:
            sections = self.elf.named(TABLE_SECTION)
            return tuple(
                entry
                for section in sections
                for entry in self.elf.pointers(section.address, section.address + section.size)
            )
        bounds = self.region("__start_mcount_loc", "__stop_mcount_loc")
        return self.elf.pointers(bounds.start, bounds.stop) if bounds else ()

    @cached_property
    def entries(self) -> tuple[int, ...]:
        """The addresses in the table, sorted, without empty entries."""
        return tuple(sorted(entry for entry in self.table if entry))

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function in code, sorted by address."""
        return tuple(self._functions())

    def _functions(self) -> Iterator[Function]:
        code = {section.number: section.name for section, _ in self._code}
        found: dict[int, tuple[list[str], int, int, bool]] = {}
        for symbol in self.elf.symbols:
            if symbol.kind == FUNC and symbol.section in code:
                names, size, section, exported = found.get(symbol.address, ([], 0, symbol.section, False))
                names.append(symbol.name)
                exported = exported or symbol.binding != LOCAL
                found[symbol.address] = (names, max(size, symbol.size), section, exported)
        listed = set(self.entries)
        for address, (names, size, section, exported) in sorted(found.items()):
            entry = self._entry_of(address)
            yield Function(
                names=tuple(names),
                address=address,
                size=size,
                section=code[section],
                exported=exported,
                nops=self._has_nops(address),
                listed=entry in listed,
                # the debug information of a function may begin behind the NOPs, so ask about its last instruction
                source=_in_tree(self.elf.source_of(address + max(size - _WORD_BYTES, 0))),
            )

    # -- instructions -------------------------------------------------------------------------------------------

    def word(self, address: int) -> int | None:
        """Return the instruction at `address`; None if there is no code."""
        number = bisect_right(self._begins, address) - 1
        if number < 0:
            return None
        section, words = self._filled[number]
        place = (address - section.address) // _WORD_BYTES
        return words[place] if place < len(words) else None

    def _entry_of(self, function: int) -> int:
        """Return the table entry for the function at this address: the address of its first NOP."""
        if self.flavour.before:
            return function - self.flavour.before * _WORD_BYTES
        return function + _WORD_BYTES if self.word(function) in BTI else function

    def _label_of(self, entry: int) -> int:
        """The address of the function that `entry` means: the reverse of `_entry_of`."""
        label = entry + self.flavour.before * _WORD_BYTES
        if not self.flavour.before and label not in self._by_address and self.word(label - _WORD_BYTES) in BTI:
            return label - _WORD_BYTES
        return label

    def _has_nops(self, function: int) -> bool:
        behind = function + (_WORD_BYTES if self.word(function) in BTI else 0)
        places = [function - (number + 1) * _WORD_BYTES for number in range(self.flavour.before)]
        places += [behind + number * _WORD_BYTES for number in range(self.flavour.behind)]
        return all(self.word(place) == NOP and place not in self._other_nops for place in places)

    @cached_property
    def _other_nops(self) -> set[int]:
        """NOPs in the kernel proper that stand for something else: an alternative or a jump label patched later. A
        function that is not instrumented may begin with two."""
        places: set[int] = set()
        if self.elf.relocatable:
            return places
        for section in self.elf.named(".altinstructions"):  # struct alt_instr
            for offset, (where, _to, _cpucap, length, _) in _entries(self.elf, section.address, section.size, "<iiHBB"):
                places.update(range(offset + where, offset + where + length, _WORD_BYTES))
        bounds = self.region("__start___jump_table", "__stop___jump_table")
        if bounds:  # struct jump_entry
            size = bounds.stop - bounds.start
            places.update(offset + where for offset, (where, *_) in _entries(self.elf, bounds.start, size, "<iiq"))
        return places

    def wrong_with(self, entry: int) -> str:
        """Return what is wrong with the code that a table entry points to; empty if nothing is."""
        function = self._label_of(entry)
        if self.flavour.before and entry % 8:
            return "the NOPs before the entry, which hold a pointer, are not aligned to 8 bytes"
        owner = self.function_at(entry)
        body = self._body(function)
        if owner is None and body is not None:
            return f"points into the middle of {body}"
        first = self.word(function)
        skipped = 1 if first in BTI else 0
        if skipped and not self.flavour.bti:
            return "a BTI in a kernel that is built without"
        before = [self.word(function - (number + 1) * _WORD_BYTES) for number in range(self.flavour.before)]
        behind = [self.word(function + (skipped + number) * _WORD_BYTES) for number in range(self.flavour.behind)]
        if {*before, *behind} != {NOP}:
            told = " ".join("none" if word is None else f"{word:08x}" for word in (*before, *behind))
            return (
                f"expected {self.flavour.before} NOPs before and {self.flavour.behind} behind the entry, found {told}"
            )
        return ""

    def spare_nops(self, function: Function) -> tuple[int, int]:
        """How many more NOPs than the flavour's stand right before and right behind those of an instrumented
        function. Code and padding may add some to one function, but not to all."""
        first = function.address - self.flavour.before * _WORD_BYTES
        bti = 1 if self.word(function.address) in BTI else 0
        last = function.address + (bti + self.flavour.behind) * _WORD_BYTES
        return self._run(first - _WORD_BYTES, -_WORD_BYTES), self._run(last, _WORD_BYTES)

    def _run(self, place: int, step: int) -> int:
        count = 0
        while self.word(place + count * step) == NOP:
            count += 1
        return count

    # -- places -------------------------------------------------------------------------------------------------

    def function_at(self, entry: int) -> Function | None:
        """Return the function that the table's `entry` belongs to."""
        return self._by_address.get(self._label_of(entry))

    def call_site(self, entry: int) -> int:
        """The address that ftrace makes of `entry` (rec->ip): the last NOP, which becomes the call."""
        label = entry + self.flavour.before * _WORD_BYTES
        if self.flavour.before and self.word(label) in BTI:
            label += _WORD_BYTES
        return label + (self.flavour.behind - 1) * _WORD_BYTES

    def nameless_nops(self) -> set[int]:
        """Where the flavour's NOPs, and no more, stand before code that belongs to no symbol: at entries of functions
        that were overridden, and in places where code left a gap."""
        covered = sorted((s.address, s.address + s.size) for s in self.elf.symbols if s.size and s.section)
        return {
            place
            for section, words in self._code
            for begin, end in _gaps(covered, section.address, section.address + len(words) * _WORD_BYTES)
            for place in self._nops_between(begin, end)
        }

    def _nops_between(self, begin: int, end: int) -> Iterator[int]:
        size = (self.flavour.before + self.flavour.behind) * _WORD_BYTES
        for place in range(begin, end - size + 1, _WORD_BYTES):
            label = place + self.flavour.before * _WORD_BYTES
            if self.flavour.before and place % 8:
                continue
            skipped = _WORD_BYTES if self.flavour.before and self.word(label) in BTI else 0
            behind = label + skipped + self.flavour.behind * _WORD_BYTES
            places = [*range(place, label, _WORD_BYTES), *range(label + skipped, behind, _WORD_BYTES)]
            if all(self.word(nop) == NOP for nop in places) and self.word(behind) != NOP:
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
        code = {section.number for section, _ in self._code}
        found: dict[int, list[str]] = {}
        for symbol in self.elf.symbols:
            if symbol.section in code and symbol.name and not symbol.name.startswith(("$", ".L")):
                found.setdefault(symbol.address, []).append(symbol.name)
        return sorted(found), found

    @cached_property
    def _by_address(self) -> dict[int, Function]:
        return {function.address: function for function in self.functions}

    def _body(self, address: int) -> Function | None:
        """The function that `address` lies in, if not at its entry."""
        place = bisect_right(self._addresses, address) - 1
        if place < 0:
            return None
        function = self.functions[place]
        return function if function.address < address < function.address + function.size else None

    @cached_property
    def _addresses(self) -> list[int]:
        return [function.address for function in self.functions]

    def region(self, begin: str, end: str) -> range | None:
        """The addresses between two symbols; None where the file has not both."""
        begins, ends = self._symbol_places.get(begin), self._symbol_places.get(end)
        return range(begins, ends) if begins is not None and ends is not None else None

    @cached_property
    def _symbol_places(self) -> dict[str, int]:
        return {symbol.name: symbol.address for symbol in self.elf.symbols if symbol.section}


def several(things: Iterable[object], limit: int = 8) -> str:
    """List the first of `things` and the number of the others, for messages."""
    told = [str(thing) for thing in things]
    more = f", … and {len(told) - limit} more" if len(told) > limit else ""
    return f"{', '.join(told[:limit])}{more}"


def _gaps(covered: list[tuple[int, int]], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """What of [begin, end) none of the sorted intervals covers."""
    for low, high in covered[bisect_right(covered, (begin, 0)) :]:
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


def _is_code(section: Section) -> bool:
    return bool(section.flags & SHF_ALLOC and section.flags & SHF_EXECINSTR)


def _words(elf: Elf, section: Section) -> memoryview:
    content = elf.content(section)
    return memoryview(content[: len(content) // _WORD_BYTES * _WORD_BYTES]).cast("I")


def _entries(elf: Elf, start: int, size: int, shape: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The structures in a table, each with its address."""
    parser = struct.Struct(shape)
    data = elf.read(start, size // parser.size * parser.size)
    for number, values in enumerate(parser.iter_unpack(data)):
        yield start + number * parser.size, values
