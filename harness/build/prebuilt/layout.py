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
_OF_MODULES = ("kernel", "modules.order", "modules.builtin")
_LEAST_MAP_BYTES = 10_000  # Debian's only says where the real one is
_ELF = b"\x7fELF"


def find_parts(roots: Sequence[Path], *, name: str) -> Layout:
    """Return where the parts of the one kernel below `roots` are. Raises UserError if there is none, or several."""
    files = [path for root in roots for path in _files(root, name=name)]
    image = _image(files, name=name)
    modules = sorted({found for path in files if (found := _modules_of(path))})
    if len(modules) > 1:
        told = ", ".join(path.name for path in modules)
        raise UserError(f"{name}: expected the modules of one kernel, found those of {told}")
    config = [path for path in files if _CONFIG.fullmatch(path.name) and not _is_inside(path, modules, "kernel")]
    maps = [path for path in files if _SYSTEM_MAP.fullmatch(path.name) and path.stat().st_size >= _LEAST_MAP_BYTES]
    vmlinux = [path for path in files if path != image and _VMLINUX.fullmatch(path.name) and _may_be_elf(path)]
    lists = [path.parent for path in files if path.name == "kselftest-list.txt"]
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
            told = ", ".join("/".join(path.parts[-2:]) for path in found[:8])
            raise UserError(f"{name}: expected one kernel, found {len(found)}: {told}")
        if found:
            return found[0]
    raise UserError(f"{name}: expected a kernel (Image, Image.gz, vmlinuz or vmlinuz.efi for arm64), found none")


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
    """The directory of all modules of a release that `path` is in, if it is in one: …/lib/modules/RELEASE."""
    parts = path.parts
    for at in range(len(parts) - 3, 0, -1):
        if parts[at] == "modules" and parts[at - 1] == "lib" and parts[at + 2] in _OF_MODULES:
            return Path(*parts[: at + 2])
    return None


def _is_inside(path: Path, modules: Sequence[Path], part: str) -> bool:
    return any(path.is_relative_to(directory / part) for directory in modules)


def _nearest(found: Sequence[Path], image: Path) -> Path | None:
    """Of several files the one that shares most of its path with the Image."""

    def shared(path: Path) -> int:
        return len(os.path.commonpath([path, image]))

    return max(found, key=shared, default=None)
