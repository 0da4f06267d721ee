"""Copy a finished build out of its workspace into the directory that is published."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.build import command
from harness.build.confinement import give
from harness.build.made import check_sizes
from harness.build.strays import UnusableOutput, is_real, refuse_strays
from harness.errors import InfraError

_FILES = ("arch/arm64/boot/Image", "vmlinux", "System.map", ".config")
_PARTS = (("modules", "lib/modules"), ("selftests", "selftests"), ("testmodules", "testcases"), ("tools", "bin"))


def collect(objects: Path, payload: Path, out: Path, *, log: Path) -> None:
    """Fill `out` with what make left in `objects`, what was installed to `payload`, and the build's `log`.

    Files are copied, not hard-linked: the next build modifies the files in `objects`."""
    dtbs = list((objects / "arch/arm64/boot/dts").rglob("*.dtb"))
    check_sizes([*(objects / name for name in _FILES), *dtbs, payload])
    for name in _FILES:
        if not (objects / name).is_file():
            raise UnusableOutput(f"the kernel's build ended without an error, but made no {name}; see {log}")
        _copy(objects / name, out / Path(name).name)
    (out / "dtbs").mkdir()
    for dtb in dtbs:
        _copy(dtb, out / "dtbs" / dtb.name)
    for name, source in _PARTS:
        if os.path.lexists(payload / source):
            copy_part(payload / source, out / name, below=payload)
    make_image(payload, out / "payload.ext4")
    _copy(log, out / "build.log")


def copy_part(part: Path, goal: Path, *, below: Path) -> None:
    """Copy the directory `part`, which a build has written somewhere `below` a directory of ours, to `goal`. Its links
    lead to the same files there. Raises UnusableOutput if a link would lead out of the copy, or to `part`."""
    if not is_real(part, below=below):
        raise UnusableOutput(f"{part}: expected a directory, found a link or a file in its place")
    refuse_strays(part)
    shutil.copytree(part, goal, symlinks=True)


def make_image(tree: Path, image: Path) -> None:
    """Pack `tree` into an ext4 image with some free space."""
    used = sum(path.lstat().st_size + 4096 for path in tree.rglob("*"))
    if os.geteuid() == 0:
        give(tree, 0)  # the image has the files' owners; on the target they are root's
    blocks = 16 * 1024 + used * 13 // 10 // 1024
    words = ["mke2fs", "-q", "-t", "ext4", "-L", "payload", "-E", "root_owner=0:0", "-d", str(tree), str(image)]
    done = command.run([*words, f"{blocks}k"], timeout=300.0)
    if done.status:
        raise InfraError(f"mke2fs ended with exit code {done.status}", details=done.last_lines())


def _copy(source: Path, goal: Path) -> None:
    """Copy, with shared blocks if the file system supports that."""
    try:
        os.close(os.open(source, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise UnusableOutput(f"the kernel's build left {source}, which can't be read: {error.strerror}") from None
    if not source.is_file():
        raise UnusableOutput(f"{source}: expected what kbuild makes there, found something that is no file")
    done = command.run(["cp", "--reflink=auto", "--preserve=timestamps", source, goal], timeout=300.0)
    if done.status:
        raise InfraError(f"{goal}: can't be written", details=done.last_lines())
