"""The limits on everything that is read but was written by others: patches, source trees, YAML, kernel logs, modules.

A limit is far above what real input needs. Each can be changed by the environment variable that its message names.
docs/limits.md has the list; `python -m harness.limits` writes it, and a test holds it up to date.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError

_VARIABLE = "HARNESS_LIMIT_"
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most `default` `unit` of what `on` says."""

    name: str
    default: int
    unit: str
    on: str

    @property
    def variable(self) -> str:
        """The environment variable that changes it."""
        return f"{_VARIABLE}{self.name}"

    @property
    def value(self) -> int:
        """The limit in force. Raises UserError if the variable holds no positive number."""
        text = os.environ.get(self.variable)
        if text is None:
            return self.default
        if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
            raise UserError(f"{self.variable}: expected a positive number ({self.unit}), found {text[:40]!r}")
        return int(text)

    def check(self, found: int, *, place: str) -> None:
        """Raise UserError, which calls the input `place`, if `found` is above the limit."""
        if found > self.value:
            raise self.exceeded(place=place, found=str(found))

    def read(self, path: Path) -> bytes:
        """Return the content of a file. Raises UserError if it is larger than the limit, OSError if it can't be
        read."""
        with path.open("rb") as file:
            data = file.read(self.value + 1)
        if len(data) > self.value:
            raise self.exceeded(place=str(path))
        return data

    def exceeded(self, *, place: str, found: str = "more") -> UserError:
        """Return the exception for an input above the limit."""
        return UserError(
            f"{place}: expected at most {self.value} {self.unit} ({self.on}), found {found}; if the input is as it "
            f"should be, set {self.variable} to a larger number"
        )


PATCH_BYTES = Limit(name="PATCH_BYTES", default=128 * _MIB, unit="bytes", on="a patch, mail or mailbox, unpacked")
SERIES_BYTES = Limit(name="SERIES_BYTES", default=512 * _MIB, unit="bytes", on="all files of --patches, unpacked")
PATCH_LINES = Limit(name="PATCH_LINES", default=4_000_000, unit="lines", on="a patch, mail or mailbox")
PATCH_FILES = Limit(name="PATCH_FILES", default=100_000, unit="changed files", on="one patch")
SERIES_PATCHES = Limit(name="SERIES_PATCHES", default=10_000, unit="patches", on="a mailbox, directory or quilt series")
BINARY_BYTES = Limit(name="BINARY_BYTES", default=64 * _MIB, unit="bytes", on="one binary change in a patch")
XZ_BYTES = Limit(name="XZ_BYTES", default=128 * _MIB, unit="bytes of memory", on="unpacking an .xz patch")
MAIL_PARTS = Limit(name="MAIL_PARTS", default=1_000, unit="parts", on="one mail")
MAIL_NESTED = Limit(name="MAIL_NESTED", default=32, unit="multipart and attached-mail headers", on="one mail")
MAIL_HEADER_BYTES = Limit(name="MAIL_HEADER_BYTES", default=64 * _KIB, unit="bytes", on="one header of a mail")
MAIL_SHORT_BYTES = Limit(
    name="MAIL_SHORT_BYTES", default=4 * _KIB, unit="bytes", on="a mail's Subject or Content- header"
)
APPLY_SECONDS = Limit(name="APPLY_SECONDS", default=60, unit="seconds", on="applying a patch to one file")
SERIES_SECONDS = Limit(name="SERIES_SECONDS", default=1_800, unit="seconds", on="applying all patches")
RESULT_BYTES = Limit(name="RESULT_BYTES", default=1 * _GIB, unit="bytes", on="all files that a series changes")
TREE_BYTES = Limit(name="TREE_BYTES", default=8 * _GIB, unit="bytes", on="an unpacked source tarball")
TREE_FILES = Limit(name="TREE_FILES", default=1_000_000, unit="files", on="an unpacked source tarball")
TREE_SECONDS = Limit(name="TREE_SECONDS", default=1_800, unit="seconds", on="unpacking a source tarball")
MAKEFILE_BYTES = Limit(name="MAKEFILE_BYTES", default=1 * _MIB, unit="bytes", on="a kernel's top Makefile")
SOURCE_BYTES = Limit(name="SOURCE_BYTES", default=16 * _MIB, unit="bytes", on="a Kconfig file, fragment or .config")
KCONFIG_LINES = Limit(name="KCONFIG_LINES", default=3_000_000, unit="lines", on="all Kconfig files of a kernel")
KCONFIG_NESTED = Limit(name="KCONFIG_NESTED", default=64, unit="levels", on="menus, files or parentheses in Kconfig")
KCONFIG_PASSES = Limit(name="KCONFIG_PASSES", default=200, unit="passes", on="finding which symbols can be set")
YAML_BYTES = Limit(name="YAML_BYTES", default=1 * _MIB, unit="bytes", on="a YAML document")
YAML_NESTED = Limit(name="YAML_NESTED", default=32, unit="levels", on="a YAML document")
YAML_NODES = Limit(name="YAML_NODES", default=100_000, unit="values", on="a YAML document with its aliases expanded")
NUMBER_DIGITS = Limit(name="NUMBER_DIGITS", default=100, unit="characters", on="a number in a YAML document")
EVENT_BYTES = Limit(name="EVENT_BYTES", default=64 * _MIB, unit="bytes", on="a line of events.jsonl")
ELF_BYTES = Limit(name="ELF_BYTES", default=1 * _GIB, unit="bytes", on="a section of a kernel or module, uncompressed")
ELF_NAME_BYTES = Limit(name="ELF_NAME_BYTES", default=64 * _KIB, unit="bytes", on="a symbol's name in an ELF file")
BUILD_LOG_BYTES = Limit(name="BUILD_LOG_BYTES", default=1 * _GIB, unit="bytes", on="the output of one make")

LIMITS = tuple(each for each in list(globals().values()) if isinstance(each, Limit))


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time that work on untrusted input may take: `limit` seconds from `started` (monotonic) on."""

    limit: Limit
    started: float

    @classmethod
    def start(cls, limit: Limit) -> Clock:
        return cls(limit=limit, started=time.monotonic())

    def check(self, *, place: str) -> None:
        """Raise UserError, in the name of `place`, once the time is over."""
        self.limit.check(int(time.monotonic() - self.started), place=place)


def table() -> str:
    """Return the rows of docs/limits.md."""
    rows = [f"| `{each.variable}` | {each.default:,} {each.unit} | {each.on} |" for each in LIMITS]
    return "\n".join(["| variable | at most | on |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
