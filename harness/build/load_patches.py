"""``--patches``: loads the patches behind a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.build.unpack import packed_by, unpacked
from harness.errors import UserError
from harness.limits import PATCH_BYTES, PATCH_LINES, SERIES_BYTES, SERIES_PATCHES
from harness.model.kernel import Patch
from harness.parse.series import (
    base_commit_in,
    no_such_version,
    parse_series,
    patches_from_file,
    patches_from_mails,
    with_base,
)

_FORMS = "a .patch or .diff, a directory of them, a quilt series, an mbox, a maildir or a mail"
_COVER = re.compile(r"(?:v(\d+)-)?0+-cover-letter\.")
_FORMATTED = re.compile(r"(?:v(\d+)-)?\d+-")
_UNPACKED = ("gzip", "xz")
_ZIP = b"PK\x03\x04"


def load_patches(paths: Sequence[Path]) -> tuple[Patch, ...]:
    """Return the patches behind every path, one path after the other, each in the order of its series.

    A path is a patch file (also .gz, .xz), a directory of them, a quilt series (its directory or its ``series`` file),
    an mbox, a maildir, a mail or a directory of mails. Raises UserError for anything else, for an empty one, and for a
    mailed series that is incomplete or ambiguous, and for input above a limit (`harness.limits`)."""
    patches: list[Patch] = []
    reader = _Reader()
    for path in paths:
        try:
            patches += reader.load(path)
        except OSError as error:
            raise UserError(f"{path}: expected {_FORMS}, found that it can't be read: {error}") from error
    return tuple(patches)


def load_version(path: Path, version: tuple[int, int] | None) -> tuple[Patch, ...]:
    """Return the patches behind a path as `load_patches` does, those of a `version` if one is given: (5, 0) for v5.
    Raises UserError as well if there is no such version."""
    try:
        patches = _Reader(version).load(path)
    except OSError as error:
        raise UserError(f"{path}: expected {_FORMS}, found that it can't be read: {error}") from error
    found = {patch.mailed.version for patch in patches if patch.mailed}
    if version and (found != {version} or any(patch.mailed is None for patch in patches)):
        raise no_such_version(version, found, place=str(path))
    return patches


class _Reader:
    """Reads the files of one command; their sizes are added up. `version`: which one of a series; None: the newest."""

    def __init__(self, version: tuple[int, int] | None = None) -> None:
        self._bytes = 0
        self._version = version

    def load(self, path: Path) -> tuple[Patch, ...]:
        if not path.exists():
            raise UserError(f"{path}: expected {_FORMS}, found no such file: check the path")
        if path.name == "series" and path.is_file():
            return self._quilt(path)
        if not path.is_dir():
            return patches_from_file(self._content(path), name=_name(path), version=self._version)
        if (path / "series").is_file():
            return self._quilt(path / "series")
        if (path / "cur").is_dir() or (path / "new").is_dir():
            mails = [file for part in ("cur", "new") for file in _files(path / part)]
            return self._mails(path, mails, "a maildir with mails in cur/ or new/")
        files = _files(path)
        if patches := [file for file in files if _is_patch(file)]:
            newest = _newest(patches, self._version)
            SERIES_PATCHES.check(len(newest), place=str(path))
            found = (patch for file in newest for patch in patches_from_file(self._content(file), name=_name(file)))
            return with_base(tuple(found), self._base_beside(newest, files))
        return self._mails(path, [file for file in files if file.suffix == ".eml"], _FORMS)

    def _base_beside(self, patches: Sequence[Path], files: Sequence[Path]) -> str:
        """Return what the cover letter of ``git format-patch`` says that its `patches` apply to, if it is there."""
        first = _FORMATTED.match(patches[0].name) if patches else None
        for file in files:
            cover = _COVER.match(file.name)
            if first and cover and cover[1] == first[1]:
                return base_commit_in(self._content(file).decode("utf-8", "replace"))
        return ""

    def _quilt(self, series: Path) -> tuple[Patch, ...]:
        patches: list[Patch] = []
        entries = parse_series(self._content(series).decode("utf-8", "surrogateescape"), place=str(series))
        for entry in entries:
            file = series.parent / entry.name
            if not file.is_file():
                raise UserError(f"{series}: {entry.name}: expected a patch beside the series file, found no such file")
            patches += patches_from_file(self._content(file), name=entry.name, strip=entry.strip)
        return tuple(patches)

    def _mails(self, path: Path, files: Sequence[Path], expected: str) -> tuple[Patch, ...]:
        if not files:
            raise UserError(f"{path}: expected {expected}, found a directory without any: check the path of --patches")
        SERIES_PATCHES.check(len(files), place=str(path))
        mails = [self._content(file) for file in files]
        return patches_from_mails(mails, place=str(path), ordered=False, version=self._version)

    def _content(self, path: Path) -> bytes:
        """Return what is in the file, unpacked."""
        data = PATCH_BYTES.read(path)
        packer = packed_by(data) or ("zip" if data.startswith(_ZIP) else "")
        if packer in _UNPACKED:
            data = unpacked(data, name=str(path), limit=PATCH_BYTES)
        elif packer:
            raise UserError(
                f"{path}: expected a patch, plain or packed by gzip or xz, found one packed by {packer}: unpack it"
            )
        PATCH_LINES.check(data.count(b"\n"), place=str(path))
        self._bytes += len(data)
        SERIES_BYTES.check(self._bytes, place=str(path))
        return data


def _files(directory: Path) -> list[Path]:
    """Return the files sorted by name, with numbers by value, so that ``10-x`` follows ``9-x``; hidden files are
    skipped."""
    if not directory.is_dir():
        return []
    files = (path for path in directory.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(files, key=_by_name)


def _by_name(path: Path) -> list[tuple[int, str]]:
    parts = enumerate(re.split(r"([0-9]+)", path.name))
    return [(int(part), "") if at % 2 else (-1, part) for at, part in parts]


def _is_patch(path: Path) -> bool:
    return _name(path).endswith((".patch", ".diff")) and not _COVER.match(path.name)


def _newest(files: Sequence[Path], version: tuple[int, int] | None) -> list[Path]:
    """Return the newest version's files, or those of the `version` that is asked for, if there are several versions of
    ``git format-patch``'s (``0001-x``, ``v2-0001-x``)."""
    matches = [_FORMATTED.match(file.name) for file in files]
    versions = [int(match[1] or 1) if match else None for match in matches]
    known = [each for each in versions if each is not None]
    if len(known) < len(files):
        return list(files)
    wanted = version[0] if version and (version[0] in known) else max(known)
    return [file for file, its in zip(files, versions, strict=True) if its == wanted]


def _name(path: Path) -> str:
    return path.with_suffix("").name if path.suffix in (".gz", ".xz") else path.name
