"""The instructions of a kernel or module, by address."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from harness.parse.elf import SHF_ALLOC, SHF_EXECINSTR, Elf, Section

NOP = 0xD503201F
BTI = frozenset({0xD503241F, 0xD503245F, 0xD503249F, 0xD50324DF})  # bti, bti c, bti j, bti jc
WORD_BYTES = 4
_LONGEST_RUN = 64
_ALTERNATIVE, _JUMP = struct.Struct("<iiHBB"), struct.Struct("<iiq")  # struct alt_instr, struct jump_entry


class Code:
    """The executable sections of one file."""

    def __init__(self, elf: Elf) -> None:
        self.elf = elf
        code = sorted((section for section in elf.sections if _is_code(section)), key=lambda section: section.address)
        self.sections = [(section, _words(elf, section)) for section in code]
        self.numbers = frozenset(section.number for section in code)
        # An empty one may stand at another's address.
        self._filled = [(section, words) for section, words in self.sections if len(words)]
        self._begins = [section.address for section, _ in self._filled]

    def word(self, address: int) -> int | None:
        """Return the instruction at `address`; None if there is no code."""
        found = self._place_of(address)
        return found[1][(address - found[0].address) // WORD_BYTES] if found else None

    def section_of(self, address: int) -> Section | None:
        """Return the section of the instruction at `address`; None if there is no code."""
        found = self._place_of(address)
        return found[0] if found else None

    def _place_of(self, address: int) -> tuple[Section, memoryview] | None:
        number = bisect_right(self._begins, address) - 1
        if number < 0:
            return None
        section, words = self._filled[number]
        return self._filled[number] if (address - section.address) // WORD_BYTES < len(words) else None

    def run_of_nops(self, place: int, step: int = WORD_BYTES) -> int:
        """How many NOPs stand in a row at `place`, in steps of `step` bytes, up to 64: a whole section may be NOPs."""
        count = 0
        while count < _LONGEST_RUN and self.word(place + count * step) == NOP:
            count += 1
        return count

    @cached_property
    def patched_later(self) -> frozenset[int]:
        """The instructions that an alternative or a jump label replaces. They may be NOPs, and a function that is not
        instrumented may begin with two of them."""
        return frozenset(self._patched_later())

    def _patched_later(self) -> Iterator[int]:
        for section in self.elf.named(".altinstructions"):
            for place, target, entry in self._entries(section, _ALTERNATIVE):
                where = target if target is not None else place + entry[0]
                yield from range(where, where + entry[3], WORD_BYTES)
        for place, target, entry in self._jump_entries():
            yield target if target is not None else place + entry[0]

    def _jump_entries(self) -> Iterator[tuple[int, int | None, tuple[int, ...]]]:
        if self.elf.relocatable:
            for section in self.elf.named("__jump_table"):
                yield from self._entries(section, _JUMP)
            return
        begins, ends = (self.elf.addresses_of(f"__{end}___jump_table") for end in ("start", "stop"))
        if begins and ends:
            data = self.elf.read(begins[0], max(ends[0] - begins[0], 0) // _JUMP.size * _JUMP.size)
            for number, values in enumerate(_JUMP.iter_unpack(data)):
                yield begins[0] + number * _JUMP.size, None, values

    def _entries(self, section: Section, shape: struct.Struct) -> Iterator[tuple[int, int | None, tuple[int, ...]]]:
        """The structures in a section: each one's address, what its first member refers to where a relocation says
        that, and its members."""
        data = self.elf.content(section)
        targets = dict(self.elf.relocations_of(section)) if self.elf.relocatable else {}
        for number, values in enumerate(shape.iter_unpack(data[: len(data) // shape.size * shape.size])):
            place = number * shape.size
            yield section.address + place, targets.get(place), values


def _is_code(section: Section) -> bool:
    return bool(section.flags & SHF_ALLOC and section.flags & SHF_EXECINSTR)


def _words(elf: Elf, section: Section) -> memoryview:
    content = elf.content(section)
    return memoryview(content[: len(content) // WORD_BYTES * WORD_BYTES]).cast("I")
