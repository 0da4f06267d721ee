"""Compilers and linkers that make small arm64 objects for tests: those of this host, and on request those of newer
Debian suites, which are unpacked into a directory of the cache and run there.

The host's come with `bin/test` where its apt has them (tests/hostneeds.py). A newer suite's need about a gigabyte and
some minutes, so they are used if HARNESS_TEST_COMPILERS names the suites: ``HARNESS_TEST_COMPILERS="trixie sid"``.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.build import apt
from harness.build.cache import cache_dir, locked, scratch_dir
from harness.build.command import Finished, run
from harness.errors import InfraError

SUITES = "HARNESS_TEST_COMPILERS"
CROSS, TARGET = "aarch64-linux-gnu-", "--target=aarch64-linux-gnu"
BINUTILS = "binutils-aarch64-linux-gnu"
GNU_LD = f"{CROSS}ld"
TIMEOUT_S = 120.0
_UNPACK_TIMEOUT_S = 1800.0
# What apt says where there is no network; anything else may be over by the next test.
_NO_NETWORK = re.compile(
    r"Temporary failure resolving|Could not resolve|Network is unreachable|No route to host|Connection refused"
    r"|Unable to connect|connection timed out",
    re.IGNORECASE,
)
_NEEDLESS = ("doc", "man", "locale", "info")


class NoNetwork(InfraError):
    """A mirror can't be reached: it is not tried again."""


@dataclass(frozen=True)
class Compiler:
    """`name` as gcc-12 or clang-19; `suite`: the Debian suite that has it, empty for the host's own."""

    name: str
    suite: str = ""

    @property
    def clang(self) -> bool:
        return self.name.startswith("clang")

    @property
    def version(self) -> int:
        return int(self.name.rpartition("-")[2])

    @property
    def linkers(self) -> tuple[str, ...]:
        """GNU ld, and for clang the lld of its version."""
        return (GNU_LD, f"ld.lld-{self.version}") if self.clang else (GNU_LD,)

    @property
    def packages(self) -> tuple[str, ...]:
        if self.clang:
            return self.name, f"lld-{self.version}", BINUTILS
        return f"{self.name}-aarch64-linux-gnu", BINUTILS

    def compile(self, directory: Path, source: str, output: str, *flags: str) -> None:
        command = [self.name, TARGET] if self.clang else [f"{CROSS}{self.name}"]
        self.run(directory, *command, *flags, "-ffreestanding", "-fno-pic", "-c", source, "-o", output)

    def run(self, directory: Path, *words: str) -> None:
        """Run a program of the compiler's suite with `directory` as its working directory. Asserts that it succeeds."""
        done = self._run(directory, words)
        assert done.status == 0, f"{' '.join(words)}: {done.stderr}"

    def has(self, program: str) -> bool:
        root = _root(self.suite) if self.suite else Path("/")
        return shutil.which(program, path=str(root / "usr/bin")) is not None

    def _run(self, directory: Path, words: tuple[str, ...]) -> Finished:
        if not self.suite:
            return run(words, timeout=TIMEOUT_S, cwd=directory)
        return _run_in(_root(self.suite), directory, words)


COMPILERS = (
    Compiler("gcc-11"),
    Compiler("gcc-12"),
    Compiler("clang-14"),
    Compiler("clang-16"),
    Compiler("clang-19"),
    Compiler("gcc-13", "trixie"),
    Compiler("gcc-14", "trixie"),
    Compiler("clang-17", "trixie"),
    Compiler("gcc-15", "sid"),
    Compiler("gcc-16", "sid"),
    Compiler("clang-21", "sid"),
    Compiler("clang-22", "sid"),
)


def require(compiler: Compiler) -> None:
    """Skip the test where this compiler or one of its linkers can't be had."""
    if compiler.suite and compiler.suite not in os.environ.get(SUITES, "").split():
        pytest.skip(f"compilers of Debian {compiler.suite}: used where {SUITES}={compiler.suite} asks for them")
    try:
        first = compiler.name if compiler.clang else f"{CROSS}{compiler.name}"
        missing = [program for program in (first, *compiler.linkers) if not compiler.has(program)]
    except InfraError as error:
        pytest.skip(f"{compiler.name}: no Debian {compiler.suite} here: {error.message}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: {' '.join(compiler.packages)})")


_roots: dict[str, Path | NoNetwork] = {}


def _root(suite: str) -> Path:
    """Return the directory with the suite's compilers, unpacked into the cache if it is not there yet. Raises
    InfraError: without a network the same one at once from then on, otherwise the next call tries again."""
    if suite not in _roots:
        try:
            _roots[suite] = _made_root(suite)
        except NoNetwork as error:
            _roots[suite] = error
    root = _roots[suite]
    if isinstance(root, NoNetwork):
        raise root
    return root


def _made_root(suite: str) -> Path:
    compilers = [compiler for compiler in COMPILERS if compiler.suite == suite]
    wanted = sorted({"base-files", "coreutils", *(package for compiler in compilers for package in compiler.packages)})
    directory = cache_dir("compilers")
    root, listed = directory / suite, directory / f"{suite}.packages"
    with locked(directory / f"{suite}.lock"):
        if not (root.is_dir() and listed.is_file() and listed.read_text().split() == wanted):
            shutil.rmtree(root, ignore_errors=True)
            _unpack(suite, wanted, root)
            listed.write_text("\n".join(wanted))
    with scratch_dir("making") as scratch:
        done = _run_in(root, scratch, ("true",))
    if done.status:
        raise InfraError(f"programs of {suite} do not run here: {' '.join(done.last_lines(1))}")
    return root


def _run_in(root: Path, directory: Path, words: tuple[str, ...]) -> Finished:
    """Run a program of another Debian, with no more of this host than `directory`."""
    system = ["--ro-bind", str(root), "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    here = ["--bind", str(directory), "/tmp/here", "--chdir", "/tmp/here"]
    return run(["bwrap", *system, *here, *words], timeout=TIMEOUT_S)


def _unpack(suite: str, packages: list[str], root: Path) -> None:
    with scratch_dir("making") as scratch:
        mode = "root" if os.geteuid() == 0 else "unshare"
        # Signatures are checked, but not how old the list is: a mirror may lag behind, and old compilers do as well.
        options = ["--variant=extract", '--aptopt=Acquire::Check-Valid-Until "false"']
        words = ["mmdebstrap", f"--mode={mode}", *options, f"--include={','.join(packages)}"]
        tarball = scratch / "root.tar"
        done = run([*words, suite, tarball, apt.mirror_for(suite)], timeout=_UNPACK_TIMEOUT_S)
        if not done.status:
            root.mkdir()
            unneeded = [f"--exclude=./usr/share/{name}/*" for name in _NEEDLESS]
            devices = ["--exclude=./dev/*", "--no-same-owner"]
            done = run(["tar", "-C", root, *devices, *unneeded, "-xf", tarball], timeout=_UNPACK_TIMEOUT_S)
        if done.status:
            lines = done.last_lines(10)
            kind = NoNetwork if _NO_NETWORK.search(done.stderr) else InfraError
            raise kind(f"unpacking the compilers of {suite} failed: {lines[-1] if lines else ''}", details=lines)
