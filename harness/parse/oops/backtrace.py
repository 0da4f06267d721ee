"""Collects registers and backtraces of a report, to find the function that it is booked on."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.parse.oops.functions import is_frame_of_interest, is_interrupt_entry, is_place, symbol

SYMBOL = r"[A-Za-z_$][\w.$]*"
FUNC = rf"(?P<func>{SYMBOL})\+0x"

_STACKS = 16  # of one report,
_FRAMES = 64  # and of one stack: what comes behind names no place

TRACE = re.compile(r"(?:kmemleak:\s+)?(?:[Cc]all [Tt]race:|stack backtrace:|backtrace(?: \(crc [0-9a-f]+\))?:)")
_FRAME = re.compile(
    rf"(?:kmemleak:)?\s*(?:\[<[0-9a-f]+>\] )?{FUNC}[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]*\])?(?: \([A-Z]+\))?$"
)
_PC_LR = re.compile(rf"(?P<reg>pc|lr) ?: (?:{FUNC})?")
_CPU = re.compile(r"CPU: \d|Task dump for CPU \d|NMI backtrace for cpu \d")
# Stacks of somebody else: who allocated, the thread that ends grace periods, who switched preemption off.
_ASIDE = re.compile(
    r"(?:[Aa]llocated|[Ff]reed) (?:by|in) |Last potentially|Second to last|Uninit was |The buggy"
    r"|Preemption disabled at:|(?:rcu: )?RCU grace-period kthread stack dump:"
)
_LAST_RESORT = re.compile(r"(?:rcu: )?Stack dump where RCU GP kthread last ran:")


class _Role(enum.Enum):
    MAIN = "main"
    LAST_RESORT = "last resort"  # told where nothing else is
    ASIDE = "aside"


@dataclass
class _Stack:
    role: _Role
    regs: dict[str, str | None] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.regs and not self.frames


class Backtraces:
    """The stacks of one report, in the order printed."""

    def __init__(self) -> None:
        self._stacks = [_Stack(_Role.MAIN)]
        self.traced = False  # a backtrace has begun

    def learn(self, body: str, *, after_marker: bool) -> bool:
        """Process a line, and return whether it belongs to a stack. With `after_marker`, only the stack behind "Call
        trace:" is the report's own: other stacks are printed before it."""
        if match := _FRAME.match(body):
            aside = after_marker and not self.traced
            stack = self._stack(_Role.ASIDE) if aside and self._last.role is _Role.MAIN else self._last
            if len(stack.frames) < _FRAMES:
                stack.frames.append(symbol(match["func"]))
            return True
        if match := _PC_LR.match(body):
            stack = self._stack(_Role.MAIN) if self._last.frames else self._last
            stack.regs.setdefault(match["reg"], symbol(match["func"]) if match["func"] else None)
            return True
        if TRACE.match(body):
            self.traced = True
            if self._last.frames:
                self._stack(_Role.MAIN)
            return True
        return self._learn_heading(body)

    def _learn_heading(self, body: str) -> bool:
        if _ASIDE.match(body):
            self._stack(_Role.ASIDE)
        elif _LAST_RESORT.match(body):
            self._stack(_Role.LAST_RESORT)
        elif _CPU.match(body):
            if self._last.frames or self._last.role is _Role.ASIDE:
                self._stack(_Role.MAIN)
        else:
            return False
        return True

    @property
    def _last(self) -> _Stack:
        return self._stacks[-1]

    def _stack(self, role: _Role) -> _Stack:
        """A new stack begins."""
        if self._last.is_empty:
            self._stacks.pop()
        if len(self._stacks) == _STACKS:
            self._stacks.pop()  # the first ones tell
        self._stacks.append(_Stack(role))
        return self._last

    @property
    def pc(self) -> str | None:
        """Return the executed function according to the first registers."""
        return next((stack.regs.get("pc") for stack in self._of(_Role.MAIN) if stack.regs), None)

    @property
    def innermost(self) -> str | None:
        """The function that was executed, as far as the first backtrace tells: where no register does."""
        first = next((stack for stack in self._of(_Role.MAIN) if not stack.is_empty), None)
        return first.frames[0] if first is not None and not first.regs and first.frames else None

    @property
    def has_place(self) -> bool:
        """Return whether any frame or register seen so far may show the location."""
        return any(not stack.is_empty for stack in self._stacks if stack.role is not _Role.ASIDE)

    def executed(self, *, skip_helpers: bool, skip_allocators: bool) -> str | None:
        """The function at the program counter or, if that is a helper or has no name, the one that called it."""
        for stack in self._of(_Role.MAIN):
            if stack.regs:
                for register in ("pc", "lr"):
                    name = stack.regs.get(register)
                    if name and is_place(name, skip_helpers=skip_helpers, skip_allocators=skip_allocators):
                        return name
                return None
        return None

    def caller(self, *, in_any: bool, interrupted: bool, skip_allocators: bool) -> str | None:
        """The innermost function of the report's backtrace that a fault can be booked on. `in_any`: or of the next
        backtrace, where it has none. `interrupted`: where no registers tell, it was found by a timer, whose frames
        come first."""
        stacks = [stack for stack in self._of(_Role.MAIN) if stack.frames]
        stacks = [*(stacks if in_any else stacks[:1]), *self._of(_Role.LAST_RESORT)]
        for stack in stacks:
            for name in _interrupted(stack.frames) if interrupted and not stack.regs else stack.frames:
                if is_frame_of_interest(name) and is_place(name, skip_allocators=skip_allocators):
                    return name
        return None

    def _of(self, role: _Role) -> Iterator[_Stack]:
        return (stack for stack in self._stacks if stack.role is role)


def _interrupted(frames: list[str]) -> list[str]:
    """What ran when the innermost interrupt came."""
    for at, name in enumerate(frames):
        if is_interrupt_entry(name) and not (at + 1 < len(frames) and is_interrupt_entry(frames[at + 1])):
            return frames[at + 1 :]
    return frames
