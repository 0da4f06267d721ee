"""Several channels over one serial line: the kernel's log, a shell for commands, and one that answers while the first
is busy. harness/build/overlay/board-init is the far end; frames.py defines the format on the line.

The target numbers its frames, keeps the last ones, and sends a frame again on the request ``@?0:<…>:<number>``; for the
number 0 it reports its position. So a line that loses bytes costs time, not results. If the target no longer has a
frame, the shells end, and their users get the reason.

Frames to the target are sent one at a time: the next one after the target has answered ``+<number>``; the same one
again if it answers ``-``, or does not answer in time."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable

from harness.target.line.console import Console
from harness.target.line.frames import (
    AUX,
    COMMANDS,
    KERNEL,
    PROTOCOL,
    QUESTION,
    Frame,
    InOrder,
    KernelLines,
    Untangler,
    encoded,
)

__all__ = ["AUX", "COMMANDS", "KERNEL", "SerialMux"]

_LARGEST_BYTES = 500  # in a frame to the target, so that its tty's buffer (4096) never overflows
_ANSWER_LIMIT_S = 5.0
_WAITING = 10_000  # chunks that a channel's reader has not read yet
_CHUNK_BYTES = 1 << 16
_FIRST_QUIET_S = (  # of silence before the target is asked for its position; each further wait is twice as long
    2.0  # seconds of silence after which the target is asked how far it has come; then twice that, and so on
)
_LONGEST_QUIET_S = 60.0
_ASK_AGAIN_S = 2.0  # an answer may wait this long behind other frames
_TRIES = 30
_ASK_INTERVAL_S = 0.5  # the shortest time between two questions for the target's position
_TOLD = re.compile(rb"!(at|gone) (\d{1,15})")  # the target's position, and frames that it no longer has
_BACK_LIMIT_S = 15.0  # the longest silence of a target after its line was lost and came back


class Channel:
    """One channel, as the transport of a console."""

    def __init__(self, name: str, send: Callable[[str, bytes], None], send_break: Callable[[], bool]) -> None:
        self.name = name
        self._send = send
        self._break = send_break
        self._arrived: queue.Queue[bytes] = queue.Queue(maxsize=_WAITING)
        self._over = threading.Event()

    def push(self, data: bytes) -> None:
        """Pass bytes to the reader; wait while it lags behind."""
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._arrived.put(data, timeout=0.2)
                return

    def receive(self) -> bytes:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._with_more(self._arrived.get(timeout=None if not self._over.is_set() else 0.0))

            if self._over.is_set():
                return b""

    def _with_more(self, first: bytes) -> bytes:
        """Join `first` and the chunks behind it: one long chunk costs the reader less than many short ones."""
        chunks, size = [first], len(first)
        with contextlib.suppress(queue.Empty):
            while chunks[-1] and size < _CHUNK_BYTES:
                chunks.append(self._arrived.get_nowait())
                size += len(chunks[-1])
        return b"".join(chunks)

    def send(self, data: bytes) -> None:
        if self._over.is_set():
            raise BrokenPipeError(f"{self.name} has ended")
        self._send(self.name, data)

    def send_break(self) -> bool:
        return self._break()

    def shut(self) -> None:
        self._over.set()
        with contextlib.suppress(queue.Full):
            self._arrived.put_nowait(b"")  # wakes a waiting reader, for which b"" is the end

    def close(self) -> None:
        self._over.set()


class SerialMux:
    """The channels over `line`. It listens as soon as it exists; output of boot loaders and of a booting kernel appears
    on the kernel channel.

    `ready` is set when the far end reports that it is ready, `reset` when a boot loader or a kernel starts after that.
    `lost` is the reason why the shells ended if the line is at fault."""

    def __init__(self, line: Console, *, place: str = "") -> None:
        self._line = line
        self._place = place
        self.channels = {name: Channel(name, self._queue, line.send_break) for name in (KERNEL, COMMANDS, AUX)}
        self.ready = threading.Event()
        self.reset = threading.Event()
        self.lost = ""
        self._untangler = Untangler()
        self._order = InOrder()
        self._lines = KernelLines()
        self._partial = bytearray()
        self._outgoing: queue.Queue[bytes | None] = queue.Queue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._mark = b""
        self._damaged_before = 0  # lines, until the far end was ready: boot loaders speak in no frames
        self._asker = _Asker(self._ask, self._lose)
        self._sending = threading.Lock()
        self._number = 0
        self._over = threading.Event()
        self._stop_listening = line.listen_raw(self._arrived)
        self._threads = [
            threading.Thread(target=job, daemon=True, name=f"serial mux {job.__name__}")
            for job in (self._send_all, self._watch, self._asker.serve)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def damaged(self) -> int:
        """The number of damaged lines so far."""
        return self._untangler.damaged

    @property
    def is_bad(self) -> bool:
        """Whether the line has lost or changed bytes since the far end was ready."""
        return self._untangler.damaged > self._damaged_before

    def mark(self, text: str) -> None:
        """Have a kernel line with `text` appear on the kernel channel only in its place, behind all that came before
        it: not where it comes straight from the kernel or out of a damaged frame, ahead of frames that are missing."""
        self._mark = text.encode()

    def hand_over(self) -> None:
        """Send nothing of ours any more, because a person gets the line: a question to the target would be typed at
        her shell, in the middle of what she types."""
        self._asker.close()
        self._threads[-1].join(timeout=_ANSWER_LIMIT_S)

    def close(self) -> None:
        """End the channels; the line stays."""
        self._over.set()
        self._asker.close()
        self._stop_listening()
        self._outgoing.put(None)
        self._answers.put(b"")
        for channel in self.channels.values():
            channel.shut()
        self._threads[0].join(timeout=_ANSWER_LIMIT_S)

    def gap(self) -> None:
        """Handle a line that was lost and is back."""
        self._partial.clear()
        if self.ready.is_set():
            self._asker.look(within=_BACK_LIMIT_S)

    def _lose(self, finding: str) -> None:
        self.lost = (
            f"{self._place}: {finding}; see its cable and ground, console.baud and console.flow, and whether anything "
            "else uses it"
        )
        self._end_shells()

    def _end_shells(self) -> None:
        self._asker.close()
        for name in (COMMANDS, AUX):
            self.channels[name].shut()

    def _watch(self) -> None:
        """Wait for the end of the line, and end the channels."""
        while not self._over.is_set():
            if self._line.wait_closed(1.0):
                self.lost = self.lost or (
                    f"{self._place}: the serial line was lost and did not come back; see its cable or console server"
                )
                for channel in self.channels.values():
                    channel.shut()
                return

    def _arrived(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._partial += line
            whole = bytes(self._partial)
            self._partial.clear()
            damaged = self.damaged
            for frame in self._untangler.take(whole):
                self._sort(frame)
            if self.damaged > damaged and self.ready.is_set():
                self._asker.look()
        self._partial += rest
        if len(self._partial) > 1 << 16:
            self._partial.clear()

    def _sort(self, frame: Frame) -> None:
        if frame.channel == PROTOCOL:
            self._protocol(frame.text)
        elif frame.channel not in self.channels:
            return  # a question: only we ask; an echo of ours, or a target that makes things up
        elif frame.number:
            # once data is lost for good, only the kernel's log matters, as far as it arrives
            for ordered in [*self._order.rest(), frame] if self.lost else self._order.take(frame):
                self._hand_on(ordered)
            self._asker.came(self._order.missing())
        else:
            self._hand_on(frame)

    def _hand_on(self, frame: Frame) -> None:
        if frame.channel != KERNEL:
            self.channels[frame.channel].push(frame.text + (b"" if frame.goes_on else b"\n"))
            return
        if self._mark and not frame.number and self._mark in frame.text:
            return
        for line in self._lines.take(frame):
            if self.ready.is_set() and _STARTS.search(line):
                self.reset.set()
                self._end_shells()
            self.channels[KERNEL].push(line + b"\n")

    def _protocol(self, text: bytes) -> None:
        told = _TOLD.fullmatch(text)
        number = int(told[2]) if told else 0
        if text == b"!ready":
            if not self.ready.is_set():
                self._damaged_before = self.damaged
            self.ready.set()
            self._asker.begin()
        elif told and told[1] == b"at":
            self._asker.answered(self._order.missing(number))
        elif told and self._order.is_missing(number):
            self._lose("bytes were lost or changed on the serial line, more than the target can send again")
        elif text[:1] in (b"+", b"-"):
            self._answers.put(text)

    def _ask(self, number: int) -> None:
        """Request frame `number`, or with 0 the target's position."""
        self._send(encoded(QUESTION, 0, b"%d" % number))

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._line.send(data)

    def _queue(self, channel: str, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            body = line.removesuffix(b"\n")
            pieces = [body[start : start + _LARGEST_BYTES] for start in range(0, len(body), _LARGEST_BYTES)] or [b""]
            for index, piece in enumerate(pieces):
                last = index == len(pieces) - 1 and line.endswith(b"\n")
                self._number += 1
                self._outgoing.put(encoded(channel if last else channel.lower(), self._number, piece))

    def _send_all(self) -> None:
        while (frame := self._outgoing.get()) and not self._over.is_set():
            number = frame[2 : frame.index(b":")]
            while not self._over.is_set() and not self._line.closed:
                self._send(frame)
                if self._answered(number):
                    break
                self._send(b"\n")  # ends a frame that arrived incomplete

    def _answered(self, number: bytes) -> bool:
        """Wait for the target's answer; False: send the frame again."""
        with contextlib.suppress(queue.Empty):
            while answer := self._answers.get(timeout=_ANSWER_LIMIT_S):
                if answer[:1] == b"-":
                    return False
                if answer[1:] == number:
                    return True
        return False


class _Asker:
    """A thread that requests missing frames and the target's position: when a line was damaged, and after a while of
    silence, because a frame that was lost as a whole is noticed only when the next one arrives."""

    def __init__(self, ask: Callable[[int], None], lose: Callable[[str], None]) -> None:
        self._ask = ask
        self._lose = lose
        self._changed = threading.Condition()
        self._missing: tuple[int, ...] = ()
        self._asked = 0  # requests for the first of the missing frames so far
        self._next = float("inf")  # when to ask (monotonic)
        self._last = 0.0  # when the last request was sent
        self._quiet = _FIRST_QUIET_S
        self._limit = float("inf")
        self._over = False

    def begin(self) -> None:
        """Start asking: the target has started."""
        with self._changed:
            self._next = min(self._next, time.monotonic() + _FIRST_QUIET_S)
            self._changed.notify_all()

    def look(self, *, within: float = float("inf")) -> None:
        """Ask at once, because data may be missing. The target has to answer `within` so many seconds."""
        now = time.monotonic()
        with self._changed:
            self._limit = min(self._limit, now + within)
            self._next = min(self._next, max(now, self._last + _ASK_INTERVAL_S))
            self._changed.notify_all()

    def answered(self, numbers: list[int]) -> None:
        """Note the target's answer: these frames are missing."""
        with self._changed:
            self._limit = float("inf")
            self._note(numbers)

    def came(self, missing: list[int]) -> None:
        """Note that a frame arrived, and that these before it are missing."""
        with self._changed:
            self._quiet = _FIRST_QUIET_S
            if not (missing or self._missing):
                self._next = time.monotonic() + self._quiet
                return
            self._note(missing)

    def _note(self, numbers: list[int]) -> None:
        if self._missing[:1] != tuple(numbers[:1]):
            self._asked = 0
            self._next = time.monotonic()
        self._missing = tuple(numbers)
        self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def serve(self) -> None:
        while True:
            with self._changed:
                while not self._over and (left := min(self._next, self._limit) - time.monotonic()) > 0:
                    self._changed.wait(left if left < threading.TIMEOUT_MAX else None)
                if self._over:
                    return
                failure = self._failure()
                numbers = self._due()
            if failure:
                self._lose(failure)
                return
            for number in numbers:
                self._ask(number)

    def _failure(self) -> str:
        if time.monotonic() >= self._limit:
            return "the serial line was lost and came back, but the target does not answer on it any more"
        if self._asked >= _TRIES:
            return f"bytes are lost or changed on the serial line, frame {self._missing[0]} {_TRIES} times in a row"
        return ""

    def _due(self) -> tuple[int, ...]:
        """Return what to request now, and set when to ask next."""
        now = self._last = time.monotonic()
        if self._missing:
            self._asked += 1
            self._next = now + _ASK_AGAIN_S
            return self._missing
        self._next = now + self._quiet
        self._quiet = min(2 * self._quiet, _LONGEST_QUIET_S)
        return (0,)


# The first output of a machine that restarts.
_STARTS = re.compile(rb"^U-Boot (?:SPL )?\d{4}\.|\] Booting Linux on physical CPU")
