"""``--patches``: loads the patches behind a path."""

from __future__ import annotations

import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.errors import UserError
from harness.model.kernel import Patch
from harness.parse.series import parse_series, patches_from_file, patches_from_mails

_FORMS = "a .patch or .diff, a directory of them, a quilt series, an mbox, a maildir or a mail"
_COVER = re.compile(r"(v\d+-)?0+-cover-letter\.")
_FORMATTED = re.compile(r"(?:v(\d+)-)?\d+-")
_UNPACK: Mapping[bytes, Callable[[bytes], bytes]] = {b"\x1f\x8b": gzip.decompress, b"\xfd7zXZ\0": lzma.decompress}


def load_patches(paths: Sequence[Path]) -> tuple[Patch, ...]:
    """Return the patches behind every path, one path after the other, each in the order of its series.

    A path is a patch file (also .gz, .xz), a directory of them, a quilt series (its directory or its ``series`` file),
    an mbox, a maildir, a mail or a directory of mails. Raises UserError for anything else, for an empty one, and for a
    mailed series that is incomplete or ambiguous."""
    patches: list[Patch] = []
    for path in paths:
        try:
            patches += _load(path)
        except OSError as error:
            raise UserError(f"{path}: expected {_FORMS}, found that it can't be read: {error}") from error
    return tuple(patches)


def _load(path: Path) -> tuple[Patch, ...]:
    if not path.exists():
        raise UserError(f"{path}: expected {_FORMS}, found no such file: check the path given to --patches")
    if path.name == "series" and path.is_file():
        return _load_quilt(path)
    if not path.is_dir():
        return patches_from_file(_content(path), name=_name(path))
    if (path / "series").is_file():
        return _load_quilt(path / "series")
    if (path / "cur").is_dir() or (path / "new").is_dir():
        mails = [file for part in ("cur", "new") for file in _files(path / part)]
        return _load_mails(path, mails, "a maildir with mails in cur/ or new/")
    files = _files(path)
    if patches := [file for file in files if _is_patch(file)]:
        return tuple(
            patch for file in _newest(patches) for patch in patches_from_file(_content(file), name=_name(file))
        )
    return _load_mails(path, [file for file in files if file.suffix == ".eml"], _FORMS)


def _load_quilt(series: Path) -> tuple[Patch, ...]:
    patches: list[Patch] = []
    for entry in parse_series(_content(series).decode("utf-8", "surrogateescape"), place=str(series)):
        file = series.parent / entry.name
        if not file.is_file():
            raise UserError(f"{series}: {entry.name}: expected a patch beside the series file, found no such file")
        patches += patches_from_file(_content(file), name=entry.name, strip=entry.strip)
    return tuple(patches)


def _load_mails(path: Path, files: Sequence[Path], expected: str) -> tuple[Patch, ...]:
    if not files:
        raise UserError(f"{path}: expected {expected}, found a directory without any: check the path of --patches")
    return patches_from_mails([_content(file) for file in files], place=str(path), ordered=False)


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


def _newest(files: Sequence[Path]) -> list[Path]:
    """Return the newest version's files if there are several versions of ``git format-patch``'s (``0001-x``,
    ``v2-0001-x``)."""
    matches = [_FORMATTED.match(file.name) for file in files]
    versions = [int(match[1] or 1) if match else None for match in matches]
    known = [version for version in versions if version is not None]
    if len(known) < len(files):
        return list(files)
    return [file for file, version in zip(files, versions, strict=True) if version == max(known)]


def _name(path: Path) -> str:
    return path.with_suffix("").name if path.suffix in (".gz", ".xz") else path.name


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    for magic, unpack in _UNPACK.items():
        if data.startswith(magic):
            try:
                return unpack(data)
            except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
                raise UserError(f"{path}: expected a whole packed file, found a damaged one: {error}") from error
    return data
