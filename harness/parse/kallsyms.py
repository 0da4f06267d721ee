"""The kernel's own symbol table (kallsyms) in a raw arm64 Image, which has no other.

scripts/kallsyms.c writes it: names, compressed by a table of 256 tokens, each with its kind before it, and addresses as
32-bit offsets. Nothing points to it from outside, so it is found by its tokens: the digits stand for themselves there.
What was found is checked against the rest: the token index against the token table, the names against the markers,
which say where each 256th name begins, and the addresses against their order.

Layouts: until 6.3 offsets and base precede the names, later they follow the tokens; offsets are relative to a base
stored beside them, from 7.x on to the place of each offset itself. From 6.1 on a name may be longer than 127 tokens.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from harness.limits import Deadline

_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
_TOKENS = 256
_MARKER_STEP = 256
_LONGEST_TOKEN = 512
_LONGEST_NAME = 0x3FFF + 2
_MOST_SYMBOLS = 1 << 22
_HEAD_BYTES = 1 << 17  # before the first symbol; with 64K pages _stext is the second of 64 KiB
_TICK_BYTES = 1 << 10
Tick = Callable[[], None]
_CANDIDATES = 32  # places with the digits that are looked at


@dataclass(frozen=True)
class KernelSymbol:
    """`place`: bytes from the Image's beginning, which is _text; `kind`: as nm prints it."""

    name: str
    kind: str
    place: int


@dataclass(frozen=True)
class Kallsyms:
    """`base_at`: where the Image holds the address that offsets are relative to (or, with relocations, where that will
    be); None if there is none."""

    symbols: tuple[KernelSymbol, ...]
    base_at: int | None


def find_kallsyms(image: bytes, *, name: str, deadline: Deadline) -> Kallsyms | None:
    """Return the symbols of an Image; None if it has none (CONFIG_KALLSYMS is off), or none that is whole. Raises
    UserError, in which the Image is `name`, when the time is over."""
    for count, match in enumerate(re.finditer(re.escape(_DIGITS), image)):
        if count >= _CANDIDATES:
            break
        tokens = _tokens_around(image, match.start())
        if tokens is not None:
            return _read(image, tokens, lambda: deadline.check(place=name))
    return None


@dataclass(frozen=True)
class _Tokens:
    begin: int
    index: int  # where the token index begins
    texts: tuple[bytes, ...]

    @property
    def end(self) -> int:
        return self.index + 2 * _TOKENS


def _tokens_around(image: bytes, digits: int) -> _Tokens | None:
    """The table of tokens that has the digits at `digits`, if its index follows."""
    at, starts = digits, []
    for _ in range(ord("0"), _TOKENS):
        end = image.find(b"\0", at, at + _LONGEST_TOKEN)
        if end < 0:
            return None
        starts.append(at - digits)
        at = end + 1
    for index in range((at + 3) // 4 * 4, at + 16, 4):
        if index + 2 * _TOKENS > len(image):
            return None
        found = struct.unpack_from(f"<{_TOKENS}H", image, index)
        begin = digits - found[ord("0")]
        if found[0] == 0 and begin > 0 and [place - found[ord("0")] for place in found[ord("0") :]] == starts:
            texts = [image[begin + place : image.find(b"\0", begin + place, index)] for place in found]
            return _Tokens(begin, index, tuple(texts))
    return None


def _read(image: bytes, tokens: _Tokens, tick: Tick) -> Kallsyms | None:
    for names in _names_before(image, tokens, tick):
        found = _offsets_behind(image, tokens, names) or _offsets_before(image, names)
        if found is not None:
            places, base_at = found
            return Kallsyms(tuple(_symbols(image, tokens, names, places)), base_at)
    return None


@dataclass(frozen=True)
class _Names:
    count_at: int  # where their number is
    begin: int
    count: int


def _names_before(image: bytes, tokens: _Tokens, tick: Tick) -> Iterator[_Names]:
    """Where the names may be: before the markers, which end before the tokens, or (6.2, 6.3) before the 3 bytes for
    each symbol that tell the order of the names."""
    last = tokens.begin // 4 * 4
    for width in (4, 8):  # until 4.19 markers had 8 bytes
        for end in range(last, max(last - 3 * _MOST_SYMBOLS, width), -4):
            if not end % _TICK_BYTES:
                tick()
            markers = _markers_ending_at(image, end, width)
            most = len(markers) * _MARKER_STEP
            gap = tokens.begin - end
            if len(markers) > 1 and (gap < 12 or most - _MARKER_STEP < gap // 3 <= most + 4):
                yield from _names_with(image, end - width * len(markers), markers, tick)
            if width == 8 and gap > 12:
                break


def _markers_ending_at(image: bytes, end: int, width: int) -> list[int]:
    """The numbers before `end`, backwards to a zero, as long as they fall."""
    found: list[int] = []
    at = end - width
    while at >= 0:
        value = int.from_bytes(image[at : at + width], "little")
        if found and not value < found[-1] <= value + _MARKER_STEP * _LONGEST_NAME:
            return []
        found.append(value)
        if not value:
            return found[::-1]
        at -= width
    return []


def _names_with(image: bytes, markers_at: int, markers: list[int], tick: Tick) -> Iterator[_Names]:
    most = len(markers) * _MARKER_STEP
    # The last 256 names end before the markers; how long they are is unknown.
    latest = markers_at - markers[-1]
    earliest = max(latest - _MARKER_STEP * _LONGEST_NAME - 8, 8)
    for begin in range(latest // 4 * 4, earliest, -4):
        tick()
        for count_at in (begin - 8, begin - 4):
            count = int.from_bytes(image[count_at : count_at + 4], "little")
            if most - _MARKER_STEP < count <= min(most, _MOST_SYMBOLS) and _fit(image, begin, count, markers):
                yield _Names(count_at, begin, count)


def _fit(image: bytes, begin: int, count: int, markers: list[int]) -> bool:
    """Whether the names that begin at `begin` are where the markers say."""
    at = begin
    for number in range(count):
        if not number % _MARKER_STEP and at - begin != markers[number // _MARKER_STEP]:
            return False
        length, at = _length(image, at)
        if not length:
            return False
        at += length
    return at <= len(image)


def _length(image: bytes, at: int) -> tuple[int, int]:
    """How many tokens the name at `at` has, and where they begin."""
    length = image[at] if at < len(image) else 0
    if length & 0x80 and at + 1 < len(image):
        return length & 0x7F | image[at + 1] << 7, at + 2
    return length, at + 1


def _offsets_behind(image: bytes, tokens: _Tokens, names: _Names) -> tuple[list[int], int | None] | None:
    """From 6.4 on: behind the tokens, at a multiple of 8; those that are relative to themselves at one of 4."""
    at, own_at = (tokens.end + 7) // 8 * 8, (tokens.end + 3) // 4 * 4
    # the nearer place first: seen from the other one each name gets the next one's place, which rises just as well
    own = _relative_to_themselves(image, own_at, names.count) if own_at < at else None
    if own is None and (offsets := _signed(image, at, names.count)) and _in_order(offsets, len(image)):
        return offsets, (at + 4 * names.count + 7) // 8 * 8
    own = own or _relative_to_themselves(image, at, names.count)
    return (own, None) if own else None


def _relative_to_themselves(image: bytes, at: int, count: int) -> list[int] | None:
    offsets = _signed(image, at, count)
    if offsets is None:
        return None
    places = [at + 4 * number + offset for number, offset in enumerate(offsets)]
    varied = len(set(offsets)) > len(offsets) // 4  # zeros, relative to their own places, would rise too
    return places if varied and _in_order(places, len(image)) else None


def _offsets_before(image: bytes, names: _Names) -> tuple[list[int], int | None] | None:
    """Until 6.3: before the number of names, with the base between them."""
    base_at = names.count_at - 8
    end = base_at
    for padding in (0, 4):
        offsets = _signed(image, end - padding - 4 * names.count, names.count)
        if offsets is not None and _in_order(offsets, len(image)):
            return offsets, base_at
    return None


def _signed(image: bytes, at: int, count: int) -> list[int] | None:
    if at < 0 or at + 4 * count > len(image):
        return None
    return list(struct.unpack_from(f"<{count}i", image, at))


def _in_order(places: list[int], size: int) -> bool:
    """Whether they rise from near the Image's beginning on; .bss lies beyond its end."""
    return (
        0 <= places[0] < _HEAD_BYTES
        and places[-1] < 16 * size
        and all(one <= other for one, other in pairwise(places))
        and len(set(places)) > len(places) // 4
    )


def _symbols(image: bytes, tokens: _Tokens, names: _Names, places: list[int]) -> Iterator[KernelSymbol]:
    at = names.begin
    texts = tokens.texts
    for place in places:
        length, at = _length(image, at)
        text = b"".join([texts[code] for code in image[at : at + length]]).decode("utf-8", errors="replace")
        at += length
        yield KernelSymbol(text[1:], text[:1], place)
