"""What an ELF file alone tells of how its functions can be traced."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.model.inspection import Inspection, Kind
from harness.parse.comparison import compare
from harness.parse.elf import Elf
from harness.parse.inspection import Facts, check_machine, inspect_elf
from harness.parse.kernel_strings import banner_in, config_in, version_of
from harness.parse.module_summary import ModuleSum
from tests.compilers import COMPILERS, Compiler, require
from tests.faults.catalogue import Blame, fault
from tests.smallkernel import OTHERS, PROTECTED, TWO, write_sources
from tests.smallkernel import TRACED as TRACED_FUNCTIONS
from tests.unit.tinyelf import BTI_C, NOP, NOTYPE, REL, RET, STP, TEXT, TinyElf

BASE = 0xFFFF800080000000
PACIASP, PUSH_X18, CFI_BREAK, CALL = 0xD503233F, 0xF800865E, 0xD4304120, 0x94000000
PLAIN, TRACED = [RET] * 8, [NOP, NOP, RET, RET, RET, RET, RET, RET]
BEFORE = [RET, RET, NOP, NOP, NOP, NOP, RET, RET]  # the function begins at the fifth
STEP = 32


def kernel(*functions: list[int], records: list[int], names: list[str] | None = None, more: str = "") -> TinyElf:
    """A vmlinux: functions of 32 bytes, each called f0, f1 …; `records` as offsets in its text."""
    elf = TinyElf()
    text = elf.code(".text", *(word for words in functions for word in words), address=BASE)
    table = elf.section(
        ".init.data", struct.pack(f"<{len(records)}Q", *(BASE + at for at in records)), address=BASE * 1 + 0x10000
    )
    for number, words in enumerate(functions):
        at = BASE + STEP * number + (16 if words == BEFORE else 0)
        elf.symbol(names[number] if names else f"f{number}", at, size=8, section=text)
    for name in more.split():
        elf.symbol(name, BASE + 4, section=text, kind=NOTYPE)
    elf.symbol("__start_mcount_loc", BASE + 0x10000, section=table, kind=NOTYPE)
    elf.symbol("__stop_mcount_loc", BASE + 0x10000 + 8 * len(records), section=table, kind=NOTYPE)
    return elf


def module(
    *functions: list[int],
    records: list[int],
    sections: tuple[str, ...] = (),
    name: str = "__patchable_function_entries",
) -> TinyElf:
    elf = TinyElf(REL)
    text = elf.code(".text", *(word for words in functions for word in words))
    elf.section(".gnu.linkonce.this_module", bytes(8))
    for section in sections:
        elf.section(section, b"\0")
    table = elf.section(name, bytes(8 * len(records)))
    base = elf.symbol("", 0, section=text, kind=3)
    for number, words in enumerate(functions):
        elf.symbol(f"f{number}", STEP * number + (16 if words == BEFORE else 0), size=8, section=text)
    if records:
        elf.relocations(table, *((8 * place, 257, base, at) for place, at in enumerate(records)))
    return elf


def inspected(elf: TinyElf, **facts: object) -> Inspection:
    return inspect_elf(Elf(elf.stream(), name="x"), Facts(form="x", **facts))  # type: ignore[arg-type]


class TestFlavour:
    @pytest.mark.parametrize(
        ("symbols", "config", "kind"),
        [
            ("ftrace_caller ftrace_regs_caller", {}, Kind.WITH_REGS),
            ("ftrace_caller ftrace_call", {}, Kind.WITH_ARGS),
            ("ftrace_caller", {"DYNAMIC_FTRACE_WITH_REGS": "y"}, Kind.WITH_REGS),
            ("ftrace_caller ftrace_regs_caller", {"DYNAMIC_FTRACE_WITH_ARGS": "y"}, Kind.WITH_ARGS),
            ("ftrace_caller", {"FUNCTION_TRACER": "y"}, Kind.NOPS),
            ("", {}, Kind.NOPS),
        ],
    )
    def test_two_nops(self, symbols: str, config: dict[str, str], kind: Kind) -> None:
        elf = kernel(TRACED, TRACED, PLAIN, records=[0, STEP], more=symbols)
        assert inspected(elf, config=config, config_from="here").entry.kind is kind

    @pytest.mark.parametrize(
        ("symbols", "config", "kind"),
        [
            ("ftrace_caller", {}, Kind.CALL_OPS),
            ("ftrace_caller ftrace_call", {}, Kind.BEFORE_PLAIN),
            ("ftrace_caller", {"DYNAMIC_FTRACE_WITH_CALL_OPS": "y"}, Kind.CALL_OPS),
            ("ftrace_caller", {"DYNAMIC_FTRACE_WITH_ARGS": "y"}, Kind.BEFORE_PLAIN),
            ("", {}, Kind.BEFORE),
        ],
    )
    def test_nops_before_the_entry(self, symbols: str, config: dict[str, str], kind: Kind) -> None:
        elf = kernel(BEFORE, BEFORE, PLAIN, records=[8, STEP + 8], more=symbols)
        found = inspected(elf, config=config, config_from="here")
        assert found.entry.kind is kind
        assert not found.wrong

    @pytest.mark.parametrize(
        ("release", "kind"),
        [("5.10.1", Kind.WITH_REGS), ("6.1.0-50-arm64", Kind.WITH_REGS), ("6.2.0", Kind.WITH_ARGS), ("", Kind.NOPS)],
    )
    def test_of_a_module_the_release_tells(self, release: str, kind: Kind) -> None:
        assert inspected(module(TRACED, PLAIN, records=[0]), release=release).entry.kind is kind

    def test_a_module_with_nops_before_the_entry(self) -> None:
        assert inspected(module(BEFORE, PLAIN, records=[8])).entry.kind is Kind.CALL_OPS

    def test_calls_of_mcount(self) -> None:
        called = [STP, CALL, RET, RET, RET, RET, RET, RET]
        found = inspected(module(called, PLAIN, called, records=[4, 2 * STEP + 4], name="__mcount_loc"))
        assert found.entry.kind is Kind.MCOUNT
        assert found.recorded == (("f0",), ("f2",))
        assert not found.wrong

    def test_a_record_that_points_to_no_call(self) -> None:
        called = [STP, CALL, RET, RET, RET, RET, RET, RET]
        found = inspected(module(called, called, called, records=[4, STEP + 4, 2 * STEP], name="__mcount_loc"))
        assert [group.what for group in found.wrong] == ["records that point to no call"]

    def test_no_tracing(self) -> None:
        found = inspected(module(PLAIN, PLAIN, records=[]))
        assert found.entry.kind is Kind.NONE
        assert found.functions == 2
        assert not found.wrong

    def test_protection_is_counted_at_entries_with_a_record(self) -> None:
        guarded = [BTI_C, NOP, NOP, PACIASP, PUSH_X18, CFI_BREAK, RET, RET]
        elf = kernel(guarded, TRACED, [BTI_C, PACIASP, RET, RET, RET, RET, RET, RET], records=[4, STEP])
        entry = inspected(elf).entry
        assert (entry.bti, entry.pac, entry.shadow_stack, entry.kcfi) == (1, 1, 1, 1)


class TestTable:
    def test_counts(self) -> None:
        found = inspected(kernel(TRACED, TRACED, PLAIN, TRACED, records=[0, STEP, 3 * STEP]))
        assert found.table.records == 3
        assert found.table.sections == {".text": 3}
        assert found.table.in_order
        assert (len(found.recorded), found.functions, found.share) == (3, 4, 0.75)

    def test_an_unsorted_one_is_no_fault(self) -> None:
        found = inspected(kernel(TRACED, TRACED, records=[STEP, 0]))
        assert not found.table.in_order
        assert not found.wrong

    def test_empty_records_are_counted(self) -> None:
        found = inspected(kernel(TRACED, TRACED, records=[0, -BASE, STEP]))
        assert (found.table.records, found.table.empty) == (3, 1)

    def test_an_alias_shares_the_record(self) -> None:
        elf = kernel(TRACED, PLAIN, records=[0])
        elf.symbol("alias", BASE, size=8)
        assert inspected(elf).recorded == (("f0", "alias"),)

    @pytest.mark.parametrize(
        ("records", "what"),
        [
            ([0, STEP, STEP], "records there twice"),
            ([0, STEP, 2 * STEP + 4], "records beside its place"),
            ([0], "functions with the NOPs and no record: they can't be traced"),
        ],
        ids=["twice", "shifted", "lost"],
    )
    def test_what_is_at_fault_is_named(self, records: list[int], what: str) -> None:
        found = inspected(kernel(TRACED, TRACED, PLAIN, TRACED, records=[*records, 3 * STEP]))
        assert what in {group.what for group in found.wrong}

    def test_a_record_that_no_symbol_covers(self) -> None:
        elf = kernel(TRACED, TRACED, records=[0, STEP, 2 * STEP])
        elf._sections[0] = (*elf._sections[0][:4], elf._sections[0][4] + struct.pack("<8I", *TRACED), 0, 0)
        found = inspected(elf)
        assert found.nameless == 1
        assert not found.wrong

    def test_a_misaligned_pointer_before_the_entry(self) -> None:
        shifted = [RET, NOP, NOP, NOP, NOP, RET, RET, RET]
        elf = kernel(BEFORE, BEFORE, shifted, records=[8, STEP + 8, 2 * STEP + 4])
        elf._symbols[2] = (*elf._symbols[2][:4], BASE + 2 * STEP + 12, 8)
        found = inspected(elf)
        assert [group.what for group in found.wrong] == ["records not aligned"]
        assert found.aligned == {4: 1, 16: 2}

    def test_alignment_of_a_module_is_at_most_its_sections(self) -> None:
        assert inspected(module(TRACED, TRACED, records=[0, STEP])).aligned == {8: 2}


class TestLeftOut:
    def test_by_section_and_origin(self) -> None:
        names = ["f0", "noinstr", "__kvm_nvhe_x", "__efistub_x", "__pi_x", "quiet"]
        elf = kernel(TRACED, *[PLAIN] * 5, records=[0], names=names)
        elf.symbol("__noinstr_text_start", BASE + STEP, kind=NOTYPE)
        elf.symbol("__noinstr_text_end", BASE + 2 * STEP, kind=NOTYPE)
        elf.symbol("label", BASE + STEP * 5 + 16, size=0)
        found = {group.what: group.names for group in inspected(elf).left_out}
        assert found["section noinstr"] == ("noinstr",)
        assert found["at EL2 (KVM's nVHE code)"] == ("__kvm_nvhe_x",)
        assert found["the EFI stub"] == ("__efistub_x",)
        assert found["position independent, before the kernel is mapped"] == ("__pi_x",)
        assert found["labels without a size (assembler)"] == ("label",)
        assert found[
            "no NOPs at the entry (notrace, a file's Makefile or assembler: only debug information could tell)"
        ] == ("quiet",)

    def test_the_section_of_a_module(self) -> None:
        elf = module(TRACED, records=[0])
        text = elf.code(".noinstr.text", *PLAIN)
        elf.symbol("quiet", 0, size=8, section=text)
        assert {group.what: group.names for group in inspected(elf).left_out} == {"section noinstr": ("quiet",)}

    def test_trampoline_sections_are_no_functions(self) -> None:
        elf = module(TRACED, records=[0])
        elf.symbol("slot", 0, size=1, section=elf.section(".text.ftrace_trampoline", bytes(16), flags=TEXT))
        assert inspected(elf).functions == 1

    def test_without_debug_information_it_says_so(self) -> None:
        assert any("no debug information" in note for note in inspected(kernel(TRACED, PLAIN, records=[0])).notes)

    def test_stripped(self) -> None:
        elf = module(TRACED, TRACED, records=[0, STEP])
        elf._symbols = elf._symbols[:1]
        found = inspected(elf)
        assert found.table.records == 2
        assert found.nameless == 2
        assert any("stripped" in note for note in found.notes)


class TestTrampolines:
    def test_of_a_kernel(self) -> None:
        elf = kernel(TRACED, records=[0], more="ftrace_caller return_to_handler")
        assert inspected(elf).trampolines.present == ("ftrace_caller", "return_to_handler")

    @pytest.mark.parametrize(
        ("release", "slots"),
        [
            ("6.1.0", "2 slots of 12 bytes"),
            ("6.12.0", "1 slot of 12 bytes"),
            ("", "1 slot, with DYNAMIC_FTRACE_WITH_REGS 2"),
        ],
    )
    def test_of_a_module(self, release: str, slots: str) -> None:
        found = inspected(module(TRACED, records=[0], sections=(".text.ftrace_trampoline",)), release=release)
        assert [text for text in found.trampolines.present if slots in text]
        assert not found.trampolines.missing

    def test_a_module_without(self) -> None:
        elf = TinyElf(REL)
        text, init = elf.code(".text", *TRACED), elf.code(".init.text", *TRACED)
        elf.section(".gnu.linkonce.this_module", bytes(8))
        table = elf.section("__patchable_function_entries", bytes(16))
        records = [
            (8 * place, 257, elf.symbol("", 0, section=code, kind=3), 0) for place, code in enumerate((text, init))
        ]
        for name, code in (("runs", text), ("starts", init)):
            elf.symbol(name, 0, size=8, section=code)
        elf.relocations(table, *records)
        found = inspected(elf)
        assert found.table.sections == {".text": 1, ".init.text": 1}
        assert found.trampolines.missing == (".text.ftrace_trampoline", ".init.text.ftrace_trampoline")

    def test_a_module_without_functions_needs_none(self) -> None:
        assert not inspected(module(PLAIN, records=[])).trampolines.missing


class TestComparison:
    def test_who_gained_and_lost(self) -> None:
        first = inspected(
            kernel(TRACED, TRACED, PLAIN, TRACED, records=[0, STEP, 3 * STEP], names=["a", "b", "c", "old"])
        )
        second = inspected(
            kernel(TRACED, PLAIN, TRACED, TRACED, records=[0, 2 * STEP, 3 * STEP], names=["a", "b", "c", "new"])
        )
        found = compare(first, second)
        assert (found.gained, found.lost) == (("c",), ("b",))
        assert (found.only_first, found.only_second) == (("old",), ("new",))
        assert not found.changes

    def test_another_flavour(self) -> None:
        first = inspected(kernel(TRACED, TRACED, records=[0, STEP]))
        second = inspected(kernel(BEFORE, BEFORE, records=[8, STEP + 8]))
        changes = {what: (one, other) for what, one, other in compare(first, second).changes}
        assert changes["flavour"] == (Kind.NOPS.value, Kind.BEFORE.value)


def test_modules_are_added_up() -> None:
    total = ModuleSum()
    total.add("a", inspected(module(TRACED, PLAIN, records=[0])))
    total.add("b", inspected(module(PLAIN, records=[])))
    total.add("c", inspected(module(TRACED, TRACED, records=[0, 0, STEP], sections=(".text.ftrace_trampoline",))))
    found = total.modules()
    assert found is not None
    assert (found.count, found.records, found.functions, found.recorded) == (3, 4, 5, 3)
    assert found.kinds == {Kind.NOPS.value: 2, Kind.NONE.value: 1}
    assert found.untraced == ("b",)
    assert [(group.what, group.names) for group in found.without_trampoline] == [(".text.ftrace_trampoline", ("a",))]
    assert [group.names[0] for group in found.wrong] == ["c: f0: in the table twice"]
    assert ModuleSum().modules() is None


class TestStrings:
    def test_the_banner_with_a_build_number_is_the_kernels(self) -> None:
        data = b"\0Linux version 6.1.0 (a@b) (gcc) # SMP\0Linux version 6.1.0 (a@b) (gcc) #1 SMP Mon\n\0"
        assert banner_in(data) == ("6.1.0", "(a@b) (gcc) #1 SMP Mon")
        assert banner_in(b"nothing") == ("", "")

    def test_the_configuration_in_a_kernel(self) -> None:
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(b"CONFIG_A=y\n# CONFIG_B is not set\n") + packer.flush()
        assert config_in(b"xxIKCFG_STno IKCFG_ST" + packed + b"IKCFG_ED") == {"A": "y"}
        assert config_in(b"IKCFG_ST" + packed[:-6]) == {}
        assert config_in(b"") == {}

    def test_versions(self) -> None:
        assert version_of("6.12.117+deb13-arm64") == (6, 12)
        assert version_of("next-2026") == (0, 0)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 62), "a 64-bit little-endian one for machine 62"),
        (b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HH", 2, 40), "a 32-bit little-endian one for machine 40"),
        (b"\x7fELF\x02\x02\x01" + bytes(9) + struct.pack(">HH", 2, 183), "a 64-bit big-endian one for machine 183"),
        (b"\x7fELF", "an? unknown little-endian one"),
    ],
    ids=["x86", "arm", "big-endian", "cut"],
)
@fault("a kernel of another architecture", where="hostile input", blame=Blame.USER, survives="nothing is needed")
def test_another_architecture(header: bytes, told: str) -> None:
    with pytest.raises(UserError, match=rf"^x: expected an ELF file for arm64 .*found {told}|found a {told}"):
        check_machine(header, name="x")


class TestRealCompilers:
    """The same from what compilers and linkers make (tests/smallkernel.py)."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Callable[[Compiler, str], Inspection]:
        def make(compiler: Compiler, flags: str) -> Inspection:
            require(compiler)
            write_sources(tmp_path)
            for name in "ab":
                compiler.compile(tmp_path, f"{name}.c", f"{name}.o", "-O2", *flags.split())
            linker = compiler.linkers[-1]
            compiler.run(tmp_path, linker, "-T", "kernel.lds", "-e", "start", "a.o", "b.o", "-o", "vmlinux")
            with (tmp_path / "vmlinux").open("rb") as file:
                return inspect_elf(Elf(file, name="vmlinux"), Facts(form="vmlinux"))

        return make

    @pytest.mark.parametrize("compiler", COMPILERS, ids=lambda compiler: compiler.name)
    def test_protection(self, made: Callable[[Compiler, str], Inspection], compiler: Compiler) -> None:
        found = made(compiler, f"{TWO} {PROTECTED} -g")
        assert {names[0] for names in found.recorded} == TRACED_FUNCTIONS | OTHERS
        assert found.nameless == 1  # the weak function that another one replaced
        assert not found.wrong
        assert 0 < found.entry.bti <= len(found.recorded)
        assert found.entry.pac == len(found.recorded)
        assert found.entry.shadow_stack == found.entry.kcfi == 0
        [group] = found.left_out
        assert group.what == "single functions in source files that are traced (notrace and the like)"
        assert group.names == ("quiet (a.c)",)

    @pytest.mark.parametrize("compiler", [each for each in COMPILERS if each.clang and each.version >= 16], ids=str)
    def test_clang_with_kcfi_and_a_shadow_stack(
        self, made: Callable[[Compiler, str], Inspection], compiler: Compiler
    ) -> None:
        found = made(compiler, f"{TWO} -fsanitize=kcfi,shadow-call-stack -ffixed-x18")
        assert found.entry.shadow_stack > 0
        assert found.entry.kcfi == 1  # the call through the table of pointers
        assert found.entry.bti == found.entry.pac == 0
        assert not found.wrong
