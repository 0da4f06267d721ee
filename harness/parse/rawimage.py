"""A raw arm64 Image, as distributions ship it (vmlinuz), made into what `parse/elf.py` reads.

Sections and symbol table are gone, but the kernel carries its own symbols (kallsyms), the table of function entries,
and the relocations that it applies to itself. From these an ELF file in memory is made: code, table, symbols. Symbols
have no sizes there, and labels in assembler files look like functions.

The entries are absolute addresses. A relocatable kernel holds them in R_AARCH64_RELATIVE relocations (the place itself
is zero) or, where those are packed (RELR), in place. The address that the kernel was linked for is in neither: it
follows from the address that kallsyms is relative to, or from most pointers into code being to symbols.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import UserError
from harness.limits import Deadline
from harness.parse.elf import FUNC, SHF_ALLOC, SHF_EXECINSTR, Elf
from harness.parse.kallsyms import Kallsyms, KernelSymbol, find_kallsyms

_MAGIC_AT, _MAGIC = 0x38, b"ARMd"
_BIG_ENDIAN = 1
_GRANULE = 1 << 16  # kernels are linked at multiples of it
_REACH = 1 << 27  # more than an Image has
_RELATIVE = struct.pack("<Q", 1027)  # r_info of R_AARCH64_RELATIVE
_RELA = struct.Struct("<QQQ")
_FEWEST_RELOCATIONS = 64
_FEWEST_ENTRIES = 16
_SAMPLE = 500
_NOP = 0xD503201F
_CALL = 0x25  # the topmost 6 bits of bl
_KERNEL_HALF = 0xFFFF << 48
_NOTYPE = 0
# The linker's own symbols in code, which are no functions.
_MAP_LINE = re.compile(r"^([0-9a-f]{16}) (\S) (\S+)$", re.MULTILINE)
_MAPPING = ("$", "__pi_$", "__kvm_nvhe_$", "__efistub_$")  # where code and data begin
_BANNER = b"Linux version "
_MARKS = frozenset({"_text", "_stext", "_etext", "_sinittext", "_einittext", "_end", "_edata"})


def is_image(data: bytes) -> bool:
    """Whether `data` begins with the header of an arm64 Image."""
    return data[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def flattened(elf: Elf) -> bytes:
    """Return what the build makes an Image of: a kernel's sections, each at its address. Empty if `elf` has no code, or
    is larger than a kernel."""
    loaded = [each for each in elf.sections if each.flags & SHF_ALLOC and each.kind != "SHT_NOBITS" and each.size]
    code = [each for each in loaded if each.flags & SHF_EXECINSTR]
    if elf.relocatable or not code:
        return b""
    begin, end = code[0].address, max(each.address + each.size for each in loaded)
    if end - begin > _REACH or min(each.address for each in loaded) < begin:
        return b""
    image = bytearray(end - begin)
    for section in loaded:
        image[section.address - begin : section.address - begin + section.size] = elf.content(section)
    return bytes(image)


@dataclass(frozen=True, kw_only=True)
class Made:
    """An ELF file, and where its symbols are from."""

    elf: bytes
    symbols_from: str


def elf_of(image: bytes, *, name: str, deadline: Deadline, system_map: str = "") -> Made:
    """Return an ELF file with the code, the entries' table and the symbols of a raw Image. `system_map`: the text of
    its System.map, which has more symbols than kallsyms may have. Raises UserError if there are no symbols, or no table
    that can be found, or when the time is over."""
    if int.from_bytes(image[24:32], "little") & _BIG_ENDIAN:
        raise UserError(
            f"{name}: expected a little-endian kernel, found a big-endian one; only its vmlinux can tell more"
        )
    if symbols := _of_system_map(system_map, image):
        base = next(address for symbol, _, address in symbols if symbol == "_text")
        found = Kallsyms(tuple(KernelSymbol(symbol, kind, at - base) for symbol, kind, at in symbols), None)
        return Made(elf=_Raw(image, found, name, base).elf(), symbols_from="System.map")
    kallsyms = find_kallsyms(image, name=name, deadline=deadline)
    if kallsyms is None:
        raise UserError(
            f"{name}: expected a kernel with its symbols (CONFIG_KALLSYMS, or System.map beside it), found a raw Image "
            "without any: its functions can't be told apart; give its vmlinux"
        )
    return Made(elf=_Raw(image, kallsyms, name).elf(), symbols_from="kallsyms")


def _of_system_map(text: str, image: bytes) -> list[tuple[str, str, int]]:
    """(name, kind, address) of the symbols; empty if the file belongs to another kernel, or is none (Debian's says
    where to find it)."""
    symbols = [(match[3], match[2], int(match[1], 16)) for match in _MAP_LINE.finditer(text)]
    places = {name: address for name, _, address in symbols}
    if not {"_text", "_stext", "_etext", "linux_banner"} <= places.keys():
        return []
    at = places["linux_banner"] - places["_text"]
    return symbols if at > 0 and image[at : at + len(_BANNER)] == _BANNER else []


@dataclass(frozen=True)
class _Part:
    name: str
    begin: int
    end: int
    flags: int


class _Raw:
    """`base`: the address of the Image's first byte, if that is known."""

    def __init__(self, image: bytes, kallsyms: Kallsyms, name: str, base: int | None = None) -> None:
        self._name = name
        self._relocations = _relocations(image)
        self._base, shift = self._bases(image, kallsyms) if base is None else (base, 0)
        self._symbols = [KernelSymbol(each.name, each.kind, each.place + shift) for each in kallsyms.symbols]
        self._places = {each.name: each.place for each in reversed(self._symbols)}
        self._image = self._relocated(image)

    def _bases(self, image: bytes, kallsyms: Kallsyms) -> tuple[int, int]:
        """The address of the Image's first byte, and what has to be added to the symbols' places."""
        at = kallsyms.base_at
        if at is None or at + 8 > len(image):
            return self._linked_at(image, kallsyms), 0
        text = next((each.place for each in kallsyms.symbols if each.name == "_text"), None)
        stored = int.from_bytes(image[at : at + 8], "little")
        if stored & _KERNEL_HALF == _KERNEL_HALF:
            first = stored + text if text is not None else (stored - 1) // _GRANULE * _GRANULE
            return first, stored - first
        for offset, value in self._relocations:
            first = offset - at
            if not first % _GRANULE and first <= value <= first + _GRANULE and (text is None or value == first - text):
                return first, value - first
        raise self._no_table("the address that its symbols are relative to is not in its relocations")

    def _linked_at(self, image: bytes, kallsyms: Kallsyms) -> int:
        """The address with which most pointers are to symbols."""
        pointers = [value for _, value in self._relocations] or _pointers_in(image)
        if not pointers:
            raise self._no_table("it holds no pointers")
        # Most are near each other; others are numbers that look like pointers.
        (usual, _), *_ = Counter(pointer // _REACH for pointer in pointers).most_common(1)
        pointers = [pointer for pointer in pointers if usual - 1 <= pointer // _REACH <= usual + 1]
        sample = pointers[:: max(len(pointers) // _SAMPLE, 1)]
        known = {each.place for each in kallsyms.symbols}
        lowest = min(sample) // _GRANULE * _GRANULE
        best, most = 0, 0
        highest = max(sample)
        for first in range(lowest + _REACH, max(highest - 2 * _REACH, _KERNEL_HALF), -_GRANULE):
            hits = sum(pointer - first in known for pointer in sample)
            if hits > most:
                best, most = first, hits
        if most < len(sample) // 4:
            raise self._no_table("the address that it was linked for can't be told")
        return best

    def _no_table(self, why: str) -> UserError:
        return UserError(f"{self._name}: expected the table of function entries in the raw Image, but {why}; give its "
                         "vmlinux")  # fmt: skip

    def _relocated(self, image: bytes) -> bytearray:
        data = bytearray(image)
        for offset, value in self._relocations:
            place = offset - self._base
            if 0 <= place <= len(data) - 8:
                struct.pack_into("<Q", data, place, value)
        return data

    # -- the table ------------------------------------------------------------------------------------------------

    def _table(self) -> tuple[int, int]:
        begin, end = self._places.get("__start_mcount_loc"), self._places.get("__stop_mcount_loc")
        if begin is not None and end is not None:
            if not 0 <= begin <= end <= len(self._image):
                raise self._no_table("its bounds are not in the Image")
            return begin, end
        return self._longest_run()

    def _longest_run(self) -> tuple[int, int]:
        """Without CONFIG_KALLSYMS_ALL the table's bounds have no symbols: it is the longest run of pointers to
        NOPs in code, or to calls."""
        code = memoryview(self._image)[: len(self._image) // 4 * 4].cast("I")
        ranges = [range(part.begin, part.end) for part in self._code()]
        best, run = (0, 0), 0
        start = ranges[-1].start // 8 * 8
        words = array("Q", bytes(self._image[start : len(self._image) // 8 * 8]))
        for number, word in enumerate(words):
            place = word - self._base
            inside = place >= 0 and any(place in each for each in ranges)
            if inside and (code[place // 4] == _NOP or code[place // 4] >> 26 == _CALL):
                run += 1
                if run > best[1] - best[0]:
                    best = (number + 1 - run, number + 1)
            else:
                run = 0
        if best[1] - best[0] < _FEWEST_ENTRIES:
            raise self._no_table("it was not found: the kernel has no function tracing, or keeps its table elsewhere")
        return start + 8 * best[0], start + 8 * best[1]

    # -- the file -------------------------------------------------------------------------------------------------

    def _code(self) -> list[_Part]:
        bounds = (
            (".text", "_stext", "_etext"),
            (".init.text", "_sinittext", "_einittext"),
            (".exit.text", "__exittext_begin", "__exittext_end"),
        )
        parts = []
        for name, begins, ends in bounds:
            begin, end = self._places.get(begins, -1), self._places.get(ends, -1)
            if 0 <= begin < end <= len(self._image):
                parts.append(_Part(name, begin // 4 * 4, end // 4 * 4, SHF_ALLOC | SHF_EXECINSTR))
        if not parts:
            raise self._no_table("kallsyms has no _stext and _etext")
        return parts

    def _alternatives(self) -> list[_Part]:
        """The table of alternatives, whose NOPs are no function entries."""
        begin, end = self._places.get("__alt_instructions", -1), self._places.get("__alt_instructions_end", -1)
        return [_Part(".altinstructions", begin, end, SHF_ALLOC)] if 0 <= begin < end <= len(self._image) else []

    def elf(self) -> bytes:
        """The ELF file."""
        begin, end = self._table()
        parts = list(_without_gaps(self._code() + self._alternatives(), len(self._image)))
        holder = next(number for number, part in enumerate(parts, 1) if part.begin <= begin < max(part.end, begin + 1))
        symbols = [*self._listed(parts), ("__start_mcount_loc", _NOTYPE, 1, holder, begin),
                   ("__stop_mcount_loc", _NOTYPE, 1, holder, end)]  # fmt: skip
        return _elf([(part, bytes(self._image[part.begin : part.end])) for part in parts], symbols, self._base)

    def _listed(self, parts: Sequence[_Part]) -> Iterator[tuple[str, int, int, int, int]]:
        for each in self._symbols:
            number = next((n for n, part in enumerate(parts, 1) if part.begin <= each.place < part.end), 0)
            if each.name in ("__start_mcount_loc", "__stop_mcount_loc") or each.name.startswith(_MAPPING):
                continue
            code = number and parts[number - 1].flags & SHF_EXECINSTR and each.kind in "tTwW"
            kind = FUNC if code and not _is_mark(each.name) else _NOTYPE
            yield each.name, kind, int(each.kind.isupper()), number or 0xFFF1, each.place


def _without_gaps(parts: Sequence[_Part], size: int) -> Iterator[_Part]:
    """`parts` in order, and data between and behind them; of two that overlap the later one is left out."""
    at = 0
    for part in sorted(parts, key=lambda part: part.begin):
        if part.begin < at:
            continue
        if part.begin > at:
            yield _Part(".data", at, part.begin, SHF_ALLOC)
        yield part
        at = part.end
    if at < size:
        yield _Part(".data", at, size, SHF_ALLOC)


def _is_mark(name: str) -> bool:
    return name in _MARKS or (name.startswith("__") and name.endswith(("_text_start", "_text_end", "text_begin")))


def _relocations(image: bytes) -> list[tuple[int, int]]:
    """(address, value) of the longest sequence of relocations of one kind; empty if the kernel is not relocatable, or
    packs them."""
    best: tuple[int, int] = (0, 0)
    at = image.find(_RELATIVE)
    while at >= 0:
        end = at
        while image[end : end + 8] == _RELATIVE:
            end += _RELA.size
        if end - at > best[1] - best[0]:
            best = (at, end)
        at = image.find(_RELATIVE, max(end - _RELA.size, at) + 1)
    begin, end = best[0] - 8, best[1] - 8
    if end - begin < _FEWEST_RELOCATIONS * _RELA.size or begin < 0:
        return []
    whole = image[begin : min(end, len(image))]
    return [(offset, value) for offset, _, value in _RELA.iter_unpack(whole[: len(whole) // _RELA.size * _RELA.size])]


def _pointers_in(image: bytes) -> list[int]:
    """What looks like a pointer into the kernel, in the Image's last half."""
    words = array("Q", image[len(image) // 16 * 8 : len(image) // 8 * 8])
    return [word for word in words if word & _KERNEL_HALF == _KERNEL_HALF and word >> 32 != 0xFFFFFFFF]


def _elf(parts: Sequence[tuple[_Part, bytes]], symbols: Sequence[tuple[str, int, int, int, int]], base: int) -> bytes:
    """An executable ELF file with these sections; a symbol is (name, type, binding, section, place)."""
    names, table = bytearray(b"\0"), bytearray(24)
    for name, kind, binding, section, place in symbols:
        address = base + place & 0xFFFFFFFFFFFFFFFF
        table += struct.pack("<IBBHQQ", len(names), binding << 4 | kind, 0, section, address, 0)
        names += name.encode() + b"\0"
    link = len(parts) + 2
    sections = [(part.name, 1, part.flags, base + part.begin, content, 0, 0) for part, content in parts]
    sections += [(".symtab", 2, 0, 0, bytes(table), link, 24), (".strtab", 3, 0, 0, bytes(names), 0, 0)]
    texts = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in sections) + b".shstrtab\0"
    sections.append((".shstrtab", 3, 0, 0, texts, 0, 0))
    body, headers, name_at = bytearray(), bytearray(64), 1
    for name, kind, flags, address, content, linked, entry in sections:
        fields = (name_at, kind, flags, address, 64 + len(body), len(content), linked, 0, 8, entry)
        headers += struct.pack("<IIQQQQIIQQ", *fields)
        body += content + bytes(-len(content) % 8)
        name_at += len(name) + 1
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    rest = (2, 183, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(sections) + 1, len(sections))
    return b"".join((ident, struct.pack("<HHIQQQIHHHHHH", *rest), body, headers))
