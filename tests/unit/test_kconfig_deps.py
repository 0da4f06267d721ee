"""The Kconfig language, and why a symbol is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.parse.kconfig_deps import Explanation, explainer
from harness.parse.kconfig_expr import Macro, evaluate, false_terms, parse_expr
from harness.parse.kconfig_lang import Definition, Kconfig, parse_kconfig

TREE = Path(__file__).parents[1] / "data" / "kconfig" / "tree"


def read_toy(path: str) -> str | None:
    file = TREE / path
    return file.read_text() if file.exists() else None


def kconfig(text: str) -> Kconfig:
    return parse_kconfig({"Kconfig": text}.get)


def only(text: str, symbol: str = "X") -> Definition:
    (definition,) = kconfig(text).symbols[symbol]
    return definition


def explain(text: str, config: dict[str, str], symbol: str = "X", *, wanted: str = "y") -> Explanation:
    return explainer(kconfig(text), config).explain(symbol, wanted=wanted)


@pytest.mark.parametrize(
    ("text", "config", "value"),
    [
        ("A", {"A": "y"}, 2),
        ("A", {"A": "m"}, 1),
        ("A", {}, 0),
        ("!A", {"A": "m"}, 1),
        ("A && B", {"A": "y", "B": "m"}, 1),
        ("A || B && C", {"A": "y"}, 2),
        ("(A || B) && C", {"A": "y"}, 0),
        ("!(A && B)", {"A": "y"}, 2),
        ("m", {"MODULES": "y"}, 1),
        ("m", {}, 0),
        ("A=y", {"A": "y"}, 2),
        ("A!=y", {}, 2),
        ("A = n", {}, 2),
        ('A = ""', {}, 2),
        ('A = "text"', {"A": "text"}, 2),
        ("VERSION >= 122", {"VERSION": "124"}, 2),
        ("VERSION >= 122", {"VERSION": "99"}, 0),
        ("VERSION < 0x10", {"VERSION": "15"}, 2),
        ("A = 0xdead", {"A": "dead"}, 2),
        ("A > 16", {"A": "ff"}, 2),
        ("A = B", {"A": "beef", "B": "BEEF"}, 0),
        ('A = "dead"', {"A": "dead"}, 2),
        ("A = B", {"A": "y", "B": "m"}, 0),
        ("$(cc-option,-mbranch=(a,b)) && A", {}, 0),
        ("$(cc-option,-mbranch=(a,b)) || A", {"A": "y"}, 2),
        ("$(success,test -n ')')", {}, None),
        ("!$(x)", {}, None),
        ('"$(ARCH)" = "arm64"', {}, None),
        ("A &&", {"A": "y"}, None),
        ("A ?? B", {"A": "y"}, None),
        ("(A", {"A": "y"}, None),
        ("A = &&", {"A": "y"}, None),
        ("", {}, None),
    ],
)
def test_expressions(text: str, config: dict[str, str], value: int | None) -> None:
    assert evaluate(parse_expr(text), config) == value


def test_macro_calls_take_the_value_they_are_given() -> None:
    assert evaluate(parse_expr("$(x) && A"), {"A": "y"}, macro=2) == 2
    assert isinstance(parse_expr("A && && B"), Macro)


@pytest.mark.parametrize("text", ["(A || B) && !C", "!(A && B)", "A >= 12", 'A = "text"', "A && $(cc-option,-x)"])
def test_expressions_are_shown_as_written(text: str) -> None:
    assert str(parse_expr(text)) == text


def test_false_terms_are_taken_apart_at_and_only() -> None:
    terms = false_terms(parse_expr("A && (B || C) && !D && E && $(x)"), {"D": "y", "E": "y"})
    assert [str(term) for term in terms] == ["A", "B || C", "!D"]
    assert [str(term) for term in false_terms(parse_expr("A && B"), {"A": "m", "B": "y"}, need=2)] == ["A"]


def test_toy_tree() -> None:
    symbols = parse_kconfig(read_toy).symbols
    assert "NOT_A_SYMBOL" not in symbols
    assert set(symbols) >= {"ARM64", "FRAME_POINTER", "LIVEPATCH", "SAMPLE_TRACE"}
    (livepatch,) = symbols["LIVEPATCH"]
    assert livepatch.place == "kernel/Kconfig:39"
    assert livepatch.prompt == "Live patching"
    assert str(livepatch.depends) == (
        "DEBUG_FS && (DYNAMIC_FTRACE_WITH_REGS || DYNAMIC_FTRACE_WITH_ARGS) && MODULES && HAVE_LIVEPATCH"
    )
    assert str(symbols["FUNCTION_TRACER"][0].depends) == "DEBUG_FS && HAVE_FUNCTION_TRACER"
    assert str(symbols["MODULE_UNLOAD"][0].depends) == "MODULES"


def test_dependencies_come_from_everything_around() -> None:
    text = """
menu "M"
	depends on A
	visible if SEEN
if B
choice
	prompt "which" if OFFERED
	depends on C
config X
	bool "x" if EXPERT
	depends on D
config Y
	bool "y"
endchoice
endif
endmenu
config Z
	bool "z"
"""
    definition = only(text)
    assert str(definition.depends) == "A && B && C && D"
    assert str(definition.visible) == "EXPERT && SEEN && OFFERED"
    assert definition.choice == only(text, "Y").choice is not None
    assert str(only(text, "Z").depends) == "y"


def test_defaults_selects_and_unknown_keywords() -> None:
    definition = only(
        """
config X
	tristate
	prompt "it's \\"quoted\\" if so"
	transitional
	frobnicate all the things
	range 1 10 if A
	default m if A && B
	default y
	select S if !$(cc-option,-x if y)
	imply T
	option env="X"
	---help---
		Words.

			depends on TEXT
config Y
"""
    )
    assert definition.type == "tristate"
    assert [(str(d.value), str(d.condition)) for d in definition.defaults] == [("m", "A && B"), ("y", "y")]
    assert [(target, str(condition)) for target, condition in definition.selects] == [("S", "!$(cc-option,-x if y)")]
    assert definition.implies[0][0] == "T"
    assert definition.visible is not None
    assert str(definition.depends) == "y"


def test_a_conditional_dependency_counts_where_its_condition_holds() -> None:
    definition = only("config X\n\tbool\n\tdepends on (A || B) if C\n")
    assert str(definition.depends) == "!C || A || B"


def test_a_help_text_without_indentation_is_empty() -> None:
    assert set(kconfig("config X\n\tbool\n\thelp\nconfig Y\n\tbool\n").symbols) == {"X", "Y"}


def test_a_help_text_ends_where_the_indentation_shrinks() -> None:
    definition = only("config X\n\tbool\n\thelp\n\t  Words.\n\n\t\tdepends on WORDS\n\tdepends on A\n")
    assert str(definition.depends) == "A"


@pytest.mark.parametrize("odd", ["\f", "\v", "\x1c", "\x85", "\u2028", "\r"])
def test_only_a_line_feed_ends_a_line_of_a_kconfig_file(odd: str) -> None:
    definition = only(f'config X\n\tbool "a{odd}depends on b"\n\tdepends on A\n\thelp\n\t  Words{odd}config Y\n')
    assert (definition.prompt, str(definition.depends)) == (f"a{odd}depends on b", "A")
    assert only("config X\r\n\tbool\r\n\tdepends on A\r\n\thelp\r\n\t  words\r\n\r\n\t  more\r\n").type == "bool"


def test_files_that_source_themselves_or_are_absent_do_no_harm() -> None:
    assert set(kconfig('source "Kconfig"\nsource "gone/$(SRCARCH)/Kconfig"\nconfig X\n\tbool\nendif\n').symbols) == {
        "X"
    }


LIVE = {"ARM64": "y", "HAVE_FUNCTION_TRACER": "y", "DEBUG_FS": "y", "FUNCTION_TRACER": "y", "MODULES": "y"}
REGS = {"HAVE_DYNAMIC_FTRACE_WITH_REGS": "y", "DYNAMIC_FTRACE_WITH_REGS": "y"}


def toy(config: dict[str, str], symbol: str, *, wanted: str = "y") -> Explanation:
    return explainer(parse_kconfig(read_toy), config).explain(symbol, wanted=wanted)


def test_a_capability_that_nothing_selects_is_architectural() -> None:
    found = toy(LIVE | REGS, "LIVEPATCH")
    assert (found.exists, found.prompt, found.architectural) == (True, "Live patching", True)
    assert not found.by_toolchain
    assert found.unmet == ("HAVE_LIVEPATCH",)
    assert found.sentence == "needs HAVE_LIVEPATCH, which no arm64 configuration of this kernel can have"


def test_the_cause_is_followed_down() -> None:
    found = toy(LIVE | REGS, "SAMPLE_LIVEPATCH", wanted="m")
    assert found.architectural
    assert found.chain == ("SAMPLE_LIVEPATCH", "LIVEPATCH", "HAVE_LIVEPATCH")
    assert "needs LIVEPATCH, which needs HAVE_LIVEPATCH, which no arm64" in found.sentence


def test_what_another_configuration_could_have_is_not_architectural() -> None:
    found = toy({"ARM64": "y", "HAVE_FUNCTION_TRACER": "y", "MODULES": "y"}, "SAMPLE_TRACE", wanted="m")
    assert not found.architectural
    assert found.unmet == ("DEBUG_FS", "FUNCTION_TRACER")
    assert found.sentence == "needs DEBUG_FS; needs FUNCTION_TRACER"


def test_a_capability_the_compiler_refused_is_architectural() -> None:
    without = toy(LIVE, "DYNAMIC_FTRACE_WITH_REGS")
    assert without.architectural
    assert without.by_toolchain
    assert without.sentence == "needs HAVE_DYNAMIC_FTRACE_WITH_REGS, which is ruled out by this compiler or linker"
    assert toy(LIVE, "HAVE_DYNAMIC_FTRACE_WITH_REGS").sentence == "ruled out by this compiler or linker"
    assert without.blockers == {"HAVE_DYNAMIC_FTRACE_WITH_REGS"}
    undecided = toy({"MODULES": "y"}, "DYNAMIC_FTRACE_WITH_REGS")
    assert not undecided.architectural


def test_only_a_macro_call_can_be_to_blame() -> None:
    found = explain('config X\n\tbool "x"\n\tdepends on A && $(cc-option,-x)\nconfig A\n\tbool "a"\n', {"A": "y"})
    assert found.architectural
    assert found.by_toolchain
    assert found.unmet == ("$(cc-option,-x)",)


def test_alternatives_among_several_needs_are_bracketed() -> None:
    found = explain('config X\n\tbool "x"\n\tdepends on (A || B) && C\n', {})
    assert found.sentence == "needs (A || B) and C, which no arm64 configuration of this kernel can have"


def test_a_symbol_nobody_knows() -> None:
    found = toy(LIVE, "NONESUCH")
    assert not found.exists
    assert found.is_impossible
    assert found.sentence == "arm64 of this kernel has no such symbol"


def test_modules_are_named_where_they_are_what_is_missing() -> None:
    config = {name: value for name, value in LIVE.items() if name != "MODULES"}
    assert toy(config, "SAMPLE_TRACE", wanted="m").unmet == ("MODULES",)
    assert toy(LIVE | {"SAMPLE_TRACE": "m"}, "SAMPLE_TRACE").conflicts == ("it can only be a module",)
    assert toy(LIVE, "DEBUG_FS", wanted="m").conflicts == ("it is a bool, which cannot be a module",)


CHOICE = 'choice\n\tprompt "p"\nconfig X\n\tbool "x"\nconfig Y\n\tbool "y"\nendchoice\n'


@pytest.mark.parametrize(
    ("text", "config", "wanted", "conflict"),
    [
        (CHOICE, {"Y": "y"}, "y", "Y is chosen instead of it"),
        (CHOICE, {"X": "y"}, "n", "its choice needs a member, and no other was asked for"),
        ('config X\n\tbool "x"\nconfig Y\n\tbool\n\tselect X\n', {"X": "y", "Y": "y"}, "n", "selected by Y"),
        ("config X\n\tdef_bool y\n", {"X": "y"}, "n", "it has no prompt: its default sets it"),
        (
            'config X\n\tbool "x" if EXPERT\n\tdefault y\n',
            {"X": "y"},
            "n",
            "its prompt is not offered: its default sets it",
        ),
        (
            'config X\n\tbool\nconfig Y\n\tbool "y"\n\tselect X\n',
            {},
            "y",
            "it has no prompt; it is selected by Y",
        ),
        (
            'config X\n\tint "x"\n\trange 1 8\n',
            {"X": "8"},
            "99",
            "kconfig made it '8' (a range, or a symbol that selects it)",
        ),
    ],
)
def test_conflicts(text: str, config: dict[str, str], wanted: str, conflict: str) -> None:
    found = explain(text, config, wanted=wanted)
    assert found.conflicts == (conflict,)
    assert found.sentence == conflict


IMPOSSIBLE = {
    "undefined": "depends on NOWHERE",
    "build only": "depends on BROKEN || COMPILE_TEST",
    "always on": "depends on !ALWAYS",
    "selected by the impossible": "depends on BY_BROKEN",
    "another host": "depends on PAHOLE_VERSION >= 130",
}
POSSIBLE = {
    "off for now": "depends on OFF",
    "either": "depends on BROKEN || OFF",
    "selected": "depends on BY_OFF",
    "compared with a choice of ours": "depends on NUMBER > 5",
}
AROUND = """
config ALWAYS
	def_bool y
config BROKEN
	bool
	select BY_BROKEN
config BY_BROKEN
	bool
config COMPILE_TEST
	bool "compile test"
config PAHOLE_VERSION
	int
	default 124
config OFF
	bool "off"
	select BY_OFF
config BY_OFF
	bool
config NUMBER
	int "number"
"""


@pytest.mark.parametrize("dependency", [*IMPOSSIBLE.values(), *POSSIBLE.values()])
def test_what_is_out_of_reach(dependency: str) -> None:
    config = {"ALWAYS": "y", "PAHOLE_VERSION": "124", "NUMBER": "1"}
    found = explain(f'config X\n\tbool "x"\n\t{dependency}\n{AROUND}', config)
    assert found.architectural is (dependency in IMPOSSIBLE.values())
    assert found.unmet == (dependency.removeprefix("depends on "),)


def test_the_definition_nearest_to_being_met_is_told() -> None:
    text = 'config X\n\tbool "x"\n\tdepends on A && B\nconfig X\n\tbool "x"\n\tdepends on A\nconfig A\n\tbool "a"\n'
    assert explain(text, {}).unmet == ("A",)


def test_circles_end() -> None:
    text = 'config X\n\tbool "x"\n\tdepends on Y\nconfig Y\n\tbool "y"\n\tdepends on X\n'
    found = explain(text, {})
    assert found.chain == ("X", "Y")
    assert found.architectural


# -- what stands in the way ------------------------------------------------------------------------------------

WAY = """
config MODULES
	bool "modules"
	modules
config A
	tristate "a"
config B
	bool "b"
	select HIDDEN
config C
	bool "c"
	select B
config HIDDEN
	bool
config BEHIND
	bool
	depends on HIDDEN
	default y
config N
	int "n"
choice
	prompt "one of"
config ONE
	bool "one"
config TWO
	bool "two"
endchoice
config X
	tristate "x"
	depends on %s
"""


@pytest.mark.parametrize(
    ("needs", "config", "wanted", "among", "found"),
    [
        ("A", {}, "y", ["A"], ["A"]),
        ("A", {}, "y", [], []),
        ("A", {}, "y", ["B"], []),
        ("A || B", {}, "y", ["A"], []),
        ("A || B", {}, "y", ["A", "B"], ["A", "B"]),
        ("A && B", {}, "y", ["A", "B"], ["A", "B"]),
        ("A && B", {}, "y", ["B"], ["B"]),
        ("A && (A || B)", {}, "y", ["A", "B"], ["A"]),
        ("HIDDEN", {}, "y", ["B"], []),
        ("HIDDEN", {}, "y", ["B", "C"], ["B"]),
        ("BEHIND", {}, "y", ["B"], ["B"]),
        ("!A", {"A": "y"}, "y", ["A"], ["A"]),
        ("!HIDDEN", {"B": "y", "HIDDEN": "y"}, "y", ["B"], ["B"]),
        ("!HIDDEN", {"B": "y", "C": "y", "HIDDEN": "y"}, "y", ["C"], ["C"]),
        ("A", {"A": "m", "MODULES": "y"}, "y", ["A"], ["A"]),
        ("A", {"A": "m", "MODULES": "y"}, "m", ["A"], []),
        ("A = y", {"A": "m", "MODULES": "y"}, "y", ["A"], ["A"]),
        ("N > 4", {"N": "3"}, "y", ["N"], ["N"]),
        ("N > 4", {"N": "3"}, "y", ["A"], []),
        ("TWO", {"ONE": "y"}, "y", ["ONE"], ["ONE"]),
        ("m", {}, "m", ["MODULES"], ["MODULES"]),
        ("A", {"A": "y"}, "m", ["MODULES"], ["MODULES"]),
        ("B && m", {"B": "y"}, "y", ["MODULES"], ["MODULES"]),
    ],
)
def test_what_rules_a_symbol_out(
    needs: str, config: dict[str, str], wanted: str, among: list[str], found: list[str]
) -> None:
    text = WAY % needs
    if among == ["B"] and needs == "HIDDEN":
        text = text.replace("select B\n", "select HIDDEN\n")  # C could select it, too
    assert list(explainer(kconfig(text), config).ruled_out_by("X", wanted=wanted, among=among)) == found


def test_what_keeps_a_symbol_set_that_is_to_be_off() -> None:
    config = {"B": "y", "C": "y", "HIDDEN": "y"}
    explaining = explainer(kconfig(WAY % "A"), config)
    assert explaining.ruled_out_by("HIDDEN", wanted="n", among=["C", "A"]) == ("C",)
    assert explaining.ruled_out_by("HIDDEN", wanted="n", among=["B", "C"]) == ("B", "C")
    assert explaining.ruled_out_by("A", wanted="n", among=["B"]) == ()
