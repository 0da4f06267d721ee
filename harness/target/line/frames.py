"""The frames, one per line, that carry several channels over a serial line in both directions.

``@<channel><number>:<length>:<sum>:<text>``. Channels are K (kernel log), C (commands), A (the other shell), none for
the protocol itself, and ``?`` for a question of ours. A lower-case channel means that the line goes on in its next
frame. The sum detects lost or changed bytes: a damaged frame is not taken for a frame. Every other line came straight
from the kernel or a boot loader. The kernel's console driver may print in the middle of a frame; length and sum reveal
that, and the pieces are joined again."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from harness.target.line.times import AT_START_BYTES

KERNEL, COMMANDS, AUX, PROTOCOL, QUESTION = "K", "C", "A", "", "?"

_MODULUS = 16777213  # the largest prime below 2**24: what gawk reckons with, times 2**24, is exact in a double
_FRAME = re.compile(rb"@([KCAkca?]?)(\d{1,15}):(\d{1,6}):(\d{1,8}):(.*)", re.DOTALL)
# What the kernel puts before a message: a level (console_msg_format=syslog), the time, and who printed it
# (CONFIG_PRINTK_CALLER), which dmesg separates by a blank.
_STAMP = re.compile(rb"(?:<\d{1,3}>)?(\[ {0,7}\d{1,10}\.\d{6}\])(?: ?\[ {0,11}[CT]\d{1,10}\])? ")
_BOOT_LOADER = b"U-Boot "
_LONGEST_REPAIR = 1 << 12
_REMEMBERED = 4000  # kernel lines that may arrive twice: directly on the line and through the log channel
_MOST_HELD = 4096  # frames behind a missing one
_MOST_MISSING = 50  # numbers that are requested at once


@dataclass(frozen=True)
class Frame:
    """A decoded line of the target. `number` is 0 for frames that are not counted: those of the protocol itself, and
    what came straight from the kernel."""

    channel: str
    text: bytes
    goes_on: bool = False
    number: int = 0


def checksum(head: bytes, text: bytes) -> int:
    """Return a frame's checksum: ``<channel><number>:<text>`` read as one big number, three bytes at a time."""
    body = head + b":" + text
    return int.from_bytes(body + bytes(-len(body) % 3), "big") % _MODULUS


def encoded(channel: str, number: int, text: bytes) -> bytes:
    """Encode a frame for the line, including the line feed."""
    head = f"{channel}{number}".encode()
    return b"@%s:%d:%d:%s\n" % (head, len(text), checksum(head, text), text)


def decoded(line: bytes) -> Frame | None:
    """Decode `line` (without its line feed); None if it is not a frame, or a damaged one. Carriage returns that the
    line has added are no damage."""
    found = _FRAME.fullmatch(line)
    if not found:
        return None
    channel, number, length, told, text = found.groups()
    text, added = text[: int(length)], text[int(length) :]
    if len(text) != int(length) or added.strip(b"\r") or checksum(channel + number, text) != int(told):
        return None
    name = channel.decode()
    return Frame(name.upper(), text, goes_on=name.islower(), number=int(number))


class Untangler:
    """Turns lines of the target into frames, and joins those that the kernel's console driver tore apart. `damaged`
    counts lines that are neither frames nor begin like kernel messages. A time that a console server puts before each
    line is removed."""

    def __init__(self) -> None:
        self._held = b""
        self._timed = False  # frames come behind a time that is not the target's
        self.damaged = 0

    def take(self, line: bytes) -> list[Frame]:
        """Return the frames that `line` (without its line feed) completes."""
        return self._take(self._without_time(line))

    def _without_time(self, line: bytes) -> bytes:
        """Return `line` without a console server's time. The kernel's own looks like some of those, so it counts as the
        server's only when frames, too, come behind one."""
        found = AT_START_BYTES.match(line)
        if not found:
            if self._timed and line.startswith(b"@") and decoded(line):
                self._timed = False
            return line
        rest = line[found.end() :]
        if rest.startswith(b"@") and decoded(rest):
            self._timed = True
        theirs = self._timed or rest.startswith(_BOOT_LOADER) or (_STAMP.match(rest) and not _STAMP.match(line))
        return rest if theirs else line

    def _take(self, line: bytes) -> list[Frame]:
        if self._held:
            return self._take_rest(line)
        if not line.startswith(b"@"):
            return self._kernel(line)
        frame = decoded(line)
        return [frame] if frame else self._torn(line)

    def _torn(self, line: bytes) -> list[Frame]:
        """Handle a `line` that is not a whole frame: the kernel printed in the middle, or bytes were lost."""
        stamp = _STAMP.search(line)
        if stamp:
            self._held = line[: stamp.start()]
            return self._kernel(line[stamp.start() :])
        self.damaged += 1
        return self._kernel(line)

    def _take_rest(self, line: bytes) -> list[Frame]:
        if _STAMP.match(line):
            return self._kernel(line)
        joined, self._held = self._held + line, b""
        frame = decoded(joined)
        if frame:
            return [frame]
        # a frame behind it that is whole by itself: so the held one was damaged, not torn
        if not decoded(line) and _STAMP.search(joined) and len(joined) < _LONGEST_REPAIR:
            return self._torn(joined)
        self.damaged += 1
        return [*self._kernel(joined[: len(joined) - len(line)]), *self._take(line)]

    def _kernel(self, line: bytes) -> list[Frame]:
        if line.strip() and not _STAMP.match(line):
            self.damaged += 1
        return [Frame(KERNEL, line.rstrip(b"\r"))]


class InOrder:
    """Sorts numbered frames and drops duplicates. `missing`: numbers that have to be requested again."""

    def __init__(self) -> None:
        self._next = 1
        self._held: dict[int, Frame] = {}

    def take(self, frame: Frame) -> list[Frame]:
        """Add `frame` and return the frames that are next in order."""
        if frame.number == self._next or (frame.number > self._next and len(self._held) < _MOST_HELD):
            self._held[frame.number] = frame
        ready = []
        while self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next += 1
        return ready

    def rest(self) -> list[Frame]:
        """Return the frames behind a missing one, once that is given up."""
        waiting = [self._held[number] for number in sorted(self._held)]
        self._held.clear()
        return waiting

    def missing(self, last: int = 0) -> list[int]:
        """Return the first missing numbers: a later frame arrived, or the target says that it has sent `last`. Only the
        first ones, because a target may claim any number."""
        end = max([last + 1, *self._held])
        numbers = (number for number in range(self._next, end) if number not in self._held)
        return list(itertools.islice(numbers, _MOST_MISSING))

    def is_missing(self, number: int) -> bool:
        return number >= self._next and number not in self._held


class KernelLines:
    """Removes duplicates of kernel lines that arrive both directly on the line and through the log channel. They are
    equal when time and message are: dmesg shows no level, and an older one not who printed it."""

    def __init__(self) -> None:
        self._seen = {True: _Recent(), False: _Recent()}  # straight from the kernel; through the log channel
        self._partial = b""

    def take(self, frame: Frame) -> list[bytes]:
        """Return the line that `frame` of the kernel channel completes; none if the line continues or came before."""
        direct = not frame.number
        line = frame.text
        if not direct:
            self._partial += frame.text
            if frame.goes_on and len(self._partial) < 1 << 16:
                return []
            line, self._partial = self._partial, b""
        stamp = _STAMP.match(line)
        if stamp:
            same = stamp[1] + line[stamp.end() :]
            if self._seen[not direct].remove(same):
                return []
            self._seen[direct].add(same)
        return [line]


class _Recent:
    """The latest lines that arrived one way; a line may be there more than once."""

    def __init__(self) -> None:
        self._times: dict[bytes, int] = {}  # the latest last

    def add(self, line: bytes) -> None:
        self._times[line] = self._times.pop(line, 0) + 1
        if len(self._times) > _REMEMBERED:
            del self._times[next(iter(self._times))]

    def remove(self, line: bytes) -> bool:
        """Remove one occurrence of `line`; return False if there is none."""
        times = self._times.pop(line, 0)
        if times > 1:
            self._times[line] = times - 1
        return times > 0
