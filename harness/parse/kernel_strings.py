"""What a kernel or module says about itself in words: release, compiler, and (CONFIG_IKCONFIG) its configuration."""

from __future__ import annotations

import re
import zlib
from itertools import islice

from harness.limits import SOURCE_BYTES
from harness.parse.elf import Elf
from harness.parse.kconfig import parse_dotconfig

_BANNER = re.compile(rb"Linux version (\S{1,128}) ([^\n\0]{1,1024})")
_CONFIG_BEGIN, _CONFIG_TRIES = re.compile(rb"IKCFG_ST(\x1f\x8b)"), 4
_GZIP = 31  # zlib's number for a gzip stream
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")


def banner_in(data: bytes) -> tuple[str, str]:
    """The kernel's release, and who built it with what; empty if `data` has no such line. One with a build number is
    the kernel's own (linux_banner)."""
    found = list(_BANNER.finditer(data))
    for match in sorted(found, key=lambda match: b" #1" not in match[2] and b"# SMP" in match[2]):
        return match[1].decode(errors="replace"), match[2].decode(errors="replace")
    return "", ""


def config_in(data: bytes) -> dict[str, str]:
    """The configuration that the kernel carries; empty if it carries none, or a damaged one."""
    for match in islice(_CONFIG_BEGIN.finditer(data), _CONFIG_TRIES):
        unpacker = zlib.decompressobj(_GZIP)
        begin = match.start(1)
        try:
            packed = memoryview(data)[begin : begin + SOURCE_BYTES.value]
            text = unpacker.decompress(packed, SOURCE_BYTES.value)
        except zlib.error:
            continue
        if unpacker.eof:
            return parse_dotconfig(text.decode(errors="replace"))
    return {}


def module_strings(elf: Elf) -> tuple[str, str]:
    """The release that a module is for (vermagic), and its compiler (.comment)."""
    info = b"".join(elf.content(section) for section in elf.named(".modinfo"))
    magic = re.search(rb"(?:^|\0)vermagic=(\S{1,128})", info)
    return magic[1].decode(errors="replace") if magic else "", compiler_in(elf)


def compiler_in(elf: Elf) -> str:
    """The compilers that left their names in .comment."""
    words = b"".join(elf.content(section) for section in elf.named(".comment")).split(b"\0")
    return ", ".join(dict.fromkeys(word.decode(errors="replace") for word in words if word))


def version_of(release: str) -> tuple[int, int]:
    """(6, 1) of 6.1.0-50-arm64; (0, 0) if it is none."""
    match = _VERSION.match(release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
