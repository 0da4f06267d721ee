"""Our own programs for the target, small enough to need no C library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from harness.build import command
from harness.build.confinement import Confinement
from harness.errors import InfraError
from harness.model.kernel import Toolchain

EARLY = "early"  # /init of an initramfs that loads drivers
_TOOLS = ("thaw", "bpfattach")
_FLAGS = ("-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector")
_LIMIT_S = 60.0


def compile_tools(toolchain: Toolchain, directory: Path, *, confinement: Confinement | None = None) -> None:
    """Compile every tool into `directory`. `confinement`: what the compiler runs in, because the kernel's build may
    have put links where it writes. Raises InfraError."""
    _compile(_TOOLS, toolchain, directory, confinement=confinement)


def compile_early(toolchain: Toolchain, directory: Path) -> Path:
    """Compile the program that an initramfs begins with into `directory`; return its path. Raises InfraError."""
    _compile((EARLY,), toolchain, directory)
    return directory / EARLY


def _compile(
    names: Sequence[str], toolchain: Toolchain, directory: Path, *, confinement: Confinement | None = None
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    clang = ("--target=aarch64-linux-gnu", "-fuse-ld=lld") if toolchain.name.startswith("clang") else ()
    for name in names:
        with resources.as_file(_source(name)) as path, path.open("rb") as source:
            words = [toolchain.command, *clang, *_FLAGS, "-o", str(directory / name), "-x", "c", "-"]
            done = command.run(words, timeout=_LIMIT_S, stdin=source, confinement=confinement)
        if done.status:
            told = f"{name}.c: {toolchain.command} ended with exit code {done.status}"
            raise InfraError(told, details=done.last_lines())


def fingerprint(*more: str) -> str:
    """Return a hash over the tools' sources and compiler flags. `more`: further programs, such as EARLY."""
    digest = hashlib.sha256(repr(_FLAGS).encode())
    for name in (*_TOOLS, *more):
        digest.update(_source(name).read_bytes())
    return digest.hexdigest()


def _source(name: str) -> resources.abc.Traversable:
    return resources.files("harness.build") / "overlay" / f"{name}.c"
