"""ELF and DWARF: sections, symbols, pointers with their relocations, and the source file of an address.

Only this module and dwarf.py import pyelftools, which parses headers, relocations and DWARF. The symbol table, with
90,000 entries in a kernel with kallsyms, is unpacked here, because an object for each entry would cost seconds.

Addresses are those of the linked file. A relocatable file (a module) has none: there, section number N stands at
N << 32, so that one address means one place in every kind of file.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from harness.errors import UserError
from harness.limits import ELF_BYTES, ELF_NAME_BYTES, Deadline
from harness.parse.dwarf import LineCode, SourceRange, Units

SHF_ALLOC, SHF_EXECINSTR = 0x2, 0x4
FUNC = 2  # STT_FUNC
LOCAL = 0  # STB_LOCAL
_SYMBOL, _RELA = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_WORD = struct.Struct("<I")
_SHN_XINDEX = 0xFFFF
_R_AARCH64_ABS64, _R_AARCH64_RELATIVE = 257, 1027
_MOST_SECTIONS = 1 << 20
# Parts of a file may lie in others: names end in the same letters. More than this is made to take memory.
_MOST_SHARED = 16  # times that a table's bytes are names
_MOST_OVERLAPPING = 2  # times that a file's bytes are sections
_SECTION_NAMES_BYTES = 64 << 20
# What pyelftools raises for files that are none, besides its own exceptions.
_MALFORMED = (
    ELFError,
    DWARFError,
    struct.error,
    zlib.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_UNREAD = frozenset({".debug_line", ".debug_frame", ".debug_loc", ".debug_loclists", ".debug_types", ".eh_frame"})


class Section(NamedTuple):
    """`number`: its place in the section table; `size` and `address` in bytes."""

    number: int
    name: str
    kind: str
    flags: int
    address: int
    size: int
    alignment: int


class Symbol(NamedTuple):
    """`kind` as STT_*, `binding` as STB_*; `section`: a section's number, or one of SHN_*."""

    name: str
    kind: int
    binding: int
    section: int
    address: int
    size: int


class _Frugal(ELFFile):
    """Leaves alone the largest of the debug sections, of which nothing is asked: half the memory, half the time. Each
    name of sections is read once. `unread`: the sections that it leaves alone."""

    unread = _UNREAD

    def __init__(self, stream: BinaryIO) -> None:
        self._names: dict[int, str] = {}
        self._left = _SECTION_NAMES_BYTES
        super().__init__(stream)

    def _get_section_name(self, section_header: Any) -> Any:
        start = section_header["sh_name"]
        if start not in self._names:
            self._names[start] = super()._get_section_name(section_header)
            self._left -= len(self._names[start])
            if self._left < 0:
                raise ELFError(f"more than {_SECTION_NAMES_BYTES} bytes of names of sections")
        return self._names[start]

    def get_section_by_name(self, name: str) -> Any:
        return None if name in self.unread else super().get_section_by_name(name)


class Elf:
    """One little-endian ELF64 file. `stream` stays open while the object is used; `name` is for messages.

    Raises UserError if the file is malformed."""

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self.name = name
        with self._as_ours():
            self._size = stream.seek(0, io.SEEK_END)
            self._file = _Frugal(stream)
            if self._file.num_sections() > _MOST_SECTIONS:
                raise ELFError(f"{self._file.num_sections()} sections")
            self.relocatable = self._file["e_type"] == "ET_REL"
            self.sections = tuple(
                self._section(number, section) for number, section in enumerate(self._file.iter_sections())
            )
            if sum(each.size for each in self.sections if each.kind != "SHT_NOBITS") > _MOST_OVERLAPPING * self._size:
                raise ELFError("sections that overlap again and again")

    @contextlib.contextmanager
    def _as_ours(self) -> Iterator[None]:
        try:
            yield
        except _MALFORMED as error:
            found = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.name}: expected a well-formed ELF file, found: {found}") from None

    def _section(self, number: int, section: Any) -> Section:
        # A compressed one says itself how large it will be.
        size = section.data_size
        ELF_BYTES.check(size, place=f"{self.name}: section {number}")
        in_file = section["sh_type"] != "SHT_NOBITS" and not section.compressed
        if in_file and section["sh_offset"] + size > self._size:
            raise ELFError(f"section {number} of {size} bytes, beyond the end of the file")
        address = number << 32 if self.relocatable and section["sh_flags"] & SHF_ALLOC else section["sh_addr"]
        return Section(
            number,
            section.name,
            section["sh_type"],
            section["sh_flags"],
            address,
            section["sh_size"],
            section["sh_addralign"],
        )

    def named(self, name: str) -> list[Section]:
        """The sections of that name; a relocatable file may have several."""
        return [section for section in self.sections if section.name == name]

    def content(self, section: Section) -> bytes:
        """Return the section's content in the file: nothing for .bss and the like."""
        if section.kind == "SHT_NOBITS":
            return b""
        with self._as_ours():
            data: bytes = self._file.get_section(section.number).data()
        return data

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes of an allocated section. Raises UserError if no section contains them."""
        number = address >> 32
        # Looked up where the address says which: an object may have a section for each function, and for its records.
        for section in self.sections[number : number + 1] if self.relocatable else self.sections:
            if section.flags & SHF_ALLOC and section.address <= address <= section.address + section.size - size:
                start = address - section.address
                return self.content(section)[start : start + size]
        raise UserError(f"{self.name}: no section holds {size} bytes at {address:#x}")

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbol table, or the dynamic one if there is none (a stripped vDSO)."""
        with self._as_ours():
            table = self._file.get_section_by_name(".symtab") or self._file.get_section_by_name(".dynsym")
            if table is None:
                return ()
            names = _Names(self._file.get_section(table["sh_link"]).data(), place=self.name)
            large = self._large_numbers()
            entries = enumerate(_SYMBOL.iter_unpack(table.data()))
            return tuple(self._symbol(entry, names, large.get(place)) for place, entry in entries)

    def _large_numbers(self) -> dict[int, int]:
        """The sections' numbers that do not fit into 16 bits, by symbol: an object with a section for each function
        may have so many."""
        return {
            place: number
            for section in self._file.iter_sections("SHT_SYMTAB_SHNDX")
            for place, (number,) in enumerate(_WORD.iter_unpack(section.data()))
            if number
        }

    def _symbol(self, entry: tuple[int, int, int, int, int, int], names: _Names, large: int | None) -> Symbol:
        name, info, _other, section, value, size = entry
        section = large if section == _SHN_XINDEX and large else section
        base = section << 32 if self.relocatable and 0 < section < len(self.sections) else 0
        return Symbol(names.at(name), info & 15, info >> 4, section, base + value, size)

    def addresses_of(self, name: str) -> list[int]:
        """Return the addresses of the symbols of that name."""
        return [symbol.address for symbol in self.symbols if symbol.name == name and symbol.section]

    def pointers(self, start: int, stop: int) -> tuple[int, ...]:
        """The 64-bit pointers in [start, stop), relocated: a module's and a relocatable kernel's lie in a .rela
        section, while the place itself may hold zero. (.relr needs nothing: it leaves the values in place.)"""
        values = list(struct.unpack(f"<{(stop - start) // 8}Q", self.read(start, (stop - start) // 8 * 8)))
        for offset, value in self._relocated(start, stop):
            values[(offset - start) // 8] = value
        return tuple(values)

    def relocations_of(self, section: Section) -> Iterator[tuple[int, int]]:
        """What each place in a section of a relocatable file refers to: its offset there, and symbol plus addend."""
        with self._as_ours():
            for relocations in self._rela.get(section.number, ()):
                for offset, info, addend in _RELA.iter_unpack(relocations.data()):
                    yield offset, self.symbols[info >> 32].address + addend

    @cached_property
    def _rela(self) -> dict[int, list[Any]]:
        """The .rela sections, by the number of the section that they are for."""
        found: dict[int, list[Any]] = {}
        for section in self._file.iter_sections("SHT_RELA"):
            found.setdefault(section["sh_info"] if self.relocatable else 0, []).append(section)
        return found

    def _relocated(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        base = start >> 32 << 32 if self.relocatable else 0
        with self._as_ours():
            for section in self._rela.get(base >> 32, ()):
                for offset, info, addend in _RELA.iter_unpack(section.data()):
                    if start <= base + offset < stop:
                        kind, symbol = info & 0xFFFFFFFF, info >> 32
                        if kind == _R_AARCH64_RELATIVE:
                            yield base + offset, addend & 0xFFFFFFFFFFFFFFFF
                        elif kind == _R_AARCH64_ABS64:
                            yield base + offset, self.symbols[symbol].address + addend

    @cached_property
    def source_ranges(self) -> tuple[SourceRange, ...]:
        """Return the address ranges of source files, sorted by address; empty without debug information, and for a
        relocatable file, whose units refer to each other by relocations that are not applied here."""
        with self._as_ours():
            units = None if self.relocatable else self._units(_UNREAD)
            return tuple(sorted(units.ranges())) if units else ()

    def lines_of(self, paths: Collection[str], *, deadline: Deadline) -> tuple[LineCode, ...] | None:
        """Return the code that the lines of the files `paths` (as in the source tree) have become; None without debug
        information."""
        with self._as_ours():
            units = self._units(_UNREAD - {".debug_line"})
            return tuple(units.lines(paths, deadline=deadline)) if units else None

    def _units(self, unread: frozenset[str]) -> Units | None:
        if not self._file.has_dwarf_info() or not self.named(".debug_info"):
            return None
        self._file.unread = unread
        return Units(self._file.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False))

    def source_of(self, address: int) -> str | None:
        """Return the source file of the code at `address`; None if unknown."""
        place = bisect_right(self._begins, address) - 1
        if place < 0 or address >= self.source_ranges[place].end:
            return None
        return self.source_ranges[place].source

    @cached_property
    def _begins(self) -> list[int]:
        return [found.begin for found in self.source_ranges]


class _Names:
    """The names in a string table, each of them once: one may be in the file once and stand in all symbols."""

    def __init__(self, table: bytes, *, place: str) -> None:
        self._table, self._place = table, place
        self._most = ELF_NAME_BYTES.value
        self._known = {0: ""}
        self._left = _MOST_SHARED * len(table)

    def at(self, start: int) -> str:
        known = self._known.get(start)
        return self._read(start) if known is None else known

    def _read(self, start: int) -> str:
        end = self._table.find(b"\0", start, start + self._most + 1)
        if end < 0:
            if start + self._most < len(self._table):
                raise ELF_NAME_BYTES.exceeded(place=self._place)
            raise ELFError("a name without an end")
        self._left -= end - start
        if self._left < 0:
            raise ELFError("names that lie in one another again and again")
        return self._known.setdefault(start, self._table[start:end].decode("utf-8", errors="replace"))
