"""Runs inside gdb (`harness repro --attach`): connects to a stopped machine and gives its kernel and modules their
symbols. Everything is read from the memory of the machine, so it does not matter what its kernel can still do.

gdb has a Python of its own, which knows nothing of this package; so only the standard library is used here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

# Functions in which the CPU of a kernel report stands; if none does, the one that prints.
_REPORTERS = ("die", "__die", "die_kernel_fault", "__do_kernel_fault", "panic", "vpanic", "__warn", "__warn_printk",
              "warn_slowpath_fmt", "report_bug", "__report_bug", "kasan_report", "bust_spinlocks")  # fmt: skip
_PRINTERS = ("vprintk_emit", "console_unlock", "nbcon_cpu_emergency_exit")
_BANNER = b"Linux version"
_OF_EXCEPTION = 2  # FRAME_META_TYPE_PT_REGS
_MOST_MODULES = 1000  # a list that a bug has made a ring must end
_MOST_SECTIONS = 200
_MOST_FRAMES = 60
_SECTIONS = (".text", ".data", ".bss", ".rodata", ".init.text")  # that gdb is told; others have no symbols that matter


class Kernel:
    """The kernel behind gdb's connection. `gdb`: its module of that name."""

    def __init__(self, gdb: Any) -> None:
        self._gdb = gdb

    def number(self, expression: str) -> int:
        """The value of an expression, as an unsigned number. Raises gdb.error."""
        return int(self._gdb.parse_and_eval(f"(unsigned long)({expression})")) & (2**64 - 1)

    def offset(self, text: int) -> int | None:
        """How far the kernel is from where it was linked (KASLR), if its text is at `text` (0: unknown); None if this
        CPU does not see it there."""
        distances = [0, *([text - self.number("&_text")] if text else [])]
        return next((distance for distance in distances if self._is_there(distance)), None)

    def _is_there(self, distance: int) -> bool:
        try:
            address = (self.number("&linux_banner") + distance) & (2**64 - 1)
            return bytes(self._gdb.selected_inferior().read_memory(address, len(_BANNER))) == _BANNER
        except (self._gdb.error, self._gdb.MemoryError):
            return False

    def select_reporter(self) -> bool:
        """Select the CPU that stands in a kernel report; the first one if there is none."""
        threads = sorted(self._gdb.selected_inferior().threads(), key=lambda each: each.num)
        for wanted in (_REPORTERS, _PRINTERS):
            for thread in threads:
                thread.switch()
                if any(name in wanted for _, name in self.frames()):
                    return True
        if threads:
            threads[0].switch()
        return False

    def frames(self) -> Iterator[tuple[int, str]]:
        """Address and function of each frame, by the chain of frame records, which goes on through exceptions."""
        pc, frame = self.number("$pc"), self.number("$x29")
        for _ in range(_MOST_FRAMES):
            yield pc, self._function(pc)
            try:
                above, pc = self.number(f"*(unsigned long *){frame}"), self.number(f"*(unsigned long *){frame + 8}")
                if not above and not pc:
                    above, pc = self._interrupted(frame)
            except (self._gdb.error, self._gdb.MemoryError):
                return
            if above == frame or not pc:
                return
            frame = above

    def _interrupted(self, frame: int) -> tuple[int, int]:
        """Frame and address of what an exception interrupted: since 6.13 its record is two zeros and a type."""
        if self.number(f"*(unsigned long *){frame + 16}") != _OF_EXCEPTION:
            return 0, 0
        registers = f"((struct pt_regs *){frame - self.number('&((struct pt_regs *)0)->stackframe')})"
        return self.number(f"{registers}->regs[29]"), self.number(f"{registers}->pc")

    def _function(self, pc: int) -> str:
        text = str(self._gdb.execute(f"info symbol {pc:#x}", to_string=True))
        return text.split(None, 1)[0] if " in section " in text else "?"

    def modules(self) -> Iterator[tuple[str, dict[str, int]]]:
        """The name of each loaded module, and where its sections are."""
        head = self.number("&modules")
        to_list = self.number("&((struct module *)0)->list")
        entry = self.number("modules.next")
        for _ in range(_MOST_MODULES):
            if entry == head or not entry:
                return
            module = f"((struct module *){entry - to_list:#x})"
            try:
                name = self._gdb.parse_and_eval(f"(char *){module}->name").string()
                yield name, self._sections(module)
                entry = self.number(f"{module}->list.next")
            except (self._gdb.error, self._gdb.MemoryError, UnicodeDecodeError):
                return

    def _sections(self, module: str) -> dict[str, int]:
        """Where the sections of a module are; of kernels from 6.14 on the list of attributes ends with a null pointer,
        before that it has a number."""
        attributes = f"{module}->sect_attrs"
        found: dict[str, int] = {}
        for index in range(_MOST_SECTIONS):
            try:
                if index >= self._count(attributes):
                    break
                name, address = self._section(attributes, index)
            except (self._gdb.error, self._gdb.MemoryError, UnicodeDecodeError):
                break
            found[name] = address
        return found

    def _count(self, attributes: str) -> int:
        try:
            return self.number(f"{attributes}->nsections")
        except self._gdb.error:  # no such member
            return _MOST_SECTIONS

    def _section(self, attributes: str, index: int) -> tuple[str, int]:
        one = f"{attributes}->attrs[{index}]"
        try:
            address = self.number(f"{one}.address")
            name = f"{one}.battr.attr.name"
        except self._gdb.error:  # no such member
            if not self.number(f"{attributes}->grp.bin_attrs[{index}]"):
                raise
            address, name = self.number(f"{one}.private"), f"{one}.attr.name"
        return self._gdb.parse_and_eval(f"(char *){name}").string(), address


def attach(gdb: Any, told: dict[str, Any]) -> None:
    """Connect, place the kernel's symbols and those of its modules, and show where the CPU of the report stands."""
    for setting in ("pagination off", "confirm off", "architecture aarch64"):
        gdb.execute(f"set {setting}", to_string=True)
    gdb.execute(f"file {shlex.quote(told['vmlinux'])}")
    gdb.execute(f"target remote {told['socket']}", to_string=True)
    kernel = Kernel(gdb)
    offset = _offset(gdb, kernel, told["text"])
    if offset is None:
        _say(gdb, "the kernel was not found where vmlinux has it: symbols may be wrong")
    elif offset:
        gdb.execute("symbol-file", to_string=True)
        gdb.execute(f"symbol-file -o {offset:#x} {shlex.quote(told['vmlinux'])}")
    for name, sections in kernel.modules():
        _place(gdb, name, sections, told["modules"].get(name, ""))
    if not kernel.select_reporter():
        _say(gdb, "no CPU stands in a kernel report")
    for number, (pc, function) in enumerate(kernel.frames()):
        _say(gdb, f"#{number:<3} {pc:#018x} {function}")


def _offset(gdb: Any, kernel: Kernel, text: int) -> int | None:
    """A CPU that runs a program may not see the kernel's memory, so ask them all."""
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda each: each.num):
        thread.switch()
        found = kernel.offset(text)
        if found is not None:
            return found
    return None


def _place(gdb: Any, name: str, sections: dict[str, int], path: str) -> None:
    if ".text" not in sections or not path:
        _say(gdb, f"module {name}: no symbols; {'its file is not known' if not path else 'it has no .text'}")
        return
    others = [f"-s {each} {sections[each]:#x}" for each in _SECTIONS[1:] if sections.get(each)]
    gdb.execute(f"add-symbol-file {shlex.quote(path)} {sections['.text']:#x} {' '.join(others)}", to_string=True)
    _say(gdb, f"module {name} at {sections['.text']:#x}: {path}")


def _say(gdb: Any, text: str) -> None:
    """Print a line. Names come from the machine's memory: no escape sequence in one may reach the terminal."""
    gdb.write("".join(each if each.isprintable() else "?" for each in text) + "\n")


if __name__ == "__main__":
    import gdb as _gdb  # type: ignore[import-untyped]  # only gdb has it

    attach(_gdb, json.loads(globals()["ATTACH"]))
