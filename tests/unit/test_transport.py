"""How a console's bytes come: telnet taken apart, a program, a serial device and who may have it."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import InfraError
from harness.model.board import CommandConsole, ConsoleSpec, NetworkConsole, SerialConsole
from harness.target.line.console import Console
from harness.target.line.open import open_line
from harness.target.line.transport import TelnetDecoder, TelnetTransport, Transport
from tests.faults.catalogue import Blame, fault


def opened(console: ConsoleSpec) -> Transport:
    return open_line(console, board="b")


TELNET = b"\xff\xfb\x01\xff\xfd\x18a\xff\xffb\xff\xfa\x2cxx\xff\xff\xf0\xff\xf0c\xff\xf1d"


@pytest.mark.parametrize("size", [1, 3, 100])
def test_telnet_commands_are_no_data(size: int) -> None:
    decoder = TelnetDecoder()
    pieces = [decoder.feed(TELNET[start : start + size]) for start in range(0, len(TELNET), size)]
    assert b"".join(data for data, _ in pieces) == b"a\xffbcd"
    # WILL ECHO: please do; DO TERMINAL-TYPE: no
    assert b"".join(answer for _, answer in pieces) == b"\xff\xfd\x01\xff\xfc\x18"


@pytest.mark.parametrize("cut", range(2 * len(TELNET) + 1))
def test_telnet_cut_anywhere(cut: int) -> None:
    decoder = TelnetDecoder()
    pieces = [decoder.feed((TELNET + TELNET)[:cut]), decoder.feed((TELNET + TELNET)[cut:])]
    assert b"".join(data for data, _ in pieces) == b"a\xffbcda\xffbcd"
    assert b"".join(answer for _, answer in pieces) == b"\xff\xfd\x01\xff\xfc\x18"


def test_telnet_options_are_answered_once() -> None:
    decoder = TelnetDecoder()
    assert decoder.feed(b"\xff\xfb\x01\xff\xfb\x01")[1] == b"\xff\xfd\x01"


def test_telnet_sends_every_byte_and_breaks() -> None:
    ours, theirs = socket.socketpair()
    line = TelnetTransport(ours)
    line.send(b"a\xff\r")
    assert line.send_break()
    assert theirs.recv(100) == b"a\xff\xff\r\0\xff\xf3"
    theirs.sendall(b"\xff\xfd\x03x")
    assert line.receive() == b"x"
    line.shut()
    assert line.receive() == b""
    line.close()
    theirs.close()


def test_telnet_in_binary_sends_a_carriage_return_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    line = TelnetTransport(ours)
    theirs.sendall(b"\xff\xfd\x00x")  # DO BINARY
    assert line.receive() == b"x"
    assert theirs.recv(100) == b"\xff\xfb\x00"
    line.send(b"a\r\xff")
    assert theirs.recv(100) == b"a\r\xff\xff"
    line.shut()
    line.close()
    theirs.close()


def test_a_server_that_knows_rfc_2217_is_told_the_speed() -> None:
    ours, theirs = socket.socketpair()
    line = TelnetTransport(ours, baud=0xFF00)
    assert theirs.recv(100) == b"\xff\xfb\x2c"  # WILL COM-PORT-OPTION
    theirs.sendall(b"\xff\xfd\x2c\xff\xfd\x2cx")  # DO, once more for good measure
    assert line.receive() == b"x"
    assert theirs.recv(100) == b"\xff\xfa\x2c\x01\x00\x00\xff\xff\x00\xff\xf0"
    line.shut()
    line.close()
    theirs.close()


def test_a_console_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InfraError, match=rf"b\.console: expected a console server at 127\.0\.0\.1:{port}, .* refused"):
        opened(NetworkConsole(host="127.0.0.1", port=port))


def test_a_program_is_a_line() -> None:
    line = Console(opened(CommandConsole(argv=("sh", "-c", "echo hello; cat"))), log=None, name="c")
    assert line.expect("hello\n", timeout=5.0)
    line.send(b"echoed\n")
    assert line.expect("echoed\n", timeout=5.0)
    line.close()
    assert line.closed


def test_a_program_that_ends_ends_the_line() -> None:
    line = Console(opened(CommandConsole(argv=("true",))), log=None, name="c")
    assert line.wait_closed(5.0)
    line.close()


def test_slow_sending_loses_nothing() -> None:
    line = Console(opened(CommandConsole(argv=("cat",), slow_send_ms=1.0)), log=None, name="c")
    line.send(b"one by one\n")
    assert line.expect("one by one\n", timeout=5.0)
    line.close()


@pytest.fixture
def device() -> Iterator[tuple[int, str, int]]:
    """A serial device: the far end's file descriptor and its path."""
    far, near = pty.openpty()
    tty.setraw(near)
    path = os.ttyname(near)
    yield far, path, near
    os.close(far)


def test_a_serial_device(device: tuple[int, str, int]) -> None:
    far, path, near = device
    os.close(near)
    line = Console(opened(SerialConsole(device=path)), log=None, name="s")
    os.write(far, b"U-Boot\r\n")
    assert line.expect("U-Boot\r\n", timeout=5.0)
    line.send(b"\r")
    assert os.read(far, 10) == b"\r"
    closer = threading.Thread(target=line.close)
    closer.start()
    closer.join(timeout=5.0)
    assert not closer.is_alive()


def test_no_such_device_is_told_at_once_with_its_name() -> None:
    started = time.monotonic()
    with pytest.raises(
        InfraError, match=r"b\.console: expected a serial device at /dev/no-such-thing, found none; plug"
    ):
        opened(SerialConsole(device="/dev/no-such-thing"))
    assert time.monotonic() - started < 20.0


def test_what_is_no_serial_device_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("/dev/null", str(tmp_path / "file")):
        with pytest.raises(InfraError, match=rf"expected a serial device at {path}, found something else; correct"):
            opened(SerialConsole(device=path))


@fault(
    "another program reads the serial device",
    where="two users",
    blame=Blame.INFRA,
    survives="its line; it is named",
)
def test_a_second_reader_is_refused_with_the_holders_name(device: tuple[int, str, int]) -> None:
    _, path, near = device
    holder = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"], stdin=near, stdout=subprocess.PIPE
    )
    os.close(near)
    assert holder.stdout
    holder.stdout.readline()
    try:
        with pytest.raises(
            InfraError, match=rf"is in use by `.*python.*` \(process {holder.pid}, \w+\); end that first"
        ):
            opened(SerialConsole(device=path))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
