"""Builds of older harnesses, which recorded no digests: what can be seen of damage all the same."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.build.unsealed import check_image
from harness.products import Damaged
from tests import damage

_BASE = 0xFFFF800080000000
_TEXT, _DATA = bytes(range(256)) * 64, b"\x01" * 5000


def elf(*segments: tuple[int, bytes]) -> bytes:
    """An ELF file that loads texts at addresses."""
    at, table, content = 0x1000, b"", b""
    for address, text in segments:
        table += struct.pack("<IIQQQQQQ", 1, 7, at + len(content), address, address, len(text), len(text) + 100, 0x1000)
        content += text
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 183, 1, _BASE, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    return (header + table).ljust(at, b"\0") + content


@pytest.fixture
def build(tmp_path: Path) -> Path:
    text = _TEXT[:0x38] + b"ARM\x64" + _TEXT[0x3C:]
    (tmp_path / "vmlinux").write_bytes(elf((_BASE, text), (_BASE + 0x8000, _DATA)) + b"debug information" * 1000)
    (tmp_path / "Image").write_bytes(text.ljust(0x8000, b"\0") + _DATA)
    return tmp_path


def check(build: Path) -> None:
    check_image(build, remedy="build it again")


def test_a_whole_image_is_accepted(build: Path) -> None:
    check(build)


@pytest.mark.parametrize("how", [damage.empty, damage.cut, damage.zero, damage.remove])
@pytest.mark.parametrize("name", ["Image", "vmlinux"])
def test_damage_is_told(build: Path, name: str, how: Callable[[Path], None]) -> None:
    if (name, how) == ("vmlinux", damage.cut):
        (build / name).write_bytes((build / name).read_bytes()[:0x2000])
    else:
        how(build / name)
    with pytest.raises(Damaged, match=rf"{name}: .*expected .*, (found|can't read it).*; build it again"):
        check(build)


def test_a_zeroed_page_is_told(build: Path) -> None:
    image = bytearray((build / "Image").read_bytes())
    image[0x2000:0x3000] = bytes(0x1000)
    (build / "Image").write_bytes(image)
    with pytest.raises(Damaged, match="Image: damaged: expected at byte 8192 what vmlinux has, found zeros"):
        check(build)


@pytest.mark.parametrize("header", [b"", b"\x7fELF\x01\x01".ljust(64), b"\x7fELF\x02\x01".ljust(64, b"\xff")])
def test_a_vmlinux_that_is_none_is_told(build: Path, header: bytes) -> None:
    (build / "vmlinux").write_bytes(header)
    with pytest.raises(Damaged, match="vmlinux: damaged: expected an ELF file, found"):
        check(build)
