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
from harness.parse.instrumentation import Flavour, Instrumentation, flavour_of, several
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
