"""Livepatch relocations are made of what the compiler leaves, and of nothing else."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from harness.build.klp_relocations import convert
from harness.errors import BuildError

_RELA, _SYMTAB, _STRTAB, _PROGBITS = 4, 2, 3, 1
_WEAK, _LIVEPATCH = 2 << 4, 0xFF20
_FLAGS = 0x2 | 0x40 | 0x100000  # SHF_ALLOC, SHF_INFO_LINK, SHF_RELA_LIVEPATCH


@dataclass(frozen=True)
class Read:
    """A section as a reader of the file finds it."""

    name: str
    type: int
    flags: int
    link: int
    info: int
    content: bytes

    def relocations(self) -> list[tuple[int, int]]:
        """(place, symbol) of each entry."""
        return [(place, info >> 32) for place, info, _ in struct.iter_unpack("<QQq", self.content)]


def module(symbols: list[str], relocations: dict[str, list[tuple[int, int]]]) -> bytes:
    """A small relocatable ELF file: undefined weak `symbols` (from index 1 on), and for each section named in
    `relocations` (place, symbol) pairs."""
    names, strings, table = b"\0", b"\0", struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for symbol in symbols:
        table += struct.pack("<IBBHQQ", len(strings), _WEAK, 0, 0, 0, 0)
        strings += symbol.encode() + b"\0"
    sections = [("", 0, 0, 0, 0, b"", 0)]
    symtab, strtab = 1 + 2 * len(relocations), 2 + 2 * len(relocations)
    for name, entries in relocations.items():
        content = b"".join(struct.pack("<QQq", place, symbol << 32 | 283, 4) for place, symbol in entries)
        sections.append((name, _PROGBITS, 6, 0, 0, bytes(64), 0))
        sections.append((f".rela{name}", _RELA, 0x40, symtab, len(sections) - 1, content, 24))
    sections += [(".symtab", _SYMTAB, 0, strtab, 1, table, 24), (".strtab", _STRTAB, 0, 0, 0, strings, 0)]
    body, headers = bytearray(64), b""
    for name, kind, flags, link, info, content, entsize in [*sections, (".shstrtab", _STRTAB, 0, 0, 0, b"", 0)]:
        at, names = len(names), names + name.encode() + b"\0"
        data = names if name == ".shstrtab" else content
        headers += struct.pack("<IIQQQQIIQQ", at, kind, flags, 0, len(body), len(data), link, info, 8, entsize)
        body += data + bytes(-len(data) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(sections) + 1
    body[:64] = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 183, 1, 0, 0, len(body), 0, 64, 0, 0, 64, count, count - 1)
    return bytes(body) + headers


def read(content: bytes) -> list[Read]:
    header = struct.unpack_from("<16sHHIQQQIHHHHHH", content)
    raw = [struct.unpack_from("<IIQQQQIIQQ", content, header[6] + 64 * i) for i in range(header[12])]
    names = content[raw[header[13]][4] :]
    return [
        Read(names[s[0] : names.index(0, s[0])].decode(), s[1], s[2], s[6], s[7], content[s[4] : s[4] + s[5]])
        for s in raw
    ]


def symbols_of(content: bytes) -> list[tuple[str, int]]:
    """(name, section) of each symbol."""
    sections = read(content)
    table = next(section for section in sections if section.type == _SYMTAB)
    strings = sections[table.link].content
    return [
        (strings[name : strings.index(0, name)].decode(), section)
        for name, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", table.content)
    ]


def test_references_move_to_sections_of_their_own() -> None:
    before = module(
        ["memcpy", "klp_sym__ext4__ext4_secret", "klp_sym__vmlinux____arm64_sys_x"],
        {".text": [(0, 1), (8, 2), (16, 3), (24, 1), (32, 2)], ".data": [(0, 2)]},
    )
    after = convert(before)
    found = {section.name: section for section in read(after)}
    assert found[".rela.text"].relocations() == [(0, 1), (24, 1)]
    assert found[".rela.data"].relocations() == []
    assert found[".klp.rela.ext4..text"].relocations() == [(8, 2), (32, 2)]
    assert found[".klp.rela.vmlinux..text"].relocations() == [(16, 3)]
    assert found[".klp.rela.ext4..data"].relocations() == [(0, 2)]
    for name in (".klp.rela.ext4..text", ".klp.rela.vmlinux..text", ".klp.rela.ext4..data"):
        assert found[name].type == _RELA
        assert found[name].flags == _FLAGS
        assert read(after)[found[name].link].name == ".symtab"
    assert read(after)[found[".klp.rela.ext4..data"].info].name == ".data"
    assert symbols_of(after) == [
        ("", 0),
        ("memcpy", 0),
        (".klp.sym.ext4.ext4_secret,0", _LIVEPATCH),
        (".klp.sym.vmlinux.__arm64_sys_x,0", _LIVEPATCH),
    ]


def test_what_was_there_stays_where_it_was() -> None:
    before = module(["klp_sym__a__b"], {".text": [(0, 1)]})
    after = convert(before)
    assert [section.name for section in read(after)][: len(read(before))] == [s.name for s in read(before)]
    assert after[64 : 64 + 64] == before[64 : 64 + 64]


def test_a_module_without_them_is_left_alone() -> None:
    plain = module(["memcpy"], {".text": [(0, 1)]})
    assert convert(plain) == plain


def test_converted_once_is_enough() -> None:
    once = convert(module(["klp_sym__a__b"], {".text": [(0, 1)]}))
    assert convert(once) == once


def test_a_name_that_says_no_object_is_an_error() -> None:
    with pytest.raises(BuildError, match="klp_sym__nothing: expected klp_sym__OBJECT__SYMBOL"):
        convert(module(["klp_sym__nothing"], {".text": [(0, 1)]}))


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh", b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x01" + bytes(8)])
def test_what_is_no_module_is_an_error(content: bytes) -> None:
    with pytest.raises(BuildError, match="livepatch relocations"):
        convert(content)


@pytest.mark.parametrize("length", [70, 200, 400, -1])
def test_a_damaged_module_is_an_error(length: int) -> None:
    with pytest.raises(BuildError, match="damaged"):
        convert(module(["klp_sym__a__b"], {".text": [(0, 1)]})[:length])
