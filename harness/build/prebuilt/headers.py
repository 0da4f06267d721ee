"""The headers package of a distribution, made usable where it is unpacked and with the compiler that this host has."""

from __future__ import annotations

import errno
import os
import platform
import re
import shlex
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from harness.build import command
from harness.build.apt import PrivateApt
from harness.build.kbuild import Kbuild, reproducible
from harness.build.prebuilt.unpack import unpack_deb
from harness.build.toolchain import compiles, with_ccache
from harness.errors import BuildError
from harness.limits import MAKEFILE_BYTES, SOURCE_BYTES
from harness.model.kernel import Toolchain

_TRIAL_S = 60.0  # a host may be busy
# What a compiler other than the kernel's may not know, and the symbol by which kbuild uses it all the same.
_OPTIONS = {
    "CC_HAS_MIN_FUNCTION_ALIGNMENT": "-fmin-function-alignment=8",
    # by which __cold is not left out: without the option, cold functions (all of __init) are aligned to 4 bytes only
    "CC_HAS_SANE_FUNCTION_ALIGNMENT": "-fmin-function-alignment=8",
    "CC_HAS_ZERO_CALL_USED_REGS": "-fzero-call-used-regs=used-gpr",
    "CC_HAS_AUTO_VAR_INIT_ZERO": "-ftrivial-auto-var-init=zero",
}
# What a file brings about that is not there, or is something else. Other errors are the host's.
_OF_THE_PACKAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EACCES)
_POCKET = re.compile(r"-(security|updates|backports(-sloppy)?|proposed-updates)$")  # which have only some packages
LOADERS = {"x86_64": "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
              "aarch64": "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1"}  # fmt: skip


@dataclass(frozen=True)
class KbuildOfHeaders(Kbuild):
    """make for modules that are built with a headers package instead of a kernel's tree and objects."""

    _: KW_ONLY
    headers: Path

    def words(self, *targets: str, directory: Path | None = None) -> list[str]:
        if directory is not None:
            return super().words(*targets, directory=directory)
        arguments = (*with_ccache(self.toolchain).make_args, *reproducible())
        return ["-L", "-C", str(self.headers), "ARCH=arm64", *arguments, *targets]


def unpack_headers(packages: Sequence[Path], tree: Path, release: str, *, suite: str, kbuild: Kbuild) -> Path:
    """Unpack the headers of the kernel `release` into `tree`, a new directory in the workspace of `kbuild`; return the
    directory to run make in. Raises BuildError if they are not those of that kernel."""
    tree.mkdir()
    for package in packages:
        kbuild.progress.say(f"unpacking {package.name}")
        unpack_deb(package, tree, wanted=lambda name: not name.startswith(("usr/share/", "etc/")))
    headers = tree / "usr/src" / f"linux-headers-{release}"
    if not headers.is_dir():
        raise BuildError(f"{packages[0].name}: expected usr/src/linux-headers-{release} in it, found none")
    try:
        _move(headers / "Makefile", tree)
        # BTF, without which modules are built without it; pahole of this host may not read what the kernel's wrote
        (headers / "vmlinux").unlink(missing_ok=True)
        _adapt(headers, kbuild.toolchain)
        _make_runnable(tree, suite=suite, kbuild=kbuild)
    except OSError as error:
        if error.errno not in _OF_THE_PACKAGE:
            raise
        name = os.path.relpath(error.filename, tree) if error.filename else headers.name
        raise BuildError(f"{packages[0].name}: expected a file {name}, found: {error.strerror}") from None
    return headers


def _move(makefile: Path, tree: Path) -> None:
    """Its directories are where the package would be installed."""
    text = MAKEFILE_BYTES.read(makefile, follow=False).decode(errors="replace")
    makefile.write_text(re.sub(r"(?<![\w./-])/usr/", lambda _: f"{tree}/usr/", text))


def _adapt(headers: Path, toolchain: Toolchain) -> None:
    """Take out what the compiler at hand does not know: it is not the one that built the kernel."""
    unknown = [symbol for symbol, option in _OPTIONS.items() if not compiles(toolchain.command, option)]
    for name in ("include/config/auto.conf", "include/generated/autoconf.h"):
        path = headers / name
        lines = SOURCE_BYTES.read(path, follow=False).decode(errors="replace").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not any(f"CONFIG_{symbol}" in line for symbol in unknown)))


def _make_runnable(tree: Path, *, suite: str, kbuild: Kbuild) -> None:
    """The tools in the package are for hosts of its suite. Where this host's C library is older, they get that of the
    suite."""
    programs = [path for path in sorted(tree.glob("usr/lib/linux-kbuild-*/scripts/mod/modpost*")) if path.is_file()]
    real = [path for path in programs if path.name.endswith("lsb-64")] or programs
    if not real:
        return
    if not os.access(real[0], os.X_OK):
        raise BuildError(f"{real[0].relative_to(tree)}: expected a program, found a file that is none")
    told = command.run([real[0], "-?"], timeout=_TRIAL_S, confinement=kbuild.confinement()).stderr
    if "GLIBC_" not in told:
        return
    loader_name = LOADERS.get(platform.machine(), "")
    if not suite or not loader_name:
        raise BuildError(f"{real[0].relative_to(tree)}: needs a newer C library than this host has")
    apt = PrivateApt(_POCKET.sub("", suite))
    apt.update(progress=kbuild.progress)
    libc = apt.newest("libc6")
    library = tree.with_name("libc")
    library.mkdir()
    package = apt.download(libc, into=library, progress=kbuild.progress)
    unpack_deb(package, library, wanted=lambda name: name.startswith("usr/lib"))
    apt.forget([libc])
    loader = library / loader_name
    modpost, moved = real[0].with_name("modpost"), real[0].with_name("modpost.real")
    real[0].rename(moved)
    words = shlex.join(map(str, ["exec", loader, "--library-path", loader.parent, moved]))
    modpost.unlink(missing_ok=True)
    modpost.write_text(f'#!/bin/sh\n{words} "$@"\n')
    modpost.chmod(0o755)
