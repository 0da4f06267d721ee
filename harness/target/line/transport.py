"""Transports of a console: a socket, a TCP port, telnet, a program. Serial devices are in serialport.py."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from typing import Protocol

from harness.errors import InfraError
from harness.tied import tied

_CHUNK_BYTES = 1 << 16
_CONNECT_LIMIT_S = 5.0
_SEND_LIMIT_S = 30.0  # a far end that accepts nothing for this long counts as gone


class Transport(Protocol):
    """A bidirectional byte stream, read by one thread."""

    def receive(self) -> bytes:
        """Wait for bytes; return none at the end of the stream. Never raises."""

    def send(self, data: bytes) -> None:
        """Send all of `data`; raises OSError if the stream has ended."""

    def send_break(self) -> bool:
        """Send a break; return False if the transport has none."""

    def shut(self) -> None:
        """Make a waiting `receive` return. Never raises."""

    def close(self) -> None:
        """Release everything; called after `shut`, when nobody receives any more. Never raises."""


class SocketTransport:
    """A connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self) -> bytes:
        try:
            return self._connection.recv(_CHUNK_BYTES)
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def send_break(self) -> bool:
        return False

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()


def connect(host: str, port: int, *, place: str) -> socket.socket:
    """Connect to `host`:`port`. Raises InfraError, in the name of `place`."""
    try:
        connection = socket.create_connection((host, port), timeout=_CONNECT_LIMIT_S)
    except (OSError, UnicodeError) as error:  # the latter: a name that no host can have
        reason = getattr(error, "strerror", None) or str(error)
        raise InfraError(
            f"{place}: expected a console server at {host}:{port}, can't connect: {reason}; see whether it runs there"
        ) from None
    connection.settimeout(None)
    seconds = int(_SEND_LIMIT_S).to_bytes(8, "little")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds + bytes(8))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection


# RFC 854, 857 and 2217
_IAC, _DONT, _DO, _WONT, _WILL, _SB, _BRK, _SE = 255, 254, 253, 252, 251, 250, 243, 240
_BINARY, _ECHO, _SUPPRESS_GO_AHEAD, _COM_PORT = 0, 1, 3, 44
_SET_BAUDRATE = 1


class TelnetTransport:
    """Telnet over a connected socket: removes commands from the stream, answers options, sends a break as telnet's
    command.

    With `baud`, a server that supports RFC 2217 is set to that speed; its parity, and the speed of other servers, are
    left alone."""

    def __init__(self, connection: socket.socket, *, baud: int = 0) -> None:
        self._inner = SocketTransport(connection)
        self._decoder = TelnetDecoder(baud=baud)
        if baud:
            with contextlib.suppress(OSError):  # the first `receive` notices it
                self._inner.send(bytes((_IAC, _WILL, _COM_PORT)))

    def receive(self) -> bytes:
        while raw := self._inner.receive():
            data, answer = self._decoder.feed(raw)
            with contextlib.suppress(OSError):  # the next `receive` notices it
                if answer:
                    self._inner.send(answer)
            if data:
                return data
        return b""

    def send(self, data: bytes) -> None:
        data = data.replace(b"\xff", b"\xff\xff")
        # RFC 856: in binary a carriage return is itself; a NUL behind it would be typed too
        self._inner.send(data if self._decoder.sends_binary else data.replace(b"\r", b"\r\0"))

    def send_break(self) -> bool:
        try:
            self._inner.send(bytes((_IAC, _BRK)))
        except OSError:
            return False
        return True

    def shut(self) -> None:
        self._inner.shut()

    def close(self) -> None:
        self._inner.close()


class TelnetDecoder:
    """Decodes what a telnet server sends, in pieces of any size. With `baud`, the server was offered RFC 2217."""

    def __init__(self, *, baud: int = 0) -> None:
        self._baud = baud
        self.sends_binary = False
        self._in_data = True
        self._machine = self._states()
        self._data = bytearray()
        self._answer = bytearray()
        self._answered: set[tuple[int, int]] = set()
        next(self._machine)

    def feed(self, raw: bytes) -> tuple[bytes, bytes]:
        """Return the data in `raw`, and the answer for the server."""
        start = 0
        while start < len(raw):
            if self._in_data:
                end = raw.find(_IAC, start)
                end = end if end >= 0 else len(raw)
                self._data += raw[start:end]
                start = end
            if start < len(raw):
                self._machine.send(raw[start])
                start += 1
        data, answer = bytes(self._data), bytes(self._answer)
        self._data.clear()
        self._answer.clear()
        return data, answer

    def _states(self) -> Generator[None, int, None]:  # a generator is the state machine: each `yield` waits for a byte
        while True:
            self._in_data = True
            yield  # the IAC: everything else is data, and never comes here
            self._in_data = False
            command = yield
            if command == _IAC:
                self._data.append(_IAC)
            elif command in (_WILL, _WONT, _DO, _DONT):
                option = yield
                self._negotiate(command, option)
            elif command == _SB:
                last = 0
                while True:
                    byte = yield
                    if (last, byte) == (_IAC, _SE):
                        break
                    last = 0 if last == _IAC else byte

    def _negotiate(self, command: int, option: int) -> None:
        """Binary and no go-ahead both ways, the far end echoes; everything else is refused, each once."""
        if (command, option) in self._answered or command in (_WONT, _DONT):
            return
        self._answered.add((command, option))
        if (command, option) == (_DO, _COM_PORT) and self._baud:
            speed = self._baud.to_bytes(4, "big").replace(b"\xff", b"\xff\xff")
            self._answer += bytes((_IAC, _SB, _COM_PORT, _SET_BAUDRATE)) + speed + bytes((_IAC, _SE))
            return
        if command == _WILL:
            answer = _DO if option in (_BINARY, _ECHO, _SUPPRESS_GO_AHEAD) else _DONT
        else:
            answer = _WILL if option in (_BINARY, _SUPPRESS_GO_AHEAD) else _WONT
            self.sends_binary |= option == _BINARY
        self._answer += bytes((_IAC, answer, option))


class CommandTransport:
    """A program whose standard input and output are the stream. It ends with the harness. `shown`: what messages show
    of its command line."""

    def __init__(self, argv: tuple[str, ...], *, shown: str, place: str) -> None:
        # the kernel ends it when the thread that started it ends: the main one, or the one that reads the line
        try:
            self._process = subprocess.Popen(
                tied(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise InfraError(f"{place}: can't start {shown}: {error.strerror}") from None
        assert self._process.stdin
        assert self._process.stdout
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()

    def receive(self) -> bytes:
        try:
            return os.read(self._out, _CHUNK_BYTES)
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._in, view) :]

    def send_break(self) -> bool:
        return False

    def shut(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.shut()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


class SlowTransport:
    """Wraps a transport for a far end that loses characters when they arrive too fast."""

    def __init__(self, inner: Transport, *, pause: Callable[[], None]) -> None:
        self._inner = inner
        self._pause = pause
        self.receive = inner.receive
        self.send_break = inner.send_break
        self.shut = inner.shut
        self.close = inner.close

    def send(self, data: bytes) -> None:
        for index in range(len(data)):
            self._inner.send(data[index : index + 1])
            self._pause()


def slowed(inner: Transport, milliseconds: float) -> Transport:
    """`inner`, with a pause of `milliseconds` after each character it sends, where that is more than 0."""
    return SlowTransport(inner, pause=lambda: time.sleep(milliseconds / 1000)) if milliseconds else inner
