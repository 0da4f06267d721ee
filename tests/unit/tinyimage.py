"""Small raw arm64 Images of a test's own making: code, a table of entries, kallsyms in every layout that there was."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.unit.tinyelf import NOP, RET

BASE = 0xFFFF800080000000
TEXT, RELATIVE = 0x10000, 1027
_PLAIN = "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
LAYOUTS = ("4.19", "5.0", "6.1", "6.3", "6.4", "7.3", "7.3 in words")  # the last: aligned to 4 bytes, not to 8
LONG = "long_" + "x" * 150  # more than 127 tokens
COUNT = 300  # more than 256 symbols, so that there is a second marker
BANNER = "Linux version 7.3.4-tiny (who@where) (gcc 12.2.0) #1 SMP"


@dataclass(frozen=True, kw_only=True)
class TinyImage:
    """Every second function has NOPs and a record. `layout`: of kallsyms, by a version that has it; `relocations`:
    whether the table is in relocations, with zeros in place; `all_symbols`: CONFIG_KALLSYMS_ALL, also data; `before`:
    two NOPs before the entries as well."""

    layout: str = "7.3"
    relocations: bool = True
    all_symbols: bool = True
    before: bool = True
    kallsyms: bool = True

    @property
    def names(self) -> list[str]:
        return [LONG if number == 7 else f"function_{number}" for number in range(COUNT)]

    @property
    def recorded(self) -> set[str]:
        return set(self.names[::2])

    def place(self, number: int) -> int:
        return TEXT + 16 + 32 * number

    @property
    def text_end(self) -> int:
        return self.place(COUNT)

    def symbols(self) -> list[tuple[str, str, int]]:
        """(name, kind, place), as in System.map."""
        found = [("_stext", "T", TEXT), ("_etext", "T", self.text_end)]
        found += [(name, "Tt"[number % 2], self.place(number)) for number, name in enumerate(self.names)]
        if self.all_symbols:
            table, end = self.table_at, self.table_at + 8 * len(self.recorded)
            found += [("_text", "T", 0), ("__start_mcount_loc", "D", table), ("__stop_mcount_loc", "D", end)]
            found += [("linux_banner", "D", self.banner_at)]
        return sorted(found, key=lambda symbol: symbol[2])

    @property
    def banner_at(self) -> int:
        return self.text_end + 64

    @property
    def kallsyms_at(self) -> int:
        return self.banner_at + 256

    @property
    def table_at(self) -> int:
        return self.kallsyms_at + 0x8000

    def system_map(self) -> str:
        return "".join(f"{BASE + place:016x} {kind} {name}\n" for name, kind, place in self.symbols())

    def content(self) -> bytes:
        image = bytearray(self.table_at + 8 * COUNT + 24 * COUNT)
        struct.pack_into("<II6Q4s", image, 0, 0xFA405A4D, 0x14000000, 0, len(image), 0xA, 0, 0, 0, b"ARMd")
        for number in range(COUNT):
            self._code(image, number)
        image[self.banner_at : self.banner_at + len(BANNER)] = BANNER.encode()
        base_at = None
        if self.kallsyms:
            table, base_at = self._kallsyms()
            assert len(table) < 0x8000
            image[self.kallsyms_at : self.kallsyms_at + len(table)] = table
        self._table(image, base_at)
        return bytes(image)

    def _code(self, image: bytearray, number: int) -> None:
        traced = not number % 2
        before = [NOP if traced and self.before else RET] * 2
        behind = [NOP if traced else RET] * 2
        struct.pack_into("<6I", image, self.place(number) - 8, *before, *behind, RET, RET)

    def _table(self, image: bytearray, base_at: int | None) -> None:
        entries = [self.place(number) - (8 if self.before else 0) for number in range(0, COUNT, 2)]
        pointers = [(self.table_at + 8 * place, entry) for place, entry in enumerate(entries)]
        if base_at is not None:
            pointers.insert(0, (self.kallsyms_at + base_at, self.symbols()[0][2]))
        # What every kernel has: pointers to functions.
        more = self.table_at + 8 * len(entries)
        pointers += [(more + 8 * place, self.place(place)) for place in range(1, len(entries), 2)]
        relocated_at = self.table_at + 8 * COUNT
        for number, (place, value) in enumerate(pointers):
            if self.relocations:
                struct.pack_into("<QQQ", image, relocated_at + 24 * number, BASE + place, RELATIVE, BASE + value)
            else:
                struct.pack_into("<Q", image, place, BASE + value)

    def _kallsyms(self) -> tuple[bytes, int | None]:
        """The tables, and where in them the base is that addresses are relative to."""
        symbols = self.symbols()
        names, markers = b"", []
        for number, (name, kind, _) in enumerate(symbols):
            if not number % 256:
                markers.append(len(names))
            text = (kind + name).encode().replace(b"function", b"\x80")
            length = bytes([len(text)]) if len(text) < 0x80 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
            names += length + text
        tokens = [bytes([code]) if chr(code) in _PLAIN else b"" for code in range(256)]
        tokens[0x80] = b"function"
        starts = [len(b"".join(token + b"\0" for token in tokens[:code])) for code in range(256)]
        first = symbols[0][2]
        offsets = [place - first for _, _, place in symbols]
        head = [struct.pack("<I", len(symbols)), names]
        head.append(struct.pack(f"<{len(markers)}{'Q' if self.layout == '4.19' else 'I'}", *markers))
        tail = [b"".join(token + b"\0" for token in tokens), struct.pack("<256H", *starts)]
        order = b"".join(number.to_bytes(3, "big") for number in range(len(symbols)))
        base = b"\0" * 8
        if self.layout in ("4.19", "5.0", "6.1", "6.3"):
            seqs = [order] if self.layout == "6.3" else []
            return _joined([_offsets(offsets), base, *head, *seqs, *tail], base)
        if self.layout == "6.4":
            return _joined([*head, *tail, _offsets(offsets), base, order], base)
        if self.layout == "7.3 in words":
            words = tail[0] + bytes((4 - len(tail[0])) % 8) + tail[1]
            before = _joined(head, None)[0] + words
        else:
            before = _joined([*head, *tail], None)[0]
        at = self.kallsyms_at + len(before)
        own = [place - (at + 4 * number) for number, (_, _, place) in enumerate(symbols)]
        return before + _joined([_offsets(own), order], None)[0], None


def _offsets(offsets: list[int]) -> bytes:
    return struct.pack(f"<{len(offsets)}i", *offsets)


def _joined(parts: list[bytes], base: bytes | None) -> tuple[bytes, int | None]:
    """The parts, each aligned to 8 bytes, and where `base` is (the same object)."""
    out, base_at = b"", None
    for part in parts:
        if part is base:
            base_at = len(out)
        out += part + bytes(-len(part) % 8)
    return out, base_at
