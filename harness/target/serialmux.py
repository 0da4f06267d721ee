"""Several channels over one serial line: the kernel's log, a shell for commands, and one that answers when the first is
busy. harness/build/overlay/board-init is the far end.

From the target come frames, a line each: ``@<channel><length>:<text>``. Channels are K (kernel log), C (commands), A
(the other shell), and none for the protocol itself. A lower-case channel means that the line goes on in its next frame.
Every other line is what came straight from the kernel or a boot loader, and belongs to the kernel log. The kernel's own
console driver may print in the middle of a frame; the length says so, and the pieces are put together again.

To the target go frames ``@<channel><number>:<length>:<text>``, one at a time: the next one when the target has answered
``@<length>:+<number>``; the same one again when it answers ``-``, or nothing in time.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .console import Console

KERNEL, COMMANDS, AUX = "K", "C", "A"
_LARGEST = 500  # bytes in a frame to the target, so that its tty (4096) never overflows
_ANSWER_LIMIT = 5.0
_WAITING = 10_000  # chunks that a channel's reader has not taken
_REMEMBERED = 4000  # kernel lines that may come twice: on the line itself and through the log channel

_FRAME = re.compile(rb"@([KCAkca]?)(\d+):(.*)", re.DOTALL)
_STAMP = re.compile(rb"\[ {0,7}\d+\.\d{6}\] ")
_LONGEST_REPAIR = 1 << 12


class Channel:
    """One channel as a console's transport."""

    def __init__(self, name: str, send: Callable[[str, bytes], None], send_break: Callable[[], bool]) -> None:
        self.name = name
        self._send = send
        self._break = send_break
        self._arrived: queue.Queue[bytes] = queue.Queue(maxsize=_WAITING)
        self._over = threading.Event()

    def push(self, data: bytes) -> None:
        """Hand bytes to the reader; while it is behind, wait."""
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._arrived.put(data, timeout=0.2)
                return

    def receive(self) -> bytes:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._arrived.get(timeout=None if not self._over.is_set() else 0.0)

            if self._over.is_set():
                return b""

    def send(self, data: bytes) -> None:
        if self._over.is_set():
            raise BrokenPipeError(f"{self.name} has ended")
        self._send(self.name, data)

    def send_break(self) -> bool:
        return self._break()

    def shut(self) -> None:
        self._over.set()
        with contextlib.suppress(queue.Full):
            self._arrived.put_nowait(b"")  # wakes a reader that waits; b"" is the end for it

    def close(self) -> None:
        self._over.set()


@dataclass(frozen=True)
class Frame:
    """What one line of the target's turned out to be. `channel` is "" for the protocol's own."""

    channel: str
    text: bytes
    goes_on: bool = False


class Untangler:
    """Lines of the target in, frames out: puts together what the kernel's console driver tore apart, and drops kernel
    lines that come a second time by the other way."""

    def __init__(self) -> None:
        self._held = b""
        self._seen: dict[bool, deque[bytes]] = {True: deque(maxlen=_REMEMBERED), False: deque(maxlen=_REMEMBERED)}
        self._partial_log = b""
        self.damaged = 0

    def take(self, line: bytes) -> list[Frame]:
        """What `line` (without its line feed) brings."""
        if self._held:
            return self._take_rest(line)
        if not line.startswith(b"@"):
            return self._kernel(line)
        frame = _whole(line)
        if frame:
            return self._log(frame) if frame.channel == KERNEL else [frame]
        return self._torn(line)

    def _torn(self, line: bytes) -> list[Frame]:
        """`line` is no whole frame: the kernel printed in the middle, or bytes were lost."""
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
        frame = _whole(joined)
        if frame:
            return self._log(frame) if frame.channel == KERNEL else [frame]
        if _STAMP.search(joined) and len(joined) < _LONGEST_REPAIR:
            return self._torn(joined)
        self.damaged += 1
        return [*self._kernel(joined[: len(joined) - len(line)]), *self.take(line)]

    def _kernel(self, line: bytes) -> list[Frame]:
        return self._once(line.rstrip(b"\r"), direct=True)

    def _log(self, frame: Frame) -> list[Frame]:
        self._partial_log += frame.text
        if frame.goes_on and len(self._partial_log) < 1 << 16:
            return []
        line, self._partial_log = self._partial_log, b""
        return self._once(line, direct=False)

    def _once(self, line: bytes, *, direct: bool) -> list[Frame]:
        if _STAMP.match(line):
            other = self._seen[not direct]
            if line in other:
                other.remove(line)
                return []
            self._seen[direct].append(line)
        return [Frame(KERNEL, line)]


def _whole(line: bytes) -> Frame | None:
    found = _FRAME.fullmatch(line)
    if not found or len(found[3]) != int(found[2]):
        return None
    channel = found[1].decode()
    return Frame(channel.upper(), found[3], goes_on=channel.islower())


class SerialMux:
    """The channels over `line`. It listens from the moment it is made; what boot loaders and a booting kernel print
    comes on the kernel channel.

    `ready` is set when the far end says so. `reset` is set when a boot loader or a kernel starts after that."""

    def __init__(self, line: Console) -> None:
        self._line = line
        self.channels = {name: Channel(name, self._queue, line.send_break) for name in (KERNEL, COMMANDS, AUX)}
        self.ready = threading.Event()
        self.reset = threading.Event()
        self._untangler = Untangler()
        self._partial = bytearray()
        self._outgoing: queue.Queue[bytes | None] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._number = 0
        self._over = threading.Event()
        self._stop_listening = line.listen_raw(self._arrived)
        self._sender = threading.Thread(target=self._send_all, name="serial mux", daemon=True)
        self._sender.start()
        self._watcher = threading.Thread(target=self._watch, name="serial mux end", daemon=True)
        self._watcher.start()

    @property
    def damaged(self) -> int:
        """Lines that lost bytes on the way, so far."""
        return self._untangler.damaged

    def close(self) -> None:
        """End the channels; the line stays."""
        self._over.set()
        self._stop_listening()
        self._outgoing.put(None)
        self._answers.put(b"")
        for channel in self.channels.values():
            channel.shut()
        self._sender.join(timeout=_ANSWER_LIMIT)

    def gap(self) -> None:
        """The line was lost and is back. What a command printed meanwhile is missing, so the shells end."""
        self._partial.clear()
        if self.ready.is_set():
            for name in (COMMANDS, AUX):
                self.channels[name].shut()

    def _watch(self) -> None:
        """The channels end with the line."""
        while not self._over.is_set():
            if self._line.wait_closed(1.0):
                self._end_channels()
                return

    def _end_channels(self) -> None:
        for channel in self.channels.values():
            channel.shut()

    def _arrived(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._partial += line
            whole = bytes(self._partial)
            self._partial.clear()
            for frame in self._untangler.take(whole):
                self._hand_on(frame)
        self._partial += rest
        if len(self._partial) > 1 << 16:
            self._partial.clear()

    def _hand_on(self, frame: Frame) -> None:
        if frame.channel == "":
            self._protocol(frame.text)
            return
        if frame.channel == KERNEL and self.ready.is_set() and _STARTS.search(frame.text):
            self.reset.set()
        self.channels[frame.channel].push(frame.text + (b"" if frame.goes_on else b"\n"))
        if self.reset.is_set():
            for name in (COMMANDS, AUX):
                self.channels[name].shut()

    def _protocol(self, text: bytes) -> None:
        if text == b"!ready":
            self.ready.set()
        elif text[:1] in (b"+", b"-"):
            self._answers.put(text)

    def _queue(self, channel: str, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            body = line.removesuffix(b"\n")
            pieces = [body[start : start + _LARGEST] for start in range(0, len(body), _LARGEST)] or [b""]
            for index, piece in enumerate(pieces):
                last = index == len(pieces) - 1 and line.endswith(b"\n")
                self._number += 1
                name = channel if last else channel.lower()
                self._outgoing.put(b"@%s%d:%d:%s\n" % (name.encode(), self._number, len(piece), piece))

    def _send_all(self) -> None:
        while (frame := self._outgoing.get()) and not self._over.is_set():
            number = frame[2 : frame.index(b":")]
            while not self._over.is_set() and not self._line.closed:
                self._line.send(frame)
                if self._answered(number):
                    break
                self._line.send(b"\n")  # ends a frame that arrived in part

    def _answered(self, number: bytes) -> bool:
        """Whether the target has taken the frame; False: send it again."""
        with contextlib.suppress(queue.Empty):
            while answer := self._answers.get(timeout=_ANSWER_LIMIT):
                if answer[1:] == number:
                    return answer[:1] == b"+"
        return False


# What is first seen of a machine that starts anew.
_STARTS = re.compile(rb"^U-Boot (?:SPL )?\d{4}\.|\] Booting Linux on physical CPU")
