"""The console: every byte recorded, lines handed on, patterns waited for."""

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from harness.target.line.console import Console, _Feed
from harness.target.line.transport import SocketTransport
from tests.unit.pieces import Pieces


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Console, socket.socket, Path]]:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=tmp_path / "console.log", name="test")
    yield console, theirs, tmp_path / "console.log"
    theirs.close()
    console.close()


def _ended(console: Console, theirs: socket.socket) -> None:
    theirs.shutdown(socket.SHUT_WR)
    assert console.wait_closed(5)


def test_log_holds_every_byte_and_a_time_for_every_line(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, log = line
    for piece in (b"fir", b"st\nsec", b"ond\xff\n", b"unfinished"):
        theirs.sendall(piece)
    _ended(console, theirs)
    recorded = log.read_bytes()
    assert re.sub(rb"\[ *\d+\.\d{6}\] ", b"", recorded) == b"first\nsecond\xff\nunfinished"
    assert len(re.findall(rb"^\[ *\d+\.\d{6}\] ", recorded, re.MULTILINE)) == 3


def test_listeners_get_whole_lines_in_order(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, _ = line
    lines = []
    console.listen(lambda _time, text: lines.append(text))
    for byte in b"one\r\ntwo\n\nlast":
        theirs.sendall(bytes([byte]))
    _ended(console, theirs)
    assert lines == ["one", "two", "", "last"]
    assert console.tail(2) == ["", "last"]


def test_a_listener_that_stops_hears_nothing_more(line: tuple[Console, socket.socket, Path]) -> None:
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


def test_expect_sees_what_came_before_it_was_called(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, _ = line
    theirs.sendall(b"U-Boot 2023.01\nHit any key")
    match = console.expect(r"U-Boot (\S+)", timeout=5)
    assert match is not None
    assert match[1] == "2023.01"


def test_expect_gives_none_at_its_time_limit_and_at_the_end(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, _ = line
    theirs.sendall(b"something else\n")
    assert console.expect("never", timeout=0.05) is None
    _ended(console, theirs)
    assert console.expect("never", timeout=5) is None


def test_a_line_without_end_does_not_fill_memory(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, log = line
    for _ in range(40):
        theirs.sendall(b"x" * 65536)
    theirs.sendall(b"\nnext\n")
    _ended(console, theirs)
    assert console.tail(1) == ["next"]
    assert len(console.tail(2)[0]) < 40 * 65536
    assert log.stat().st_size >= 40 * 65536  # the log has all of it


def test_sending_into_a_closed_line_is_noticed_not_raised(line: tuple[Console, socket.socket, Path]) -> None:
    console, theirs, _ = line
    theirs.close()
    assert console.wait_closed(5)
    console.send(b"anybody?\n")
    assert console.closed


HOSTILE = "eins\r\n\u20ac zwei\n".encode() + b"\xc3(\xff\xf0\x9f\n\n\r" + "d\u00fcrei".encode()
HOSTILE_LINES = ["eins", "\u20ac zwei", "\ufffd(\ufffd\ufffd", "", "\rd\u00fcrei"]


@pytest.mark.parametrize("cut", range(len(HOSTILE) + 1))
def test_cuts_change_neither_lines_nor_log(tmp_path: Path, cut: int) -> None:
    transport = Pieces(piece for piece in (HOSTILE[:cut], HOSTILE[cut:]) if piece)
    console = Console(transport, log=tmp_path / "log", name="test")
    lines, blocks = [], []
    console.listen(lambda _time, line: lines.append(line))
    console.listen_blocks(lambda _time, block: blocks.append(block))
    transport.begin.set()
    assert console.wait_closed(5)
    assert lines == HOSTILE_LINES == console.tail()
    assert "".join(blocks) == "".join(line + "\n" for line in HOSTILE_LINES)
    recorded = (tmp_path / "log").read_bytes()
    assert re.sub(rb"^\[ *\d+\.\d{6}\] ", b"", recorded, flags=re.MULTILINE) == HOSTILE
    console.close()


@pytest.mark.parametrize("piece", [b"y\n" * 32_768, b"x" * 65_536, b"\xff\xc3(\r\n" * 13_000, b"a line of text\n"])
def test_memory_stays_bounded_whatever_comes(piece: bytes) -> None:
    """What a console retains after 2 MB it retains, at most twice, after 8 MB."""
    kept = []
    for megabytes in (2, 8):
        transport = Pieces(piece for _ in range(megabytes * (1 << 20) // len(piece)))
        console = Console(transport, log=None, name="test")
        transport.begin.set()
        assert console.wait_closed(60)
        kept.append(len(console._feed._bytes) + sum(map(len, console.tail(1000))))
        console.close()
    assert kept[1] <= 2 * kept[0] + 65_536


def test_while_a_listener_waits_nothing_is_read() -> None:
    """The target has to wait then; the socket's buffer is all that fills."""
    transport = Pieces(b"line\n" for _ in range(100))
    console = Console(transport, log=None, name="test")
    waits, go_on, blocks = threading.Event(), threading.Event(), []

    def slow(_time: float, block: str) -> None:
        blocks.append(block)
        waits.set()
        assert go_on.wait(5)

    console.listen_blocks(slow)
    transport.begin.set()
    assert waits.wait(5)
    assert transport.received == 1
    go_on.set()
    assert console.wait_closed(5)
    assert "".join(blocks) == "line\n" * 100
    console.close()


def test_what_expect_has_looked_through_is_forgotten() -> None:
    feed = _Feed()
    for _ in range(100):
        feed.push(b"x" * 65_536)
        assert feed.expect(["never", pexpect.TIMEOUT], timeout=0) == 1
    assert feed._before.tell() + feed._buffer.tell() + len(feed._bytes) < 1 << 20
    feed.push(b"at la")
    assert feed.expect(["at last", pexpect.TIMEOUT], timeout=0) == 1
    feed.push(b"st")
    assert feed.expect(["x{1000}at last$", pexpect.TIMEOUT], timeout=0) == 0


@pytest.mark.parametrize("cut", range(1, 40))
def test_expect_finds_what_is_cut(cut: int) -> None:
    text = "\u20ac\u20ac\u20ac U-Boot 2023.01 \u20ac\u20ac".encode()
    transport = Pieces(text[start : start + cut] for start in range(0, len(text), cut))
    console = Console(transport, log=None, name="test")
    transport.begin.set()
    match = console.expect("U-Boot (.{7}) \u20ac\u20ac", timeout=5)
    assert match
    assert match[1] == "2023.01"
    console.close()
