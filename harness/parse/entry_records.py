"""The records in the table of entries, each judged against the entry of the function that it belongs to.

A record is the address of the first NOP that the compiler put at a function's entry (-fpatchable-function-entry). Where
that is differs from function to function in one object: a static function may have no BTI, while global ones have one.
So nothing here assumes a distance that all functions of a file share.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from harness.parse.code import BTI, NOP, WORD_BYTES
from harness.parse.flavour import Sequences

_POINTER_BYTES = 8
_NEAR_BYTES = (
    8  # so far before a function's first NOP, outside all functions, a record is a shifted one of that function
)


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


class Judgement(enum.Enum):
    """What a record is. The values are for people."""

    RIGHT = "right"
    NAMELESS = "right, but no symbol covers it"
    """A weak function that another one replaced leaves its NOPs and its record behind; a stripped file has no names."""
    EMPTY = "empty"
    TWICE = "there twice"
    ON_BTI = "on the BTI"
    SHIFTED = "beside its place"
    INSIDE = "inside a function"
    MISALIGNED = "not aligned"
    NO_CODE = "not in code"
    NO_NOPS = "without NOPs"
    STRAY_BTI = "BTI in a kernel without"
    UNREAD = "not read"
    """The module loader reads the first section of the table's name only."""

    @property
    def wrong(self) -> bool:
        return self not in (Judgement.RIGHT, Judgement.NAMELESS, Judgement.EMPTY)


@dataclass(frozen=True)
class Record:
    """One record. `place`: its number in the table; `function`: the one that it belongs to, and `offset` its distance
    from that function's address in bytes; `told`: what is wrong, empty if nothing is."""

    place: int
    address: int
    function: Function | None
    offset: int | None
    judgement: Judgement
    told: str

    def __str__(self) -> str:
        owner = f" ({self.function.name}{self.offset:+#x})" if self.function and self.offset is not None else ""
        return f"{self.address:#x}{owner}: {self.told or self.judgement.value}"


class Judge:
    """Judges the records of one file. `functions`: all that it has, sorted by address."""

    def __init__(self, sequences: Sequences, functions: Sequence[Function]) -> None:
        self._sequences = sequences
        self._code = sequences.code
        self._before = sequences.before
        self._functions = functions
        self._addresses = [function.address for function in functions]
        self._by_address = {function.address: function for function in functions}
        # Of the functions up to each place the one that ends last: assembly has functions inside of others.
        ends = ((function.address + function.size, number) for number, function in enumerate(functions))
        self._reach = list(accumulate(ends, max))

    def owner(self, record: int) -> Function | None:
        """Return the function that a record belongs to, also where it stands in the wrong place: the one whose entry
        or body it is in, or right before. None if no symbol covers it."""
        if found := self._by_address.get(record + self._before):
            return found
        after = bisect_right(self._addresses, record)
        if after:
            end, inside = self._reach[after - 1]
            if record < end:
                return self._functions[inside]
            if record <= self._sequences.nops_of(self._addresses[after - 1])[-1]:
                return self._functions[after - 1]  # one without a size
        if after < len(self._functions) and self._stands_before(record, self._functions[after]):
            return self._functions[after]
        return None

    def _stands_before(self, record: int, function: Function) -> bool:
        """Whether a record that no function covers is a shifted one of the function that follows."""
        first = function.address - self._before if function.nops else function.address
        label = record + self._before
        # Two NOPs right before a function are padding: one without a symbol has at least an instruction behind them.
        if first <= self._sequences.nops_of(label)[-1] + WORD_BYTES:
            return True
        return function.nops and first - record <= _NEAR_BYTES and not self._sequences.complete(label)

    def judge(self, record: int) -> tuple[Judgement, str, Function | None]:
        """Judge one record: what it is, what is wrong in words, and the function that it belongs to."""
        if not record:
            return Judgement.EMPTY, "", None
        if self._code.word(record) is None:
            return Judgement.NO_CODE, "points to where no code is", None
        owner = self.owner(record)
        if self._code.word(record) in BTI:
            return Judgement.ON_BTI, f"points at the BTI of {_name(owner)} and not at its first NOP", owner
        if owner and (distance := record - self._sequences.record_of(owner.address)):
            return *self._shifted(record, distance, owner), owner
        return *self._at_its_place(record, owner), owner

    def _shifted(self, record: int, distance: int, owner: Function) -> tuple[Judgement, str]:
        of_bytes = f"{abs(distance)} bytes {'behind' if distance > 0 else 'before'} its first NOP"
        if distance < 0:
            return Judgement.SHIFTED, f"belongs to {owner}, and points {of_bytes}"
        shifted = record <= self._sequences.nops_of(owner.address)[-1]
        return Judgement.SHIFTED if shifted else Judgement.INSIDE, f"points into the middle of {owner}, {of_bytes}"

    def _at_its_place(self, record: int, owner: Function | None) -> tuple[Judgement, str]:
        label = record + self._before
        if told := self._misaligned(record):
            return Judgement.MISALIGNED, told
        if owner and self._sequences.has_bti(owner.address) and not self._sequences.flavour.bti:
            return Judgement.STRAY_BTI, "a BTI in a kernel that is built without"
        places = self._sequences.nops_of(owner.address if owner else label)
        words = [self._code.word(place) for place in places]
        if any(word != NOP for word in words):
            told = " ".join("none" if word is None else f"{word:08x}" for word in words)
            flavour = self._sequences.flavour
            wanted = f"expected {flavour.before} NOPs before and {flavour.behind} behind the entry"
            return Judgement.NO_NOPS, f"{wanted}, found {told}"
        if not self._code.patched_later.isdisjoint(places):
            return Judgement.NO_NOPS, "its NOPs are those of an alternative or a jump label"
        return Judgement.RIGHT if owner else Judgement.NAMELESS, ""

    def _misaligned(self, record: int) -> str:
        if record % WORD_BYTES:
            return "not the address of an instruction"
        if not self._before:
            return ""
        told = f"the NOPs before the entry, which hold a pointer, are not aligned to {_POINTER_BYTES} bytes"
        if record % _POINTER_BYTES:
            return told
        section = self._code.section_of(record)
        # The loader puts a module's sections where their alignment allows.
        if self._code.elf.relocatable and section and section.alignment < _POINTER_BYTES:
            return f"{told}: {section.name} is aligned to {section.alignment}"
        return ""


def _name(owner: Function | None) -> str:
    return str(owner) if owner else "a function without a symbol"
