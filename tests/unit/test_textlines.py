"""Pieces of text in, whole lines out: the same wherever the cuts are, and bounded whatever comes."""

from __future__ import annotations

import re

import pytest

from harness.target.line.textlines import LONGEST_LINE, MOST_KEPT, LineSplitter, Tail

TEXT = "one\r\n\n\r\r\ntwo\rstill two\n  three\r\r\nrest\r"
LINES = "one\n\n\ntwo\rstill two\n  three\n"


@pytest.mark.parametrize("cut", range(len(TEXT) + 1))
def test_two_pieces(cut: int) -> None:
    splitter = LineSplitter()
    assert splitter.take(TEXT[:cut]) + splitter.take(TEXT[cut:]) == LINES
    assert splitter.partial == "rest\r"


def test_one_character_at_a_time() -> None:
    splitter = LineSplitter()
    assert "".join(splitter.take(character) for character in TEXT) == LINES


def test_a_block_is_never_empty_lines_by_mistake() -> None:
    splitter = LineSplitter()
    assert splitter.take("") == ""
    assert splitter.take("no end") == ""
    assert splitter.take("\n") == "no end\n"
    assert splitter.partial == ""


@pytest.mark.parametrize("size", [1, 1000, 65_536, 300_000])
def test_of_an_endless_line_the_beginning_and_the_end_are_kept(size: int) -> None:
    splitter = LineSplitter()
    most = 0
    splitter.take("begin ")
    for _ in range(1_500_000 // size):
        assert splitter.take("x" * size) == ""
        most = max(most, len(splitter.partial)) if size > 1 else most
    assert most <= 4 * LONGEST_LINE + 80
    splitter.take(" end")
    assert len(splitter.partial) <= 4 * LONGEST_LINE + 80
    block = splitter.take("\nnext\n")
    line, following, empty = block.split("\n")
    assert line.startswith("begin xxx")
    assert line.endswith("xxx end")
    assert (following, empty) == ("next", "")
    marked = re.fullmatch(r"(begin x+)\[\.\.\. (\d+) characters of this line left out \.\.\.\](x+ end)", line)
    assert marked
    assert len(marked[1]) == LONGEST_LINE
    assert LONGEST_LINE <= len(marked[3]) <= 3 * LONGEST_LINE
    assert len(marked[1]) + int(marked[2]) + len(marked[3]) == len("begin ") + 1_500_000 // size * size + len(" end")


def test_a_cut_line_says_where_it_is_whole() -> None:
    splitter = LineSplitter(longest=4, whole="console.log")
    lines = [splitter.take(text) for text in ("0123456789", "abcdef", "ghij", "\nshort\n")]
    mark = "[... 8 characters of this line left out; whole in console.log ...]"
    assert "".join(lines) == f"0123{mark}cdefghij\nshort\n"


@pytest.mark.parametrize("length", [12, 13])
def test_a_line_within_the_limit_is_whole(length: int) -> None:
    splitter = LineSplitter(longest=4)
    pieces = [splitter.take("x") for _ in range(length)]
    assert ("left out" in splitter.take("\n")) is (length > 12)
    assert not any(pieces)


def test_many_carriage_returns_take_no_longer_than_other_text() -> None:
    """Each run of them is looked at once; looked at from each of its characters this would take hours."""
    block = "\r" * 3_000_000 + "x\n" + "\r" * 3_000_000 + "\n"
    assert LineSplitter().take(block) == "\r" * 3_000_000 + "x\n\n"


def test_a_tail_has_the_last_lines() -> None:
    tail = Tail(3)
    assert tail.lines() == []
    for block, lines in [
        ("a\n", "a"),
        ("b\nc\n", "abc"),
        ("d\n", "bcd"),
        ("e\nf\ng\nh\n", "fgh"),
        ("\n", ["g", "h", ""]),
    ]:
        tail.add(block)
        assert tail.lines() == [*lines]


def test_a_tail_is_bounded_by_lines_and_by_size() -> None:
    tail = Tail(1000)
    for number in range(5000):
        tail.add(f"{number}\n" * 7)
    assert tail.lines() == [str(number) for number in range(4000, 5000) for _ in range(7)][-1000:]
    assert tail.size < 1100 * len("4999\n")
    for _ in range(200):
        tail.add("x" * LONGEST_LINE + "\n")
        assert tail.size <= MOST_KEPT + LONGEST_LINE
    assert 10 < len(tail.lines()) < 100
