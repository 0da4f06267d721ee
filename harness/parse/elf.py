"""ELF and DWARF: sections, symbols, pointers with their relocations, and the source file of an address.

The only module that imports pyelftools, which parses headers, relocations and DWARF. The symbol table, with 90,000
entries in a kernel with kallsyms, is unpacked here, because an object for each entry would cost seconds.

Addresses are those of the linked file. A relocatable file (a module) has none: there, section number N stands at
N << 32, so that one address means one place in every kind of file.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from elftools.common.exceptions import DWARFError, ELFError
from elftools.common.utils import struct_parse
from elftools.dwarf.abbrevtable import AbbrevDecl
from elftools.dwarf.ranges import BaseAddressEntry, RangeEntry
from elftools.elf.elffile import ELFFile

from harness.errors import UserError
from harness.limits import ELF_BYTES, ELF_NAME_BYTES

SHF_ALLOC, SHF_EXECINSTR = 0x2, 0x4
FUNC = 2  # STT_FUNC
LOCAL = 0  # STB_LOCAL
_SYMBOL, _RELA = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_WORD = struct.Struct("<I")
_SHN_XINDEX = 0xFFFF
_R_AARCH64_ABS64, _R_AARCH64_RELATIVE = 257, 1027
_FORM_IMPLICIT_CONST = 0x21
_MOST_SECTIONS = 1 << 20
_LEB_BYTES = 10  # of a number of 64 bits
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


class SourceRange(NamedTuple):
    """Code in [begin, end) that comes from the compilation unit `source`, as the compiler was given its name."""

    begin: int
    end: int
    source: str


class _Frugal(ELFFile):
    """Leaves alone the largest of the debug sections, of which nothing is asked: half the memory, half the time."""

    def get_section_by_name(self, name: str) -> Any:
        return None if name in _UNREAD else super().get_section_by_name(name)


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
            names = self._file.get_section(table["sh_link"]).data()
            large, most = self._large_numbers(), ELF_NAME_BYTES.value
            entries = enumerate(_SYMBOL.iter_unpack(table.data()))
            return tuple(self._symbol(entry, names, most, large.get(place)) for place, entry in entries)

    def _large_numbers(self) -> dict[int, int]:
        """The sections' numbers that do not fit into 16 bits, by symbol: an object with a section for each function
        may have so many."""
        return {
            place: number
            for section in self._file.iter_sections("SHT_SYMTAB_SHNDX")
            for place, (number,) in enumerate(_WORD.iter_unpack(section.data()))
            if number
        }

    def _symbol(self, entry: tuple[int, int, int, int, int, int], names: bytes, most: int, large: int | None) -> Symbol:
        name, info, _other, section, value, size = entry
        section = large if section == _SHN_XINDEX and large else section
        base = section << 32 if self.relocatable and 0 < section < len(self.sections) else 0
        text = self._name_at(names, name, most) if name else ""
        return Symbol(text, info & 15, info >> 4, section, base + value, size)

    def _name_at(self, names: bytes, start: int, most: int) -> str:
        """One name may be in the file once and stand in all symbols."""
        end = names.find(b"\0", start, start + most + 1)
        if end < 0:
            if start + most < len(names):
                raise ELF_NAME_BYTES.exceeded(place=self.name)
            raise ELFError("a name without an end")
        return names[start:end].decode("utf-8", errors="replace")

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
        """Return the address ranges of source files, sorted by address; empty without debug information."""
        with self._as_ours():
            if not self._file.has_dwarf_info() or not self.named(".debug_info"):
                return ()
            dwarf = self._file.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
            return tuple(sorted(_Units(dwarf).ranges()))

    def source_of(self, address: int) -> str | None:
        """Return the source file of the code at `address`; None if unknown."""
        place = bisect_right(self._begins, address) - 1
        if place < 0 or address >= self.source_ranges[place].end:
            return None
        return self.source_ranges[place].source

    @cached_property
    def _begins(self) -> list[int]:
        return [found.begin for found in self.source_ranges]


class _Units:
    """The compilation units of a DWARF. Only the first entry of each is read."""

    def __init__(self, dwarf: Any) -> None:
        self._dwarf = dwarf
        dwarf.get_abbrev_table = self._abbreviations  # parsing the whole tables takes ten seconds

    def ranges(self) -> Iterator[SourceRange]:
        """From .debug_aranges, which is quick; without it (clang) from the units themselves."""
        table = self._dwarf.get_aranges()
        if table and table.entries:
            names: dict[int, str] = {}
            for entry in table.entries:
                if entry.info_offset not in names:
                    names[entry.info_offset] = _name(self._dwarf.get_CU_at(entry.info_offset).get_top_DIE())
                if entry.length:
                    yield SourceRange(entry.begin_addr, entry.begin_addr + entry.length, names[entry.info_offset])
            return
        for unit in self._dwarf.iter_CUs():
            top = unit.get_top_DIE()
            for begin, end in self._own_ranges(unit, top):
                yield SourceRange(begin, end, _name(top))

    def _own_ranges(self, unit: Any, top: Any) -> Iterator[tuple[int, int]]:
        low = top.attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in top.attributes else 0
        if "DW_AT_ranges" in top.attributes:
            lists = self._dwarf.range_lists()
            for entry in lists.get_range_list_at_offset(top.attributes["DW_AT_ranges"].value, unit):
                if isinstance(entry, BaseAddressEntry):
                    low = entry.base_address
                elif isinstance(entry, RangeEntry):
                    base = 0 if entry.is_absolute else low
                    yield base + entry.begin_offset, base + entry.end_offset
        elif "DW_AT_high_pc" in top.attributes:
            high = top.attributes["DW_AT_high_pc"]
            yield low, high.value if high.form == "DW_FORM_addr" else low + high.value

    def _abbreviations(self, offset: int) -> _Abbreviations:
        return _Abbreviations(self._dwarf, offset)


class _Abbreviations:
    """An abbreviation table in which only what is asked for is parsed. gcc describes a unit's first entry at the end
    of a long table, so the rest is stepped over quickly."""

    def __init__(self, dwarf: Any, offset: int) -> None:
        self._structs = dwarf.structs
        self._stream = dwarf.debug_abbrev_sec.stream
        self._table = self._stream.getbuffer()
        self._offset = offset

    def get_abbrev(self, code: int) -> Any:
        number, position = _uleb(self._table, self._offset)
        while number != code:
            if not number:
                raise DWARFError(f"no abbreviation {code}")
            number, position = _uleb(self._table, self._behind(position))
        self._stream.seek(position)
        return AbbrevDecl(code, struct_parse(self._structs.Dwarf_abbrev_declaration, self._stream))

    def _behind(self, position: int) -> int:
        """Where the declaration ends whose tag is at `position`: tag, a byte, attributes each with its form, zeros."""
        table = self._table
        _tag, position = _uleb(table, position)
        position += 1
        while True:
            attribute, position = _uleb(table, position)
            form, position = _uleb(table, position)
            if form == _FORM_IMPLICIT_CONST:
                _value, position = _uleb(table, position)
            elif not attribute and not form:
                return position


def _uleb(data: memoryview, position: int) -> tuple[int, int]:
    """A LEB128 number, and where the next one begins."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while byte >= 0x80:
        if shift >= 7 * _LEB_BYTES:
            raise DWARFError("a number of more than 64 bits")
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, position + 1


def _name(top: Any) -> str:
    """The file that a unit was compiled from; empty where that is told elsewhere (split debug information)."""
    if "DW_AT_name" not in top.attributes:
        return ""
    name: str = top.attributes["DW_AT_name"].value.decode("utf-8", errors="replace")
    return name
