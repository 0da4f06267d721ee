"""`harness.parse.document`: YAML that is made to be large, endless or invalid."""

from __future__ import annotations

import pytest

from harness import limits
from harness.errors import UserError
from harness.limits import Limit
from harness.parse import document
from harness.parse.expectations import parse_expectations
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower

__all__ = ["lower"]

BOMB = "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n"


def hostile(injected: str) -> pytest.MarkDecorator:
    return fault(f"a YAML document with {injected}", where="hostile input", blame=Blame.USER, survives="all files")


@pytest.mark.parametrize("texts_only", [False, True])
@pytest.mark.parametrize(
    ("limit", "value", "text", "line"),
    [
        pytest.param(limits.YAML_NODES, 60, BOMB, 4, id="aliases", marks=hostile("aliases of aliases of aliases")),
        pytest.param(limits.YAML_NODES, 5, "[1, 2, 3, 4, 5]", 1, id="values"),
        pytest.param(limits.YAML_NESTED, 10, "a:\n  " + "[" * 11, 2, id="brackets", marks=hostile("deep brackets")),
        pytest.param(limits.YAML_NESTED, 10, "- " * 11 + "x", 1, id="lists"),
        pytest.param(
            limits.NUMBER_DIGITS, 9, "!!int " + "1" * 10, 1, id="digits", marks=hostile("a number of many digits")
        ),
        pytest.param(limits.NUMBER_DIGITS, 9, "!!int " + "1:" * 5 + "1", 1, id="base 60"),
    ],
)
def test_limits(lower: Lower, limit: Limit, value: int, text: str, line: int, texts_only: bool) -> None:
    lower(limit, value)
    with pytest.raises(UserError) as caught:
        document.load(text, place="boards.yaml", texts_only=texts_only)
    assert is_told(caught.value, limit, place=f"boards.yaml:{line}: ")


def test_size(lower: Lower) -> None:
    lower(limits.YAML_BYTES, 10)
    with pytest.raises(UserError) as caught:
        document.load("a: 12345678", place="boards.yaml")
    assert is_told(caught.value, limits.YAML_BYTES, place="boards.yaml: ")


@pytest.mark.parametrize("text", ["9" * 200, "0x" + "f" * 200, "1." + "9" * 200])
def test_numbers_of_many_digits_are_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        document.load(f"a: {text}", place="boards.yaml")
    assert is_told(caught.value, limits.NUMBER_DIGITS, place="boards.yaml:1: ")


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a\n  b: *a", "&a {x: {y: *a}}", "&a\n? [*a]\n: x"])
@hostile("an alias of what it is in")
def test_alias_of_itself(text: str) -> None:
    with pytest.raises(UserError, match=r"boards.yaml:\d: expected a value, found \*a, an alias of what it is in"):
        document.load(text, place="boards.yaml")


def test_aliases_within_the_limits_are_what_they_were() -> None:
    assert document.load(BOMB, place="boards.yaml")["d"] == [[[["x", "x"]] * 3] * 3] * 3


@pytest.mark.parametrize("text", ["!!timestamp x", "!!bool x", "!!int ''", "!!int x", "a: 2026-99-99", "0x_", "\0"])
def test_invalid_values(text: str) -> None:
    """PyYAML has no common exception for them."""
    with pytest.raises(UserError, match=r"^boards.yaml: expected a YAML document, found .*$"):
        document.load(text, place="boards.yaml")


def test_a_key_that_is_a_list_is_told() -> None:
    with pytest.raises(UserError, match=r"x.yaml:2:5: expected a YAML document, .*: a key that is no text"):
        parse_expectations("expectations:\n  ? [test]\n  : x\n", place="x.yaml")


@hostile("a version of many digits")
def test_versions_of_many_digits(lower: Lower) -> None:
    text = "expectations:\n- {test: t, verdict: FAIL, reason: r, KEY: VALUE}\n"
    for key, value in (("kernel", "9" * 5000), ("toolchain", "gcc " + "9" * 5000), ("until", "7." + "9" * 5000)):
        with pytest.raises(UserError, match=rf"x.yaml: expectations.0.{key}: expected"):
            parse_expectations(text.replace("KEY", key).replace("VALUE", value), place="x.yaml")
