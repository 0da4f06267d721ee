"""The testcases' own kernel modules: C sources beside the tests, built against the kernel under test."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UserError
from harness.limits import SOURCE_BYTES
from harness.model.known import version_of
from harness.model.names import NAME_RULE, is_name

_NEEDS = re.compile(r"^\s*(?://|/?\*)\s*harness: needs (?P<symbols>CONFIG_\w+(?:\s+CONFIG_\w+)*)", re.MULTILINE)
_SINCE = re.compile(r"^\s*(?://|/?\*)\s*harness: since (?P<version>\d{1,3}\.\d{1,3})\b(?P<why>[^*\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Prepared:
    """`names`: the modules to build; `left_out`: those this kernel can't have, each with the reason."""

    names: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def sources(testcases: Path) -> list[Path]:
    """Return the modules' C sources, sorted by name. Raises UserError for two of the same name, because modules share
    one name space, and for a name that make would read as something else."""
    found = sorted(testcases.rglob("*.c"), key=lambda path: path.name)
    for path in found:
        if not is_name(path.stem):
            raise UserError(f"{path}: expected a file name of {NAME_RULE}, before .c; rename it")
    for first, second in itertools.pairwise(found):
        if first.name == second.name:
            raise UserError(f"{second}: a test module of that name exists already: {first}; rename one")
    return found


def fingerprint(testcases: Path) -> str:
    """Return a hash over every module source and header."""
    digest = hashlib.sha256()
    for path in [*sources(testcases), *sorted(testcases.rglob("*.h"))]:
        digest.update(path.name.encode() + b"\0" + _content(path) + b"\0")
    return digest.hexdigest()


def prepare(
    testcases: Path, directory: Path, *, config: Mapping[str, str], without: Mapping[str, str], release: str
) -> Prepared:
    """Copy what can be built with `config` for the kernel `release` into `directory` (only what changed, so that make
    sees no news where there are none), with a Kbuild file. A source says what it needs in comments
    ``harness: needs CONFIG_X`` and ``harness: since 5.5 (what came with it)``; `without`: why this kernel lacks a
    symbol, where that is known."""
    names, left_out = [], {}
    for path in sources(testcases):
        text = _content(path).decode(errors="replace")
        missing = [symbol for symbol in needs(text) if config.get(symbol) not in ("y", "m")]
        if missing:
            told = (f"CONFIG_{symbol} ({without.get(symbol, 'not configured')})" for symbol in missing)
            left_out[path.stem] = f"this kernel has no {', '.join(told)}"
        elif too_old := _too_old(text, release):
            left_out[path.stem] = too_old
        else:
            names.append(path.stem)
    if directory.is_dir():
        for stale in directory.glob("*.[ch]"):
            if stale.stem not in names and not stale.name.endswith(".mod.c") and stale.suffix == ".c":
                shutil.rmtree(directory)  # a module is gone: its leavings would be built along
                break
    directory.mkdir(parents=True, exist_ok=True)
    for path in [*sources(testcases), *sorted(testcases.rglob("*.h"))]:
        if path.suffix == ".h" or path.stem in names:
            _update(directory / path.name, _content(path))
    write_kbuild(directory, names)
    return Prepared(tuple(names), left_out)


def write_kbuild(directory: Path, names: Iterable[str]) -> None:
    """Write the Kbuild file that makes the modules `names`, and no others."""
    _update(directory / "Kbuild", "".join(f"obj-m += {name}.o\n" for name in names).encode())


def _too_old(text: str, release: str) -> str:
    """Why a module with the source `text` can't be had on this kernel: it is for later ones. Empty: it can."""
    since, version = _SINCE.search(text), version_of(release)
    if not since or not version or version >= version_of(since["version"]):
        return ""
    return f"this kernel is {release}, older than {since['version']}{since['why'].rstrip()}"


def _content(path: Path) -> bytes:
    """Raises UserError for a source that can't be read."""
    try:
        return SOURCE_BYTES.read(path)
    except OSError as error:
        raise UserError(f"{path}: expected a test module's source, can't read it: {error.strerror}") from None


def needs(text: str) -> list[str]:
    """Return the symbols (without CONFIG_) that a module source says it needs."""
    return [symbol.removeprefix("CONFIG_") for match in _NEEDS.finditer(text) for symbol in match["symbols"].split()]


def _update(path: Path, content: bytes) -> None:
    if path.is_symlink():  # of a build's: what it leads to is not ours
        path.unlink()
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)
