"""Kconfig files, fragments and logs of a build that are made to occupy whoever reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import limits
from harness.build.kconfig import _kconfig_file
from harness.errors import UserError
from harness.parse.kconfig import parse_dotconfig, parse_fragment
from harness.parse.kconfig_deps import explainer
from harness.parse.kconfig_expr import Macro, evaluate, has_macro, parse_expr, symbols_in
from harness.parse.kconfig_lang import Kconfig, parse_kconfig
from harness.parse.kconfig_reach import Reach
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, is_told, lower

__all__ = ["lower"]


def hostile(injected: str) -> pytest.MarkDecorator:
    return fault(injected, where="hostile input", blame=Blame.USER, survives="the command ends")


def kconfig(**files: str) -> Kconfig:
    return parse_kconfig(lambda path: files.get(path))


@pytest.mark.parametrize("word", ["A && ", "A || ", "A && !"])
def test_long_expressions_are_read_and_evaluated(word: str) -> None:
    """Each operand was one more call within a call."""
    expr = parse_expr(word * 5000 + "B")
    assert evaluate(expr, {"A": "y", "B": "y"}) in (0, 2)
    assert not has_macro(expr)
    assert len(list(symbols_in(expr))) == 5001
    assert str(expr).replace("!", "").startswith(word.replace("!", "") * 3)


@pytest.mark.parametrize("text", ["(" * 5000 + "A" + ")" * 5000, "!" * 5000 + "A", "(" * 5000])
@hostile("a Kconfig expression of thousands of parentheses")
def test_deep_expressions_are_unknown(text: str) -> None:
    assert parse_expr(text) == Macro(text)


def test_many_dependencies_of_one_symbol() -> None:
    text = "config A\n\tbool\n" + "\tdepends on B\n" * 5000
    (definition,) = kconfig(Kconfig=text).symbols["A"]
    assert len(list(symbols_in(definition.depends))) == 5000
    assert evaluate(definition.depends, {"B": "y"}) == 2


@hostile("Kconfig files that source each other in a long chain")
def test_files_within_files(lower: Lower) -> None:
    lower(limits.KCONFIG_NESTED, 20)
    files = {f"K{n}": f'source "K{n + 1}"\n' for n in range(40)}
    with pytest.raises(UserError) as caught:
        kconfig(Kconfig='source "K0"\n', **files)
    assert is_told(caught.value, limits.KCONFIG_NESTED, place="K19")


@hostile("Kconfig menus that are never closed")
def test_menus_within_menus(lower: Lower) -> None:
    lower(limits.KCONFIG_NESTED, 20)
    with pytest.raises(UserError) as caught:
        kconfig(Kconfig="if A\n" * 40)
    assert is_told(caught.value, limits.KCONFIG_NESTED, place="Kconfig:21")


@hostile("Kconfig files that source each other twice each")
def test_files_that_are_read_again_and_again(lower: Lower) -> None:
    lower(limits.KCONFIG_LINES, 500)
    files = {f"K{n}": f'source "K{n + 1}"\nsource "K{n + 1}"\n' for n in range(30)}
    with pytest.raises(UserError) as caught:
        kconfig(Kconfig='source "K0"\n', **files)
    assert is_told(caught.value, limits.KCONFIG_LINES, place="K")


@hostile("Kconfig symbols of which each makes the one before it possible")
def test_symbols_that_depend_on_later_ones(lower: Lower) -> None:
    lower(limits.KCONFIG_PASSES, 20)
    text = "".join(f'config S{n}\n\tbool "x"\n\tdepends on S{n + 1}\n' for n in range(40)) + 'config S40\n\tbool "x"\n'
    with pytest.raises(UserError) as caught:
        Reach(kconfig(Kconfig=text), {})
    assert is_told(caught.value, limits.KCONFIG_PASSES, place="Kconfig")


def test_long_lines_of_a_kind() -> None:
    """A string, a continuation or a macro that nobody closes is looked at once."""
    for text in ('"\\"' * 3000, "x \\\n" * 3000, "$(a" * 3000, "'" * 3001, '"' * 3001):
        found = kconfig(Kconfig=f"config A\n\tbool {text}\n\nconfig B\n\tbool\n\tdepends on A # {text}\n")
        assert "A" in found.symbols
    found = kconfig(Kconfig='config A\n\tbool "x # y" if "a # b\n')
    assert found.symbols["A"][0].prompt == "x # y"


def test_a_continued_line_is_one() -> None:
    (definition,) = kconfig(Kconfig="config A\n\tbool\n\tdepends on \\\n\tB && \\\n\tC\n\tselect D\n").symbols["A"]
    assert str(definition.depends) == "B && C"
    assert definition.selects[0][0] == "D"


@pytest.mark.parametrize("path", ["/dev/zero", "../secret", "a/../../secret", "pipe", "zero", "out", "directory"])
@hostile("a Kconfig file that sources a device, a pipe or a file outside the tree")
def test_only_files_of_the_tree_are_read(tmp_path: Path, path: str) -> None:
    tree = tmp_path / "tree"
    (tree / "directory").mkdir(parents=True)
    (tree / "Kconfig").write_text("config A\n")
    (tmp_path / "secret").write_text("config S\n")
    os.mkfifo(tree / "pipe")
    (tree / "zero").symlink_to("/dev/zero")
    (tree / "out").symlink_to("../secret")
    assert _kconfig_file(tree, path) is None
    assert _kconfig_file(tree, "Kconfig") == "config A\n"


def test_a_file_above_the_limit(tmp_path: Path, lower: Lower) -> None:
    lower(limits.SOURCE_BYTES, 5)
    (tmp_path / "Kconfig").write_text("config A\n")
    with pytest.raises(UserError) as caught:
        _kconfig_file(tmp_path, "Kconfig")
    assert is_told(caught.value, limits.SOURCE_BYTES, place=str(tmp_path / "Kconfig"))


@pytest.mark.parametrize(
    "line", ["x" * 100_000, "CONFIG_A=" + "9" * 100_000, "CONFIG_A=y # if-available " + "x" * 100_000]
)
def test_messages_quote_long_lines_in_part(line: str) -> None:
    with pytest.raises(UserError, match=r"^f\.config:1: ") as caught:
        parse_fragment(line.format("x" * 100_000), name="f.config")
    assert len(caught.value.message) < 1000


def test_explaining_a_symbol_with_very_many_rivals() -> None:
    choice = "choice\n" + "".join(f'config C{n}\n\tbool "x"\n\tselect A\n' for n in range(500)) + "endchoice\n"
    explained = explainer(kconfig(Kconfig=choice + "config A\n\tbool\n"), parse_dotconfig("CONFIG_C1=y\n"))
    assert "C1 is chosen instead of it" in explained.explain("C2").sentence
