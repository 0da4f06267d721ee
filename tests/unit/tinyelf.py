"""Small ELF files of a test's own making."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

REL, EXEC = 1, 2
PROGBITS, SYMTAB, STRTAB, RELA = 1, 2, 3, 4
TEXT, DATA = 0x6, 0x3  # SHF_ALLOC with SHF_EXECINSTR or SHF_WRITE
FUNC, NOTYPE = 2, 0
NOP, RET, STP, BTI_C = 0xD503201F, 0xD65F03C0, 0xA9BF7BFD, 0xD503245F


@dataclass
class TinyElf:
    """Sections in order, then symbols; `bytes()` makes the file. The first section has number 1."""

    kind: int = EXEC
    _sections: list[tuple[str, int, int, int, bytes, int, int]] = field(default_factory=list)
    _symbols: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)

    def section(
        self, name: str, content: bytes, *, flags: int = DATA, address: int = 0, kind: int = PROGBITS, info: int = 0
    ) -> int:
        self._sections.append((name, kind, flags, address, content, 0, info))
        return len(self._sections)

    def code(self, name: str, *words: int, address: int = 0) -> int:
        return self.section(name, struct.pack(f"<{len(words)}I", *words), flags=TEXT, address=address)

    def symbol(
        self, name: str, address: int, *, size: int = 0, section: int = 1, kind: int = FUNC, binding: int = 1
    ) -> int:
        self._symbols.append((name, kind, binding, section, address, size))
        return len(self._symbols)

    def relocations(self, section: int, *entries: tuple[int, int, int, int]) -> None:
        """(offset, type, symbol, addend) each; `section`: which they are for."""
        content = b"".join(struct.pack("<QQq", at, symbol << 32 | kind, addend) for at, kind, symbol, addend in entries)
        self.section(f".rela{section}", content, kind=RELA, flags=0, info=section)

    def bytes(self) -> bytes:
        names, table = bytearray(b"\0"), bytearray(24)
        for name, kind, binding, section, address, size in self._symbols:
            table += struct.pack("<IBBHQQ", len(names), binding << 4 | kind, 0, section, address, size)
            names += name.encode() + b"\0"
        number = len(self._sections) + 1
        sections: list[tuple[str, int, int, int, bytes, int, int]]
        sections = [("", 0, 0, 0, b"", 0, 0), *self._sections]
        sections += [
            (".symtab", SYMTAB, 0, 0, bytes(table), number + 1, 1),
            (".strtab", STRTAB, 0, 0, bytes(names), 0, 0),
        ]
        sections = [(*s[:5], number if s[1] == RELA else s[5], s[6]) for s in sections]
        shstr = b"\0".join(name.encode() for name in [*(s[0] for s in sections), ".shstrtab"]) + b"\0"
        sections.append((".shstrtab", STRTAB, 0, 0, shstr, 0, 0))
        body, headers, at, name_at = b"", b"", 64, 0
        for name, kind, flags, address, content, link, info in sections:
            entry = 24 if kind in (SYMTAB, RELA) else 0
            fields = (name_at, kind, flags, address, at + len(body), len(content), link, info, 8, entry)
            headers += struct.pack("<IIQQQQIIQQ", *fields)
            body += content + bytes(-len(content) % 8)
            name_at += len(name) + 1
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        rest = (self.kind, 183, 1, 0, 0, at + len(body), 0, 64, 0, 0, 64, len(sections), len(sections) - 1)
        return ident + struct.pack("<HHIQQQIHHHHHH", *rest) + body + headers

    def stream(self) -> BinaryIO:
        return io.BytesIO(self.bytes())
