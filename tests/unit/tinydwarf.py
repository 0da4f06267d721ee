"""A kernel of one section with the line table of one file, of a test's own making (DWARF 4)."""

from __future__ import annotations

import struct

from tests.unit.tinyelf import RET, TinyElf

ADVANCE = "K"  # an opcode: the next line, 16 bytes on
_BASE = 13  # the first opcode that is such a step


def with_lines(steps: str, *, path: str, address: int = 0xFFFF800080010000) -> TinyElf:
    """Each character of `steps` is an opcode of the line table, such as ADVANCE."""
    file = TinyElf()
    file.code(".text", RET, address=address)
    name = path.encode() + b"\0"
    standard = bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))
    # 4 bytes for an instruction, 1 operation in it, is_stmt, line -5 to 8; no directories, one file
    head = struct.pack("<BBBbBB", 4, 1, 1, -5, 14, _BASE) + standard + b"\0" + name + bytes(4)
    start = b"\0\x09\x02" + struct.pack("<Q", address)
    program = start + steps.encode("latin-1") + b"\0\x01\x01"
    table = struct.pack("<HI", 4, len(head)) + head + program
    file.section(".debug_line", struct.pack("<I", len(table)) + table, flags=0)
    # a unit of one entry: DW_AT_name as a string, DW_AT_stmt_list
    file.section(".debug_abbrev", bytes((1, 0x11, 0, 0x03, 0x08, 0x10, 0x17, 0, 0, 0)), flags=0)
    unit = struct.pack("<HIB", 4, 0, 8) + b"\x01" + name + struct.pack("<I", 0)
    file.section(".debug_info", struct.pack("<I", len(unit)) + unit, flags=0)
    return file
