"""Our own programs for the target, small enough to need no C library."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from harness.build import command
from harness.build.confinement import Confinement
from harness.errors import InfraError
from harness.model.kernel import Toolchain

_TOOLS = ("thaw", "bpfattach")
_FLAGS = ("-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector")
_LIMIT_S = 60.0


def compile_tools(toolchain: Toolchain, directory: Path, *, confinement: Confinement | None = None) -> None:
    """Compile every tool into `directory`. `confinement`: what the compiler runs in, because the kernel's build may
    have put links where it writes. Raises InfraError."""
    directory.mkdir(parents=True, exist_ok=True)
    clang = ("--target=aarch64-linux-gnu", "-fuse-ld=lld") if toolchain.name.startswith("clang") else ()
    for name in _TOOLS:
        with resources.as_file(_source(name)) as path, path.open("rb") as source:
            words = [toolchain.command, *clang, *_FLAGS, "-o", str(directory / name), "-x", "c", "-"]
            done = command.run(words, timeout=_LIMIT_S, stdin=source, confinement=confinement)
        if done.status:
            told = f"{name}.c: {toolchain.command} ended with exit code {done.status}"
            raise InfraError(told, details=done.last_lines())


def fingerprint() -> str:
    """Return a hash over the tools' sources and compiler flags."""
    digest = hashlib.sha256(repr(_FLAGS).encode())
    for name in _TOOLS:
        digest.update(_source(name).read_bytes())
    return digest.hexdigest()


def _source(name: str) -> resources.abc.Traversable:
    return resources.files("harness.build") / "overlay" / f"{name}.c"
