"""The flavours of instrumentation: how many NOPs the compiler puts around a function's entry, and what says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.parse.code import BTI, NOP, WORD_BYTES, Code


@dataclass(frozen=True)
class Flavour:
    """How many NOPs the compiler puts before and behind a function's entry; whether a BTI may stand at the entry."""

    before: int
    behind: int
    bti: bool


def flavour_of(config: Mapping[str, str]) -> Flavour | None:
    """The flavour that a kernel configuration means; None where it has no NOPs but calls of _mcount, or nothing."""
    bti = config.get("ARM64_BTI_KERNEL") == "y"
    if config.get("DYNAMIC_FTRACE_WITH_CALL_OPS") == "y":
        return Flavour(2, 2, bti)
    if "y" in (config.get("DYNAMIC_FTRACE_WITH_ARGS"), config.get("DYNAMIC_FTRACE_WITH_REGS")):
        return Flavour(0, 2, bti)
    return None


class Sequences:
    """The sequences of one flavour at the entries of functions, which are named by their addresses."""

    def __init__(self, code: Code, flavour: Flavour) -> None:
        self.code = code
        self.flavour = flavour
        self.before = flavour.before * WORD_BYTES

    def has_bti(self, function: int) -> bool:
        return self.code.word(function) in BTI

    def record_of(self, function: int) -> int:
        """Return where the function's record belongs: at its first NOP."""
        if self.before:
            return function - self.before
        return function + WORD_BYTES if self.has_bti(function) else function

    def labels_of(self, record: int) -> tuple[int, ...]:
        """Return the functions that may have this record: with a BTI it starts one instruction earlier."""
        return (record + self.before,) if self.before else (record, record - WORD_BYTES)

    def nops_of(self, function: int) -> list[int]:
        """Return the places where the function's NOPs belong."""
        behind = function + (WORD_BYTES if self.has_bti(function) else 0)
        last = behind + self.flavour.behind * WORD_BYTES
        return [*range(function - self.before, function, WORD_BYTES), *range(behind, last, WORD_BYTES)]

    def complete(self, function: int) -> bool:
        """Whether all of them are there."""
        later = self.code.patched_later
        return all(self.code.word(place) == NOP and place not in later for place in self.nops_of(function))
