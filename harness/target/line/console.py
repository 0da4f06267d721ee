"""The console: one thread reads a byte stream from power-on to power-off, writes it to disk with time stamps and passes
it on. The only module that imports pexpect.

A target may print as fast and as long as it likes, so each chunk is processed by one call for all of its lines, and
everything that is kept is bounded."""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pexpect
from pexpect.spawnbase import SpawnBase

from harness.target.line.textlines import LONGEST_LINE, LineSplitter, Tail
from harness.target.line.transport import Transport

LineListener = Callable[[float, str], None]

_CHUNK_BYTES = 1 << 16
_EXPECT_WINDOW_BYTES = 1 << 20  # kept for an `expect` that comes late: at least this much, at most twice as much
_LONGEST_MATCH = 1 << 17  # characters; more than a chunk
_TAIL = 1000  # lines


class _Feed(SpawnBase):  # type: ignore[misc]  # pexpect ships no types
    """The input of pexpect: the bytes that the console's thread has read."""

    _before: io.StringIO  # SpawnBase's: all that came since the last match

    def __init__(self) -> None:
        # without a search window it would search everything since the last match with every new chunk
        super().__init__(
            timeout=None,
            maxread=_CHUNK_BYTES,
            searchwindowsize=_LONGEST_MATCH,
            encoding="utf-8",
            codec_errors="replace",
        )
        self._bytes = bytearray()
        self._ready = threading.Condition()
        self._ended = False

    def push(self, data: bytes) -> None:
        with self._ready:
            self._bytes += data
            if len(self._bytes) > 2 * _EXPECT_WINDOW_BYTES:
                del self._bytes[:-_EXPECT_WINDOW_BYTES]
            self._ready.notify_all()

    def end(self) -> None:
        with self._ready:
            self._ended = True
            self._ready.notify_all()

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        with self._ready:
            if not self._ready.wait_for(lambda: self._bytes or self._ended, timeout):
                raise pexpect.TIMEOUT("nothing arrived")
            if not self._bytes:
                raise pexpect.EOF("the console closed")
            data = bytes(self._bytes[:size])
            del self._bytes[:size]
        self._forget()
        return str(self._decoder.decode(data, final=False))

    def _forget(self) -> None:
        """Bound what pexpect keeps for its attribute `before`, which is not used here."""
        if self._before.tell() > 4 * _LONGEST_MATCH:
            kept = self._before.getvalue()[-_LONGEST_MATCH:]
            self._before = io.StringIO()
            self._before.write(kept)


class Console:
    """One byte stream of a target and its only reader.

    `log` gets every byte as it arrives, each line led by ``[seconds since opening] ``. Listeners get every line
    (without its end, undecodable bytes replaced) in the reading thread, so they must be quick; while one waits, the
    target waits.

    A log that can't be written (a full disk) never stops the reading, or the target would hang. `log_failure` is the
    first such error and the log's path; where bytes are missing the log says so as soon as it can be written again.
    """

    def __init__(self, transport: Transport, *, log: Path | None, name: str, longest_line: int = LONGEST_LINE) -> None:
        """`longest_line`: see LineSplitter."""
        self.name = name
        self.opened = time.monotonic()
        self.last_activity = self.opened
        self._transport = transport
        self._log_path = log or Path()
        self._log: BinaryIO | None = log.open("ab", buffering=0) if log else None
        self._missing = 0  # bytes that could not be written to the log
        self._at_line_start = True
        self._listeners: list[LineListener] = []  # they get blocks of lines
        self._raw_listeners: list[Callable[[bytes], None]] = []
        self._tail = Tail(_TAIL)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._splitter = LineSplitter(longest=longest_line, whole=log.name if log else "")
        self._feed = _Feed()
        self._closed = threading.Event()
        self.closing = False
        self.log_failure: tuple[OSError, Path] | None = None
        self._thread = threading.Thread(target=self._pump, name=f"console {name}", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the stream has ended: the machine is off, or the line is lost."""
        return self._closed.is_set()

    def wait_closed(self, timeout: float) -> bool:
        """Wait until the stream has ended; return False if it has not within `timeout` seconds."""
        return self._closed.wait(timeout)

    def listen(self, listener: LineListener) -> Callable[[], None]:
        """Call `listener(monotonic time, line)` for every line from now on, until the returned function is called."""

        def each(moment: float, block: str) -> None:
            for line in block[:-1].split("\n"):
                listener(moment, line)

        return self.listen_blocks(each)

    def listen_blocks(self, listener: LineListener) -> Callable[[], None]:
        """Like `listen`, but with blocks of whole lines, each ending in a line feed: for listeners that don't look at
        single lines, or are faster with many."""
        self._listeners = [*self._listeners, listener]

        def stop() -> None:
            self._listeners = [other for other in self._listeners if other is not listener]

        return stop

    def listen_raw(self, listener: Callable[[bytes], None]) -> Callable[[], None]:
        """Like `listen`, but with every chunk of bytes as it arrives."""
        self._raw_listeners = [*self._raw_listeners, listener]

        def stop() -> None:
            self._raw_listeners = [other for other in self._raw_listeners if other is not listener]

        return stop

    def tail(self, count: int = 40) -> list[str]:
        """Return the last `count` lines (at most 1000), including an unfinished one."""
        partial = self._splitter.partial
        return [*self._tail.lines(), *([partial] if partial else [])][-count:]

    def send(self, data: bytes) -> None:
        """Send bytes; if the stream has ended, they are dropped (the reader notices that)."""
        try:
            self._transport.send(data)
        except OSError:
            self._closed.set()

    def send_break(self) -> bool:
        """Send a break, which starts a SysRq; return False if the line can't carry one."""
        return self._transport.send_break()

    def expect(self, pattern: str, *, timeout: float) -> re.Match[str] | None:
        """Wait until the regular expression `pattern` matches what arrived since the last match.

        None after `timeout` seconds or when the stream ends."""
        index = self._feed.expect([pattern, pexpect.TIMEOUT, pexpect.EOF], timeout=timeout)
        return self._feed.match if index == 0 else None

    def close(self) -> None:
        """Stop reading and close the log; may be called twice."""
        self.closing = True
        self._transport.shut()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5.0)
        self._transport.close()

    def _pump(self) -> None:
        try:
            while data := self._transport.receive():
                self.last_activity = time.monotonic()
                self._record(data)
                self._feed.push(data)
                for listener in self._raw_listeners:
                    listener(data)
                self._hand_on(self._decoder.decode(data))
            if self._splitter.partial:
                self._hand_on("\n")
        finally:
            if self._log:
                self._log.close()
            self._closed.set()
            self._feed.end()

    def _record(self, data: bytes) -> None:
        if not self._log:
            return
        stamp = b"[%12.6f] " % (self.last_activity - self.opened)
        ends_line = data.endswith(b"\n")
        body = (data[:-1] if ends_line else data).replace(b"\n", b"\n" + stamp)
        text = (stamp if self._at_line_start else b"") + body + (b"\n" if ends_line else b"")
        gap = b"\n[about %d bytes are missing here]\n" % self._missing if self._missing else b""
        try:
            if self._log.write(gap + text) != len(gap + text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._missing = 0
        except OSError as error:
            self._missing += len(text)
            self.log_failure = self.log_failure or (error, self._log_path)
        self._at_line_start = ends_line

    def _hand_on(self, text: str) -> None:
        block = self._splitter.take(text)
        if block:
            self._tail.add(block)
            for listener in self._listeners:
                listener(self.last_activity, block)
