"""Our own ftrace_ops, in the module ``watch``: how often a function was called, and what the ops received."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from harness.run.api.guest import number
from harness.run.api.modules import Module

_SLOTS = 4


@dataclass(frozen=True)
class Seen:
    """What an ops received at the last call. `registers`: ``x0`` to ``x30``, ``sp``, ``pc`` and ``pstate``, as far as
    this kind of ops receives them."""

    hits: int
    ip: int
    parent_ip: int
    registers: dict[str, int]


class Watch:
    """One ops, attached to one function."""

    def __init__(self, module: Module, slot: int) -> None:
        self._module = module
        self.slot = slot

    def seen(self) -> Seen:
        for line in self._module.read("report").splitlines():
            words = line.split()
            values = {name: number(value, name, base=16) for name, value in zip(words[::2], words[1::2], strict=False)}
            assert {"slot", "hits", "ip", "parent_ip"} <= values.keys(), f"watch: expected its report, found {line!r}"
            if values.pop("slot") == self.slot:
                return Seen(values.pop("hits"), values.pop("ip"), values.pop("parent_ip"), values)
        raise AssertionError(f"watch: slot {self.slot} is not attached")


class Watches:
    """Attaches up to four ops."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._free = list(range(_SLOTS))

    def would_attach(self, function: str, kind: str) -> bool:
        """Whether the kernel accepts such an ops, which is detached again immediately."""
        slot = self._free[0]
        if self._module.refuses("attach", f"{slot} {kind} {function}"):
            return False
        self._module.write("detach", str(slot))
        return True

    def toggled(self, function: str, kind: str) -> str:
        """Shell commands that attach an ops and detach it again."""
        slot, files = self._free[-1], self._module.files
        return f"echo {slot} {kind} {function!r} > {files}/attach; echo {slot} > {files}/detach"

    @contextlib.contextmanager
    def attach(self, function: str, kind: str = "plain") -> Iterator[Watch]:
        """Watch `function` for the duration of the ``with``, with an ops that requests no registers (``plain``),
        requests all of them (``regs``) or reads struct ftrace_regs (``args``)."""
        slot = self._free.pop(0)
        self._module.write("attach", f"{slot} {kind} {function}")
        try:
            yield Watch(self._module, slot)
        finally:
            self._module.write("detach", str(slot))
            self._free.insert(0, slot)
