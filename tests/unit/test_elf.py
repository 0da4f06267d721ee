"""ELF and DWARF: what a file says of sections, symbols, pointers and sources."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.parse.elf import Elf
from tests.unit.tinyelf import NOP, REL, RET, TinyElf

ABS64, RELATIVE = 257, 1027
GCC = "aarch64-linux-gnu-gcc"
needs_gcc = pytest.mark.skipif(not shutil.which(GCC), reason=f"{GCC} is not installed")


def test_symbols_and_sections() -> None:
    tiny = TinyElf()
    text = tiny.code(".text", NOP, RET, address=0x1000)
    tiny.symbol("f", 0x1000, size=8, section=text)
    elf = Elf(tiny.stream(), name="tiny")
    assert [section.name for section in elf.sections] == ["", ".text", ".symtab", ".strtab", ".shstrtab"]
    assert [(symbol.name, symbol.address, symbol.size) for symbol in elf.symbols[1:]] == [("f", 0x1000, 8)]
    assert elf.addresses_of("f") == [0x1000]
    assert elf.read(0x1004, 4) == struct.pack("<I", RET)
    with pytest.raises(UserError, match="no section holds 4 bytes at 0x1008"):
        elf.read(0x1008, 4)


def test_addresses_in_a_relocatable_file_name_section_and_offset() -> None:
    tiny = TinyElf(REL)
    text, table = tiny.code(".text", NOP, RET), tiny.section("table", bytes(16))
    f = tiny.symbol("f", 4, section=text)
    tiny.relocations(table, (0, ABS64, f, 0), (8, ABS64, f, -4))
    tiny.relocations(text, (0, ABS64, f, 0))  # of another section, at the same offset
    elf = Elf(tiny.stream(), name="tiny")
    start = elf.named("table")[0].address
    assert elf.addresses_of("f") == [(text << 32) + 4]
    assert elf.pointers(start, start + 16) == ((text << 32) + 4, text << 32)


def test_pointers_of_a_relocatable_kernel_lie_in_its_relocations() -> None:
    """With RELA the place itself holds zero; where a value is (RELR, or no relocation) it counts."""
    tiny = TinyElf()
    tiny.section("table", struct.pack("<QQ", 0, 0x2000), address=0x1000)
    tiny.relocations(0, (0x1000, RELATIVE, 0, -0x7FFF_FFFF_0000), (0x5000, RELATIVE, 0, 1))
    assert Elf(tiny.stream(), name="tiny").pointers(0x1000, 0x1010) == (0xFFFF_8000_0001_0000, 0x2000)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"MZ" + bytes(100), TinyElf().bytes()[:150]])
def test_what_is_no_elf_file_is_wrong_input(content: bytes) -> None:
    with pytest.raises(UserError, match="x: expected a well-formed ELF file"):
        _ = Elf(io.BytesIO(content), name="x").symbols


def test_without_debug_information_no_source_is_known() -> None:
    elf = Elf(TinyElf().stream(), name="tiny")
    assert elf.source_ranges == ()
    assert elf.source_of(0x1000) is None


@needs_gcc
def test_the_units_of_a_module_are_left_alone(tmp_path: Path) -> None:
    """Two units in a relocatable file: where the second one's abbreviations begin is told by a relocation."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.c").write_text(
            f"int {name}(int x) {{ return x + 1; }}\nstruct {name} {{ int m; }} v{name};\n"
        )
        subprocess.run([GCC, "-g", "-O1", "-c", f"{name}.c"], cwd=tmp_path, check=True)
    subprocess.run(["aarch64-linux-gnu-ld", "-r", "a.o", "b.o", "-o", "x.ko"], cwd=tmp_path, check=True)
    with (tmp_path / "x.ko").open("rb") as stream:
        elf = Elf(stream, name="x.ko")
        assert elf.source_ranges == ()
        assert elf.source_of(elf.addresses_of("b")[0]) is None


@needs_gcc
@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -gz", "-gdwarf-4 -fno-dwarf2-cfi-asm"])
@pytest.mark.parametrize("without", ["", "a", "ac"])
def test_source_files(tmp_path: Path, dwarf: str, without: str) -> None:
    """gcc's units, with .debug_aranges and without: also code in sections of its own. In a kernel that clang has made,
    units of assembler files have it, and those of C files have not."""
    (tmp_path / "a.c").write_text(
        'int a(int x) { return x + 1; }\n__attribute__((section(".far"))) int b(void) { return 2; }'
    )
    (tmp_path / "c.c").write_text("int a(int); int main(void) { return a(3); }\n")
    for name in ("a", "c"):
        subprocess.run([GCC, *dwarf.split(), "-O1", "-c", f"{name}.c"], cwd=tmp_path, check=True)
        if name in without:
            subprocess.run(["aarch64-linux-gnu-objcopy", "-R.debug_aranges", f"{name}.o"], cwd=tmp_path, check=True)
    subprocess.run([GCC, "-nostdlib", "-static", "-e", "main", "a.o", "c.o", "-o", "x"], cwd=tmp_path, check=True)
    with (tmp_path / "x").open("rb") as stream:
        elf = Elf(stream, name="x")
        found = {name: elf.source_of(elf.addresses_of(name)[0]) for name in ("a", "b", "main")}
        assert found == {"a": "a.c", "b": "a.c", "main": "c.c"}
        assert elf.source_of(0) is None
