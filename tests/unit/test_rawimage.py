"""Raw arm64 Images: their symbols, and the table of function entries, without any help from outside."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from dataclasses import replace

import pytest

from harness import limits
from harness.errors import UserError
from harness.limits import Deadline
from harness.parse.elf import Elf
from harness.parse.instrumentation import instrumentation_of
from harness.parse.kallsyms import find_kallsyms
from harness.parse.rawimage import Made, elf_of, flattened, is_image
from tests.faults.catalogue import Blame, fault
from tests.unit.test_input_limits import Lower, lower
from tests.unit.tinyelf import REL, RET, TEXT, TinyElf
from tests.unit.tinyimage import BASE, LAYOUTS, LONG, TinyImage

__all__ = ["lower"]


def made(image: bytes, **options: str) -> Made:
    return elf_of(image, name="vmlinuz", deadline=Deadline.start(limits.INSPECT_SECONDS), **options)


def recorded(elf: bytes) -> set[str]:
    code = instrumentation_of(Elf(io.BytesIO(elf), name="x"))
    assert code is not None
    assert all(not record.judgement.wrong for record in code.records)
    return {function.name for function in code.functions if function.listed}


@pytest.mark.parametrize("relocations", [True, False], ids=["rela", "in place"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_functions_and_records(layout: str, relocations: bool) -> None:
    image = TinyImage(layout=layout, relocations=relocations)
    found = made(image.content())
    assert found.symbols_from == "kallsyms"
    assert recorded(found.elf) == image.recorded


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_symbols_are_those_that_were_written(layout: str) -> None:
    image = TinyImage(layout=layout)
    found = find_kallsyms(image.content(), name="x", deadline=Deadline.start(limits.INSPECT_SECONDS))
    assert found is not None
    assert [(each.name, each.kind, each.place) for each in found.symbols] == image.symbols()
    assert LONG in {each.name for each in found.symbols}
    assert (found.base_at is None) == layout.startswith("7.3")


@pytest.mark.parametrize("before", [True, False], ids=["4,2", "2"])
@pytest.mark.parametrize("relocations", [True, False], ids=["rela", "in place"])
@pytest.mark.parametrize("layout", ["6.1", "6.4"])
def test_without_symbols_of_data_the_table_is_found_by_what_it_points_to(
    layout: str, relocations: bool, before: bool
) -> None:
    """Then _text is missing too: addresses are relative to _stext."""
    image = TinyImage(layout=layout, relocations=relocations, all_symbols=False, before=before)
    assert recorded(made(image.content()).elf) == image.recorded


def test_addresses_are_those_of_the_kernel() -> None:
    image = TinyImage()
    elf = Elf(io.BytesIO(made(image.content()).elf), name="x")
    assert elf.addresses_of("function_10") == [BASE + image.place(10)]


def test_a_system_map_is_preferred_and_suffices() -> None:
    image = TinyImage(kallsyms=False)
    found = made(image.content(), system_map=image.system_map())
    assert found.symbols_from == "System.map"
    assert recorded(found.elf) == image.recorded


@pytest.mark.parametrize(
    "text",
    ["ffffffffffffffff B The real System.map is in another package\n", "", "ffff800080000000 T _text\n"],
    ids=["a hint", "empty", "too short"],
)
def test_a_system_map_that_is_none_is_passed_over(text: str) -> None:
    assert made(TinyImage().content(), system_map=text).symbols_from == "kallsyms"


def test_the_system_map_of_another_kernel_is_passed_over() -> None:
    image = TinyImage()
    other = image.system_map().replace(f"{BASE + image.banner_at:016x}", f"{BASE + image.banner_at + 8:016x}")
    assert made(image.content(), system_map=other).symbols_from == "kallsyms"


def test_a_vmlinux_without_symbols_is_laid_out_like_its_image() -> None:
    """What strip leaves: sections at their addresses, with a gap."""
    image = TinyImage().content()
    stripped = TinyElf()
    stripped.section(".text", image[:0x12000], flags=TEXT, address=BASE)
    rest = 0x12000 + next(place for place, byte in enumerate(image[0x12000:]) if byte)
    stripped.section(".rodata", image[rest:], address=BASE + rest)
    assert flattened(Elf(stripped.stream(), name="x")) == image


def test_a_module_is_not_laid_out() -> None:
    module = TinyElf(REL)
    module.code(".text", RET)
    assert not flattened(Elf(module.stream(), name="x"))


def test_what_is_no_image() -> None:
    assert is_image(TinyImage().content())
    assert not is_image(b"MZ" + bytes(62))
    assert not is_image(b"")


@fault("a raw Image without kallsyms", where="hostile input", blame=Blame.USER, survives="nothing is needed")
def test_no_symbols() -> None:
    with pytest.raises(UserError, match=r"^vmlinuz: expected a kernel with its symbols .*give its vmlinux$"):
        made(TinyImage(kallsyms=False).content())


@fault("a raw Image for big-endian CPUs", where="hostile input", blame=Blame.USER, survives="nothing is needed")
def test_big_endian() -> None:
    image = bytearray(TinyImage().content())
    image[24] |= 1
    with pytest.raises(UserError, match=r"^vmlinuz: expected a little-endian kernel"):
        made(bytes(image))


@pytest.mark.parametrize("layout", LAYOUTS)
@fault("a truncated raw Image", where="hostile input", blame=Blame.USER, survives="the time of the user")
def test_truncated(layout: str) -> None:
    image = TinyImage(layout=layout)
    whole = image.content()
    for size in range(64, len(whole), len(whole) // 12):
        with contextlib.suppress(UserError):
            assert recorded(made(whole[:size]).elf) == image.recorded  # only what is behind the table is missing


@pytest.mark.parametrize("layout", LAYOUTS)
@fault("a raw Image with damaged kallsyms", where="hostile input", blame=Blame.USER, survives="the time of the user")
def test_damaged_symbols(layout: str) -> None:
    image = TinyImage(layout=layout)
    whole = image.content()
    for step in range(0, 0x3000, 499):
        damaged = bytearray(whole)
        damaged[image.kallsyms_at + step] ^= 0xFF
        with contextlib.suppress(UserError):
            made(bytes(damaged))


@fault("a raw Image whose table has bounds outside", where="hostile input", blame=Blame.USER, survives="the memory")
def test_bounds_outside() -> None:
    image = TinyImage(kallsyms=False)
    symbols = image.system_map().replace(f"{BASE + image.table_at:016x}", f"{BASE + (1 << 40):016x}")
    with pytest.raises(UserError, match=r"but its bounds are not in the Image; give its vmlinux$"):
        made(image.content(), system_map=symbols)


@fault("a raw Image without a table", where="hostile input", blame=Blame.USER, survives="nothing is needed")
def test_no_table() -> None:
    image = replace(TinyImage(layout="6.1", all_symbols=False), relocations=False)
    data = bytearray(image.content())
    begin = image.table_at
    data[begin : begin + 8 * len(image.recorded)] = bytes(8 * len(image.recorded))
    with pytest.raises(UserError, match="it was not found: the kernel has no function tracing"):
        made(bytes(data))


@fault(
    "a raw Image whose rising numbers look like the index of its symbols everywhere",
    where="hostile input",
    blame=Blame.USER,
    survives="the time of the user",
)
def test_a_search_ends_when_its_time_is_over(lower: Lower) -> None:
    image = bytearray(TinyImage(layout="6.3").content())
    at = image.index(b"0\x001\x002\x00")
    numbers = range(0, 1 << 16, 4)
    struct.pack_into(
        f"<{len(numbers) // 4}I", image, at - 0x20000 if at > 0x20000 else 64, *numbers[: len(numbers) // 4]
    )
    lower(limits.INSPECT_SECONDS, 1)
    past = Deadline(limit=limits.INSPECT_SECONDS, started=time.monotonic() - 5)
    with pytest.raises(UserError, match=r"^vmlinuz: expected at most 1 seconds"):
        elf_of(bytes(image), name="vmlinuz", deadline=past)
