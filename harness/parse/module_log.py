"""Finds in the output of a build of several modules which of them it could not make, and why."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from harness.parse import make_log

_STOPPED = re.compile(r"^make(?:\[\d+\])?: \*\*\* \[(?:\S+: )?(?P<target>[^\s\]]+)\] Error ")
# The exit codes are the shell's: a program that can't be started, or was ended by a signal.
_CUT_SHORT = re.compile(r"^make(?:\[\d+\])?: \*\*\* \[[^\]]+\] (?:Error (?:12[679]|1[3-8]\d|19[0-2])$|(?!Error )\w)")
_MODPOST = re.compile(r"^(?P<kind>ERROR|FATAL|WARNING): (?:modpost: )?(?P<text>.*)")
_FILE = re.compile(r"[^\s\[\]():\"]+\.k?o\b")
_USER = re.compile(r"\bmodule (?P<name>[\w-]+) uses symbol ")
_UNDEFINED = re.compile(r"\bundefined!$")
_MISMATCH = re.compile(r"^WARNING: (?:modpost: )?(?P<where>\S+?)[(:].*[Ss]ection mismatch in reference")


def faults(lines: Iterable[str], names: Collection[str], *, failed: bool) -> dict[str, str]:
    """Return which of the modules `names` were not made, or can't be loaded, each with the first error.

    `failed`: whether make failed. It must have kept the output of each target together (``-O``), and have gone on after
    an error (``-k``). Up to 5.5, modpost only warns of an undefined symbol in an out-of-tree module, which the kernel
    then refuses to load."""
    found: dict[str, str] = {}
    mismatched: dict[str, str] = {}
    error = ""
    for line in lines:
        if match := _STOPPED.match(line):
            _add(found, [PurePosixPath(match["target"]).name.partition(".")[0]], names, error or line)
            error = ""
        elif blamed := _blamed(line):
            _add(found, blamed, names, line)
        elif match := _MISMATCH.match(line):
            _add(mismatched, [_module(match["where"])], names, line)
        elif make_log.is_error(line):
            error = error or line
    return found or (mismatched if failed else {})


def is_cut_short(lines: Iterable[str]) -> bool:
    """Whether a program in a recipe could not be started, or was ended by a signal: then what was not made says nothing
    about what it was made from."""
    return any(_CUT_SHORT.match(line) for line in lines)


def _blamed(line: str) -> list[str]:
    """The modules that an error of modpost is about."""
    match = _MODPOST.match(line)
    if not match or (match["kind"] == "WARNING" and not _UNDEFINED.search(line)):
        return []
    user = _USER.search(match["text"])
    return [user["name"]] if user else [_module(each) for each in _FILE.findall(match["text"])]


def _module(path: str) -> str:
    """``/…/calls.ko``, ``calls.o``, ``calls`` → ``calls``."""
    return PurePosixPath(path).name.partition(".")[0]


def _add(found: dict[str, str], modules: Iterable[str], names: Collection[str], why: str) -> None:
    for module in modules:
        if module in names:
            found.setdefault(module, why)
