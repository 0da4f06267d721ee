"""One serial line, several channels: frames told apart, torn ones put together, sent ones acknowledged."""

from __future__ import annotations

import socket
import threading

import pytest

from harness.target.console import Console
from harness.target.serialmux import AUX, COMMANDS, KERNEL, Frame, SerialMux, Untangler
from harness.target.transport import SocketTransport


def frame(channel: str, text: str) -> bytes:
    return f"@{channel}{len(text)}:{text}".encode()


def untangled(*lines: bytes) -> list[tuple[str, str]]:
    untangler = Untangler()
    return [(got.channel, got.text.decode()) for line in lines for got in untangler.take(line)]


def test_frames_and_what_the_kernel_says_itself():
    lines = [b"U-Boot 2023.01\r", frame("C", "a result"), frame("A", ""), frame("", "+7"), b"[    1.000000] x\r"]
    assert untangled(*lines) == [
        (KERNEL, "U-Boot 2023.01"),
        (COMMANDS, "a result"),
        (AUX, ""),
        ("", "+7"),
        (KERNEL, "[    1.000000] x"),
    ]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_frame_that_the_kernel_printed_into_is_put_together(cut):
    whole = frame("C", "a result")
    lines = [whole[:cut] + b"[   12.345678] oops\r", b"[   12.345679] more\r", whole[cut:]]
    assert untangled(*lines) == [
        (KERNEL, "[   12.345678] oops"),
        (KERNEL, "[   12.345679] more"),
        (COMMANDS, "a result"),
    ]


def test_a_frame_torn_twice():
    whole = frame("C", "a result")
    lines = [whole[:6] + b"[    1.000000] a\r", whole[6:9] + b"[    2.000000] b\r", whole[9:]]
    assert untangled(*lines)[-1] == (COMMANDS, "a result")


def test_a_result_that_looks_like_a_kernel_line_is_a_result():
    text = "before [   12.345678] after"
    assert untangled(frame("C", text)) == [(COMMANDS, text)]


def test_a_frame_that_lost_bytes_is_no_result():
    untangler = Untangler()
    assert untangler.take(b"@C8:a reslt") == [Frame(KERNEL, b"@C8:a reslt")]
    assert untangler.damaged == 1
    assert untangler.take(frame("C", "next")) == [Frame(COMMANDS, b"next")]


def test_what_follows_a_damaged_frame_is_not_lost():
    untangler = Untangler()
    untangler.take(b"@C30:a re[    1.000000] x")
    assert untangler.take(frame("C", "next"))[-1] == Frame(COMMANDS, b"next")
    assert untangler.damaged == 1


@pytest.mark.parametrize("direct_first", [True, False])
def test_a_kernel_line_that_comes_both_ways_comes_once(direct_first):
    line = "[   12.345678] Internal error: Oops"
    ways = [f"{line}\r".encode(), frame("K", line)]
    assert untangled(*(ways if direct_first else ways[::-1])) == [(KERNEL, line)]


def test_a_kernel_line_that_is_printed_twice_comes_twice():
    line = "[   12.345678]  again"
    assert untangled(frame("K", line), frame("K", line)) == [(KERNEL, line)] * 2


def test_a_long_kernel_line_comes_in_pieces():
    assert untangled(frame("k", "[    1.000000] a"), frame("K", "b")) == [(KERNEL, "[    1.000000] ab")]


class FarEnd:
    """A target's side of the line."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5.0)
        self.line = Console(SocketTransport(ours), log=None, name="line")
        self.mux = SerialMux(self.line)
        self.consoles = {name: Console(end, log=None, name=name) for name, end in self.mux.channels.items()}
        self._reader = self.theirs.makefile("rb")

    def says(self, *lines: bytes) -> None:
        self.theirs.sendall(b"".join(line + b"\n" for line in lines))

    def hears(self) -> bytes:
        while not (line := self._reader.readline().rstrip(b"\n")):
            pass
        return line

    def close(self) -> None:
        self.mux.close()
        for console in (*self.consoles.values(), self.line):
            console.close()
        self._reader.close()
        self.theirs.close()


@pytest.fixture
def far_end():
    end = FarEnd()
    yield end
    end.close()


def test_each_channel_is_a_console(far_end):
    far_end.says(b"U-Boot", frame("", "!ready"), frame("C", "one"), frame("c", "tw"), frame("C", "o"), frame("A", "x"))
    assert far_end.consoles[COMMANDS].expect("one\ntwo\n", timeout=5.0)
    assert far_end.consoles[AUX].expect("x\n", timeout=5.0)
    assert far_end.consoles[KERNEL].expect("U-Boot\n", timeout=5.0)
    assert far_end.mux.ready.is_set()


def test_what_is_sent_goes_frame_by_frame_as_it_is_acknowledged(far_end):
    far_end.consoles[COMMANDS].send(b"echo\n" + b"x" * 600 + b"\n")
    assert far_end.hears() == b"@C1:4:echo"
    far_end.says(frame("", "+1"))
    assert far_end.hears() == b"@c2:500:" + b"x" * 500
    far_end.says(frame("", "-2"))  # it lost some
    assert far_end.hears() == b"@c2:500:" + b"x" * 500
    far_end.says(frame("", "+2"))
    assert far_end.hears() == b"@C3:100:" + b"x" * 100


def test_the_channels_end_with_the_line(far_end):
    far_end.theirs.shutdown(socket.SHUT_RDWR)
    assert all(console.wait_closed(5.0) for console in far_end.consoles.values())
    assert not far_end.mux.reset.is_set()


def test_a_machine_that_starts_anew_ends_the_shells(far_end):
    far_end.says(b"U-Boot 2023.01 (early)")
    far_end.says(frame("", "!ready"))
    assert far_end.mux.ready.wait(5.0)
    assert not far_end.mux.reset.is_set()
    far_end.says(b"U-Boot 2023.01 (again)")
    assert far_end.consoles[COMMANDS].wait_closed(5.0)
    assert far_end.mux.reset.is_set()


def test_closing_waits_for_nobody(far_end):
    far_end.consoles[COMMANDS].send(b"never acknowledged\n")
    closer = threading.Thread(target=far_end.mux.close)
    closer.start()
    closer.join(timeout=2.0)
    assert not closer.is_alive()
