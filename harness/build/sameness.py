"""Whether two builds are the same for a target: equal but for debug information, and for what follows from that."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.build.changedlines import CHANGED
from harness.build.finished import RECORD
from harness.limits import INSPECT_BYTES, open_regular
from harness.model.kernel import Build
from harness.parse.elf import Elf
from harness.parse.loaded import loaded_digest

_ELF = b"\x7fELF"
_KERNEL = "vmlinux"
# What says how a build was made, or is made of the other files.
_TOLD = {"System.map", RECORD, "build.log", CHANGED}
_MADE_OF_OTHERS = {"Image", "payload.ext4"}


def hash_of_binaries(build: Build) -> str:
    """Return a hash of all that a build is booted and tested with; empty if the build does not say what it consists
    of. Debug information, build IDs and what the build says about itself do not count."""
    if not build.products:
        return ""
    files = {each.path.relative_to(build.directory).as_posix(): each for each in build.products}
    left_out = _TOLD | (_MADE_OF_OTHERS if _KERNEL in files else set())
    digest = hashlib.sha256()
    for name, product in sorted(files.items()):
        if not name.startswith("patches/") and name not in left_out:
            content = product.digest.sha256
            if name == _KERNEL or name.endswith(".ko"):
                content = _loaded(product.path) or content
            digest.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _loaded(path: Path) -> str:
    """Return the hash of what is loaded of a kernel or a module; empty if it is no such file."""
    with open_regular(path) as file:
        if file.read(len(_ELF)) != _ELF:
            return ""
        INSPECT_BYTES.check(path.stat().st_size, place=str(path))
        return loaded_digest(Elf(file, name=str(path)))
