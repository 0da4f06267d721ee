"""Which files are the same kernel: what is loaded decides, not what only describes it."""

from __future__ import annotations

import struct

import pytest

from harness.parse.elf import Elf
from harness.parse.loaded import code_size, loaded_digest
from tests.unit.tinyelf import NOP, REL, RET, TinyElf


def kernel(
    *, code: tuple[int, ...] = (NOP, RET), identity: bytes = b"1", lines: bytes = b"1", data: bytes = b"12345678"
) -> Elf:
    file = TinyElf()
    file.code(".text", *code, address=0x1000)
    file.section(".data", data, address=0x2000)
    file.section(".notes", identity, address=0x3000)
    file.section(".BTF", b"types", address=0x4000)
    file.section(".debug_line", lines, flags=0)
    return Elf(file.stream(), name="vmlinux")


def module(*, identity: bytes = b"1", addend: int = 0) -> Elf:
    file = TinyElf(REL)
    file.code(".text", NOP, RET)
    file.section(".note.gnu.build-id", identity)
    symbol = file.symbol("f", 0)
    file.relocations(1, (0, 257, symbol, addend))
    return Elf(file.stream(), name="m.ko")


def test_another_build_id_and_other_line_numbers_are_the_same_kernel() -> None:
    assert loaded_digest(kernel()) == loaded_digest(kernel(identity=b"2", lines=b"99"))


@pytest.mark.parametrize("other", [{"code": (RET, NOP)}, {"data": b"12345679"}])
def test_other_code_or_data_is_another_kernel(other: dict[str, object]) -> None:
    assert loaded_digest(kernel()) != loaded_digest(kernel(**other))  # type: ignore[arg-type]


def test_a_module_is_its_relocations_too() -> None:
    assert loaded_digest(module()) == loaded_digest(module(identity=b"2"))
    assert loaded_digest(module()) != loaded_digest(module(addend=4))


def test_sizes_are_of_what_is_loaded() -> None:
    text, loaded = code_size(kernel(lines=b"x" * 1000))
    assert text == 2 * struct.calcsize("I")
    assert loaded == text + 8 + 1
