"""A vmlinux whose table was made wrong: whatever it is, a testcase finds it and names the function."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.parse.elf import Elf
from harness.parse.instrumentation import Instrumentation, Judgement, instrumentation_of
from harness.run.api.kernelfiles import ModuleFile
from testcases.instrumentation import test_modules, test_table
from tests.compilers import GNU_LD, Compiler, require
from tests.doctor import Doctor
from tests.faults.catalogue import Blame, fault
from tests.smallkernel import CALL_OPS, PROTECTED, TRACED, TWO, write_sources

GCC = Compiler("gcc-12")
Change = Callable[[Doctor], None]
FLAVOURS = {"two NOPs": f"-O2 {TWO} {PROTECTED}", "CALL_OPS": f"-O2 {CALL_OPS} {PROTECTED}"}


@pytest.fixture(
    scope="module", params=[f"{flavour}, {link}" for flavour in FLAVOURS for link in ("fixed", "relocatable")]
)
def vmlinux(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of each flavour, and with its table in the file or in relocations."""
    require(GCC)
    tmp_path = tmp_path_factory.mktemp("vmlinux")
    flavour, _, link = request.param.partition(", ")
    write_sources(tmp_path)
    for name in "ab":  # without the cold one, which lacks the alignment
        GCC.compile(tmp_path, f"{name}.c", f"{name}.o", *FLAVOURS[flavour].split(), "-Dcold=used")
    pie = ["-pie"] if link == "relocatable" else []
    GCC.run(tmp_path, GNU_LD, *pie, "-T", "kernel.lds", "-e", "start", "a.o", "b.o", "-o", "vmlinux")
    return (tmp_path / "vmlinux").read_bytes()


def read(content: bytes) -> Instrumentation:
    code = instrumentation_of(Elf(io.BytesIO(content), name="vmlinux"))
    assert code is not None
    return code


def found_in(code: Instrumentation) -> list[str]:
    """What the testcases about vmlinux say."""
    checks = (
        test_table.test_every_entry_points_at_the_nops_of_this_flavour,
        test_table.test_every_function_with_nops_is_in_the_table,
        test_table.test_no_function_is_in_the_table_twice,
    )
    return [told for check in checks if (told := complaint(check, code))]


def complaint(check: Callable[[Instrumentation], None], code: Instrumentation) -> str:
    try:
        check(code)
    except AssertionError as error:
        return str(error)
    return ""


def test_the_vmlinux_itself_is_right(vmlinux: bytes) -> None:
    assert found_in(read(vmlinux)) == []
    assert found_in(read(Doctor(vmlinux).bytes())) == []


def on_the_bti(doctor: Doctor) -> None:
    doctor.shift("frame", doctor.function("frame").address - doctor.record_of("frame"))


def on_the_bti_too(doctor: Doctor) -> None:
    doctor.add(doctor.function("frame").address)


def at_the_last_instruction(doctor: Doctor) -> None:
    function = doctor.function("frame")
    doctor.add(function.address + function.size - 4)


def of_one_without_nops(doctor: Doctor) -> None:
    doctor.add(doctor.function("quiet").address + doctor.record_of("leaf") - doctor.function("leaf").address)


def shift(distance: int) -> Change:
    return lambda doctor: doctor.shift("frame", distance)


J = Judgement
# What is done, what the record is then, which function has none any more, and what is told.
CHANGES: dict[str, tuple[Change, set[Judgement], str, str]] = {
    "doubled": (lambda doctor: doctor.double("frame"), {J.TWICE}, "", "(frame"),
    "another's instead": (lambda doctor: doctor.replace("frame", "leaf"), {J.TWICE}, "frame", "(leaf"),
    "dropped": (lambda doctor: doctor.drop("frame"), set(), "frame", "frame"),
    "emptied": (lambda doctor: doctor.empty("frame"), set(), "frame", "frame"),
    "on the BTI": (on_the_bti, {J.ON_BTI}, "frame", "points at the BTI of frame"),
    "on the BTI too": (on_the_bti_too, {J.ON_BTI}, "", "points at the BTI of frame"),
    "on the second NOP": (shift(4), {J.SHIFTED}, "frame", "into the middle of frame, 4 bytes behind its first NOP"),
    "between instructions": (shift(2), {J.SHIFTED}, "frame", "into the middle of frame, 2 bytes behind its first NOP"),
    "inside": (shift(28), {J.INSIDE}, "frame", "into the middle of frame, 28 bytes behind its first NOP"),
    "at the last instruction": (at_the_last_instruction, {J.INSIDE}, "", "points into the middle of frame"),
    "not in code": (shift(1 << 20), {J.NO_CODE}, "frame", "points to where no code is"),
    "of one without NOPs": (of_one_without_nops, {J.NO_NOPS}, "", "(quiet"),
    # Depending on the flavour these are in padding, in the function before, on the BTI or behind the NOPs.
    **{f"{by:+}": (shift(by), set(Judgement), "frame", "frame") for by in (-16, -12, -8, 8, 12, 16)},
}


@pytest.mark.parametrize("change", CHANGES)
@fault(
    "a record in a vmlinux's table of entries is doubled, lost, shifted, or on a BTI",
    where="kernel",
    blame=Blame.KERNEL,
    survives="the testcases fail and name the function",
)
def test_each_wrong_record_is_found_and_named(vmlinux: bytes, change: str) -> None:
    make, judgements, lost, told = CHANGES[change]
    doctor = Doctor(vmlinux)
    make(doctor)
    code = read(doctor.bytes())
    assert told in "\n".join(found_in(code))
    wrong = [record.judgement for record in code.records if record.judgement.wrong]
    assert len(wrong) == bool(judgements)
    assert set(wrong) <= judgements
    assert [function.name for function in code.lost] == ([lost] if lost else [])


def test_the_records_of_static_functions_are_lost(vmlinux: bytes) -> None:
    """As a build does that takes only global functions for functions: each of the others is named."""
    doctor = Doctor(vmlinux)
    static = [function.name for function in read(vmlinux).functions if not function.exported and function.nops]
    for name in static:
        doctor.empty(name)
    (told,) = found_in(read(doctor.bytes()))
    assert told.startswith(f"{len(static)} functions have the NOPs and are not in the table: ")
    assert all(name in told for name in static)


def test_nops_that_are_not_aligned_in_a_module(tmp_path: Path) -> None:
    """The module loader puts a cold function anywhere, and the pointer before its entry is then torn."""
    require(GCC)
    write_sources(tmp_path)
    GCC.compile(tmp_path, "a.c", "a.o", *FLAVOURS["CALL_OPS"].split())
    assert disagreement((tmp_path / "a.o").read_bytes()).endswith(
        "not aligned to 8 bytes: .text.unlikely is aligned to 4"
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_module_whose_records_are_in_two_sections(tmp_path: Path, flavour: str) -> None:
    """The loader takes the first section of that name, so nothing that is in the other can be traced."""
    require(GCC)
    write_sources(tmp_path)
    GCC.compile(tmp_path, "a.c", "a.o", *FLAVOURS[flavour].split(), "-Dcold=used")
    GCC.run(tmp_path, "aarch64-linux-gnu-objcopy", "--add-section", ".gnu.linkonce.this_module=b.c", "a.o", "a.ko")
    module = (tmp_path / "a.ko").read_bytes()
    assert disagreement(module) == ""
    doctor = Doctor(module)
    doctor.split(7)
    code = read(doctor.bytes())
    assert [record.judgement for record in code.records] == [Judgement.RIGHT] * 7 + [Judgement.UNREAD] * 2
    unread = {record.function.name for record in code.records[7:] if record.function}
    assert {function.name for function in code.lost} == unread
    told = disagreement(doctor.bytes())
    assert all(name in told for name in unread)
    assert "in another section __patchable_function_entries than the first" in told
    assert len(TRACED) == 9


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("by", [-4, 4, 8])
def test_a_shifted_record_of_a_module(tmp_path: Path, flavour: str, by: int) -> None:
    require(GCC)
    write_sources(tmp_path)
    GCC.compile(tmp_path, "a.c", "a.o", *FLAVOURS[flavour].split(), "-Dcold=used")
    doctor = Doctor((tmp_path / "a.o").read_bytes())
    doctor.shift("frame", by)
    assert "frame is not in the table" in disagreement(doctor.bytes())
    doctor = Doctor((tmp_path / "a.o").read_bytes())
    doctor.empty("frame")
    assert "an entry is empty" in disagreement(doctor.bytes())


def disagreement(content: bytes) -> str:
    """What the testcase about modules says."""
    return test_modules._disagreement(ModuleFile("x", "x.c", read(content)))
