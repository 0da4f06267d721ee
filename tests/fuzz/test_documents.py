"""YAML, Kconfig, fragments, mutants and ELF files: read, or refused by a UserError in one line that names the input."""

from __future__ import annotations

import io
import json

from hypothesis import example
from hypothesis import strategies as st

from harness.errors import UserError
from harness.parse import document
from harness.parse.boards import parse_boards
from harness.parse.elf import Elf
from harness.parse.expectations import parse_expectations
from harness.parse.instrumentation import Flavour, Instrumentation, calls_mcount, flavour_in
from harness.parse.kconfig import merge, parse_dotconfig, parse_fragment, render, unsatisfied
from harness.parse.kconfig_deps import explainer
from harness.parse.kconfig_expr import evaluate, has_macro, parse_expr, symbols_in
from harness.parse.kconfig_lang import parse_kconfig
from harness.parse.mutant import parse_mutant
from harness.parse.plan import parse_plan
from tests.fuzz.fuzzing import fuzzed, lines_of, pieces_of, refused
from tests.unit.tinyelf import NOP, REL, RET, TinyElf

YAML_WORDS = (
    "a: ", "- ", "? ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<: ", "!!int ", "!!timestamp ", "!!bool ", "!!binary ",
    "!!set ", "!!omap ", "!x ", "|\n ", ">\n ", '"', "'", "\\x", "#", "\n", "\n  ", "---\n", "...\n", "%YAML 1.1\n",
    "1", "0x_", "1:1", "2026-01-01", "99:99", ".inf", "true", "~", ": ", "boards", "expectations", "like: x",
)  # fmt: skip
BOARD_KEYS = (
    "boards", "defaults", "like", "boot", "method", "console", "power", "ssh", "kind", "device", "host", "port", "baud",
    "on", "off", "run", "password", "limits", "silence", "pool", "labgrid", "kconfigs", "cmdline", "description",
)  # fmt: skip
BOARD_VALUES = ("qemu", "uboot", "serial", "telnet", "command", "http", "pdu", "${X}", "${X:-1}", "${file:x}", "../x")
EXPECTATION_KEYS = (
    "test", "verdict", "reason", "fault", "message", "kernel", "board", "toolchain", "config", "issue", "until",
)  # fmt: skip
EXPECTATION_VALUES = (
    "PASS",
    "FAIL",
    "CRASH",
    "*",
    "6.1..7",
    "..7",
    "gcc 12",
    "CONFIG_A=y",
    "2026-02-30",
    "https://[",
    "7.3",
)


@fuzzed(pieces_of(*YAML_WORDS), st.booleans(), examples=150)
@example("&a [*a]", False)
@example("? [a]\n: b", True)
@example("!!timestamp x", False)
@example("!!int ''", False)
def test_yaml(text: str, texts_only: bool) -> None:
    refused(lambda: document.load(text, place="x", texts_only=texts_only))


_ascii = st.characters(min_codepoint=32, max_codepoint=126)
_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@fuzzed(_plain)
def test_yaml_reads_json(value: object) -> None:
    assert document.load(json.dumps(value), place="x") == value


def _tree_of(keys: tuple[str, ...], values: tuple[str, ...]) -> st.SearchStrategy[object]:
    leaf = st.sampled_from([*values, None, True, 0, -1, 1.5, float("inf"), "", "\0", "x"]) | st.integers()
    inner = st.lists(leaf, max_size=3) | st.dictionaries(st.sampled_from(keys), leaf, max_size=4)
    return leaf | inner | st.dictionaries(st.sampled_from(keys), leaf | inner, max_size=3)


_board = st.dictionaries(st.sampled_from(BOARD_KEYS), _tree_of(BOARD_KEYS, BOARD_VALUES), max_size=8)


@fuzzed(st.dictionaries(st.text(max_size=4), _board, max_size=3), _tree_of(BOARD_KEYS, BOARD_VALUES), examples=60)
def test_boards(boards: dict[str, object], defaults: object) -> None:
    text = json.dumps({"boards": boards, "defaults": defaults} if defaults else {"boards": boards})
    refused(lambda: parse_boards(text, place="x", lookup=lambda name: "1" * len(name)))


_expectation = st.fixed_dictionaries(
    {
        "test": st.sampled_from(["t", "", None, 1]),
        "verdict": st.sampled_from(["FAIL", "CRASH"]),
        "reason": st.just("r"),
    },
    optional=dict.fromkeys(EXPECTATION_KEYS[3:], _tree_of(EXPECTATION_KEYS, EXPECTATION_VALUES)),
)


@fuzzed(st.lists(_expectation, max_size=3), examples=60)
@example([{"test": "t", "verdict": "FAIL", "reason": "r", "kernel": "9" * 5000}])
def test_expectations(entries: list[object]) -> None:
    text = json.dumps({"expectations": entries})
    if not refused(lambda: parse_expectations(text, place="x")):
        assert len(parse_expectations(text, place="x")) == len(entries)


@fuzzed(lines_of("Caught by:", " testcases/a/test_b.py", "::test_c", "Kernel:", "Kconfig:", "SPDX-License-Identifier:",
                 " GPL-2.0-only", "--- a/k.c", "diff ", "title"))  # fmt: skip
def test_mutants(text: str) -> None:
    refused(lambda: parse_mutant(text, name="x", place="x"))


# -- Kconfig ------------------------------------------------------------------------------------------------------

KCONFIG_WORDS = (
    "config A\n", "config B\n", "menuconfig C\n", "\tbool", "\ttristate", "\tint", ' "prompt"', "\tdepends on ", "A",
    "B", "C", " && ", " || ", "!", "(", ")", " = ", " != ", '"y"', "y", "m", "n", " if ", "\tselect ", "\timply ",
    "\tdefault ", "\tdef_bool ", "\n", "\\\n", "if ", "endif\n", "menu ", "endmenu\n", "choice\n", "endchoice\n",
    "\thelp\n\t  text\n", 'source "Kconfig"\n', 'source "$(SRCARCH)"\n', "# ", "$(cc-option,", "'", '"',
    "\tvisible if ", "\trange 1 2\n",
)  # fmt: skip
EXPRESSION_WORDS = ("A", "B", "y", "m", "n", "1", " ", "&&", "||", "!", "(", ")", "=", "<", '"', "'", "$(x)")
_value = st.sampled_from(["y", "m", "1", "0x1"])
_config = st.dictionaries(st.sampled_from(["A", "B", "C", "MODULES"]), _value, max_size=4)


@fuzzed(pieces_of(*KCONFIG_WORDS), _config, examples=60)
@example("config A\n\tdepends on " + "A && " * 600 + "B\n", {})
def test_kconfig(text: str, config: dict[str, str]) -> None:
    kconfig = parse_kconfig(lambda path: text if path in ("Kconfig", "arm64") else None)
    explaining = explainer(kconfig, config)
    for symbol in ("A", "B", "C", "D"):
        for wanted in ("y", "m", "n"):
            explanation = explaining.explain(symbol, wanted=wanted)
            assert explanation.exists == (symbol in kconfig.symbols)
            assert explanation.sentence
            assert set(explaining.ruled_out_by(symbol, wanted=wanted, among=["A", "B"])) <= {"A", "B"}


@fuzzed(pieces_of(*EXPRESSION_WORDS), _config, examples=150)
@example("(" * 2000, {})
def test_expressions(text: str, config: dict[str, str]) -> None:
    """What an expression is shown as means the same."""
    expr = parse_expr(text)
    value = evaluate(expr, config)
    assert value in (0, 1, 2, None)
    if has_macro(expr):
        return
    again = parse_expr(str(expr))
    assert (evaluate(again, config), list(symbols_in(again))) == (value, list(symbols_in(expr)))


FRAGMENT_WORDS = (
    "CONFIG_A", "CONFIG_B", "=", "y", "m", "n", "1", "0x", '"', "\\", "# ", " is not set", "if-available: ",
    "until 6.1: x",
)  # fmt: skip


@fuzzed(lines_of(*FRAGMENT_WORDS), _config)
def test_fragments(text: str, config: dict[str, str]) -> None:
    """A fragment that is accepted says the same as what kconfig is given for it."""
    if refused(lambda: parse_fragment(text, name="x")):
        return
    requests = merge([parse_fragment(text, name="x")])
    again = merge([parse_fragment(render(requests), name="x")]) if requests else {}
    assert {name: request.value for name, request in again.items()} == {n: r.value for n, r in requests.items()}
    assert {request.symbol for request in unsatisfied(requests, config)} <= requests.keys()
    assert unsatisfied(requests, parse_dotconfig(render(requests))) == []


# -- ELF ----------------------------------------------------------------------------------------------------------


def _module() -> bytes:
    elf = TinyElf(REL)
    elf.code(".text", NOP, NOP, RET, RET)
    elf.symbol("first", 0, size=8)
    elf.symbol("second", 8, size=8)
    elf.section("__patchable_function_entries", bytes(16))
    elf.relocations(2, (0, 257, 1, 0), (8, 257, 2, 0))
    return elf.bytes()


_ELF = _module()
_change = st.tuples(st.integers(0, len(_ELF) - 1), st.binary(min_size=1, max_size=8))


@fuzzed(st.lists(_change, max_size=4), st.integers(0, len(_ELF)), examples=150)
def test_modules(changes: list[tuple[int, bytes]], kept: int) -> None:
    data = bytearray(_ELF)
    for at, new in changes:
        data[at : at + len(new)] = new
    try:
        code = Instrumentation(Elf(io.BytesIO(bytes(data[: kept or None])), name="x.ko"), Flavour(0, 2, False))
        assert len(code.records) == len(code.table)
        for record in code.records:
            assert record.judgement.wrong == bool(record.told)
        assert set(code.lost) <= set(code.functions)
        flavour_in(code.elf)
        calls_mcount(code.elf)
        for function in code.functions:
            code.spare_nops(function)
        code.nameless_nops()
    except UserError as error:
        told = error.message
    else:
        told = "x.ko: read"
    assert told.startswith("x.ko: ")


PLAN_KEYS = (
    *("version", "budget", "kernels", "toolchains", "configurations", "boards", "suites", "defaults", "exclude"),
    *("include", "overrides", "kernel", "patches", "keyword", "repetitions", "priority", "timeout_factor", "workers"),
    *("toolchain", "configuration", "board", "a", "b"),
)
PLAN_VALUES = ("a", "b", "gcc", "clang-16", "8h", "90m", "7.3.4", "-x", "../a", "variants/size", "testcases")


@fuzzed(st.dictionaries(st.sampled_from(PLAN_KEYS), _tree_of(PLAN_KEYS, PLAN_VALUES), max_size=5), examples=60)
@example({"overrides": [{"repetitions": 10**30}]})
def test_plans(more: dict[str, object]) -> None:
    text = json.dumps({"kernels": {"a": {"kernel": "7.3.4"}}, "boards": ["a", "b"], **more})
    if not refused(lambda: parse_plan(text, name="p", place="x")):
        slots = parse_plan(text, name="p", place="x").slots()
        assert len(slots) == len({slot.directory for slot in slots}) > 0
