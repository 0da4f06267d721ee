"""Packs root file system and payload as initramfs archives, for boards without a disk for the harness. They are made
from the disk images, so there is no second recipe; the kernel unpacks one after the other into one root."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from harness import shortage
from harness.build import command
from harness.build.cache import cache_dir, scratch_dir
from harness.build.checksum import sha256_of
from harness.build.seal import Kept, made_once
from harness.errors import InfraError
from harness.model.product import Product
from harness.model.progress import Progress

_SCRIPTS = ("board-init", "board-network", "board-dhcp")
_RECIPE = 2  # counts changes of what this module does
_LEVEL = 6
_ROOM = "about 1 GB while it is made"
_LEFT_OUT = "lost+found"


def root_archive(root: Product, *, progress: Progress, verify: bool = False) -> Kept:
    """Return a compressed archive of the ext4 image `root` and a board's scripts, from the cache if it is there.
    `verify`: read all of it."""
    scripts = {name: (resources.files("harness.build") / "overlay" / name).read_bytes() for name in _SCRIPTS}
    key = hashlib.sha256(f"{_RECIPE} {root.digest.sha256}\n".encode() + b"".join(scripts.values())).hexdigest()[:16]

    def write(out: gzip.GzipFile) -> None:
        progress.say("root file system: packing it for a board's memory")
        _write_directory(out, "harness")
        for name, script in scripts.items():
            out.write(_entry(f"harness/{name}", stat.S_IFREG | 0o755, script))
        # the kernel opens it for init before anything is mounted
        _write_directory(out, "dev")
        out.write(_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
        _write_image(out, root.path, below="")

    archive = cache_dir("initramfs") / f"root-{key}.cpio.gz"
    return made_once(archive, partial(_pack, write), progress=progress, needed=_ROOM, full=verify)


def payload_archive(image: Path, *, progress: Progress, verify: bool = False) -> Kept:
    """Return a compressed archive of a build's payload image as /payload, from the cache if it is there. `verify`: read
    all of it."""
    key = hashlib.sha256(f"{_RECIPE} {sha256_of(image, progress=progress)}".encode()).hexdigest()[:16]

    def write(out: gzip.GzipFile) -> None:
        _write_directory(out, "payload")
        _write_image(out, image, below="payload/")

    archive = cache_dir("initramfs") / f"payload-{key}.cpio.gz"
    return made_once(archive, partial(_pack, write), progress=progress, needed=_ROOM, full=verify)


def early_archive(archive: Path, *, init: Path, modules: Sequence[bytes]) -> None:
    """Make `archive`: the program `init`, and modules that it inserts in this order."""

    def write(out: gzip.GzipFile) -> None:
        for name in ("dev", "root", "modules"):
            _write_directory(out, name)
        out.write(_entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
        out.write(_entry("init", stat.S_IFREG | 0o755, init.read_bytes()))
        for number, module in enumerate(modules):
            out.write(_entry(f"modules/{number:03}", stat.S_IFREG | 0o644, module))

    _pack(write, archive)


def _pack(write: Callable[[gzip.GzipFile], None], archive: Path) -> None:
    """Make an archive of the entries that `write` writes."""
    with gzip.GzipFile(archive, "wb", compresslevel=_LEVEL, mtime=0) as out:
        write(out)
        out.write(_entry("TRAILER!!!", 0))
    # the kernel looks for the next archive at a multiple of four
    with archive.open("ab") as file:
        file.write(bytes(-file.tell() % 4))


def _write_image(out: gzip.GzipFile, image: Path, *, below: str) -> None:
    with scratch_dir("unpacking") as scratch:
        # debugfs says what went wrong, and ends with 0 all the same
        done = command.run(["debugfs", "-R", f"rdump / {scratch}", image], timeout=300.0)
        complaints = [line for line in done.stderr.splitlines()[1:] if "changing ownership" not in line]
        if complaints and (short := shortage.said(complaints, what="debugfs", where=scratch)):
            raise short
        if done.status or complaints:
            raise InfraError(f"{image}: expected an ext4 image, debugfs can't unpack it", details=complaints[:15])
        _write_tree(out, scratch, below=below)


def _write_tree(out: gzip.GzipFile, tree: Path, *, below: str) -> None:
    """Write every file below `tree`, parents first, owned by root."""
    for directory, names, files in os.walk(tree):
        names.sort()
        for name in sorted({*names, *files} - {_LEFT_OUT}):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            elif not stat.S_ISDIR(mode):
                continue
            out.write(_entry(below + str(path.relative_to(tree)), mode, content))


def _write_directory(out: gzip.GzipFile, name: str) -> None:
    out.write(_entry(name, stat.S_IFDIR | 0o755))


def _entry(name: str, mode: int, content: bytes = b"", *, device: tuple[int, int] = (0, 0)) -> bytes:
    """One entry of a cpio archive in the new ASCII format (the kernel's Documentation/driver-api/early-userspace/
    buffer-format.rst): the inode number stays 0, because a link count of 1 keeps the kernel from looking for links."""
    encoded = os.fsencode(name) + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (0, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(header) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
