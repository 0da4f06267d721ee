"""Writes the pages as files, which link to each other and need no server: for the artifacts of a CI job."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness import shortage
from harness.errors import UserError
from harness.store import pages
from harness.store.database import Connection, opened
from harness.web.address import Filter, parse
from harness.web.gather import MOST_RUNS, gather
from harness.web.html import page_html, style
from harness.web.links import STYLE, Exported, file_name

_MARK = ".harness-web"  # an export; it may be replaced by the next one
_MOST_TESTS = 2000
_MOST_FAULTS = 200


def export(history: Path, directory: Path, *, shown: Filter) -> int:
    """Write the pages about what `shown` chooses to `directory`, which is new or an earlier export, and is replaced
    when all pages are made. Return how many there are.

    Raises UserError if `directory` has other files, and InfraError if it can't be written."""
    _check(directory)
    with _writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        with opened(history) as connection, _writing(directory):
            count = _write(connection, made, shown)
        with _writing(directory):
            _replace(directory, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return count


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise shortage.of(error, where=directory.parent) or UserError(
            f"{directory}: expected a directory that can be written, found: {error.strerror}"
        ) from error


def _check(directory: Path) -> None:
    if not directory.exists() and not directory.is_symlink():
        return
    if not directory.is_dir() or (any(directory.iterdir()) and not (directory / _MARK).exists()):
        raise UserError(f"{directory}: expected a new directory, an empty one, or an earlier export; name another one")


def _write(connection: Connection, directory: Path, shown: Filter) -> int:
    addresses = {file_name(page, words): parse(page, [*words.items(), *_filter(page, shown)])
                 for page, words in _pages(connection, shown)}  # fmt: skip
    links = Exported(addresses)
    (directory / _MARK).touch()
    (directory / STYLE).write_text(style(), encoding="utf-8")
    for name, address in addresses.items():
        text = page_html(gather(connection, address), links)
        (directory / name).write_text(text, encoding="utf-8")
    directory.chmod(0o755)
    return len(addresses)


def _filter(page: str, shown: Filter) -> Iterable[tuple[str, str]]:
    return () if page in ("run", "compare") else shown.parameters().items()


def _pages(connection: Connection, shown: Filter) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The pages and the words that make each: lists, the runs and tests and faults in them, and each run compared with
    the one before it in its cell."""
    scope = shown.scope(pages.known(connection).newest)
    yield from ((page, {}) for page in ("index", "runs", "tests", "faults", "boards"))
    runs = pages.runs_of(connection, scope, limit=MOST_RUNS)
    yield from (("run", {"id": counted.run.id}) for counted in runs)
    for cell in dict.fromkeys(counted.run.cell for counted in runs):
        of_cell = [counted.run.id for counted in runs if counted.run.cell == cell and counted.counts]
        yield from (("compare", {"old": old, "new": new}) for new, old in itertools.pairwise(of_cell))
    for test in pages.seen_tests(connection, scope, words=(), runs=MOST_RUNS, limit=_MOST_TESTS):
        yield "test", {"name": test.name}
    for signature in pages.signatures_of(connection, scope, limit=_MOST_FAULTS):
        yield "fault", {"signature": signature.text}


def _replace(directory: Path, made: Path) -> None:
    """Put a finished export in the place of an earlier one."""
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        directory.rename(old)
        made.rename(directory)
        shutil.rmtree(old)
    else:
        made.rename(directory)
