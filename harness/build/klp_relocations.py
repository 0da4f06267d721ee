"""Livepatch relocations of a built module (Documentation/livepatch/module-elf-format.rst in the kernel).

Our livepatches write ``klp_sym__OBJECT__SYMBOL`` for a symbol that OBJECT ("vmlinux" or a module) does not export
(testcases/livepatch/klp_patch.h). The compiler leaves ordinary relocations against an undefined symbol, which no
module loader could resolve. `convert` moves them into sections ``.klp.rela.OBJECT.SECTION`` of their own, and makes
the symbols ``.klp.sym.OBJECT.SYMBOL,0``: those the livepatch core resolves when OBJECT is there.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.errors import BuildError

_NAME = re.compile(r"klp_sym__(?P<object>\w+?)__(?P<symbol>\w+)")
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")

_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_SHT_SYMTAB = 2
_SHT_RELA = 4
_SHF_ALLOC = 0x2
_SHF_INFO_LINK = 0x40
_SHF_RELA_LIVEPATCH = 0x100000
_SHN_UNDEF = 0
_SHN_LIVEPATCH = 0xFF20
_GLOBAL_NOTYPE = 1 << 4


@dataclass(frozen=True)
class _Section:
    name: int  # offset in the section name table
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    def pack(self) -> bytes:
        return _SECTION.pack(*vars(self).values())


def convert(module: bytes) -> bytes:
    """The module (an ELF64 little-endian .ko) with livepatch relocations; as it is where it refers to no
    ``klp_sym__…``. Raises BuildError where the file is no such module, or a name can't be understood."""
    if not module.startswith(_ELF64_LITTLE_ENDIAN) or len(module) < _HEADER.size:
        raise BuildError("livepatch relocations: not a 64-bit little-endian ELF file")
    try:
        return _Module(module).converted()
    except (struct.error, IndexError, ValueError) as error:
        raise BuildError(f"livepatch relocations: the module is damaged: {error}") from None


class _Module:
    """An ELF file that grows at its end: what becomes longer is written anew there."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.header = list(_HEADER.unpack_from(content))
        offset, count, self.names = self.header[6], self.header[12], self.header[13]
        self.sections = [_Section(*_SECTION.unpack_from(content, offset + i * _SECTION.size)) for i in range(count)]
        self.symtab = next(i for i, section in enumerate(self.sections) if section.type == _SHT_SYMTAB)
        self.strtab = self.sections[self.symtab].link
        if self.strtab == self.names:
            raise ValueError("symbols and sections share their table of names")

    def converted(self) -> bytes:
        objects = {index: self._mark(index, *names) for index, names in self._foreign()}
        if not objects:
            return bytes(self.content)
        for index, section in enumerate(list(self.sections)):
            if section.type == _SHT_RELA:
                self._split(index, objects)
        return self._finished()

    def _foreign(self) -> list[tuple[int, tuple[str, str]]]:
        """The undefined symbols of other objects: index, (object, symbol)."""
        found = []
        table = self.sections[self.symtab]
        for index in range(table.size // _SYMBOL.size):
            name, _, _, section, _, _ = self._symbol(index)
            text = self._text(self.strtab, name)
            if section == _SHN_UNDEF and text.startswith("klp_sym__"):
                match = _NAME.fullmatch(text)
                if not match:
                    raise BuildError(f"livepatch relocations: {text}: expected klp_sym__OBJECT__SYMBOL")
                found.append((index, (match["object"], match["symbol"])))
        return found

    def _mark(self, index: int, owner: str, symbol: str) -> str:
        """Make the symbol a livepatch symbol; returns the object that owns it."""
        name = self._add_text(self.strtab, f".klp.sym.{owner}.{symbol},0")
        packed = _SYMBOL.pack(name, _GLOBAL_NOTYPE, 0, _SHN_LIVEPATCH, 0, 0)
        at = self.sections[self.symtab].offset + index * _SYMBOL.size
        self.content[at : at + _SYMBOL.size] = packed
        return owner

    def _split(self, index: int, objects: dict[int, str]) -> None:
        """Move the relocations against `objects` from section `index` into one new section for each object."""
        section = self.sections[index]
        kept = bytearray()
        moved: defaultdict[str, bytearray] = defaultdict(bytearray)
        for entry in self._entries(section):
            owner = objects.get(_RELA.unpack(entry)[1] >> 32)
            (kept if owner is None else moved[owner]).extend(entry)
        if not moved:
            return
        self.content[section.offset : section.offset + len(kept)] = kept
        self.sections[index] = replace(section, size=len(kept))
        goal = self._text(self.names, self.sections[section.info].name)
        for owner, entries in moved.items():
            self.sections.append(
                replace(
                    section,
                    name=self._add_text(self.names, f".klp.rela.{owner}.{goal}"),
                    flags=_SHF_ALLOC | _SHF_INFO_LINK | _SHF_RELA_LIVEPATCH,
                    offset=self._append(bytes(entries)),
                    size=len(entries),
                )
            )

    def _entries(self, section: _Section) -> Iterator[bytes]:
        for at in range(section.offset, section.offset + section.size, _RELA.size):
            yield bytes(self.content[at : at + _RELA.size])

    def _symbol(self, index: int) -> tuple[int, ...]:
        return _SYMBOL.unpack_from(self.content, self.sections[self.symtab].offset + index * _SYMBOL.size)

    def _text(self, table: int, offset: int) -> str:
        start = self.sections[table].offset + offset
        return self.content[start : self.content.index(0, start)].decode()

    def _add_text(self, table: int, text: str) -> int:
        """Add `text` to a table of names, which moves to the end of the file; returns its offset in the table."""
        section = self.sections[table]
        held = bytes(self.content[section.offset : section.offset + section.size])
        grown = held + text.encode() + b"\0"
        self.sections[table] = replace(section, offset=self._append(grown), size=len(grown))
        return len(held)

    def _append(self, content: bytes) -> int:
        self.content += b"\0" * (-len(self.content) % 8)
        offset = len(self.content)
        self.content += content
        return offset

    def _finished(self) -> bytes:
        self.header[6] = self._append(b"".join(section.pack() for section in self.sections))
        self.header[12] = len(self.sections)
        self.content[: _HEADER.size] = _HEADER.pack(*self.header)
        return bytes(self.content)
