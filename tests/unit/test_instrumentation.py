"""Functions, NOPs and the table: agreement, and every way of disagreeing."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from harness.parse import instrumentation
from harness.parse.elf import Elf
from harness.parse.instrumentation import (
    Flavour,
    Instrumentation,
    Judgement,
    calls_mcount,
    flavour_in,
    flavour_of,
    instrumentation_of,
    several,
)
from tests.unit.tinyelf import BTI_C, FUNC, NOP, NOTYPE, REL, RET, STP, TinyElf

CALL_OPS, PLAIN = Flavour(2, 2, bti=False), Flavour(0, 2, bti=False)
TEXT, TABLE = 0x1000, 0x8000
GCC = "aarch64-linux-gnu-gcc"
needs_gcc = pytest.mark.skipif(not shutil.which(GCC), reason=f"{GCC} is not installed")


def kernel(
    words: list[int], functions: dict[str, tuple[int, int]], entries: list[int], flavour: Flavour = CALL_OPS
) -> Instrumentation:
    """A kernel with this code at TEXT; `functions`: address and size of each, counted in words from there."""
    tiny = TinyElf()
    text = tiny.code(".text", *words, address=TEXT)
    table = tiny.section(".init.data", struct.pack(f"<{len(entries)}Q", *entries), address=TABLE)
    for name, (start, size) in functions.items():  # one without a size is a label
        tiny.symbol(name, TEXT + start * 4, size=size * 4, section=text, kind=FUNC if size else NOTYPE)
    tiny.symbol("__start_mcount_loc", TABLE, section=table, kind=NOTYPE)
    tiny.symbol("__stop_mcount_loc", TABLE + 8 * len(entries), section=table, kind=NOTYPE)
    return Instrumentation(Elf(tiny.stream(), name="kernel"), flavour)


# f with NOPs, g without; a word of padding before f's own NOPs
CODE = [NOP, NOP, NOP, NOP, STP, RET, STP, RET]
FUNCTIONS = {"f": (2, 4), "g": (6, 2)}


def test_functions_and_table_agree() -> None:
    code = kernel(CODE, FUNCTIONS, [TEXT])
    f, g = code.functions
    assert (f.nops, f.listed, f.instrumented) == (True, True, True)
    assert (g.nops, g.listed, g.instrumented) == (False, False, False)
    assert code.wrong_with(TEXT) == ""
    assert code.function_at(TEXT) is f
    assert code.call_site(TEXT) == TEXT + 12
    assert code.spare_nops(f) == (0, 0)


def test_an_entry_that_is_lost_is_missed() -> None:
    f, _ = kernel(CODE, FUNCTIONS, [0]).functions
    assert f.nops
    assert not f.listed


@pytest.mark.parametrize(
    ("change", "entry", "told"),
    [
        ({3: STP}, 0, "expected 2 NOPs before and 2 behind the entry, found d503201f d503201f d503201f a9bf7bfd"),
        ({1: RET}, 0, "found d503201f d65f03c0 d503201f"),
        ({}, 4, "points into the middle of f, 4 bytes behind its first NOP"),
        ({}, 6, "points into the middle of f, 6 bytes behind its first NOP"),
        ({}, 8, "points into the middle of f, 8 bytes behind its first NOP"),
        ({}, 16, "expected 2 NOPs"),
        ({}, 28, "points into the middle of g"),
        ({2: BTI_C, 4: NOP}, 0, "a BTI in a kernel that is built without"),
        ({}, 0x100, "points to where no code is"),
    ],
)
def test_a_wrong_entry_is_told(change: dict[int, int], entry: int, told: str) -> None:
    words = [change.get(place, word) for place, word in enumerate(CODE)]
    assert told in kernel(words, FUNCTIONS, [TEXT]).wrong_with(TEXT + entry)


def test_bti_where_the_kernel_has_it() -> None:
    bti = Flavour(2, 2, bti=True)
    code = kernel([NOP, NOP, BTI_C, NOP, NOP, RET], {"f": (2, 4)}, [TEXT], bti)
    assert code.wrong_with(TEXT) == ""
    assert code.call_site(TEXT) == TEXT + 16
    assert code.spare_nops(code.functions[0]) == (0, 0)
    plain = kernel([BTI_C, NOP, NOP, RET], {"f": (0, 4)}, [TEXT + 4], Flavour(0, 2, bti=True))
    assert plain.wrong_with(TEXT + 4) == ""
    assert plain.call_site(TEXT + 4) == TEXT + 8
    assert plain.functions[0].listed


def test_two_nops_of_the_older_flavour() -> None:
    code = kernel([NOP, NOP, RET, NOP, NOP, NOP, RET], {"f": (0, 3), "g": (3, 4)}, [TEXT, TEXT + 12], PLAIN)
    assert [code.wrong_with(entry) for entry in code.entries] == ["", ""]
    assert [code.spare_nops(function) for function in code.functions] == [(0, 0), (0, 1)]
    assert code.wrong_with(TEXT + 16) == "points into the middle of g, 4 bytes behind its first NOP"


def test_nops_that_wait_for_an_alternative_are_no_instrumentation() -> None:
    """A function that begins with two of them looks as if the older flavour had prepared it."""
    tiny = TinyElf()
    text = tiny.code(".text", NOP, NOP, RET, address=TEXT)
    tiny.section(".altinstructions", struct.pack("<iiHBB", TEXT - TABLE, 0, 1, 8, 8), address=TABLE)
    tiny.symbol("f", TEXT, size=12, section=text)
    assert not Instrumentation(Elf(tiny.stream(), name="x"), PLAIN).functions[0].nops


def test_an_overridden_function_is_nameless() -> None:
    words = [NOP, NOP, NOP, NOP, RET, RET, NOP, NOP, NOP, NOP, RET, RET]
    code = kernel(words, {"f": (2, 4)}, [TEXT, TEXT + 24])
    assert code.function_at(TEXT + 24) is None
    assert code.wrong_with(TEXT + 24) == ""
    assert code.nameless_nops() == {TEXT + 24}
    assert code.names_of(TEXT + 24) == ("f",)  # what the kernel calls it too


def test_aliases_are_one_function() -> None:
    code = kernel(CODE, {"f": (2, 4), "__f": (2, 4), "g": (6, 2)}, [TEXT])
    assert code.functions[0].names == ("f", "__f")
    assert code.functions[0].all_named("__") is False
    assert code.names_of(TEXT) == ("f", "__f")


def test_a_label_at_a_functions_address_may_be_what_the_kernel_calls_it() -> None:
    code = kernel(CODE, {"_stext": (2, 0), "f": (2, 4), "elsewhere": (3, 0)}, [TEXT])
    assert code.functions[0].names == ("f",)
    assert code.names_of(TEXT) == ("f", "_stext")


def test_a_module_has_its_table_in_a_section_of_its_own() -> None:
    tiny = TinyElf(REL)
    text, init = tiny.code(".text", *CODE), tiny.code(".init.text", NOP, NOP, NOP, NOP, RET)
    table = tiny.section("__patchable_function_entries", bytes(16))
    symbols = [tiny.symbol(f"section{n}", 0, section=n, kind=3) for n in (text, init)]
    tiny.symbol("f", 8, size=16, section=text)
    tiny.symbol("start", 8, size=12, section=init)
    tiny.relocations(table, (0, 257, symbols[0], 0), (8, 257, symbols[1], 0))
    code = Instrumentation(Elf(tiny.stream(), name="x.ko"), CALL_OPS)
    assert [(function.name, function.section, function.listed) for function in code.functions] == [
        ("f", ".text", True),
        ("start", ".init.text", True),
    ]
    assert [code.wrong_with(entry) for entry in code.entries] == ["", ""]


@pytest.mark.parametrize(
    ("config", "flavour"),
    [
        ({"DYNAMIC_FTRACE_WITH_CALL_OPS": "y", "DYNAMIC_FTRACE_WITH_ARGS": "y"}, CALL_OPS),
        ({"DYNAMIC_FTRACE_WITH_ARGS": "y"}, PLAIN),
        ({"DYNAMIC_FTRACE_WITH_REGS": "y", "ARM64_BTI_KERNEL": "y"}, Flavour(0, 2, bti=True)),
        ({"DYNAMIC_FTRACE": "y"}, None),
    ],
)
def test_the_configuration_tells_the_flavour(config: dict[str, str], flavour: Flavour | None) -> None:
    assert flavour_of(config) == flavour


def test_messages_name_some_and_count_the_rest() -> None:
    assert several([]) == ""
    assert several("ab") == "a, b"
    assert several("abcd", limit=2) == "a, b, … and 2 more"


@pytest.mark.parametrize(
    ("told", "inside"),
    [
        ("../src/init/main.c", "init/main.c"),
        ("/home/x/src/kernel/debian-7.3-0/src/lib/uuid.c", "lib/uuid.c"),
        ("drivers/tty/vt/defkeymap.c", "drivers/tty/vt/defkeymap.c"),
        ("a.c", "a.c"),
        (None, None),
    ],
)
def test_a_source_is_named_as_in_the_kernel_tree(told: str | None, inside: str | None) -> None:
    assert instrumentation._in_tree(told) == inside


SOURCE = """
int f(int x);
__attribute__((patchable_function_entry(0, 0), noinline)) int quiet(int x) { return x + 2; }
__attribute__((noinline)) int f(int x) { return x > 0 ? quiet(x) + 1 : x; }
static __attribute__((noinline, section(".init.text"))) int g(int x) { return f(x) * 3; }
int main(int n) { int (*volatile p)(int) = g; return p(n) + f(n); }
"""


@needs_gcc
@pytest.mark.parametrize("link", ["-static", "-static-pie -fPIE"])
@pytest.mark.parametrize("protection", ["none", "standard", "bti", "pac-ret+leaf"])
@pytest.mark.parametrize(("flag", "flavour"), [("4,2", (2, 2)), ("2", (0, 2))])
def test_what_gcc_makes(tmp_path: Path, flag: str, flavour: tuple[int, int], protection: str, link: str) -> None:
    """BTI, pointer authentication, and a relocatable file, whose table is in .rela.dyn."""
    (tmp_path / "a.c").write_text(SOURCE)
    symbols = [f"-Wl,--defsym=__{end}_mcount_loc=__{end}___patchable_function_entries" for end in ("start", "stop")]
    flags = ["-O2", f"-fpatchable-function-entry={flag}", f"-mbranch-protection={protection}", "-falign-functions=8"]
    words = [GCC, *flags, *link.split(), *symbols, "-nostdlib", "-e", "main", "a.c", "-o", "a"]
    subprocess.run(words, cwd=tmp_path, check=True)
    with (tmp_path / "a").open("rb") as stream:
        code = Instrumentation(Elf(stream, name="a"), Flavour(*flavour, bti=protection in ("standard", "bti")))
        assert {function.name: (function.nops, function.listed) for function in code.functions} == {
            "f": (True, True),
            "g": (True, True),
            "main": (True, True),
            "quiet": (False, False),
        }
        assert [code.wrong_with(entry) for entry in code.entries] == [""] * 3
        assert min(code.spare_nops(function)[1] for function in code.functions if function.nops) == 0


def test_an_empty_section_at_the_address_of_code() -> None:
    elf = TinyElf()
    elf.code(".text", NOP, RET, address=0x1000)
    elf.code(".empty", address=0x1000)
    elf.code(".more", RET, address=0x2000)
    code = Instrumentation(Elf(io.BytesIO(elf.bytes()), name="x"), Flavour(0, 2, False))
    places = (0xFFC, 0x1000, 0x1004, 0x1008, 0x2000, 0x2004)
    assert [code.word(place) for place in places] == [None, NOP, RET, None, RET, None]


@pytest.mark.parametrize(("words", "flavour"), [(CODE, CALL_OPS), (CODE[2:], PLAIN), ([RET] * 8, None)])
def test_a_file_shows_its_flavour(words: list[int], flavour: Flavour | None) -> None:
    """With records; without, because all were lost; and without the names of functions."""
    first = 2 if words is CODE else 0
    functions = {"f": (first, 4)}
    assert flavour_in(kernel(words, functions, [TEXT]).elf) == flavour
    assert flavour_in(kernel(words, functions, []).elf) == flavour
    assert flavour_in(kernel(words, {}, [TEXT]).elf) == flavour
    shown = instrumentation_of(kernel(words, functions, []).elf)
    assert (shown.lost if shown else None) == (shown.functions if flavour and shown else None)


def test_a_few_wrong_records_and_btis_do_not_change_the_flavour() -> None:
    words = [word for _ in range(150) for word in (NOP, NOP, RET, RET)] + [BTI_C, NOP, NOP, RET]
    functions = {f"f{number}": (number * 4, 3) for number in range(151)}
    entries = [TEXT + number * 16 for number in range(150)] + [TEXT + 150 * 16 + 4]
    assert flavour_in(kernel(words, functions, entries).elf) == PLAIN
    code = instrumentation_of(kernel(words, functions, [TEXT + 4, *entries]).elf)
    assert code
    assert [record.judgement for record in code.records if record.judgement.wrong] == [
        Judgement.SHIFTED,
        Judgement.STRAY_BTI,
    ]


@pytest.mark.parametrize(("word", "calls"), [(0x94000000, True), (NOP, False), (0x97FFFFFE, True), (0x14000000, False)])
def test_calls_of_mcount(word: int, calls: bool) -> None:
    tiny = TinyElf(REL)
    text = tiny.code(".text", STP, word, RET, STP, word, RET)
    symbol = tiny.symbol("f", 0, size=12, section=text)
    tiny.relocations(tiny.section("__mcount_loc", bytes(16)), (0, 257, symbol, 4), (8, 257, symbol, 16))
    elf = Elf(tiny.stream(), name="x.o")
    assert calls_mcount(elf) is calls
    assert flavour_in(elf) is None
    assert not calls_mcount(kernel(CODE, FUNCTIONS, [TEXT]).elf)


def test_alternatives_and_jump_labels_of_a_module() -> None:
    """Their places are told by relocations there."""
    tiny = TinyElf(REL)
    text = tiny.code(".text", NOP, NOP, RET, NOP, NOP, RET, NOP, NOP, RET)
    symbol = tiny.symbol("section", 0, section=text, kind=3)
    for number, name in enumerate("fgh"):
        tiny.symbol(name, number * 12, size=12, section=text)
    PREL32 = 261
    alternatives = tiny.section(".altinstructions", struct.pack("<iiHBB", 0, 0, 1, 8, 8) * 1)
    tiny.relocations(alternatives, (0, PREL32, symbol, 0), (4, PREL32, symbol, 0))
    labels = tiny.section("__jump_table", struct.pack("<iiq", 0, 0, 0) * 2)
    tiny.relocations(labels, (0, PREL32, symbol, 4), (16, PREL32, symbol, 16), (20, PREL32, symbol, 0))
    code = Instrumentation(Elf(tiny.stream(), name="x.ko"), PLAIN)
    assert [(function.name, function.nops) for function in code.functions] == [("f", False), ("g", False), ("h", True)]


@pytest.mark.parametrize("flavour", [Flavour(0, 2, bti=True), Flavour(2, 2, bti=True)])
def test_a_record_on_the_bti(flavour: Flavour) -> None:
    """Alone, beside the right one, and of a function that was overridden."""
    words = [NOP] * flavour.before + [BTI_C, NOP, NOP, STP, RET]
    label, right = flavour.before, 0 if flavour.before else 1
    for functions, name in (({"f": (label, 5)}, "f"), ({}, "a function without a symbol")):
        for entries in ([label], [right, label]):
            code = kernel(words, functions, [TEXT + 4 * entry for entry in entries], flavour)
            (wrong,) = (record for record in code.records if record.judgement.wrong)
            assert (wrong.address, wrong.judgement) == (TEXT + 4 * label, Judgement.ON_BTI)
            assert wrong.told == f"points at the BTI of {name} and not at its first NOP"
            assert [function.name for function in code.lost] == (["f"] if functions and len(entries) == 1 else [])


def test_two_nops_of_padding_are_no_overridden_function() -> None:
    words = [NOP, NOP, RET, RET, NOP, NOP, BTI_C, NOP, NOP, RET]
    bti = Flavour(0, 2, bti=True)
    code = kernel(words, {"f": (0, 4), "g": (6, 4)}, [TEXT, TEXT + 16], bti)
    assert code.nameless_nops() == set()
    assert [record.judgement for record in code.records] == [Judgement.RIGHT, Judgement.SHIFTED]
    assert str(code.records[1]) == "0x1010 (g-0x8): belongs to g, and points 12 bytes before its first NOP"


def test_a_functions_inside_another() -> None:
    """Assembly has such: a record behind the inner one is still in the middle of the outer one."""
    code = kernel([NOP, NOP, STP, RET, STP, STP, RET], {"f": (0, 7), "inner": (3, 1)}, [TEXT, TEXT + 20], PLAIN)
    assert [record.judgement for record in code.records] == [Judgement.RIGHT, Judgement.INSIDE]
    assert code.function_at(TEXT + 20) == code.functions[0]


def test_an_object_with_more_sections_than_a_symbol_can_name() -> None:
    """With -ffunction-sections: .symtab_shndx has their numbers."""
    tiny = TinyElf(REL)
    text = tiny.code(".text.f", NOP, NOP, RET)
    tiny.symbol("f", 0, size=12, section=0xFFFF)
    tiny.section(".symtab_shndx", struct.pack("<II", 0, text), kind=18, flags=0)
    (function,) = Instrumentation(Elf(tiny.stream(), name="x.o"), PLAIN).functions
    assert (function.name, function.section, function.nops) == ("f", ".text.f", True)
