"""The limits on everything that is read but was written by others: patches, source trees, YAML, kernel logs, modules.

A limit is far above what real input needs. Each can be changed by the environment variable that its message names.
docs/limits.md has the list; `python -m harness.limits` writes it, and a test holds it up to date.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from harness.errors import UserError

_VARIABLE = "HARNESS_LIMIT_"
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_PIECE_BYTES = _MIB


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

    def read(self, path: Path, *, follow: bool = True) -> bytes:
        """Return the content of a file. Raises UserError if it is larger than the limit, OSError if it can't be
        read or is not a regular file. `follow`: as for open_regular."""
        with open_regular(path, follow=follow) as file:
            return self.read_from(file, place=str(path))

    def read_from(self, file: IO[bytes], *, place: str) -> bytes:
        """Return the rest of an open file. Raises UserError, which calls it `place`, if that is larger than the
        limit."""
        # In pieces: read(N) takes N bytes of memory at once, however small the file is.
        data, most = io.BytesIO(), self.value
        while piece := file.read(min(_PIECE_BYTES, most + 1 - data.tell())):
            data.write(piece)
            if data.tell() > most:
                raise self.exceeded(place=place)
        return data.getvalue()

    def exceeded(self, *, place: str, found: str = "more") -> UserError:
        """Return the exception for an input above the limit."""
        return UserError(
            f"{place}: expected at most {self.value} {self.unit} ({self.on}), found {found}; if the input is as it "
            f"should be, set {self.variable} to a larger number"
        )


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a file for reading. Raises OSError if it can't be read, and for anything but a regular file: reading a pipe
    or a device might never end. `follow`: go where a symbolic link leads."""
    _require_regular(path, path.stat(follow_symlinks=follow))  # before it is opened, which starts some devices
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        _require_regular(path, os.fstat(descriptor))  # it may have been replaced meanwhile
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {found}, not a regular file", str(path))


_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}

PATCH_BYTES = Limit(name="PATCH_BYTES", default=128 * _MIB, unit="bytes", on="a patch, mail or mailbox, unpacked")
SERIES_BYTES = Limit(name="SERIES_BYTES", default=512 * _MIB, unit="bytes", on="all files of --patches, unpacked")
PATCH_LINES = Limit(name="PATCH_LINES", default=4_000_000, unit="lines", on="a patch, mail or mailbox")
PATCH_FILES = Limit(name="PATCH_FILES", default=100_000, unit="changed files", on="one patch")
SERIES_PATCHES = Limit(name="SERIES_PATCHES", default=10_000, unit="patches", on="a mailbox, directory or quilt series")
BINARY_BYTES = Limit(name="BINARY_BYTES", default=64 * _MIB, unit="bytes", on="one binary change in a patch")
XZ_BYTES = Limit(name="XZ_BYTES", default=128 * _MIB, unit="bytes of memory", on="unpacking an .xz file")
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
LAB_RESULT_BYTES = Limit(name="LAB_RESULT_BYTES", default=4 * _GIB, unit="bytes", on="the archive of a run in a lab")
LAB_BUILD_BYTES = Limit(name="LAB_BUILD_BYTES", default=8 * _GIB, unit="bytes", on="the archive of a build in a lab")
PLAN_CELLS = Limit(name="PLAN_CELLS", default=100_000, unit="cells", on="a plan for `harness nightly`")
PLAN_RULES = Limit(
    name="PLAN_RULES", default=1_000, unit="entries", on="exclude, include and overrides of a plan for nights"
)
OUTSIDE_BYTES = Limit(
    name="OUTSIDE_BYTES", default=64 * _KIB, unit="bytes", on="a key or ${file:PATH} that boards.yaml names"
)
RECORD_BYTES = Limit(name="RECORD_BYTES", default=64 * _MIB, unit="bytes", on="manifest.json, build.json and the like")
EVENT_BYTES = Limit(name="EVENT_BYTES", default=64 * _MIB, unit="bytes", on="a line of events.jsonl")
ELF_BYTES = Limit(name="ELF_BYTES", default=1 * _GIB, unit="bytes", on="a section of a kernel or module, uncompressed")
ELF_NAME_BYTES = Limit(name="ELF_NAME_BYTES", default=64 * _KIB, unit="bytes", on="a symbol's name in an ELF file")
LINE_TABLE_BYTES = Limit(
    name="LINE_TABLE_BYTES", default=2 * _MIB, unit="bytes", on="what debug information says of one file's lines"
)
LINE_CODE = Limit(name="LINE_CODE", default=1_000_000, unit="instructions", on="changed code that is watched")
MODULE_BYTES = Limit(name="MODULE_BYTES", default=256 * _MIB, unit="bytes", on="a test module that was built")
SELFTEST_BYTES = Limit(name="SELFTEST_BYTES", default=64 * _MIB, unit="bytes", on="a selftest's script or program")
BUILD_BYTES = Limit(name="BUILD_BYTES", default=16 * _GIB, unit="bytes", on="the files of a build, holes included")
BUILD_LOG_BYTES = Limit(name="BUILD_LOG_BYTES", default=1 * _GIB, unit="bytes", on="the output of one make")
INSPECT_BYTES = Limit(
    name="INSPECT_BYTES",
    default=1 * _GIB,
    unit="bytes",
    on="a packed file or raw Image of a kernel, unpacked",
)
SYSTEM_MAP_BYTES = Limit(
    name="SYSTEM_MAP_BYTES", default=256 * _MIB, unit="bytes", on="a System.map for `harness inspect`"
)
INSPECT_FILES = Limit(
    name="INSPECT_FILES", default=200_000, unit="files", on="a package or directory for `harness inspect`"
)
INSPECT_SECONDS = Limit(
    name="INSPECT_SECONDS",
    default=600,
    unit="seconds",
    on="each file, package or directory for `harness inspect`, and a kernel's debug information",
)

LIMITS = tuple(each for each in list(globals().values()) if isinstance(each, Limit))


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """Time that work on untrusted input may take: `limit` seconds from `started` (monotonic) on."""

    limit: Limit
    started: float

    @classmethod
    def start(cls, limit: Limit) -> Deadline:
        return cls(limit=limit, started=time.monotonic())

    @property
    def left(self) -> float:
        """How many seconds are left; 0 once the time is over."""
        return max(0.0, self.limit.value - (time.monotonic() - self.started))

    def check(self, *, place: str) -> None:
        """Raise UserError, in the name of `place`, once the time is over."""
        self.limit.check(int(time.monotonic() - self.started), place=place)


def table() -> str:
    """Return the rows of docs/limits.md."""
    rows = [f"| `{each.variable}` | {each.default:,} {each.unit} | {each.on} |" for each in LIMITS]
    return "\n".join(["| variable | at most | on |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
