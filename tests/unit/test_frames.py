"""Frames of a serial line: damage is seen, torn ones are put together, lost ones known, kernel lines come once."""

from __future__ import annotations

import pytest

from harness.target.line.frames import (
    AUX,
    COMMANDS,
    KERNEL,
    PROTOCOL,
    Frame,
    InOrder,
    KernelLines,
    Untangler,
    decoded,
    encoded,
)
from tests.faults.catalogue import Blame, fault


def frame(channel: str, text: str, number: int = 1) -> bytes:
    return encoded(channel, number, text.encode()).removesuffix(b"\n")


def untangled(*lines: bytes) -> list[tuple[str, str]]:
    untangler = Untangler()
    return [(got.channel, got.text.decode()) for line in lines for got in untangler.take(line)]


def test_frames_and_what_the_kernel_says_itself() -> None:
    lines = [b"U-Boot 2023.01\r", frame("C", "a result"), frame("A", ""), frame("", "+7"), b"[    1.000000] x\r"]
    assert untangled(*lines) == [
        (KERNEL, "U-Boot 2023.01"),
        (COMMANDS, "a result"),
        (AUX, ""),
        (PROTOCOL, "+7"),
        (KERNEL, "[    1.000000] x"),
    ]


def test_the_far_ends_own_sum() -> None:
    """As gawk reckoned it on a target; what it says when it is ready stands in board-init as it is."""
    assert decoded(b"@0:6:7189589:!ready") == Frame(PROTOCOL, b"!ready")
    assert decoded(b"@C711:0:16441235:") == Frame(COMMANDS, b"", number=711)


WHOLE = frame("C", "a: result", 42)


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_no_changed_byte_goes_unseen(place: int) -> None:
    whole = decoded(WHOLE)
    assert whole
    for byte in set(range(256)) - {WHOLE[place]}:
        assert decoded(WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]) in (None, whole)  # whole: 042 is 42


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_no_lost_or_added_bytes_go_unseen(place: int) -> None:
    for count in range(1, len(WHOLE) - place + 1):
        assert decoded(WHOLE[:place] + WHOLE[place + count :]) is None
    for byte in range(256):
        assert decoded(WHOLE[:place] + bytes([byte]) + WHOLE[place:]) in (None, decoded(WHOLE))


def test_two_swapped_bytes_are_seen() -> None:
    assert decoded(frame("C", "ab").replace(b"ab", b"ba")) is None


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_a_frame_that_the_kernel_printed_into_is_put_together(cut: int) -> None:
    lines = [WHOLE[:cut] + b"[   12.345678] oops\r", b"[   12.345679] more\r", WHOLE[cut:]]
    assert untangled(*lines) == [
        (KERNEL, "[   12.345678] oops"),
        (KERNEL, "[   12.345679] more"),
        (COMMANDS, "a: result"),
    ]


STAMPS = [
    "[    1.234567][    T1] ",  # CONFIG_PRINTK_CALLER
    "[    1.234567][ T4194304] ",
    "[    1.234567][    C0] ",
    "<6>[    1.234567] ",  # console_msg_format=syslog
    "<30>[    1.234567][    T1] ",
    "[    1.234567] [        T1] ",  # dmesg of util-linux 2.41
]


@pytest.mark.parametrize("stamp", STAMPS)
def test_kernel_lines_with_levels_and_caller_ids_are_kernel_lines(stamp: str) -> None:
    untangler = Untangler()
    line = f"{stamp}Internal error: Oops".encode()
    assert untangler.take(line) == [Frame(KERNEL, line)]
    assert untangler.damaged == 0


@pytest.mark.parametrize("stamp", STAMPS)
@pytest.mark.parametrize("cut", [1, 5, 12, len(WHOLE) - 1])
@fault("the kernel, which names who prints, prints into a frame", where="console", blame=Blame.NOBODY,
       survives="the frame, and the kernel's line")  # fmt: skip
def test_a_frame_that_such_a_line_tears_is_put_together(stamp: str, cut: int) -> None:
    lines = [WHOLE[:cut] + f"{stamp}oops\r".encode(), f"{stamp}more\r".encode(), WHOLE[cut:]]
    assert untangled(*lines) == [
        (KERNEL, f"{stamp}oops"),
        (KERNEL, f"{stamp}more"),
        (COMMANDS, "a: result"),
    ]


TIMES = ["[2026-01-01 12:00:00] ", "12:00:00.123 ", "[   12.345678] ", "[12.345] "]


@pytest.mark.parametrize("time", TIMES)
@fault("a console server puts the time before each line", where="console", blame=Blame.NOBODY,
       survives="frames, torn ones too, and the kernel's own times")  # fmt: skip
def test_frames_behind_a_console_servers_time(time: str) -> None:
    untangler, before = Untangler(), time.encode()
    lines = [
        frame("", "!ready"),
        frame("C", "a result"),
        b"[    1.000000] x\r",
        WHOLE[:9] + b"[    2.000000] oops\r",
        WHOLE[9:],
        frame("A", "[    3.000000] in a result"),
    ]
    got = [(each.channel, each.text.decode()) for line in lines for each in untangler.take(before + line)]
    assert got == [
        (PROTOCOL, "!ready"),
        (COMMANDS, "a result"),
        (KERNEL, "[    1.000000] x"),
        (KERNEL, "[    2.000000] oops"),
        (COMMANDS, "a: result"),
        (AUX, "[    3.000000] in a result"),
    ]
    assert untangler.damaged == 0


@pytest.mark.parametrize("time", TIMES[:2])
def test_a_servers_time_before_the_first_frame(time: str) -> None:
    lines = [f"{time}U-Boot 2023.01".encode(), f"{time}[    0.000000] Booting Linux".encode()]
    assert untangled(*lines) == [(KERNEL, "U-Boot 2023.01"), (KERNEL, "[    0.000000] Booting Linux")]


def test_the_kernels_own_time_is_kept() -> None:
    lines = [b"[    1.000000] [    0.500000] a message that begins with a time", frame("C", "x"), b"[    2.000000] y"]
    assert untangled(*lines) == [
        (KERNEL, "[    1.000000] [    0.500000] a message that begins with a time"),
        (COMMANDS, "x"),
        (KERNEL, "[    2.000000] y"),
    ]


def test_a_server_that_stops_adding_times() -> None:
    untangler = Untangler()
    for line in (b"[12.345] " + frame("C", "x"), frame("C", "y"), b"[    2.000000] z"):
        got = untangler.take(line)
    assert got == [Frame(KERNEL, b"[    2.000000] z")]


@pytest.mark.parametrize("end", [b"\r", b"\r\r"])
def test_carriage_returns_that_the_line_adds_are_no_damage(end: bytes) -> None:
    assert decoded(frame("C", "a result") + end) == Frame(COMMANDS, b"a result", number=1)
    assert decoded(frame("C", "a result\r") + end) == Frame(COMMANDS, b"a result\r", number=1)


def test_a_frame_torn_twice() -> None:
    lines = [WHOLE[:6] + b"[    1.000000] a\r", WHOLE[6:9] + b"[    2.000000] b\r", WHOLE[9:]]
    assert untangled(*lines)[-1] == (COMMANDS, "a: result")


def test_a_result_that_looks_like_a_kernel_line_is_a_result() -> None:
    text = "before [   12.345678] after"
    assert untangled(frame("C", text)) == [(COMMANDS, text)]


def test_a_damaged_frame_is_no_result() -> None:
    untangler = Untangler()
    damaged = frame("C", "a result").replace(b"a r", b"a ")
    assert untangler.take(damaged) == [Frame(KERNEL, damaged)]
    assert untangler.damaged
    assert untangler.take(frame("C", "next")) == [Frame(COMMANDS, b"next", number=1)]


def test_a_frame_whose_beginning_is_lost_counts_as_damaged() -> None:
    untangler = Untangler()
    untangler.take(WHOLE[1:])
    assert untangler.damaged == 1


def test_what_follows_a_damaged_frame_is_not_lost() -> None:
    untangler = Untangler()
    untangler.take(b"@C1:30:7:a re[    1.000000] x")
    assert untangler.take(frame("C", "next"))[-1] == Frame(COMMANDS, b"next", number=1)
    assert untangler.damaged


def test_a_damaged_kernel_frame_costs_none_of_those_behind_it() -> None:
    lines = ["[    1.000000] one", "[    2.000000] two", "[    3.000000] three"]
    frames = [frame("K", line, number) for number, line in enumerate(lines, 1)]
    untangler = Untangler()
    untangler.take(frames[0].replace(b"one", b"on"))
    assert untangler.take(frames[1])[-1] == Frame(KERNEL, lines[1].encode(), number=2)
    assert untangler.take(frames[2]) == [Frame(KERNEL, lines[2].encode(), number=3)]
    assert untangler.damaged


def numbered(*numbers: int) -> list[Frame]:
    return [Frame(COMMANDS, b"%d" % number, number=number) for number in numbers]


@pytest.mark.parametrize("came", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 1, 1, 4, 2, 3, 4), (1, 3, 4, 2)])
def test_frames_come_once_and_in_order(came: tuple[int, ...]) -> None:
    order = InOrder()
    assert [frame for given in numbered(*came) for frame in order.take(given)] == numbered(1, 2, 3, 4)
    assert order.missing(4) == []


def test_what_is_missing() -> None:
    order = InOrder()
    assert order.missing() == []
    for given in numbered(1, 4, 6):
        order.take(given)
    assert order.missing() == [2, 3, 5]
    assert order.missing(8) == [2, 3, 5, 7, 8]
    for given in numbered(2, 3, 5):
        order.take(given)
    assert (order.missing(), order.missing(6), order.missing(7)) == ([], [], [7])


def test_what_waits_behind_a_missing_frame_is_bounded_and_what_found_no_room_is_missing() -> None:
    order = InOrder()
    for number in range(2, 5001):
        assert order.take(Frame(COMMANDS, b"", number=number)) == []
    assert len(order.take(Frame(COMMANDS, b"", number=1))) == 4097
    assert order.missing(5000) == list(range(4098, 4148))
    assert order.missing(10**15)  # at once
    assert order.is_missing(5000)
    assert not order.is_missing(4097)


def kernel_lines(*frames: Frame) -> list[bytes]:
    lines = KernelLines()
    return [line for frame in frames for line in lines.take(frame)]


@pytest.mark.parametrize("direct_first", [True, False])
def test_a_kernel_line_that_comes_both_ways_comes_once(direct_first: bool) -> None:
    line = b"[   12.345678] Internal error: Oops"
    ways = [Frame(KERNEL, line), Frame(KERNEL, line, number=1)]
    assert kernel_lines(*(ways if direct_first else ways[::-1])) == [line]


@pytest.mark.parametrize("direct_first", [True, False])
@pytest.mark.parametrize("stamp", STAMPS)
@pytest.mark.parametrize("shown", ["[    1.234567] ", "[    1.234567] [        T1] "])
def test_a_line_comes_once_however_dmesg_shows_it(stamp: str, shown: str, direct_first: bool) -> None:
    ways = [Frame(KERNEL, f"{stamp}Oops".encode()), Frame(KERNEL, f"{shown}Oops".encode(), number=1)]
    assert len(kernel_lines(*(ways if direct_first else ways[::-1]))) == 1


def test_only_the_last_kernel_lines_are_remembered() -> None:
    old, new = (b"[    1.000000] %d" % number for number in (0, 9999))
    lines = KernelLines()
    for number in range(10_000):
        lines.take(Frame(KERNEL, b"[    1.000000] %d" % number))
    assert lines.take(Frame(KERNEL, new, number=1)) == []
    assert lines.take(Frame(KERNEL, old, number=2)) == [old]
    assert max(map(len, (seen._times for seen in lines._seen.values()))) == 4000 - 1


def test_a_kernel_line_that_is_printed_twice_comes_twice() -> None:
    line = b"[   12.345678]  again"
    assert kernel_lines(Frame(KERNEL, line, number=1), Frame(KERNEL, line, number=2)) == [line] * 2


def test_a_long_kernel_line_comes_in_pieces() -> None:
    pieces = Frame(KERNEL, b"[    1.000000] a", goes_on=True, number=1), Frame(KERNEL, b"b", number=2)
    assert kernel_lines(*pieces) == [b"[    1.000000] ab"]
