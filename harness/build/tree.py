"""A kernel tree on disk: its validity, version, source files and their state."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.limits import MAKEFILE_BYTES

GENERATED_SUFFIXES = (
    ".o", ".ko", ".cmd", ".a", ".mod", ".mod.c", ".so", ".so.dbg", ".dtb", ".dtbo", ".dtb.S", ".dtbo.S", ".order",
    ".symvers", ".lex.c", ".tab.c", ".tab.h", ".dwo", ".gcno", ".gcda", ".su", ".pyc", ".rmeta", ".swp", "~",
)  # fmt: skip
GENERATED_NAMES = frozenset({".git", ".tmp_versions", "__pycache__", ".ccache"})
GENERATED_PATHS = frozenset(
    {
        ".config",
        ".config.old",
        "System.map",
        "include/config",
        "include/generated",
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.builtin.ranges",
        ".version",
        ".missing-syscalls.d",
        "vmlinux",
        "arch/arm64/boot/Image",
        "arch/arm64/boot/Image.gz",
        "scripts/basic/fixdep",
        "scripts/kconfig/conf",
    }
)
"""What a build inside the source directory leaves: not source, and kbuild refuses O= beside some of it."""

COMPILED_SUFFIXES = (".c", ".h", ".S")
BESIDE_THE_KERNEL = ("scripts/", "tools/", "usr/", "certs/")


@dataclass(frozen=True, slots=True)
class Entry:
    """A source file or symbolic link: its path below the root, and what `lstat` says."""

    path: str
    size: int
    mtime_ns: int
    mode: int


def is_generated(path: str, name: str) -> bool:
    """Return whether the build creates the file. `path`: relative to the root; `name`: its last part."""
    return (
        name.endswith(GENERATED_SUFFIXES)
        or name in GENERATED_NAMES
        or path in GENERATED_PATHS
        or path.startswith((".tmp_", "vmlinux."))
        or (name == "generated" and path.startswith("arch/") and path.endswith("/include/generated"))
    )


def only_compiled(path: str) -> bool:
    """Whether the file is nothing but compiled into the kernel: no part of Kconfig, of kbuild, of the programs and
    tests beside the kernel, or of what user space is given."""
    return path.endswith(COMPILED_SUFFIXES) and not path.startswith(BESIDE_THE_KERNEL) and "/uapi/" not in path


def scan(root: Path, *, everything: bool = False) -> Iterator[Entry]:
    """Return every source file below `root` in a fixed order; with `everything`, also files that look generated."""
    try:
        yield from _scan(os.fspath(root), "", everything=everything)
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be read: {error.strerror}") from error


def _scan(directory: str, prefix: str, *, everything: bool) -> Iterator[Entry]:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name = entry.name
        path = prefix + name
        if not everything and is_generated(path, name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _scan(entry.path, path + "/", everything=everything)
            continue
        status = entry.stat(follow_symlinks=False)
        # A socket or a pipe in a source directory is nobody's source, and reading it would block.
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield Entry(path, status.st_size, status.st_mtime_ns, status.st_mode)


def kernel_version(directory: Path) -> str:
    """``7.3.4`` or ``7.3.0-rc2`` from the Makefile. Raises UserError when `directory` is no arm64 kernel tree."""
    version = None
    with contextlib.suppress(OSError):
        version = makefile_version(read_makefile(directory))
    missing = [name for name in ("Kconfig", "arch/arm64") if not (directory / name).exists()]
    if version is None:
        missing.insert(0, "a Makefile with VERSION and PATCHLEVEL")
    if version is None or missing:
        try:
            found = sorted(entry.name for entry in directory.iterdir())
        except OSError as error:
            raise UserError(f"{directory}: cannot be read: {error.strerror}") from error
        shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        raise UserError(
            f"{directory}: not a kernel source tree: expected {' and '.join(missing)}, found {shown or 'nothing'}"
        )
    return version


def read_makefile(directory: Path) -> str:
    """The kernel's top Makefile; empty where there is no regular file. Raises UserError if it is too large, OSError if
    it can't be read."""
    path = directory / "Makefile"
    # Reading a pipe or a device might never end.
    return MAKEFILE_BYTES.read(path).decode(errors="replace") if path.is_file() else ""


def makefile_version(text: str) -> str | None:
    """The version that the head of the kernel's top Makefile declares; None: it declares none."""
    fields: dict[str, str] = dict(
        re.findall(r"(?m)^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)", text)
    )
    if not all(re.fullmatch(r"[0-9]{1,9}", fields.get(name, "")) for name in ("VERSION", "PATCHLEVEL")):
        return None
    numbers = [fields["VERSION"], fields["PATCHLEVEL"], fields.get("SUBLEVEL", "")]
    return ".".join(number for number in numbers if number) + fields.get("EXTRAVERSION", "")


def fingerprint(entries: Iterable[Entry]) -> str:
    """Names the state of the directory that `entries` come from: a hash over path, size, time and mode of each."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.size}\0{entry.mtime_ns}\0{entry.mode}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
