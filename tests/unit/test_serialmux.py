"""One serial line, several channels: what is sent is acknowledged, what was lost is asked for, ends are told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from harness.target.line.console import Console
from harness.target.line.frames import AUX, COMMANDS, KERNEL, encoded
from harness.target.line.serialmux import Channel, SerialMux
from harness.target.line.transport import SocketTransport
from tests.faults.catalogue import Blame, fault


def said(text: str) -> bytes:
    """What the target's end of the protocol says itself."""
    return encoded("", 0, text.encode()).removesuffix(b"\n")


class FarEnd:
    """A target's side of the line."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5.0)
        self.line = Console(SocketTransport(ours), log=None, name="line")
        self.mux = SerialMux(self.line, place="b")
        self.consoles = {name: Console(end, log=None, name=name) for name, end in self.mux.channels.items()}
        self._reader = self.theirs.makefile("rb")
        self._number = 0

    def frame(self, channel: str, text: str) -> bytes:
        self._number += 1
        return encoded(channel, self._number, text.encode()).removesuffix(b"\n")

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
def far_end() -> Iterator[FarEnd]:
    end = FarEnd()
    yield end
    end.close()


def test_each_channel_is_a_console(far_end: FarEnd) -> None:
    pieces = [("C", "one"), ("c", "tw"), ("C", "o"), ("A", "x"), ("K", "[    1.000000] log")]
    far_end.says(b"U-Boot", said("!ready"), *(far_end.frame(*piece) for piece in pieces))
    assert far_end.consoles[COMMANDS].expect("one\ntwo\n", timeout=5.0)
    assert far_end.consoles[AUX].expect("x\n", timeout=5.0)
    assert far_end.consoles[KERNEL].expect(r"U-Boot\n\[    1.000000\] log\n", timeout=5.0)
    assert far_end.mux.ready.is_set()


def test_what_is_sent_goes_frame_by_frame_as_it_is_acknowledged(far_end: FarEnd) -> None:
    far_end.consoles[COMMANDS].send(b"echo\n" + b"x" * 600 + b"\n")
    assert far_end.hears() == encoded("C", 1, b"echo").rstrip()
    far_end.says(said("+1"))
    assert far_end.hears() == encoded("c", 2, b"x" * 500).rstrip()
    far_end.says(said("-"))  # it lost some
    assert far_end.hears() == encoded("c", 2, b"x" * 500).rstrip()
    far_end.says(said("+1"), said("+2"))  # an old answer is none
    assert far_end.hears() == encoded("C", 3, b"x" * 100).rstrip()


def test_a_frame_that_did_not_come_is_asked_for_and_the_next_waits(far_end: FarEnd) -> None:
    first, second, third = (far_end.frame("C", text) for text in ("one", "two", "three"))
    far_end.says(said("!ready"), first, second[:-1], third)
    assert far_end.hears() == encoded("?", 0, b"2").rstrip()
    far_end.says(second)
    assert far_end.consoles[COMMANDS].expect("one\ntwo\nthree\n", timeout=5.0)


def test_a_last_frame_that_was_damaged_is_asked_for_too(far_end: FarEnd) -> None:
    whole = far_end.frame("C", "end")
    far_end.says(said("!ready"), whole.replace(b"end", b"eld"))
    assert far_end.hears() == encoded("?", 0, b"0").rstrip()  # nothing says which one it was
    far_end.says(said("!at 1"))
    assert far_end.hears() == encoded("?", 0, b"1").rstrip()
    far_end.says(whole)
    assert far_end.consoles[COMMANDS].expect("end\n", timeout=5.0)


def test_a_marked_kernel_line_waits_for_all_that_was_printed_before_it(far_end: FarEnd) -> None:
    far_end.mux.mark("the end")
    lost, last = far_end.frame("K", "[    1.000000] lost"), far_end.frame("K", "[    2.000000] the end")
    far_end.says(said("!ready"), last.replace(b"@", b""), last)  # damaged, so it may be the kernel's own; and whole
    assert far_end.hears() == encoded("?", 0, b"1").rstrip()
    assert far_end.consoles[KERNEL].tail() == []
    far_end.says(lost)
    assert far_end.consoles[KERNEL].expect(r"\A\[    1.000000\] lost\n\[    2.000000\] the end\n", timeout=5.0)


def test_a_line_is_bad_once_it_has_damaged_something_behind_the_boot_loader(far_end: FarEnd) -> None:
    far_end.says(b"U-Boot 2023.01", said("!ready"), far_end.frame("C", "first"))
    assert far_end.consoles[COMMANDS].expect("first\n", timeout=5.0)
    assert not far_end.mux.is_bad
    far_end.says(far_end.frame("C", "next")[1:], said("!ready"), far_end.frame("C", "last"))
    far_end.hears()
    assert far_end.mux.is_bad


def test_a_target_that_is_silent_is_asked_how_far_it_is(far_end: FarEnd) -> None:
    """The whole frame was lost, and nothing came after it."""
    whole = far_end.frame("C", "end")
    far_end.says(said("!ready"))
    assert far_end.hears() == encoded("?", 0, b"0").rstrip()
    far_end.says(said("!at 1"))
    assert far_end.hears() == encoded("?", 0, b"1").rstrip()
    far_end.says(whole)
    assert far_end.consoles[COMMANDS].expect("end\n", timeout=5.0)


def test_a_line_that_a_person_has_gets_no_questions(far_end: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.target.line.serialmux._FIRST_QUIET_S", 0.02)
    far_end.says(said("!ready"))
    assert far_end.hears() == encoded("?", 0, b"0").rstrip()
    far_end.mux.hand_over()
    far_end.says(far_end.frame("K", "damaged")[1:], b"and silence")
    far_end.theirs.settimeout(1.0)
    with pytest.raises(TimeoutError):
        far_end.hears()


@fault(
    "more bytes are lost on the serial line than the target remembers",
    where="console",
    blame=Blame.INFRA,
    survives="the kernel log that still comes; the reason",
)
def test_a_frame_that_the_target_has_no_longer_ends_the_shells_with_the_reason(far_end: FarEnd) -> None:
    far_end.frame("C", "lost")
    far_end.says(said("!ready"), far_end.frame("C", "next"), said("!gone 1"))
    assert far_end.consoles[COMMANDS].wait_closed(5.0)
    assert far_end.consoles[AUX].wait_closed(5.0)
    assert far_end.mux.lost.startswith(
        "b: bytes were lost or changed on the serial line, more than the target can send"
    )
    held, later = (far_end.frame("K", f"[    1.000000] {text}") for text in ("held", "later"))
    far_end.says(held, later)
    assert far_end.consoles[KERNEL].expect(r"held\n.*later\n", timeout=5.0)


@pytest.mark.parametrize(
    "text", ["!at", "!at x", "!at -1", "!gone", "!gone 1e9", "+x", "-", "!", "", "+999999999999999999"]
)
@fault(
    "the target answers the line's protocol with nonsense",
    where="hostile target",
    blame=Blame.NOBODY,
    survives="what else it says",
)
def test_a_target_that_talks_nonsense_disturbs_nothing(far_end: FarEnd, text: str) -> None:
    far_end.says(said("!ready"), said(text), far_end.frame("C", "one"))
    assert far_end.consoles[COMMANDS].expect("one\n", timeout=5.0)
    assert not far_end.mux.lost


@fault(
    "each repeat of a frame arrives damaged",
    where="console",
    blame=Blame.INFRA,
    survives="the reason: cable and ground",
)
def test_a_frame_that_never_comes_whole_ends_the_shells_with_the_reason(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.target.line.serialmux._ASK_AGAIN_S", 0.01)
    far_end.frame("C", "lost")
    far_end.says(said("!ready"), far_end.frame("C", "next"))
    assert far_end.consoles[COMMANDS].wait_closed(5.0)
    assert "frame 1 30 times in a row; see its cable and ground" in far_end.mux.lost


def test_a_line_that_was_lost_and_is_back_costs_nothing_where_the_target_still_has_it_all(far_end: FarEnd) -> None:
    far_end.says(said("!ready"))
    assert far_end.mux.ready.wait(5.0)
    first, second = far_end.frame("C", "one"), far_end.frame("C", "two")
    far_end.mux.gap()
    assert far_end.hears() == encoded("?", 0, b"0").rstrip()
    far_end.says(said("!at 2"))
    assert {far_end.hears(), far_end.hears()} == {encoded("?", 0, number).rstrip() for number in (b"1", b"2")}
    far_end.says(second, first)
    assert far_end.consoles[COMMANDS].expect("one\ntwo\n", timeout=5.0)
    assert not far_end.mux.lost


@fault(
    "the serial line comes back, and the target does not answer on it",
    where="console",
    blame=Blame.INFRA,
    survives="the reason",
)
def test_a_target_that_does_not_answer_after_the_line_was_lost(
    far_end: FarEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.target.line.serialmux._BACK_LIMIT_S", 0.2)
    far_end.says(said("!ready"))
    assert far_end.mux.ready.wait(5.0)
    far_end.mux.gap()
    assert far_end.consoles[COMMANDS].wait_closed(5.0)
    assert "came back, but the target does not answer on it any more" in far_end.mux.lost


def test_the_channels_end_with_the_line(far_end: FarEnd) -> None:
    far_end.theirs.shutdown(socket.SHUT_RDWR)
    assert all(console.wait_closed(5.0) for console in far_end.consoles.values())
    assert not far_end.mux.reset.is_set()


def test_a_machine_that_starts_anew_ends_the_shells(far_end: FarEnd) -> None:
    far_end.says(b"U-Boot 2023.01 (early)")
    far_end.says(said("!ready"))
    assert far_end.mux.ready.wait(5.0)
    assert not far_end.mux.reset.is_set()
    far_end.says(b"U-Boot 2023.01 (again)")
    assert far_end.consoles[COMMANDS].wait_closed(5.0)
    assert far_end.mux.reset.is_set()


def test_closing_waits_for_nobody(far_end: FarEnd) -> None:
    far_end.consoles[COMMANDS].send(b"never acknowledged\n")
    closer = threading.Thread(target=far_end.mux.close)
    closer.start()
    closer.join(timeout=2.0)
    assert not closer.is_alive()


def test_what_waits_in_a_channel_comes_in_one_chunk() -> None:
    channel = Channel("C", lambda _name, _data: None, lambda: False)
    for number in range(100):
        channel.push(b"%d\n" % number)
    assert channel.receive() == b"".join(b"%d\n" % number for number in range(100))
    for _ in range(4):
        channel.push(b"x" * 40_000)
    assert [len(channel.receive()) for _ in range(2)] == [80_000, 80_000]
    channel.push(b"last")
    channel.shut()
    assert channel.receive() == b"last"
    assert channel.receive() == b""
