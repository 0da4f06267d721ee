"""What compilers and linkers really make of functions' entries, and what our parser makes of that.

In short: the record of a function is where its own first NOP is, and nothing else in an object says where that is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.parse.code import BTI, NOP
from harness.parse.elf import Elf
from harness.parse.instrumentation import (
    Flavour,
    Function,
    Instrumentation,
    Judgement,
    flavour_in,
    instrumentation_of,
    table_sections,
)
from tests.compilers import COMPILERS, GNU_LD, Compiler, require
from tests.smallkernel import (
    CALL_OPS,
    KERNEL_SCRIPT,
    OTHERS,
    PROTECTED,
    RECORDS,
    STATIC_NOT_TAKEN,
    TRACED,
    TWO,
    write_sources,
)

FLAVOURS = {
    f"-O2 {TWO}": Flavour(0, 2, bti=False),
    f"-O2 {TWO} -ffunction-sections": Flavour(0, 2, bti=False),
    f"-O2 {TWO} {PROTECTED}": Flavour(0, 2, bti=True),
    f"-O2 {TWO} -mbranch-protection=pac-ret": Flavour(0, 2, bti=False),
    f"-Os {TWO} {PROTECTED}": Flavour(0, 2, bti=True),
    f"-O2 {CALL_OPS}": Flavour(2, 2, bti=False),
    f"-O2 {CALL_OPS} {PROTECTED}": Flavour(2, 2, bti=True),
    f"-Os {CALL_OPS}": Flavour(2, 2, bti=False),
}
KCFI = "-fsanitize=kcfi"
SHADOW_STACK = "-fsanitize=shadow-call-stack -ffixed-x18"


def of(compilers: Iterable[Compiler]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("compiler", tuple(compilers), ids=lambda compiler: compiler.name)


every_compiler = of(COMPILERS)
# Which options there are: kCFI for C from clang 16 on, gcc's shadow call stack from 12 on.
with_kcfi = of(compiler for compiler in COMPILERS if compiler.clang and compiler.version >= 16)
with_shadow_stack = of(compiler for compiler in COMPILERS if compiler.clang or compiler.version >= 12)
with_minimum_alignment = of(compiler for compiler in COMPILERS if not compiler.clang and compiler.version >= 14)


def read(path: Path) -> Instrumentation:
    code = instrumentation_of(Elf(path.open("rb"), name=path.name))
    assert code is not None, f"{path.name} shows no flavour"
    return code


def compiled(compiler: Compiler, directory: Path, flags: str) -> Instrumentation:
    """a.o and b.o; returns the first."""
    require(compiler)
    write_sources(directory)
    for name in "ab":
        compiler.compile(directory, f"{name}.c", f"{name}.o", *flags.split())
    return read(directory / "a.o")


def traced(code: Instrumentation) -> dict[str, Function]:
    return {function.name: function for function in code.functions if function.instrumented}


def judged(code: Instrumentation) -> list[tuple[str, int | None, Judgement]]:
    """What is said of each record, whatever addresses the linker chose."""
    names = ((record.function.name if record.function else "", record) for record in code.records)
    return sorted(((name, record.offset, record.judgement) for name, record in names), key=str)


def assert_right(code: Instrumentation) -> None:
    """Every record is at its own function's first NOP, and every function with NOPs has one. Read again here, without
    what the parser takes for granted."""
    wrong = [record for record in code.records if record.judgement.wrong]
    assert not wrong
    assert not code.lost
    for record in code.records:
        places = [record.address + 4 * number for number in range(5 if code.flavour.before else 2)]
        words = [code.word(place) for place in places]
        if code.flavour.before and words[2] in BTI:
            words.pop(2)
        assert set(words[: code.flavour.before + 2]) == {NOP}, record
        if record.function and not code.flavour.before:
            assert record.offset == (4 if code.word(record.function.address) in BTI else 0)


@every_compiler
@pytest.mark.parametrize("flags", FLAVOURS, ids=lambda flags: flags.replace(" ", ""))
def test_an_object_and_a_kernel_of_each_flavour(tmp_path: Path, compiler: Compiler, flags: str) -> None:
    """By each linker too: the weak function that another replaces keeps its record, and no symbol covers it."""
    code = compiled(compiler, tmp_path, flags)
    assert code.flavour == FLAVOURS[flags]
    assert set(traced(code)) == TRACED
    assert {function.name for function in code.functions} - TRACED == {"quiet"}
    assert {"leaf", "alias"} in [set(function.names) for function in code.functions]
    assert {record.judgement for record in code.records} <= {Judgement.RIGHT, Judgement.MISALIGNED}
    if not code.flavour.before:
        assert_right(code)
    for linker in compiler.linkers:
        compiler.run(tmp_path, linker, "-T", "kernel.lds", "-e", "start", "a.o", "b.o", "-o", "vmlinux")
        kernel = read(tmp_path / "vmlinux")
        assert kernel.flavour == FLAVOURS[flags]
        assert set(traced(kernel)) == TRACED | OTHERS
        assert [record.function for record in kernel.records].count(None) == 1
        assert_misaligned_ones_are_told(kernel)
        compiler.run(tmp_path, linker, "-pie", "-T", "kernel.lds", "-e", "start", "a.o", "b.o", "-o", "relocatable")
        assert judged(read(tmp_path / "relocatable")) == judged(kernel)


def assert_misaligned_ones_are_told(kernel: Instrumentation) -> None:
    """CALL_OPS keeps a pointer in the NOPs before the entry. -Os and cold functions know no -falign-functions."""
    misaligned = [record for record in kernel.records if kernel.flavour.before and record.address % 8]
    told = [record for record in kernel.records if record.judgement is Judgement.MISALIGNED]
    assert told == misaligned
    if not misaligned:
        assert_right(kernel)


@every_compiler
def test_bti_is_a_matter_of_each_function(tmp_path: Path, compiler: Compiler) -> None:
    """gcc, and clang from 20 on, leave it out of a static function whose address nobody takes."""
    code = compiled(compiler, tmp_path, f"-O2 {TWO} {PROTECTED}")
    without = {record.function.name for record in code.records if record.function and record.offset == 0}
    leaves_out = not compiler.clang or compiler.version >= 20
    assert without == (STATIC_NOT_TAKEN if leaves_out else set())
    code = compiled(compiler, tmp_path, f"-O2 {CALL_OPS} {PROTECTED}")
    assert {record.offset for record in code.records} == {-8}


@every_compiler
def test_cold_functions_and_small_code_are_not_aligned(tmp_path: Path, compiler: Compiler) -> None:
    """A linker may place such a section anywhere, and the module loader too, so an aligned offset in it is no help."""
    for flags, expected in ((f"-O2 {CALL_OPS}", {"chilly"}), (f"-Os {CALL_OPS}", TRACED)):
        code = compiled(compiler, tmp_path, flags)
        misaligned = [record for record in code.records if record.judgement is Judgement.MISALIGNED]
        assert {record.function.name for record in misaligned if record.function} == (
            set() if compiler.clang else expected
        )
        assert {record.told.rpartition(": ")[2] for record in misaligned if record.address % 8 == 0} <= {
            f"{section} is aligned to 4" for section in (".text", ".text.unlikely", ".init.text")
        }


@with_minimum_alignment
def test_the_option_that_aligns_every_function(tmp_path: Path, compiler: Compiler) -> None:
    """It is what the kernel asks for where the compiler has it: then small and cold code keeps CALL_OPS' alignment."""
    assert_right(compiled(compiler, tmp_path, f"-Os {CALL_OPS} -fmin-function-alignment=8"))


@every_compiler
def test_records_sections_after_a_partial_link(tmp_path: Path, compiler: Compiler) -> None:
    """Without a script some linkers keep several of one name. All are read here; the module loader reads the first."""
    compiled(compiler, tmp_path, f"-O2 {TWO} {PROTECTED} -ffunction-sections")
    this_module = ["--add-section", ".gnu.linkonce.this_module=b.c"]
    for linker in compiler.linkers:
        compiler.run(tmp_path, linker, "-r", "a.o", "b.o", "-o", "whole.o")
        compiler.run(tmp_path, linker, "-r", "-T", "module.lds", "a.o", "b.o", "-o", "merged.o")
        for name in ("whole", "merged"):
            compiler.run(tmp_path, "aarch64-linux-gnu-objcopy", *this_module, f"{name}.o", f"{name}.ko")
        whole, merged = read(tmp_path / "whole.o"), read(tmp_path / "merged.ko")
        for code in (whole, merged):
            assert_right(code)
            assert set(traced(code)) == TRACED | OTHERS
            assert len(code.records) == len(TRACED | OTHERS) + 1
        assert len(table_sections(merged.elf)) == 1
        module, several = read(tmp_path / "whole.ko"), len(table_sections(whole.elf)) > 1
        unread = [record for record in module.records if record.judgement is Judgement.UNREAD]
        assert bool(unread) == several
        assert {function.name for function in module.lost} == {
            record.function.name for record in unread if record.function
        }


@every_compiler
def test_records_that_garbage_collection_drops(tmp_path: Path, compiler: Compiler) -> None:
    """gcc up to 12 has one records section for an object, which goes with the object's first function."""
    require(compiler)
    (tmp_path / "a.c").write_text("""
        extern int sink; int sink; int dead(int), live(int), start(int);
        __attribute__((noinline)) int dead(int x) { sink = x; return x; }
        __attribute__((noinline)) int live(int x) { sink = x; return x + 1; }
        int start(int x) { return live(x); }
    """)
    (tmp_path / "drop.lds").write_text(KERNEL_SCRIPT.replace(f"KEEP({RECORDS})", RECORDS))
    compiler.compile(tmp_path, "a.c", "a.o", *f"-O2 {TWO} -ffunction-sections".split())
    for linker in compiler.linkers:
        compiler.run(tmp_path, linker, "--gc-sections", "-T", "drop.lds", "-e", "start", "a.o", "-o", "vmlinux")
        code = read(tmp_path / "vmlinux")
        one_section = not compiler.clang and compiler.version < 13
        assert {function.name for function in code.functions} == {"live", "start"}
        assert {function.name for function in code.lost} == ({"live", "start"} if one_section else set())


@every_compiler
def test_symbols_that_were_stripped(tmp_path: Path, compiler: Compiler) -> None:
    """--strip-unneeded removes the names of static functions (newer ones keep those that a relocation needs). Their
    records are still right."""
    code = compiled(compiler, tmp_path, f"-O2 {TWO} {PROTECTED}")
    compiler.run(tmp_path, "aarch64-linux-gnu-strip", "--strip-unneeded", "a.o", "-o", "stripped.o")
    stripped = read(tmp_path / "stripped.o")
    assert_right(stripped)
    assert len(stripped.records) == len(code.records)
    gone = TRACED - set(traced(stripped))
    assert "hidden" in gone
    assert [record.judgement for record in stripped.records].count(Judgement.NAMELESS) == len(gone)
    compiler.run(tmp_path, GNU_LD, "-T", "kernel.lds", "-e", "start", "a.o", "b.o", "-o", "vmlinux")
    compiler.run(tmp_path, "aarch64-linux-gnu-strip", "vmlinux")
    assert flavour_in(Elf((tmp_path / "vmlinux").open("rb"), name="vmlinux")) is None  # nothing says where its table is


@every_compiler
def test_section_addresses_in_an_object_mean_nothing(tmp_path: Path, compiler: Compiler) -> None:
    """Debian's modules have 0x970 and the like there."""
    code = compiled(compiler, tmp_path, f"-O2 {CALL_OPS} {PROTECTED}")
    addresses = (
        "--change-section-address",
        "__patchable_function_entries=0x970",
        "--change-section-address",
        ".text=0x40",
    )
    compiler.run(tmp_path, "aarch64-linux-gnu-objcopy", *addresses, "a.o", "moved.o")
    moved = read(tmp_path / "moved.o")
    assert b"\x70\x09" in (tmp_path / "moved.o").read_bytes()
    assert judged(moved) == judged(code)


@with_kcfi
def test_kcfi_hashes(tmp_path: Path, compiler: Compiler) -> None:
    """A word before the entry, or before the NOPs before it, of functions whose address may be taken; it costs CALL_OPS
    the alignment, which is why the kernel has only one of them."""
    code = compiled(compiler, tmp_path, f"-O2 {TWO} {PROTECTED} {KCFI}")
    assert code.flavour == Flavour(0, 2, bti=True)
    assert_right(code)
    assert code.word(traced(code)["leaf"].address - 4) not in (None, NOP)
    hashed = compiled(compiler, tmp_path, f"-O2 {CALL_OPS} {KCFI}")
    assert hashed.flavour == Flavour(2, 2, bti=False)
    misaligned = {r.function.name for r in hashed.records if r.function and r.judgement is Judgement.MISALIGNED}
    assert misaligned == {function.name for function in traced(hashed).values() if function.address % 8}
    assert "leaf" in misaligned


@with_shadow_stack
def test_what_else_may_stand_at_an_entry(tmp_path: Path, compiler: Compiler) -> None:
    """The shadow call stack's push stands behind the NOPs, and so does paciasp, often much later."""
    code = compiled(compiler, tmp_path, f"-O2 {TWO} {PROTECTED} {SHADOW_STACK}")
    assert_right(code)
    assert set(traced(code)) == TRACED
