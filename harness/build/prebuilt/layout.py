"""Finds the parts of a built kernel by their names and contents, in whatever layout they come: Debian's packages, `make
tar-pkg`, tuxmake, KernelCI."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.build.unpack import HEAD_BYTES, packed_by
from harness.errors import UserError
from harness.limits import TREE_FILES, open_regular
from harness.model.names import is_name
from harness.model.prebuilt import Layout
from harness.parse import rawimage
from harness.parse.zboot import is_zboot

# The name of the Image itself first: a directory may have several forms of one kernel.
_IMAGES = (
    re.compile(r"Image"),
    re.compile(r"Image\.(gz|xz|zst|bz2)"),
    re.compile(r"vmlinuz(-.+)?"),
    re.compile(r"vmlinuz\.efi"),
    re.compile(r"vmlinux-.+|kernel"),  # what `make tar-pkg` calls its Image on some versions
)
_CONFIG = re.compile(r"\.config|config|kernel\.config|config-.+")
_SYSTEM_MAP = re.compile(r"System\.map(-.+)?")
_VMLINUX = re.compile(r"vmlinux(-.+)?(\.xz|\.gz|\.zst)?")
_OF_DEBUGGING = (("lib", "debug", "lib"), ("lib", "debug", "usr", "lib"))
_OF_MODULES = ("kernel", "modules.order", "modules.builtin")
_LEAST_MAP_BYTES = 10_000  # Debian's only says where the real one is
_ELF = b"\x7fELF"
_MOST_NAMED = 8  # files that a message names
_CUT_UP = (
    "since 6.19 Debian's linux-image package is empty: put linux-binary, linux-base and linux-modules of that version "
    "into one directory, and write prebuilt: before its path"
)


def find_parts(roots: Sequence[Path], *, name: str) -> Layout:
    """Return where the parts of the one kernel below `roots` are. Raises UserError if there is none, or several."""
    files = [path for root in roots for path in _files(root, name=name)]
    image = _image(files, name=name)
    modules = sorted({found for path in files if (found := _modules_of(path))})
    if len(modules) > 1:
        told = ", ".join(path.name for path in modules)
        raise UserError(f"{name}: expected the modules of one kernel, found those of {told}")
    lists = [path.parent for path in files if path.name == "kselftest-list.txt"]
    foreign = (*(directory / "kernel" for directory in modules), *lists)  # suites have a file config each
    own = [path for path in files if not any(path.is_relative_to(directory) for directory in foreign)]
    config = [path for path in own if _CONFIG.fullmatch(path.name)]
    maps = [path for path in own if _SYSTEM_MAP.fullmatch(path.name) and path.stat().st_size >= _LEAST_MAP_BYTES]
    vmlinux = [path for path in own if path != image and _VMLINUX.fullmatch(path.name) and _may_be_elf(path)]
    return Layout(
        image=image,
        config=_nearest(config, image),
        modules=modules[0] if modules else None,
        system_map=_nearest(maps, image),
        vmlinux=_nearest(vmlinux, image),
        dtbs=tuple(path for path in files if path.suffix == ".dtb" and is_name(path.name)),
        selftests=lists[0] if lists else None,
    )


def _files(root: Path, *, name: str) -> Iterator[Path]:
    count = 0
    for inner, directories, files in os.walk(root):
        directories.sort()
        for file in sorted(files):
            count += 1
            TREE_FILES.check(count, place=name)
            path = Path(inner, file)
            if path.is_file() and not path.is_symlink():
                yield path


def _image(files: Sequence[Path], *, name: str) -> Path:
    for pattern in _IMAGES:
        found = [path for path in files if pattern.fullmatch(path.name) and _may_be_image(path)]
        if len(found) > 1:
            told = ", ".join("/".join(path.parts[-2:]) for path in found[:_MOST_NAMED])
            raise UserError(f"{name}: expected one kernel, found {len(found)}: {told}")
        if found:
            return found[0]
    expected = f"{name}: expected a kernel (Image, Image.gz, vmlinuz or vmlinuz.efi for arm64), found"
    others = [path for path in files if any(pattern.fullmatch(path.name) for pattern in _IMAGES)]
    if others:
        told = ", ".join("/".join(path.parts[-2:]) for path in others[:_MOST_NAMED])
        raise UserError(f"{expected} {told}, which is another machine's, or packed by another program")
    hint = f"; {_CUT_UP}" if name.endswith(".deb") else ""
    raise UserError(f"{expected} none{hint}")


def _may_be_image(path: Path) -> bool:
    head = _head(path)
    return rawimage.is_image(head) or is_zboot(head) or bool(packed_by(head))


def _may_be_elf(path: Path) -> bool:
    head = _head(path)
    return head.startswith(_ELF) or bool(packed_by(head))


def _head(path: Path) -> bytes:
    with open_regular(path, follow=False) as file:
        return file.read(HEAD_BYTES)


def _modules_of(path: Path) -> Path | None:
    """The directory of all modules of a release that `path` is in, if it is in one: …/lib/modules/RELEASE. Those in
    …/lib/debug/lib/modules have debug information, and nothing to load."""
    parts = path.parts
    for at in range(len(parts) - 3, 0, -1):
        if any(parts[max(at - len(place), 0) : at] == place for place in _OF_DEBUGGING):
            continue
        if parts[at] == "modules" and parts[at - 1] == "lib" and parts[at + 2] in _OF_MODULES:
            return Path(*parts[: at + 2])
    return None


def _nearest(found: Sequence[Path], image: Path) -> Path | None:
    """Of several files the one that belongs to the Image by its name (config-6.1 to vmlinuz-6.1), or else shares most
    of its path with it."""

    def likeness(path: Path) -> tuple[bool, bool, int]:
        release, of_image = (each.name.partition("-")[2] for each in (path, image))
        return release == of_image, not release, len(os.path.commonpath([path, image]))

    return max(found, key=likeness, default=None)
