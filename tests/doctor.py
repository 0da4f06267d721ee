"""Makes the table of entries of a vmlinux or module wrong on purpose, to see whether that is found.

doctor = Doctor(path.read_bytes())
doctor.shift("schedule", 4)
path.write_bytes(doctor.bytes())
"""

from __future__ import annotations

import io
import struct

from harness.parse.elf import Elf, Section
from harness.parse.entry_table import table_sections
from harness.parse.instrumentation import Function, Instrumentation, instrumentation_of

_HEADER, _RELA, _SYMBOL = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<QQq"), struct.Struct("<IBBHQQ")
_ABS64, _RELATIVE = 257, 1027
_SHT_SYMTAB, _SHT_RELA = 2, 4
_KIND, _OFFSET, _SIZE, _INFO = 1, 4, 5, 7  # members of a section header
_HEADERS_AT, _COUNT_AT = 40, 60  # in the ELF header


class Doctor:
    """One file. Functions are named by their first names."""

    def __init__(self, content: bytes) -> None:
        code = instrumentation_of(Elf(io.BytesIO(content), name="to be doctored"))
        assert code is not None
        self._code: Instrumentation = code
        self._data = bytearray(content)
        self._table = list(code.table)
        self._functions = {function.name: function for function in code.functions}

    def function(self, name: str) -> Function:
        return self._functions[name]

    def place_of(self, name: str) -> int:
        """The number of the function's record in the table."""
        function = self._functions[name]
        right = (record for record in self._code.records if not record.judgement.wrong)
        return next(record.place for record in right if record.function == function)

    def record_of(self, name: str) -> int:
        return self._table[self.place_of(name)]

    def shift(self, name: str, distance: int) -> None:
        """Move the function's record by `distance` bytes."""
        self._table[self.place_of(name)] += distance

    def empty(self, name: str) -> None:
        self._table[self.place_of(name)] = 0

    def drop(self, name: str) -> None:
        del self._table[self.place_of(name)]

    def add(self, record: int) -> None:
        """Put one more record at the table's end. (In a vmlinux it takes the place of what follows the table.)"""
        self._table.append(record)

    def double(self, name: str) -> None:
        self.add(self._table[self.place_of(name)])

    def replace(self, name: str, other: str) -> None:
        """Put the record of `other` in the place of the function's."""
        self._table[self.place_of(name)] = self._table[self.place_of(other)]

    def bytes(self) -> bytes:
        """Return the file with the table as it is now."""
        if self._table == list(self._code.table):
            return bytes(self._data)
        if self._code.elf.relocatable:
            (section,) = table_sections(self._code.elf)
            self._write_relocations(section)
        else:
            self._write_pointers()
        return bytes(self._data)

    def _write_pointers(self) -> None:
        start = self._code.elf.addresses_of("__start_mcount_loc")[0]
        relocations = self._relocations()
        for number, record in enumerate(self._table):
            place = start + 8 * number
            struct.pack_into("<Q", self._data, self._in_file(place), record)
            if place in relocations:
                signed = record - (1 << 64) if record >> 63 else record
                _RELA.pack_into(self._data, relocations[place], place, _RELATIVE, signed)
        self._set_symbol("__stop_mcount_loc", start + 8 * len(self._table))

    def _write_relocations(self, table: Section) -> None:
        """A module's records are relocations against symbols; one that is emptied becomes R_AARCH64_NONE."""
        assert len(self._table) * 8 == table.size, "the number of a module's records can't be changed"
        places = self._relocations(table.number)
        for number, record in enumerate(self._table):
            base = next(
                n for n, symbol in enumerate(self._code.elf.symbols) if symbol.section == record >> 32 or not record
            )
            symbol = self._code.elf.symbols[base]
            info = base << 32 | 257 if record else 0
            _RELA.pack_into(self._data, places[8 * number], 8 * number, info, record - symbol.address if record else 0)

    def split(self, records: int) -> None:
        """Leave the first `records` of a module's records in their section, and make another of that name for the
        rest, as a partial link does. The new section headers go to the end of the file."""
        (table,) = table_sections(self._code.elf)
        headers = [list(self._header(number)) for number in range(self._count())]
        (number,) = (
            n for n, header in enumerate(headers) if header[_KIND] == _SHT_RELA and header[_INFO] == table.number
        )
        kept, relocations = headers[table.number], headers[number]
        rest, of_rest = list(kept), list(relocations)
        kept[_SIZE], relocations[_SIZE] = 8 * records, _RELA.size * records
        for half, first, unit in ((rest, kept, 8), (of_rest, relocations, _RELA.size)):
            half[_OFFSET] += first[_SIZE]
            half[_SIZE] = unit * (table.size // 8 - records)
        of_rest[_INFO] = len(headers)
        for place in range(of_rest[_OFFSET], of_rest[_OFFSET] + of_rest[_SIZE], _RELA.size):
            offset, info, addend = _RELA.unpack_from(self._data, place)
            _RELA.pack_into(self._data, place, offset - 8 * records, info, addend)
        self._data += bytes(-len(self._data) % 8)
        struct.pack_into("<Q", self._data, _HEADERS_AT, len(self._data))
        struct.pack_into("<H", self._data, _COUNT_AT, len(headers) + 2)
        self._data += b"".join(_HEADER.pack(*header) for header in (*headers, rest, of_rest))

    # -- the file -----------------------------------------------------------------------------------------------

    def _count(self) -> int:
        return len(self._code.elf.sections)

    def _header(self, number: int) -> tuple[int, ...]:
        (start,) = struct.unpack_from("<Q", self._data, _HEADERS_AT)
        return _HEADER.unpack_from(self._data, start + number * _HEADER.size)

    def _in_file(self, address: int) -> int:
        """Where the byte at `address` is in the file."""
        for section in self._code.elf.sections:
            if (
                section.flags & 2
                and section.kind != "SHT_NOBITS"
                and address in range(section.address, section.address + section.size)
            ):
                return self._header(section.number)[_OFFSET] + address - section.address
        raise AssertionError(f"no section holds {address:#x}: the table can't grow so far")

    def _relocations(self, section: int = 0) -> dict[int, int]:
        """Where the relocation of each place (of a module's `section`) is in the file."""
        found = {}
        for number in range(self._count()):
            header = self._header(number)
            if header[_KIND] == _SHT_RELA and header[_INFO] == section:
                for place in range(header[_OFFSET], header[_OFFSET] + header[_SIZE], _RELA.size):
                    found[_RELA.unpack_from(self._data, place)[0]] = place
        return found

    def _set_symbol(self, name: str, value: int) -> None:
        (place,) = (number for number, symbol in enumerate(self._code.elf.symbols) if symbol.name == name)
        (table,) = (
            self._header(number) for number in range(self._count()) if self._header(number)[_KIND] == _SHT_SYMTAB
        )
        struct.pack_into("<Q", self._data, table[_OFFSET] + place * _SYMBOL.size + 8, value)
