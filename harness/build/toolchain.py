"""The compiler that builds the kernel: its properties are queried, never guessed from its name."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import replace

from harness.build.command import Finished, run
from harness.errors import UserError
from harness.model.kernel import Toolchain
from harness.userpath import user_path

TIMEOUT_S = 60
"""For one query of a compiler; generous, because a loaded host starts clang slowly."""

CROSS = "aarch64-linux-gnu-"
PATCHABLE = "-fpatchable-function-entry"
LLVM_TOOLS = ("ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy", "llvm-objdump", "llvm-readelf", "llvm-strip")
_OF_HOST = ("gcc", "cc", "ld", "as", "ar", "nm", "objcopy", "objdump", "strip", "readelf")

_FORMS = "gcc, gcc-<N>, clang, clang-<N> or a prefix such as /opt/toolchain/bin/aarch64-linux-gnu-"


def find_toolchain(name: str | None = None, *, host_machine: str | None = None) -> Toolchain:
    """Find the toolchain that ``--toolchain NAME`` means, and query its version and features.

    `name`: ``gcc`` (the default), ``gcc-11``, ``clang``, ``clang-16`` or a cross prefix, with or without a
    directory. `host_machine`: what ``uname -m`` says; on an arm64 host gcc needs no prefix. Raises UserError
    where a command is missing (with the Debian package that has it) or compiles for another machine.
    """
    machine = platform.machine() if host_machine is None else host_machine
    cross = "" if machine in ("aarch64", "arm64") else CROSS
    name = name or "gcc"
    if match := re.fullmatch(r"gcc(-\d+)?", name):
        return _gcc(name, cross=cross, suffix=match[1] or "")
    if match := re.fullmatch(r"clang(-\d+)?", name):
        return _clang(name, suffix=match[1] or "")
    if re.fullmatch(r"\S*[^\s/]-", name):
        # make runs in the kernel tree, so a relative directory would not be found from there.
        return _gcc(name, cross=str(user_path(name).absolute()) if "/" in name else name, suffix="")
    raise UserError(f"--toolchain: expected {_FORMS}, found {name!r}")


def require_patchable(toolchain: Toolchain, *, allow_plain_ftrace: bool) -> None:
    """Raise UserError for a compiler that cannot prepare functions for ftrace with regs, unless allowed."""
    if toolchain.patchable or allow_plain_ftrace:
        return
    raise UserError(
        f"{toolchain.command}: expected a compiler that knows {PATCHABLE} (gcc 8 or newer, clang 10 or newer), "
        f"found version {toolchain.version}, which does not",
        details=(
            "Without it arm64 has neither DYNAMIC_FTRACE_WITH_REGS nor DYNAMIC_FTRACE_WITH_ARGS, and no livepatch.",
            "Install Debian's gcc-aarch64-linux-gnu, or name another compiler with --toolchain.",
            "--allow-plain-ftrace builds and tests the kernel without these features.",
        ),
    )


def with_ccache(toolchain: Toolchain) -> Toolchain:
    """The same toolchain compiling through ccache where that is on PATH; otherwise `toolchain` itself."""
    if shutil.which("ccache") is None:
        return toolchain
    others = tuple(arg for arg in toolchain.make_args if not arg.startswith("CC="))
    return replace(toolchain, make_args=(*others, f"CC=ccache {toolchain.command}"))


def has_program(toolchain: Toolchain, program: str) -> bool:
    """Return whether `program`, as a recipe names it, is of `toolchain`, or of the compiler for this host."""
    if program in (toolchain.command, "ccache", *_OF_HOST):
        return True
    values = dict(arg.partition("=")[::2] for arg in toolchain.make_args)
    if "LLVM" in values:
        return any(re.fullmatch(rf"{re.escape(tool)}(?:-\d+)?", program) for tool in ("clang", *LLVM_TOOLS))
    cross = values.get("CROSS_COMPILE", "")
    return bool(cross) and program.startswith(cross)


def _gcc(name: str, *, cross: str, suffix: str) -> Toolchain:
    command = f"{cross}gcc{suffix}"
    package = f"gcc{suffix}-aarch64-linux-gnu" if cross == CROSS else f"gcc{suffix}"
    _require_command(command, package=None if "/" in cross else package)
    binutils = "binutils-aarch64-linux-gnu" if cross == CROSS else "binutils"
    _require_command(f"{cross}ld", package=None if "/" in cross else binutils)
    machine = _ask(command, "-dumpmachine")
    if not machine.startswith("aarch64"):
        raise UserError(f"{command}: expected a compiler for aarch64, found one for {machine or 'no machine it tells'}")
    return Toolchain(
        name=name,
        command=command,
        # -dumpfullversion is gcc 7's; before that -dumpversion told all three numbers.
        version=_ask(command, "-dumpfullversion", "-dumpversion"),
        make_args=_gcc_make_args(cross=cross, command=command, suffix=suffix),
        patchable=compiles(command, f"{PATCHABLE}=2"),
    )


def _gcc_make_args(*, cross: str, command: str, suffix: str) -> tuple[str, ...]:
    prefix = (f"CROSS_COMPILE={cross}",) if cross else ()
    return (*prefix, f"CC={command}") if suffix else prefix


def _clang(name: str, *, suffix: str) -> Toolchain:
    command = f"clang{suffix}"
    _require_command(command, package=command)
    for tool in LLVM_TOOLS:
        _require_command(f"{tool}{suffix}", package=f"lld{suffix}" if tool == "ld.lld" else f"llvm{suffix}")
    return Toolchain(
        name=name,
        command=command,
        version=_clang_version(command),
        make_args=(f"LLVM={suffix or 1}",),
        patchable=compiles(command, "--target=aarch64-linux-gnu", f"{PATCHABLE}=2"),
    )


def _clang_version(command: str) -> str:
    text = _ask(command, "--version")
    match = re.search(r"clang version (\S+)", text)
    if match is None:
        raise UserError(f"{command}: expected '--version' to say 'clang version …', found {text[:80]!r}")
    return match[1]


def _require_command(command: str, *, package: str | None) -> None:
    if shutil.which(command) is not None:
        return
    hint = f"; its package in Debian is {package}" if package else ""
    raise UserError(f"--toolchain: expected the command {command}, found none on PATH{hint}")


def compiles(command: str, *options: str) -> bool:
    """Return whether the compiler accepts `options`. -Werror, because clang only warns of what its target can't do;
    -S, because an assembler run as root may replace /dev/null by a file."""
    done = _run(command, "-Werror", *options, "-x", "c", "-S", os.devnull, "-o", os.devnull)
    return done.status == 0


def _ask(command: str, *options: str) -> str:
    done = _run(command, *options)
    if done.status != 0 or not done.stdout.strip():
        why = done.stderr.strip() or f"exit status {done.status} and no output"
        raise UserError(f"{command}: expected an answer to {' '.join(options)}, found: {why.splitlines()[0]}")
    return done.stdout.strip().splitlines()[0]


def _run(command: str, *arguments: str) -> Finished:
    return run([command, *arguments], timeout=TIMEOUT_S)
