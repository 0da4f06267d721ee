"""ELF files that are damaged, or made to occupy whoever reads them."""

from __future__ import annotations

import io
import random
import struct

import pytest

from harness import limits
from harness.errors import UserError
from harness.parse.dwarf import _uleb
from harness.parse.elf import Elf
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower
from tests.unit.tinyelf import REL, RET, TinyElf

__all__ = ["lower"]

_SECTION_HEADERS = 0x28  # where the file's header tells of their place


def hostile(injected: str) -> pytest.MarkDecorator:
    return fault(injected, where="hostile input", blame=Blame.USER, survives="the memory of the host")


def small() -> bytes:
    elf = TinyElf(REL)
    elf.code(".text", RET, RET)
    elf.symbol("first", 0, size=4)
    elf.symbol("second", 4, size=4)
    elf.relocations(1, (0, 257, 1, 0))
    return elf.bytes()


def read_all(data: bytes) -> None:
    elf = Elf(io.BytesIO(data), name="x.ko")
    for section in elf.sections:
        elf.content(section)
    for symbol in elf.symbols:
        elf.addresses_of(symbol.name)
    elf.pointers(1 << 32, (1 << 32) + 8)
    elf.source_of(0)


def changed(data: bytes, section: int, field: int, value: int) -> bytes:
    """`data` with 8 bytes of a section's header changed, `field` bytes behind its beginning."""
    out = bytearray(data)
    headers = struct.unpack_from("<Q", data, _SECTION_HEADERS)[0]
    struct.pack_into("<Q", out, headers + 64 * section + field, value)
    return bytes(out)


def test_the_file_is_sound() -> None:
    read_all(small())


@pytest.mark.parametrize("size", [1 << 62, 1 << 34, 10_000])
@hostile("a module with a section that is larger than the file")
def test_a_section_larger_than_the_file(size: int) -> None:
    with pytest.raises(UserError, match=r"^x.ko: (expected a well-formed ELF file|section 1: expected at most)"):
        read_all(changed(small(), 1, 0x20, size))


@hostile("a module with a section above the limit")
def test_a_section_above_the_limit(lower: Lower) -> None:
    lower(limits.ELF_BYTES, 100)
    with pytest.raises(UserError) as caught:
        read_all(changed(small(), 1, 0x20, 200))
    assert is_told(caught.value, limits.ELF_BYTES, place="x.ko: section 1")


@hostile("a module whose symbols all have one very long name")
def test_a_long_name(lower: Lower) -> None:
    elf = TinyElf(REL)
    elf.code(".text", RET, RET)
    elf.symbol("x" * 300, 0)
    lower(limits.ELF_NAME_BYTES, 300)
    read_all(elf.bytes())
    lower(limits.ELF_NAME_BYTES, 200)
    with pytest.raises(UserError) as caught:
        read_all(elf.bytes())
    assert is_told(caught.value, limits.ELF_NAME_BYTES, place="x.ko")


@pytest.mark.parametrize("count", [10, 40])
@hostile("a module whose symbols have the ends of one name")
def test_names_in_a_name(count: int) -> None:
    """The half of a name is in so many others on average."""
    elf = TinyElf(REL)
    elf.code(".text", RET, RET)
    elf.symbol("x" * 200, 0)
    for number in range(count):
        elf.symbol("", number)
    data = bytearray(elf.bytes())
    [table] = [section for section in Elf(elf.stream(), name="x").sections if section.name == ".symtab"]
    headers = struct.unpack_from("<Q", data, _SECTION_HEADERS)[0]
    symbols = struct.unpack_from("<Q", data, headers + 64 * table.number + 0x18)[0]
    for number in range(count):  # the first is none, the second has the name, which begins at 1
        struct.pack_into("<I", data, symbols + 24 * (number + 2), number + 2)
    if count == 10:
        read_all(bytes(data))
    else:
        with pytest.raises(UserError, match="names that lie in one another"):
            read_all(bytes(data))


@hostile("a module whose sections are all of the file")
def test_sections_that_overlap() -> None:
    elf = TinyElf(REL)
    for _ in range(3):
        elf.code(".text", RET, RET)
    data = elf.bytes()
    read_all(changed(changed(data, 1, 0x18, 0), 1, 0x20, len(data)))
    for section in (1, 2, 3):
        data = changed(changed(data, section, 0x18, 0), section, 0x20, len(data))
    with pytest.raises(UserError, match="sections that overlap"):
        read_all(data)


@hostile("a module with very much in the names of its sections")
def test_names_of_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    elf = TinyElf(REL)
    for number in range(3):
        elf.code(f".text.{number}", RET, RET)
    monkeypatch.setattr("harness.parse.elf._SECTION_NAMES_BYTES", 100)
    read_all(elf.bytes())
    monkeypatch.setattr("harness.parse.elf._SECTION_NAMES_BYTES", 20)
    with pytest.raises(UserError, match="more than 20 bytes of names of sections"):
        read_all(elf.bytes())


def test_numbers_of_many_bytes() -> None:
    assert _uleb(memoryview(b"\xff\x01"), 0) == (255, 2)
    with pytest.raises(Exception, match="more than 64 bits"):
        _uleb(memoryview(b"\x80" * 100), 0)


@hostile("a module with damaged bytes")
def test_damage_anywhere_is_the_files() -> None:
    """One byte after the other, each changed in a few ways: it is read, or refused in the file's name."""
    good, choose, refused = small(), random.Random(7), 0
    for at in range(len(good)):
        for _ in range(3):
            data = bytearray(good)
            data[at] = choose.randrange(256)
            try:
                read_all(bytes(data))
            except UserError as error:
                refused += error.message.startswith("x.ko: ")
    assert refused > len(good) // 10


@pytest.mark.parametrize("kept", [0, 3, 16, 64, 100, 300])
def test_cut_short(kept: int) -> None:
    with pytest.raises(UserError, match=r"^x\.ko: expected a well-formed ELF file"):
        read_all(small()[:kept])
