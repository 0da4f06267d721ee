"""DWARF debug information of an open ELF file: which source code comes from, and which code a line has become.

Only what is asked for is parsed: a kernel has a hundred megabytes of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from elftools.common.exceptions import DWARFError
from elftools.common.utils import struct_parse
from elftools.dwarf.abbrevtable import AbbrevDecl
from elftools.dwarf.ranges import BaseAddressEntry, RangeEntry

from harness.limits import LINE_TABLE_BYTES, Deadline

_FORM_IMPLICIT_CONST = 0x21
_LEB_BYTES = 10  # of a number of 64 bits


class SourceRange(NamedTuple):
    """Code in [begin, end) that comes from the compilation unit `source`, as the compiler was given its name."""

    begin: int
    end: int
    source: str


class LineCode(NamedTuple):
    """Code in [begin, end) that line `line` of the file `path` has become."""

    path: str
    line: int
    begin: int
    end: int


class Units:
    """The compilation units of a DWARF. Only the first entry of each is read."""

    def __init__(self, dwarf: Any) -> None:
        self._dwarf = dwarf
        dwarf.get_abbrev_table = self._abbreviations  # parsing the whole tables takes ten seconds

    def ranges(self) -> Iterator[SourceRange]:
        """From .debug_aranges, which is quick; for units that it does not have (clang's, but those of assembler files)
        from the units themselves."""
        table = self._dwarf.get_aranges()
        names: dict[int, str] = {}
        for entry in table.entries if table else ():
            if entry.info_offset not in names:
                names[entry.info_offset] = _name(self._dwarf.get_CU_at(entry.info_offset).get_top_DIE())
            if entry.length:
                yield SourceRange(entry.begin_addr, entry.begin_addr + entry.length, names[entry.info_offset])
        for unit in self._dwarf.iter_CUs():
            if unit.cu_offset not in names:
                top = unit.get_top_DIE()
                for begin, end in self._own_ranges(unit, top):
                    yield SourceRange(begin, end, _name(top))

    def lines(self, paths: Collection[str], *, deadline: Deadline) -> Iterator[LineCode]:
        """The code of the files `paths`, named as in the tree. Units are looked at whose own file is one of them; for a
        header all units are, which takes half a minute for a kernel."""
        has_headers = any(path.endswith(".h") for path in paths)
        for unit in self._dwarf.iter_CUs():
            deadline.check(place="debug information")
            if has_headers or _named(_name(unit.get_top_DIE()), paths):
                yield from self._lines_of(unit, paths)

    def _lines_of(self, unit: Any, paths: Collection[str]) -> Iterator[LineCode]:
        program = self._dwarf.line_program_for_CU(unit)
        if program is None:
            return
        wanted = {number: path for number, name in _files(program) if (path := _named(name, paths))}
        if not wanted:
            return
        LINE_TABLE_BYTES.check(program.header.unit_length, place=next(iter(wanted.values())))
        pending: dict[LineCode, None] = {}  # the lines that begin at one address
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if pending and state.address != next(iter(pending)).begin:
                yield from (each._replace(end=state.address) for each in pending if state.address > each.begin)
                pending.clear()
            if state.end_sequence:
                pending.clear()
            elif state.file in wanted:
                pending[LineCode(wanted[state.file], state.line, state.address, state.address)] = None

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


def _files(program: Any) -> Iterator[tuple[int, str]]:
    """The numbers and names of the files in a line table. Before DWARF 5 the first one is 1, and so is the first
    directory."""
    header = program.header
    first = 0 if header.version >= 5 else 1
    directories = list(header.include_directory)
    for number, entry in enumerate(header.file_entry, first):
        place = entry.dir_index - first
        directory = directories[place] if 0 <= place < len(directories) else b""
        yield number, b"/".join(part for part in (directory, entry.name) if part).decode("utf-8", errors="replace")


def _named(name: str, paths: Collection[str]) -> str:
    """Which of `paths` the file `name` is: a compiler is given its whole path, or one from where it runs."""
    return next((path for path in paths if name == path or name.endswith(f"/{path}")), "")


def _name(top: Any) -> str:
    """The file that a unit was compiled from; empty where that is told elsewhere (split debug information)."""
    if "DW_AT_name" not in top.attributes:
        return ""
    name: str = top.attributes["DW_AT_name"].value.decode("utf-8", errors="replace")
    return name
