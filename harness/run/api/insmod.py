"""Why a module of ours is not there: the kernel lacks what it needs, it can't be had here at all, or the kernel refuses
what it should take. Only the last is a failure of the test."""

from __future__ import annotations

import re
import shlex
from typing import NoReturn

import pytest

from harness.errors import InfraError
from harness.report.text import one_line
from harness.run.api.guest import Guest
from harness.run.stopped import Refused

DIRECTORY = "/payload/testcases"
_LINES = 40  # of the kernel's about a module
_MARK = "harness: asks the module"  # what is written into the kernel's log before, so that older lines do not count
_LACKS = re.compile(r"this kernel lacks (?P<what>.+)")  # harness_lacks() in testcases/harness_test.h
_UNKNOWN = re.compile(r"Unknown symbol (?P<symbol>[^\s(]+)")
_OTHER_KERNEL = re.compile(r"version magic|disagrees about version of symbol|no symbol version for")
_ONLY_SIGNED = ("required key not available", "key was rejected by service")

# In the texts of kmod's and busybox's insmod, for the errors of these names.
_EOPNOTSUPP = "operation not supported"
_ENOENT = "unknown symbol in module"
_ENOEXEC = "invalid module format"


def not_inserted(guest: Guest, name: str, output: str) -> NoReturn:
    """End a test whose module `name` insmod could not insert; `output`: what insmod said. Skips the test, or raises
    InfraError, or Refused if it is the kernel's doing."""
    check_inserted(guest, name, output)
    said = said_by_kernel(guest, name)
    raise Refused(f"the kernel refuses the module {name}: {error_of(output)}{f'; it says: {said[-1]}' if said else ''}")


def check_inserted(guest: Guest, name: str, output: str) -> None:
    """Do what `not_inserted` does, but return if it is the kernel that refuses the module."""
    error = error_of(output).lower()
    if not guest.exists(f"{DIRECTORY}/{name}.ko"):
        raise InfraError(f"{DIRECTORY}/{name}.ko: expected this module on the target, found none; "
                         "is the build from other testcases?")  # fmt: skip
    if error in _ONLY_SIGNED:
        raise InfraError(f"{name}: the kernel takes signed modules only: {error_of(output)}")
    said = said_by_kernel(guest, name) if error.startswith((_EOPNOTSUPP, _ENOENT, _ENOEXEC)) else []
    if error.startswith(_EOPNOTSUPP):
        _skip_for_what_is_lacking(name, said)
    for line in reversed(said):
        unknown = _UNKNOWN.search(line)
        if error.startswith(_ENOENT) and unknown and not _is_there(guest, unknown["symbol"]):
            pytest.skip(f"this kernel has no symbol {unknown['symbol']}, which the module {name} needs")
        if error.startswith(_ENOEXEC) and _OTHER_KERNEL.search(line):
            raise InfraError(f"{name}: built for another kernel than the one that runs: {line}")


def _is_there(guest: Guest, symbol: str) -> bool:
    """Whether a symbol that the kernel calls unknown is one that it has to know: it exports it, or it is livepatch's,
    which is resolved later (Documentation/livepatch/module-elf-format.rst)."""
    if symbol.startswith(".klp.sym."):
        return True
    return guest.run(f"grep -qwF -e {shlex.quote(f'__ksymtab_{symbol}')} /proc/kallsyms").ok


def not_prepared(guest: Guest, name: str, what: str) -> NoReturn:
    """End a test for which the module `name` could not do `what`, which prepares the test. Skips the test if the kernel
    lacks something, as the module's last words in the kernel's log say, else raises InfraError."""
    said = said_by_kernel(guest, name)
    _skip_for_what_is_lacking(name, said[-1:])
    raise InfraError(f"{name} could not {what}: {said[-1] if said else 'the kernel says nothing'}")


def _skip_for_what_is_lacking(name: str, said: list[str]) -> None:
    """Skip the test if the module `name` gave up because this kernel lacks something, as one of these lines says."""
    for line in reversed(said):
        if lacks := _LACKS.search(line):
            pytest.skip(f"this kernel lacks {lacks['what']}, which the module {name} needs")


def marked(name: str, command: str) -> str:
    """The shell command `command`, which asks something of the module `name`. What the kernel's log has of the module
    until then was said at another occasion: `said_by_kernel` leaves it out."""
    return f"echo {shlex.quote(f'{_MARK} {name}')} > /dev/kmsg; {command}"


def said_by_kernel(guest: Guest, name: str) -> list[str]:
    """The last lines about the module `name` in the kernel's log, from the last `marked` command for it on. If that is
    no longer in the log, newer lines have pushed it out, and all that is left counts."""
    found = guest.run(f"dmesg | grep -F -e '{name}: ' -e '{_MARK} {name}' | tail -n {_LINES}").output
    about = re.compile(rf"(?<!\S){re.escape(name)}: ")  # not of klp_calls, where calls is meant
    said: list[str] = []
    for line in found.splitlines():
        if line.rstrip().endswith(f"{_MARK} {name}"):
            said.clear()
        elif about.search(line):
            said.append(one_line(line.partition("] ")[2] or line))
    return said


def error_of(output: str) -> str:
    """The error's text at the end of what a program said."""
    lines = output.strip().splitlines() or ["no message"]
    return one_line(lines[-1].rpartition(": ")[2])
