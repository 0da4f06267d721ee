"""Where a file has its table of entries, and which flavour these show, without a kernel configuration."""

from __future__ import annotations

from harness.parse.code import BTI, Code
from harness.parse.elf import FUNC, Elf, Section
from harness.parse.flavour import Flavour, Sequences

TABLE_SECTION, MCOUNT_SECTION = "__patchable_function_entries", "__mcount_loc"
_BEFORE, _BEHIND = (2, 0), 2  # NOPs: what arm64's Makefile has asked for so far, the longer sequence first
_FEW = 100  # a BTI in fewer than one of so many functions is a mistake, and no flavour
_BL, _BL_MASK = 0x94000000, 0xFC000000


def table_sections(elf: Elf, name: str = TABLE_SECTION) -> list[Section]:
    """The sections of a relocatable file that hold its table. Several of one name are left where no linker script
    merged them: gcc 13 and clang make one for each function."""
    return elf.named(name) if elf.relocatable else []


def table_of(elf: Elf, name: str = TABLE_SECTION) -> tuple[int, ...]:
    """The table of entries as it is in the file, including empty ones (0)."""
    if elf.relocatable:
        places = ((section.address, section.address + section.size) for section in table_sections(elf, name))
        return tuple(entry for begin, end in places for entry in elf.pointers(begin, end))
    begins, ends = (elf.addresses_of(f"__{end}_mcount_loc") for end in ("start", "stop"))
    return elf.pointers(begins[-1], ends[-1]) if begins and ends else ()


def flavour_in(elf: Elf) -> Flavour | None:
    """The flavour of a file, from its own functions and records. None if it has none: its functions call _mcount
    (`calls_mcount`), or nothing.

    Most records decide: a damaged file has some in wrong places. Where they say nothing, because all were lost in the
    link, the functions do; where there are no functions, because the file is stripped, the NOPs."""
    code = Code(elf)
    shapes = [Sequences(code, Flavour(before, _BEHIND, bti=True)) for before in _BEFORE]
    records = [record for record in table_of(elf) if record]
    known = {symbol.address for symbol in elf.symbols if symbol.kind == FUNC and symbol.section in code.numbers}
    for votes in (
        [_recorded(shape, records, known) for shape in shapes],
        [[label for label in known if shape.complete(label)] for shape in shapes] if not records else [],
        [_recorded(shape, records, None) for shape in shapes],
    ):
        best = max(range(len(votes)), key=lambda number: len(votes[number]), default=0)  # the first of equals
        if votes and len(votes[best]) * _FEW > len(known):
            protected = sum(code.word(function) in BTI for function in votes[best])
            return Flavour(_BEFORE[best], _BEHIND, bti=protected * _FEW > len(votes[best]))
    return None


def _recorded(sequences: Sequences, records: list[int], known: set[int] | None) -> list[int]:
    """The functions (of those `known`) whose records and NOPs are as the flavour wants them."""
    return [
        label
        for record in records
        for label in sequences.labels_of(record)
        if (known is None or label in known) and sequences.record_of(label) == record and sequences.complete(label)
    ]


def calls_mcount(elf: Elf) -> bool:
    """Whether the file's functions call _mcount (-pg), because its compiler has no -fpatchable-function-entry: most
    records point to a branch with link."""
    code = Code(elf)
    names = (MCOUNT_SECTION, TABLE_SECTION) if elf.relocatable else (TABLE_SECTION,)
    words = [code.word(record) for name in names for record in table_of(elf, name) if record]
    return sum(word is not None and word & _BL_MASK == _BL for word in words) * 2 > len(words)
