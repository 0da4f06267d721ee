"""Fragments: what they may hold, how they merge, and what a final configuration owes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.layout import KCONFIGS
from harness.parse.kconfig import Request, merge, parse_dotconfig, parse_fragment, render, unsatisfied

FRAGMENTS = sorted(KCONFIGS.glob("*.config"))


def parse(text: str, *, name: str = "a.config") -> dict[str, Request]:
    return {request.symbol: request for request in parse_fragment(text, name=name).requests}


@pytest.mark.parametrize(
    ("line", "value", "is_string"),
    [
        ("CONFIG_X=y", "y", False),
        ("CONFIG_X=m", "m", False),
        ("CONFIG_X=n", "n", False),
        ("# CONFIG_X is not set", "n", False),
        ("CONFIG_X=-1", "-1", False),
        ("CONFIG_X=0x1F", "0x1F", False),
        ("CONFIG_X=dead", "dead", False),
        ("CONFIG_X=1F  # in hex", "1F", False),
        ('CONFIG_X=""', "", True),
        (r'CONFIG_X="a \"b\" \\c # no comment"', r'a "b" \c # no comment', True),
        ("  CONFIG_X=y   # a remark", "y", False),
        ("# CONFIG_X is not set  ", "n", False),
        ("CONFIG_X=y\r", "y", False),
        ("# CONFIG_X is not set\r", "n", False),
    ],
)
def test_forms_of_a_request(line: str, value: str, is_string: bool) -> None:
    assert parse(line)["X"] == Request(symbol="X", value=value, is_string=is_string, place="a.config:1")


def test_comments_and_blank_lines_ask_for_nothing() -> None:
    assert parse("\n# a comment\n#CONFIG_X=y\n   \n") == {}


@pytest.mark.parametrize(
    "line",
    [
        "#CONFIG_X is not set",
        "#\tCONFIG_X is not set",
        "#  CONFIG_X is not set",
        "  # CONFIG_X is not set",
        "# CONFIG_X  is not set",
        "# CONFIG_X is not set any more",
    ],
)
def test_what_kconfig_takes_for_a_comment_is_no_demand(line: str) -> None:
    assert parse(f"CONFIG_Y=y\n{line}\n").keys() == {"Y"}


@pytest.mark.parametrize("odd", ["\f", "\v", "\r", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_line(odd: str) -> None:
    text = f'CONFIG_X="a{odd}b"\nCONFIG_Y=y\n'
    assert parse_dotconfig(text) == {"X": f"a{odd}b", "Y": "y"}
    requests = parse(text)
    assert (requests["X"].value, requests["Y"].place) == (f"a{odd}b", "a.config:2")
    assert parse_dotconfig(render(requests)) == parse_dotconfig(text)


def test_lines_may_end_in_carriage_return_and_line_feed() -> None:
    assert parse_dotconfig('CONFIG_X="a"\r\nCONFIG_Y=y\r\n') == {"X": "a", "Y": "y"}


def test_a_wish_has_its_reason() -> None:
    request = parse("CONFIG_X=m  # if-available: from 6.4 on")["X"]
    assert (request.value, request.if_available, request.reason) == ("m", True, "from 6.4 on")


def test_a_demand_of_older_kernels_only() -> None:
    fragment = parse_fragment("CONFIG_X=y  # until 6.4: newer ones need it not\n", name="ours")
    assert merge([fragment], version=(6, 4))["X"].reason == "newer ones need it not"
    assert not merge([fragment], version=(6, 4))["X"].if_available
    assert merge([fragment], version=(6, 12)) == {}
    assert "X" in merge([fragment])


@pytest.mark.parametrize(
    "mark",
    [
        "# if-available",
        "# if-available:",
        "# if_available: why",
        "# If available: why",
        "# until 6: why",
        "# until 6.4",
    ],
)
def test_a_mark_that_is_not_quite_one_is_refused(mark: str) -> None:
    with pytest.raises(UserError, match=r"a.config:1: CONFIG_X: expected '# if-available: <why>' or '# until"):
        parse(f"CONFIG_X=y {mark}")


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_X",
        "X=y",
        "CONFIG_X=",
        "CONFIG_X=yes",
        "CONFIG_X=y z",
        'CONFIG_X="open',
        "CONFIG_X = y",
        "<html>",
        f"CONFIG_X={'9' * 5000}",
    ],
)
def test_what_is_no_request_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(UserError, match=r"^a\.config:2: .*expected .*, found ") as caught:
        parse(f"# first\n{line}\n")
    assert caught.value.exit_code == 2


def test_two_values_in_one_file_are_refused() -> None:
    with pytest.raises(UserError, match=r"a.config:2: CONFIG_X: .* found 'n' here and 'y' at a.config:1"):
        parse("CONFIG_X=y\nCONFIG_X=n\n")


def test_the_later_fragment_wins() -> None:
    first = parse_fragment("CONFIG_X=y\nCONFIG_Y=y", name="first")
    second = parse_fragment("CONFIG_X=n", name="second")
    merged = merge([first, second])
    assert (merged["X"].value, merged["X"].place, merged["Y"].place) == ("n", "second:1", "first:2")


def test_a_wish_does_not_soften_a_demand_for_the_same_value() -> None:
    demand = parse_fragment("CONFIG_X=y", name="ours")
    wish = parse_fragment("CONFIG_X=y", name="theirs", if_available="they ask for it")
    assert merge([demand, wish])["X"].place == "ours:1"
    assert not merge([wish, demand])["X"].if_available


def test_a_wish_for_another_value_wins_as_any_later_request() -> None:
    demand = parse_fragment("CONFIG_X=n", name="ours")
    wish = parse_fragment("CONFIG_X=m", name="theirs", if_available="they ask for it")
    assert merge([demand, wish])["X"].value == "m"


def test_the_first_of_two_equal_wishes_keeps_its_reason() -> None:
    ours = parse_fragment("CONFIG_X=y  # if-available: from 7.3 on", name="ours")
    theirs = parse_fragment("CONFIG_X=y", name="theirs", if_available="they ask for it")
    assert merge([ours, theirs])["X"].reason == "from 7.3 on"


def test_render_is_plain_dotconfig_that_reads_back() -> None:
    text = 'CONFIG_A=y  # if-available: why\nCONFIG_B=n\nCONFIG_C="x\\"\\\\y"\nCONFIG_D=0x10\n'
    rendered = render(parse(text))
    assert rendered == 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x\\"\\\\y"\nCONFIG_D=0x10\n'
    assert parse_dotconfig(rendered) == {"A": "y", "C": 'x"\\y', "D": "0x10"}


def test_dotconfig_holds_only_what_is_set() -> None:
    text = '#\n# Linux/arm64 7.3.4\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\nCONFIG_D=""\n'
    assert parse_dotconfig(text) == {"A": "y", "D": ""}


@pytest.mark.parametrize(
    ("asked", "final", "met"),
    [
        ("CONFIG_X=y", "CONFIG_X=y", True),
        ("CONFIG_X=y", "", False),
        ("CONFIG_X=y", "CONFIG_X=m", False),
        ("CONFIG_X=m", "CONFIG_X=y", False),
        ("CONFIG_X=m # if-available: why", "CONFIG_X=y", True),
        ("CONFIG_X=m # if-available: why", "", False),
        ("CONFIG_X=n", "", True),
        ("CONFIG_X=n", "CONFIG_X=y", False),
        ("CONFIG_X=10", "CONFIG_X=0x10", True),
        ("CONFIG_X=16", "CONFIG_X=0x10", False),
        ("CONFIG_X=dead", "CONFIG_X=dead", True),
        ("CONFIG_X=DEAD", "CONFIG_X=0xdead", True),
        ("CONFIG_X=0xdead", "CONFIG_X=beef", False),
        ("CONFIG_X=dead", "", False),
        ("CONFIG_X=08", "CONFIG_X=8", True),
        ("CONFIG_X=16", "CONFIG_X=17", False),
        ('CONFIG_X=""', 'CONFIG_X=""', True),
        ('CONFIG_X="n"', "", False),
        ('CONFIG_X="a"', 'CONFIG_X="b"', False),
    ],
)
def test_what_satisfies_a_request(asked: str, final: str, met: bool) -> None:
    assert (unsatisfied(parse(asked), parse_dotconfig(final)) == []) is met


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_shipped_fragments_parse_and_say_what_for(path: Path) -> None:
    text = path.read_text()
    requests = parse_fragment(text, name=path.name).requests
    assert requests
    for paragraph in text.split("\n\n"):
        if re.search(r"^CONFIG_", paragraph, re.MULTILINE):
            assert paragraph.startswith("# for: "), paragraph


def test_shipped_default_fragments_agree_with_one_another() -> None:
    default = [path for path in FRAGMENTS if path.stem != "modules-far"]
    values: dict[str, set[str]] = {}
    for path in default:
        for request in parse_fragment(path.read_text(), name=path.name).requests:
            values.setdefault(request.symbol, set()).add(request.value)
    assert {symbol: found for symbol, found in values.items() if len(found) > 1} == {}
    assert values["FTRACE_STARTUP_TEST"] == {"n"}
    assert values["SYSCTL"] == {"y"}
