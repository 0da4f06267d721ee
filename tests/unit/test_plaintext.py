"""What a target says, without what is put around it on the way."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from harness.target.line.console import Console
from harness.target.line.plaintext import PlainText
from harness.target.line.times import AT_START
from harness.target.line.transport import SocketTransport


@pytest.fixture
def heard() -> Iterator[tuple[socket.socket, PlainText]]:
    ours, theirs = socket.socketpair()
    console = Console(SocketTransport(ours), log=None, name="board")
    yield theirs, PlainText(console)
    console.close()
    theirs.close()


TIMES = [
    "[   12.345678] ",
    "[0002.138] ",
    "[00.359]",
    "[12.345678 0.000123] ",
    "[2026-01-01 12:00:00] ",
    "[2026-01-01T12:00:00.123Z] ",
    "[12:34:56.789] ",
    "<12:00:00> ",
    "12:00:00.123 ",
    "2026-01-01 12:00:00: ",
    "2026-01-01T12:00:00+02:00 ",
    "Jan  1 12:00:00 ",
    "Thu Jan  1 12:00:00 2026 ",
]


@pytest.mark.parametrize("line", ["=> ", "00:11:22:33:44:55", "[OK]", "[1] x", "1.5 GiB", "12:30", "U-Boot 2023.01"])
def test_what_is_no_time(line: str) -> None:
    assert not AT_START.match(line)


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("stamp", ["", *TIMES])
@pytest.mark.parametrize("end", ["\r\n", "\r\r\n", "\n", "\n\r", "\0\r\n"])
def test_lines_are_plain_however_they_arrive(
    heard: tuple[socket.socket, PlainText], step: int, stamp: str, end: str
) -> None:
    theirs, text = heard
    raw = "".join(f"{stamp}{line}{end}" for line in ("\x1b[1;32mgreen\x1b[0m", "", "a  b")) + f"{stamp}\x1b[1m=> \x1b[m"
    for start in range(0, len(raw), step):
        theirs.sendall(raw[start : start + step].encode())
    assert text.expect(r"\A\r?green\n\r?\n\r?a  b\n\r?=> $", timeout=5.0)


def test_a_time_behind_the_prompt_is_left_out_once_the_prompt_is_known(
    heard: tuple[socket.socket, PlainText],
) -> None:
    theirs, text = heard
    text.prompt = "=> "
    theirs.sendall(b"\n=> ")
    assert text.expect(r"\n=> ", timeout=5.0)
    theirs.sendall(b"[ 503.743] version\r\n[ 503.744] U-Boot\r\n=> ")
    found = text.expect(r"\Aversion\n(.*)\n=> $", timeout=5.0)
    assert found
    assert found[1] == "U-Boot"


def test_matches_come_one_after_the_other(heard: tuple[socket.socket, PlainText]) -> None:
    theirs, text = heard
    theirs.sendall(b"one two\r\nthree")
    for word in ("one", "two", r"\nth", "ree"):
        assert text.expect(word, timeout=5.0)
    assert not text.expect("o", timeout=0.0)
    theirs.sendall(b" four\r\n")
    assert text.expect(r"\A four\n", timeout=5.0)


def test_what_is_kept_is_bounded(heard: tuple[socket.socket, PlainText]) -> None:
    theirs, text = heard
    theirs.settimeout(30.0)
    for chunk in (b"x" * 65536,) * 64 + (b"y\r\n" * 20000,) * 32:
        theirs.sendall(chunk)
        text.more(timeout=0.0)
    theirs.sendall(b"end")
    assert text.expect("end$", timeout=30.0)
    theirs.sendall(b"z" * 1000)
    assert text.expect("z{1000}", timeout=5.0)
    assert len(text._whole) + len(text._partial) < 1 << 19


def test_an_unfinished_escape_sequence_is_not_shown(heard: tuple[socket.socket, PlainText]) -> None:
    theirs, text = heard
    theirs.sendall(b"a\x1b[3")
    assert text.expect("a$", timeout=5.0)
    theirs.sendall(b"1mb")
    assert text.expect(r"\Ab$", timeout=5.0)
