"""The console: every byte recorded, lines handed on, patterns waited for."""

import re
import socket
import threading
from pathlib import Path

import pytest

from harness.target.console import Console
from harness.target.transport import SocketTransport


@pytest.fixture
def line(tmp_path: Path):
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=tmp_path / "console.log", name="test")
    yield console, theirs, tmp_path / "console.log"
    theirs.close()
    console.close()


def _ended(console: Console, theirs: socket.socket) -> None:
    theirs.shutdown(socket.SHUT_WR)
    assert console.wait_closed(5)


def test_log_holds_every_byte_and_a_time_for_every_line(line):
    console, theirs, log = line
    for piece in (b"fir", b"st\nsec", b"ond\xff\n", b"unfinished"):
        theirs.sendall(piece)
    _ended(console, theirs)
    recorded = log.read_bytes()
    assert re.sub(rb"\[ *\d+\.\d{6}\] ", b"", recorded) == b"first\nsecond\xff\nunfinished"
    assert len(re.findall(rb"^\[ *\d+\.\d{6}\] ", recorded, re.MULTILINE)) == 3


def test_listeners_get_whole_lines_in_order(line):
    console, theirs, _ = line
    lines = []
    console.listen(lambda _time, text: lines.append(text))
    for byte in b"one\r\ntwo\n\nlast":
        theirs.sendall(bytes([byte]))
    _ended(console, theirs)
    assert lines == ["one", "two", "", "last"]
    assert console.tail(2) == ["", "last"]


def test_a_listener_that_stops_hears_nothing_more(line):
    console, theirs, _ = line
    heard, seen = [], threading.Event()
    stop = console.listen(lambda _time, text: heard.append(text))
    console.listen(lambda _time, text: seen.set())
    theirs.sendall(b"before\n")
    assert seen.wait(5)
    stop()
    theirs.sendall(b"after\n")
    _ended(console, theirs)
    assert heard == ["before"]


def test_expect_sees_what_came_before_it_was_called(line):
    console, theirs, _ = line
    theirs.sendall(b"U-Boot 2023.01\nHit any key")
    match = console.expect(r"U-Boot (\S+)", timeout=5)
    assert match is not None
    assert match[1] == "2023.01"


def test_expect_gives_none_at_its_time_limit_and_at_the_end(line):
    console, theirs, _ = line
    theirs.sendall(b"something else\n")
    assert console.expect("never", timeout=0.05) is None
    _ended(console, theirs)
    assert console.expect("never", timeout=5) is None


def test_a_line_without_end_does_not_fill_memory(line):
    console, theirs, log = line
    for _ in range(40):
        theirs.sendall(b"x" * 65536)
    theirs.sendall(b"\nnext\n")
    _ended(console, theirs)
    assert console.tail(1) == ["next"]
    assert len(console.tail(2)[0]) < 40 * 65536
    assert log.stat().st_size >= 40 * 65536  # the log has all of it


def test_sending_into_a_closed_line_is_noticed_not_raised(line):
    console, theirs, _ = line
    theirs.close()
    assert console.wait_closed(5)
    console.send(b"anybody?\n")
    assert console.closed
