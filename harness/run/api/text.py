"""The kernel's current text: ftrace's call sites and their destinations (arch/arm64/kernel/ftrace.c)."""

from __future__ import annotations

from dataclasses import dataclass

from harness.run.api.guest import number
from harness.run.api.modules import Module

NOP = 0xD503201F
MOV_X9_X30 = 0xAA1E03E9
BTI_C = 0xD503245F
_ENTRIES = ("ftrace_caller", "ftrace_regs_caller")
_BEFORE, _AFTER = 4, 6  # instructions read around a function's entry


@dataclass(frozen=True)
class CallSite:
    """The first instructions of a function, and what ftrace put there.

    `address`: of the function; `words`: its first instructions, without a BTI; `at`: the address of the first of them;
    `literal`: the eight bytes before the function, which contain the ops under CALL_OPS.
    """

    address: int
    at: int
    words: tuple[int, ...]
    literal: int

    @property
    def ip(self) -> int:
        """The address of the instruction that becomes a call: ftrace's rec->ip."""
        return self.at + 4

    @property
    def is_called(self) -> bool:
        return _is_bl(self.words[1])

    @property
    def destination(self) -> int:
        """The destination of the branch with link."""
        assert self.is_called, f"expected a bl at {self.ip:#x}, found {self.words[1]:#010x}"
        return self.ip + 4 * _signed(self.words[1], 26)


class Text:
    """Reads instructions with the help of the module ``text``."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._entries: dict[int, str] = {}

    def words(self, symbol: str, offset: int, count: int) -> tuple[int, list[int]]:
        """The address of `symbol` (``function`` or ``module:function``), and `count` instructions, starting `offset`
        instructions after it."""
        self._module.write("at", f"{symbol} {offset} {count}")
        words = [number(word, f"text: {symbol}", base=16) for word in self._module.read("words").split()]
        assert len(words) == count + 1, (
            f"text: {symbol}: expected an address and {count} words, found {len(words)} words"
        )
        return words[0], words[1:]

    def site(self, symbol: str) -> CallSite:
        """The current call site of a function."""
        address, words = self.words(symbol, -_BEFORE, _BEFORE + _AFTER)
        before, after = words[:_BEFORE], words[_BEFORE:]
        skip = 1 if after[0] == BTI_C else 0
        literal_end = _BEFORE - (1 if (address // 4) % 2 else 0)  # it is aligned to eight bytes
        literal = before[literal_end - 2] | before[literal_end - 1] << 32
        return CallSite(address, address + 4 * skip, tuple(after[skip:]), literal)

    def address(self, symbol: str) -> int:
        """The address of a symbol of the kernel."""
        return self.words(symbol, 0, 0)[0]

    def entry_called(self, symbol: str) -> tuple[str, bool]:
        """The entry point of ftrace that a function's call site reaches, and whether through a trampoline (PLT)."""
        goal = self.site(symbol).destination
        known = self._entries or self._find_entries()
        if goal in known:
            return known[goal], False
        through = self._trampoline(goal)
        assert through in known, f"{symbol}: the call leads to {goal:#x}, expected {' or '.join(_ENTRIES)}"
        return known[through], True

    def _find_entries(self) -> dict[int, str]:
        for name in _ENTRIES:
            self._module.write("at", f"{name} 0 0")
            found = self._module.try_read("words")  # 6.2 removed ftrace_regs_caller
            if found:
                self._entries[number(found, name, base=16)] = name
        return self._entries

    def _trampoline(self, address: int) -> int:
        """Where a PLT entry (adrp x16; add x16; br x16) leads."""
        adrp, add, br, *_ = self.words(f"{address:#x}", 0, 3)[1]
        assert adrp & 0x9F00001F == 0x90000010, f"expected adrp x16 at {address:#x}, found {adrp:#010x}"
        assert add & 0xFFC003FF == 0x91000210, f"expected add x16, x16 at {address + 4:#x}, found {add:#010x}"
        assert br == 0xD61F0200, f"expected br x16 at {address + 8:#x}, found {br:#010x}"
        pages = _signed((adrp >> 29 & 3) | (adrp >> 5 & 0x7FFFF) << 2, 21)
        return (address & ~0xFFF) + (pages << 12) + (add >> 10 & 0xFFF)


def _is_bl(word: int) -> bool:
    return word >> 26 == 0b100101


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
